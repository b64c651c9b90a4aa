//! Unpacking the archive of a provider: plain files with plain names, and not more than a provider is.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use flate2::read::DeflateDecoder;

/// Most that all files of a package may take, in bytes.
const LARGEST: u64 = 2 << 30;

/// Most files in a package.
const MOST: u16 = 10_000;

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// The bytes at a place, which the archive itself names.
fn at(bytes: &[u8], start: usize, length: usize) -> io::Result<&[u8]> {
    let end = start.checked_add(length);
    end.and_then(|end| bytes.get(start..end)).ok_or_else(|| wrong("the archive ends too early"))
}

fn short(bytes: &[u8], start: usize) -> io::Result<u16> {
    let bytes = at(bytes, start, 2)?;
    Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u16::from(*byte)))
}

fn long(bytes: &[u8], start: usize) -> io::Result<usize> {
    let bytes = at(bytes, start, 4)?;
    let value = bytes.iter().rev().fold(0_u32, |value, byte| value << 8 | u32::from(*byte));
    usize::try_from(value).map_err(|_| wrong("the archive is too large"))
}

/// A file in an archive.
struct Entry<'a> {
    name: PathBuf,
    packed: &'a [u8],
    method: u16,
    length: usize,
}

/// Writes the files of an archive into a new folder, for reading and executing by their owner only.
///
/// # Errors
/// It is no archive that a registry would give out, or a file cannot be written.
pub fn unpack(archive: &Path, to: &Path) -> io::Result<()> {
    let bytes = fs::read(archive)?;
    let mut left = LARGEST;
    for entry in entries(&bytes)? {
        let path = to.join(&entry.name);
        if let Some(folder) = path.parent() {
            fs::DirBuilder::new().mode(0o700).recursive(true).create(folder)?;
        }
        let content = content(&entry, left)?;
        left -= content.len() as u64;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o500).open(&path)?;
        file.write_all(&content)?;
    }
    Ok(())
}

fn content(entry: &Entry<'_>, most: u64) -> io::Result<Vec<u8>> {
    if entry.length as u64 > most {
        return Err(wrong("what is packed is too large"));
    }
    let mut content = Vec::new();
    let length = entry.length as u64;
    match entry.method {
        0 => content.extend_from_slice(entry.packed),
        // One byte more than it says, so that more than it says is noticed.
        8 => drop(DeflateDecoder::new(entry.packed).take(length + 1).read_to_end(&mut content)?),
        _ => return Err(wrong("a file is packed in a way that is not known")),
    }
    if content.len() != entry.length {
        return Err(wrong("a file has another length than the archive says"));
    }
    Ok(content)
}

/// The files, by the directory at the archive's end.
fn entries(bytes: &[u8]) -> io::Result<Vec<Entry<'_>>> {
    let end = bytes.windows(4).rposition(|four| four == b"PK\x05\x06");
    let end = end.ok_or_else(|| wrong("it is no ZIP archive"))?;
    at(bytes, end, 22)?;
    let count = short(bytes, end + 10)?;
    if count > MOST {
        return Err(wrong("the archive has too many files"));
    }
    let mut place = long(bytes, end + 16)?;
    let mut found = Vec::new();
    for _ in 0..count {
        if at(bytes, place, 4)? != b"PK\x01\x02" {
            return Err(wrong("the archive's directory is damaged"));
        }
        let (name_length, more) = (usize::from(short(bytes, place + 28)?), short(bytes, place + 30)?);
        let comment = short(bytes, place + 32)?;
        let name = at(bytes, place + 46, name_length)?;
        let local = long(bytes, place + 42)?;
        at(bytes, local, 30)?;
        let start =
            local + 30 + usize::from(short(bytes, local + 26)?) + usize::from(short(bytes, local + 28)?);
        let mode = long(bytes, place + 38)? >> 16;
        let entry = Entry {
            name: plain(name)?,
            packed: at(bytes, start, long(bytes, place + 20)?)?,
            method: short(bytes, place + 10)?,
            length: long(bytes, place + 24)?,
        };
        place += 46 + name_length + usize::from(more) + usize::from(comment);
        if name.ends_with(b"/") {
            continue;
        }
        // The type in the mode: a plain file, or nothing said.
        if !matches!(mode & 0o170_000, 0 | 0o100_000) {
            return Err(wrong("the archive has something else than files"));
        }
        found.push(entry);
    }
    Ok(found)
}

/// A name that leads nowhere else.
fn plain(name: &[u8]) -> io::Result<PathBuf> {
    let name = std::str::from_utf8(name).map_err(|_| wrong("a file's name is not UTF-8"))?;
    let path = PathBuf::from(name);
    let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
    if !inside || name.is_empty() || name.contains(['\\', '\0', '\n']) {
        return Err(wrong("a file's name leads out of the archive"));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::Archive;

    fn archive(names: &[(&str, u32)], content: &[u8]) -> Vec<u8> {
        let mut archive = Archive::default();
        for (name, mode) in names {
            archive.add(name, content, *mode).expect("packed").expect("small");
        }
        archive.finish().expect("small")
    }

    fn unpacked(bytes: &[u8]) -> (tempfile::TempDir, io::Result<()>) {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("a.zip");
        fs::write(&file, bytes).expect("a file");
        let done = unpack(&file, &dir.path().join("to"));
        (dir, done)
    }

    #[test]
    fn what_was_packed_is_unpacked() {
        let content = b"something ".repeat(1000);
        let (dir, done) = unpacked(&archive(&[("program", 0o755), ("vendors/a/b", 0o644)], &content));
        done.expect("unpacked");
        for name in ["to/program", "to/vendors/a/b"] {
            assert_eq!(fs::read(dir.path().join(name)).expect("a file"), content);
        }
    }

    #[test]
    fn what_leads_out_or_is_damaged_is_refused() {
        for name in ["../x", "/x", "a/../../x", "a\\x", "", "a\nb", "./../x"] {
            assert!(unpacked(&archive(&[(name, 0o644)], b"x")).1.is_err(), "{name:?}");
        }
        assert!(unpacked(&archive(&[("link", 0o120_777)], b"/etc/passwd")).1.is_err());
        assert!(unpacked(&archive(&[("same", 0o644), ("same", 0o644)], b"x")).1.is_err());
        let good = archive(&[("a", 0o644), ("b", 0o644)], &b"content ".repeat(50));
        assert!(unpacked(&good).1.is_ok());
        for cut in 0..good.len() {
            assert!(unpacked(&good[..cut]).1.is_err(), "cut at {cut}");
        }
        // Whatever is changed, it is read or refused.
        for place in 0..good.len() {
            let mut changed = good.clone();
            changed[place] ^= 0xff;
            let _ = unpacked(&changed);
        }
    }
}
