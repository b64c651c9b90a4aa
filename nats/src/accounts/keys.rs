//! The folder of keys: secrets that only their owner reads, written whole or not at all.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nkeys::{KeyPair, KeyPairType};

use super::AccountError;

/// Makes a folder that only its owner enters.
pub(super) fn folder(path: &Path) -> Result<(), AccountError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(AccountError::file("make", path))
}

/// Writes a file that only its owner reads.
pub(super) fn write(path: &Path, text: &str) -> Result<(), AccountError> {
    if let Some(parent) = path.parent() {
        folder(parent)?;
    }
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let written = (|| {
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    written.map_err(AccountError::file("write", path))
}

/// Reads a file; none when it is not there.
pub(super) fn read(path: &Path) -> Result<Option<String>, AccountError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(AccountError::file("read", path)(error)),
    }
}

/// Reads a key; none when it is not there.
pub(super) fn key(path: &Path) -> Result<Option<KeyPair>, AccountError> {
    let Some(seed) = read(path)? else { return Ok(None) };
    let key = KeyPair::from_seed(seed.trim());
    key.map(Some).map_err(|error| AccountError::malformed(format!("{} is no key: {error}", path.display())))
}

/// Reads a key, or makes one.
pub(super) fn key_or_new(path: &Path, kind: KeyPairType) -> Result<KeyPair, AccountError> {
    if let Some(key) = key(path)? {
        return Ok(key);
    }
    let key = KeyPair::new(kind);
    let seed = key.seed().map_err(|error| AccountError::malformed(format!("a key has no seed: {error}")))?;
    write(path, &format!("{seed}\n"))?;
    Ok(key)
}

/// Keeps others from changing the folder until it is dropped.
pub(super) fn lock(dir: &Path) -> Result<File, AccountError> {
    let path = dir.join("lock");
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(AccountError::file("open", &path))?;
    file.lock().map_err(AccountError::file("lock", &path))?;
    Ok(file)
}

/// The files of a folder with an ending, by name without it, in order; none when there is no such folder.
pub(super) fn named(dir: &Path, ending: &str) -> Result<Vec<String>, AccountError> {
    let listed = match fs::read_dir(dir) {
        Ok(listed) => listed,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(AccountError::file("list", dir)(error)),
    };
    let mut names: Vec<String> = listed
        .filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.strip_suffix(ending)?.to_owned()))
        .collect();
    names.sort();
    Ok(names)
}
