//! Personal data: who to talk to about a site or a device. It is sealed under its customer's key before anything is
//! decided, so commands that are decided, events, states, rows and logs only ever hold [`SealedText`].

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

use crate::spec::{DeviceSpec, SiteSpec, TunnelSpec};

/// What every sealed text begins with.
pub const SEALED: &str = "sealed:";

const SEALED_V1: &str = "sealed:v1:";

/// The id of a customer's data key, unique for ever; 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId(Uuid);

impl KeyId {
    /// An id that no other key has. Later ones are greater.
    pub fn mint() -> Self {
        Self(Uuid::now_v7())
    }
}

/// Why a text is no key's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key's id is 32 hexadecimal digits")]
pub struct InvalidKeyId;

impl TryFrom<String> for KeyId {
    type Error = InvalidKeyId;
    fn try_from(text: String) -> Result<Self, InvalidKeyId> {
        text.parse()
    }
}

impl std::str::FromStr for KeyId {
    type Err = InvalidKeyId;
    fn from_str(text: &str) -> Result<Self, InvalidKeyId> {
        let is_hex = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !is_hex {
            return Err(InvalidKeyId);
        }
        Uuid::try_parse(text).map(Self).map_err(|_| InvalidKeyId)
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> String {
        id.to_string()
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

/// A text that only the holder of a key can read: `sealed:v1:<key id>:<base64url>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SealedText {
    key: KeyId,
    secret: String,
}

/// Why a text is not sealed. It does not repeat the text, which may be what should have been sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a sealed text")]
pub struct NotSealed;

impl SealedText {
    /// What a key made of a text, in base64url without padding.
    ///
    /// # Errors
    /// [`NotSealed`], when it is not base64url.
    pub fn new(key: KeyId, secret: String) -> Result<Self, NotSealed> {
        let is_base64 =
            secret.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_'));
        if secret.is_empty() || !is_base64 {
            return Err(NotSealed);
        }
        Ok(Self { key, secret })
    }

    /// The key that opens it.
    pub fn key(&self) -> KeyId {
        self.key
    }

    /// What the key made of the text, in base64url without padding.
    pub fn secret(&self) -> &str {
        &self.secret
    }
}

impl TryFrom<String> for SealedText {
    type Error = NotSealed;
    fn try_from(text: String) -> Result<Self, NotSealed> {
        let (key, secret) =
            text.strip_prefix(SEALED_V1).and_then(|rest| rest.split_once(':')).ok_or(NotSealed)?;
        Self::new(key.parse().map_err(|_| NotSealed)?, secret.to_owned())
    }
}

impl From<SealedText> for String {
    fn from(sealed: SealedText) -> String {
        sealed.to_string()
    }
}

impl fmt::Display for SealedText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SEALED_V1}{}:{}", self.key, self.secret)
    }
}

/// A field of a contact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContactField {
    /// Who.
    Name,
    /// The address for mail.
    Email,
    /// The telephone number.
    Phone,
    /// Anything else a person should know.
    Note,
}

impl ContactField {
    /// All fields, in the order in which they are documented.
    pub const ALL: [ContactField; 4] = [Self::Name, Self::Email, Self::Phone, Self::Note];

    /// The name of the field.
    pub fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Email => "email",
            Self::Phone => "phone",
            Self::Note => "note",
        }
    }

    /// The most bytes it may have before it is sealed.
    pub fn longest(self) -> usize {
        match self {
            Self::Name => 200,
            Self::Email => 254,
            Self::Phone => 40,
            Self::Note => 1000,
        }
    }
}

/// Who to talk to about an object. It is never sent to a vendor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Contact {
    /// Who; at most 200 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<SealedText>,
    /// The address for mail; at most 254 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<SealedText>,
    /// The telephone number; at most 40 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<SealedText>,
    /// Anything else a person should know; at most 1000 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<SealedText>,
}

impl Contact {
    /// What a field says.
    pub fn get(&self, field: ContactField) -> Option<&SealedText> {
        match field {
            ContactField::Name => self.name.as_ref(),
            ContactField::Email => self.email.as_ref(),
            ContactField::Phone => self.phone.as_ref(),
            ContactField::Note => self.note.as_ref(),
        }
    }

    /// The fields that say something.
    pub fn fields(&self) -> impl Iterator<Item = (ContactField, &SealedText)> {
        ContactField::ALL.into_iter().filter_map(|field| Some((field, self.get(field)?)))
    }
}

/// Reads a contact; one that says nothing is none, and a list is no contact.
pub(crate) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Contact>, D::Error> {
    struct Fields;

    impl<'de> Visitor<'de> for Fields {
        type Value = Option<Contact>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of name, email, phone and note")
        }

        fn visit_none<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
            deserializer.deserialize_map(self)
        }

        fn visit_map<M: MapAccess<'de>>(self, fields: M) -> Result<Self::Value, M::Error> {
            let contact = Contact::deserialize(MapAccessDeserializer::new(fields))?;
            Ok(Some(contact).filter(|contact| contact.fields().next().is_some()))
        }
    }

    deserializer.deserialize_option(Fields)
}

/// A specification that may say who to talk to.
pub trait HasContact {
    /// Who to talk to.
    fn contact(&self) -> Option<&Contact>;
    /// Puts another contact in place. What has none keeps none.
    fn set_contact(&mut self, contact: Option<Contact>);
}

impl HasContact for SiteSpec {
    fn contact(&self) -> Option<&Contact> {
        self.contact.as_ref()
    }
    fn set_contact(&mut self, contact: Option<Contact>) {
        self.contact = contact;
    }
}

impl HasContact for DeviceSpec {
    fn contact(&self) -> Option<&Contact> {
        self.contact.as_ref()
    }
    fn set_contact(&mut self, contact: Option<Contact>) {
        self.contact = contact;
    }
}

impl HasContact for TunnelSpec {
    fn contact(&self) -> Option<&Contact> {
        None
    }
    fn set_contact(&mut self, _: Option<Contact>) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_text_reads_as_it_is_written_and_nothing_else_is_one() {
        let key = "0192f0c1a2b37c4d8e5f60718293a4b5";
        let text = format!("sealed:v1:{key}:AbC-_9");
        let sealed = SealedText::try_from(text.clone()).expect("a sealed text");
        assert_eq!((sealed.key().to_string(), sealed.secret()), (key.to_owned(), "AbC-_9"));
        assert_eq!(sealed.to_string(), text);
        let upper = format!("sealed:v1:{}:AbC", key.to_uppercase());
        let (empty, padded) = (format!("sealed:v1:{key}:"), format!("sealed:v1:{key}:AA=="));
        for other in ["Jane Doe", "sealed:v1:", "sealed:v1:x:AbC", &upper, &empty, &padded] {
            let error = SealedText::try_from(other.to_owned()).expect_err(other);
            assert!(!error.to_string().contains("Jane"), "{error}");
        }
    }

    #[test]
    fn a_contact_that_says_nothing_is_none() {
        let read = |text: &str| serde_json::from_str::<SiteSpec>(text).expect(text).contact;
        assert_eq!(read(r#"{"vendor":"simwan","lan":[],"contact":{}}"#), None);
        assert_eq!(read(r#"{"vendor":"simwan","lan":[],"contact":{"name":null}}"#), None);
        assert_eq!(read(r#"{"vendor":"simwan","lan":[],"contact":null}"#), None);
        let list = r#"{"vendor":"simwan","lan":[],"contact":[]}"#;
        assert!(serde_json::from_str::<SiteSpec>(list).is_err());
        let plain = r#"{"vendor":"simwan","lan":[],"contact":{"name":"Jane Doe"}}"#;
        let error = serde_json::from_str::<SiteSpec>(plain).expect_err("plain").to_string();
        assert!(!error.contains("Jane"), "{error}");
    }
}
