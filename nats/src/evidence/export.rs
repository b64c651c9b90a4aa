//! An export: what the streams hold, with everything it takes to tell later whether it is still that.
//!
//! A folder with a file per stream, a line per message; the signed heads; the public key; and a manifest, written last,
//! that has a digest of every line of every file. Messages of other customers than the one asked for are there as their
//! leaf alone: enough to compare the heads, nothing to read.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wanwright_schemas::{CustomerId, Digest};

use super::auditor::Auditor;
use super::finding::Finding;
use super::fold::{Headers, Rolling, headers, leaf};
use super::head::SignedHead;
use super::key::PublicKey;
use crate::follow::StoredMessage;

/// The version of the format.
pub const EXPORT_VERSION: u64 = 1;
/// The manifest's file.
pub const MANIFEST: &str = "manifest.json";
/// The public key's file.
pub const KEY: &str = "audit.pub";
/// The folder of heads.
pub const HEADS: &str = "heads";

/// A message, as a line says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// In full.
    Message(Full),
    /// As its leaf.
    Sealed(Sealed),
}

/// A message in full.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Full {
    sequence: u64,
    subject: String,
    time: Timestamp,
    headers: Headers,
    /// The body, where it is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
    /// The body in hexadecimal digits, where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    payload_hex: Option<String>,
}

/// A message's leaf.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    sequence: u64,
    leaf: Digest,
}

impl Line {
    /// The line of a message; its leaf alone when it is another customer's.
    pub fn of(message: &StoredMessage, in_full: bool) -> Self {
        if !in_full {
            return Self::Sealed(Sealed { sequence: message.sequence, leaf: leaf(message) });
        }
        let text = std::str::from_utf8(&message.payload).ok().map(str::to_owned);
        Self::Message(Full {
            sequence: message.sequence,
            subject: message.subject.clone(),
            time: message.time,
            headers: headers(&message.headers),
            payload_hex: text.is_none().then(|| hex::encode(&message.payload)),
            payload: text,
        })
    }

    /// Which message it is.
    pub fn sequence(&self) -> u64 {
        match self {
            Self::Message(full) => full.sequence,
            Self::Sealed(sealed) => sealed.sequence,
        }
    }

    /// Reads a line. There is one text for each message: what reads the same and is written in another way is none.
    pub fn read(text: &[u8]) -> Option<Self> {
        let line: Self = serde_json::from_slice(text).ok()?;
        (serde_json::to_vec(&line).ok()? == text).then_some(line)
    }
}

/// What a line is to an audit.
enum Item {
    Message(StoredMessage),
    Sealed(u64, Digest),
}

impl Line {
    fn item(self, stream: &str) -> Option<Item> {
        let full = match self {
            Self::Sealed(sealed) => return Some(Item::Sealed(sealed.sequence, sealed.leaf)),
            Self::Message(full) => full,
        };
        let payload = match (full.payload, full.payload_hex) {
            (Some(text), None) => Bytes::from(text),
            (None, Some(digits)) => Bytes::from(hex::decode(digits).ok()?),
            _ => return None,
        };
        let mut map = async_nats::HeaderMap::new();
        for (name, values) in full.headers {
            let name: async_nats::HeaderName = name.parse().ok()?;
            for value in values {
                map.append(name.clone(), value.parse::<async_nats::HeaderValue>().ok()?);
            }
        }
        Some(Item::Message(StoredMessage {
            stream: stream.to_owned(),
            sequence: full.sequence,
            subject: full.subject,
            time: full.time,
            headers: map,
            payload,
        }))
    }
}

/// What the manifest says of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportedStream {
    /// The stream.
    pub stream: String,
    /// When it was created.
    pub incarnation: Timestamp,
    /// The message behind which it begins: one that a head vouches for, or 0.
    pub after: u64,
    /// Its last message.
    pub last: u64,
    /// How many messages are there in full.
    pub messages: u64,
    /// How many are there as leaves.
    pub sealed: u64,
    /// The digest over the lines of its file.
    pub lines: Digest,
    /// How many heads there are.
    pub heads: u64,
    /// The digest over the lines of the heads' file.
    pub head_lines: Digest,
}

/// What was exported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of the format.
    pub v: u64,
    /// How many partitions the customers are spread over.
    pub partitions: u16,
    /// The one customer whose messages are there in full; all when none is named.
    pub customer: Option<CustomerId>,
    /// From which message on was asked for.
    pub from: u64,
    /// When the export was finished.
    pub time: Timestamp,
    /// The public key.
    pub key: String,
    /// The streams.
    pub streams: Vec<ExportedStream>,
    /// The digest of all of that.
    pub digest: Option<Digest>,
}

impl Manifest {
    fn sealed(&self) -> io::Result<Digest> {
        Ok(Digest::of(&serde_json::to_vec(&Self { digest: None, ..self.clone() })?))
    }

    /// Writes it into a folder, whole or not at all.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(mut self, dir: &Path) -> io::Result<()> {
        self.digest = Some(self.sealed()?);
        let (path, beside) = (dir.join(MANIFEST), dir.join(format!("{MANIFEST}.new")));
        let mut file = File::create(&beside)?;
        file.write_all(&serde_json::to_vec_pretty(&self)?)?;
        file.sync_all()?;
        std::fs::rename(beside, path)?;
        File::open(dir)?.sync_all()
    }

    /// Reads it; `None` when it is not what was written.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(dir: &Path) -> io::Result<Option<Self>> {
        let bytes = std::fs::read(dir.join(MANIFEST))?;
        let Ok(manifest) = serde_json::from_slice::<Self>(&bytes) else { return Ok(None) };
        let is_own = serde_json::to_vec_pretty(&manifest)? == bytes
            && manifest.digest == Some(manifest.sealed()?)
            && manifest.v == EXPORT_VERSION;
        Ok(is_own.then_some(manifest))
    }
}

/// Goes through the lines of a file; answers the digest over them and the length up to the end of the last whole one.
///
/// # Errors
/// When the file cannot be read.
pub fn lines(path: &Path, mut each: impl FnMut(&[u8])) -> io::Result<(Digest, u64)> {
    let mut file = BufReader::new(File::open(path)?);
    let (mut rolling, mut whole, mut line) = (Rolling::default(), 0, Vec::new());
    while file.read_until(b'\n', &mut line)? > 0 {
        rolling = rolling.with(rolling.sequence + 1, Digest::of(&line));
        if line.ends_with(b"\n") {
            whole += line.len() as u64;
            each(&line[..line.len() - 1]);
        } else {
            each(&line);
        }
        line.clear();
    }
    Ok((rolling.digest, whole))
}

/// Writes the heads of a stream and answers how many there are and the digest over their lines.
///
/// # Errors
/// When the file cannot be written.
pub fn write_heads(dir: &Path, stream: &str, heads: &[SignedHead]) -> io::Result<(u64, Digest)> {
    let dir = dir.join(HEADS);
    std::fs::create_dir_all(&dir)?;
    let path = dir.join(format!("{stream}.jsonl"));
    let mut file = BufWriter::new(File::create(&path)?);
    for head in heads {
        serde_json::to_writer(&mut file, head)?;
        file.write_all(b"\n")?;
    }
    file.flush()?;
    file.get_ref().sync_all()?;
    Ok((heads.len() as u64, lines(&path, |_| {})?.0))
}

/// Writes the public key.
///
/// # Errors
/// When the file cannot be written.
pub fn write_key(dir: &Path, key: &PublicKey) -> io::Result<()> {
    let mut file = File::create(dir.join(KEY))?;
    writeln!(file, "{key}")?;
    file.sync_all()
}

/// Goes through the messages of a stream's file for an audit; answers the digest over its lines.
///
/// # Errors
/// When the file cannot be read.
pub fn audit(dir: &Path, stream: &str, auditor: &mut Auditor) -> io::Result<Digest> {
    let file = format!("{stream}.jsonl");
    let mut number = 0;
    let (digest, _) = lines(&dir.join(&file), |line| {
        number += 1;
        match Line::read(line).and_then(|line| line.item(stream)) {
            Some(Item::Message(message)) => auditor.message(&message),
            Some(Item::Sealed(sequence, leaf)) => auditor.sealed(sequence, leaf),
            None => {
                auditor
                    .find(Finding::File { file: file.clone(), why: format!("line {number} is no message") });
            }
        }
    })?;
    Ok(digest)
}

/// The file of a stream that is being exported. It goes on where an export that was interrupted ended.
#[derive(Debug)]
pub struct StreamFile {
    path: PathBuf,
    file: BufWriter<File>,
    /// The last message that is in it; where it begins when there is none.
    pub last: u64,
    /// How many messages are in it in full.
    pub messages: u64,
    /// How many are in it as leaves.
    pub sealed: u64,
}

impl StreamFile {
    /// Opens the file of a stream that begins behind a message.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn open(dir: &Path, stream: &str, after: u64) -> io::Result<Self> {
        let path = dir.join(format!("{stream}.jsonl"));
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path)?;
        let (mut last, mut messages, mut sealed) = (after, 0, 0);
        let mut good = true;
        let (_, whole) = lines(&path, |line| match Line::read(line) {
            Some(line) => {
                last = line.sequence();
                if matches!(line, Line::Message(_)) { messages += 1 } else { sealed += 1 }
            }
            None => good = false,
        })?;
        let length = file.metadata()?.len();
        if !good && whole == length {
            return Err(io::Error::other(format!("{} is no export of this kind", path.display())));
        }
        file.set_len(whole)?;
        let mut file = BufWriter::with_capacity(1 << 20, file);
        file.seek(SeekFrom::End(0))?;
        Ok(Self { path, file, last, messages, sealed })
    }

    /// Adds a message.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn add(&mut self, message: &StoredMessage, in_full: bool) -> io::Result<()> {
        let mut line = serde_json::to_vec(&Line::of(message, in_full))?;
        line.push(b'\n');
        self.file.write_all(&line)?;
        self.last = message.sequence;
        if in_full {
            self.messages += 1
        } else {
            self.sealed += 1
        }
        Ok(())
    }

    /// Writes it through to the disk and answers the digest over its lines.
    ///
    /// # Errors
    /// When the file cannot be written or read again.
    pub fn finish(mut self) -> io::Result<Digest> {
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        Ok(lines(&self.path, |_| {})?.0)
    }
}
