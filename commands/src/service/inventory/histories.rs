//! Up to where the streams of events were seen. A signed head says the same, but it is written by the projections and
//! kept in a folder: where they have not run for a while, or a service has no such folder, only this record tells that the
//! newest block of a stream is gone.
//!
//! The streams are compared with it over every new connection and under every new leader. One that ends earlier, or has
//! another message there, is not decided on until it is as it was, or an administrator says that the loss is known.

use std::collections::{BTreeMap, BTreeSet};

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::GetStreamErrorKind;
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use serde_json::json;
use wanwright_nats::evidence::check;
use wanwright_nats::inventory::{End, Ends, lacks};
use wanwright_nats::{Nats, NatsError, Snapshots, stream_info};
use wanwright_schemas::{Digest, subjects};

use super::super::seen::Seen;
use super::super::verdict::now_millis;
use super::gate::{accepted, moment};
use super::record::Record;

/// How many streams are asked about at once.
const AT_ONCE: usize = 8;

/// Takes in how far a process has seen. What is lost stays so.
fn see(known: &mut Ends, seen: &BTreeMap<u16, (u64, Digest)>) {
    for (partition, (sequence, body)) in seen {
        let is_older = |end: &End| end.lost.is_none() && end.sequence < *sequence;
        if known.ends.get(partition).is_none_or(is_older) {
            known.ends.insert(*partition, End { sequence: *sequence, body: *body, lost: None });
        }
    }
}

/// A stream of events that lost what was seen of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostHistory {
    /// The stream.
    pub stream: String,
    /// The message that it had.
    pub sequence: u64,
    /// When that was found.
    pub found: Timestamp,
}

/// The streams of events that are not decided on, because they lost something and nobody said that this is known.
///
/// # Errors
/// [`NatsError`], when the server cannot be asked.
pub async fn lost_histories(nats: &Nats) -> Result<Vec<LostHistory>, NatsError> {
    let said = Record::new(subjects::INVENTORY_OF_HISTORIES).read::<Ends>(nats).await?.1;
    let accepted = accepted(nats).await?;
    let lost = said.known().unwrap_or_default().ends.into_iter().filter_map(|(partition, end)| {
        let found = end.lost.filter(|found| *found > accepted)?;
        let stream = subjects::events_stream(partition);
        Some(LostHistory { stream, sequence: end.sequence, found: moment(found) })
    });
    Ok(lost.collect())
}

/// What was written down and compared last.
#[derive(Debug, Default)]
pub(super) struct Compared {
    seen: BTreeMap<u16, (u64, Digest)>,
    /// A stream lacks something, or could not be compared.
    is_open: bool,
}

/// Writes down how far this process has seen the streams; and compares all of them with what anybody wrote down, where they
/// may come from elsewhere than before.
///
/// # Errors
/// [`NatsError`], when the server cannot be asked.
pub(super) async fn look(
    nats: &Nats,
    record: &Record,
    seen: &Seen,
    compared: &mut Compared,
    is_anew: bool,
) -> Result<(), NatsError> {
    let is_anew = is_anew || compared.is_open;
    if !is_anew && compared.seen == seen.ends() {
        return Ok(());
    }
    let said = record.read::<Ends>(nats).await?.1.known().unwrap_or_default();
    for partition in seen.lacking() {
        let end = said.ends.get(&partition);
        if end.is_none_or(|end| end.lost.is_none()) {
            // Another process has heard that the loss is known.
            seen.begin_again((partition, nats.partitions), end.map(|end| (end.sequence, end.body)));
        }
    }
    let here = seen.ends();
    let mut now = Ends { v: super::VERSION, ..said.clone() };
    see(&mut now, &here);
    if is_anew {
        compared.is_open = compare(nats, seen, &mut now).await?;
    }
    if now != said {
        record.write(nats, &now).await?;
    }
    compared.seen = here;
    Ok(())
}

/// Compares all streams with what is known of them, and tells whoever decides; answers whether that has to be done again.
async fn compare(nats: &Nats, seen: &Seen, now: &mut Ends) -> Result<bool, NatsError> {
    let is_lost = now.ends.values().any(|end| end.lost.is_some());
    let accepted = if is_lost { accepted(nats).await? } else { 0 };
    let looks = futures::stream::iter(now.ends.clone()).map(|(partition, end)| async move {
        let state = state(nats, partition, &end, accepted).await?;
        Ok::<_, NatsError>((partition, end, state))
    });
    let states: Vec<_> = looks.buffered(AT_ONCE).try_collect().await?;
    let (mut lost, mut is_open) = (BTreeSet::new(), false);
    for (partition, end, state) in states {
        match state {
            State::There if end.lost.is_some() => {
                now.ends.insert(partition, End { lost: None, ..end });
            }
            State::There => {}
            State::Away => is_open = true,
            State::Known(present) => {
                Snapshots::new(nats.clone()).forget(partition).await?;
                seen.begin_again((partition, nats.partitions), present);
                match present {
                    Some((sequence, body)) => now.ends.insert(partition, End { sequence, body, lost: None }),
                    None => now.ends.remove(&partition),
                };
            }
            State::Lost(why) => {
                is_open = true;
                lost.insert(partition);
                if end.lost.is_none() {
                    let stream = subjects::events_stream(partition);
                    let gone = json!({ "stream": stream, "sequence": end.sequence });
                    super::report(nats, "stream", &format!("{stream}: {why}"), &gone).await?;
                    now.ends.insert(partition, End { lost: Some(now_millis()), ..end });
                }
            }
        }
    }
    seen.lack(lost);
    Ok(is_open)
}

/// How a stream is, compared with what is known of it.
enum State {
    There,
    /// It is not there at all: nothing can be decided on it, and nothing lost.
    Away,
    Lost(String),
    /// Somebody said that the loss is known: this is its last message now.
    Known(Option<(u64, Digest)>),
}

async fn state(nats: &Nats, partition: u16, end: &End, accepted: u64) -> Result<State, NatsError> {
    let name = subjects::events_stream(partition);
    match nats.js.get_stream(&name).await {
        Ok(_) => {}
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(cause) if cause.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                return Ok(State::Away);
            }
            _ => return Err(NatsError::failed(format!("asking about stream {name}"))(error)),
        },
    }
    let Some(why) = lacks(nats, &name, end).await? else { return Ok(State::There) };
    if end.lost.is_none_or(|found| found > accepted) {
        return Ok(State::Lost(why));
    }
    let last = check::message(nats, &name, stream_info(&nats.js, &name).await?.last).await?;
    Ok(State::Known(last.map(|message| (message.sequence, Digest::of(&message.payload)))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_furthest_that_anybody_saw_is_known_and_what_is_lost_stays_so() {
        let (one, other) = (Digest::of(b"one"), Digest::of(b"other"));
        let mut all = Ends::default();
        see(&mut all, &BTreeMap::from([(1, (7, one)), (2, (3, one))]));
        see(&mut all, &BTreeMap::from([(1, (5, other)), (2, (4, other))]));
        let ends = |all: &Ends| all.ends.values().map(|end| (end.sequence, end.body)).collect::<Vec<_>>();
        assert_eq!(ends(&all), [(7, one), (4, other)]);
        all.ends.values_mut().for_each(|end| end.lost = Some(1));
        see(&mut all, &BTreeMap::from([(1, (9, other))]));
        assert_eq!(ends(&all), [(7, one), (4, other)]);
        let text = serde_json::to_vec(&all).expect("JSON");
        assert_eq!(serde_json::from_slice::<Ends>(&text).expect("a record"), all);
    }
}
