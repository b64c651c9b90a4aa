//! Files of strangers: never read before their size is known, nor further than that.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Most that a package may take, packed or unpacked, in bytes.
pub(crate) const LARGEST: u64 = 2 << 30;

/// Most files in a package.
pub(crate) const MOST: usize = 10_000;

/// Says that something is larger than it may be.
pub(crate) fn too_large(path: &Path, bytes: u64, most: u64) -> io::Error {
    let message = format!("{} has {bytes} bytes, and the most are {most}", path.display());
    io::Error::new(io::ErrorKind::FileTooLarge, message)
}

/// Opens a file that is not larger than that, and answers how large it is.
///
/// # Errors
/// It is larger, it is no plain file, or it cannot be opened.
pub(crate) fn open(path: &Path, most: u64) -> io::Result<(File, u64)> {
    // Asked before it is opened: opening a pipe waits for whoever writes into it.
    let no_file = || io::Error::new(io::ErrorKind::InvalidInput, format!("{} is no file", path.display()));
    if !std::fs::metadata(path)?.is_file() {
        return Err(no_file());
    }
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(no_file());
    }
    if metadata.len() > most {
        return Err(too_large(path, metadata.len(), most));
    }
    Ok((file, metadata.len()))
}

/// Copies a file that is not larger than that, and answers how large it is.
///
/// # Errors
/// As [`open`] has them; it grows meanwhile; or what is copied cannot be written.
pub(crate) fn copy(path: &Path, most: u64, to: &mut impl io::Write) -> io::Result<u64> {
    let (file, _) = open(path, most)?;
    let copied = io::copy(&mut file.take(most + 1), to)?;
    if copied > most {
        return Err(too_large(path, copied, most));
    }
    Ok(copied)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_as_far_as_it_may_be() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("file");
        File::create(&file).and_then(|file| file.set_len(1 << 40)).expect("a file");
        let mut read = Vec::new();
        let error = copy(&file, 10, &mut read).expect_err("too large");
        assert_eq!((error.kind(), read.len()), (io::ErrorKind::FileTooLarge, 0));
        assert!(error.to_string().contains("1099511627776 bytes, and the most are 10"), "{error}");
        std::fs::write(&file, "0123456789").expect("a file");
        assert_eq!(copy(&file, 10, &mut read).expect("read"), 10);
        // What says nothing of its size is not begun.
        let endless = copy(Path::new("/dev/zero"), 10, &mut read).expect_err("no file");
        assert!(endless.to_string().contains("/dev/zero is no file"), "{endless}");
        assert!(copy(dir.path(), 10, &mut read).is_err(), "a folder");
    }
}
