//! How much is in the streams whose messages nobody counts otherwise.
//!
//! - `VERDICTS`: each message is written once and ends by its age, so there is no hole between the first and the last.
//!   What is younger than two days cannot be gone from the front.
//! - the claims: each message is written once and stays, so what is missing of all that were written never grows.
//! - `COMMANDS` and `KEYS`: what is in them goes for good reasons; their last sequence never goes back.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wanwright_nats::claim::{Claims, Doubts, Whole};
use wanwright_nats::inventory::Said;
use wanwright_nats::topology::{CLAIMS, COMMANDS, KEYS, VERDICT_TIME, VERDICTS};
use wanwright_nats::{Nats, NatsError, StreamInfo, stream_info};
use wanwright_schemas::subjects;

use super::super::sweeper;
use super::super::verdict::now_millis;
use super::gate::{Doubt, accepted};
use super::record::Record;

/// How far apart in time the marks are that tell how old the sequences of a stream are, in milliseconds.
const MARKS: u64 = 6 * 60 * 60 * 1000;

/// What the server's and our clocks may differ by, and how late it may be in removing what is too old, in milliseconds.
const SKEW: u64 = 10 * 60 * 1000;

/// What is known of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// When it was created.
    stream: Timestamp,
    last: u64,
    messages: u64,
    /// How many between the first and the last are missing, of a stream that should have no hole: those are reported.
    #[serde(default)]
    holes: u64,
    /// Some sequences, the last one among them, and when each was stored, in milliseconds since 1970.
    marks: Vec<(u64, u64)>,
    /// Whether it kept all its messages by then, of the bucket of claims: older ones replaced them.
    #[serde(default)]
    kept: bool,
}

/// What is known of all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct All {
    v: u8,
    /// When the youngest id was minted that a verdict had, in milliseconds since 1970.
    #[serde(default)]
    minted: u64,
    /// Which verdicts may be lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    doubt: Option<Doubt>,
    /// Claims that somebody else has than the device that should: whether he may is in doubt until they were looked at again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    taken: Vec<String>,
    streams: BTreeMap<String, Facts>,
}

/// A stream that lacks something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in super::super) struct Lacking {
    stream: String,
    why: String,
}

impl Facts {
    /// What the stream is now, `said` being what it was.
    fn of(now: &StreamInfo, said: Option<&Self>, millis: u64) -> Self {
        let said = said.filter(|said| said.stream == now.incarnation && said.last <= now.last);
        let mut marks = said.map(|said| said.marks.clone()).unwrap_or_default();
        marks.retain(|(_, at)| at.saturating_add(VERDICT_TIME.as_secs() * 1000) > millis);
        if marks.last().is_none_or(|(sequence, _)| *sequence < now.last) && now.last > 0 {
            // The newest one is always there; those before it keep their distance.
            if let [.., (_, before), (_, newest)] = marks[..]
                && newest < before.saturating_add(MARKS)
            {
                marks.pop();
            }
            marks.push((now.last, now.last_millis));
        }
        // What is missing from the front is reported once.
        marks.retain(|(sequence, _)| now.messages > 0 && *sequence >= now.first);
        Self {
            stream: now.incarnation,
            last: now.last,
            messages: now.messages,
            holes: holes(now),
            marks,
            kept: true,
        }
    }

    /// What is gone, if anything is.
    fn lacking(&self, name: &str, now: &StreamInfo, millis: u64) -> Option<String> {
        let (was, is) = (self.last, now.last);
        if self.stream != now.incarnation {
            return Some(format!("it was made anew; it had {} messages up to {was}", self.messages));
        }
        if is < was {
            return Some(format!("it went back: its last message is {is}, and was {was}"));
        }
        if name == bucket_of_claims() && self.kept {
            let missing = now.last.saturating_sub(now.messages);
            let lost = missing.saturating_sub(was.saturating_sub(self.messages));
            return (lost > 0).then(|| format!("{lost} of its {} messages are gone", now.messages + lost));
        }
        if name != VERDICTS {
            return None;
        }
        let (first, messages) = (now.first, now.messages);
        if holes(now) > self.holes {
            return Some(format!("it has {messages} messages from {first} to {is}: some are missing"));
        }
        let young = VERDICT_TIME.as_secs() * 1000 - SKEW;
        let known = self.marks.iter().find(|(_, at)| at.saturating_add(young) > millis);
        let (there, _) = known.filter(|(sequence, _)| *sequence < first || messages == 0)?;
        Some(format!("it begins at {first}, and {there} is too young to be gone"))
    }
}

fn holes(now: &StreamInfo) -> u64 {
    if now.messages > 0 { (now.last + 1 - now.first).saturating_sub(now.messages) } else { 0 }
}

fn bucket_of_claims() -> String {
    format!("KV_{CLAIMS}")
}

/// The streams that are counted here.
fn compared() -> [String; 4] {
    [VERDICTS.to_owned(), bucket_of_claims(), COMMANDS.to_owned(), KEYS.to_owned()]
}

/// Whether a server's message is about a stream that is compared with what was known of it: that is the last part of its
/// subject.
pub(super) fn is_compared(subject: &str) -> bool {
    let stream = subject.rsplit('.').next().unwrap_or_default();
    subjects::is_events_stream(stream) || compared().iter().any(|name| name == stream)
}

/// What a look found.
#[derive(Debug)]
pub(super) struct Found {
    /// Which verdicts may be lost.
    pub(super) doubt: Option<Doubt>,
    /// How far KEYS goes.
    pub(super) keys: u64,
}

/// Which verdicts may be lost, as the command services wrote it down last; none when all are there or the losses are known.
///
/// # Errors
/// [`NatsError`], when the server cannot be asked.
pub async fn doubt(nats: &Nats) -> Result<Option<Doubt>, NatsError> {
    let said = Record::new(subjects::INVENTORY_OF_STREAMS).read::<All>(nats).await?.1;
    let doubt = said.known().and_then(|said| Doubt::after(said.doubt, false, now_millis(), 0));
    Ok(match doubt {
        Some(doubt) => doubt.accepted(accepted(nats).await?),
        None => None,
    })
}

/// Looks whether anything is gone, reports that, and writes down what there is. Claims that are gone are given
/// back to the devices that have them; as long as that fails they are found to be gone again; so are they where one
/// `are_doubtful`. `minted` is the youngest id of a verdict that is known here. `doubt` is called where something lacks that
/// another server may still bring.
///
/// # Errors
/// [`NatsError`], when the server cannot be asked.
pub(super) async fn look(
    nats: &Nats,
    (claims, are_doubtful): (&Claims, bool),
    record: &Record,
    minted: u64,
    doubt: impl Fn(),
) -> Result<Found, NatsError> {
    // Before they are looked after: one that comes later is looked after the next time.
    let doubts = claims.doubts();
    // Before the streams are asked: what is written down is never newer than what they answer.
    let said = record.read::<All>(nats).await?.1;
    let is_unreadable = matches!(said, Said::Unreadable(_));
    let said = said.known().unwrap_or_default();
    let (millis, minted) = (now_millis(), minted.max(said.minted));
    let (mut keys, mut of_claims) = (0, Whole { missing: 0, last: 0 });
    let mut now = All { v: super::VERSION, minted, ..All::default() };
    let mut lacking = Vec::new();
    for name in compared() {
        let was = said.streams.get(&name);
        let lacks = |info: &StreamInfo| was.is_some_and(|was| was.lacking(&name, info, millis).is_some());
        let info = stream_info(&nats.js, &name).await?;
        if info.replicas > 1 && lacks(&info) {
            doubt();
        }
        let info = super::settled(nats, info, lacks).await?;
        if name == KEYS {
            keys = info.last;
        }
        if name == bucket_of_claims() {
            of_claims = Whole { missing: info.last.saturating_sub(info.messages), last: info.last };
        }
        if let Some(why) = was.and_then(|was| was.lacking(&name, &info, millis)) {
            lacking.push(Lacking { stream: name.clone(), why });
        }
        now.streams.insert(name, Facts::of(&info, was, millis));
    }
    if are_doubtful && !lacking.iter().any(|lacking| lacking.stream == bucket_of_claims()) {
        let why = "a claim that is there cannot be read".to_owned();
        lacking.push(Lacking { stream: bucket_of_claims(), why });
    }
    let lacks = |name: &str| lacking.iter().any(|lacking| lacking.stream == name);
    // Where nobody can say what was there, anything may be lost.
    now.doubt = Doubt::after(said.doubt, is_unreadable || lacks(VERDICTS), millis, minted);
    if let Some(doubt) = now.doubt {
        now.doubt = doubt.accepted(accepted(nats).await?);
    }
    for lacking in &lacking {
        super::report(nats, "stream", &format!("{}: {}", lacking.stream, lacking.why), lacking).await?;
    }
    let mut looked_after = Doubts::default();
    now.taken = said.taken.clone();
    if lacks(&bucket_of_claims()) {
        let all = sweeper::restore_all(nats, claims).await?;
        if !all.is_partial {
            looked_after = doubts;
        }
        now.taken = all.taken;
    }
    if now != said {
        record.write(nats, &now).await?;
    }
    claims.note_known(of_claims, &looked_after, &now.taken);
    Ok(Found { doubt: now.doubt, keys })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::spoilt::spoilt;

    const PIECES: [&str; 4] = [r#""last":18446744073709551615,"#, "[", "null", r#""holes":7,"#];

    /// A record as it is stored.
    fn written() -> Vec<u8> {
        let facts = Facts::of(&info(1, 100, 100), None, 10 * DAY);
        let streams = compared().into_iter().map(|name| (name, facts.clone())).collect();
        serde_json::to_vec(&All { v: 1, minted: DAY, doubt: None, taken: Vec::new(), streams }).expect("JSON")
    }

    const DAY: u64 = 24 * 60 * 60 * 1000;

    fn info(first: u64, last: u64, messages: u64) -> StreamInfo {
        let incarnation = Timestamp::UNIX_EPOCH;
        StreamInfo {
            name: String::new(),
            incarnation,
            first,
            last,
            last_millis: 10 * DAY,
            messages,
            replicas: 1,
        }
    }

    #[test]
    fn verdicts_are_missed_wherever_they_were() {
        let said = Facts::of(&info(1, 100, 100), None, 10 * DAY);
        let lacking = |now: StreamInfo, millis| said.lacking(VERDICTS, &now, millis);
        let soon = 10 * DAY + 1000;
        assert_eq!(lacking(info(1, 100, 100), soon), None);
        assert_eq!(lacking(info(40, 120, 81), soon), None, "the older ones may have come to their age");
        assert!(lacking(info(1, 120, 119), soon).is_some_and(|why| why.contains("some are missing")));
        assert!(lacking(info(1, 99, 99), soon).is_some_and(|why| why.contains("went back")));
        assert!(lacking(info(101, 120, 20), soon).is_some_and(|why| why.contains("too young")));
        assert!(lacking(info(101, 100, 0), soon).is_some_and(|why| why.contains("too young")));
        assert_eq!(lacking(info(101, 100, 0), 12 * DAY), None, "all came to their age");
        // Each hole is reported once.
        let damaged = Facts::of(&info(1, 120, 119), Some(&said), soon);
        assert_eq!(damaged.lacking(VERDICTS, &info(1, 140, 139), soon), None);
        assert_eq!(damaged.lacking(VERDICTS, &info(60, 140, 81), soon), None);
        assert!(damaged.lacking(VERDICTS, &info(1, 140, 138), soon).is_some());
        let damaged = Facts::of(&info(101, 120, 20), Some(&said), soon);
        assert_eq!(damaged.lacking(VERDICTS, &info(101, 140, 40), soon), None);
        // What was the last one some time ago tells where the front may be.
        let at = |last, last_millis| StreamInfo { last_millis, ..info(1, last, last) };
        let later = Facts::of(&at(200, 10 * DAY + 1), Some(&said), soon);
        let later = Facts::of(&at(300, 11 * DAY), Some(&later), 11 * DAY);
        assert_eq!(later.marks, [(100, 10 * DAY), (300, 11 * DAY)]);
        assert!(later.lacking(VERDICTS, &info(200, 300, 101), 11 * DAY).is_some());
        assert_eq!(later.lacking(VERDICTS, &info(200, 300, 101), 12 * DAY), None);
    }

    #[test]
    fn no_claim_is_ever_gone_and_no_stream_goes_back() {
        let said = Facts::of(&info(1, 100, 60), None, 10 * DAY);
        let claims = |said: &Facts, now: &StreamInfo| said.lacking(&bucket_of_claims(), now, DAY);
        assert_eq!(claims(&said, &info(1, 120, 80)), None);
        assert!(claims(&said, &info(1, 120, 79)).is_some(), "more than there were, and one is gone");
        assert!(claims(&said, &info(30, 100, 59)).is_some());
        let replacing = Facts { kept: false, ..said.clone() };
        assert_eq!(claims(&replacing, &info(1, 120, 60)), None);
        for name in [COMMANDS, KEYS] {
            assert_eq!(said.lacking(name, &info(100, 100, 0), DAY), None);
            assert!(said.lacking(name, &info(1, 99, 99), DAY).is_some());
        }
        let other = StreamInfo { incarnation: Timestamp::MAX, ..info(1, 200, 200) };
        assert!(said.lacking(KEYS, &other, DAY).is_some_and(|why| why.contains("anew")));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever is stored as a record of the streams, it is none or can be compared with what there is.
        #[test]
        fn hostile_records(
            spoilt in spoilt(written(), &PIECES),
            any in prop::collection::vec(any::<u8>(), 0..200),
            numbers in prop::array::uniform5(prop_oneof![any::<u64>(), Just(u64::MAX)]),
            millis in any::<u64>(),
        ) {
            let [last, messages, holes, at, until] = numbers;
            let facts = Facts { stream: Timestamp::UNIX_EPOCH, last, messages, holes, marks: vec![(last / 2, at), (last, until)], kept: last % 2 == 0 };
            let streams = compared().into_iter().map(|name| (name, facts.clone())).collect();
            let doubt = serde_json::from_value(json!({ "found": at, "until": until })).expect("a doubt");
            let odd = serde_json::to_vec(&All { v: 1, minted: at, doubt: Some(doubt), taken: Vec::new(), streams }).expect("JSON");
            for bytes in [spoilt, any, odd] {
                let Ok(all) = serde_json::from_slice::<All>(&bytes) else { continue };
                prop_assert_eq!(serde_json::from_slice::<All>(&serde_json::to_vec(&all).expect("JSON")).expect("again"), all.clone());
                let doubt = Doubt::after(all.doubt, false, millis, all.minted);
                prop_assert!(doubt.is_none_or(|doubt| doubt.until() >= Timestamp::UNIX_EPOCH));
                for (name, facts) in &all.streams {
                    let now = info(1, facts.last.min(u64::MAX - 1), facts.messages);
                    let _ = facts.lacking(name, &now, millis);
                    let next = Facts::of(&now, Some(facts), millis);
                    prop_assert_eq!((next.last, next.messages), (now.last, now.messages));
                }
            }
        }
    }
}
