use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Wall-clock time that never jumps while the process lives: a corrected clock must not refill the bucket.
#[derive(Debug)]
pub(crate) struct Clock {
    start_us: u64,
    start: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start_us: u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX), start: Instant::now() }
    }

    /// Microseconds since the Unix epoch.
    pub(crate) fn now_us(&self) -> u64 {
        let elapsed = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.start_us.saturating_add(elapsed)
    }
}
