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

use super::credential::{MASK, SHORTEST, Seen, forms, look, masked};

/// What was read, and which file it was.
type Read = (Option<Seen>, Arc<Plain>);

/// The secrets of a vendor's customers, each read when it is needed and again when its file is another one.
#[derive(Default)]
pub(super) struct Secrets {
    folder: Option<SecretsRef>,
    read: Mutex<HashMap<(CustomerId, String), Read>>,
}

/// A secret with every form in which it may come back.
pub(super) struct Plain {
    placeholder: String,
    text: String,
    forms: Vec<Vec<u8>>,
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
        let plain = Arc::new(Plain { placeholder: format!("secret:{name}"), forms: forms(&text), text });
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

    /// An answer's body without secrets: the names of those that the run knows, a mask for all others.
    pub(super) fn hide(&self, known: &Known, body: Bytes) -> Bytes {
        let Some(folder) = &self.folder else { return body };
        let has_field = folder.fields.iter().any(|field| contains(&body, field.as_bytes()));
        let body = match serde_json::from_slice::<Value>(&body) {
            Ok(mut json) if has_field || !known.0.is_empty() => {
                if hide_in(&mut json, &folder.fields, false, &known.0) {
                    json.to_string().into()
                } else {
                    body
                }
            }
            _ => body,
        };
        let clean = known.masked(&body);
        clean.map_or(body, Bytes::from)
    }
}

impl Known {
    /// These and others.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// The text without any form of any of them; `None` if there was none.
    pub(super) fn masked(&self, text: &[u8]) -> Option<Vec<u8>> {
        masked_by(&self.0, text)
    }
}

fn masked_by(known: &[Arc<Plain>], text: &[u8]) -> Option<Vec<u8>> {
    let mut clean: Option<Vec<u8>> = None;
    for form in known.iter().flat_map(|plain| &plain.forms) {
        if let Some(masked) = masked(form, clean.as_deref().unwrap_or(text)) {
            clean = Some(masked);
        }
    }
    clean
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

/// Answers whether anything was hidden.
fn hide_in(json: &mut Value, fields: &[String], inside: bool, known: &[Arc<Plain>]) -> bool {
    let named = |text: &str| known.iter().find(|plain| plain.text == text);
    match json {
        Value::String(text) => {
            let name = named(text).map(|plain| plain.placeholder.clone());
            // One that a vendor has in place of ours is a secret as well.
            let hidden = name.or_else(|| (inside && !text.is_empty()).then(|| mask().to_owned()));
            let hidden = hidden.or_else(|| {
                let found =
                    known.iter().filter(|plain| plain.text.len() >= SHORTEST && text.contains(&plain.text));
                found.fold(None, |clean: Option<String>, plain| {
                    let text = clean.as_ref().unwrap_or(text);
                    Some(text.replace(&plain.text, &plain.placeholder))
                })
            });
            // As a text within a text may have it, a request quoted in a message for instance.
            let hidden = match masked_by(known, hidden.as_ref().unwrap_or(text).as_bytes()) {
                Some(masked) => Some(String::from_utf8_lossy(&masked).into_owned()),
                None => hidden,
            };
            hidden.map(|hidden| *text = hidden).is_some()
        }
        Value::Number(_) if inside => {
            *json = Value::from(mask());
            true
        }
        // Every one of them, not the first only.
        Value::Array(items) => {
            items.iter_mut().fold(false, |any, item| hide_in(item, fields, inside, known) | any)
        }
        Value::Object(map) => map.iter_mut().fold(false, |any, (key, value)| {
            hide_in(value, fields, inside || fields.contains(key), known) | any
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn mask() -> &'static str {
    std::str::from_utf8(MASK).unwrap_or_default()
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

    #[test]
    fn what_goes_out_has_the_secret_in_its_field_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let (secrets, acme) = secrets(dir.path());
        let body = r#"{"ipsec":{"psk":"secret:oslo","mtu":1400.5},"note":"secret:oslo","psk":"plain"}"#;
        let (filled, known) = secrets.fill(&acme, &Bytes::from(body)).unwrap();
        let sent: Value = serde_json::from_slice(&filled).unwrap();
        assert_eq!(sent["ipsec"]["psk"], KEY);
        assert_eq!((&sent["note"], &sent["psk"]), (&"secret:oslo".into(), &"plain".into()));
        let back = secrets.hide(&known, filled);
        let back: Value = serde_json::from_slice(&back).unwrap();
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
            let clean = secrets.hide(&known, Bytes::from(body.clone()));
            let clean = String::from_utf8(clean.to_vec()).unwrap();
            assert!(clean.contains("***") || clean.contains("secret:oslo"), "{body}: {clean}");
            assert!(!clean.contains("signs") && !clean.contains("\\u0073"), "{clean}");
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
