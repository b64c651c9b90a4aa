//! Previews: what Terraform would do to a stack that is not as somebody thinks of it.
//!
//! Asked by request and reply, by the command service for a dry run. Nothing is written for it, neither a record nor a
//! plan file, and no lease is held: it is a look at what there is now, which a run beside it may change meanwhile.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use wanwright_nats::NatsError;
use wanwright_schemas::order::{Intent, Order};
use wanwright_schemas::outcome::WouldPlan;
use wanwright_schemas::plan::Plan;
use wanwright_schemas::subjects;
use wanwright_schemas::{Reason, Refusal};
use wanwright_vendors::Engine;

use crate::engine::{Begun, Log, Measure, Run, Scans, Together};
use crate::gateway::Priority;
use crate::records::{self, Records};
use crate::scheduler::Config;

/// The queue group of the executors: each request reaches one of them.
const QUEUE: &str = "executors";

/// How many previews an executor makes at once. Others are refused, and not kept waiting.
const AT_ONCE: usize = 2;

/// Longest preview. Whoever asked waits a little longer.
const LIMIT: Duration = Duration::from_secs(55);

/// Subscribes to the requests.
///
/// # Errors
/// [`NatsError`].
pub(crate) async fn open(config: &Config) -> Result<async_nats::Subscriber, NatsError> {
    let doing = || format!("subscribing to {}", subjects::PREVIEW);
    let subscriber = config.nats.client.queue_subscribe(subjects::PREVIEW, QUEUE.to_owned()).await;
    let subscriber = subscriber.map_err(NatsError::failed(doing()))?;
    config.nats.client.flush().await.map_err(NatsError::failed(doing()))?;
    Ok(subscriber)
}

/// Answers requests until told to stop.
pub(crate) async fn serve(mut requests: async_nats::Subscriber, config: Config, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let request = tokio::select! {
            () = stop.cancelled() => return,
            request = requests.next() => request,
        };
        let Some(request) = request else { return };
        // An answer goes where such answers go and nowhere else: it is published with this process's rights.
        let Some(reply) = request.reply.filter(|reply| reply.starts_with(subjects::PREVIEWED)) else {
            continue;
        };
        let (config, stop, slots) = (config.clone(), stop.clone(), Arc::clone(&slots));
        tokio::spawn(async move {
            let answer = answer(&config, &request.payload, &slots, &stop).await;
            let body = serde_json::to_vec(&answer).unwrap_or_default();
            if let Err(error) = config.nats.client.publish(reply, body.into()).await {
                tracing::warn!(%error, "a preview could not be answered");
            }
        });
    }
}

async fn answer(
    config: &Config,
    body: &[u8],
    slots: &Semaphore,
    stop: &CancellationToken,
) -> Option<WouldPlan> {
    let order: Order = serde_json::from_slice(body).ok()?;
    let target = order.target();
    let made = match slots.try_acquire() {
        Ok(_slot) => {
            let made = tokio::time::timeout(LIMIT, preview(config, &order, stop)).await;
            made.unwrap_or_else(|_| Err(unavailable(format!("it took longer than {} s", LIMIT.as_secs()))))
        }
        Err(_) => Err(unavailable(format!("an executor is at {AT_ONCE} previews already"))),
    };
    Some(match made {
        Ok(plan) => WouldPlan { target, plan: Some(plan), trouble: None },
        Err(trouble) => WouldPlan { target, plan: None, trouble: Some(trouble) },
    })
}

fn unavailable(message: String) -> Refusal {
    Refusal::new(Reason::PreviewUnavailable, message)
}

async fn preview(config: &Config, order: &Order, stop: &CancellationToken) -> Result<Plan, Refusal> {
    let vendors = config.vendors.snapshot();
    let vendor = vendors.get(order.vendor.as_str());
    let vendor = vendor
        .filter(|vendor| vendor.engine(order.target().kind().as_str()) == Some(Engine::Terraform))
        .filter(|_| matches!(order.intent, Intent::Plan { .. }))
        .ok_or_else(|| Refusal::new(Reason::NotPlannable, format!("{} cannot be planned", order.target())))?;
    let mut context = records::context_of(order, None);
    context.priority = Priority::Preview;
    config.gateway.reaches(&context).map_err(|none| none.refusal().clone())?;
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
        log: Log::new(&config.nats, &opened),
        measure: &measure,
        begun: &Begun::default(),
    };
    config.terraform.preview(&run, stop).await
}
