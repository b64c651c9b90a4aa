//! Reporting: what a run did is said by command, until it has an outcome.

use std::time::Duration;

use async_nats::HeaderMap;
use wanwright_nats::Nats;
use wanwright_schemas::command::ObjectRef;
use wanwright_schemas::headers;
use wanwright_schemas::ids::{Actor, CommandId};
use wanwright_schemas::order::{Order, Target};
use wanwright_schemas::outcome::{Outcome, Verdict};
use wanwright_schemas::reason::{Reason, Refusal};
use wanwright_schemas::report::Report;
use wanwright_schemas::subjects::CommandSubject;
use wanwright_schemas::trace::TraceContext;

/// The actor that executors are.
const ACTOR: &str = "executor";

const PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// A report that was refused.
#[derive(Debug)]
pub(crate) struct Unreported {
    /// Why.
    pub(crate) refusal: Refusal,
    /// The subject it was sent on.
    pub(crate) subject: String,
    /// Its body.
    pub(crate) body: Vec<u8>,
}

/// Reports until the command service has answered. The report keeps its id, so asking again repeats nothing. What it
/// brings about belongs to the trace of what caused the order.
///
/// # Errors
/// [`Unreported`], if the command service does not take the report: nothing that trying again soon would change.
pub(crate) async fn report(
    nats: &Nats,
    order: &Order,
    report: &Report,
    trace: Option<&TraceContext>,
) -> Result<(), Unreported> {
    let internal = |what: String| Unreported {
        refusal: Refusal::new(Reason::Internal, what),
        subject: String::new(),
        body: Vec::new(),
    };
    let object = match order.target() {
        Target::Site(id) => ObjectRef::Site(id),
        Target::Device(id) => ObjectRef::Device(id),
    };
    let actor: Actor =
        ACTOR.parse().map_err(|error: wanwright_schemas::ids::InvalidToken| internal(error.to_string()))?;
    let subject =
        CommandSubject { customer: order.customer.clone(), actor, object, verb: "report".to_owned() };
    let body = serde_json::to_vec(report).map_err(|error| internal(error.to_string()))?;
    let mut head = HeaderMap::new();
    let mint =
        |head: &mut HeaderMap| head.insert(headers::COMMAND_ID, CommandId::mint().to_string().as_str());
    mint(&mut head);
    head.insert(headers::CAUSATION_ID, format!("order:{}", order.id).as_str());
    if let Some(trace) = trace {
        wanwright_nats::trace::write(trace, &mut head);
    }
    let mut pause = PAUSE;
    loop {
        let request = nats.client.request_with_headers(subject.request(), head.clone(), body.clone().into());
        let trouble = match request.await {
            Ok(reply) => {
                match serde_json::from_slice::<Outcome>(&reply.payload).map(|outcome| outcome.verdict) {
                    Ok(Verdict::Accepted { .. }) => return Ok(()),
                    Ok(Verdict::Refused { refusal, .. }) => match refusal.code {
                        Reason::Unavailable | Reason::HistoryDamaged => refusal.to_string(),
                        // The service was away for a day, the clocks disagree, or the answer to this id is lost: the
                        // same report under a new id. To be judged twice does a report no harm.
                        Reason::CommandTooOld | Reason::CommandFromFuture | Reason::StorageDamaged => {
                            mint(&mut head);
                            refusal.to_string()
                        }
                        _ => return Err(Unreported { refusal, subject: subject.request(), body }),
                    },
                    Err(error) => format!("the answer is not an outcome: {error}"),
                }
            }
            Err(error) => error.to_string(),
        };
        tracing::warn!(order = %order.id, trouble, "a report waits for its outcome");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
}
