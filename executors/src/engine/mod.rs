//! Engines: what carries an order out. An engine obeys; it decides nothing.

pub mod api;
mod measure;
mod notes;
mod scans;
mod together;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use wanwright_nats::{Held, Nats, NatsError};
use wanwright_schemas::Digest;
use wanwright_schemas::command::ObjectRef;
use wanwright_schemas::order::{Desired, Order};
use wanwright_schemas::plan::Stale;
use wanwright_schemas::reason::Reason;
use wanwright_schemas::report::{Finding, ObjectFinding, Outputs, StateMark};
use wanwright_schemas::run::{ResourceStep, RunEvent};
use wanwright_vendors::{ClientError, ResourceClient, Vendor, VendorHttp};

use crate::gateway::{Opened, journal};

pub use measure::Measure;
pub(crate) use notes::Notes;
pub use scans::Scans;
pub(crate) use scans::{Found, Pile};
pub use together::Together;

/// What came of a run.
#[derive(Debug)]
pub enum Outcome {
    /// Something to report about every object of the order, failures for good included.
    Done(Vec<ObjectFinding>),
    /// A failure in passing: try again.
    Passing {
        /// Why.
        code: Reason,
        /// Why, in a sentence.
        message: String,
        /// Whether it was ours and not the vendor's: then it is not held against the order.
        ours: bool,
    },
}

/// One run of an order.
#[derive(Debug)]
pub struct Run<'a> {
    /// What to do.
    pub order: &'a Order,
    /// The vendor's folder.
    pub vendor: &'a Vendor,
    /// What stands for the vendor: the run's path through the gateway.
    pub gateway: &'a Opened,
    /// Whether an earlier run died, so that what it did has to be looked for first.
    pub observe_first: bool,
    /// What lists brought for looks.
    pub scans: &'a Scans,
    /// The changes that go together with others.
    pub together: &'a Together,
    /// Which try this is, from 1.
    pub attempt: u32,
    /// Whether the effect journal may name changes of earlier runs whose answers nobody knows.
    pub unsettled: bool,
    /// The lease of the target; none for a run that locks nothing.
    pub held: Option<Held>,
    /// Where the run's log goes.
    pub log: Log<'a>,
    /// Where it is noted what the run takes.
    pub measure: &'a Measure,
    /// Where it is noted that the order's plan was begun.
    pub begun: &'a Begun,
    /// Where it is noted up to which version the stack's Terraform state is stored.
    pub stored: &'a Stored,
}

/// The newest version of a stack's Terraform state that a run saw stored.
#[derive(Debug, Default)]
pub struct Stored(Mutex<Option<StateMark>>);

impl Stored {
    /// Notes it.
    pub(crate) fn set(&self, version: Option<StateMark>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = version;
    }

    /// The version; none where the run used no state, or what it wrote is not stored yet.
    pub fn get(&self) -> Option<StateMark> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a run is in the middle of applying its plan, or was cut off there: then nobody may apply that plan again.
#[derive(Debug, Default)]
pub struct Begun(AtomicBool);

impl Begun {
    /// Notes that the plan is begun, or that it came to an end of its own and the state tells what came of it.
    pub(crate) fn set(&self, begun: bool) {
        self.0.store(begun, Ordering::Relaxed);
    }

    /// Whether it is so.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The live log of a run.
#[derive(Debug, Clone)]
pub struct Log<'a> {
    nats: &'a Nats,
    run: &'a Opened,
}

impl<'a> Log<'a> {
    /// The log of the run that has this path.
    pub fn new(nats: &'a Nats, run: &'a Opened) -> Self {
        Self { nats, run }
    }

    /// Where it goes, and all else that a run keeps.
    pub(crate) fn nats(&self) -> &'a Nats {
        self.nats
    }

    /// Adds a line. `level` is `info`, `warn` or `error`.
    pub async fn line(&self, level: &str, message: impl Into<String>) {
        self.run.records().add(RunEvent::log(level, message)).await;
    }

    /// Adds a line that tells of a resource's step.
    pub async fn step(&self, level: &str, message: String, resource: ResourceStep) {
        let event = RunEvent::Log { level: level.to_owned(), message, resource: Some(resource) };
        self.run.records().add(event).await;
    }
}

/// Ends a run for either engine: whose failure it was, and what the journal may forget.
pub(crate) async fn ended(run: &Run<'_>, outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Passing { code, message, ours } => {
            Outcome::Passing { code, message, ours: ours || run.gateway.failed_by_us() }
        }
        Outcome::Done(findings) => {
            let is_undone = |found: &ObjectFinding| {
                matches!(found.finding, Finding::Failed { .. } | Finding::PlanStale { .. })
            };
            let whole = !findings.iter().any(is_undone);
            // What earlier runs left unknown has been observed by this one, and what it created itself is in the state: what
            // becomes of that later is no loss.
            if whole
                && run.order.changes()
                && (run.unsettled || run.gateway.has_unanswered() || run.gateway.has_creates())
                && let Err(error) = settle(run).await
            {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the journal still names changes as unknown that are known"
                );
            }
            Outcome::Done(findings)
        }
    }
}

/// Notes that the target is as wanted; then nothing is left for a person to look at.
async fn settle(run: &Run<'_>) -> Result<(), NatsError> {
    journal::settle(run.log.nats, run.gateway.context()).await?;
    match &run.order.desired {
        Desired::Site { site, .. } if run.unsettled => Notes::forget(run.log.nats, run.order, site.uid).await,
        _ => Ok(()),
    }
}

/// A client of one kind of object at the run's vendor. `None` if the vendor's folder does not describe the kind.
pub(crate) fn client(run: &Run<'_>, kind: &str) -> Result<Option<ResourceClient>, ClientError> {
    let Some(api) = run.vendor.api.get(kind) else { return Ok(None) };
    Ok(Some(ResourceClient::new(connection(run.gateway)?, Arc::clone(api))))
}

/// A path through the gateway, in this process.
pub(crate) fn connection(gateway: &Opened) -> Result<VendorHttp, ClientError> {
    VendorHttp::carried(gateway.base_url(), gateway.carrier())
}

/// Deletes what the vendor has under this name, and says whether there was anything.
pub(crate) async fn delete_by_name(
    run: &Run<'_>,
    client: &ResourceClient,
    name: &str,
) -> Result<bool, ClientError> {
    if !client.api().finds_by_name() {
        let what = format!(
            "{name} cannot be looked for: the vendor's folder does not say how to list its kind by name"
        );
        run.log.line("warn", what).await;
        return Ok(false);
    }
    let Some(found) = client.find_by_name(name).await? else { return Ok(false) };
    run.log.line("warn", format!("the vendor still has {name} as {}; it is deleted", found.id)).await;
    client.delete(&found.id).await?;
    Ok(true)
}

/// The reason a vendor client's error has in the catalogue.
pub(crate) fn reason_of(error: &ClientError) -> Reason {
    reason_of_class(error.class()).unwrap_or(Reason::Internal)
}

/// The reason that a diagnostic's class word names.
pub(crate) fn reason_of_class(class: &str) -> Option<Reason> {
    match class {
        // What the folder says the vendor will not take is not asked for, and no other try changes that.
        "VendorRefused" | "Invalid" => Some(Reason::VendorRefused),
        "VendorBusy" => Some(Reason::VendorBusy),
        "Network" => Some(Reason::Network),
        "OutcomeUnknown" => Some(Reason::OutcomeUnknown),
        "Unexpected" => Some(Reason::Internal),
        _ => None,
    }
}

/// Findings for a device.
pub(crate) fn of_device(order: &Order, finding: Finding) -> Vec<ObjectFinding> {
    match &order.desired {
        Desired::Device(device) => {
            vec![ObjectFinding { object: ObjectRef::Device(device.id.clone()), uid: device.uid, finding }]
        }
        Desired::Site { .. } => Vec::new(),
    }
}

/// A finding about a stack as a whole, which its site stands for.
pub(crate) fn of_stack(order: &Order, finding: Finding) -> Vec<ObjectFinding> {
    match &order.desired {
        Desired::Device(_) => Vec::new(),
        Desired::Site { site, .. } => {
            vec![ObjectFinding { object: ObjectRef::Site(site.id.clone()), uid: site.uid, finding }]
        }
    }
}

/// The outcome of an order whose plan cannot be applied.
pub(crate) fn stale(order: &Order, plan: Digest, why: Stale) -> Outcome {
    Outcome::Done(of_stack(order, Finding::PlanStale { plan, why }))
}

/// The generation of a failure about a leaving tunnel: an order does not say which one is its absence.
pub(crate) const ABSENCE: u64 = 0;

/// The same failure for every object of an order.
pub(crate) fn failed(order: &Order, code: Reason, message: &str) -> Vec<ObjectFinding> {
    let failed = |generation| Finding::Failed { generation, code, message: message.to_owned() };
    match &order.desired {
        Desired::Device(device) => of_device(order, failed(device.generation)),
        Desired::Site { site, tunnels, leaving } => {
            let of_site = ObjectFinding {
                object: ObjectRef::Site(site.id.clone()),
                uid: site.uid,
                finding: failed(site.generation),
            };
            let of_tunnels = tunnels.iter().map(|(id, tunnel)| ObjectFinding {
                object: ObjectRef::Tunnel(id.clone()),
                uid: tunnel.uid,
                finding: failed(tunnel.generation),
            });
            let of_leaving = leaving.iter().map(|(id, uid)| ObjectFinding {
                object: ObjectRef::Tunnel(id.clone()),
                uid: *uid,
                finding: failed(ABSENCE),
            });
            std::iter::once(of_site).chain(of_tunnels).chain(of_leaving).collect()
        }
    }
}

/// Outputs with the inputs they were made with.
pub(crate) fn with_inputs(mut outputs: Outputs, inputs: Outputs) -> Outputs {
    outputs.insert("inputs".to_owned(), serde_json::Value::Object(inputs));
    outputs
}
