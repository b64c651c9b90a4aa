//! The journal: one checked JSON line per group of changes, written and synced by one thread.
//!
//! While a sync runs, more lines gather; they share the next one. A line is `<crc32> <json>`.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::error::Error;
use crate::vendor::Vendor;
use crate::world::{Effect, World};

/// Bytes after which a group is written, however many lines still wait.
const GROUP_BYTES: usize = 1 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Snapshot(Box<World>),
    Effects(Vec<Effect>),
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum LineRef<'a> {
    Snapshot(&'a World),
    Effects(&'a [Effect]),
}

enum Message {
    /// Bytes to write, perhaps none, and whom to tell when they and all before them are on disk.
    Write(Vec<u8>, Option<oneshot::Sender<()>>),
    Stop,
}

/// Resolves when what was appended is on disk.
#[derive(Debug)]
#[must_use = "an answer must wait for the disk"]
pub(crate) struct Ticket(oneshot::Receiver<()>);

impl Ticket {
    /// False when it will never be on disk: writing failed or the simulator stopped.
    pub(crate) async fn on_disk(self) -> bool {
        self.0.await.is_ok()
    }
}

#[derive(Debug)]
pub(crate) struct Journal {
    sender: mpsc::Sender<Message>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Journal {
    /// Reads the journal of a folder, writes it anew as one snapshot, and keeps it open.
    pub(crate) fn open(folder: &Path, vendor: &Vendor, calls_kept: usize) -> Result<(Self, World), Error> {
        std::fs::create_dir_all(folder).map_err(Error::io(format!("making {}", folder.display())))?;
        let lock = lock(folder)?;
        let path = folder.join("journal.jsonl");
        let world = read(&path, vendor, calls_kept)?;
        let file = compact(folder, &path, &world)?;
        let (sender, receiver) = mpsc::channel();
        let write = move || {
            // The lock is released when this thread ends, so never before the last write.
            let _lock = lock;
            if let Err(error) = write_groups(file, &receiver) {
                tracing::error!(%error, "writing the journal; nothing is answered any more");
            }
        };
        let thread = thread::Builder::new().name("simulator-journal".into()).spawn(write);
        let thread = Mutex::new(Some(thread.map_err(Error::io("starting the journal's thread"))?));
        Ok((Self { sender, thread }, world))
    }

    /// Appends without waiting; an append or barrier after it waits for both.
    pub(crate) fn append_unwaited(&self, effects: &[Effect]) {
        // When the thread is gone, the append that is waited for says so.
        let _ = self.sender.send(Message::Write(line(&LineRef::Effects(effects)), None));
    }

    pub(crate) fn append(&self, effects: &[Effect]) -> Ticket {
        self.send(line(&LineRef::Effects(effects)))
    }

    /// Waits for everything appended so far.
    pub(crate) fn barrier(&self) -> Ticket {
        self.send(Vec::new())
    }

    fn send(&self, bytes: Vec<u8>) -> Ticket {
        let (done, ticket) = oneshot::channel();
        // A failed send drops `done`, which the ticket tells.
        let _ = self.sender.send(Message::Write(bytes, Some(done)));
        Ticket(ticket)
    }

    /// Writes what was appended and closes the file. Blocks until it is done.
    pub(crate) fn stop(&self) {
        let _ = self.sender.send(Message::Stop);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the journal's thread panicked");
        }
    }
}

fn lock(folder: &Path) -> Result<File, Error> {
    let path = folder.join("lock");
    let doing = || format!("locking {}", path.display());
    let file = OpenOptions::new().create(true).append(true).open(&path).map_err(Error::io(doing()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse(folder.to_owned())),
        Err(TryLockError::Error(source)) => Err(Error::Io { doing: doing(), source }),
    }
}

fn write_groups(mut file: File, receiver: &mpsc::Receiver<Message>) -> std::io::Result<()> {
    let mut dirty = false;
    let mut stopping = false;
    while !stopping {
        let mut bytes = Vec::new();
        let mut waiting = Vec::new();
        let mut next = receiver.recv().ok();
        stopping = next.is_none();
        while let Some(message) = next.take() {
            match message {
                Message::Write(line, done) => {
                    bytes.extend_from_slice(&line);
                    waiting.extend(done);
                }
                Message::Stop => stopping = true,
            }
            if !stopping && bytes.len() < GROUP_BYTES {
                next = receiver.try_recv().ok();
            }
        }
        file.write_all(&bytes)?;
        dirty |= !bytes.is_empty();
        if dirty && (stopping || !waiting.is_empty()) {
            file.sync_data()?;
            dirty = false;
        }
        for done in waiting {
            // Nobody waits any more when the caller went away.
            let _ = done.send(());
        }
    }
    Ok(())
}

fn read(path: &Path, vendor: &Vendor, calls_kept: usize) -> Result<World, Error> {
    let mut world = World::default();
    world.prepare(vendor, calls_kept);
    let bytes = match std::fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(world),
        read => read.map_err(Error::io(format!("reading {}", path.display())))?,
    };
    let mut torn = None;
    for (at, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        match parse(line) {
            // What a power cut tore was never answered; only at the end can that be the reason.
            None if line.is_empty() => {}
            None => torn = torn.or(Some(at + 1)),
            Some(_) if torn.is_some() => {
                return Err(Error::Damaged { path: path.to_owned(), line: torn.unwrap_or_default() });
            }
            Some(Line::Effects(effects)) => effects.iter().for_each(|effect| world.apply(effect)),
            Some(Line::Snapshot(snapshot)) => {
                world = *snapshot;
                world.prepare(vendor, calls_kept);
            }
        }
    }
    if let Some(line) = torn {
        tracing::warn!(line, path = %path.display(), "left out a torn line at the end of the journal");
    }
    Ok(world)
}

/// Writes the world as a new journal beside the old one and puts it in its place.
fn compact(folder: &Path, path: &PathBuf, world: &World) -> Result<File, Error> {
    let new = folder.join("journal.jsonl.new");
    let write = || {
        let mut file = File::create(&new)?;
        file.write_all(&line(&LineRef::Snapshot(world)))?;
        file.sync_all()?;
        std::fs::rename(&new, path)?;
        File::open(folder)?.sync_all()?;
        Ok(file)
    };
    write().map_err(Error::io(format!("writing {} through {}", path.display(), new.display())))
}

fn line(line: &LineRef<'_>) -> Vec<u8> {
    // Maps with text or number keys and no values of other kinds: this cannot fail.
    let json = serde_json::to_vec(line).unwrap_or_default();
    let mut bytes = format!("{:08x} ", crc32(&json)).into_bytes();
    bytes.extend_from_slice(&json);
    bytes.push(b'\n');
    bytes
}

fn parse(line: &[u8]) -> Option<Line> {
    let (sum, json) = line.split_at_checked(9)?;
    let sum = std::str::from_utf8(sum).ok()?.strip_suffix(' ')?;
    let expected = u32::from_str_radix(sum, 16).ok()?;
    (crc32(json) == expected).then(|| serde_json::from_slice(json).ok())?
}

/// CRC-32 as in zip and Ethernet.
fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0u32; 256];
        let mut at = 0;
        while at < 256 {
            let mut entry = at as u32;
            let mut bit = 0;
            while bit < 8 {
                entry = if entry & 1 == 1 { 0xedb8_8320 ^ (entry >> 1) } else { entry >> 1 };
                bit += 1;
            }
            table[at] = entry;
            at += 1;
        }
        table
    };
    !bytes.iter().fold(!0u32, |sum, byte| TABLE[((sum ^ u32::from(*byte)) & 0xff) as usize] ^ (sum >> 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_the_common_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn a_changed_line_is_no_line() {
        let bytes = line(&LineRef::Effects(&[Effect::Unauthorized]));
        let text = bytes.strip_suffix(b"\n").unwrap();
        assert!(matches!(parse(text), Some(Line::Effects(effects)) if effects.len() == 1));
        assert!(parse(&text[..text.len() - 1]).is_none());
        assert!(parse(b"").is_none());
    }
}
