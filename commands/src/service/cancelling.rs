//! Keeping executors away from a target while a `cancel` of its order is decided.
//!
//! An executor carries an order out under the lease of its target, and reads the row of the table after it has taken that.
//! So whoever takes the lease first decides the race: where an executor has it, the order has been taken up and is not
//! cancelled; where the command service has it, no executor begins before the lease is given back, and then the row is
//! done. The row is marked before the event is appended: were this process to die in between, the state would still want
//! the order, and the dispatcher's sweep writes it anew.

use async_nats::HeaderMap;
use jiff::Timestamp;
use serde::Deserialize;
use wanwright_nats::lease::key_of_target;
use wanwright_nats::publish::publish;
use wanwright_nats::topology::ATTEMPTS;
use wanwright_nats::{Lease, Leases, Nats, NatsError, OrderTable, trace};
use wanwright_schemas::order::Order;
use wanwright_schemas::run::{RUN_VERSION, RunEvent, RunRecord};
use wanwright_schemas::{Command, CommandId, CustomerId, VendorId, headers, subjects};

use crate::cancel::{self, Standing};
use crate::customer::Customer;
use crate::orders;

/// Who holds the lease meanwhile, for people who look.
const HOLDER: &str = "commands";

/// An order that is not begun while this is held.
pub(super) struct Hold {
    nats: Nats,
    row: String,
    lease: Option<Lease>,
    /// How far the order is.
    pub(super) standing: Standing,
}

/// As much of an executor's note about the last try as is needed here.
#[derive(Deserialize)]
struct Note {
    phase: String,
    #[serde(default)]
    row: u64,
    #[serde(default)]
    unsure: bool,
    #[serde(default)]
    unsettled: bool,
    #[serde(default)]
    failed: bool,
}

impl Hold {
    /// Keeps executors away from the target of a `cancel`; none for any other command, and where there is no such target.
    /// A dry run only looks.
    pub(super) async fn take(
        nats: &Nats,
        customer: &CustomerId,
        state: &Customer,
        command: &Command,
        dry_run: bool,
    ) -> Result<Option<Self>, NatsError> {
        let Some(target) = cancel::target_of(state, command) else { return Ok(None) };
        let Some(vendor) = orders::vendor_of(state, &target) else { return Ok(None) };
        let [row, _] = subjects::orders_of_target(vendor, customer, &target);
        let key = key_of_target(vendor, customer, target.kind(), target.id());
        let leases = Leases::open(nats, HOLDER).await?;
        let (lease, is_free) = match dry_run {
            true => (None, leases.holder(&key).await?.is_none()),
            false => {
                let lease = leases.take(&key).await?;
                let taken = lease.is_some();
                (lease, taken)
            }
        };
        let mut hold = Self { nats: nats.clone(), row, lease, standing: Standing::Running };
        if is_free {
            hold.standing = hold.tried(vendor, customer, target.kind().as_str(), target.id()).await?;
        }
        Ok(Some(hold))
    }

    /// What is noted about tries: of the order, or of one whose place it took.
    async fn tried(
        &self,
        vendor: &VendorId,
        customer: &CustomerId,
        kind: &str,
        id: &str,
    ) -> Result<Standing, NatsError> {
        let doing = format!("reading the tries of {}", self.row);
        let store = self.nats.js.get_key_value(ATTEMPTS).await;
        let store = store.map_err(NatsError::failed(doing.clone()))?;
        let note = store.get(&self.row).await.map_err(NatsError::failed(doing.clone()))?;
        let begun = format!("begun.{vendor}.{customer}.{kind}.{id}");
        let begun = store.get(begun).await.map_err(NatsError::failed(doing))?;
        let present = OrderTable::new(self.nats.clone()).get(&self.row).await?;
        let ended = present.as_ref().and_then(|row| row.headers.get(headers::ENDED_ROW));
        let ended = ended.and_then(|sequence| sequence.as_str().parse::<u64>().ok());
        // A try that ended well is not noted again: the row says which version of it has ended. A note that cannot be read
        // tells of a try all the same.
        let tells = |note: &[u8]| match serde_json::from_slice::<Note>(note) {
            Ok(note) if note.row != 0 && ended == Some(note.row) => false,
            Ok(note) => note.unsure || note.unsettled || note.failed || note.phase != "done",
            Err(_) => true,
        };
        let tried = begun.is_some() || note.is_some_and(|note| tells(&note));
        Ok(if tried { Standing::Tried } else { Standing::Waiting })
    }

    /// Whether no executor can have begun by now.
    pub(super) fn is_held(&self) -> bool {
        self.lease.as_ref().is_some_and(Lease::is_held)
    }

    /// Marks the row as done, unless a newer state than the one at `sequence` has written it, and records whose order that
    /// was. Called before the append, and after it, for the dispatcher may have written the row anew in between.
    pub(super) async fn withdraw(&self, sequence: u64, by: CommandId) -> Result<(), NatsError> {
        let table = OrderTable::new(self.nats.clone());
        loop {
            let Some(present) = table.get(&self.row).await?.filter(|row| !row.is_done()) else {
                return Ok(());
            };
            let order = serde_json::from_slice::<Order>(&present.payload).ok();
            // An order of before the count of partitions changed tells a place in another stream, which says nothing here.
            let is_newer = |order: &Order| {
                let stream =
                    subjects::events_stream(subjects::partition(&order.customer, self.nats.partitions));
                order.position.stream == stream && order.position.sequence > sequence
            };
            if order.as_ref().is_some_and(is_newer) {
                return Ok(());
            }
            let mut head = HeaderMap::new();
            if let Some(ended) = present.headers.get(headers::ENDED_ROW) {
                head.insert(headers::ENDED_ROW, ended.clone());
            }
            if let Some(order) = order {
                // Before it is true: whoever dies in between does both again.
                self.record(&order, &present.headers, by).await?;
            }
            if table.end(&self.row, present.sequence, head).await? {
                return Ok(());
            }
        }
    }

    async fn record(&self, order: &Order, headers: &HeaderMap, by: CommandId) -> Result<(), NatsError> {
        let event = RunEvent::Cancelled { by };
        let subject = subjects::run(&order.customer, order.id, event.word());
        let record = RunRecord {
            v: RUN_VERSION,
            time: Timestamp::now(),
            customer: order.customer.clone(),
            vendor: order.vendor.clone(),
            order: order.id,
            target: order.target(),
            event,
        };
        let mut head = HeaderMap::new();
        if let Some(trace) = trace::read(headers) {
            trace::write(&trace, &mut head);
        }
        let body = serde_json::to_vec(&record).map_err(NatsError::failed(format!("writing {subject}")))?;
        publish(&self.nats.js, subject, head, body.into()).await.map(drop)
    }

    /// Lets executors at the target again.
    pub(super) async fn release(self) {
        let Some(lease) = self.lease else { return };
        if let Err(error) = lease.release().await {
            // It runs out by itself.
            tracing::warn!(
                row = self.row,
                error = &error as &dyn std::error::Error,
                "a target stays held a while"
            );
        }
    }
}
