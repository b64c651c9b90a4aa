//! The key that signs heads, and what checks its signatures.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use wanwright_schemas::Digest;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file could not be read or written.
    #[error("the key in {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is no key.
    #[error("{0} holds no Ed25519 key of 64 hexadecimal digits")]
    NoKey(PathBuf),
    /// The kernel gives no random numbers.
    #[error("no random numbers for a key")]
    Random,
}

/// The private key.
#[derive(Clone)]
pub struct SigningKey {
    pair: Arc<Ed25519KeyPair>,
    public: PublicKey,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SigningKey").field(&self.public.id()).finish()
    }
}

impl SigningKey {
    /// The key of 32 secret bytes.
    pub fn from_seed(seed: [u8; 32]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).ok()?;
        let public = PublicKey(pair.public_key().as_ref().try_into().ok()?);
        Some(Self { pair: Arc::new(pair), public })
    }

    /// Reads the key `audit.key` of a folder, or makes it there, readable by its owner only; its public half is put
    /// beside it as `audit.pub`.
    ///
    /// # Errors
    /// [`KeyError`]; a key that is there is never replaced.
    pub fn load_or_make(dir: &Path) -> Result<Self, KeyError> {
        let path = dir.join("audit.key");
        let failed = |source| KeyError::File { path: path.clone(), source };
        if !path.exists() {
            make(dir, &path)?;
        }
        let text = std::fs::read_to_string(&path).map_err(failed)?;
        let key = seed(&text).and_then(Self::from_seed).ok_or_else(|| KeyError::NoKey(path.clone()))?;
        let public = dir.join("audit.pub");
        if PublicKey::read(&public).ok() != Some(key.public) {
            let written = write_new(&public, &format!("{}\n", key.public), 0o644);
            written.map_err(|source| KeyError::File { path: public, source })?;
        }
        Ok(key)
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    pub(super) fn sign(&self, bytes: &[u8]) -> String {
        hex::encode(self.pair.sign(bytes))
    }
}

fn make(dir: &Path, path: &Path) -> Result<(), KeyError> {
    let failed = |source| KeyError::File { path: path.to_owned(), source };
    std::fs::create_dir_all(dir).map_err(failed)?;
    let mut seed = [0; 32];
    SystemRandom::new().fill(&mut seed).map_err(|_| KeyError::Random)?;
    let beside = path.with_extension(format!("new-{}", std::process::id()));
    write_new(&beside, &format!("{}\n", hex::encode(seed)), 0o600).map_err(failed)?;
    // Linking fails where another process was first: then its key is the key.
    let linked = std::fs::hard_link(&beside, path);
    std::fs::remove_file(&beside).map_err(failed)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed(error)),
        _ => File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed),
    }
}

fn write_new(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn seed(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text.trim(), &mut bytes).ok()?;
    Some(bytes)
}

/// The public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Reads a file with a public key.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| KeyError::File { path: path.to_owned(), source })?;
        seed(&text).map(Self).ok_or_else(|| KeyError::NoKey(path.to_owned()))
    }

    /// What heads call the key: the beginning of its digest.
    pub fn id(&self) -> String {
        hex::encode(&Digest::of(&self.0).bytes()[..8])
    }

    pub(super) fn is_signature(&self, bytes: &[u8], signature: &str) -> bool {
        // One text per signature: hexadecimal digits in lower case.
        let Ok(decoded) = hex::decode(signature) else { return false };
        hex::encode(&decoded) == signature
            && UnparsedPublicKey::new(&ED25519, &self.0).verify(bytes, &decoded).is_ok()
    }
}

impl std::fmt::Display for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}
