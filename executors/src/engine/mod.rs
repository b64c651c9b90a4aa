//! Engines: what carries an order out. An engine obeys; it decides nothing.

pub mod api;

use wanwright_nats::Nats;
use wanwright_schemas::command::ObjectRef;
use wanwright_schemas::order::{Desired, Order};
use wanwright_schemas::reason::Reason;
use wanwright_schemas::report::{Finding, ObjectFinding, Outputs};
use wanwright_schemas::run::RunEvent;
use wanwright_vendors::ClientError;
use wanwright_vendors::Vendor;

use crate::gateway::RunContext;
use crate::records;

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
    pub base_url: &'a str,
    /// Whether an earlier run died, so that what it did has to be looked for first.
    pub observe_first: bool,
    /// Which try this is, from 1.
    pub attempt: u32,
    /// Where the run's log goes.
    pub log: Log<'a>,
}

/// The live log of a run.
#[derive(Debug, Clone)]
pub struct Log<'a> {
    nats: &'a Nats,
    context: &'a RunContext,
}

impl<'a> Log<'a> {
    /// The log of a run.
    pub fn new(nats: &'a Nats, context: &'a RunContext) -> Self {
        Self { nats, context }
    }

    /// Adds a line. `level` is `info`, `warn` or `error`.
    pub async fn line(&self, level: &str, message: impl Into<String>) {
        let event = RunEvent::Log { level: level.to_owned(), message: message.into() };
        records::write(self.nats, self.context, event).await;
    }
}

/// The reason a vendor client's error has in the catalogue.
pub(crate) fn reason_of(error: &ClientError) -> Reason {
    match error {
        ClientError::Refused { .. } => Reason::VendorRefused,
        ClientError::Busy { .. } => Reason::VendorBusy,
        ClientError::Network { .. } => Reason::Network,
        ClientError::Unexpected { status: Some(_), .. } => Reason::VendorBusy,
        ClientError::Unexpected { .. } | ClientError::Configuration { .. } => Reason::Internal,
    }
}

/// The reason that a diagnostic's class word names.
pub(crate) fn reason_of_class(class: &str) -> Option<Reason> {
    match class {
        "VendorRefused" => Some(Reason::VendorRefused),
        "VendorBusy" => Some(Reason::VendorBusy),
        "Network" => Some(Reason::Network),
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

/// The same failure for every object of an order.
pub(crate) fn failed(order: &Order, code: Reason, message: &str) -> Vec<ObjectFinding> {
    let failed = |generation| Finding::Failed { generation, code, message: message.to_owned() };
    match &order.desired {
        Desired::Device(device) => of_device(order, failed(device.generation)),
        Desired::Site { site, tunnels, .. } => {
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
            std::iter::once(of_site).chain(of_tunnels).collect()
        }
    }
}

/// Outputs with the inputs they were made with.
pub(crate) fn with_inputs(mut outputs: Outputs, inputs: Outputs) -> Outputs {
    outputs.insert("inputs".to_owned(), serde_json::Value::Object(inputs));
    outputs
}
