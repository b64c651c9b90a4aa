//! The effect journal: each change at a vendor, before it is asked for and after it was answered.

use jiff::Timestamp;
use wanwright_nats::publish::publish;
use wanwright_nats::topology::EFFECTS;
use wanwright_nats::{Nats, NatsError, load_subject};
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

/// The changes of a target that were asked for and never answered: what a run that died may have done.
pub(crate) async fn unanswered(nats: &Nats, context: &RunContext) -> Result<Vec<Effect>, NatsError> {
    let subject = subjects::effect(&context.customer, &context.target);
    let mut open: Vec<Effect> = Vec::new();
    for message in load_subject(nats, EFFECTS, &subject, 0).await? {
        let effect: Effect = match serde_json::from_slice(&message.payload) {
            Ok(effect) => effect,
            Err(error) => {
                tracing::error!(subject, sequence = message.sequence, %error, "an entry of the journal cannot be read");
                continue;
            }
        };
        open.retain(|before| (before.order, before.call) != (effect.order, effect.call));
        // Status 0: the vendor was asked and gave no answer.
        if matches!(effect.phase, Phase::Before | Phase::After { status: 0, .. }) {
            open.push(effect);
        }
    }
    Ok(open)
}

/// Forgets the journal of a target that is gone at the vendor.
pub(crate) async fn forget(nats: &Nats, context: &RunContext) -> Result<(), NatsError> {
    let subject = subjects::effect(&context.customer, &context.target);
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| NatsError::Failed {
        doing: format!("forgetting {subject}"),
        source,
    };
    let stream = nats.js.get_stream_no_info(EFFECTS).await.map_err(|error| failed(error.into()))?;
    stream.purge().filter(&subject).await.map(drop).map_err(|error| failed(error.into()))
}
