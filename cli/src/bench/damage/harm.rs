//! Where and how files are damaged.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use wanwright_nats::topology::{INVENTORY, SNAPSHOTS};
use wanwright_schemas::subjects::is_events_stream;

/// A damage.
#[derive(Debug, Clone)]
pub struct Harm {
    /// What kind of file, and what was done to it.
    pub kind: String,
    /// Which file, and where.
    pub what: String,
    /// What is there besides the histories.
    pub heads: Heads,
}

/// What there is besides the histories that tells how they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heads {
    /// Every message is vouched for by a signed head, and its rows are there.
    All,
    /// Projections ran when the histories were half as long; their rows are gone.
    Older,
    /// No projection ever ran, and there is no folder with heads.
    None,
}

impl Heads {
    /// Half of the damages to a history are to one that is vouched for.
    fn pick(random: &mut fastrand::Rng) -> Self {
        match random.u8(..4) {
            0 | 1 => Self::All,
            2 => Self::Older,
            _ => Self::None,
        }
    }

    /// How a kind of damage is called with them.
    fn of(self, kind: String) -> String {
        match self {
            Self::All => kind,
            Self::Older => format!("{kind}, older heads"),
            Self::None => format!("{kind}, no heads"),
        }
    }
}

/// The kind of a page of Postgres.
pub const PAGE: &str = "Postgres page, bit";

/// The kinds of files, with how often each is taken.
const TARGETS: [(&str, u32); 14] = [
    ("newest block", 4),
    ("older block", 3),
    ("index", 3),
    ("stream meta", 3),
    ("consumer", 2),
    ("snapshots", 1),
    ("claims", 3),
    ("verdicts", 3),
    ("keys", 3),
    ("inbox", 4),
    ("inbox's consumer", 1),
    ("leases", 2),
    ("inventory", 1),
    ("whole stream", 3),
];

/// One damage in so many is one to a page of Postgres.
const PAGES: u32 = 12;

/// The streams whose index, meta data or folder is damaged: what must not be lost, or may be and must not matter.
const STREAMS: [&str; 7] =
    ["EVENTS-", "COMMANDS", "VERDICTS", "KEYS", "KV_claims", "KV_partitions", "KV_leases"];

/// Whether the next damage is one to a page of Postgres.
pub fn is_page(random: &mut fastrand::Rng, kind: &str) -> bool {
    PAGE.starts_with(kind) && (!kind.is_empty() || random.u32(..PAGES) == 0)
}

/// Damages one place below a server's folder.
pub fn damage(store: &Path, random: &mut fastrand::Rng, kind: &str) -> Result<Harm> {
    let all = files(store)?;
    // A server that was killed has written no index: then it is another kind's turn.
    let (target, mut files) = (0..1000)
        .map(|_| pick(&all, store, random))
        .find(|(target, files)| target.starts_with(kind) && !files.is_empty())
        .with_context(|| format!("nothing to damage below {}", store.display()))?;
    let file = files.swap_remove(random.usize(..files.len()));
    let shown = file.strip_prefix(store).unwrap_or(&file).display().to_string();
    let heads = if is_of_events(&shown) { Heads::pick(random) } else { Heads::All };
    if target == "whole stream" {
        let folder = file.parent().context("a stream without a folder")?;
        std::fs::remove_dir_all(folder)?;
        let kind = heads.of(format!("{target}: {}", of_stream(&shown)));
        return Ok(Harm { kind, what: shown.replace("/meta.inf", ""), heads });
    }
    let length = std::fs::metadata(&file)?.len();
    let kind = match target {
        "index" | "stream meta" => format!("{target} of {}", of_stream(&shown)),
        _ => target.to_owned(),
    };
    let (how, at) = match random.u8(..4) {
        0 | 1 => ("bit", flip(&file, length, random)?),
        2 => ("truncated", truncate(&file, length, random)?),
        _ => {
            std::fs::remove_file(&file)?;
            ("removed", 0)
        }
    };
    let kind = heads.of(format!("{kind}, {how}"));
    Ok(Harm { kind, what: format!("{shown} at {at} of {length}"), heads })
}

/// A kind, and the files of that kind.
fn pick(all: &[PathBuf], store: &Path, random: &mut fastrand::Rng) -> (&'static str, Vec<PathBuf>) {
    let mut ticket = random.u32(..TARGETS.iter().map(|(_, weight)| weight).sum::<u32>());
    let mut target = TARGETS[0].0;
    for (name, weight) in TARGETS {
        target = name;
        if ticket < weight {
            break;
        }
        ticket -= weight;
    }
    let files: Vec<PathBuf> = all.iter().filter(|file| is_target(target, file, store)).cloned().collect();
    let is_block = target == "newest block" || target == "older block";
    (target, if is_block { blocks(files, target == "newest block") } else { files })
}

fn is_target(target: &str, file: &Path, store: &Path) -> bool {
    let path = file.strip_prefix(store).unwrap_or(file).to_string_lossy().into_owned();
    let is_of = |stream: &str| path.contains(&format!("/{stream}"));
    let events = is_of("EVENTS-");
    let watched = STREAMS.iter().any(|stream| is_of(stream));
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let consumer = path.contains("/obs/");
    let is_block = name.ends_with(".blk");
    match target {
        "newest block" | "older block" => is_block && events,
        "index" => watched && !consumer && name == "index.db",
        "stream meta" => watched && !consumer && (name == "meta.inf" || name == "meta.sum"),
        "consumer" => events && consumer,
        "snapshots" => is_block && is_of("SNAPSHOTS/msgs/"),
        "claims" => is_block && is_of("KV_claims/msgs/"),
        "verdicts" => is_block && is_of("VERDICTS/msgs/"),
        "keys" => is_block && is_of("KEYS/msgs/"),
        "inbox" => is_block && is_of("COMMANDS/msgs/"),
        "inbox's consumer" => is_of("COMMANDS/obs/"),
        "leases" => is_block && (is_of("KV_leases/msgs/") || is_of("KV_partitions/msgs/")),
        "inventory" => is_block && is_of("INVENTORY/msgs/"),
        _ => watched && !consumer && name == "meta.inf",
    }
}

/// Which stream a file belongs to, the streams of events being one.
fn of_stream(shown: &str) -> &str {
    let stream = shown.split('/').nth(1).unwrap_or(shown);
    if is_events_stream(stream) { "EVENTS" } else { stream }
}

/// Whether a damage to this file may be one to a history, or to what tells of one.
fn is_of_events(shown: &str) -> bool {
    ["EVENTS", INVENTORY, SNAPSHOTS].contains(&of_stream(shown))
}

/// The last block of each stream, or all the others.
fn blocks(files: Vec<PathBuf>, newest: bool) -> Vec<PathBuf> {
    let number = |file: &Path| -> u64 {
        file.file_stem().and_then(|stem| stem.to_str()?.parse().ok()).unwrap_or_default()
    };
    let last = |file: &Path| {
        let siblings = files.iter().filter(|other| other.parent() == file.parent());
        siblings.map(|other| number(other)).max().unwrap_or_default()
    };
    files.iter().filter(|file| (number(file) == last(file)) == newest).cloned().collect()
}

/// Flips a bit somewhere in a file, and answers where.
pub fn flip(file: &Path, length: u64, random: &mut fastrand::Rng) -> Result<u64> {
    let mut bytes = std::fs::read(file)?;
    let at = random.u64(..length.max(1));
    if let Some(byte) = usize::try_from(at).ok().and_then(|at| bytes.get_mut(at)) {
        *byte ^= 1 << random.u8(..8);
    }
    std::fs::write(file, bytes)?;
    Ok(at)
}

fn truncate(file: &Path, length: u64, random: &mut fastrand::Rng) -> Result<u64> {
    let at = random.u64(..length.max(1));
    std::fs::File::options().write(true).open(file)?.set_len(at)?;
    Ok(at)
}

fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let (mut folders, mut found) = (vec![dir.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    Ok(found)
}

/// Copies a folder; what belonged to another user still does.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    give(from, to)?;
    for entry in std::fs::read_dir(from)? {
        let (path, name) = {
            let entry = entry?;
            (entry.path(), entry.file_name())
        };
        if path.is_dir() {
            copy(&path, &to.join(name))?;
        } else {
            std::fs::copy(&path, to.join(&name))?;
            give(&path, &to.join(name))?;
        }
    }
    Ok(())
}

/// Gives a copy the owner and the rights of what it was copied from.
fn give(from: &Path, to: &Path) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let (theirs, own) = (std::fs::metadata(from)?, std::fs::metadata(to)?);
    if (theirs.uid(), theirs.gid()) != (own.uid(), own.gid()) {
        std::os::unix::fs::chown(to, Some(theirs.uid()), Some(theirs.gid()))?;
    }
    std::fs::set_permissions(to, theirs.permissions())?;
    Ok(())
}
