//! The verdict of a race: the history, decided once more from its beginning, one command after the other; by rules that
//! share nothing with what decides; and beside the clock of those who raced.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;
use wanwright_commands::{Circumstances, Head, decide};
use wanwright_nats::{History, Nats};
use wanwright_schemas::Event;
use wanwright_schemas::ids::{CommandId, CustomerId};
use wanwright_vendors::Catalogue;

use super::writer::Record;
use super::{mix, rules};

/// What was found; ids of commands, where nothing else is said.
#[derive(Debug, Default, Serialize)]
pub struct Verdict {
    /// How many messages the history has.
    pub messages: usize,
    /// Accepted, and not where it was said to be.
    pub lost: Vec<String>,
    /// There more than once.
    pub doubled: Vec<String>,
    /// There, and nobody sent it or it was refused.
    pub foreign: Vec<String>,
    /// With other events than the rules allow at that place of the history.
    pub unlawful: Vec<String>,
    /// Rules that a state breaks, with the place of the first message behind which it is so.
    pub broken: Vec<String>,
    /// Commands that are in the history before others which had their answers when these were sent.
    pub before_their_time: Vec<String>,
    /// How many objects the history made, and how many of them went again: a history in which nothing does shows little.
    pub created: usize,
    /// The same.
    pub removed: usize,
}

impl Verdict {
    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        let Self { lost, doubled, foreign, unlawful, broken, before_their_time, .. } = self;
        [lost, doubled, foreign, unlawful, broken, before_their_time].iter().all(|found| found.is_empty())
    }

    fn count(&mut self, events: &[Event]) {
        let named = |what: &str| events.iter().filter(|event| event.type_name().ends_with(what)).count();
        self.created += named("Created");
        self.removed += named("Removed");
    }
}

/// Judges the history; an error when its chain is broken.
pub async fn judge(
    nats: &Nats,
    customer: &CustomerId,
    record: &Record,
    vendors: &Catalogue,
) -> Result<Verdict> {
    let messages = History::new(nats.clone()).load(customer, 0).await?;
    of(messages.iter().map(|message| (message.sequence, &message.payload[..])), record, vendors)
}

/// The verdict over messages.
fn of<'a>(
    messages: impl Iterator<Item = (u64, &'a [u8])>,
    record: &Record,
    vendors: &Catalogue,
) -> Result<Verdict> {
    let vendor = vendors.get(mix::VENDOR).context("the vendor of the race is not there")?;
    let most = usize::try_from(vendor.limits.tunnels_per_site)?;
    let (mut head, mut verdict) = (Head::default(), Verdict::default());
    let mut there: BTreeMap<CommandId, u64> = BTreeMap::new();
    for (sequence, bytes) in messages {
        let before = head.state.clone();
        let envelope = head.fold(sequence, bytes)?;
        verdict.messages += 1;
        verdict.count(&envelope.events);
        let id = envelope.command;
        if there.insert(id, sequence).is_some() {
            verdict.doubled.push(id.to_string());
        }
        match record.sent.get(&id) {
            Some(sent) if record.accepted.contains_key(&id) => {
                // Nobody freezes anything here, so it does not matter when that was.
                let (received, expected_generation) = (Default::default(), None);
                let facts = Circumstances {
                    former: None,
                    standing: wanwright_commands::cancel::Standing::Waiting,
                    command: id,
                    expected_generation,
                    received,
                    schema: None,
                    vendors,
                    key: None,
                };
                if decide(&before, &sent.command, facts).ok().as_ref() != Some(&envelope.events) {
                    verdict.unlawful.push(id.to_string());
                }
            }
            _ => verdict.foreign.push(id.to_string()),
        }
        let broken = rules::leapt(&before, &head.state).into_iter().chain(rules::broken(&head.state, most));
        // A state that is broken stays so for long.
        if verdict.broken.is_empty() {
            verdict.broken = broken.map(|rule| format!("{sequence}: {rule}")).collect();
        }
    }
    let lost = record.accepted.iter().filter(|(id, accepted)| there.get(id) != Some(&accepted.sequence));
    verdict.lost = lost.map(|(id, _)| id.to_string()).collect();
    verdict.before_their_time = before_their_time(record, &there);
    Ok(verdict)
}

/// Who had an answer before somebody else sent anything is before it in the history. `there` is where commands are.
fn before_their_time(record: &Record, there: &BTreeMap<CommandId, u64>) -> Vec<String> {
    let timed = |(id, sequence): (&CommandId, &u64)| {
        let (sent, accepted) = (record.sent.get(id)?, record.accepted.get(id)?);
        Some((*sequence, *id, sent.at, accepted.at))
    };
    let mut timed: Vec<_> = there.iter().filter_map(timed).collect();
    timed.sort();
    let (mut found, mut first_answer) = (Vec::new(), Duration::MAX);
    for (_, id, sent, answered) in timed.into_iter().rev() {
        if first_answer < sent {
            found.push(id.to_string());
        }
        first_answer = first_answer.min(answered);
    }
    found
}
