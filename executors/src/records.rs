//! Run records: what is written about an order while it waits and runs.

use jiff::Timestamp;
use wanwright_nats::Nats;
use wanwright_nats::publish::publish;
use wanwright_schemas::order::Order;
use wanwright_schemas::run::{RUN_VERSION, RunEvent, RunRecord};
use wanwright_schemas::subjects;

use crate::gateway::{Priority, RunContext};

/// The context in which an order's records are written and its calls are made.
pub(crate) fn context_of(order: &Order) -> RunContext {
    RunContext {
        customer: order.customer.clone(),
        vendor: order.vendor.clone(),
        order: order.id,
        target: order.target(),
        priority: if order.changes() { Priority::Intent } else { Priority::Drift },
    }
}

/// Writes a record and waits until it is stored. A record is detail: what cannot be written is logged and let go.
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
        Ok(body) => publish(&nats.js, subject, async_nats::HeaderMap::new(), body.into()).await,
        Err(error) => {
            tracing::error!(%error, "a run record could not be written as JSON");
            return;
        }
    };
    if let Err(error) = written {
        tracing::warn!(order = %context.order, word, error = &error as &dyn std::error::Error, "a run record is lost");
    }
}
