//! The budget of one vendor: calls wait here, fairly, until the vendor may be called.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wanwright_schemas::CustomerId;

use super::fair::FairQueue;
use crate::vital;

/// Why a call is made; the lesser goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Somebody wants a change.
    Intent,
    /// Somebody wants to see what a change would be.
    Preview,
    /// A look whether anything drifted.
    Drift,
}

/// Part of the vendor's rate that we use, in thousandths. What is left absorbs the error of two clocks.
const RATE_SHARE: u64 = 990;

type Queue = FairQueue<Priority, CustomerId, oneshot::Sender<()>>;

struct Shared {
    queue: Mutex<Queue>,
    arrived: Notify,
    blocked_until: Mutex<Instant>,
}

/// A vendor's budget.
pub(super) struct Budget {
    shared: Arc<Shared>,
}

impl Budget {
    /// Starts handing out turns, from an empty bucket: the process before us may have spent the burst a moment ago.
    /// `failed` is cancelled should that end before `stop`.
    pub(super) fn start(
        limit: wanwright_vendors::Budget,
        stop: &CancellationToken,
        failed: &CancellationToken,
    ) -> Self {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue::new()),
            arrived: Notify::new(),
            blocked_until: Mutex::new(Instant::now()),
        });
        let limiter = limiter(limit);
        let handing_out = hand_out(Arc::clone(&shared), limiter, stop.clone());
        vital::spawn("budget", stop, failed, handing_out);
        Self { shared }
    }

    /// Waits for a turn. `false`: the gateway stops.
    pub(super) async fn turn(&self, priority: Priority, customer: &CustomerId) -> bool {
        let (turn, mine) = oneshot::channel();
        if let Ok(mut queue) = self.shared.queue.lock() {
            queue.push(priority, customer.clone(), turn);
        }
        self.shared.arrived.notify_one();
        mine.await.is_ok()
    }

    /// Hands out nothing for a while, as the vendor asked.
    pub(super) fn block_for(&self, time: Duration) {
        if let Ok(mut until) = self.shared.blocked_until.lock() {
            *until = (*until).max(Instant::now() + time);
        }
    }
}

/// A limiter that stays below the vendor's bucket: a little slower, and with half its burst, because calls that leave
/// here evenly may arrive there bunched.
fn limiter(limit: wanwright_vendors::Budget) -> DefaultDirectRateLimiter {
    let nanos = 1_000_000_000_000 / (u64::from(limit.per_second.get()) * RATE_SHARE);
    let burst = NonZeroU32::new(limit.burst.get() / 2).unwrap_or(NonZeroU32::MIN);
    let quota = Quota::with_period(Duration::from_nanos(nanos))
        .unwrap_or_else(|| Quota::per_second(limit.per_second));
    let limiter = RateLimiter::direct(quota.allow_burst(burst));
    // Cannot fail: a full bucket has a burst of tokens.
    let _ = limiter.check_n(burst);
    limiter
}

async fn hand_out(shared: Arc<Shared>, limiter: DefaultDirectRateLimiter, stop: CancellationToken) {
    let work = async {
        loop {
            let empty = shared.queue.lock().map_or(true, |queue| queue.is_empty());
            if empty {
                shared.arrived.notified().await;
                continue;
            }
            if wait_while_blocked(&shared).await {
                // The bucket filled up meanwhile. The vendor's did not: a burst now would meet the next 429.
                while limiter.check().is_ok() {}
            }
            limiter.until_ready().await;
            if blocked(&shared).is_some() {
                continue;
            }
            // Whoever gave up waiting does not cost a token.
            while let Some(turn) = shared.queue.lock().ok().and_then(|mut queue| queue.pop()) {
                if turn.send(()).is_ok() {
                    break;
                }
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
    // Everybody who waits learns that there will be no turn.
    if let Ok(mut queue) = shared.queue.lock() {
        *queue = Queue::new();
    }
}

/// Until when nothing may be handed out, if that is not over.
fn blocked(shared: &Shared) -> Option<Instant> {
    let until = shared.blocked_until.lock().ok()?;
    Some(*until).filter(|until| *until > Instant::now())
}

/// Waits until turns may be handed out, and says whether that took a wait.
async fn wait_while_blocked(shared: &Shared) -> bool {
    let mut waited = false;
    while let Some(until) = blocked(shared) {
        tokio::time::sleep_until(until).await;
        waited = true;
    }
    waited
}
