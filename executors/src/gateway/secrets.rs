//! Secrets that settings name, such as pre-shared keys: `secret:<name>` stands for each everywhere but here. What goes to
//! the vendor has the secret in its place, and what comes back has the name again.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use serde_json::Value;
use wanwright_schemas::CustomerId;
use wanwright_schemas::reason::{Reason, Refusal};
use wanwright_vendors::{SecretsRef, secret_name};

use super::credential::{Seen, look};
use super::fields::{Is, Token, each_token};
use super::mask::{self, Form, Found, MASK, QUOTED, SHORTEST, meant, written};

/// What was read, and which file it was.
type Read = (Option<Seen>, Arc<Plain>);

/// The secrets of a vendor's customers, each read when it is needed and again when its file is another one.
#[derive(Default)]
pub(super) struct Secrets {
    folder: Option<SecretsRef>,
    read: Mutex<HashMap<(CustomerId, String), Read>>,
}

/// How often JSON is looked for in a text of JSON.
const NESTED: usize = 3;

/// A secret with every form in which it may come back.
pub(super) struct Plain {
    placeholder: String,
    text: String,
    forms: Vec<Form>,
}

/// What may be in an answer: the secrets of its run.
#[derive(Default, Clone)]
pub(super) struct Known(Vec<Arc<Plain>>);

impl Secrets {
    pub(super) fn new(folder: Option<SecretsRef>) -> Self {
        Self { folder, read: Mutex::default() }
    }

    /// Whether they still are where the vendor's folder says.
    pub(super) fn is_of(&self, folder: Option<&SecretsRef>) -> bool {
        self.folder.as_ref() == folder
    }

    /// The secrets of these names.
    ///
    /// # Errors
    /// `SecretMissing`: one cannot be read; the message says from where.
    pub(super) fn known(&self, customer: &CustomerId, names: &[String]) -> Result<Known, Refusal> {
        names.iter().map(|name| self.get(customer, name)).collect::<Result<_, _>>().map(Known)
    }

    fn get(&self, customer: &CustomerId, name: &str) -> Result<Arc<Plain>, Refusal> {
        let missing = |what: String| {
            Refusal::new(Reason::SecretMissing, format!("the secret `{name}` of {customer} {what}"))
        };
        let path = self.path(customer, name).map_err(missing)?;
        let key = (customer.clone(), name.to_owned());
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = look(&path);
        if let Some((before, plain)) = read.get(&key)
            && seen.is_some()
            && *before == seen
        {
            return Ok(Arc::clone(plain));
        }
        let unreadable =
            |error: std::io::Error| missing(format!("cannot be read from {}: {error}", path.display()));
        let text = std::fs::read_to_string(&path).map_err(unreadable)?;
        let text = text.trim_end_matches(['\r', '\n']).to_owned();
        if text.is_empty() {
            return Err(missing(format!("is empty: {}", path.display())));
        }
        let placeholder = format!("secret:{name}");
        let forms = mask::forms(&text, placeholder.clone());
        let plain = Arc::new(Plain { placeholder, text, forms });
        read.insert(key, (seen, Arc::clone(&plain)));
        Ok(plain)
    }

    fn path(&self, customer: &CustomerId, name: &str) -> Result<PathBuf, String> {
        let folder = self.folder.as_ref().ok_or("has no place: the vendor's folder has no [secrets]")?;
        Ok(folder.folder()?.join(customer.as_str()).join(name))
    }

    /// A request's body with its secrets, and which they are.
    pub(super) fn fill(&self, customer: &CustomerId, body: &Bytes) -> Result<(Bytes, Known), Refusal> {
        let unchanged = || (body.clone(), Known::default());
        let Some(folder) = &self.folder else { return Ok(unchanged()) };
        if !contains(body, b"secret:") {
            return Ok(unchanged());
        }
        let Ok(mut json) = serde_json::from_slice::<Value>(body) else { return Ok(unchanged()) };
        let mut used = Vec::new();
        let mut put = |text: &mut String| {
            if let Some(name) = secret_name(text) {
                let plain = self.get(customer, name)?;
                plain.text.clone_into(text);
                used.push(plain);
            }
            Ok(())
        };
        in_fields(&mut json, &folder.fields, false, &mut put)?;
        Ok(if used.is_empty() { unchanged() } else { (json.to_string().into(), Known(used)) })
    }

    /// Where an answer's body has secrets by its fields, whoever's they are: those that the run knows are named, all others
    /// masked.
    pub(super) fn found<'a>(&self, known: &'a Known, body: &[u8]) -> Vec<Found<'a>> {
        let fields = self.folder.as_ref().map(|folder| folder.fields.as_slice());
        fields.map(|fields| found_in(body, fields, known, 0)).unwrap_or_default()
    }
}

impl Known {
    /// These and others.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// Every form of all of them.
    pub(super) fn forms(&self) -> impl Iterator<Item = &Form> {
        self.0.iter().flat_map(|plain| &plain.forms)
    }
}

fn found_in<'a>(json: &[u8], fields: &[String], known: &'a Known, nested: usize) -> Vec<Found<'a>> {
    let mut found = Vec::new();
    each_token(json, fields, |Token { at, is, inside }| {
        if is != Is::Text {
            let hidden = inside && is == Is::Number;
            found.extend(hidden.then(|| Found { at, instead: QUOTED.into() }));
            return;
        }
        let text = &json[at.clone()];
        let read = meant(text);
        let named = known.0.iter().find(|plain| plain.text.as_bytes() == read.as_deref().unwrap_or(text));
        match (named, read) {
            _ if text.is_empty() => {}
            // Longer ones are found wherever they are.
            (Some(plain), _) if inside || plain.text.len() < SHORTEST => {
                found.push(Found { at, instead: plain.placeholder.as_str().into() });
            }
            // One that a vendor has in place of ours is a secret as well.
            (None, _) if inside => found.push(Found { at, instead: MASK.into() }),
            (_, Some(read)) if nested < NESTED => {
                let within = written(text, found_in(&read, fields, known, nested + 1));
                found.extend(
                    within.into_iter().map(|found| Found {
                        at: at.start + found.at.start..at.start + found.at.end,
                        ..found
                    }),
                );
            }
            _ => {}
        }
    });
    found
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Does something with every text in a field that has a secret.
fn in_fields<E>(
    json: &mut Value,
    fields: &[String],
    inside: bool,
    act: &mut impl FnMut(&mut String) -> Result<(), E>,
) -> Result<(), E> {
    match json {
        Value::String(text) if inside => act(text),
        Value::Array(items) => items.iter_mut().try_for_each(|item| in_fields(item, fields, inside, act)),
        Value::Object(map) => map
            .iter_mut()
            .try_for_each(|(key, value)| in_fields(value, fields, inside || fields.contains(key), act)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use wanwright_vendors::SecretsFolder;

    use super::*;

    const KEY: &str = "k€y/\"with\\ all <signs>&more";

    fn secrets(dir: &std::path::Path) -> (Secrets, CustomerId) {
        std::fs::create_dir_all(dir.join("acme")).unwrap();
        std::fs::write(dir.join("acme/oslo"), format!("{KEY}\n")).unwrap();
        let folder = SecretsFolder::Dir(dir.to_owned());
        let folder = SecretsRef { folder, fields: vec!["psk".to_owned()] };
        (Secrets::new(Some(folder)), "acme".parse().unwrap())
    }

    fn hidden(secrets: &Secrets, known: &Known, body: &[u8]) -> Option<String> {
        let mut found = secrets.found(known, body);
        found.extend(mask::found(&known.forms().collect::<Vec<_>>(), body));
        mask::without(body, found).map(|clean| String::from_utf8(clean).unwrap())
    }

    #[test]
    fn what_goes_out_has_the_secret_in_its_field_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let (secrets, acme) = secrets(dir.path());
        let body = r#"{"ipsec":{"psk":"secret:oslo","mtu":1400.5},"note":"secret:oslo","psk":"plain"}"#;
        let (filled, known) = secrets.fill(&acme, &Bytes::from(body)).unwrap();
        let sent: Value = serde_json::from_slice(&filled).unwrap();
        assert_eq!(sent["ipsec"]["psk"], KEY);
        assert_eq!((&sent["note"], &sent["psk"]), (&"secret:oslo".into(), &"plain".into()));
        let back = hidden(&secrets, &known, &filled).unwrap();
        let back: Value = serde_json::from_str(&back).unwrap();
        assert_eq!(back["ipsec"], serde_json::json!({"psk": "secret:oslo", "mtu": 1400.5}));
        assert_eq!(back["psk"], "***", "what else stands there is a secret, too");
    }

    #[test]
    fn an_echo_is_hidden_however_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let (secrets, acme) = secrets(dir.path());
        let known = secrets.known(&acme, &["oslo".to_owned()]).unwrap();
        let escaped: String = KEY.chars().map(|c| format!("\\u{:04x}", u32::from(c))).collect();
        let bodies = [
            format!(r#"{{"error":"`{escaped}` is too short"}}"#),
            format!(r#"{{"deep":[["{escaped}"]]}}"#),
            serde_json::json!({"quoted": serde_json::json!({"psk": KEY}).to_string()}).to_string(),
            format!("<html>{KEY}</html>"),
            format!("no json: {}", serde_json::Value::from(KEY)),
            base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("psk={KEY};")),
        ];
        for body in bodies {
            let clean = hidden(&secrets, &known, body.as_bytes()).unwrap();
            assert!(clean.contains("***") || clean.contains("secret:oslo"), "{body}: {clean}");
            assert!(!clean.contains("signs") && !clean.contains("\\u0073"), "{clean}");
        }
    }

    #[test]
    fn a_field_is_hidden_whoever_put_something_there_and_nothing_beside_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let (secrets, acme) = secrets(dir.path());
        std::fs::write(dir.path().join("acme/short"), "k\"y").unwrap();
        let known = secrets.known(&acme, &["short".to_owned()]).unwrap();
        let hidden = |body: &str| hidden(&secrets, &known, body.as_bytes());
        let body = r#"{ "n": 1e400,"big":12345678901234567890123,"p\u0073k":["other","",7,"k\u0022y"],"a":"k\u0022y"}"#;
        let clean = r#"{ "n": 1e400,"big":12345678901234567890123,"p\u0073k":["***","","***","secret:short"],"a":"secret:short"}"#;
        assert_eq!(hidden(body).as_deref(), Some(clean));
        let quoted = |text: &str| serde_json::json!({ "message": text }).to_string();
        assert_eq!(
            hidden(&quoted(r#"got {"psk":"other","b":{"psk":1}}"#)),
            Some(quoted(r#"got {"psk":"***","b":{"psk":"***"}}"#))
        );
        assert_eq!(
            hidden(&quoted(&quoted(r#"{"psk":"k\"y"}"#))),
            Some(quoted(&quoted(r#"{"psk":"secret:short"}"#)))
        );
        for body in [r#"{"n":1e400,"psk":null,"a":"ak\"y \u003d"}"#, "psk", ""] {
            assert_eq!(hidden(body), None, "{body}");
        }
    }

    #[test]
    fn a_changed_file_is_read_again_and_a_missing_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (secrets, acme) = secrets(dir.path());
        let body = Bytes::from_static(br#"{"psk":"secret:oslo"}"#);
        secrets.fill(&acme, &body).unwrap();
        std::fs::write(dir.path().join("acme/oslo"), "another").unwrap();
        let (filled, _) = secrets.fill(&acme, &body).unwrap();
        assert_eq!(filled, r#"{"psk":"another"}"#);
        std::fs::remove_file(dir.path().join("acme/oslo")).unwrap();
        let refusal = secrets.fill(&acme, &body).map(drop).unwrap_err();
        assert_eq!(refusal.code, Reason::SecretMissing);
        assert!(refusal.message.contains("acme/oslo") && !refusal.message.contains("another"), "{refusal}");
        let globex = "globex".parse().unwrap();
        std::fs::write(dir.path().join("acme/oslo"), "back").unwrap();
        assert!(secrets.fill(&globex, &body).is_err(), "a customer has its own");
    }
}
