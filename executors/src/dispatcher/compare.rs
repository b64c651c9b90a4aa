//! Comparing a target's state with its rows in the table of orders.

use std::sync::Arc;

use async_nats::HeaderMap;
use jiff::Timestamp;
use wanwright_commands::orders::Gate;
use wanwright_commands::{Customer, Head, orders};
use wanwright_nats::evidence::Evidence;
use wanwright_nats::publish::CheckedError;
use wanwright_nats::{History, Nats, OrderTable, TableRow, trace};
use wanwright_schemas::order::{Intent, Order, Target};
use wanwright_schemas::run::RunEvent;
use wanwright_schemas::trace::TraceContext;
use wanwright_schemas::{CustomerId, OrderId, Position, headers, subjects};
use wanwright_vendors::Vendors;

use super::alarms::Alarms;
use super::customers::Customers;
use super::died::Deaths;
use super::{Stuck, causes};
use crate::records;

/// What it takes to compare.
pub(super) struct Compare {
    pub(super) nats: Nats,
    pub(super) customers: Customers,
    history: History,
    table: OrderTable,
    vendors: Vendors,
    pub(super) alarms: Arc<Alarms>,
    /// What looks for runs that died, where that is done.
    deaths: Option<Deaths>,
}

/// How a comparison ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compared {
    /// The table says what the state asks for.
    Equal,
    /// The history has gone on; the state has to be read again.
    HeadMoved,
}

impl Compare {
    pub(super) fn new(
        nats: Nats,
        vendors: Vendors,
        evidence: Option<Arc<Evidence>>,
        alarms: Arc<Alarms>,
    ) -> Self {
        let (history, table) = (History::new(nats.clone()), OrderTable::new(nats.clone()));
        let customers = Customers::new(nats.clone(), evidence);
        Self { customers, nats, history, table, vendors, alarms, deaths: None }
    }

    /// The same, which also looks for runs that died.
    pub(super) fn with(self, deaths: Deaths) -> Self {
        Self { deaths: Some(deaths), ..self }
    }

    /// Brings a target's two rows in line with its state. A head that turns out to be an old one is folded on. An order
    /// goes on with the trace of what brought it about.
    pub(super) async fn target(
        &self,
        customer: &CustomerId,
        head: &mut Head,
        target: &Target,
        mut trace: Option<TraceContext>,
    ) -> Result<(), Stuck> {
        while self.try_target(customer, head, target, trace.as_ref()).await? == Compared::HeadMoved {
            let happened = self.customers.go_on(customer, head).await?;
            if let Some(newer) = causes::affected(&head.state, happened).remove(target) {
                trace = newer;
            }
        }
        Ok(())
    }

    /// The same, once: a head that is an old one is the caller's to fold on.
    pub(super) async fn try_target(
        &self,
        customer: &CustomerId,
        head: &Head,
        target: &Target,
        trace: Option<&TraceContext>,
    ) -> Result<Compared, Stuck> {
        let Some(id) = orders::vendor_of(&head.state, target) else {
            self.withdraw_gone(customer, head, target).await?;
            return Ok(Compared::Equal);
        };
        let vendors = self.vendors.snapshot();
        let vendor = vendors.get(id.as_str()).ok_or_else(|| Stuck::NoVendor(id.clone()))?;
        let position = self.history.position(customer, head.sequence);
        let now = Timestamp::now();
        let wanted = orders::wanted_at(customer, &head.state, vendor, target, &position, now);
        if let Some(at) = orders::expiry(&head.state, target).filter(|at| *at > now) {
            // It is planned anew then.
            self.alarms.set(customer, target, at);
        }
        let [change_row, look_row] = subjects::orders_of_target(id, customer, target);
        if orders::held(&head.state, target).is_some() {
            // It was suspended, waits for an approval or for others to be gone: what is in the table does not begin. A run
            // that has begun ends by itself, and its report counts.
            self.withdraw(&change_row, &position).await?;
            self.withdraw(&look_row, &position).await?;
            return Ok(Compared::Equal);
        }
        // A look in the middle of a change would report the change as drift.
        match (&wanted.look, &wanted.change) {
            (Some(look), _) => {
                if self.put(head, look_row, look, trace).await? == Compared::HeadMoved {
                    return Ok(Compared::HeadMoved);
                }
            }
            (None, Some(_)) => self.withdraw(&look_row, &position).await?,
            (None, None) => {}
        }
        match &wanted.change {
            // What is only planned needs no window.
            Some(change) if change.changes() && !self.may_begin(customer, head, target) => {
                // The same as for what is held: what has begun ends by itself.
                self.withdraw(&change_row, &position).await?;
                Ok(Compared::Equal)
            }
            Some(change) => self.put(head, change_row, change, trace).await,
            // Written on an older state, while it was cancelled, or before its plan had to wait.
            None if wanted.plan_waits || orders::was_cancelled(&head.state, target) => {
                self.withdraw(&change_row, &position).await?;
                Ok(Compared::Equal)
            }
            // A change is marked as done by whoever carried it out.
            None => Ok(Compared::Equal),
        }
    }

    /// Whether change windows let a change begin now. When that is over, or comes, the target is compared again.
    fn may_begin(&self, customer: &CustomerId, head: &Head, target: &Target) -> bool {
        let gate = orders::gate(&head.state, target, Timestamp::now());
        let (Gate::Open(turns) | Gate::Shut(turns)) = gate;
        if let Some(at) = turns {
            self.alarms.set(customer, target, at);
        }
        matches!(gate, Gate::Open(_))
    }

    /// Writes a row unless it says the same already, or something newer. An older order that still waits is superseded.
    async fn put(
        &self,
        head: &Head,
        row: String,
        order: &Order,
        trace: Option<&TraceContext>,
    ) -> Result<Compared, Stuck> {
        loop {
            let present = self.table.get(&row).await?;
            let sequence = present.as_ref().map_or(0, |present| present.sequence);
            if present.as_ref().is_some_and(|present| is_dead(present, order)) {
                // It lies among the dead letters, and a person sends it back.
                return Ok(Compared::Equal);
            }
            let after = after(&head.state, order, present.as_ref());
            let mut head_of_row = present.as_ref().map(ended).unwrap_or_default();
            let waiting = present.filter(|present| !present.is_done());
            let older: Option<(Order, TableRow)> =
                waiting.and_then(|present| Some((serde_json::from_slice(&present.payload).ok()?, present)));
            if let Some((older, present)) = older.as_ref().filter(|(older, _)| older.id == order.id) {
                if let Some(deaths) = &self.deaths {
                    deaths.look(&row, present, older).await;
                }
                return Ok(Compared::Equal);
            }
            match older.as_ref().map(|(older, _)| older) {
                Some(older) if self.is_newer(older, &order.position).await? => return Ok(Compared::Equal),
                Some(_) => {}
                // Nothing waits. If that is because the order has just been carried out, then its report is in the
                // history by now, behind the head that still wants it.
                None if self.history.head(&order.customer).await? != head.sequence => {
                    return Ok(Compared::HeadMoved);
                }
                None => {}
            }
            let body = serde_json::to_vec(order)?;
            if let Some(trace) = trace {
                trace::write(trace, &mut head_of_row);
            }
            head_of_row.insert(headers::AFTER_GENERATION, after.to_string().as_str());
            if let Some((older, row)) = older {
                let superseded = RunEvent::Superseded { by: order.id };
                let context = records::context_of(&older, trace::read(&row.headers));
                records::tell(&self.nats, &context, superseded).await?;
            }
            match self.table.put(row.clone(), sequence, head_of_row, body.into()).await {
                Ok(_) => {
                    let queued = RunEvent::Queued {
                        intent: word(&order.intent).to_owned(),
                        generation: order.generation(),
                    };
                    let context = records::context_of(order, trace.cloned());
                    records::write(&self.nats, &context, queued).await;
                    return Ok(Compared::Equal);
                }
                Err(CheckedError::Conflict) => {}
                Err(CheckedError::Failed(error)) => return Err(error.into()),
            }
        }
    }

    /// The same for a target that is not there: only a change that was cancelled leaves an order to bring one about.
    async fn withdraw_gone(&self, customer: &CustomerId, head: &Head, target: &Target) -> Result<(), Stuck> {
        let any = format!("wan.order.*.{customer}.{}.{}", target.kind(), target.id());
        let Some(row) = self.table.get(&any).await?.filter(|row| !row.is_done()) else { return Ok(()) };
        match serde_json::from_slice::<Order>(&row.payload) {
            Ok(order) if matches!(order.intent, Intent::Apply | Intent::Plan { .. }) => {
                let [row, _] = subjects::orders_of_target(&order.vendor, customer, target);
                self.withdraw(&row, &self.history.position(customer, head.sequence)).await
            }
            _ => Ok(()),
        }
    }

    /// Whether an order was written on a newer head than the one that is here. An order that the history does not go up to
    /// is of messages that are lost, and an administrator has said that this is known. Sequences of two streams say nothing
    /// about each other: the customer has moved in between.
    async fn is_newer(&self, order: &Order, here: &Position) -> Result<bool, Stuck> {
        let Position { stream, sequence } = &order.position;
        let is_behind = *stream == here.stream && *sequence > here.sequence;
        Ok(is_behind && self.history.head(&order.customer).await? >= *sequence)
    }

    /// Marks a row as done that the head here does not want. One that was written on a newer head stays.
    async fn withdraw(&self, row: &str, here: &Position) -> Result<(), Stuck> {
        let Some(present) = self.table.get(row).await?.filter(|row| !row.is_done()) else { return Ok(()) };
        let order = serde_json::from_slice::<Order>(&present.payload);
        if let Ok(order) = &order
            && self.is_newer(order, here).await?
        {
            return Ok(());
        }
        if let Ok(order) = order {
            let context = records::context_of(&order, trace::read(&present.headers));
            records::tell(&self.nats, &context, RunEvent::Withdrawn).await?;
        }
        self.table.end(row, present.sequence, ended(&present)).await?;
        Ok(())
    }
}

/// Whether a row is done because this very order was given up.
fn is_dead(row: &TableRow, order: &Order) -> bool {
    let dead = row.headers.get(headers::DEAD_ORDER).and_then(|id| id.as_str().parse::<OrderId>().ok());
    row.is_done() && dead == Some(order.id)
}

/// Which version of a row was the last whose run ended, for the headers of its next version.
fn ended(row: &TableRow) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(sequence) = row.headers.get(headers::ENDED_ROW) {
        headers.insert(headers::ENDED_ROW, sequence.clone());
    }
    headers
}

/// The newest generation of the target that was brought or tried before this order. What waits in the row was neither, so
/// what was known when it was written still holds.
fn after(state: &Customer, order: &Order, row: Option<&TableRow>) -> u64 {
    let said = row.and_then(|row| row.headers.get(headers::AFTER_GENERATION)?.as_str().parse::<u64>().ok());
    match (row, said) {
        (Some(row), Some(said)) if !row.is_done() => said,
        (_, said) => orders::tried_generation(state, &order.target()).max(said.unwrap_or_default()),
    }
}

fn word(intent: &Intent) -> &'static str {
    match intent {
        Intent::Apply => "apply",
        Intent::Remove => "remove",
        Intent::Observe { .. } => "observe",
        Intent::Plan { .. } => "plan",
    }
}
