//! Admission: a run starts only when its calls would not wait too long behind those of the runs before it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot, watch};
use tokio_util::sync::CancellationToken;
use wanwright_schemas::CustomerId;
use wanwright_schemas::Kind;
use wanwright_schemas::order::Intent;

use super::budget::{Admission, LimitStanding, Limits, Priority, Standing};
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

type Waiting = FairQueue<Priority, CustomerId, Asking>;

/// So many runs of a higher priority may be admitted before one that waits for room at the head of its line.
const OVERTAKE: u32 = 8;

#[derive(Default)]
struct State {
    /// Runs that wait, apart by the limits they need: one that is full holds up nobody else.
    queues: BTreeMap<Vec<String>, Line>,
    admitted: HashMap<String, u64>,
    runs: usize,
    learnt: HashMap<(Kind, &'static str), HashMap<String, f64>>,
    /// Nobody is admitted any more.
    over: bool,
}

impl State {
    fn line(&mut self, limits: Vec<String>) -> &mut Waiting {
        let line = self.queues.entry(limits).or_insert_with(Line::new);
        &mut line.queue
    }
}

/// A run that waits to be admitted.
struct Asking {
    priority: Priority,
    expected: Expected,
    tell: oneshot::Sender<Admitted>,
}

struct Line {
    queue: Waiting,
    /// Those whose turn it was and for which there was no room yet, one of a priority.
    heads: BTreeMap<Priority, Asking>,
    /// How many were admitted before one of them.
    overtaken: u32,
}

impl Line {
    fn new() -> Self {
        Self { queue: Waiting::new(), heads: BTreeMap::new(), overtaken: 0 }
    }

    /// Whose turn it is. Whoever waits for room waits behind a few that came later with a higher priority.
    fn next(&mut self) -> Option<Asking> {
        let Some(first) = self.heads.keys().next().copied() else { return self.queue.pop() };
        if self.overtaken < OVERTAKE
            && let Some(later) = self.queue.pop_before(&first)
        {
            return Some(later);
        }
        // Who was passed by so often goes before those that passed by and wait for room as well.
        let last = self.overtaken >= OVERTAKE;
        let head = if last { self.heads.pop_last() } else { self.heads.pop_first() };
        head.map(|(_, head)| head)
    }

    /// Notes that a run was admitted.
    fn passed(&mut self, priority: Priority) {
        let overtakes = self.heads.keys().next_back().is_some_and(|head| priority < *head);
        self.overtaken = if overtakes { self.overtaken + 1 } else { 0 };
    }

    fn is_empty(&self) -> bool {
        self.heads.is_empty() && self.queue.is_empty()
    }
}

struct Shared {
    state: Mutex<State>,
    changed: Notify,
    /// The account's limits, for those that nobody has called within yet.
    limits: Limits,
}

impl Shared {
    fn new(limits: Limits) -> Self {
        Self { state: Mutex::default(), changed: Notify::new(), limits }
    }

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
        limits: Limits,
        stop: &CancellationToken,
        failed: &CancellationToken,
    ) -> Self {
        let whole = limits.whole();
        let shared = Arc::new(Shared::new(limits));
        let task = keep(Arc::clone(&shared), standing, stop.clone());
        vital::spawn("admission", stop, failed, task);
        Self { shared, whole }
    }

    pub(super) async fn admit(
        &self,
        priority: Priority,
        customer: &CustomerId,
        expected: Expected,
    ) -> Option<Admitted> {
        let (tell, told) = oneshot::channel();
        let limits = expected.0.keys().cloned().collect();
        {
            let mut state = self.shared.lock();
            if state.over {
                return None;
            }
            state.line(limits).push(priority, customer.clone(), Asking { priority, expected, tell });
        }
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
    // Everybody who waits learns that there is no admission any more, and who comes later does.
    let mut state = shared.lock();
    state.over = true;
    state.queues.clear();
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
        while let Some(asking) = line.next() {
            if asking.tell.is_closed() {
                continue;
            }
            if (alone && *runs > 0) || !fits(&asking.expected, admitted, standing, &shared.limits) {
                line.heads.insert(asking.priority, asking);
                break;
            }
            line.passed(asking.priority);
            *runs += 1;
            let Asking { expected, tell, .. } = asking;
            for (limit, calls) in &expected.0 {
                *admitted.entry(limit.clone()).or_default() += u64::from(*calls);
            }
            out.push((tell, Admitted { shared: Arc::clone(shared), expected }));
        }
    }
    queues.retain(|_, line| !line.is_empty());
    out
}

/// Whether all calls admitted and these would be served in time, as far as any limit is concerned. A run alone is
/// admitted as soon as its first call would be: nobody can help that it is large.
fn fits(expected: &Expected, admitted: &HashMap<String, u64>, standing: &Standing, limits: &Limits) -> bool {
    expected.0.iter().all(|(name, calls)| {
        let stands = standing.limits.iter().find(|limit| limit.name == *name);
        // One that nobody has called within yet is as slow as it will be.
        let new =
            || Some((Duration::ZERO, Duration::from_micros(limits.pace(name)?.interval.unsigned_abs())));
        let Some((wait, interval)) = stands.map(|limit| (wait(limit, standing), limit.interval)).or_else(new)
        else {
            return true;
        };
        let before = admitted.get(name).copied().unwrap_or_default();
        let calls = if before == 0 { 0 } else { before + u64::from(*calls) };
        // With an equal share for each process.
        let calls = calls.saturating_mul(standing.processes.max(1).try_into().unwrap_or(u64::MAX));
        wait + interval.saturating_mul(u32::try_from(calls).unwrap_or(u32::MAX)) <= MAX_WAIT / 2
    })
}

/// How long it takes until a limit has room for the next call.
fn wait(limit: &LimitStanding, standing: &Standing) -> Duration {
    let now = standing.now.map_or(limit.free, |(now, _)| now);
    Duration::try_from(limit.free.duration_since(now)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use wanwright_vendors::{Budget, Counted, RateLimit, Scope};

    use super::*;

    /// A call a second, by the folder.
    fn limits() -> Limits {
        let limit = RateLimit {
            name: "calls".to_owned(),
            calls: NonZeroU32::MIN,
            window: Duration::from_secs(1),
            burst: Some(NonZeroU32::MIN),
            scope: Scope::Account,
            counts: Counted::default(),
            each_operation: false,
        };
        let budget = Budget { limits: vec![limit], busy: Vec::new(), jitter: Duration::ZERO };
        Limits::new(&budget, "here", None)
    }

    #[test]
    fn a_limit_that_nobody_called_within_yet_admits_no_more_than_it_serves() {
        let mut line = Play { shared: Arc::new(Shared::new(limits())), waiting: Vec::new() };
        (0..40).for_each(|_| line.ask("change", Priority::Intent, 1));
        let unused = Standing { limits: Vec::new(), ..slow() };
        let admitted = admit_all(&line.shared, &unused).len();
        assert!((10..=15).contains(&admitted), "{admitted} runs of a call each in 15 s");
    }

    /// An open budget of a call a second.
    fn slow() -> Standing {
        let limit = LimitStanding {
            name: "calls".to_owned(),
            counts_all: true,
            interval: Duration::from_secs(1),
            burst: 1,
            free: jiff::Timestamp::UNIX_EPOCH,
            blocked: None,
        };
        Standing {
            admission: Admission::Open,
            open_since: None,
            closed: None,
            limits: vec![limit],
            waiting: 0,
            processes: 1,
            now: Some((jiff::Timestamp::UNIX_EPOCH, Duration::ZERO)),
            counts: super::super::Counts::default(),
        }
    }

    /// Who is admitted, in that order; each ends at once.
    struct Play {
        shared: Arc<Shared>,
        waiting: Vec<(&'static str, oneshot::Receiver<Admitted>)>,
    }

    impl Play {
        fn ask(&mut self, name: &'static str, priority: Priority, calls: u32) {
            let (tell, told) = oneshot::channel();
            let expected = Expected::of("calls", calls);
            let customer = name.parse().expect("a customer");
            let asking = Asking { priority, expected, tell };
            self.shared.lock().line(vec!["calls".to_owned()]).push(priority, customer, asking);
            self.waiting.push((name, told));
        }

        fn admit(&mut self) -> Vec<(&'static str, Admitted)> {
            for (tell, admitted) in admit_all(&self.shared, &slow()) {
                drop(tell.send(admitted));
            }
            let mut admitted = Vec::new();
            self.waiting.retain_mut(|(name, told)| match told.try_recv() {
                Ok(one) => {
                    admitted.push((*name, one));
                    false
                }
                Err(_) => true,
            });
            admitted
        }
    }

    fn names(admitted: &[(&'static str, Admitted)]) -> Vec<&'static str> {
        admitted.iter().map(|(name, _)| *name).collect()
    }

    #[test]
    fn a_look_without_room_lets_a_few_changes_pass_and_then_has_its_turn() {
        let mut line = Play { shared: Arc::new(Shared::new(limits())), waiting: Vec::new() };
        line.ask("first", Priority::Intent, 5);
        let first = line.admit();
        line.ask("look", Priority::Drift, 14);
        assert!(line.admit().is_empty(), "5 and 14 calls take more than 15 s");
        // Each change that comes has room and does not wait for the look.
        for _ in 0..OVERTAKE {
            line.ask("change", Priority::Intent, 1);
            assert_eq!(names(&line.admit()), ["change"]);
        }
        line.ask("late", Priority::Intent, 1);
        assert!(line.admit().is_empty(), "the look was passed by often enough");
        drop(first);
        assert_eq!(names(&line.admit()), ["look", "late"]);
    }

    #[tokio::test]
    async fn nobody_waits_for_an_admission_when_there_are_none_any_more() {
        let standing = Standing {
            admission: Admission::Away,
            open_since: None,
            closed: None,
            limits: Vec::new(),
            waiting: 0,
            processes: 1,
            now: None,
            counts: super::super::Counts::default(),
        };
        let (_tell, standing) = watch::channel(standing);
        let (shared, stop) = (Arc::new(Shared::new(limits())), CancellationToken::new());
        let keeping = tokio::spawn(keep(Arc::clone(&shared), standing, stop.clone()));
        let admissions = Arc::new(Admissions { shared, whole: Vec::new() });
        let ask = |admissions: Arc<Admissions>| async move {
            let customer = "acme".parse().expect("a customer");
            admissions.admit(Priority::Drift, &customer, Expected::default()).await
        };
        let before = tokio::spawn(ask(Arc::clone(&admissions)));
        tokio::task::yield_now().await;
        stop.cancel();
        assert!(before.await.expect("an answer").is_none(), "who waited");
        keeping.await.expect("an end");
        assert!(ask(admissions).await.is_none(), "who came too late");
    }
}
