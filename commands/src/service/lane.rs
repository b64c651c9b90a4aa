//! A lane: decides the commands of its customers, one after the other.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cqrs_es::event_sink::EventSink;
use cqrs_es::{Aggregate, AggregateContext, AggregateError, EventStore};
use jiff::Timestamp;
use wanwright_nats::claim::Claims;
use wanwright_nats::{Lease, Nats, NatsError};
use wanwright_schemas::envelope::Envelope;
use wanwright_schemas::event::Event;
use wanwright_schemas::ids::CustomerId;
use wanwright_schemas::outcome::Outcome;
use wanwright_schemas::policy::SerialClaim;
use wanwright_schemas::reason::Refusal;
use wanwright_schemas::{Command, Digest};
use wanwright_vendors::Vendors;

use super::adapter::Judged;
use super::append::{About, Said};
use super::cancelling::Hold;
use super::discovery::Counts;
use super::door::{Answer, Asked};
use super::inventory::Gate;
use super::oldest::Oldest;
use super::previews::Previews;
use super::sealing::{ERASE, Says, Sealed, Sealing};
use super::serials::Seen;
use super::store::{CustomerStore, Loaded, damaged};
use super::verdicts::Verdicts;
use super::{outcomes, serials, sweeper, verdict};
use crate::orders;
use crate::recent::Recent;

/// Why a command has no outcome yet.
pub(super) enum Trouble {
    /// Somebody else appended first: load and decide again.
    Conflict,
    /// NATS did not do its part.
    Nats(Box<dyn std::error::Error + Send + Sync>),
    /// What the decision would rest on was asked over a connection that is not there any more, or of another leader.
    Reconnected,
    /// A serial number may be another device's. It was given back, and is to be asked for again once every device has its own.
    Doubtful(String),
    /// The partition is somebody else's by now, who will be asked again.
    NotHeld,
    /// The customer's history cannot be trusted or read.
    Damaged(Box<dyn std::error::Error + Send + Sync>),
    /// A verdict or a claim that is there cannot be read, however often it is tried.
    Stored(NatsError),
    /// The key of the customer's personal data cannot be opened.
    Unreadable(Box<dyn std::error::Error + Send + Sync>),
}

impl From<NatsError> for Trouble {
    fn from(error: NatsError) -> Self {
        match error {
            NatsError::Malformed { .. } => Self::Stored(error),
            error => Self::Nats(error.into()),
        }
    }
}

impl From<AggregateError<Refusal>> for Trouble {
    fn from(error: AggregateError<Refusal>) -> Self {
        match error {
            AggregateError::AggregateConflict => Self::Conflict,
            AggregateError::DeserializationError(cause) => Self::Damaged(cause),
            AggregateError::DatabaseConnectionError(cause) | AggregateError::UnexpectedError(cause) => {
                Self::Nats(cause)
            }
            AggregateError::UserError(refusal) => Self::Nats(refusal.into()),
        }
    }
}

/// What a lane decides with.
#[derive(Clone)]
pub(super) struct Lane {
    pub(super) nats: Nats,
    pub(super) store: CustomerStore,
    pub(super) verdicts: Arc<Verdicts>,
    pub(super) vendors: Vendors,
    pub(super) claims: Claims,
    pub(super) counts: Arc<Counts>,
    pub(super) sealing: Sealing,
    pub(super) gate: Gate,
    pub(super) lease: Arc<Lease>,
    pub(super) window: Duration,
    pub(super) oldest: Oldest,
    pub(super) previews: Previews,
}

impl Lane {
    /// Finds the outcome of a command: the one it has, or the one it gets now. Notes in `fresh` what it claimed.
    pub(super) async fn judge(&self, asked: &Asked, fresh: &mut Vec<Seen>) -> Result<Outcome, Trouble> {
        let (customer, command) = (&asked.subject.customer, asked.headers.command);
        // Whatever cannot be read there is nothing of this command.
        let source = self.gate.pass().await.map_err(|error| Trouble::Nats(error.into()))?;
        let mut loaded = match asked.headers.dry_run {
            // Not even a snapshot is made for it.
            true => self.store.look_at(customer).await?,
            false => self.store.loaded(customer).await?,
        };
        let horizon = verdict::horizon(self.window, self.oldest.millis());
        loaded.head.recent.forget_before(horizon);
        let decided_on = loaded.head.sequence;
        let sealed = match self.sealing.seal(asked, &loaded.head.state).await {
            Err(Trouble::Unreadable(error)) => {
                // Unless somebody else has ended the key meanwhile.
                self.store.check_head(customer, decided_on).await?;
                return Err(Trouble::Unreadable(error));
            }
            sealed => sealed?,
        };
        let says = sealed.says;
        if let Some(recent) = loaded.head.recent.get(command) {
            return self.repeat(asked, says, recent, loaded).await;
        }
        if let Some((outcome, said)) = self.verdicts.first(customer, command, horizon).await? {
            self.store.keep(loaded);
            return Ok(said_again(asked, outcome, said, says));
        }
        // Only now: an old id whose command is still known is no danger.
        let outcome = match verdict::too_old_or_new(command, asked.received_millis, self.window) {
            Some(refusal) => {
                self.store.keep(loaded);
                verdict::refused(asked, refusal)
            }
            None if self.is_in_doubt(asked).await? => {
                self.store.keep(loaded);
                return Ok(verdict::in_doubt(asked));
            }
            None => self.decide(asked, source, sealed, loaded, fresh).await?,
        };
        if asked.headers.dry_run || outcome.position().is_some() {
            return Ok(outcome);
        }
        // No append fences it: who held the partition before may have appended since, late, what it was not decided on.
        self.store.check_head(customer, decided_on).await?;
        // No event tells of it, so nobody may hear of it before it is recorded.
        let now = verdict::now_millis();
        let first = self.verdicts.record(customer, command, says.in_verdict, &outcome, now).await?;
        if !self.lease.is_held() {
            // Whoever holds the partition now may not know of this verdict.
            return Err(Trouble::NotHeld);
        }
        Ok(match first {
            Some((first, said)) => said_again(asked, first, said, says),
            None => outcome,
        })
    }

    /// Whether a command that nothing is known of may have been answered before. What is still in the inbox was told to
    /// nobody but by the stream of outcomes.
    async fn is_in_doubt(&self, asked: &Asked) -> Result<bool, NatsError> {
        let command = asked.headers.command;
        if !self.gate.doubts(command) {
            return Ok(false);
        }
        match asked.answer {
            Answer::Reply(_) => Ok(true),
            Answer::Inbox(_) => {
                Ok(outcomes::first(&self.nats, &asked.subject.customer, command).await?.is_some())
            }
        }
    }

    /// A command whose events are in the history: its outcome, rebuilt from them if need be.
    async fn repeat(
        &self,
        asked: &Asked,
        says: Says,
        recent: Recent,
        loaded: Loaded,
    ) -> Result<Outcome, Trouble> {
        let customer = &asked.subject.customer;
        let message = self.store.message(customer, recent.sequence).await?;
        let recorded = Envelope::decode(&message.payload).map_err(damaged)?;
        if !says.is(recorded.body_sha256) {
            self.store.keep(loaded);
            return Ok(verdict::refused(asked, verdict::reused(asked)));
        }
        let position = self.store.position(customer, recent.sequence);
        let first = outcomes::first(&self.nats, customer, asked.headers.command).await?;
        // Another command's answer may have been kept under this id; the history tells which one is right.
        let first = first.filter(|first| first.position() == Some(&position));
        let is_told = first.is_some();
        let outcome = match first {
            Some(first) => first,
            None => verdict::told(position, &message)?,
        };
        if !asked.headers.dry_run {
            self.follow_up(asked, &recorded.events, is_told, &loaded).await?;
            if !is_told {
                outcomes::record(&self.nats, customer, &asked.headers, &outcome).await?;
            }
        }
        self.store.keep(loaded);
        Ok(Outcome { repeated: true, ..outcome })
    }

    /// Does what whoever recorded the events may not have come to do: to destroy a key, and to ask about serial numbers,
    /// which are given back before an outcome is told.
    async fn follow_up(
        &self,
        asked: &Asked,
        events: &[Event],
        is_told: bool,
        loaded: &Loaded,
    ) -> Result<(), Trouble> {
        let customer = &asked.subject.customer;
        if is_told && asked.subject.verb != ERASE {
            return Ok(());
        }
        if asked.subject.verb == ERASE {
            self.sealing.follow(customer, events).await?;
        }
        if !is_told && events.iter().any(|event| matches!(event, Event::Device(_, change) if change.is_end()))
        {
            let history = self.store.load_events(customer.as_str()).await?;
            let known = serials::given(history.iter().map(|recorded| &recorded.payload.event));
            let removed = serials::removed(&loaded.head.state, known, events);
            self.ask_about(customer, removed);
        }
        Ok(())
    }

    async fn decide(
        &self,
        asked: &Asked,
        source: u64,
        sealed: Sealed,
        loaded: Loaded,
        fresh: &mut Vec<Seen>,
    ) -> Result<Outcome, Trouble> {
        let subject = &asked.subject;
        let parse = |body: &Bytes| {
            let (customer, actor) = (subject.customer.clone(), subject.actor.clone());
            Command::parse(customer, actor, &subject.object, &subject.verb, body)
        };
        let command = match sealed.body.as_ref().map_err(Clone::clone).and_then(parse) {
            Ok(command) => command,
            Err(refusal) => {
                self.store.keep(loaded);
                return Ok(verdict::refused(asked, refusal));
            }
        };
        let (customer, state) = (&subject.customer, &loaded.head.state);
        let hold = Hold::take(&self.nats, customer, state, &command, asked.headers.dry_run).await?;
        let decided = self.decide_held(asked, source, sealed, loaded, (command, hold.as_ref()), fresh).await;
        if let Some(hold) = hold {
            hold.release().await;
        }
        decided
    }

    /// Decides a command while no executor begins what it takes back.
    async fn decide_held(
        &self,
        asked: &Asked,
        source: u64,
        sealed: Sealed,
        mut loaded: Loaded,
        (command, hold): (Command, Option<&Hold>),
        fresh: &mut Vec<Seen>,
    ) -> Result<Outcome, Trouble> {
        let subject = &asked.subject;
        let leaving = serials::leaving(&loaded.head.state, &command.body);
        let sink = EventSink::default();
        let judged = Judged {
            id: asked.headers.command,
            expected_generation: asked.headers.expected_generation,
            schema: asked.headers.schema,
            received: asked.received(),
            key: sealed.about,
            former: self.store.former(&loaded, &command).await?,
            standing: hold.map(|hold| hold.standing).unwrap_or_default(),
            command,
        };
        let vendors = self.vendors.snapshot();
        if let Err(refusal) = loaded.aggregate().handle(judged, &vendors, &sink).await {
            self.store.keep(loaded);
            return Ok(verdict::refused(asked, refusal));
        }
        let events: Vec<Event> = sink.collect().await.into_iter().map(|recorded| recorded.event).collect();
        let generation = loaded.head.state.generation(&subject.object);
        if events.is_empty() && !asked.headers.dry_run {
            self.store.keep(loaded);
            return Ok(verdict::accepted(asked, None, &events, generation));
        }
        // From here on the loaded state has the events applied: it serves the next command only if they are recorded.
        if asked.headers.dry_run {
            let claimed = serials::would_claim(&self.claims, &subject.customer, &events).await?;
            return Ok(match claimed {
                Ok(()) => {
                    let (customer, state) = (&subject.customer, &loaded.head.state);
                    if asked.headers.plan {
                        let previews = orders::previews(customer, state, &events, &vendors);
                        // Deciding again finds the same, or what is true by then.
                        let _ = asked.previews.set(previews);
                    }
                    let orders =
                        orders::that_would_follow(customer, state, &events, &vendors, asked.received());
                    verdict::would_be(asked, events, generation, orders)
                }
                Err(refusal) => verdict::refused(asked, refusal),
            });
        }
        if !self.gate.is_open(source) {
            return Err(Trouble::Reconnected);
        }
        match serials::claim(&self.claims, &subject.customer, &events, fresh).await? {
            serials::Claim::Own => {}
            serials::Claim::Refused(refusal) => return Ok(verdict::refused(asked, refusal)),
            serials::Claim::Doubtful(serial) => {
                if !self.lease.is_held() {
                    // Whoever holds the partition now may be about to append the device.
                    return Err(Trouble::NotHeld);
                }
                // Before anybody looks after the doubt: whose it was could not have it back.
                self.store.forget(&subject.customer);
                self.give_back(asked, &std::mem::take(fresh)).await;
                self.gate.doubt_claims();
                return Err(Trouble::Doubtful(serial));
            }
        }
        // As they are before the append: a device that is created behind it claims again.
        let removed = serials::removed(&loaded.head.state, leaving, &events);
        let removed = serials::see(&self.claims, &subject.customer, removed).await?;
        self.sealing.prepare(&subject.customer, &events, sealed.new_key.as_ref()).await?;
        // A free serial number, or a customer without a key, may be what a server lost that was started meanwhile.
        if !self.gate.is_open(source) {
            return Err(Trouble::Reconnected);
        }
        let before = loaded.head.sequence;
        if let Some(hold) = hold {
            hold.withdraw(before, asked.headers.command).await?;
            if !hold.is_held() {
                return Err(Trouble::Nats("an executor may have begun what is to be cancelled".into()));
            }
        }
        let (sequence, events) = match self.append(asked, sealed.says.in_events, events, loaded).await? {
            Ok(appended) => appended,
            Err(refusal) => return Ok(verdict::refused(asked, refusal)),
        };
        if !self.lease.is_held() {
            // The count of partitions may be another one by now, and this appended where nobody reads any more.
            return Err(Trouble::NotHeld);
        }
        if let Some(hold) = hold
            && let Err(error) = hold.withdraw(before, asked.headers.command).await
        {
            // It is recorded; the dispatcher withdraws what it wrote meanwhile.
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a cancelled order is still in the table"
            );
        }
        self.sealing.follow(&subject.customer, &events).await?;
        serials::release(&self.claims, &removed).await;
        let position = self.store.position(&subject.customer, sequence);
        Ok(verdict::accepted(asked, Some(position), &events, generation))
    }

    async fn append(
        &self,
        asked: &Asked,
        digest: Digest,
        events: Vec<Event>,
        loaded: Loaded,
    ) -> Result<Result<(u64, Vec<Event>), Refusal>, Trouble> {
        let (headers, subject) = (&asked.headers, &asked.subject);
        let generation = loaded.head.state.generation(&subject.object);
        let said = Said {
            command: headers.command,
            digest,
            actor: subject.actor.clone(),
            cause: headers.cause.clone(),
            correlation: headers.correlation.clone(),
            time: Timestamp::now(),
            trace: headers.trace.clone(),
            about: About {
                object: Some(subject.object.to_string()),
                verb: Some(subject.verb.clone()),
                generation: generation.map(|generation| generation.to_string()),
            },
        };
        match self.store.append(events, loaded, said).await {
            Ok(appended) => Ok(Ok(appended)),
            Err(AggregateError::UserError(refusal)) => Ok(Err(refusal)),
            Err(error) => Err(error.into()),
        }
    }

    /// Asks the customer about the serial numbers of devices that are gone, as the sweeper would later. Whoever removed
    /// them has seen the claims before; who looks only now cannot tell them from newer ones without asking.
    fn ask_about(&self, customer: &CustomerId, known: Vec<SerialClaim>) {
        if known.is_empty() {
            return;
        }
        let (nats, claims, customer) = (self.nats.clone(), self.claims.clone(), customer.clone());
        // Beside the lane, which is the one to answer.
        tokio::spawn(async move {
            let asked = async {
                let seen = serials::see(&claims, &customer, known).await?;
                if !seen.is_empty() {
                    sweeper::confirm(&nats, &claims, &customer, &seen).await?;
                }
                Ok::<_, NatsError>(())
            };
            if let Err(error) = asked.await {
                tracing::warn!(%customer, error = &error as &dyn std::error::Error, "a serial number stays claimed");
            }
        });
    }

    /// Gives back what a command claimed that was refused after all, unless the customer has the device by now.
    pub(super) async fn give_back(&self, asked: &Asked, fresh: &[Seen]) {
        let customer = &asked.subject.customer;
        match self.store.loaded(customer).await {
            Ok(loaded) => {
                let absent = fresh.iter().filter(|seen| serials::is_absent(&loaded.head.state, &seen.claim));
                let absent: Vec<Seen> = absent.cloned().collect();
                self.store.keep(loaded);
                serials::release(&self.claims, &absent).await;
            }
            Err(error) => {
                tracing::warn!(%customer, error = &error as &dyn std::error::Error, "a serial number stays claimed");
            }
        }
    }
}

/// The first outcome, said again, unless the command says something else than it did then.
fn said_again(asked: &Asked, outcome: Outcome, said: Option<Digest>, says: Says) -> Outcome {
    if said.is_some_and(|said| !says.is(said)) {
        return verdict::refused(asked, verdict::reused(asked));
    }
    Outcome { repeated: true, ..outcome }
}
