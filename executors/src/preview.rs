//! Previews: what Terraform would do to a stack that is not as somebody thinks of it.
//!
//! Asked by request and reply, by the command service for a dry run. Nothing is written for it, neither a record nor a
//! plan file, and no lease is held: it is a look at what there is now, which a run beside it may change meanwhile. Its calls
//! are the vendor's like any other's: they are held back by a pause, admitted, and paid for.

use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;
use wanwright_nats::{Controls, NatsError};
use wanwright_schemas::order::{Intent, Order};
use wanwright_schemas::outcome::WouldPlan;
use wanwright_schemas::plan::Plan;
use wanwright_schemas::subjects;
use wanwright_schemas::{Reason, Refusal};
use wanwright_vendors::Engine;

use crate::engine::{Begun, Log, Measure, Run, Scans, Stored, Together};
use crate::gateway::{Admission, Admitted, Gateway, Priority, RunContext};
use crate::questions::{self, Bounds, GROUP, Limit};
use crate::records::{self, Records};
use crate::scheduler::{Config, unpaused};

/// How many previews an executor makes at once: others are refused, and not kept waiting. Whoever asked waits a little
/// longer than the longest.
const BOUNDS: Bounds = Bounds { most: 2, time: Duration::from_secs(55) };

/// How long one of them waits to be admitted: the rest of its time is for Terraform, whose calls may wait as well.
const TURN: Duration = Duration::from_secs(25);

/// Subscribes to the requests.
///
/// # Errors
/// [`NatsError`].
pub(crate) async fn open(config: &Config) -> Result<async_nats::Subscriber, NatsError> {
    let subscriber = config.nats.client.queue_subscribe(subjects::PREVIEW, GROUP.to_owned()).await;
    let subscriber =
        subscriber.map_err(NatsError::failed(format!("subscribing to {}", subjects::PREVIEW)))?;
    config.nats.subscribed().await?;
    Ok(subscriber)
}

/// Answers requests until told to stop.
pub(crate) async fn serve(
    requests: async_nats::Subscriber,
    config: Config,
    controls: Controls,
    stop: CancellationToken,
) {
    let answer = |body: Bytes, limit: Option<Limit>| {
        let (config, controls, stop) = (config.clone(), controls.clone(), stop.clone());
        async move { answer(&config, &controls, &body, limit, &stop).await }
    };
    questions::serve(&config.nats, requests, BOUNDS, &stop, answer).await;
}

async fn answer(
    config: &Config,
    controls: &Controls,
    body: &[u8],
    limit: Option<Limit>,
    stop: &CancellationToken,
) -> Option<WouldPlan> {
    let order: Order = serde_json::from_slice(body).ok()?;
    let target = order.target();
    let made = match limit {
        Some(limit) => {
            let made = limit.within(preview(config, controls, &order, stop)).await;
            made.unwrap_or_else(|cut| Err(unavailable(cut)))
        }
        None => Err(unavailable(format!("an executor is at {} previews already", BOUNDS.most))),
    };
    Some(match made {
        Ok(plan) => WouldPlan { target, plan: Some(plan), trouble: None },
        Err(trouble) => WouldPlan { target, plan: None, trouble: Some(trouble) },
    })
}

fn unavailable(message: String) -> Refusal {
    Refusal::new(Reason::PreviewUnavailable, message)
}

async fn preview(
    config: &Config,
    controls: &Controls,
    order: &Order,
    stop: &CancellationToken,
) -> Result<Plan, Refusal> {
    let vendors = config.vendors.snapshot();
    let vendor = vendors.get(order.vendor.as_str());
    let vendor = vendor
        .filter(|vendor| vendor.engine(order.target().kind().as_str()) == Some(Engine::Terraform))
        .filter(|_| matches!(order.intent, Intent::Plan { .. }))
        .ok_or_else(|| Refusal::new(Reason::NotPlannable, format!("{} cannot be planned", order.target())))?;
    let mut context = records::context_of(order, None);
    context.priority = Priority::Preview;
    config.gateway.reaches(&context).map_err(|none| none.refusal().clone())?;
    unpaused(controls, &context).await?;
    let _admitted = admit(&config.gateway, &context, order).await?;
    // It may have been paused meanwhile.
    unpaused(controls, &context).await?;
    let records = Records::unwritten(config.nats.clone(), context.clone());
    let opened = config.gateway.open_with(records, context);
    let (scans, together) = (Scans::default(), Together::new(config.gateway.clone()));
    let measure = Measure::begin();
    let run = Run {
        order,
        vendor,
        gateway: &opened,
        observe_first: false,
        scans: &scans,
        together: &together,
        attempt: 0,
        unsettled: false,
        held: None,
        log: Log::new(&config.nats, &opened),
        measure: &measure,
        begun: &Begun::default(),
        stored: &Stored::default(),
    };
    let plan = config.terraform.preview(&run, stop).await?;
    config.gateway.learn(&opened, &order.intent);
    Ok(plan)
}

/// Waits until the calls to expect can be made in time; says what they would wait for where that takes too long.
async fn admit(gateway: &Gateway, context: &RunContext, order: &Order) -> Result<Admitted, Refusal> {
    if let Some(Admission::HeldBack { until, reason }) = gateway.admits(context)
        && until > Timestamp::now() + SignedDuration::try_from(TURN).unwrap_or_default()
    {
        return Err(unavailable(held_back(context, until, &reason)));
    }
    let expected = gateway.expected(context, &order.intent);
    match tokio::time::timeout(TURN, gateway.admit(context, expected)).await {
        Ok(admitted) => admitted.ok_or_else(|| unavailable("the executor stops".to_owned())),
        Err(_) => Err(unavailable(match gateway.admits(context) {
            Some(Admission::HeldBack { until, reason }) => held_back(context, until, &reason),
            _ => format!("vendor {} had no room for its calls within {} s", context.vendor, TURN.as_secs()),
        })),
    }
}

fn held_back(context: &RunContext, until: Timestamp, reason: &str) -> String {
    format!("vendor {} is left alone until {until:.0}, because calls only fail: {reason}", context.vendor)
}
