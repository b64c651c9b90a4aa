//! Commands that come as CloudEvents 1.0, by the NATS protocol binding: binary (`ce-` headers, the body is the data) or
//! structured (the body is the event).
//!
//! A message is structured when its content type says so (`application/cloudevents`, alone or with `+json`), or by its
//! shape, because Dapr sends no content type: the body is a JSON object that has `specversion`, `id`, `source` and
//! `type`, all texts, and `data` or `data_base64`. No command's body has such fields, at any kind and verb: a command
//! that merely names one of them is read as the command it is, and refused for the field.
//!
//! A message is binary when it is not structured and has one of the headers `ce-specversion`, `ce-id`, `ce-source` and
//! `ce-type`; then it has to have all four. Other `ce-` headers make no event of a command.
//!
//! An event's `dataschema` says what the header `Wan-Schema` says: the version of the vendor's settings that the data
//! speaks. It is `urn:wanwright:<kind>:<version>`, as `urn:wanwright:device:v2`; the vendor is the object's own.

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::ids::Kind;
use crate::reason::{Reason, Refusal};
use crate::strict;
use crate::subjects::CommandSubject;

/// What a CloudEvent says to the command service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudEvent<'a> {
    /// The event's id, unique within its source.
    pub id: String,
    /// Where it comes from.
    pub source: String,
    /// What kind of event it is.
    pub kind: String,
    /// What it is about, in its source's words.
    pub subject: Option<String>,
    /// Which settings its data speaks, if it says so.
    pub schema: Option<DataSchema>,
    /// The trace it belongs to, of the extension for distributed tracing.
    pub traceparent: Option<String>,
    /// What tracing systems add to that.
    pub tracestate: Option<String>,
    /// The command's body.
    pub body: Cow<'a, [u8]>,
}

/// What a `dataschema` names: a version of the settings that vendors have for a kind of object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataSchema {
    /// The kind.
    pub kind: Kind,
    /// The version: `v1`, `v2`, ….
    pub version: String,
}

/// What every `dataschema` of ours begins with.
const OURS: &str = "urn:wanwright:";

impl std::fmt::Display for DataSchema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{OURS}{}:{}", self.kind, self.version)
    }
}

impl DataSchema {
    /// Reads an attribute. Names of URNs and of their first part are the same in capitals.
    fn parse(text: &str) -> Option<Self> {
        let (ours, named) = text.split_at_checked(OURS.len())?;
        let (kind, version) = named.split_once(':')?;
        let kind = Kind::parse(kind).filter(|kind| *kind != Kind::Customer)?;
        let digits = version.strip_prefix('v')?;
        let is_number = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
        let is_ours = ours.eq_ignore_ascii_case(OURS) && is_number && (1..=5).contains(&digits.len());
        is_ours.then(|| Self { kind, version: version.to_owned() })
    }

    /// Refuses what names nothing of ours: nobody here can tell what it would mean for the data. `refusal` names the
    /// attribute as its sender wrote it.
    fn read(text: Option<String>, refusal: impl Fn(String) -> Refusal) -> Result<Option<Self>, Refusal> {
        let Some(text) = text else { return Ok(None) };
        let unknown = || {
            let text: String = text.chars().take(200).collect();
            let next = "Write urn:wanwright:<site|tunnel|device>:<version>, as urn:wanwright:device:v1, or leave it out; \
                `wanwright explain` lists the versions.";
            refusal(format!("`{text}` is no schema of wanwright's")).next(next)
        };
        Self::parse(&text).map(Some).ok_or_else(unknown)
    }
}

/// The attributes every CloudEvent has.
const REQUIRED: [&str; 4] = ["specversion", "id", "source", "type"];

/// Longest attribute, in bytes.
const MAX_ATTRIBUTE: usize = 4096;

/// Reads a message as a CloudEvent. None: it is none. `header` finds a header by its name in any case.
///
/// # Errors
/// A refusal when the message is a CloudEvent that cannot be read as a command.
pub fn read<'a, 'h>(
    header: impl Fn(&str) -> Option<&'h str>,
    body: &'a [u8],
) -> Result<Option<CloudEvent<'a>>, Refusal> {
    let media = header("content-type").map(|text| media_type(text).0).unwrap_or_default();
    if let Some(format) = media.strip_prefix("application/cloudevents") {
        return match format {
            "" | "+json" => structured(object(body)?).map(Some),
            _ => Err(bad("Content-Type", format!("events come one by one and as JSON, not as {media}"))),
        };
    }
    if let Some(event) = shape(body)? {
        return structured(event).map(Some);
    }
    if REQUIRED.iter().all(|name| header(&format!("ce-{name}")).is_none()) {
        return Ok(None);
    }
    binary(header, &media, body).map(Some)
}

fn bad(name: &str, why: impl Into<String>) -> Refusal {
    Refusal::new(Reason::BadHeader, format!("{name}: {}", why.into())).field(name)
}

fn wrong(name: &str, why: impl Into<String>) -> Refusal {
    Refusal::new(Reason::InvalidValue, why).field(name)
}

fn object(body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    match strict::read(body)? {
        Value::Object(fields) => Ok(fields),
        _ => Err(Refusal::new(Reason::WrongType, "a CloudEvent is a JSON object")),
    }
}

/// The body as an event, if it has the shape of one.
fn shape(body: &[u8]) -> Result<Option<Map<String, Value>>, Refusal> {
    // Nearly every body is none, and is not parsed for this.
    let name = b"\"specversion\"";
    if !body.trim_ascii_start().starts_with(b"{") || !body.windows(name.len()).any(|part| part == name) {
        return Ok(None);
    }
    let Ok(Value::Object(fields)) = serde_json::from_slice(body) else { return Ok(None) };
    let is_event = REQUIRED.iter().all(|name| fields.get(*name).is_some_and(Value::is_string))
        && (fields.contains_key("data") || fields.contains_key("data_base64"));
    if is_event { object(body).map(Some) } else { Ok(None) }
}

fn structured<'a>(mut event: Map<String, Value>) -> Result<CloudEvent<'a>, Refusal> {
    let mut text = |name: &str| match event.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => attribute(text).map(Some).map_err(|why| wrong(name, why)),
        Some(_) => Err(Refusal::new(Reason::WrongType, "an attribute that is no text").field(name)),
    };
    let required = |name: &str, text: Option<String>| {
        let missing = || Refusal::new(Reason::MissingField, format!("a CloudEvent has `{name}`")).field(name);
        text.filter(|text| !text.is_empty()).ok_or_else(missing)
    };
    version(&required("specversion", text("specversion")?)?).map_err(|why| wrong("specversion", why))?;
    if let Some(content) = text("datacontenttype")? {
        is_json(&content).map_err(|why| wrong("datacontenttype", why))?;
    }
    let (id, source, kind) = (text("id")?, text("source")?, text("type")?);
    let (subject, traceparent, tracestate) = (text("subject")?, text("traceparent")?, text("tracestate")?);
    let schema = DataSchema::read(text("dataschema")?, |why| wrong("dataschema", why))?;
    let body = match (event.remove("data"), event.remove("data_base64")) {
        (Some(_), Some(_)) => {
            return Err(wrong("data_base64", "an event has `data` or `data_base64`, not both"));
        }
        (None | Some(Value::Null), None | Some(Value::Null)) => Vec::new(),
        (Some(data), _) => data.to_string().into_bytes(),
        (None, Some(Value::String(text))) => {
            base64(&text).ok_or_else(|| wrong("data_base64", "it is not base64 with padding"))?
        }
        (None, Some(_)) => return Err(Refusal::new(Reason::WrongType, "it is no text").field("data_base64")),
    };
    Ok(CloudEvent {
        id: required("id", id)?,
        source: required("source", source)?,
        kind: required("type", kind)?,
        subject,
        schema,
        traceparent,
        tracestate,
        body: Cow::Owned(body),
    })
}

fn binary<'a, 'h>(
    header: impl Fn(&str) -> Option<&'h str>,
    media: &str,
    body: &'a [u8],
) -> Result<CloudEvent<'a>, Refusal> {
    let text = |name: &str| {
        let name = format!("ce-{name}");
        let decoded = header(&name).map(|text| decode(text).and_then(attribute)).transpose();
        decoded.map_err(|why| bad(&name, why))
    };
    let required = |name: &str| {
        let text = text(name)?.filter(|text| !text.is_empty());
        text.ok_or_else(|| bad(&format!("ce-{name}"), "a CloudEvent has this header"))
    };
    version(&required("specversion")?).map_err(|why| bad("ce-specversion", why))?;
    if let Some(content) = text("datacontenttype")? {
        is_json(&content).map_err(|why| bad("ce-datacontenttype", why))?;
    } else if !media.is_empty() {
        is_json(header("content-type").unwrap_or_default()).map_err(|why| bad("Content-Type", why))?;
    }
    Ok(CloudEvent {
        id: required("id")?,
        source: required("source")?,
        kind: required("type")?,
        subject: text("subject")?,
        schema: DataSchema::read(text("dataschema")?, |why| bad("ce-dataschema", why))?,
        traceparent: text("traceparent")?,
        tracestate: text("tracestate")?,
        body: Cow::Borrowed(body),
    })
}

fn version(text: &str) -> Result<(), String> {
    if text == "1.0" { Ok(()) } else { Err("CloudEvents of version 1.0 are read".to_owned()) }
}

/// An attribute has no control characters.
fn attribute(text: String) -> Result<String, String> {
    if text.len() > MAX_ATTRIBUTE || text.chars().any(char::is_control) {
        return Err(format!("an attribute has at most {MAX_ATTRIBUTE} bytes and no control characters"));
    }
    Ok(text)
}

/// A media type in lower case, and its character set.
fn media_type(text: &str) -> (String, Option<String>) {
    let mut parts = text.split(';').map(|part| part.trim().to_ascii_lowercase());
    let media = parts.next().unwrap_or_default();
    let charset =
        parts.find_map(|part| part.strip_prefix("charset=").map(|name| name.trim_matches('"').to_owned()));
    (media, charset)
}

fn is_json(content: &str) -> Result<(), String> {
    let (media, charset) = media_type(content);
    let is_json = matches!(&*media, "application/json" | "text/json") || media.ends_with("+json");
    let is_utf8 = charset.is_none_or(|name| matches!(&*name, "utf-8" | "utf8" | "us-ascii"));
    if is_json && is_utf8 { Ok(()) } else { Err("the data of a command is JSON in UTF-8".to_owned()) }
}

/// A header's value as its sender meant it: quotes are taken off, then it is percent-decoded, once.
fn decode(text: &str) -> Result<String, String> {
    let text = text.trim();
    let mut bytes = Vec::with_capacity(text.len());
    match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        None => bytes.extend_from_slice(text.as_bytes()),
        Some(quoted) => {
            let mut rest = quoted.bytes();
            while let Some(byte) = rest.next() {
                let byte = if byte == b'\\' { rest.next().unwrap_or(byte) } else { byte };
                bytes.push(byte);
            }
        }
    }
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes.as_slice();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|_| *first == b'%');
        let mut byte = [0];
        match digits.map(|digits| hex::decode_to_slice(digits, &mut byte)) {
            Some(Ok(())) => {
                decoded.push(byte[0]);
                rest = &after[2..];
            }
            // A percent sign that begins nothing stands for itself.
            _ => {
                decoded.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(decoded).map_err(|_| "it is not UTF-8".to_owned())
}

/// Base64 with padding (RFC 4648, section 4).
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let padding = text.bytes().rev().take_while(|byte| *byte == b'=').count();
    if !text.len().is_multiple_of(4) || padding > 2 {
        return None;
    }
    let (mut bits, mut held) = (0u32, 0);
    for byte in text.bytes().take(text.len() - padding) {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held & 0xff).ok()?);
        }
    }
    // What is left over is nothing.
    (bits & ((1 << held) - 1) == 0).then_some(bytes)
}

impl CloudEvent<'_> {
    /// Refuses an event that says of itself something else than the subject it came on. A type is ours when it is
    /// `wan.<kind>.<verb>`, a subject when it is `<kind>/<id>` or `<customer>/<kind>/<id>`; others are their source's own. A
    /// schema is always ours.
    ///
    /// # Errors
    /// A refusal that names the attribute.
    pub fn agrees(&self, subject: &CommandSubject) -> Result<(), Refusal> {
        let differs = |name: &str, says: &str| {
            let says: String = says.chars().take(200).collect();
            let message = format!("the event's {name} is `{says}`, and it came on {}", subject.durable());
            Err(Refusal::new(Reason::InvalidValue, message).field(name))
        };
        let (kind, verb) = (subject.object.kind(), &*subject.verb);
        if self.kind.starts_with("wan.") && self.kind != format!("wan.{kind}.{verb}") {
            return differs("type", &self.kind);
        }
        if let Some(schema) = self.schema.as_ref().filter(|schema| schema.kind != kind) {
            return differs("dataschema", &schema.to_string());
        }
        let Some(about) = self.subject.as_deref() else { return Ok(()) };
        let object = subject.object.to_string();
        let tokens: Vec<&str> = about.split('/').collect();
        let is_ours = match tokens[..] {
            [kind, _] | [_, kind, _] => Kind::parse(kind).is_some(),
            _ => false,
        };
        if is_ours && about != object && about != format!("{}/{object}", subject.customer) {
            return differs("subject", about);
        }
        Ok(())
    }
}
