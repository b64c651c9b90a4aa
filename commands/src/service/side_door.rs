//! The services beside the doors: the ingress of the durable one, histories, outcomes and what operators pause. Tenants
//! reach all but the last through their accounts, everybody else in WAN; any of the command services answers.

use async_nats::{HeaderMap, Subject, Subscriber};
use bytes::Bytes;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wanwright_nats::{Nats, NatsError};
use wanwright_schemas::outcome::Outcome;
use wanwright_schemas::reason::{Reason, Refusal};
use wanwright_schemas::services;
use wanwright_vendors::Vendors;

use super::quota::Quota;
use super::store::CustomerStore;
use super::{controls, history, ingress, lookup, requests, verdict};

/// The queue group: each request reaches one command service.
const QUEUE: &str = "services";

/// Subscribes to the services over the connection for what comes from outside, and serves them.
pub(super) async fn open(
    (nats, doors): (&Nats, &Nats),
    store: CustomerStore,
    most_waiting: u64,
    vendors: Vendors,
    stop: &CancellationToken,
    parts: &mut JoinSet<&'static str>,
) -> Result<(), NatsError> {
    let submitted = subscribe(doors, services::SUBMIT_ALL).await?;
    parts.spawn(ingress::serve(
        submitted,
        nats.clone(),
        Quota::new(nats.clone(), most_waiting),
        stop.clone(),
    ));
    let asked = subscribe(doors, services::HISTORY_ALL).await?;
    parts.spawn(history::serve(asked, nats.clone(), store.clone(), stop.clone()));
    let asked = subscribe(doors, services::OUTCOME_ALL).await?;
    parts.spawn(lookup::serve(asked, nats.clone(), store, stop.clone()));
    let asked = subscribe(doors, services::CONTROL_ALL).await?;
    parts.spawn(controls::serve(asked, nats.clone(), vendors, stop.clone()));
    Ok(())
}

async fn subscribe(nats: &Nats, subject: &'static str) -> Result<Subscriber, NatsError> {
    let subscriber = nats.client.queue_subscribe(subject, QUEUE.to_owned()).await;
    let subscriber = subscriber.map_err(NatsError::failed(format!("subscribing to {subject}")))?;
    nats.subscribed().await?;
    Ok(subscriber)
}

/// Answers with a body, or with a refusal in the form of an outcome.
pub(super) async fn answer(nats: &Nats, to: Option<Subject>, answer: Result<Bytes, Refusal>) {
    let body = match answer {
        Ok(body) => body,
        Err(refusal) => {
            let refused = Outcome::refused(None, None, verdict::clipped(refusal));
            return requests::reply(nats, to, &refused).await;
        }
    };
    let Some(to) = to else { return };
    if let Err(error) = nats.client.publish_with_headers(to, HeaderMap::new(), body).await {
        tracing::warn!(%error, "an answer could not be sent; its asker will ask again");
    }
}

/// NATS did not do its part.
pub(super) fn unavailable(error: &(dyn std::error::Error + 'static)) -> Refusal {
    // What went wrong inside is ours to know: it may name streams and places of others.
    tracing::warn!(error, "a question could not be answered");
    Refusal::new(Reason::Unavailable, "it cannot be answered now").next("Ask again.")
}
