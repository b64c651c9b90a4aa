//! Looking up what a customer's history says about an earlier generation, for a `revert`.

use cqrs_es::AggregateError;
use wanwright_nats::{StoredMessage, load_page};
use wanwright_schemas::envelope::{Digest, Envelope};
use wanwright_schemas::subjects;
use wanwright_schemas::{Command, Refusal};

use super::store::{CustomerStore, Loaded, damaged, unavailable};
use crate::head::{BrokenHistory, Head};
use crate::load::Regressed;
use crate::revert::{Former, Search};

/// How many messages are read at once.
const PAGE: usize = 512;

/// How many bytes are read at once, but for the last message of them.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

type Failed = AggregateError<Refusal>;

/// A history on its way from its first message to the one that a decision is made on.
#[derive(Default)]
struct Walk {
    sequence: u64,
    digest: Option<Digest>,
}

impl Walk {
    /// Takes the next message, which has to name the digest of the one before.
    fn pass(&mut self, message: &StoredMessage) -> Result<Envelope, Failed> {
        let sequence = message.sequence;
        let envelope = Envelope::decode(&message.payload);
        let envelope = envelope.map_err(|source| damaged(BrokenHistory::Unreadable { sequence, source }))?;
        if envelope.prev != self.digest {
            let show =
                |digest: Option<Digest>| digest.map_or_else(|| "none".into(), |digest| digest.to_string());
            let (named, actual) = (show(envelope.prev), show(self.digest));
            return Err(damaged(BrokenHistory::Chain { sequence, named, actual }));
        }
        (self.sequence, self.digest) = (sequence, Some(Digest::of(&message.payload)));
        Ok(envelope)
    }

    /// Whether this is where the decision is made: a state that was frozen or kept in memory is of this very history.
    fn ends_at(&self, head: &Head) -> Result<(), Failed> {
        if (self.sequence, self.digest) == (head.sequence, head.digest) {
            return Ok(());
        }
        if self.sequence < head.sequence {
            let what = format!("a history is read up to {}, its head is {}", self.sequence, head.sequence);
            return Err(AggregateError::DatabaseConnectionError(what.into()));
        }
        Err(damaged(Regressed::Rewritten { seen: head.sequence }))
    }
}

impl CustomerStore {
    /// What the history says about the generation that a `revert` names; none for any other command. It is read from its
    /// first message up to the loaded head, page by page, and compared with its chain on the way.
    pub(super) async fn former(&self, loaded: &Loaded, command: &Command) -> Result<Option<Former>, Failed> {
        let Some(mut search) = Search::of(&loaded.head.state, command) else { return Ok(None) };
        let stream = self.position(&loaded.customer, 0).stream;
        let subject = subjects::events(&loaded.customer, self.nats.partitions);
        let mut walk = Walk::default();
        loop {
            let page = load_page(&self.nats, &stream, &subject, walk.sequence, PAGE, PAGE_BYTES).await;
            let (page, more) = page.map_err(unavailable)?;
            let known = page.iter().take_while(|message| message.sequence <= loaded.head.sequence);
            for message in known {
                let envelope = walk.pass(message)?;
                envelope.events.iter().for_each(|event| search.pass(envelope.command, event));
            }
            if !more || page.is_empty() || walk.sequence >= loaded.head.sequence {
                break;
            }
        }
        walk.ends_at(&loaded.head)?;
        Ok(Some(search.found()))
    }
}
