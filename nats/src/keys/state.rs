//! Sealing Terraform's states: AES-256-GCM, with keys that are in a file of their own.
//!
//! Executors have this file and not the one of the master keys: they have no business with personal data. A sealed
//! version opens only as the version of the stack that it was sealed as, so two of them cannot be exchanged.

use std::path::{Path, PathBuf};

use ring::aead::{Aad, NONCE_LEN, Nonce};
use ring::hmac;
use zeroize::Zeroizing;

use super::KeyError;
use super::cipher::{Secret, aes, joined, random};
use super::master::MasterKeys;

/// How each line of the file begins.
const LINE: &str = "wanwright-state-key";

/// The largest state that is opened, in bytes: the backend takes no larger one.
const LARGEST: usize = 64 << 20;

/// The path of the state key file in the folder of an installation.
pub fn state_key_file(home: &Path) -> PathBuf {
    home.join("keys").join("state.key")
}

/// What a sealed version is.
#[derive(Debug, Clone, Copy)]
pub struct StatePlace<'a> {
    /// What it is sealed for: a kept version, or one that waits in a spool.
    pub what: &'static str,
    /// The stack.
    pub stack: &'a str,
    /// The serial Terraform gave the version.
    pub serial: i64,
    /// The lineage Terraform gave the stack.
    pub lineage: &'a str,
    /// The order in whose run it was written.
    pub order: &'a str,
}

impl StatePlace<'_> {
    fn bytes(&self, key: &str) -> Vec<u8> {
        let serial = self.serial.to_string();
        joined(&["wanwright state v1", self.what, self.stack, &serial, self.lineage, self.order, key])
    }
}

/// The keys of Terraform's states. The file is read whenever one is needed: it may be replaced at any time.
#[derive(Debug, Clone)]
pub struct StateKeys {
    path: PathBuf,
}

impl StateKeys {
    /// The keys in this file. Nothing is read yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where they are.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn read(&self) -> Result<Option<MasterKeys>, KeyError> {
        MasterKeys::read_lines(&self.path, LINE)
    }

    /// Looks whether the file has this key, which something was sealed with. Makes the file where nothing was yet and
    /// there is none.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn check(&self, sealed_with: Option<&str>) -> Result<(), KeyError> {
        match (self.read()?, sealed_with) {
            (Some(keys), Some(key)) if keys.secret(key).is_none() => Err(self.unknown(key)),
            (Some(_), _) => Ok(()),
            (None, Some(key)) => Err(self.unknown(key)),
            (None, None) => MasterKeys::make_lines(&self.path, LINE).map(drop),
        }
    }

    fn unknown(&self, key: &str) -> KeyError {
        KeyError::UnknownStateKey { key: key.to_owned(), path: self.path.clone() }
    }

    /// The id of the key that is sealed with now.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn newest(&self) -> Result<String, KeyError> {
        Ok(self.there()?.newest().to_owned())
    }

    fn there(&self) -> Result<MasterKeys, KeyError> {
        let missing =
            || KeyError::File { path: self.path.clone(), source: std::io::ErrorKind::NotFound.into() };
        self.read()?.ok_or_else(missing)
    }

    /// Puts a new key before the others and answers its id. The others stay: spools and backups need them.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn add(&self) -> Result<String, KeyError> {
        let mut keys = self.there()?;
        keys.add()?;
        Ok(keys.newest().to_owned())
    }

    /// Seals a version with the newest key, compressed before. Answers the key's id and the sealed bytes.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn seal(&self, place: &StatePlace<'_>, body: &[u8]) -> Result<(String, Vec<u8>), KeyError> {
        let keys = self.there()?;
        let key = keys.newest().to_owned();
        let secret = keys.secret(&key).ok_or_else(|| self.unknown(&key))?;
        let nonce = random::<NONCE_LEN>()?;
        let mut sealed = Zeroizing::new(lz4_flex::compress_prepend_size(body));
        aes(&of_stack(secret, place.stack))?
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(place.bytes(&key)),
                &mut *sealed,
            )
            .map_err(|_| KeyError::NoRandomness)?;
        Ok((key, [&nonce[..], &sealed].concat()))
    }

    /// Opens what was sealed as this version with this key.
    ///
    /// # Errors
    /// [`KeyError::StateChanged`] when it is not what was sealed there; [`KeyError::UnknownStateKey`].
    pub fn open(&self, place: &StatePlace<'_>, key: &str, sealed: &[u8]) -> Result<Vec<u8>, KeyError> {
        let changed = || KeyError::StateChanged { stack: place.stack.to_owned(), serial: place.serial };
        let keys = self.read()?.ok_or_else(|| self.unknown(key))?;
        let secret = keys.secret(key).ok_or_else(|| self.unknown(key))?;
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_LEN>().ok_or_else(changed)?;
        let mut rest = Zeroizing::new(rest.to_vec());
        let opened = aes(&of_stack(secret, place.stack))?
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(place.bytes(key)), &mut rest)
            .map_err(|_| changed())?;
        let (size, packed) = lz4_flex::block::uncompressed_size(opened).map_err(|_| changed())?;
        if size > LARGEST {
            return Err(changed());
        }
        lz4_flex::decompress(packed, size).map_err(|_| changed())
    }
}

/// A key for one stack: random nonces then never come near to meeting each other.
fn of_stack(secret: &Secret, stack: &str) -> Secret {
    let of = joined(&["wanwright state key v1", stack]);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret[..]), &of);
    let mut key = Zeroizing::new([0; 32]);
    key.copy_from_slice(tag.as_ref());
    key
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place<'a>(stack: &'a str, lineage: &'a str, order: &'a str) -> StatePlace<'a> {
        StatePlace { what: "kept", stack, serial: 7, lineage, order }
    }

    fn keys() -> (tempfile::TempDir, StateKeys) {
        let dir = tempfile::tempdir().unwrap();
        let keys = StateKeys::new(dir.path().join("keys/state.key"));
        keys.check(None).unwrap();
        (dir, keys)
    }

    #[test]
    fn a_version_opens_as_itself_only_also_after_another_key_came() {
        let (_dir, keys) = keys();
        let here = place("s", "l", "o");
        let (key, sealed) = keys.seal(&here, b"state").unwrap();
        let newer = keys.add().unwrap();
        assert_ne!(key, newer);
        assert_eq!(keys.newest().unwrap(), newer);
        assert_eq!(keys.open(&here, &key, &sealed).unwrap(), b"state");
        assert_eq!(keys.seal(&here, b"state").unwrap().0, newer);
        let elsewhere = [
            place("t", "l", "o"),
            place("s", "m", "o"),
            place("s", "l", "p"),
            StatePlace { serial: 8, ..here },
            StatePlace { what: "spooled", ..here },
            // Parts that give the same letters one after the other.
            place("sl", "", "o"),
        ];
        for elsewhere in elsewhere {
            let error = keys.open(&elsewhere, &key, &sealed).unwrap_err();
            assert!(matches!(error, KeyError::StateChanged { .. }), "{elsewhere:?}: {error}");
        }
        assert!(matches!(keys.open(&here, &newer, &sealed), Err(KeyError::StateChanged { .. })));
        assert!(matches!(keys.open(&here, "0", &sealed), Err(KeyError::UnknownStateKey { .. })));
        assert!(matches!(keys.check(Some("0")), Err(KeyError::UnknownStateKey { .. })));
        assert!(keys.check(Some(&key)).is_ok());
    }

    #[test]
    fn no_file_is_made_where_something_is_sealed_and_a_master_key_is_no_state_key() {
        let dir = tempfile::tempdir().unwrap();
        let keys = StateKeys::new(dir.path().join("state.key"));
        assert!(matches!(keys.check(Some("abc")), Err(KeyError::UnknownStateKey { .. })));
        assert!(!keys.path().exists());
        MasterKeys::make(keys.path()).unwrap();
        assert!(matches!(keys.check(None), Err(KeyError::BadFile { .. })));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

        /// Whatever is stored as a sealed version, nothing but what was sealed opens.
        #[test]
        fn hostile_sealed_states(
            any in prop::collection::vec(any::<u8>(), 0..80),
            (at, with, cut) in (0..45usize, 1..=255u8, 0..45usize),
        ) {
            let (_dir, keys) = keys();
            let here = place("s", "l", "o");
            let (key, sealed) = keys.seal(&here, b"what is sealed").unwrap();
            let mut turned = sealed.clone();
            turned[at % sealed.len()] ^= with;
            let longer = [&sealed[..], &[with]].concat();
            for bytes in [&any[..], &turned, &sealed[..cut.min(sealed.len() - 1)], &longer] {
                let is_refused = matches!(keys.open(&here, &key, bytes), Err(KeyError::StateChanged { .. }));
                prop_assert!(is_refused);
            }
        }
    }
}
