//! A writer: loads, decides and appends, with nothing but the append check between it and the others.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, anyhow};
use cqrs_es::event_sink::EventSink;
use cqrs_es::{Aggregate, AggregateContext, AggregateError, EventStore};
use jiff::Timestamp;
use tokio::time::Instant;
use wanwright_commands::service::{CustomerStore, Judged, Loaded, key};
use wanwright_commands::{Customer, Head};
use wanwright_nats::{History, Nats};
use wanwright_schemas::Command;
use wanwright_schemas::envelope::command_digest;
use wanwright_schemas::ids::{CommandId, CustomerId};
use wanwright_vendors::Catalogue;

use super::mix::Mix;

/// How long a command is tried while the server is away.
const PATIENCE: Duration = Duration::from_secs(60);

/// Of so many tries one begins with nothing: from a snapshot, as a service does that takes a partition over.
const COLD: u64 = 500;

/// Pause before a command is tried again whose answer was missed.
const PAUSE: Duration = Duration::from_millis(50);

type Failed = AggregateError<wanwright_schemas::Refusal>;

/// What the writers have in common.
pub struct Race {
    customer: CustomerId,
    commands: u64,
    began: Instant,
    /// How many commands have an outcome.
    pub done: AtomicU64,
    record: Mutex<Record>,
}

/// A command that was sent.
#[derive(Debug, Clone)]
pub struct Sent {
    /// The command.
    pub command: Command,
    /// When, counted from the beginning of the race: nothing of it can be in the history before.
    pub at: Duration,
}

/// A command that was accepted.
#[derive(Debug, Clone, Copy)]
pub struct Accepted {
    /// Where its events are.
    pub sequence: u64,
    /// When its writer knew, counted from the beginning of the race.
    pub at: Duration,
}

/// What the writers saw.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Each command that was sent.
    pub sent: HashMap<CommandId, Sent>,
    /// Each that was accepted.
    pub accepted: HashMap<CommandId, Accepted>,
    /// How many were refused, or had nothing to change.
    pub refused: u64,
    /// How often another writer was faster.
    pub conflicts: u64,
    /// How often no answer came.
    pub unknown: u64,
}

impl Race {
    /// A race of so many commands on one customer.
    pub fn new(customer: CustomerId, commands: u64) -> Self {
        Self { customer, commands, began: Instant::now(), done: AtomicU64::new(0), record: Mutex::default() }
    }

    /// What was seen so far.
    pub fn record(&self) -> Result<Record> {
        Ok(self.record.lock().map_err(|_| anyhow!("a writer panicked"))?.clone())
    }

    fn note(&self, note: impl FnOnce(&mut Record)) -> Result<()> {
        note(&mut *self.record.lock().map_err(|_| anyhow!("a writer panicked"))?);
        Ok(())
    }
}

/// One writer.
pub struct Writer {
    store: CustomerStore,
    history: History,
    /// The customer as it was loaded last, without the recent commands: a clone for each try has to be cheap.
    known: Option<Head>,
    tries: u64,
    race: Arc<Race>,
    vendors: Arc<Catalogue>,
    mix: Mix,
}

impl Writer {
    /// A writer with a connection and a cache of its own.
    pub fn new(nats: Nats, race: Arc<Race>, vendors: Arc<Catalogue>, seed: u64) -> Self {
        let history = History::new(nats.clone());
        let store = CustomerStore::alone(nats, 64 << 20);
        let mix = Mix::new(race.customer.clone(), seed);
        Self { store, history, known: None, tries: 0, race, vendors, mix }
    }

    /// Writes until there are enough commands.
    pub async fn run(mut self) -> Result<()> {
        while self.race.done.fetch_add(1, Ordering::Relaxed) < self.race.commands {
            let nothing = Customer::default();
            let known = self.known.as_ref().map_or(&nothing, |head| &head.state);
            let command = self.mix.command(known, &self.vendors)?;
            let id = CommandId::mint();
            let sent = Sent { command: command.clone(), at: self.race.began.elapsed() };
            self.race.note(|record| record.sent.extend([(id, sent)]))?;
            self.settle(id, command).await?;
        }
        self.race.done.fetch_sub(1, Ordering::Relaxed);
        Ok(())
    }

    /// Tries a command until it has an outcome.
    async fn settle(&mut self, id: CommandId, command: Command) -> Result<()> {
        let began = Instant::now();
        let (received, expected_generation) = (Default::default(), None);
        let judged = Judged {
            id,
            expected_generation,
            received,
            schema: None,
            key: None,
            former: None,
            standing: wanwright_commands::cancel::Standing::Waiting,
            command,
        };
        loop {
            match self.try_once(&judged).await {
                Ok(Some(sequence)) => {
                    let accepted = Accepted { sequence, at: self.race.began.elapsed() };
                    return self.race.note(|record| record.accepted.extend([(id, accepted)]));
                }
                Ok(None) => return self.race.note(|record| record.refused += 1),
                Err(AggregateError::AggregateConflict) => self.race.note(|record| record.conflicts += 1)?,
                Err(error) if began.elapsed() < PATIENCE => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "no answer");
                    self.race.note(|record| record.unknown += 1)?;
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The customer as it is now: what was known, and what the others added; now and then from nothing. The second answer
    /// is where the command's own events were found on the way.
    async fn load(&mut self, id: CommandId) -> Result<(Head, Option<u64>), Failed> {
        self.tries += 1;
        let customer = &self.race.customer;
        if self.tries.is_multiple_of(COLD) || self.known.is_none() {
            self.store.forget(customer);
            let Loaded { head, .. } = self.store.load_aggregate(customer.as_str()).await?;
            let own = head.recent.get(id).map(|recent| recent.sequence);
            return Ok((*head, own));
        }
        let mut head = self.known.clone().unwrap_or_default();
        let failed = |error| AggregateError::DatabaseConnectionError(Box::new(error));
        let mut own = None;
        for message in self.history.load(customer, head.sequence).await.map_err(failed)? {
            let damaged = |error| AggregateError::DeserializationError(Box::new(error));
            let envelope = head.fold(message.sequence, &message.payload).map_err(damaged)?;
            own = own.or((envelope.command == id).then_some(message.sequence));
        }
        Ok((head, own))
    }

    /// Where the events are; none when there are none.
    async fn try_once(&mut self, judged: &Judged) -> Result<Option<u64>, Failed> {
        let (mut head, own) = self.load(judged.id).await?;
        head.recent.clear();
        self.known = Some(head.clone());
        if own.is_some() {
            return Ok(own);
        }
        let mut loaded = Loaded { customer: self.race.customer.clone(), head: Box::new(head) };
        let sink = EventSink::default();
        let decided = loaded.aggregate().handle(judged.clone(), &self.vendors, &sink).await;
        let events = sink.collect().await;
        if decided.is_err() || events.is_empty() {
            return Ok(None);
        }
        let digest = command_digest("bench", "races", judged.id.to_string().as_bytes());
        let metadata = HashMap::from([
            (key::COMMAND.to_owned(), judged.id.to_string()),
            (key::BODY.to_owned(), digest.to_string()),
            (key::ACTOR.to_owned(), judged.command.actor.to_string()),
            (key::TIME.to_owned(), Timestamp::now().to_string()),
        ]);
        let committed = self.store.commit(events, loaded, metadata).await?;
        let sequence = committed.first().and_then(|event| event.metadata.get(key::SEQUENCE)?.parse().ok());
        Ok(sequence)
    }
}
