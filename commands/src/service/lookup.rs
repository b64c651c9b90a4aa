//! Outcomes for whom they belong to, after the command.

use std::sync::Arc;

use async_nats::Subscriber;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use wanwright_nats::Nats;
use wanwright_schemas::outcome::Outcome;
use wanwright_schemas::reason::{Reason, Refusal};
use wanwright_schemas::services::{self, OutcomeRequest};

use super::intake::{Bounds, Intake};
use super::{outcomes, requests, side_door, verdict};

/// How many outcomes are looked for at once; the other questions wait.
const AT_ONCE: usize = 256;

pub(super) async fn serve(asked: Subscriber, nats: Nats, stop: CancellationToken) -> &'static str {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut asked = Intake::new(asked, nats.clone(), Bounds::QUESTIONS);
    while let Some((request, waiting)) = asked.next(&stop).await {
        let Ok(permit) = asked.until(Arc::clone(&room).acquire_owned()).await else { break };
        let nats = nats.clone();
        tokio::spawn(async move {
            let found = find(&nats, &request.subject, &request.payload).await;
            let outcome =
                found.unwrap_or_else(|refusal| Outcome::refused(None, None, verdict::clipped(refusal)));
            requests::reply(&nats, request.reply, &outcome).await;
            drop((permit, waiting));
        });
    }
    "the service of outcomes"
}

/// The outcome, if this customer's command has one. Another customer's command is none, like one that never was.
async fn find(nats: &Nats, subject: &str, body: &[u8]) -> Result<Outcome, Refusal> {
    let (customer, _) = services::asked(subject)?;
    let request: OutcomeRequest = side_door::read(body)?;
    let found = outcomes::first(nats, &customer, request.command).await;
    let found = found.map_err(|error| side_door::unavailable(&error))?;
    let missing = || {
        let why = format!("command {} of customer {customer} has no outcome", request.command);
        let next = "It may still be in the inbox; outcomes are kept for 24 hours.";
        Refusal::new(Reason::NotFound, why).next(next)
    };
    found.ok_or_else(missing)
}
