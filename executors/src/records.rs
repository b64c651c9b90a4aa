//! Run records: what is written about an order while it waits and runs.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::Notify;
use wanwright_nats::publish::publish;
use wanwright_nats::{Nats, NatsError};
use wanwright_schemas::order::{Desired, Intent, Order};
use wanwright_schemas::run::{RUN_BATCH_VERSION, RUN_VERSION, RunBatch, RunEntry, RunEvent, RunRecord};
use wanwright_schemas::subjects;
use wanwright_schemas::trace::TraceContext;
use wanwright_vendors::secret_name;

use crate::gateway::{Priority, RunContext};

/// How long a run that is under way keeps its first records to itself: a shorter one is one message. As much may be lost with
/// an executor that dies; changes at the vendor are in the effect journal before they are made.
const SHORT: Duration = Duration::from_secs(1);

/// How long it keeps those that follow: whoever watches sees it go on.
const LIVE: Duration = Duration::from_millis(250);

/// Most records that wait for being written.
const MOST_GATHERED: usize = 64;

/// The context in which an order's records are written and its calls are made.
pub(crate) fn context_of(order: &Order, trace: Option<TraceContext>) -> RunContext {
    RunContext {
        customer: order.customer.clone(),
        vendor: order.vendor.clone(),
        order: order.id,
        target: order.target(),
        account: order.account.clone(),
        secrets: secrets_of(order),
        may_change: matches!(order.intent, Intent::Apply | Intent::Remove),
        priority: if order.is_look() { Priority::Drift } else { Priority::Intent },
        trace,
    }
}

/// The secrets that an order's settings name. What is taken down needs none.
pub(crate) fn secrets_of(order: &Order) -> Vec<String> {
    let mut names = Vec::new();
    if matches!(order.intent, Intent::Remove | Intent::Plan { remove: true, .. }) {
        return names;
    }
    match &order.desired {
        Desired::Device(device) => named(device.settings.values(), &mut names),
        Desired::Site { site, tunnels, .. } => {
            named(site.settings.values(), &mut names);
            tunnels.values().for_each(|tunnel| named(tunnel.settings.values(), &mut names));
        }
    }
    names.sort();
    names.dedup();
    names
}

fn named<'a>(values: impl IntoIterator<Item = &'a Value>, names: &mut Vec<String>) {
    for value in values {
        match value {
            Value::String(text) => names.extend(secret_name(text).map(str::to_owned)),
            Value::Array(items) => named(items, names),
            Value::Object(map) => named(&mut map.values() as &mut dyn Iterator<Item = &Value>, names),
            _ => {}
        }
    }
}

/// Writes a record by itself, in the trace of its order, and waits until it is stored. A record is detail: what cannot be
/// written is logged and let go.
pub(crate) async fn write(nats: &Nats, context: &RunContext, event: RunEvent) {
    store(nats, context, vec![RunEntry { time: Timestamp::now(), event }]).await;
}

/// The same of how an order ended without a run, where no later record tells: before it is true, so that whoever dies in
/// between does both again, and neither is done without the other.
///
/// # Errors
/// [`NatsError`], when it is not stored.
pub(crate) async fn tell(nats: &Nats, context: &RunContext, event: RunEvent) -> Result<(), NatsError> {
    try_store(nats, context, vec![RunEntry { time: Timestamp::now(), event }]).await
}

/// The records of one run, gathered so that few messages hold them. What is left when the last who has them lets go is
/// written then.
#[derive(Clone, Debug)]
pub(crate) struct Records(Arc<Gathered>);

#[derive(Debug)]
struct Gathered {
    nats: Nats,
    context: RunContext,
    waiting: Mutex<Vec<RunEntry>>,
    /// Somebody wants to see what waits.
    wanted: Notify,
    /// Whether nothing is written: it is of a run that leaves nothing behind.
    unwritten: bool,
}

impl Records {
    pub(crate) fn new(nats: Nats, context: RunContext) -> Self {
        Self::gathered(nats, context, false)
    }

    /// Records that are written nowhere.
    pub(crate) fn unwritten(nats: Nats, context: RunContext) -> Self {
        Self::gathered(nats, context, true)
    }

    fn gathered(nats: Nats, context: RunContext, unwritten: bool) -> Self {
        let (waiting, wanted) = (Mutex::default(), Notify::new());
        Self(Arc::new(Gathered { nats, context, waiting, wanted, unwritten }))
    }

    /// Adds the record that a run began. It is written when the run is [under way](Self::under_way): one that waits for its
    /// turn at the vendor is still a waiting one to whoever watches.
    pub(crate) fn begin(&self, event: RunEvent) {
        self.gather(vec![RunEntry { time: Timestamp::now(), event }]);
    }

    /// Notes that the run does something now.
    pub(crate) fn under_way(&self) {
        self.0.wanted.notify_one();
    }

    /// Adds a record. It is written with the next ones; those that are many by now are written first.
    pub(crate) async fn add(&self, event: RunEvent) {
        self.add_all(vec![RunEntry { time: Timestamp::now(), event }]).await;
    }

    /// Takes out what was gathered and not written yet.
    pub(crate) fn take(&self) -> Vec<RunEntry> {
        std::mem::take(&mut *self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds records that were gathered elsewhere, with their times.
    pub(crate) async fn add_all(&self, entries: Vec<RunEntry>) {
        let many = self.gather(entries) >= MOST_GATHERED;
        self.under_way();
        if many {
            self.store().await;
        }
    }

    /// Answers how many wait.
    fn gather(&self, entries: Vec<RunEntry>) -> usize {
        if self.0.unwritten {
            return 0;
        }
        let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.extend(entries);
        waiting.len()
    }

    /// The order that they are about.
    pub(crate) fn context(&self) -> &RunContext {
        &self.0.context
    }

    /// Writes what was gathered, and waits until it is stored.
    pub(crate) async fn store(&self) {
        let waiting = self.take();
        if !waiting.is_empty() {
            store(&self.0.nats, &self.0.context, waiting).await;
        }
    }

    /// Stores again and again what is gathered; for as long as a run goes on.
    pub(crate) async fn keep_storing(&self) -> std::convert::Infallible {
        let mut pause = SHORT;
        loop {
            self.0.wanted.notified().await;
            tokio::time::sleep(pause).await;
            self.store().await;
            pause = LIVE;
        }
    }
}

impl Drop for Gathered {
    fn drop(&mut self) {
        let waiting = std::mem::take(self.waiting.get_mut().unwrap_or_else(PoisonError::into_inner));
        if let Some(runtime) = tokio::runtime::Handle::try_current().ok().filter(|_| !waiting.is_empty()) {
            let (nats, context) = (self.nats.clone(), self.context.clone());
            runtime.spawn(async move { store(&nats, &context, waiting).await });
        }
    }
}

/// Stores records as one message; what cannot be written is let go.
async fn store(nats: &Nats, context: &RunContext, entries: Vec<RunEntry>) {
    if let Err(error) = try_store(nats, context, entries).await {
        tracing::warn!(order = %context.order, error = &error as &dyn std::error::Error, "run records are lost");
    }
}

async fn try_store(nats: &Nats, context: &RunContext, entries: Vec<RunEntry>) -> Result<(), NatsError> {
    let Some(word) = entries.last().map(|last| last.event.word()) else { return Ok(()) };
    let body = body(context, entries).map_err(NatsError::failed("writing run records as JSON"))?;
    let mut headers = async_nats::HeaderMap::new();
    if let Some(trace) = &context.trace {
        wanwright_nats::trace::write(trace, &mut headers);
    }
    let subject = subjects::run(&context.customer, context.order, word);
    publish(&nats.js, subject, headers, body.into()).await.map(drop)
}

/// One record is written as it always was.
fn body(context: &RunContext, mut entries: Vec<RunEntry>) -> serde_json::Result<Vec<u8>> {
    let (customer, vendor) = (context.customer.clone(), context.vendor.clone());
    let (order, target) = (context.order, context.target.clone());
    if entries.len() > 1 {
        let batch = RunBatch { v: RUN_BATCH_VERSION, customer, vendor, order, target, records: entries };
        return serde_json::to_vec(&batch);
    }
    let Some(RunEntry { time, event }) = entries.pop() else { return Ok(Vec::new()) };
    serde_json::to_vec(&RunRecord { v: RUN_VERSION, time, customer, vendor, order, target, event })
}
