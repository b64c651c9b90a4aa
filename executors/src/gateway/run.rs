//! A run as the gateway knows it: whose calls these are.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio_util::sync::CancellationToken;
use wanwright_schemas::order::Target;
use wanwright_schemas::policy::Account;
use wanwright_schemas::run::RunEvent;
use wanwright_schemas::trace::TraceContext;
use wanwright_schemas::{CustomerId, OrderId, VendorId};
use wanwright_vendors::Carrier;

use super::budget::{Class, Priority};
use crate::records::Records;

/// Whose calls a path stands for.
#[derive(Debug, Clone)]
pub struct RunContext {
    /// Whose order.
    pub customer: CustomerId,
    /// At which vendor.
    pub vendor: VendorId,
    /// The order.
    pub order: OrderId,
    /// What the order is about.
    pub target: Target,
    /// The customer's own account at the vendor, if it has one.
    pub account: Option<Account>,
    /// Names of the secrets that what is wanted names.
    pub secrets: Vec<String>,
    /// Whether it is to change anything at the vendor. What only looks or plans gets no change through.
    pub may_change: bool,
    /// Why the calls are made.
    pub priority: Priority,
    /// The trace of the event that caused the order; calls name its `traceparent` to the vendor.
    pub trace: Option<TraceContext>,
}

/// A run with its count of calls.
pub(super) struct Run {
    pub(super) context: RunContext,
    /// What is recorded about it.
    pub(super) records: Records,
    /// Its path, as the whole URL that stands for the vendor's base URL.
    pub(super) base_url: String,
    /// Cancelled when the run has ended: what it still has in the queue is not sent any more.
    pub(super) closed: CancellationToken,
    calls: AtomicU64,
    /// The same for each limit that counted some.
    counted: Mutex<HashMap<String, u32>>,
    ours: AtomicBool,
    unanswered: AtomicBool,
    /// Whether a provider was asked for a create, which counts as lost as soon as no state has it until the target is settled.
    created: AtomicBool,
    /// Whether its calls come from a program of strangers, whose word for what they are is nothing.
    strangers: AtomicBool,
    /// The runs that its calls are made for; none where it is one itself.
    members: Vec<Arc<Run>>,
}

impl Run {
    pub(super) fn new(context: RunContext, records: Records, base_url: String) -> Self {
        Self {
            context,
            records,
            base_url,
            closed: CancellationToken::new(),
            calls: AtomicU64::new(0),
            counted: Mutex::default(),
            ours: AtomicBool::new(false),
            unanswered: AtomicBool::new(false),
            created: AtomicBool::new(false),
            strangers: AtomicBool::new(false),
            members: Vec::new(),
        }
    }

    /// The last part of its path, which nobody else knows.
    pub(super) fn token(&self) -> &str {
        self.base_url.rsplit('/').next().unwrap_or_default()
    }

    /// A path whose calls are made for many runs at once.
    pub(super) fn of_many(
        context: RunContext,
        records: Records,
        base_url: String,
        members: Vec<Arc<Self>>,
    ) -> Self {
        Self { members, ..Self::new(context, records, base_url) }
    }

    /// Whose calls these are.
    pub(super) fn contexts(&self) -> Vec<&RunContext> {
        self.runs().into_iter().map(|run| &run.context).collect()
    }

    /// Whether one of those that its calls are made for has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.is_cancelled() || self.members.iter().any(|member| member.closed.is_cancelled())
    }

    /// Waits until that is so.
    pub(super) async fn ended(&self) {
        let all = self.members.iter().map(|member| &member.closed).chain([&self.closed]);
        let _ = futures::future::select_all(all.map(|closed| Box::pin(closed.cancelled()))).await;
    }

    /// Counts a call.
    pub(super) fn count(&self, class: &Class) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        for member in &self.members {
            member.calls.fetch_add(1, Ordering::Relaxed);
        }
        if let Ok(mut counted) = self.counted.lock() {
            for name in class.names() {
                *counted.entry(name.to_owned()).or_default() += 1;
            }
        }
    }

    /// Notes that a change was asked for whose answer is not in the journal.
    pub(super) fn left_unanswered(&self) {
        self.unanswered.store(true, Ordering::Relaxed);
        self.members.iter().for_each(|member| member.left_unanswered());
    }

    /// Whether what a call says of itself is believed.
    pub(super) fn is_believed(&self) -> bool {
        !self.strangers.load(Ordering::Acquire)
    }

    /// The runs that its calls are made for.
    fn runs(&self) -> Vec<&Self> {
        match self.members.as_slice() {
            [] => vec![self],
            members => members.iter().map(AsRef::as_ref).collect(),
        }
    }

    /// Notes that one of its calls has its turn.
    pub(super) fn under_way(&self) {
        self.runs().iter().for_each(|run| run.records.under_way());
    }

    /// Adds a record to those of each run that its calls are made for.
    pub(super) async fn record(&self, event: RunEvent) {
        for run in self.runs() {
            run.records.add(event.clone()).await;
            if run.closed.is_cancelled() {
                // Nobody else writes it any more.
                run.records.store().await;
            }
        }
    }

    /// Notes that a call failed for a reason of ours.
    pub(super) fn failed_by_us(&self) {
        self.ours.store(true, Ordering::Relaxed);
        self.members.iter().for_each(|member| member.failed_by_us());
    }
}

/// A run, for whoever makes a call for many.
#[derive(Clone)]
pub struct Share(pub(super) Arc<Run>);

impl std::fmt::Debug for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Share").field("context", &self.0.context).finish_non_exhaustive()
    }
}

impl Share {
    /// Whether the run has ended.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Notes that a provider is asked for a create.
    pub(crate) fn asks_for_create(&self) {
        self.0.created.store(true, Ordering::Relaxed);
    }

    /// Notes that a change was asked for whose answer is not in the journal.
    pub(crate) fn left_unanswered(&self) {
        self.0.left_unanswered();
    }
}

/// A path that is open for a run; it closes when this is dropped.
pub struct Opened {
    run: Arc<Run>,
    door: Arc<dyn Carrier>,
    close: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl std::fmt::Debug for Opened {
    // The path is a right to call the vendor: it stays out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").field("context", &self.run.context).finish_non_exhaustive()
    }
}

impl Opened {
    pub(super) fn new(
        run: Arc<Run>,
        door: Arc<dyn Carrier>,
        close: impl FnOnce() + Send + Sync + 'static,
    ) -> Self {
        Self { run, door, close: Some(Box::new(close)) }
    }

    /// What takes calls to the vendor from within this process.
    pub fn carrier(&self) -> Arc<dyn Carrier> {
        Arc::clone(&self.door)
    }

    /// The base URL that stands for the vendor.
    pub fn base_url(&self) -> &str {
        &self.run.base_url
    }

    /// Has no call of this run believed that it says of itself that it only looks.
    pub(crate) fn of_strangers(&self) {
        self.run.strangers.store(true, Ordering::Release);
    }

    /// The part of that URL which nobody else knows.
    pub(crate) fn token(&self) -> &str {
        self.run.token()
    }

    /// The run, for a call that is made for many.
    pub fn share(&self) -> Share {
        Share(Arc::clone(&self.run))
    }

    /// Whose calls these are.
    pub fn context(&self) -> &RunContext {
        &self.run.context
    }

    /// What is recorded about the run.
    pub(crate) fn records(&self) -> &Records {
        &self.run.records
    }

    /// Writes down what was recorded about the run until now; that happens by itself when the path closes.
    pub async fn store_records(&self) {
        self.run.records.store().await;
    }

    /// Whether a change was asked for whose answer is not in the journal.
    pub fn has_unanswered(&self) -> bool {
        self.run.unanswered.load(Ordering::Relaxed)
    }

    /// Whether a provider was asked for a create that the journal has.
    pub(crate) fn has_creates(&self) -> bool {
        self.run.created.load(Ordering::Relaxed)
    }

    /// How many calls each limit counted.
    pub(super) fn counted(&self) -> HashMap<String, u32> {
        self.run.counted.lock().map(|counted| counted.clone()).unwrap_or_default()
    }

    /// How many calls the vendor got through this path.
    pub fn calls(&self) -> u64 {
        self.run.calls.load(Ordering::Relaxed)
    }

    /// Whether a call failed for a reason that is ours and not the vendor's: there was no turn in time, the journal
    /// was away, the gateway was stopping, or the vendor did not accept our credential.
    pub fn failed_by_us(&self) -> bool {
        self.run.ours.load(Ordering::Relaxed)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.run.closed.cancel();
        if let Some(close) = self.close.take() {
            close();
        }
    }
}
