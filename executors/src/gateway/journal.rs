//! The effect journal: each change at a vendor, before it is asked for and after it was answered.

use jiff::Timestamp;
use wanwright_nats::publish::publish;
use wanwright_nats::{Nats, NatsError};
use wanwright_schemas::effect::{EFFECT_VERSION, Effect, Phase};
use wanwright_schemas::subjects;

use super::run::RunContext;

/// What a change is asked for with.
pub(super) struct Change {
    pub(super) call: u64,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) key: Option<String>,
}

/// Writes one half of a change, and waits until it is stored.
pub(super) async fn write(
    nats: &Nats,
    context: &RunContext,
    change: &Change,
    phase: Phase,
) -> Result<(), NatsError> {
    let effect = Effect {
        v: EFFECT_VERSION,
        time: Timestamp::now(),
        order: context.order,
        call: change.call,
        method: change.method.clone(),
        path: change.path.clone(),
        key: change.key.clone(),
        phase,
    };
    let subject = subjects::effect(&context.customer, &context.target);
    let body = serde_json::to_vec(&effect)
        .map_err(|error| NatsError::Failed { doing: format!("writing {subject}"), source: error.into() })?;
    publish(&nats.js, subject, async_nats::HeaderMap::new(), body.into()).await.map(drop)
}
