//! Which durable commands of a partition wait.
//!
//! Whoever holds the partition writes down which sequences were delivered to it and are not handled, and how far it has
//! seen. A command is acknowledged, which removes it, only after a record without it is stored. So a sequence that the
//! record says is waiting and that the inbox does not deliver any more was not handled by anybody: it is lost.
//!
//! What this cannot tell: a command that was stored while nobody served the partition, or moments before the damage, and
//! was never delivered. Its sender has the answer of the stream that it was stored, and finds no outcome.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::Instant;
use wanwright_nats::{Nats, NatsError, StreamInfo};
use wanwright_schemas::subjects;

use super::record::Record;

/// How long after a change it is written down, at least: what changes meanwhile is in the same record. As it is synced,
/// shorter would cost the commands themselves; longer would make more of them repeats when a service dies.
const PAUSE: Duration = Duration::from_millis(100);

/// How many sequences make that a millisecond longer.
const SLOWER: u64 = 100;

/// How many lost sequences a report lists.
const LISTED: usize = 1000;

/// What is written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waits {
    v: u8,
    /// Which COMMANDS this is about: when it was created.
    stream: Timestamp,
    /// The highest sequence that was delivered.
    seen: u64,
    /// When that one was stored, in milliseconds since 1970: what is stored later has a higher sequence.
    seen_millis: u64,
    /// What was delivered and is not handled: the first sequence, then the distance of each to the one before.
    waiting: Vec<u64>,
}

impl Waits {
    /// The sequences that were delivered and not handled.
    pub fn sequences(&self) -> impl Iterator<Item = u64> + '_ {
        self.waiting.iter().scan(0, |last, distance| {
            *last = u64::saturating_add(*last, *distance);
            Some(*last)
        })
    }
}

/// A command that is handled and may be acknowledged when that is written down.
#[derive(Debug)]
pub(in super::super) struct Handled {
    pub(in super::super) sequence: u64,
    /// Where it is acknowledged.
    pub(in super::super) reply: Box<str>,
}

/// A record on its way.
#[derive(Debug)]
pub(in super::super) struct Draft {
    waits: Waits,
    handled: Vec<Handled>,
    missing: Vec<u64>,
}

/// What is known of a partition's inbox.
#[derive(Debug)]
pub(in super::super) struct Book {
    record: Record,
    /// The newest record that is known.
    newest: u64,
    stream: Timestamp,
    /// How far was seen, and when that was stored, according to the record that was found.
    said: (u64, u64),
    seen: (u64, u64),
    /// What that record says is waiting and was not delivered yet.
    expected: VecDeque<u64>,
    held: BTreeSet<u64>,
    handled: Vec<Handled>,
    missing: Vec<u64>,
    due: Option<Instant>,
}

impl Book {
    /// Opens it beside an inbox that was just opened, and in which so many commands of the partition are. Those that were
    /// buried since the last record are not missed.
    ///
    /// # Errors
    /// [`NatsError`], when the record cannot be asked for.
    pub(in super::super) async fn open(
        nats: &Nats,
        partition: u16,
        inbox: &StreamInfo,
        pending: u64,
        buried: &[u64],
    ) -> Result<Self, NatsError> {
        let record = Record::new(&subjects::inventory_of_inbox(partition));
        let (newest, said) = record.read(nats).await?;
        let said: Option<Waits> = said.known();
        let ends_early = |inbox: &StreamInfo| {
            let said = said.as_ref().filter(|said| said.stream == inbox.incarnation);
            said.is_some_and(|said| said.seen.max(said.sequences().last().unwrap_or(0)) > inbox.last)
        };
        let inbox = super::settled(nats, inbox.clone(), ends_early).await?;
        let mut book = Self::compare(record, newest, said, &inbox);
        book.expected.retain(|sequence| !buried.contains(sequence));
        if pending == 0 {
            book.caught_up();
        }
        Ok(book)
    }

    fn compare(record: Record, newest: u64, said: Option<Waits>, inbox: &StreamInfo) -> Self {
        let stream = inbox.incarnation;
        let mut expected: VecDeque<u64> = said.iter().flat_map(Waits::sequences).collect();
        let said = said.filter(|said| said.stream == stream).map(|said| (said.seen, said.seen_millis));
        // What the stream says it never had, or another stream had.
        let end = if said.is_some() { inbox.last } else { 0 };
        let missing = expected.split_off(expected.partition_point(|sequence| *sequence <= end));
        let said = said.unwrap_or_default();
        let mut book = Self {
            record,
            newest,
            stream,
            said,
            seen: if said.0 <= end { said } else { (0, 0) },
            expected,
            held: BTreeSet::new(),
            handled: Vec::new(),
            missing: missing.into(),
            due: None,
        };
        if !book.missing.is_empty() {
            book.change();
        }
        book
    }

    /// Whether nothing is lost that was not reported yet. Until then nothing more of the inbox is decided: it may be behind
    /// what is lost.
    pub(in super::super) fn is_checked(&self) -> bool {
        self.expected.is_empty() && self.missing.is_empty()
    }

    /// What should have been delivered by now, the first so many.
    pub(in super::super) fn awaited(&self, most: usize) -> Vec<u64> {
        self.expected.iter().copied().take(most).collect()
    }

    /// These are not delivered, because they are not there.
    pub(in super::super) fn are_missing(&mut self, sequences: &[u64]) {
        self.expected.retain(|sequence| !sequences.contains(sequence));
        self.missing.extend(sequences);
        self.change();
    }

    /// Notes what was delivered, and misses what should have come before.
    pub(in super::super) fn delivered(&mut self, sequence: u64, millis: u64, pending: u64) {
        while let Some(first) = self.expected.pop_front_if(|first| *first <= sequence) {
            // A sequence that was given out again is another command's.
            let is_this = first == sequence && millis <= self.said.1;
            if !is_this {
                self.missing.push(first);
            }
        }
        self.held.insert(sequence);
        self.seen = self.seen.max((sequence, millis));
        if pending == 0 {
            self.caught_up();
        }
        self.change();
    }

    /// Everything there is was delivered.
    fn caught_up(&mut self) {
        if !self.expected.is_empty() {
            self.missing.extend(std::mem::take(&mut self.expected));
            self.change();
        }
    }

    /// A delivered command is gone from the inbox.
    pub(in super::super) fn is_gone(&mut self, sequence: u64) {
        if self.held.remove(&sequence) {
            self.missing.push(sequence);
            self.change();
        }
    }

    /// A delivered command was buried, because it cannot be read.
    pub(in super::super) fn is_buried(&mut self, sequence: u64) {
        self.held.remove(&sequence);
        self.change();
    }

    /// Notes that a command is handled.
    pub(in super::super) fn handled(&mut self, handled: Handled) {
        self.held.remove(&handled.sequence);
        self.handled.push(handled);
        self.change();
    }

    fn change(&mut self) {
        if !self.missing.is_empty() {
            // Others wait until it is reported.
            self.due = Some(Instant::now());
        }
        let waiting = self.held.len() + self.expected.len();
        let slower = Duration::from_millis(waiting as u64 / SLOWER);
        self.due.get_or_insert_with(|| Instant::now() + PAUSE + slower);
    }

    /// When the next record is to be written.
    pub(in super::super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// What is to be written down now. What is missing stays in the record until it is reported.
    pub(in super::super) fn draft(&mut self) -> Draft {
        self.due = None;
        let mut sequences: BTreeSet<u64> = self.held.iter().copied().collect();
        sequences.extend(self.expected.iter().chain(&self.missing));
        let mut last = 0;
        let waiting = sequences.into_iter().map(|sequence| sequence - std::mem::replace(&mut last, sequence));
        let waits = Waits {
            v: super::VERSION,
            stream: self.stream,
            seen: self.seen.0,
            seen_millis: self.seen.1,
            waiting: waiting.collect(),
        };
        Draft { waits, handled: std::mem::take(&mut self.handled), missing: self.missing.clone() }
    }

    /// Where the record goes, and the newest one that is known.
    pub(in super::super) fn place(&self) -> (Record, u64) {
        (self.record.clone(), self.newest)
    }

    /// The record is stored, and what was missing is reported.
    pub(in super::super) fn written(&mut self, sequence: u64, reported: &[u64]) {
        self.newest = sequence;
        if !reported.is_empty() {
            self.missing.retain(|sequence| !reported.contains(sequence));
            self.change();
        }
    }
}

/// What a stored record allows.
#[derive(Debug)]
pub(in super::super) struct Written {
    pub(in super::super) sequence: u64,
    /// What may be acknowledged.
    pub(in super::super) handled: Vec<Handled>,
    /// What was reported as lost.
    pub(in super::super) reported: Vec<u64>,
}

impl Draft {
    /// Stores the record, and reports what is missing unless somebody else may have handled it: whoever held the
    /// partition before has written a record then, before the command was acknowledged.
    ///
    /// # Errors
    /// [`NatsError`]; then nothing may be acknowledged.
    pub(in super::super) async fn write(
        self,
        nats: &Nats,
        (record, newest): (Record, u64),
    ) -> Result<Written, NatsError> {
        if !self.missing.is_empty() && record.read::<IgnoredAny>(nats).await?.0 > newest {
            let doing = "comparing the inbox with what should be in it";
            return Err(NatsError::failed(doing)("somebody else held the partition meanwhile"));
        }
        let sequence = record.write(nats, &self.waits).await?;
        if !self.missing.is_empty() {
            let lost = self.missing.len();
            let why = format!(
                "{lost} durable commands are gone from the inbox, and nothing says that they were handled"
            );
            let some = &self.missing[..lost.min(LISTED)];
            super::report(
                nats,
                "inbox",
                &why,
                &json!({ "stream": "COMMANDS", "lost": lost, "sequences": some }),
            )
            .await?;
        }
        Ok(Written { sequence, handled: self.handled, reported: self.missing })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::spoilt::spoilt;

    const PIECES: [&str; 4] = ["18446744073709551615,", "[", "null", r#""seen":7,"#];

    fn info(created: i64, last: u64) -> StreamInfo {
        let incarnation = Timestamp::from_second(created).expect("a time");
        StreamInfo {
            replicas: 1,
            name: "COMMANDS".to_owned(),
            incarnation,
            first: 1,
            last,
            last_millis: last,
            messages: last,
        }
    }

    fn record() -> Record {
        Record::new("wan.inventory.inbox.0")
    }

    /// A record that says that these wait, as a holder wrote it who had seen 1 to 20, stored at 1 to 20.
    fn said(waiting: &[u64]) -> Waits {
        let mut book = Book::compare(record(), 0, None, &info(1, 20));
        (1..=20).for_each(|sequence| book.delivered(sequence, sequence, 20 - sequence));
        let handled = (1..=20).filter(|sequence| !waiting.contains(sequence));
        handled.for_each(|sequence| book.handled(Handled { sequence, reply: "".into() }));
        let draft = book.draft();
        assert_eq!(draft.handled.len(), 20 - waiting.len());
        assert!(draft.missing.is_empty());
        draft.waits
    }

    fn missing(said: &Waits, inbox: &StreamInfo, delivered: &[(u64, u64)]) -> Vec<u64> {
        let mut book = Book::compare(record(), 0, Some(said.clone()), inbox);
        for (at, (sequence, millis)) in delivered.iter().enumerate() {
            book.delivered(*sequence, *millis, (delivered.len() - 1 - at) as u64);
        }
        if delivered.is_empty() {
            book.caught_up();
        }
        let mut missing = book.draft().missing;
        missing.sort_unstable();
        missing
    }

    #[test]
    fn what_waits_and_does_not_come_is_missing() {
        let said = said(&[3, 7, 8, 19]);
        assert_eq!(said.sequences().collect::<Vec<_>>(), [3, 7, 8, 19]);
        let same = info(1, 30);
        assert!(missing(&said, &same, &[(3, 3), (7, 7), (8, 8), (19, 19), (21, 21)]).is_empty());
        // One that was handled and whose acknowledgement did not arrive comes again, and is none too many.
        assert!(missing(&said, &same, &[(2, 2), (3, 3), (7, 7), (8, 8), (19, 19)]).is_empty());
        assert_eq!(missing(&said, &same, &[(3, 3), (8, 8), (21, 21)]), [7, 19]);
        assert_eq!(missing(&said, &same, &[]), [3, 7, 8, 19]);
    }

    #[test]
    fn sequences_that_are_given_out_again_hide_nothing() {
        let said = said(&[3, 7, 19]);
        assert_eq!(missing(&said, &info(1, 7), &[(3, 3), (7, 7)]), [19]);
        // Before anybody looked as many commands were stored again.
        assert_eq!(missing(&said, &info(1, 40), &[(3, 3), (7, 7), (19, 900), (20, 901)]), [19]);
        // A stream that was made anew.
        assert_eq!(missing(&said, &info(2, 40), &[(3, 900), (7, 901)]), [3, 7, 19]);
    }

    #[test]
    fn what_is_missing_is_said_until_it_is_reported() {
        let mut book = Book::compare(record(), 5, Some(said(&[3, 7])), &info(1, 30));
        book.delivered(7, 7, 0);
        let draft = book.draft();
        assert_eq!((draft.waits.sequences().collect::<Vec<_>>(), &*draft.missing), (vec![3, 7], &[3][..]));
        book.written(6, &[3]);
        let draft = book.draft();
        assert_eq!((draft.waits.sequences().collect::<Vec<_>>(), draft.missing.len()), (vec![7], 0));
        book.is_gone(7);
        assert_eq!(book.draft().missing, [7]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever is stored as a record of what waits, it is none or is written down again as it was understood.
        #[test]
        fn hostile_records(
            spoilt in spoilt(br#"{"v":1,"stream":"1970-01-01T00:00:07Z","seen":9,"seen_millis":9,"waiting":[3,2,1]}"#.to_vec(), &PIECES),
            any in prop::collection::vec(any::<u8>(), 0..200),
            waiting in prop::collection::vec(any::<u64>(), 0..5),
            seen in any::<(u64, u64)>(),
            last in any::<u64>(),
        ) {
            let stream = Timestamp::from_second(7).expect("a time");
            let odd = Waits { v: 1, stream, seen: seen.0, seen_millis: seen.1, waiting };
            for bytes in [spoilt, any, serde_json::to_vec(&odd).expect("JSON")] {
                let Ok(waits) = serde_json::from_slice::<Waits>(&bytes) else { continue };
                let said: BTreeSet<u64> = waits.sequences().collect();
                let mut book = Book::compare(record(), 1, Some(waits), &info(7, last));
                let again: BTreeSet<u64> = book.draft().waits.sequences().collect();
                prop_assert_eq!(again, said, "nothing that waits is forgotten");
                book.delivered(last, last, 0);
                prop_assert!(book.expected.is_empty());
            }
        }
    }
}
