//! Outcomes for whom they belong to, after the command.

use std::sync::Arc;

use async_nats::Subscriber;
use cqrs_es::AggregateError;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use wanwright_nats::Nats;
use wanwright_schemas::ids::{CommandId, CustomerId};
use wanwright_schemas::outcome::Outcome;
use wanwright_schemas::reason::{Reason, Refusal};
use wanwright_schemas::services::{self, OutcomeRequest};
use wanwright_schemas::strict;

use super::intake::{Bounds, Intake};
use super::store::CustomerStore;
use super::{outcomes, requests, side_door, verdict, verdicts};

/// How many outcomes are looked for at once; the other questions wait.
const AT_ONCE: usize = 256;

/// How many customers are loaded at once because an outcome is not where it is looked for first.
const LOADS: usize = 2;

/// Where an outcome may be.
#[derive(Clone)]
struct Places {
    nats: Nats,
    store: CustomerStore,
    loads: Arc<Semaphore>,
}

pub(super) async fn serve(
    asked: Subscriber,
    nats: Nats,
    store: CustomerStore,
    stop: CancellationToken,
) -> &'static str {
    let places = Places { nats: nats.clone(), store, loads: Arc::new(Semaphore::new(LOADS)) };
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut asked = Intake::new(asked, nats.clone(), Bounds::QUESTIONS);
    while let Some((request, waiting)) = asked.next(&stop).await {
        let Ok(permit) = asked.until(Arc::clone(&room).acquire_owned()).await else { break };
        let (nats, places) = (nats.clone(), places.clone());
        tokio::spawn(async move {
            let found = find(&places, &request.subject, &request.payload).await;
            let outcome =
                found.unwrap_or_else(|refusal| Outcome::refused(None, None, verdict::clipped(refusal)));
            requests::reply(&nats, request.reply, &outcome).await;
            drop((permit, waiting));
        });
    }
    "the service of outcomes"
}

/// The outcome, if this customer's command has one. Another customer's command is none, like one that never was.
async fn find(places: &Places, subject: &str, body: &[u8]) -> Result<Outcome, Refusal> {
    let (customer, _) = services::asked(subject)?;
    let request: OutcomeRequest = strict::parse(body)?;
    let found = match places.told(&customer, request.command).await? {
        Some(told) => Some(told),
        None => places.recorded(&customer, request.command).await?,
    };
    let missing = || {
        let why = format!("command {} of customer {customer} has no outcome", request.command);
        let next = "It may still be in the inbox; outcomes are kept for at least 24 hours.";
        Refusal::new(Reason::NotFound, why).next(next)
    };
    found.ok_or_else(missing)
}

impl Places {
    /// The outcome as its sender was told it. That stream may have lost it, or have another command's answer.
    async fn told(&self, customer: &CustomerId, command: CommandId) -> Result<Option<Outcome>, Refusal> {
        let told = outcomes::first(&self.nats, customer, command).await;
        let told = told.map_err(|error| side_door::unavailable(&error))?;
        let is_its_own =
            |told: &Outcome| told.refusal().is_none_or(|refusal| refusal.code != Reason::CommandIdReused);
        Ok(told.filter(is_its_own))
    }

    /// The outcome as it was recorded before anybody was told: events first, as for a repeat of the command.
    async fn recorded(&self, customer: &CustomerId, command: CommandId) -> Result<Option<Outcome>, Refusal> {
        if let Some(accepted) = self.of_events(customer, command).await.map_err(unread)? {
            return Ok(Some(accepted));
        }
        let verdict = verdicts::read(&self.nats, customer, command).await;
        let verdict = verdict.map_err(|error| side_door::unavailable(&error))?;
        Ok(verdict.map(|(outcome, _)| outcome))
    }

    async fn of_events(
        &self,
        customer: &CustomerId,
        command: CommandId,
    ) -> Result<Option<Outcome>, AggregateError<Refusal>> {
        let permit = self.loads.acquire().await;
        let recent = self.store.look_at(customer).await?.head.recent.get(command);
        drop(permit);
        let Some(recent) = recent else { return Ok(None) };
        let message = self.store.message(customer, recent.sequence).await?;
        verdict::told(self.store.position(customer, recent.sequence), &message).map(Some)
    }
}

/// Why the events could not be asked.
fn unread(error: AggregateError<Refusal>) -> Refusal {
    match error {
        AggregateError::DeserializationError(cause) => {
            let error = wanwright_nats::chain(cause.as_ref());
            tracing::error!(error, "a history is damaged, so it tells no outcome");
            Refusal::new(Reason::HistoryDamaged, "the customer's history is damaged, so it tells no outcome")
        }
        error => side_door::unavailable(&error),
    }
}
