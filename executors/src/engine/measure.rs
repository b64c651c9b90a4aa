//! What a try takes: its parts by the clock, and what its processes took.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use wanwright_schemas::run::{ProcessUsage, RunUsage};

/// The measuring of one try.
#[derive(Debug)]
pub struct Measure {
    began: Instant,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    waited: Duration,
    /// When what the try is about began and ended.
    ran: Option<(Instant, Instant)>,
    processes: Option<ProcessUsage>,
}

impl Measure {
    /// Begins now.
    pub fn begin() -> Self {
        Self { began: Instant::now(), taken: Mutex::default() }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that it waited from then until now, before it ran.
    pub fn waited(&self, since: Instant) {
        self.taken().waited += since.elapsed();
    }

    /// Notes that it ran from then until now. Of several times, all between the first and the last one counts.
    pub fn ran(&self, since: Instant) {
        let mut taken = self.taken();
        let first = taken.ran.map_or(since, |(first, _)| first);
        taken.ran = Some((first, Instant::now()));
    }

    /// Notes what a process took.
    pub fn process(&self, took: ProcessUsage) {
        let mut taken = self.taken();
        let before = taken.processes.unwrap_or_default();
        taken.processes = Some(ProcessUsage {
            cpu_millis: before.cpu_millis + took.cpu_millis,
            peak_kib: before.peak_kib.max(took.peak_kib),
        });
    }

    /// What the try took until now.
    pub fn usage(&self) -> RunUsage {
        let taken = self.taken();
        let now = Instant::now();
        let (first, last) = taken.ran.unwrap_or((now, now));
        let before = first.saturating_duration_since(self.began);
        RunUsage {
            preparing_millis: millis(before.saturating_sub(taken.waited)),
            waiting_millis: millis(taken.waited),
            running_millis: millis(last.saturating_duration_since(first)),
            finishing_millis: millis(now.saturating_duration_since(last)),
            processes: taken.processes,
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_parts_follow_each_other() {
        let pass = |millis| tokio::time::advance(Duration::from_millis(millis));
        let measure = Measure::begin();
        pass(5).await;
        let asked = Instant::now();
        pass(100).await;
        measure.waited(asked);
        pass(2).await;
        for peak_kib in [60_000, 50_000] {
            let began = Instant::now();
            pass(30).await;
            measure.ran(began);
            measure.process(ProcessUsage { cpu_millis: 40, peak_kib });
            pass(1).await;
        }
        pass(10).await;
        let usage = measure.usage();
        assert_eq!((usage.preparing_millis, usage.waiting_millis), (7, 100));
        assert_eq!((usage.running_millis, usage.finishing_millis), (61, 11));
        assert_eq!(usage.processes, Some(ProcessUsage { cpu_millis: 80, peak_kib: 60_000 }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_try_that_never_ran_was_being_prepared() {
        let measure = Measure::begin();
        tokio::time::advance(Duration::from_millis(9)).await;
        let usage = RunUsage { preparing_millis: 9, ..RunUsage::default() };
        assert_eq!(measure.usage(), usage);
    }
}
