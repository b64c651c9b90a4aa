//! Timers: messages that the server publishes later.
//!
//! A scheduled message may only target its own stream, so a timer waits on `wan.timer.wait.…` and fires to
//! `wan.timer.due.…`; whoever is concerned reads what fired and acts.

use async_nats::HeaderMap;
use async_nats::header::{NATS_SCHEDULE, NATS_SCHEDULE_TARGET, NATS_SCHEDULE_TTL};
use async_nats::jetstream;
use bytes::Bytes;
use jiff::Timestamp;
use wanwright_schemas::subjects;

use crate::error::NatsError;
use crate::publish::publish;

/// How long a fired timer stays readable.
const DUE_TTL: &str = "24h";

/// Sets a timer. `name` is made of subject tokens; setting the same name again replaces the timer that waits.
pub async fn set(
    js: &jetstream::Context,
    name: &str,
    at: Timestamp,
    payload: impl Into<Bytes>,
) -> Result<(), NatsError> {
    let (waits, fires) = subjects::timer(name);
    let mut headers = HeaderMap::new();
    headers.insert(NATS_SCHEDULE, format!("@at {}", at.strftime("%Y-%m-%dT%H:%M:%SZ")).as_str());
    headers.insert(NATS_SCHEDULE_TARGET, fires.as_str());
    headers.insert(NATS_SCHEDULE_TTL, DUE_TTL);
    publish(js, waits, headers, payload.into()).await.map(drop)
}
