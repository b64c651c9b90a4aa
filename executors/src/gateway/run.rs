//! A run as the gateway knows it: whose calls these are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wanwright_schemas::order::Target;
use wanwright_schemas::{CustomerId, OrderId, VendorId};

use super::budget::Priority;

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
    /// Why the calls are made.
    pub priority: Priority,
}

/// A run with its count of calls.
pub(super) struct Run {
    pub(super) context: RunContext,
    calls: AtomicU64,
}

impl Run {
    pub(super) fn new(context: RunContext) -> Self {
        Self { context, calls: AtomicU64::new(0) }
    }

    /// Counts a call and answers its number.
    pub(super) fn count(&self) -> u64 {
        self.calls.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// A path that is open for a run; it closes when this is dropped.
pub struct Opened {
    base_url: String,
    run: Arc<Run>,
    close: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl std::fmt::Debug for Opened {
    // The path is a right to call the vendor: it stays out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").field("context", &self.run.context).finish_non_exhaustive()
    }
}

impl Opened {
    pub(super) fn new(base_url: String, run: Arc<Run>, close: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self { base_url, run, close: Some(Box::new(close)) }
    }

    /// The base URL that stands for the vendor.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// How many calls the vendor got through this path.
    pub fn calls(&self) -> u64 {
        self.run.calls.load(Ordering::Relaxed)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if let Some(close) = self.close.take() {
            close();
        }
    }
}
