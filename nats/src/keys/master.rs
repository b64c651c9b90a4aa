//! Master keys: they wrap the customers' keys and are kept in a file, outside of NATS. Whoever has the streams has
//! nothing without it.

use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ring::aead::{Aad, NONCE_LEN, Nonce};
use wanwright_schemas::{CustomerId, KeyId};
use zeroize::Zeroizing;

use super::KeyError;
use super::cipher::{DataKey, Secret, aes, joined, random};

/// How each line of the file begins.
pub(super) const LINE: &str = "wanwright-master-key";

/// A master key.
struct MasterKey {
    id: String,
    secret: Secret,
}

/// The master keys of a file, the newest first. There are several only while they are rotated.
pub(super) struct MasterKeys {
    path: PathBuf,
    line: &'static str,
    keys: Vec<MasterKey>,
}

impl MasterKeys {
    /// Reads the file; none when it is not there.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, KeyError> {
        Self::read_lines(path, LINE)
    }

    /// The same of a file whose lines begin in another way.
    pub(super) fn read_lines(path: &Path, line: &'static str) -> Result<Option<Self>, KeyError> {
        let failed = |source| KeyError::File { path: path.to_owned(), source };
        let text = match std::fs::read_to_string(path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let bad = |why: &str| KeyError::BadFile { path: path.to_owned(), why: why.to_owned() };
        if std::fs::metadata(path).map_err(failed)?.permissions().mode() & 0o007 != 0 {
            return Err(bad("everybody on this machine may use it; take that right away with chmod o="));
        }
        let keys =
            text.lines().filter(|line| !line.trim().is_empty()).map(|text| MasterKey::read(text, line));
        let keys: Vec<MasterKey> = keys
            .collect::<Option<_>>()
            .ok_or_else(|| bad(&format!("a line of it is not `{line} <id> <64 hexadecimal digits>`")))?;
        if keys.is_empty() {
            return Err(bad("it has no key"));
        }
        Ok(Some(Self { path: path.to_owned(), line, keys }))
    }

    /// Makes the file with a new key. When somebody else made it meanwhile, that one is read.
    pub(super) fn make(path: &Path) -> Result<Self, KeyError> {
        Self::make_lines(path, LINE)
    }

    /// The same of a file whose lines begin in another way.
    pub(super) fn make_lines(path: &Path, line: &'static str) -> Result<Self, KeyError> {
        let made = Self { path: path.to_owned(), line, keys: vec![MasterKey::mint()?] };
        let failed = |source| KeyError::File { path: path.to_owned(), source };
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty() && !dir.exists()) {
            std::fs::create_dir_all(dir).map_err(failed)?;
            std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).map_err(failed)?;
        }
        let temporary = made.write_beside()?;
        let linked = std::fs::hard_link(&temporary, path);
        std::fs::remove_file(&temporary).map_err(failed)?;
        match linked {
            Ok(()) => {
                made.sync_folder()?;
                Ok(made)
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                Self::read_lines(path, line)?.ok_or_else(|| failed(error))
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Puts a new key before the others.
    pub(super) fn add(&mut self) -> Result<(), KeyError> {
        self.keys.insert(0, MasterKey::mint()?);
        self.save()
    }

    /// Forgets all keys but the newest.
    pub(super) fn forget_older(&mut self) -> Result<(), KeyError> {
        self.keys.truncate(1);
        self.save()
    }

    fn save(&self) -> Result<(), KeyError> {
        let temporary = self.write_beside()?;
        std::fs::rename(&temporary, &self.path)
            .map_err(|source| KeyError::File { path: self.path.clone(), source })?;
        self.sync_folder()
    }

    /// Writes the keys into a file beside theirs, so that theirs is never half written.
    fn write_beside(&self) -> Result<PathBuf, KeyError> {
        let mark = hex(&random::<8>()?);
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{}", mark.as_str()));
        let temporary = PathBuf::from(name);
        let write = || {
            let mut options = std::fs::OpenOptions::new();
            let mut file = options.write(true).create_new(true).mode(0o600).open(&temporary)?;
            for key in &self.keys {
                let line =
                    Zeroizing::new(format!("{} {} {}\n", self.line, key.id, hex(&key.secret[..]).as_str()));
                file.write_all(line.as_bytes())?;
            }
            file.sync_all()
        };
        write().map_err(|source| KeyError::File { path: temporary.clone(), source })?;
        Ok(temporary)
    }

    /// A key that is used and then lost by a power cut would cost all that it wrapped.
    fn sync_folder(&self) -> Result<(), KeyError> {
        let folder = self.path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let synced = std::fs::File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(|source| KeyError::File { path: folder.to_owned(), source })
    }

    /// The id of the newest key.
    pub(super) fn newest(&self) -> &str {
        self.keys.first().map_or("", |key| key.id.as_str())
    }

    /// The bytes of a key.
    pub(super) fn secret(&self, id: &str) -> Option<&Secret> {
        self.keys.iter().find(|key| key.id == id).map(|key| &key.secret)
    }

    /// The ids of all keys.
    pub(super) fn ids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|key| key.id.as_str())
    }

    /// Wraps a customer's key with the newest master key.
    pub(super) fn wrap(&self, customer: &CustomerId, key: &DataKey) -> Result<Vec<u8>, KeyError> {
        let master = self.keys.first().ok_or(KeyError::NoRandomness)?;
        let nonce = random::<NONCE_LEN>()?;
        let mut wrapped = key.secret().to_vec();
        let aad = Aad::from(master.binds(customer, key.id()));
        aes(&master.secret)?
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut wrapped)
            .map_err(|_| KeyError::NoRandomness)?;
        Ok([&nonce[..], &wrapped].concat())
    }

    /// Opens a customer's key that this master key wrapped.
    pub(super) fn unwrap(
        &self,
        customer: &CustomerId,
        id: KeyId,
        master: &str,
        wrapped: &[u8],
    ) -> Result<DataKey, KeyError> {
        let Some(master) = self.keys.iter().find(|key| key.id == master) else {
            let (master, path) = (master.to_owned(), self.path.clone());
            return Err(KeyError::OtherMaster { key: id, master, path });
        };
        let wrong = || KeyError::WrongMaster { key: id, master: master.id.clone(), path: self.path.clone() };
        let (nonce, rest) = wrapped.split_first_chunk::<NONCE_LEN>().ok_or_else(wrong)?;
        let mut rest = Zeroizing::new(rest.to_vec());
        let aad = Aad::from(master.binds(customer, id));
        let opened = aes(&master.secret)?
            .open_in_place(Nonce::assume_unique_for_key(*nonce), aad, &mut rest)
            .map_err(|_| wrong())?;
        let mut secret = Zeroizing::new([0; 32]);
        let bytes = opened.first_chunk::<32>().filter(|_| opened.len() == 32).ok_or_else(wrong)?;
        secret.copy_from_slice(bytes);
        Ok(DataKey::of(id, secret))
    }
}

impl MasterKey {
    fn mint() -> Result<Self, KeyError> {
        Ok(Self { id: hex(&random::<8>()?).to_string(), secret: Zeroizing::new(random()?) })
    }

    fn read(text: &str, line: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let (first, id, digits, None) = (words.next()?, words.next()?, words.next()?, words.next()) else {
            return None;
        };
        let is_id = id.len() == 16 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let mut secret = Zeroizing::new([0; 32]);
        if first != line || !is_id || digits.len() != 64 || !digits.is_ascii() {
            return None;
        }
        for (byte, place) in secret.iter_mut().zip(0..) {
            *byte = u8::from_str_radix(&digits[2 * place..2 * place + 2], 16).ok()?;
        }
        Some(Self { id: id.to_owned(), secret })
    }

    /// What a wrapped key belongs to: it opens for no other customer and under no other id.
    fn binds(&self, customer: &CustomerId, key: KeyId) -> Vec<u8> {
        joined(&["wanwright data key v1", customer.as_str(), &key.to_string(), &self.id])
    }
}

fn hex(bytes: &[u8]) -> Zeroizing<String> {
    use std::fmt::Write;
    let mut text = Zeroizing::new(String::with_capacity(2 * bytes.len()));
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_file_is_made_once_reads_as_it_was_written_and_nobody_else_may_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys/master.key");
        assert!(MasterKeys::read(&path).unwrap().is_none());
        let made = MasterKeys::make(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = MasterKeys::make(&path).unwrap();
        assert_eq!(again.newest(), made.newest());
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);

        let (acme, key) = ("acme".parse().unwrap(), DataKey::mint().unwrap());
        let wrapped = made.wrap(&acme, &key).unwrap();
        let mut read = MasterKeys::read(&path).unwrap().unwrap();
        let opened = read.unwrap(&acme, key.id(), made.newest(), &wrapped).unwrap();
        assert_eq!(opened.secret(), key.secret());
        read.add().unwrap();
        assert!(read.unwrap(&acme, key.id(), made.newest(), &wrapped).is_ok());
        assert_ne!(read.newest(), made.newest());
        read.forget_older().unwrap();
        let error = read.unwrap(&acme, key.id(), made.newest(), &wrapped).unwrap_err();
        assert!(matches!(&error, KeyError::OtherMaster { master, .. } if master == made.newest()), "{error}");

        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(MasterKeys::read(&path), Err(KeyError::BadFile { .. })));
    }

    #[test]
    fn a_wrapped_key_opens_for_its_customer_under_its_id_only() {
        let dir = tempfile::tempdir().unwrap();
        let masters = MasterKeys::make(&dir.path().join("master.key")).unwrap();
        let (acme, beta) = ("acme".parse().unwrap(), "beta".parse().unwrap());
        let key = DataKey::mint().unwrap();
        let wrapped = masters.wrap(&acme, &key).unwrap();
        let open = |customer, id, bytes: &[u8]| masters.unwrap(customer, id, masters.newest(), bytes);
        assert!(open(&acme, key.id(), &wrapped).is_ok());
        let mut changed = wrapped.clone();
        changed[20] ^= 1;
        for result in [
            open(&beta, key.id(), &wrapped),
            open(&acme, KeyId::mint(), &wrapped),
            open(&acme, key.id(), &changed),
            open(&acme, key.id(), &wrapped[..40]),
            open(&acme, key.id(), b""),
        ] {
            assert!(matches!(result, Err(KeyError::WrongMaster { .. })));
        }
    }

    #[test]
    fn what_is_no_key_file_is_said_so_without_repeating_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        for text in ["", "secret", "wanwright-master-key 0011223344556677 zz", "wanwright-master-key x y z"] {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            let Err(error) = MasterKeys::read(&path) else { panic!("{text}") };
            assert!(matches!(error, KeyError::BadFile { .. }), "{error}");
            assert!(text.is_empty() || !error.to_string().contains(text));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever is stored as a wrapped key, nothing but what was wrapped opens.
        #[test]
        fn hostile_wrapped_keys(
            any in prop::collection::vec(any::<u8>(), 0..80),
            (at, with, cut) in (0..60usize, 1..=255u8, 0..61usize),
        ) {
            let masters = MasterKeys { path: "keys".into(), line: LINE, keys: vec![MasterKey::mint().unwrap()] };
            let (acme, key) = ("acme".parse().unwrap(), DataKey::mint().unwrap());
            let wrapped = masters.wrap(&acme, &key).unwrap();
            prop_assert_eq!(wrapped.len(), 60);
            let mut turned = wrapped.clone();
            turned[at] ^= with;
            let longer = [&wrapped[..], &[with]].concat();
            for bytes in [&any[..], &turned, &wrapped[..cut], &longer] {
                let opened = masters.unwrap(&acme, key.id(), masters.newest(), bytes);
                let is_same = bytes == &wrapped[..];
                let is_refused = matches!(opened, Err(KeyError::WrongMaster { .. }));
                prop_assert!(is_same == opened.is_ok() && is_same != is_refused);
            }
        }

        /// Whatever is in the file, a line is a key or is not; what is read was written like that.
        #[test]
        fn hostile_master_keys(
            line in prop_oneof![
                "wanwright-master-key [0-9a-f]{15,17} [0-9a-fA-F+-]{63,65}",
                "(wanwright-master-key)?[ \t]{0,2}[0-9a-fé]{0,16}[ \t]{0,2}[0-9a-fé]{0,64}( x)?",
                any::<String>(),
            ],
        ) {
            if let Some(key) = MasterKey::read(&line, LINE) {
                let digits = hex(&key.secret[..]);
                let written = format!("{LINE} {} {}", key.id, digits.as_str());
                let said: Vec<&str> = line.split_whitespace().collect();
                prop_assert_eq!(written, said.join(" ").to_lowercase());
            }
        }
    }
}
