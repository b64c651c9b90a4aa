//! Unpacking the archive of a provider: plain files with plain names, and not more than a provider is. Of the archive
//! itself only the directory at its end is kept in memory; what is packed goes from file to file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use flate2::read::DeflateDecoder;

use crate::bounded::{self, LARGEST, MOST};

/// Most that the directory at the archive's end may take, in bytes.
const LARGEST_DIRECTORY: u64 = 16 << 20;

/// The end of an archive: a record of 22 bytes, and a comment of up to 65,535.
const LONGEST_END: u64 = 22 + 65_535;

/// How long the part of a file's own header is that is always there.
const LOCAL_HEADER: usize = 30;

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

fn long(bytes: &[u8], start: usize) -> io::Result<u32> {
    let bytes = at(bytes, start, 4)?;
    Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte)))
}

/// The archive, opened.
struct Archive {
    file: File,
    length: u64,
}

impl Archive {
    /// So many bytes at a place, which the archive itself names.
    fn read(&mut self, start: u64, length: u64) -> io::Result<Vec<u8>> {
        if start.checked_add(length).is_none_or(|end| end > self.length) {
            return Err(wrong("the archive ends too early"));
        }
        self.file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        (&mut self.file).take(length).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != length {
            return Err(wrong("the archive ends too early"));
        }
        Ok(bytes)
    }
}

/// A file in an archive.
struct Entry {
    name: PathBuf,
    /// Where its own header is.
    header: u64,
    packed: u64,
    method: u16,
    length: u64,
}

/// Writes the files of an archive into a new folder, for reading and executing by their owner only.
///
/// # Errors
/// It is no archive that a registry would give out, it or what is in it is larger than 2 GiB, or a file cannot be written.
pub(crate) fn unpack(archive: &Path, to: &Path) -> io::Result<()> {
    let (file, length) = bounded::open(archive, LARGEST)?;
    let mut archive = Archive { file, length };
    let entries = entries(&mut archive)?;
    if entries.iter().map(|entry| entry.length).sum::<u64>() > LARGEST {
        return Err(wrong("what is packed is larger than 2 GiB"));
    }
    for entry in entries {
        let path = to.join(&entry.name);
        if let Some(folder) = path.parent() {
            private(folder)?;
        }
        extract(&mut archive, &entry, &mut new_file(&path)?)?;
    }
    Ok(())
}

/// A folder, with those above it, that only its owner enters.
pub(crate) fn private(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).recursive(true).create(folder)
}

/// A file that was not there, for reading and executing by its owner only.
pub(crate) fn new_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o500).open(path)
}

/// Writes what is packed; never more than it says, and one byte, by which more is noticed.
fn extract(archive: &mut Archive, entry: &Entry, to: &mut File) -> io::Result<()> {
    let header = archive.read(entry.header, LOCAL_HEADER as u64)?;
    let names = u64::from(short(&header, 26)?) + u64::from(short(&header, 28)?);
    let start = entry.header + LOCAL_HEADER as u64 + names;
    if start.checked_add(entry.packed).is_none_or(|end| end > archive.length) {
        return Err(wrong("the archive ends too early"));
    }
    archive.file.seek(SeekFrom::Start(start))?;
    let packed = BufReader::new((&mut archive.file).take(entry.packed));
    let most = entry.length + 1;
    let written = match entry.method {
        0 => io::copy(&mut packed.take(most), to)?,
        8 => io::copy(&mut DeflateDecoder::new(packed).take(most), to)?,
        _ => return Err(wrong("a file is packed in a way that is not known")),
    };
    if written != entry.length {
        return Err(wrong("a file has another length than the archive says"));
    }
    Ok(())
}

/// The files, by the directory at the archive's end.
fn entries(archive: &mut Archive) -> io::Result<Vec<Entry>> {
    let tail = archive.length.min(LONGEST_END);
    let bytes = archive.read(archive.length - tail, tail)?;
    let end = bytes.windows(4).rposition(|four| four == b"PK\x05\x06");
    let end = end.ok_or_else(|| wrong("it is no ZIP archive"))?;
    let end = at(&bytes, end, 22)?;
    let count = short(end, 10)?;
    if usize::from(count) > MOST {
        return Err(wrong("the archive has too many files"));
    }
    let (length, start) = (u64::from(long(end, 12)?), u64::from(long(end, 16)?));
    if length > LARGEST_DIRECTORY {
        return Err(wrong("the archive's directory is larger than 16 MiB"));
    }
    listed(&archive.read(start, length)?, count)
}

fn listed(bytes: &[u8], count: u16) -> io::Result<Vec<Entry>> {
    let mut place = 0;
    let mut found = Vec::new();
    for _ in 0..count {
        if at(bytes, place, 4)? != b"PK\x01\x02" {
            return Err(wrong("the archive's directory is damaged"));
        }
        let (name_length, more) = (usize::from(short(bytes, place + 28)?), short(bytes, place + 30)?);
        let comment = short(bytes, place + 32)?;
        let name = at(bytes, place + 46, name_length)?;
        let mode = long(bytes, place + 38)? >> 16;
        let entry = Entry {
            name: plain(name)?,
            header: long(bytes, place + 42)?.into(),
            packed: long(bytes, place + 20)?.into(),
            method: short(bytes, place + 10)?,
            length: long(bytes, place + 24)?.into(),
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
    use crate::release::Archive as Made;

    fn archive(names: &[(&str, u32)], content: &[u8]) -> Vec<u8> {
        let mut archive = Made::default();
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

    /// A file of that size that takes no room on the disk.
    fn sparse(path: &Path, bytes: u64) {
        File::create(path).and_then(|file| file.set_len(bytes)).expect("a file");
    }

    #[test]
    fn an_archive_that_is_too_large_is_refused_before_it_is_read() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("a.zip");
        sparse(&file, LARGEST + 1);
        let error = unpack(&file, &dir.path().join("to")).expect_err("too large").to_string();
        assert!(error.contains("2147483649 bytes") && error.contains("most are 2147483648"), "{error}");
        assert!(!dir.path().join("to").exists());
        // The largest one is read from its end, in no time, and without room for all of it.
        sparse(&file, LARGEST);
        let error = unpack(&file, &dir.path().join("to")).expect_err("no archive").to_string();
        assert!(error.contains("no ZIP archive"), "{error}");
    }

    #[test]
    fn what_would_be_too_large_when_unpacked_is_refused() {
        // Two files that say of themselves that they are 1.5 GiB each.
        let mut bytes = archive(&[("a", 0o644), ("b", 0o644)], b"x");
        let places: Vec<usize> = bytes
            .windows(4)
            .enumerate()
            .filter(|(_, four)| four == b"PK\x01\x02")
            .map(|(at, _)| at)
            .collect();
        for place in places {
            bytes[place + 24..place + 28].copy_from_slice(&(3_u32 << 29).to_le_bytes());
        }
        let (dir, done) = unpacked(&bytes);
        let error = done.expect_err("too large").to_string();
        assert!(error.contains("what is packed is larger than 2 GiB"), "{error}");
        assert!(!dir.path().join("to").exists(), "nothing was begun");
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
