//! The personal part of a command's body: taken out before anything else looks at the body, put back sealed.

use bytes::Bytes;
use serde_json::{Map, Value};
use wanwright_schemas::body;
use wanwright_schemas::command::ObjectRef;
use wanwright_schemas::contact::{ContactField, SEALED};
use wanwright_schemas::reason::{Reason, Refusal};

/// The field of a body that is personal.
const CONTACT: &str = "contact";

/// Fields of a CloudEvent that may hold a body in another writing.
const OPAQUE: &str = "data_base64";

/// A body with personal texts in it. They are never shown.
pub(super) struct Personal {
    body: Map<String, Value>,
    texts: Vec<(ContactField, String)>,
}

/// What a body is, as far as people are concerned.
pub(super) enum Body {
    /// It tells of nobody.
    Plain,
    /// It does.
    Personal(Personal),
    /// It would, and is refused. What is said about it repeats nothing of it.
    Refused(Refusal),
}

/// Whether a body may have a contact in it: its name, or characters that are escaped.
pub(super) fn mentions(body: &[u8]) -> bool {
    let name = CONTACT.as_bytes();
    body.windows(name.len()).any(|part| part == name) || body.windows(2).any(|part| part == b"\\u")
}

/// Takes the personal texts out of a body.
pub(super) fn take_out(object: &ObjectRef, verb: &str, bytes: &[u8]) -> Body {
    // A report quotes a vendor, who was never told of a contact.
    if verb == "report" || !mentions(bytes) {
        return Body::Plain;
    }
    let parsed: Value = match body::refuse_nul(bytes).and_then(|()| body::parse(bytes)) {
        Ok(parsed) => parsed,
        Err(refusal) => return Body::Refused(refusal),
    };
    let Value::Object(mut body) = parsed else { return Body::Plain };
    let Some(contact) = body.remove(CONTACT) else { return Body::Plain };
    let has_one = matches!(object, ObjectRef::Site(_) | ObjectRef::Device(_));
    if !has_one || !matches!(verb, "create" | "change") {
        let message = "`contact` is a field of a site and of a device, when it is created or changed";
        return Body::Refused(Refusal::new(Reason::UnknownField, message).field(CONTACT));
    }
    match texts(contact) {
        Ok((texts, rest)) => {
            body.insert(CONTACT.to_owned(), rest);
            if texts.is_empty() { Body::Plain } else { Body::Personal(Personal { body, texts }) }
        }
        Err(refusal) => Body::Refused(refusal),
    }
}

type Texts = Vec<(ContactField, String)>;

/// The texts of a contact, and what it says besides: the fields that are to be taken away.
fn texts(contact: Value) -> Result<(Texts, Value), Refusal> {
    let fields = match contact {
        Value::Null => return Ok((Vec::new(), Value::Null)),
        Value::Object(fields) => fields,
        _ => {
            let message = "a contact is a JSON object of name, email, phone and note";
            return Err(Refusal::new(Reason::WrongType, message).field(CONTACT));
        }
    };
    let (mut texts, mut rest) = (Vec::new(), Map::new());
    for (name, value) in fields {
        let Some(field) = ContactField::ALL.into_iter().find(|field| field.name() == name) else {
            let message = "a contact has the fields name, email, phone and note, and no others";
            return Err(Refusal::new(Reason::UnknownField, message).field(CONTACT));
        };
        match value {
            Value::Null => {
                rest.insert(name, Value::Null);
            }
            Value::String(text) => texts.push((field, well_formed(field, text)?)),
            _ => return Err(refusal(Reason::WrongType, field, "it is a text")),
        }
    }
    Ok((texts, Value::Object(rest)))
}

fn refusal(code: Reason, field: ContactField, message: &str) -> Refusal {
    Refusal::new(code, message).field(format!("{CONTACT}.{}", field.name()))
}

fn well_formed(field: ContactField, text: String) -> Result<String, Refusal> {
    let invalid = |message: &str| Err(refusal(Reason::InvalidValue, field, message));
    if text.trim().is_empty() || text.len() > field.longest() {
        return invalid(&format!("it has 1 to {} bytes; null takes it away", field.longest()));
    }
    if text.chars().any(char::is_control) {
        return invalid("it has a control character");
    }
    // Whoever may write a contact may not thereby move another one, or one of an erased key, to where it is opened.
    if text.starts_with(SEALED) {
        return invalid("it is sealed already; give the text itself");
    }
    Ok(text)
}

impl Personal {
    /// The texts, each with its field.
    pub(super) fn texts(&self) -> impl Iterator<Item = (ContactField, &str)> {
        self.texts.iter().map(|(field, text)| (*field, text.as_str()))
    }

    /// The body with other texts in the place of the personal ones.
    pub(super) fn with(&self, texts: impl Iterator<Item = (ContactField, String)>) -> Bytes {
        let mut body = self.body.clone();
        if let Some(Value::Object(contact)) = body.get_mut(CONTACT) {
            contact.extend(texts.map(|(field, text)| (field.name().to_owned(), Value::String(text))));
        }
        Value::Object(body).to_string().into()
    }

    /// The body with nothing personal in it, only where it was.
    pub(super) fn stripped(&self) -> Bytes {
        self.with(self.texts.iter().map(|(field, _)| (*field, String::new())))
    }
}

/// A body for the dead letters: without whatever may be a contact, at any depth. Answers whether something was left out.
pub(super) fn left_out(bytes: &Bytes) -> (Bytes, bool) {
    let is_opaque = bytes.windows(OPAQUE.len()).any(|part| part == OPAQUE.as_bytes());
    if !mentions(bytes) && !is_opaque {
        return (bytes.clone(), false);
    }
    match serde_json::from_slice::<Value>(bytes) {
        Ok(mut value) => match remove(&mut value) {
            true => (value.to_string().into(), true),
            false => (bytes.clone(), false),
        },
        // Nobody can tell what of it is a contact.
        Err(_) => (Bytes::new(), true),
    }
}

fn remove(value: &mut Value) -> bool {
    match value {
        Value::Object(fields) => {
            let before = fields.len();
            fields.retain(|name, _| name != CONTACT && name != OPAQUE);
            let removed = fields.len() != before;
            fields.values_mut().fold(removed, |removed, value| remove(value) | removed)
        }
        Value::Array(values) => values.iter_mut().fold(false, |removed, value| remove(value) | removed),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::spoilt::spoilt;

    fn taken(kind: &str, verb: &str, body: &str) -> Body {
        let object = match kind {
            "site" => ObjectRef::Site("oslo".parse().unwrap()),
            _ => ObjectRef::Tunnel("oslo".parse().unwrap()),
        };
        take_out(&object, verb, body.as_bytes())
    }

    fn refused(kind: &str, verb: &str, body: &str) -> (Reason, Option<String>) {
        let Body::Refused(refusal) = taken(kind, verb, body) else { panic!("{body}") };
        assert!(!refusal.message.contains("Jane"), "{refusal}");
        (refusal.code, refusal.field)
    }

    #[test]
    fn texts_are_taken_out_and_put_back_sealed() {
        let body = r#"{"lan":[],"\u0063ontact":{"name":"Jane","phone":null}}"#;
        let Body::Personal(personal) = taken("site", "change", body) else { panic!() };
        assert_eq!(personal.texts().collect::<Vec<_>>(), [(ContactField::Name, "Jane")]);
        let sealed = personal.with([(ContactField::Name, "x".to_owned())].into_iter());
        let sealed: Value = serde_json::from_slice(&sealed).unwrap();
        assert_eq!(sealed, serde_json::json!({"lan":[],"contact":{"name":"x","phone":null}}));
        let stripped = String::from_utf8(personal.stripped().to_vec()).unwrap();
        assert!(!stripped.contains("Jane"), "{stripped}");
        for body in ["", "{}", r#"{"contact":null}"#, r#"{"contact":{"name":null}}"#, "[\"contact\"]"] {
            assert!(matches!(taken("site", "change", body), Body::Plain), "{body}");
        }
    }

    #[test]
    fn what_is_no_contact_is_refused_without_being_repeated() {
        let contact = |text: &str| refused("site", "create", &format!(r#"{{"contact":{text}}}"#));
        let field = |name: &str| Some(name.to_owned());
        assert_eq!(contact(r#""Jane""#), (Reason::WrongType, field("contact")));
        assert_eq!(contact(r#"{"Jane":"x"}"#), (Reason::UnknownField, field("contact")));
        assert_eq!(contact(r#"{"name":["Jane"]}"#), (Reason::WrongType, field("contact.name")));
        assert_eq!(contact(r#"{"name":" "}"#), (Reason::InvalidValue, field("contact.name")));
        assert_eq!(contact(r#"{"name":"Jane\n"}"#), (Reason::InvalidValue, field("contact.name")));
        assert_eq!(contact(r#"{"phone":"sealed:v1:Jane"}"#), (Reason::InvalidValue, field("contact.phone")));
        let long = format!(r#"{{"phone":"{}"}}"#, "1".repeat(41));
        assert_eq!(contact(&long), (Reason::InvalidValue, field("contact.phone")));
        assert_eq!(refused("site", "create", r#"{"contact":{"name":"Jane"#).0, Reason::BrokenJson);
        let body = r#"{"contact":{"name":"Jane"}}"#;
        assert_eq!(refused("tunnel", "create", body), (Reason::UnknownField, field("contact")));
        assert_eq!(refused("site", "retry", body), (Reason::UnknownField, field("contact")));
    }

    #[test]
    fn dead_letters_have_no_contact_however_it_is_written() {
        let left = |text: &str| {
            let (kept, left_out) = left_out(&Bytes::copy_from_slice(text.as_bytes()));
            (String::from_utf8(kept.to_vec()).unwrap(), left_out)
        };
        assert_eq!(left(r#"{"lan":[]}"#), (r#"{"lan":[]}"#.to_owned(), false));
        assert_eq!(
            left(r#"{"data":[{"contact":"Jane","a":1}]}"#),
            (r#"{"data":[{"a":1}]}"#.to_owned(), true)
        );
        assert_eq!(left(r#"{"\u0063ontact":{"name":"Jane"}}"#), ("{}".to_owned(), true));
        assert_eq!(left(r#"{"data_base64":"SmFuZQ=="}"#), ("{}".to_owned(), true));
        assert_eq!(left(r#"{"contact":{"name":"Jane"#), (String::new(), true));
        assert_eq!(left(r#"{"name":"contact"}"#), (r#"{"name":"contact"}"#.to_owned(), false));
    }

    const PIECES: [&str; 8] = [
        r#""contact":{"note":"Zq7Canary"},"#,
        r#""\u0063ontact":"Zq7Canary","#,
        r#""contact":null,"#,
        r#""data_base64":"Zq7Canary","#,
        r"\u0000",
        r"\ud800",
        "{",
        "]",
    ];

    fn has_contact(value: &Value) -> bool {
        match value {
            Value::Object(fields) => {
                fields.iter().any(|(name, value)| name == CONTACT || name == OPAQUE || has_contact(value))
            }
            Value::Array(values) => values.iter().any(has_contact),
            _ => false,
        }
    }

    const BODY: &str = r#"{"vendor":"simwan","lan":["10.0.0.0/24"],"contact":{"name":"Zq7Canary","phone":"Zq7Canary","note":null},"settings":{"a":[1.5,{"b":"x"}]}}"#;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever comes, what goes on has no text of a contact, and no refusal repeats one.
        #[test]
        fn hostile_bodies(
            body in prop_oneof![4 => spoilt(BODY.into(), &PIECES), 1 => prop::collection::vec(any::<u8>(), 0..200)],
            is_site in any::<bool>(),
            verb in prop::sample::select(vec!["create", "change", "retry", "report"]),
        ) {
                        let object = if is_site { ObjectRef::Site("oslo".parse().unwrap()) } else { ObjectRef::Tunnel("oslo".parse().unwrap()) };
            match take_out(&object, verb, &body) {
                Body::Plain => {
                    let read: Option<Value> = body::refuse_nul(&body).and_then(|()| body::parse(&body)).ok();
                    let contact = read.as_ref().and_then(|read| read.get(CONTACT));
                    let says = contact.is_some_and(|contact| contact.to_string().contains("Zq7Canary"));
                    prop_assert!(verb == "report" || !says, "{}", String::from_utf8_lossy(&body));
                }
                Body::Personal(personal) => {
                    let field = |stripped: Bytes| serde_json::from_slice::<Value>(&stripped).unwrap()[CONTACT].clone();
                    let sealed = personal.texts().map(|(field, _)| (field, "sealed".to_owned()));
                    let sealed = field(personal.with(sealed.collect::<Vec<_>>().into_iter()));
                    for left in [field(personal.stripped()), sealed] {
                        let Value::Object(left) = left else { panic!("{left}") };
                        prop_assert!(left.values().all(|text| matches!(text.as_str(), None | Some("" | "sealed"))));
                    }
                }
                Body::Refused(refusal) => {
                    let said = format!("{refusal} {:?} {}", refusal.field, refusal.next);
                    prop_assert!(!said.contains("Canary"), "{said}");
                }
            }
            let (kept, is_less) = left_out(&Bytes::from(body.clone()));
            prop_assert!(is_less || kept == body);
            if let Ok(read) = serde_json::from_slice::<Value>(&kept) {
                prop_assert!(!has_contact(&read), "{read}");
            }
            prop_assert_eq!(left_out(&kept), (kept.clone(), false), "left out once is left out");
        }
    }
}
