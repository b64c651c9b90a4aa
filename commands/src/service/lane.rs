//! A lane: decides the commands of its customers, one after the other.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use cqrs_es::event_sink::EventSink;
use cqrs_es::{Aggregate, AggregateContext, AggregateError, EventStore};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use wanwright_nats::claim::Claims;
use wanwright_nats::{Nats, NatsError, chain};
use wanwright_schemas::event::Event;
use wanwright_schemas::outcome::{Outcome, Verdict};
use wanwright_schemas::reason::{Reason, Refusal};
use wanwright_schemas::{Command, Digest};
use wanwright_vendors::Catalogue;

use super::adapter::{Judged, Recorded};
use super::door::{Answer, Asked};
use super::store::{CustomerStore, Loaded, key};
use super::{CLOCK_SKEW, WINDOW, outcomes, requests, serials};
use crate::head::Recent;

/// How often a command is tried while NATS is in trouble before its sender is told so.
const TRIES: u32 = 6;

/// The first pause between two tries; each next one is twice as long.
const PAUSE: Duration = Duration::from_millis(50);

/// Longest pause of the inbox, which never gives up.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// Why a command has no outcome yet.
enum Trouble {
    /// Somebody else appended first: load and decide again.
    Conflict,
    /// NATS did not do its part.
    Nats(Box<dyn std::error::Error + Send + Sync>),
}

impl From<NatsError> for Trouble {
    fn from(error: NatsError) -> Self {
        Self::Nats(error.into())
    }
}

pub(super) struct Lane {
    nats: Nats,
    store: CustomerStore,
    vendors: Arc<Catalogue>,
    claims: Claims,
}

impl Lane {
    pub(super) fn new(nats: Nats, store: CustomerStore, vendors: Arc<Catalogue>, claims: Claims) -> Self {
        Self { nats, store, vendors, claims }
    }

    /// Handles commands until the doors are closed and the lane is empty.
    pub(super) async fn run(self, mut asked: mpsc::Receiver<Asked>, stop: CancellationToken) {
        while let Some(asked) = asked.recv().await {
            self.handle(asked, &stop).await;
        }
    }

    async fn handle(&self, asked: Asked, stop: &CancellationToken) {
        let mut pause = PAUSE;
        let mut tries = 0;
        let outcome = loop {
            match self.judge(&asked).await {
                Ok(outcome) => break outcome,
                Err(Trouble::Conflict) => self.store.forget(&asked.subject.customer),
                Err(Trouble::Nats(error)) => {
                    self.store.forget(&asked.subject.customer);
                    tries += 1;
                    let durable = matches!(asked.answer, Answer::Handled(_));
                    if (tries >= TRIES && !durable) || stop.is_cancelled() {
                        break unavailable(&asked, error.as_ref());
                    }
                    tracing::warn!(command = %asked.headers.command, error = error.as_ref(), "trying a command again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(MAX_PAUSE);
                }
            }
        };
        let unrecorded = outcome
            .refusal()
            .is_some_and(|refusal| matches!(refusal.code, Reason::Unavailable | Reason::HistoryDamaged));
        match asked.answer {
            Answer::Reply(to) => requests::reply(&self.nats, to, &outcome).await,
            // What has no recorded outcome stays in the inbox.
            Answer::Handled(_) if unrecorded => {}
            Answer::Handled(handled) => drop(handled.send(())),
        }
    }

    /// Finds the outcome of a command: the one it has, or the one it gets now.
    async fn judge(&self, asked: &Asked) -> Result<Outcome, Trouble> {
        let digest = asked.digest();
        if let Some(refusal) = too_old_or_new(asked) {
            let outcome = refused(asked, refusal);
            let (customer, command) = (&asked.subject.customer, asked.headers.command);
            outcomes::record(&self.nats, customer, command, digest, &outcome).await?;
            return Ok(outcome);
        }
        let mut loaded = match self.store.load_aggregate(asked.subject.customer.as_str()).await {
            Ok(loaded) => loaded,
            Err(error) => return self.not_loaded(asked, error),
        };
        let horizon = Timestamp::now().as_millisecond() - 2 * i64::try_from(WINDOW.as_millis()).unwrap_or(0);
        loaded.head.forget_before(u64::try_from(horizon).unwrap_or_default());
        let recent = loaded.head.recent.get(&asked.headers.command).copied();
        if let Some(recent) = recent {
            let generation = loaded.head.state.generation(&asked.subject.object);
            self.store.keep(loaded);
            return self.repeat(asked, digest, recent, generation).await;
        }
        let first = outcomes::first(&self.nats, &asked.subject.customer, asked.headers.command).await?;
        if let Some((outcome, said)) = first {
            self.store.keep(loaded);
            return Ok(said_again(asked, outcome, said, digest));
        }
        let outcome = self.decide(asked, digest, loaded).await?;
        if !asked.headers.dry_run {
            let (customer, command) = (&asked.subject.customer, asked.headers.command);
            outcomes::record(&self.nats, customer, command, digest, &outcome).await?;
        }
        Ok(outcome)
    }

    /// A command whose events are in the history: its outcome, rebuilt from them if need be.
    async fn repeat(
        &self,
        asked: &Asked,
        digest: Digest,
        recent: Recent,
        generation: Option<u64>,
    ) -> Result<Outcome, Trouble> {
        if recent.digest != digest {
            return Ok(refused(asked, reused(asked)));
        }
        let customer = &asked.subject.customer;
        if let Some((outcome, _)) = outcomes::first(&self.nats, customer, asked.headers.command).await? {
            return Ok(Outcome { repeated: true, ..outcome });
        }
        let envelope = self.store.envelope(customer, recent.sequence).await.map_err(trouble)?;
        let events = envelope.map(|envelope| envelope.events).unwrap_or_default();
        let outcome = self.accepted(asked, Some(recent.sequence), &events, generation);
        outcomes::record(&self.nats, customer, asked.headers.command, digest, &outcome).await?;
        Ok(Outcome { repeated: true, ..outcome })
    }

    async fn decide(&self, asked: &Asked, digest: Digest, mut loaded: Loaded) -> Result<Outcome, Trouble> {
        let subject = &asked.subject;
        let parsed = Command::parse(
            subject.customer.clone(),
            subject.actor.clone(),
            &subject.object,
            &subject.verb,
            &asked.body,
        );
        let command = match parsed {
            Ok(command) => command,
            Err(refusal) => {
                self.store.keep(loaded);
                return Ok(refused(asked, refusal));
            }
        };
        let leaving = serials::leaving(&loaded.head.state, &command.body);
        let sink = EventSink::default();
        let judged = Judged {
            id: asked.headers.command,
            expected_generation: asked.headers.expected_generation,
            command,
        };
        if let Err(refusal) = loaded.aggregate().handle(judged, &self.vendors, &sink).await {
            self.store.keep(loaded);
            return Ok(refused(asked, refusal));
        }
        let recorded = sink.collect().await;
        let events: Vec<Event> = recorded.iter().map(|recorded| recorded.event.clone()).collect();
        let generation = loaded.head.state.generation(&subject.object);
        if asked.headers.dry_run {
            // The loaded state has the events applied: it must not serve the next command.
            self.store.forget(&subject.customer);
            return Ok(would_be(asked, events, generation));
        }
        if events.is_empty() {
            self.store.keep(loaded);
            return Ok(self.accepted(asked, None, &events, generation));
        }
        if let Err(refusal) = serials::claim(&self.claims, &subject.customer, &events).await? {
            return Ok(refused(asked, refusal));
        }
        let sequence = self.commit(asked, digest, recorded, loaded).await?;
        serials::release(&self.claims, &subject.customer, &leaving, &events).await;
        Ok(self.accepted(asked, Some(sequence), &events, generation))
    }

    async fn commit(
        &self,
        asked: &Asked,
        digest: Digest,
        recorded: Vec<Recorded>,
        loaded: Loaded,
    ) -> Result<u64, Trouble> {
        let headers = &asked.headers;
        let mut metadata = HashMap::from([
            (key::COMMAND.to_owned(), headers.command.to_string()),
            (key::BODY.to_owned(), digest.to_string()),
            (key::ACTOR.to_owned(), asked.subject.actor.to_string()),
            (key::TIME.to_owned(), Timestamp::now().to_string()),
        ]);
        metadata.extend(headers.cause.clone().map(|cause| (key::CAUSE.to_owned(), cause)));
        metadata.extend(headers.correlation.clone().map(|text| (key::CORRELATION.to_owned(), text)));
        let committed = self.store.commit(recorded, loaded, metadata).await.map_err(trouble)?;
        let sequence = committed.first().and_then(|event| event.metadata.get(key::SEQUENCE)?.parse().ok());
        sequence.ok_or_else(|| Trouble::Nats("a commit answered no sequence".into()))
    }

    fn accepted(
        &self,
        asked: &Asked,
        sequence: Option<u64>,
        events: &[Event],
        generation: Option<u64>,
    ) -> Outcome {
        let position = sequence.map(|sequence| self.store.position(&asked.subject.customer, sequence));
        let events = events.iter().map(Event::type_name).collect();
        outcome(asked, Verdict::Accepted { position, events, generation, would_follow: None })
    }

    fn not_loaded(&self, asked: &Asked, error: AggregateError<Refusal>) -> Result<Outcome, Trouble> {
        match error {
            AggregateError::DeserializationError(cause) => {
                tracing::error!(customer = %asked.subject.customer, error = cause.as_ref(), "a history is damaged");
                let message = format!("customer {}: {}", asked.subject.customer, chain(cause.as_ref()));
                Ok(refused(asked, Refusal::new(Reason::HistoryDamaged, message)))
            }
            other => Err(trouble(other)),
        }
    }
}

fn trouble(error: AggregateError<Refusal>) -> Trouble {
    match error {
        AggregateError::AggregateConflict => Trouble::Conflict,
        AggregateError::DatabaseConnectionError(cause)
        | AggregateError::DeserializationError(cause)
        | AggregateError::UnexpectedError(cause) => Trouble::Nats(cause),
        AggregateError::UserError(refusal) => Trouble::Nats(refusal.into()),
    }
}

fn outcome(asked: &Asked, verdict: Verdict) -> Outcome {
    Outcome {
        v: Outcome::VERSION,
        command: Some(asked.headers.command),
        object: Some(asked.subject.object.clone()),
        verdict,
        repeated: false,
        dry_run: asked.headers.dry_run,
    }
}

fn refused(asked: &Asked, refusal: Refusal) -> Outcome {
    let outcome = Outcome::refused(Some(asked.headers.command), Some(asked.subject.object.clone()), refusal);
    Outcome { dry_run: asked.headers.dry_run, ..outcome }
}

fn unavailable(asked: &Asked, error: &(dyn std::error::Error + Send + Sync + 'static)) -> Outcome {
    refused(
        asked,
        Refusal::new(Reason::Unavailable, format!("the command was not recorded: {}", chain(error))),
    )
}

fn would_be(asked: &Asked, events: Vec<Event>, generation: Option<u64>) -> Outcome {
    let names = events.iter().map(Event::type_name).collect();
    let verdict = Verdict::Accepted { position: None, events: names, generation, would_follow: Some(events) };
    outcome(asked, verdict)
}

fn reused(asked: &Asked) -> Refusal {
    let message = format!("command {} was another command before", asked.headers.command);
    Refusal::new(Reason::CommandIdReused, message)
}

/// The first outcome, said again, unless the command says something else than it did then.
fn said_again(asked: &Asked, outcome: Outcome, said: Option<Digest>, says: Digest) -> Outcome {
    if said.is_some_and(|said| said != says) {
        return refused(asked, reused(asked));
    }
    Outcome { repeated: true, ..outcome }
}

/// An id is remembered for a window; outside of it nobody can tell a repeat from a new command.
fn too_old_or_new(asked: &Asked) -> Option<Refusal> {
    let (minted, received) =
        (u128::from(asked.headers.command.unix_millis()), u128::from(asked.received_millis));
    if minted + WINDOW.as_millis() < received {
        let message = format!("command {} is more than 24 hours old", asked.headers.command);
        return Some(Refusal::new(Reason::CommandTooOld, message));
    }
    if minted > received + CLOCK_SKEW.as_millis() {
        let message = format!("command {} was minted more than 5 minutes from now", asked.headers.command);
        return Some(Refusal::new(Reason::CommandFromFuture, message));
    }
    None
}
