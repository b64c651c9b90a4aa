//! Ends of runs, many at a time: what each of them writes reaches the server, and everybody who watches the table, in one
//! go. Few wait for the row of a run that was reported (what was asked for of the same target meanwhile does, for as long),
//! and a process that is woken for each single row that others end spends as much on them as on its own.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// So many do not wait for the next moment: each of them has a slot of its lane.
const MOST: usize = 8;

/// Runs that wait to end.
#[derive(Debug)]
pub(super) struct Closing {
    apart: Duration,
    waiting: AtomicUsize,
    many: Notify,
    stop: CancellationToken,
}

impl Closing {
    /// Runs that end at moments so far apart, or at `stop`. The moments are the same ones for all processes whose clocks
    /// agree: rows that end at the same time are one waking of whoever watches.
    pub(super) fn new(apart: Duration, stop: CancellationToken) -> Self {
        Self { apart, waiting: AtomicUsize::new(0), many: Notify::new(), stop }
    }

    /// Waits until runs end.
    pub(super) async fn together(&self) {
        let many = self.many.notified();
        if self.waiting.fetch_add(1, Ordering::AcqRel) + 1 >= MOST {
            return self.end_all();
        }
        tokio::select! {
            () = many => {}
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep(until_next(SystemTime::now(), self.apart)) => self.end_all(),
        }
    }

    fn end_all(&self) {
        self.waiting.store(0, Ordering::Release);
        self.many.notify_waiters();
    }
}

/// How long it is until the next moment.
fn until_next(now: SystemTime, apart: Duration) -> Duration {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let past = since.as_nanos() % apart.as_nanos().max(1);
    Duration::from_nanos_u128(apart.as_nanos() - past)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::time::Instant;

    use super::*;

    const APART: Duration = Duration::from_millis(250);

    #[test]
    fn moments_are_the_same_for_everybody() {
        let at = |millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
        for (now, left) in [(0, 250), (1, 249), (1_000_249, 1), (1_000_250, 250)] {
            assert_eq!(until_next(at(now), APART), Duration::from_millis(left), "{now}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn few_end_together_and_many_at_once() {
        let closing = Arc::new(Closing::new(APART, CancellationToken::new()));
        let wait = |_| {
            tokio::spawn({
                let closing = Arc::clone(&closing);
                async move {
                    closing.together().await;
                    Instant::now()
                }
            })
        };
        let began = Instant::now();
        let few: Vec<_> = (0..MOST - 1).map(wait).collect();
        let mut ended = Vec::new();
        for run in few {
            ended.push(run.await.expect("a run"));
        }
        assert!(ended.iter().all(|at| *at == ended[0] && *at > began && *at <= began + APART), "{ended:?}");
        let began = Instant::now();
        let many: Vec<_> = (0..MOST).map(wait).collect();
        for run in many {
            assert_eq!(run.await.expect("a run"), began, "nobody waits for the clock");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_in_a_process_that_stops() {
        let stop = CancellationToken::new();
        let closing = Closing::new(APART, stop.clone());
        stop.cancel();
        let began = Instant::now();
        closing.together().await;
        assert_eq!(Instant::now(), began);
    }
}
