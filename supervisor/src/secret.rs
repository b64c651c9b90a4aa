//! Generated passwords, and files only their owner may read.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::{Error, Result};

/// 192 random bits as 49 letters and digits that need no quoting anywhere.
pub(crate) fn password() -> Result<String> {
    let mut bytes = [0_u8; 24];
    let got = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    if got != Ok(bytes.len()) {
        return Err(Error::Unusable("the kernel gives no random numbers (getrandom)".to_owned()));
    }
    // The first letter keeps configuration parsers from taking it for a number.
    Ok(std::iter::once("p".to_owned()).chain(bytes.iter().map(|byte| format!("{byte:02x}"))).collect())
}

/// Writes a whole file of mode 0600 or leaves the old one as it was.
pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    let beside = path.with_extension(format!("new-{}", std::process::id()));
    let write = || -> io::Result<()> {
        // A leftover of a process that had our number; `create_new` then keeps us from following a link.
        if let Err(error) = std::fs::remove_file(&beside)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    };
    write().map_err(Error::io("write", path))
}

/// The file's text, or `None` if there is no such file.
pub(crate) fn read(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read", path)(error)),
    }
}
