//! Giving an order up: it goes to the dead letters and its row is done, so that it holds up no other row, not even its own
//! target's next order. What waits for its object goes on waiting: the devices of a site that is not at the vendor.
//!
//! A letter keeps no place in any order of things. One about an order is never carried out itself: the dispatcher writes the
//! target's row anew, from the state of then. A command that is sent back is behind all that was accepted meanwhile, so
//! `wanwright dead requeue` refuses one whose object has heard of a later one.

use async_nats::HeaderMap;
use bytes::Bytes;
use serde_json::Value;
use wanwright_nats::dead::{self, Letter};
use wanwright_nats::{NatsError, TableRow};
use wanwright_schemas::reason::{Reason, Refusal};
use wanwright_schemas::report::Report;
use wanwright_schemas::run::RunEvent;
use wanwright_schemas::{OrderId, headers};

use super::attend::{Attendant, Next};
use super::ending::Work;
use crate::reporting::{self, Unreported};
use crate::{engine, records};

impl Attendant {
    /// Gives a row up that is no order. The dispatcher writes the row anew where the target still has to change; the
    /// order that it names is not issued again.
    pub(super) async fn bury_unreadable(
        &self,
        row: &str,
        newest: &TableRow,
        error: &serde_json::Error,
    ) -> Result<Next, NatsError> {
        tracing::error!(row, %error, "a row of the table is no order; it goes to the dead letters");
        let read: Option<Value> = serde_json::from_slice(&newest.payload).ok();
        let order = read.as_ref().and_then(|order| order["id"].as_str()?.parse::<OrderId>().ok());
        let message = format!("the row cannot be read as an order: {error}");
        let letter = Letter {
            what: "order",
            reason: Reason::OrderUnreadable,
            message: &message,
            subject: row,
            row,
            order: order.map(|order| order.to_string()),
            body: newest.payload.clone(),
        };
        dead::bury(&self.config.nats, letter).await?;
        self.table.end(row, newest.sequence, dead_mark(order)).await?;
        self.attempts.clear(row).await?;
        Ok(Next::Finished)
    }

    /// Gives an order up that cannot be carried out. A change is reported as failed, so that its object says why and a
    /// `retry` brings it back.
    pub(super) async fn bury(
        &self,
        work: &Work<'_>,
        newest: &TableRow,
        (code, message): (Reason, String),
    ) -> Result<Next, NatsError> {
        let Work { row, order, .. } = *work;
        tracing::error!(row, order = %order.id, code = code.code(), message, "an order goes to the dead letters");
        let letter = Letter {
            what: "order",
            reason: code,
            message: &message,
            subject: row,
            row,
            order: Some(order.id.to_string()),
            body: newest.payload.clone(),
        };
        dead::bury(&self.config.nats, letter).await?;
        let findings = if !order.is_look() { engine::failed(order, code, &message) } else { Vec::new() };
        let report = Report { order: order.id, findings, state: None };
        let trace = work.records.context().trace.as_ref();
        if !report.findings.is_empty()
            && let Err(Unreported { refusal, .. }) =
                reporting::report(&self.config.nats, order, &report, trace).await
        {
            tracing::error!(order = %order.id, %refusal, "nobody could be told that an order is given up");
        }
        self.end_dead(work, (code, message)).await
    }

    /// Gives an order up whose report nobody takes. The letter is the report: what it says is not known anywhere else.
    pub(super) async fn bury_report(
        &self,
        work: &Work<'_>,
        unreported: Unreported,
    ) -> Result<Next, NatsError> {
        let Work { row, order, .. } = *work;
        let Unreported { refusal, subject, body } = unreported;
        let Refusal { code, message, .. } = refusal;
        tracing::error!(row, order = %order.id, %code, message, "a report goes to the dead letters");
        let letter = Letter {
            what: "report",
            reason: code,
            message: &message,
            subject: &subject,
            row,
            order: Some(order.id.to_string()),
            body: Bytes::from(body),
        };
        dead::bury(&self.config.nats, letter).await?;
        let message = format!("its report was refused again and again: {message}");
        self.end_dead(work, (code, message)).await
    }

    async fn end_dead(&self, work: &Work<'_>, (code, message): (Reason, String)) -> Result<Next, NatsError> {
        let Work { row, order, attempt, .. } = *work;
        let message = format!("{message}; it is among the dead letters");
        records::write(&self.config.nats, work.records.context(), RunEvent::failed(code, message)).await;
        // What its runs left at the vendor is not known any better now, and the next order of the target begins with that.
        let left = attempt.left(attempt.unsettled, attempt.failed || order.changes());
        match left.tells() {
            true => self.attempts.put(row, &left).await?,
            false => self.attempts.clear(row).await?,
        }
        self.table.end(row, work.sequence, dead_mark(Some(order.id))).await?;
        Ok(Next::Finished)
    }
}

/// What keeps the dispatcher from issuing the same order again.
fn dead_mark(order: Option<OrderId>) -> HeaderMap {
    let mut head = HeaderMap::new();
    if let Some(order) = order {
        head.insert(headers::DEAD_ORDER, order.to_string().as_str());
    }
    head
}
