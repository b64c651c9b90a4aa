//! Outcomes for whom they belong to, after the command.

use async_nats::Subscriber;
use tokio_util::sync::CancellationToken;
use wanwright_nats::Nats;
use wanwright_schemas::outcome::Outcome;
use wanwright_schemas::reason::{Reason, Refusal};
use wanwright_schemas::services::{self, OutcomeRequest};

use super::{outcomes, requests, side_door, verdict};

pub(super) async fn serve(mut asked: Subscriber, nats: Nats, stop: CancellationToken) -> &'static str {
    while let Some(request) = side_door::next(&mut asked, &stop).await {
        let nats = nats.clone();
        tokio::spawn(async move {
            let found = find(&nats, &request.subject, &request.payload).await;
            let outcome =
                found.unwrap_or_else(|refusal| Outcome::refused(None, None, verdict::clipped(refusal)));
            requests::reply(&nats, request.reply, &outcome).await;
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
