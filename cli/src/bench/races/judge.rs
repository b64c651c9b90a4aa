//! The verdict of a race: the history, decided once more from its beginning, one command after the other.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;
use wanwright_commands::{Circumstances, Head, decide};
use wanwright_nats::{History, Nats};
use wanwright_schemas::ids::{CommandId, CustomerId};
use wanwright_vendors::Catalogue;

use super::writer::Record;

/// What was found; ids of commands.
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
}

impl Verdict {
    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        [&self.lost, &self.doubled, &self.foreign, &self.unlawful].iter().all(|found| found.is_empty())
    }
}

/// Judges the history; an error when its chain is broken.
pub async fn judge(
    nats: &Nats,
    customer: &CustomerId,
    record: &Record,
    vendors: &Catalogue,
) -> Result<Verdict> {
    let mut head = Head::default();
    let mut verdict = Verdict::default();
    let mut there: BTreeMap<CommandId, u64> = BTreeMap::new();
    for message in History::new(nats.clone()).load(customer, 0).await? {
        let before = head.state.clone();
        let envelope = head.fold(message.sequence, &message.payload)?;
        verdict.messages += 1;
        let id = envelope.command;
        if there.insert(id, message.sequence).is_some() {
            verdict.doubled.push(id.to_string());
        }
        match record.sent.get(&id) {
            Some(command) if record.accepted.contains_key(&id) => {
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
                if decide(&before, command, facts).ok().as_ref() != Some(&envelope.events) {
                    verdict.unlawful.push(id.to_string());
                }
            }
            _ => verdict.foreign.push(id.to_string()),
        }
    }
    let lost = record.accepted.iter().filter(|(id, sequence)| there.get(id) != Some(sequence));
    verdict.lost = lost.map(|(id, _)| id.to_string()).collect();
    Ok(verdict)
}
