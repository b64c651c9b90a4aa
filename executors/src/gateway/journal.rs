//! The effect journal: each change at a vendor, before it is asked for and after it was answered.

use jiff::Timestamp;
use uuid::Uuid;
use wanwright_nats::publish::publish;
use wanwright_nats::topology::EFFECTS;
use wanwright_nats::{Nats, NatsError, load_subject};
use wanwright_schemas::effect::{EFFECT_VERSION, Effect, Phase};
use wanwright_schemas::subjects;

mod lost;

use super::run::RunContext;

pub(crate) use lost::{CREATE, Held, Kinds, Losses, Lost, OWN_CREATE, lost};

/// What a change is asked for with.
#[derive(Default)]
pub(crate) struct Change {
    pub(crate) call: Uuid,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) key: Option<String>,
}

/// Writes one half of a change, and waits until it is stored.
pub(crate) async fn write(
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

/// Notes that the target is as wanted after a run: what was unknown before has been observed.
pub(crate) async fn settle(nats: &Nats, context: &RunContext) -> Result<(), NatsError> {
    write(nats, context, &Change::default(), Phase::Settled).await
}

/// The journal of a target.
pub(crate) async fn of_target(nats: &Nats, context: &RunContext) -> Result<Vec<Effect>, NatsError> {
    let subject = subjects::effect(&context.customer, &context.target);
    let mut effects = Vec::new();
    for message in load_subject(nats, EFFECTS, &subject, 0).await? {
        match serde_json::from_slice(&message.payload) {
            Ok(effect) => effects.push(effect),
            Err(error) => {
                tracing::error!(subject, sequence = message.sequence, %error, "an entry of the journal cannot be read");
            }
        }
    }
    Ok(effects)
}

/// The changes that were answered from then on, with the vendor's status.
pub(crate) fn answered(effects: &[Effect], since: Timestamp) -> impl Iterator<Item = (&Effect, u16)> {
    effects.iter().filter(move |effect| effect.time >= since).filter_map(|effect| match effect.phase {
        Phase::After { status, .. } if status != 0 => Some((effect, status)),
        _ => None,
    })
}

/// The changes without an answer, those before the target was last settled left out: what a run that died may have done.
pub(crate) fn open(effects: Vec<Effect>) -> Vec<Effect> {
    let mut open: Vec<Effect> = Vec::new();
    for effect in effects {
        open.retain(|before| before.call != effect.call);
        match effect.phase {
            // Status 0: the vendor was asked and gave no answer.
            Phase::Before | Phase::After { status: 0, .. } => open.push(effect),
            Phase::After { .. } | Phase::Withheld => {}
            Phase::Settled => open.clear(),
        }
    }
    open
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

#[cfg(test)]
mod tests {
    use super::*;
    use wanwright_schemas::OrderId;

    fn effect(call: u128, phase: Phase) -> Effect {
        Effect {
            v: EFFECT_VERSION,
            time: Timestamp::UNIX_EPOCH,
            order: OrderId::of_digest([0; 32]),
            call: Uuid::from_u128(call),
            method: "POST".to_owned(),
            path: "/v1/devices".to_owned(),
            key: None,
            phase,
        }
    }

    fn after(status: u16) -> Phase {
        Phase::After { status, id: None }
    }

    #[test]
    fn what_a_dead_run_heard_is_told_by_its_time() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let effects =
            [(1, Phase::Before), (1, after(201)), (2, after(0)), (3, after(409)), (4, Phase::Withheld)];
        let effects: Vec<Effect> = effects
            .into_iter()
            .zip(1..)
            .map(|((call, phase), second)| Effect { time: at(second), ..effect(call, phase) })
            .collect();
        let heard = |since| answered(&effects, at(since)).map(|(_, status)| status).collect::<Vec<_>>();
        assert_eq!((heard(0), heard(3), heard(5)), (vec![201, 409], vec![409], vec![]));
    }

    #[test]
    fn what_was_answered_withheld_or_settled_is_not_open() {
        let calls = |effects: Vec<Effect>| -> Vec<u128> {
            open(effects).iter().map(|effect| effect.call.as_u128()).collect()
        };
        let asked = |call| effect(call, Phase::Before);
        assert_eq!(calls(vec![asked(1), effect(1, after(201)), asked(2)]), [2]);
        assert_eq!(calls(vec![asked(1), effect(1, after(0))]), [1], "asked, and no answer came");
        assert_eq!(calls(vec![asked(1), effect(1, Phase::Withheld)]), [0_u128; 0]);
        assert_eq!(calls(vec![asked(1), effect(0, Phase::Settled), asked(2)]), [2]);
    }
}
