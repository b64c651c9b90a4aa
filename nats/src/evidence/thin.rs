//! Which heads are kept: a head vouches for everything before it, so older ones only tell more exactly where a stream
//! stopped being what it was.
//!
//! All heads of the last day are kept, then the last one of each hour for a month, then the last one of each day; and
//! always the first and the newest of a stream. A head that is not signed with the own key is no business of ours: it
//! stays for whoever looks.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use jiff::{SignedDuration, Timestamp};

use super::folder::{Folder, FolderError};
use super::head::SignedHead;
use super::key::PublicKey;

/// The length of an hour and of a day, in seconds.
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// From when on which heads are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ages {
    /// Since this full hour (UTC), all.
    pub all: Timestamp,
    /// Since this full day (UTC), one an hour; before it, one a day.
    pub hourly: Timestamp,
}

/// An hour or a day of which one head is kept: how long it is, and when it began, in seconds since 1970.
type Slot = (i64, i64);

fn floor(time: Timestamp, seconds: i64) -> i64 {
    time.as_second().div_euclid(seconds) * seconds
}

impl Ages {
    /// What is kept at this time.
    pub fn at(now: Timestamp) -> Self {
        let since = |ago: i64, unit: i64| {
            let then = now.saturating_sub(SignedDuration::from_secs(ago)).unwrap_or(Timestamp::MIN);
            Timestamp::from_second(floor(then, unit)).unwrap_or(Timestamp::MIN)
        };
        Self { all: since(DAY, HOUR), hourly: since(30 * DAY, DAY) }
    }

    /// The slot of a head that was signed at this time; none when it is kept whatever else there is.
    fn slot(&self, time: Timestamp) -> Option<Slot> {
        let unit = if time >= self.hourly { HOUR } else { DAY };
        (time < self.all).then(|| (unit, floor(time, unit)))
    }
}

/// The heads of a file, by the numbers of their lines.
#[derive(Default)]
struct Lines {
    /// The first and the newest one of each incarnation of the stream: sequence and line.
    ends: HashMap<Timestamp, [(u64, usize); 2]>,
    /// The last one of each slot.
    slots: BTreeMap<(Timestamp, Slot), (u64, usize)>,
    /// How many have a slot.
    old: usize,
    /// The line that was written last.
    last: usize,
}

impl Lines {
    fn add(&mut self, line: usize, head: &SignedHead, ages: &Ages) {
        let here = (head.sequence, line);
        let [first, newest] = self.ends.entry(head.incarnation).or_insert([here; 2]);
        *first = (*first).min(here);
        *newest = (*newest).max(here);
        self.last = line;
        if let Some(slot) = ages.slot(head.time) {
            self.old += 1;
            let kept = self.slots.entry((head.incarnation, slot)).or_insert(here);
            *kept = (*kept).max(here);
        }
    }

    fn kept(&self) -> HashSet<usize> {
        let ends = self.ends.values().flatten();
        ends.chain(self.slots.values()).map(|(_, line)| *line).chain([self.last]).collect()
    }
}

impl Folder {
    /// Leaves the heads of a stream out that are not kept any more, and answers how many those were. Nobody else may
    /// append meanwhile; readers see the file as it was or as it is then.
    ///
    /// # Errors
    /// [`FolderError`]; the file is as it was.
    pub fn thin(&self, stream: &str, key: &PublicKey, ages: &Ages) -> Result<u64, FolderError> {
        let path = self.file(stream);
        match thin(&path, key, ages) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            done => done.map_err(|source| FolderError::File { path, source }),
        }
    }
}

fn thin(path: &Path, key: &PublicKey, ages: &Ages) -> io::Result<u64> {
    let mut lines = Lines::default();
    let mut number = 0;
    each(path, |line| {
        if let Ok(head) = serde_json::from_slice(line) {
            lines.add(number, &head, ages);
        }
        number += 1;
        Ok(())
    })?;
    let kept = lines.kept();
    if lines.old <= lines.slots.len() {
        return Ok(0);
    }
    let beside = path.with_extension("jsonl.new");
    let mut file = BufWriter::with_capacity(1 << 20, File::create(&beside)?);
    let (mut number, mut gone) = (0, 0);
    each(path, |line| {
        let goes = !kept.contains(&number)
            && serde_json::from_slice(line)
                .is_ok_and(|head: SignedHead| ages.slot(head.time).is_some() && head.is_signed_by(key));
        number += 1;
        gone += u64::from(goes);
        if goes { Ok(()) } else { file.write_all(line) }
    })?;
    file.flush()?;
    file.get_ref().sync_all()?;
    std::fs::rename(&beside, path)?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())?;
    Ok(gone)
}

/// Goes through the lines of a file, each with its end.
fn each(path: &Path, mut line: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut file = BufReader::with_capacity(1 << 20, File::open(path)?);
    let mut bytes = Vec::new();
    while file.read_until(b'\n', &mut bytes)? > 0 {
        line(&bytes)?;
        bytes.clear();
    }
    Ok(())
}
