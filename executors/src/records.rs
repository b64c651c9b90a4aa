//! Run records: what is written about an order while it waits and runs.

use jiff::Timestamp;
use serde_json::Value;
use wanwright_nats::Nats;
use wanwright_nats::publish::publish;

use wanwright_schemas::order::{Desired, Intent, Order};
use wanwright_schemas::run::{RUN_VERSION, RunEvent, RunRecord};
use wanwright_schemas::subjects;
use wanwright_schemas::trace::TraceContext;
use wanwright_vendors::secret_name;

use crate::gateway::{Priority, RunContext};

/// The context in which an order's records are written and its calls are made.
pub(crate) fn context_of(order: &Order, trace: Option<TraceContext>) -> RunContext {
    RunContext {
        customer: order.customer.clone(),
        vendor: order.vendor.clone(),
        order: order.id,
        target: order.target(),
        account: order.account.clone(),
        secrets: secrets_of(order),
        priority: if order.changes() { Priority::Intent } else { Priority::Drift },
        trace,
    }
}

/// The secrets that an order's settings name. What is taken down needs none.
fn secrets_of(order: &Order) -> Vec<String> {
    let mut names = Vec::new();
    if matches!(order.intent, Intent::Remove) {
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

/// Writes a record, in the trace of its order, and waits until it is stored. A record is detail: what cannot be written is logged and let go.
pub(crate) async fn write(nats: &Nats, context: &RunContext, event: RunEvent) {
    let word = event.word();
    let record = RunRecord {
        v: RUN_VERSION,
        time: Timestamp::now(),
        customer: context.customer.clone(),
        vendor: context.vendor.clone(),
        order: context.order,
        target: context.target.clone(),
        event,
    };
    let subject = subjects::run(&context.customer, context.order, word);
    let written = match serde_json::to_vec(&record) {
        Ok(body) => {
            let mut headers = async_nats::HeaderMap::new();
            if let Some(trace) = &context.trace {
                wanwright_nats::trace::write(trace, &mut headers);
            }
            publish(&nats.js, subject, headers, body.into()).await
        }
        Err(error) => {
            tracing::error!(%error, "a run record could not be written as JSON");
            return;
        }
    };
    if let Err(error) = written {
        tracing::warn!(order = %context.order, word, error = &error as &dyn std::error::Error, "a run record is lost");
    }
}
