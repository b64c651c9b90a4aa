//! Sealing texts with a customer's data key: AES-256-GCM, with a nonce that follows from the text.
//!
//! The same text at the same place is the same sealed text, so that who says again what is there changes nothing. The
//! nonce is a keyed hash of text and place, as in a synthetic initialization vector: two texts share one only by chance,
//! after 2^48 of them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use wanwright_schemas::contact::{ContactField, KeyId, SealedText};
use wanwright_schemas::{CustomerId, ObjectRef};
use zeroize::Zeroizing;

use super::KeyError;

/// Texts are filled up to a multiple of this many bytes before they are sealed, so that their length tells little.
const BLOCK: usize = 64;

/// What fills them up: no text has a control character.
const FILL: u8 = 0;

/// The bytes of a key, gone from memory when it is dropped.
pub(super) type Secret = Zeroizing<[u8; 32]>;

/// New random bytes.
pub(super) fn random<const N: usize>() -> Result<[u8; N], KeyError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| KeyError::NoRandomness)?;
    Ok(bytes)
}

/// Joins parts so that no other parts give the same bytes.
pub(super) fn joined(parts: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend_from_slice(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    bytes
}

/// A cipher for AES-256-GCM.
pub(super) fn aes(secret: &[u8; 32]) -> Result<LessSafeKey, KeyError> {
    // A key of 32 bytes is what it takes.
    Ok(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, secret).map_err(|_| KeyError::NoRandomness)?))
}

/// Where a text belongs: sealed for one place, it does not open at another.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Whose it is.
    pub customer: &'a CustomerId,
    /// The object it is about.
    pub object: &'a ObjectRef,
    /// The field of the object's contact.
    pub field: ContactField,
}

impl Place<'_> {
    fn bytes(&self) -> Vec<u8> {
        let object = self.object.to_string();
        joined(&["wanwright contact v1", self.customer.as_str(), &object, self.field.name()])
    }
}

/// The key of a customer's personal data.
pub struct DataKey {
    id: KeyId,
    secret: Secret,
}

impl std::fmt::Debug for DataKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DataKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl DataKey {
    /// A new key.
    ///
    /// # Errors
    /// [`KeyError::NoRandomness`].
    pub fn mint() -> Result<Self, KeyError> {
        Ok(Self { id: KeyId::mint(), secret: Zeroizing::new(random()?) })
    }

    pub(super) fn of(id: KeyId, secret: Secret) -> Self {
        Self { id, secret }
    }

    /// The key's id.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The key's bytes, for who has to wrap them or to look whether they are gone.
    pub fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    /// A key for one use, so that no two uses of the same bytes can meet.
    fn part(&self, of: &str) -> Secret {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, self.secret()), of.as_bytes());
        let mut part = Zeroizing::new([0; 32]);
        part.copy_from_slice(tag.as_ref());
        part
    }

    /// Seals a text for its place.
    ///
    /// # Errors
    /// [`KeyError::NotItsPlace`] when the text is too long for any cipher.
    pub fn seal(&self, place: &Place<'_>, text: &str) -> Result<SealedText, KeyError> {
        let cannot = || KeyError::NotItsPlace { key: self.id };
        let place = place.bytes();
        let nonces = hmac::Key::new(hmac::HMAC_SHA256, self.part("nonce").as_ref());
        let mut nonce = hmac::Context::with_key(&nonces);
        nonce.update(&place);
        nonce.update(text.as_bytes());
        let tag = nonce.sign();
        let nonce = tag.as_ref().first_chunk::<NONCE_LEN>().ok_or_else(cannot)?;
        let mut sealed = text.as_bytes().to_vec();
        sealed.resize(sealed.len().div_ceil(BLOCK).max(1) * BLOCK, FILL);
        let aes = aes(&self.part("text"))?;
        let unique = Nonce::assume_unique_for_key(*nonce);
        aes.seal_in_place_append_tag(unique, Aad::from(&place), &mut sealed).map_err(|_| cannot())?;
        let whole = [&nonce[..], &sealed].concat();
        SealedText::new(self.id, URL_SAFE_NO_PAD.encode(whole)).map_err(|_| cannot())
    }

    /// Opens a text that was sealed for this place.
    ///
    /// # Errors
    /// [`KeyError::NotItsPlace`], when it was sealed for another place or by another key, or was changed since.
    pub fn open(&self, place: &Place<'_>, sealed: &SealedText) -> Result<String, KeyError> {
        let cannot = || KeyError::NotItsPlace { key: sealed.key() };
        if sealed.key() != self.id {
            return Err(cannot());
        }
        let whole = URL_SAFE_NO_PAD.decode(sealed.secret()).map_err(|_| cannot())?;
        let (nonce, rest) = whole.split_first_chunk::<NONCE_LEN>().ok_or_else(cannot)?;
        let mut rest = rest.to_vec();
        let aes = aes(&self.part("text"))?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let text = aes.open_in_place(nonce, Aad::from(&place.bytes()), &mut rest).map_err(|_| cannot())?;
        let end = text.iter().position(|byte| *byte == FILL).unwrap_or(text.len());
        String::from_utf8(text[..end].to_vec()).map_err(|_| cannot())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place<'a>(customer: &'a CustomerId, object: &'a ObjectRef) -> Place<'a> {
        Place { customer, object, field: ContactField::Phone }
    }

    #[test]
    fn a_text_opens_at_its_place_with_its_key_and_nowhere_else() {
        let (acme, beta): (CustomerId, CustomerId) = ("acme".parse().unwrap(), "beta".parse().unwrap());
        let (oslo, paris) =
            (ObjectRef::Site("oslo".parse().unwrap()), ObjectRef::Device("oslo".parse().unwrap()));
        let (key, other) = (DataKey::mint().unwrap(), DataKey::mint().unwrap());
        let sealed = key.seal(&place(&acme, &oslo), "+47 22 33 44 55").unwrap();
        assert_eq!(key.open(&place(&acme, &oslo), &sealed).unwrap(), "+47 22 33 44 55");
        assert_eq!(key.seal(&place(&acme, &oslo), "+47 22 33 44 55").unwrap(), sealed);
        assert_ne!(key.seal(&place(&acme, &paris), "+47 22 33 44 55").unwrap().secret(), sealed.secret());
        for wrong in [place(&beta, &oslo), place(&acme, &paris)] {
            assert!(matches!(key.open(&wrong, &sealed), Err(KeyError::NotItsPlace { .. })));
        }
        let name = Place { field: ContactField::Name, ..place(&acme, &oslo) };
        assert!(key.open(&name, &sealed).is_err());
        assert!(other.open(&place(&acme, &oslo), &sealed).is_err());
        // Also not when somebody writes another key's id over it.
        let moved = SealedText::new(other.id(), sealed.secret().to_owned()).unwrap();
        assert!(other.open(&place(&acme, &oslo), &moved).is_err());
    }

    #[test]
    fn any_change_of_a_sealed_text_is_noticed_and_its_length_tells_little() {
        let (acme, oslo): (CustomerId, _) =
            ("acme".parse().unwrap(), ObjectRef::Site("oslo".parse().unwrap()));
        let key = DataKey::mint().unwrap();
        let at = place(&acme, &oslo);
        let lengths: std::collections::BTreeSet<usize> = ["", "x", "Jane Doe", &"y".repeat(64)]
            .map(|text| key.seal(&at, text).unwrap().secret().len())
            .into_iter()
            .collect();
        assert_eq!(lengths.len(), 1);
        let sealed = key.seal(&at, "Jane Doe").unwrap();
        let bytes = URL_SAFE_NO_PAD.decode(sealed.secret()).unwrap();
        for at_byte in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at_byte] ^= 1;
            let changed = SealedText::new(key.id(), URL_SAFE_NO_PAD.encode(changed)).unwrap();
            assert!(key.open(&at, &changed).is_err(), "byte {at_byte}");
        }
    }

    #[test]
    fn nothing_of_a_key_is_shown() {
        let key = DataKey::mint().unwrap();
        assert_eq!(format!("{key:?}"), format!("DataKey {{ id: {:?}, .. }}", key.id()));
    }
}
