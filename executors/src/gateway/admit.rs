//! Admission: a run starts only when its calls would not wait too long behind those of the runs before it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot, watch};
use tokio_util::sync::CancellationToken;
use wanwright_schemas::CustomerId;
use wanwright_schemas::Kind;
use wanwright_schemas::order::Intent;

use super::budget::{Admission, LimitStanding, Priority, Standing};
use super::fair::FairQueue;
use super::forward::MAX_WAIT;
use crate::vital;

/// Part of what a run's newest count weighs against all before.
const NEWEST: f64 = 0.2;

/// The calls to expect of a run, for each limit that counts some.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Expected(BTreeMap<String, u32>);

impl Expected {
    /// So many calls that this limit counts.
    pub fn of(limit: impl Into<String>, calls: u32) -> Self {
        Self(BTreeMap::from([(limit.into(), calls.max(1))]))
    }

    /// The most that one limit counts.
    pub fn calls(&self) -> u32 {
        self.0.values().copied().max().unwrap_or(1)
    }
}

type Waiting = FairQueue<Priority, CustomerId, (Expected, oneshot::Sender<Admitted>)>;

#[derive(Default)]
struct State {
    /// Runs that wait, apart by the limits they need: one that is full holds up nobody else.
    queues: BTreeMap<Vec<String>, Line>,
    admitted: HashMap<String, u64>,
    runs: usize,
    learnt: HashMap<(Kind, &'static str), HashMap<String, f64>>,
}

impl State {
    fn line(&mut self, limits: Vec<String>) -> &mut Waiting {
        let line = self.queues.entry(limits).or_insert_with(|| Line { queue: Waiting::new(), next: None });
        &mut line.queue
    }
}

struct Line {
    queue: Waiting,
    next: Option<(Expected, oneshot::Sender<Admitted>)>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The admissions of one vendor account.
pub(super) struct Admissions {
    shared: Arc<Shared>,
    /// The limits that count every call.
    whole: Vec<String>,
}

/// The right to run; it ends when it is dropped.
pub struct Admitted {
    shared: Arc<Shared>,
    expected: Expected,
}

impl std::fmt::Debug for Admitted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admitted").field("expected", &self.expected).finish_non_exhaustive()
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.runs = state.runs.saturating_sub(1);
        for (limit, calls) in &self.expected.0 {
            if let Some(admitted) = state.admitted.get_mut(limit) {
                *admitted = admitted.saturating_sub(u64::from(*calls));
            }
        }
        drop(state);
        self.shared.changed.notify_one();
    }
}

impl Admissions {
    pub(super) fn start(
        standing: watch::Receiver<Standing>,
        budget: &wanwright_vendors::Budget,
        stop: &CancellationToken,
        failed: &CancellationToken,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        let task = keep(Arc::clone(&shared), standing, stop.clone());
        vital::spawn("admission", stop, failed, task);
        let whole = budget.limits.iter().filter(|limit| {
            let counted = &limit.counts;
            let lists = [&counted.methods, &counted.paths, &counted.operations];
            lists.iter().all(|list| list.is_empty()) && !limit.each_operation
        });
        Self { shared, whole: whole.map(|limit| limit.name.clone()).collect() }
    }

    pub(super) async fn admit(
        &self,
        priority: Priority,
        customer: &CustomerId,
        expected: Expected,
    ) -> Option<Admitted> {
        let (tell, told) = oneshot::channel();
        let limits = expected.0.keys().cloned().collect();
        self.shared.lock().line(limits).push(priority, customer.clone(), (expected, tell));
        self.shared.changed.notify_one();
        told.await.ok()
    }

    /// What runs of this kind made lately; one call where nothing is known.
    pub(super) fn expected(&self, kind: Kind, intent: &Intent) -> Expected {
        let state = self.shared.lock();
        match state.learnt.get(&(kind, word(intent))) {
            Some(learnt) => {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a small number, at least 1"
                )]
                let calls = |average: &f64| average.round().clamp(1.0, 100_000.0) as u32;
                Expected(learnt.iter().map(|(limit, average)| (limit.clone(), calls(average))).collect())
            }
            None => Expected(self.whole.iter().map(|limit| (limit.clone(), 1)).collect()),
        }
    }

    pub(super) fn learn(&self, kind: Kind, intent: &Intent, counted: &HashMap<String, u32>) {
        let mut state = self.shared.lock();
        let learnt = state.learnt.entry((kind, word(intent))).or_default();
        for (limit, calls) in counted {
            let calls = f64::from(*calls);
            let average = learnt.entry(limit.clone()).or_insert(calls);
            *average += (calls - *average) * NEWEST;
        }
        // What runs do not call any more fades away.
        for (limit, average) in learnt.iter_mut() {
            if !counted.contains_key(limit) {
                *average *= 1.0 - NEWEST;
            }
        }
        learnt.retain(|_, average| *average > 0.1);
        if learnt.is_empty() {
            state.learnt.remove(&(kind, word(intent)));
        }
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

async fn keep(shared: Arc<Shared>, mut standing: watch::Receiver<Standing>, stop: CancellationToken) {
    loop {
        let now = standing.borrow_and_update().clone();
        let admitted = admit_all(&shared, &now);
        for (tell, admitted) in admitted {
            // Whoever does not wait any more gives it back by this.
            drop(tell.send(admitted));
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = shared.changed.notified() => {}
            changed = standing.changed() => if changed.is_err() { break },
        }
    }
    // Everybody who waits learns that there is no admission any more.
    shared.lock().queues.clear();
}

fn admit_all(shared: &Arc<Shared>, standing: &Standing) -> Vec<(oneshot::Sender<Admitted>, Admitted)> {
    let mut state = shared.lock();
    let State { queues, admitted, runs, .. } = &mut *state;
    let mut out = Vec::new();
    let alone = match standing.admission {
        Admission::Open | Admission::Blocked { .. } => false,
        Admission::Trial { .. } => true,
        Admission::HeldBack { .. } | Admission::Away => return out,
    };
    for line in queues.values_mut() {
        while let Some((expected, tell)) = line.next.take().or_else(|| line.queue.pop()) {
            if tell.is_closed() {
                continue;
            }
            if (alone && *runs > 0) || !fits(&expected, admitted, standing) {
                line.next = Some((expected, tell));
                break;
            }
            *runs += 1;
            for (limit, calls) in &expected.0 {
                *admitted.entry(limit.clone()).or_default() += u64::from(*calls);
            }
            out.push((tell, Admitted { shared: Arc::clone(shared), expected }));
        }
    }
    queues.retain(|_, line| line.next.is_some() || !line.queue.is_empty());
    out
}

/// Whether all calls admitted and these would be served in time, as far as any limit is concerned. A run alone is
/// admitted as soon as its first call would be: nobody can help that it is large.
fn fits(expected: &Expected, admitted: &HashMap<String, u64>, standing: &Standing) -> bool {
    expected.0.iter().all(|(name, calls)| {
        let Some(limit) = standing.limits.iter().find(|limit| limit.name == *name) else {
            return true;
        };
        let before = admitted.get(name).copied().unwrap_or_default();
        let calls = if before == 0 { 0 } else { before + u64::from(*calls) };
        served(limit, standing, calls) <= MAX_WAIT / 2
    })
}

/// How long it takes until so many calls are served, with an equal share for each process.
fn served(limit: &LimitStanding, standing: &Standing, calls: u64) -> Duration {
    let now = standing.now.map_or(limit.free, |(now, _)| now);
    let wait = Duration::try_from(limit.free.duration_since(now)).unwrap_or_default();
    let calls = calls.saturating_mul(standing.processes.max(1).try_into().unwrap_or(u64::MAX));
    wait + limit.interval.saturating_mul(u32::try_from(calls).unwrap_or(u32::MAX))
}
