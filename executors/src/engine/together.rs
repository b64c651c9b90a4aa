//! Changes that go together: where a vendor changes many objects in one call, runs that reach their change at about the
//! same time share it.
//!
//! A run hands its object in and waits. Those of one customer, vendor, account, kind and verb stand in one line; whoever
//! is the first begins a task that waits a moment for others, makes a call for as many as it may hold, tells each run what
//! became of its own object, and goes on while somebody stands there. So one call of a customer is under way at a time,
//! and those that come meanwhile are the next one. Each run keeps its lease, its tries, its journal and its outcome.
//!
//! A call that the vendor refuses as a whole, and a change that nobody goes with, are made by each run alone: what is
//! wrong with one object holds up no other.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value};
use tokio::sync::oneshot;
use wanwright_schemas::{CustomerId, VendorId};
use wanwright_vendors::{BulkAnswer, BulkApi, BulkChange, BulkItem, ClientError, JobNotes, ResourceClient};

use super::Run;
use crate::gateway::{Gateway, Share};

/// How many times a call waits for others, as long as some come.
const MOST_WAITS: u32 = 10;

/// What the vendor says of one object; none where its run has to make the call itself.
type Told = Option<Result<BulkAnswer, ClientError>>;

/// Whose objects stand in one line.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    vendor: VendorId,
    account: Option<String>,
    customer: CustomerId,
    kind: String,
    change: BulkChange,
    /// What the call's own templates say of the objects.
    address: String,
}

/// An object that stands in a line.
#[derive(Debug)]
struct Waiting {
    item: BulkItem,
    bytes: usize,
    run: Share,
    tell: oneshot::Sender<Told>,
}

impl Waiting {
    /// Whether its run has ended meanwhile: somebody else may be at its target.
    fn is_over(&self) -> bool {
        self.tell.is_closed() || self.run.is_closed()
    }
}

type Lines = HashMap<Key, VecDeque<Waiting>>;

/// The lines of one process.
#[derive(Debug, Clone)]
pub struct Together {
    gateway: Gateway,
    lines: Arc<Mutex<Lines>>,
}

/// A change of one object.
pub(super) struct One<'a> {
    pub(super) change: BulkChange,
    pub(super) id: Option<&'a str>,
    pub(super) attributes: &'a Map<String, Value>,
    pub(super) key: Option<String>,
    pub(super) notes: Option<Arc<dyn JobNotes>>,
}

impl Together {
    /// No lines yet; calls go through this gateway.
    pub fn new(gateway: Gateway) -> Self {
        Self { gateway, lines: Arc::default() }
    }

    /// Makes a change together with others, and answers what the vendor says of this object. None: the vendor has no such
    /// call, or the change is to be made alone.
    pub(super) async fn change(&self, run: &Run<'_>, client: &ResourceClient, one: One<'_>) -> Told {
        let change = one.change;
        let bulk = client.bulk_api(change)?.clone();
        let order = run.order;
        let key = Key {
            vendor: order.vendor.clone(),
            account: order.account.as_ref().map(|account| format!("{account:?}")),
            customer: order.customer.clone(),
            kind: client.api().kind.to_string(),
            change,
            address: Value::Object(client.api().address(one.attributes)).to_string(),
        };
        let item = BulkItem {
            id: one.id.map(str::to_owned),
            attributes: one.attributes.clone(),
            key: one.key,
            notes: one.notes,
        };
        let (tell, told) = oneshot::channel();
        let bytes = client.bulk_bytes(change, &item);
        let waiting = Waiting { item, bytes, run: run.gateway.share(), tell };
        if self.stand(&key, waiting) {
            let line = Line { together: self.clone(), key, client: client.clone(), bulk, over: false };
            tokio::spawn(line.serve());
        }
        // Nobody tells anything when the task died: the run goes on alone.
        told.await.ok().flatten()
    }

    /// Stands in line, and says whether nobody was there.
    fn stand(&self, key: &Key, waiting: Waiting) -> bool {
        let mut lines = self.lock();
        if let Some(line) = lines.get_mut(key) {
            line.push_back(waiting);
            return false;
        }
        lines.insert(key.clone(), VecDeque::from([waiting]));
        true
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A line that is served.
struct Line {
    together: Together,
    key: Key,
    client: ResourceClient,
    bulk: BulkApi,
    /// Whether nobody stood there any more: what stands there now is another line.
    over: bool,
}

impl Drop for Line {
    /// However it ends: whoever still stands there hears nothing and goes on alone.
    fn drop(&mut self) {
        if !self.over {
            self.together.lock().remove(&self.key);
        }
    }
}

impl Line {
    async fn serve(mut self) {
        loop {
            self.wait().await;
            let Some(batch) = self.next() else {
                self.over = true;
                return;
            };
            self.call(batch).await;
        }
    }

    /// Waits until nobody has come for a moment, a call is full, or it has been long enough.
    async fn wait(&self) {
        let mut there = 0;
        for _ in 0..MOST_WAITS {
            let now = self.together.lock().get(&self.key).map_or(0, VecDeque::len);
            if now >= self.bulk.most_items || now == there {
                return;
            }
            there = now;
            tokio::time::sleep(self.bulk.wait).await;
        }
    }

    /// The next call's objects; none, and no line, when nobody stands there any more.
    fn next(&self) -> Option<Vec<Waiting>> {
        let mut lines = self.together.lock();
        let line = lines.get_mut(&self.key)?;
        line.retain(|waiting| !waiting.is_over());
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while let Some(first) = line.front() {
            let fits = bytes + first.bytes <= self.bulk.most_bytes || batch.is_empty();
            if !fits || batch.len() >= self.bulk.most_items {
                break;
            }
            bytes += first.bytes;
            batch.extend(line.pop_front());
        }
        if batch.is_empty() {
            lines.remove(&self.key);
            return None;
        }
        Some(batch)
    }

    async fn call(&self, mut batch: Vec<Waiting>) {
        loop {
            if batch.len() < 2 {
                return tell_all(batch, || None);
            }
            let shares: Vec<Share> = batch.iter().map(|waiting| waiting.run.clone()).collect();
            let opened = self.together.gateway.open_together(&shares);
            let items: Vec<BulkItem> = batch.iter().map(|waiting| waiting.item.clone()).collect();
            let called = match super::connection(&opened) {
                Ok(http) => self.client.clone().through(http).bulk(self.key.change, &items).await,
                Err(error) => Err(error),
            };
            let before = batch.len();
            match called {
                Ok(results) => {
                    for (waiting, result) in batch.into_iter().zip(results) {
                        // Whoever does not listen any more has lost its lease.
                        let _ = waiting.tell.send(Some(result));
                    }
                    return;
                }
                Err(error) => {
                    batch.retain(|waiting| !waiting.is_over());
                    // The gateway makes no call for a run that has ended; the others go on without it.
                    if batch.len() < before && opened.calls() == 0 {
                        continue;
                    }
                    if error.is_passing() {
                        return tell_all(batch, || Some(Err(error.clone())));
                    }
                    tracing::warn!(
                        customer = %self.key.customer, vendor = %self.key.vendor, objects = before,
                        error = &error as &dyn std::error::Error,
                        "a call for many is refused as a whole; each change is made alone"
                    );
                    return tell_all(batch, || None);
                }
            }
        }
    }
}

fn tell_all(batch: Vec<Waiting>, told: impl Fn() -> Told) {
    for waiting in batch {
        let _ = waiting.tell.send(told());
    }
}
