//! What befalls the runs: one blow after the other, from a seed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;
use fastrand::Rng;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;
use wanwright_supervisor::Child;

use super::super::Campaign;
use super::super::cuts::Between;
use super::Plan;
use crate::bench::victims::{self, Blow};
use crate::endpoints::Endpoints;
use crate::output::note;

/// How long a blow waits for a run to meet.
const FOR_A_RUN: Duration = Duration::from_secs(3);

/// How long a blow waits for everything to be there again.
const FOR_A_START: Duration = Duration::from_secs(60);

/// Longest time that Postgres is cut off.
const CUT_OFF: Duration = Duration::from_millis(2500);

/// The latest moment of a run that a blow waits for: a run takes some hundred milliseconds.
const INTO_A_RUN: Duration = Duration::from_millis(400);

/// Whom a blow is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whom {
    /// A Terraform.
    Terraform,
    /// An executor, which is the provider of its runs as well.
    Executor,
    /// An executor with all Terraforms there are.
    Group,
    /// Everything, the servers as well.
    Everything,
    /// The way to Postgres.
    Postgres,
    /// A process of a provider that is not ours, where the stacks have one.
    Provider,
}

impl Whom {
    /// Everybody a blow may be for.
    fn all(with_providers: bool) -> Vec<Self> {
        let mut all = vec![Self::Terraform, Self::Executor, Self::Group, Self::Everything, Self::Postgres];
        all.extend(with_providers.then_some(Self::Provider));
        all
    }

    fn next(random: &mut Rng, with_providers: bool) -> Self {
        match random.u32(..if with_providers { 15 } else { 12 }) {
            0..4 => Self::Terraform,
            4..7 => Self::Executor,
            7..8 => Self::Group,
            8..9 => Self::Everything,
            9..12 => Self::Postgres,
            _ => Self::Provider,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Terraform => "terraform killed",
            Self::Executor => "executor with its providers killed",
            Self::Group => "executor and terraforms killed",
            Self::Everything => "everything killed",
            Self::Postgres => "Postgres cut off",
            Self::Provider => "foreign provider killed",
        }
    }
}

/// The blows.
pub struct Kills<'a> {
    random: Rng,
    longest: Duration,
    next: Instant,
    dealt: BTreeMap<&'static str, u32>,
    /// Whose first blow is still to come, the next one last.
    owed: Vec<Whom>,
    with_providers: bool,
    plan: &'a Plan,
}

impl<'a> Kills<'a> {
    /// From this seed; `longest` is the longest time between two blows, in seconds.
    /// Everybody has a first one before anybody is left to chance, however few there are.
    pub fn new(seed: u64, longest: f64, with_providers: bool, plan: &'a Plan) -> Self {
        let longest = Duration::from_secs_f64(longest.max(0.1));
        let mut random = Rng::with_seed(seed ^ 0x0b10_35a7_7e44_af0e);
        let mut owed = Whom::all(with_providers);
        random.shuffle(&mut owed);
        plan.owed.store(owed.len(), Ordering::Relaxed);
        Self { random, longest, next: Instant::now(), dealt: BTreeMap::new(), owed, with_providers, plan }
    }

    /// Whom the next blow is for. One that met nobody is tried again later.
    fn whom(&mut self) -> Whom {
        self.owed.last().copied().unwrap_or_else(|| Whom::next(&mut self.random, self.with_providers))
    }

    /// Notes what became of a blow.
    fn note(&mut self, whom: Whom, dealt: bool) {
        if dealt {
            *self.dealt.entry(whom.name()).or_default() += 1;
            self.owed.retain(|owed| *owed != whom);
            self.plan.owed.store(self.owed.len(), Ordering::Relaxed);
        } else if !self.owed.is_empty() {
            self.owed.rotate_right(1);
        }
    }

    /// How often which blow was dealt.
    pub fn dealt(&self) -> &BTreeMap<&'static str, u32> {
        &self.dealt
    }

    /// Waits for the next one.
    pub async fn wait(&self) {
        tokio::time::sleep_until(self.next).await;
    }

    /// Deals it, in the middle of a run if there is one.
    pub async fn deal(
        &mut self,
        campaign: &mut Campaign,
        system: &mut Child,
        between: &Between,
    ) -> Result<()> {
        if system.try_wait().is_some() {
            *system = campaign.start()?;
        }
        let whom = self.whom();
        let (nth, into) = (self.random.usize(..64), INTO_A_RUN.mul_f64(self.random.f64()));
        let cut_off = CUT_OFF.mul_f64(self.random.f64());
        self.next = Instant::now() + self.longest.mul_f64(self.random.f64());
        let met = in_a_run(&campaign.home).await;
        tokio::time::sleep(into).await;
        let home = campaign.home.clone();
        let dealt = match whom {
            Whom::Terraform => kill(&terraforms(&home), Some(nth)),
            Whom::Provider => kill(&providers(&home), Some(nth)),
            Whom::Executor => victims::strike(&home, "executors", nth, Blow::Kill),
            Whom::Group => {
                let killed = victims::strike(&home, "executors", nth, Blow::Kill);
                kill(&terraforms(&home), None);
                killed
            }
            Whom::Everything => {
                system.kill().await;
                campaign.orphans += campaign.wait_until_gone().await + terraforms(&home).len();
                *system = campaign.start()?;
                // What starts up has no run yet that a blow could meet.
                started(&home, system).await;
                true
            }
            Whom::Postgres => {
                between.cut_postgres_off(cut_off, nth % 3).await;
                met
            }
        };
        self.note(whom, dealt);
        if dealt {
            let settled = self.plan.settled.load(Ordering::Relaxed);
            note(format!("  {settled} of {} applies: {}", self.plan.applies, whom.name()));
        }
        // What it did took time as well.
        self.next = self.next.max(Instant::now());
        Ok(())
    }
}

/// Waits until a system that was started is there, or has ended; for a while.
async fn started(home: &Path, system: &Child) {
    let deadline = Instant::now() + FOR_A_START;
    let is_there = || Endpoints::read(home).is_ok_and(|endpoints| endpoints.pid == system.id());
    while Instant::now() < deadline && system.try_wait().is_none() && !is_there() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until a Terraform runs, for a while.
async fn in_a_run(home: &Path) -> bool {
    let deadline = Instant::now() + FOR_A_RUN;
    while Instant::now() < deadline {
        if !terraforms(home).is_empty() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

/// The Terraforms of an installation: processes that work in a folder of a run.
pub fn terraforms(home: &Path) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let of = |entry: std::fs::DirEntry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let cwd = std::fs::read_link(entry.path().join("cwd")).ok()?;
        let is_ours = cwd.starts_with(home) && cwd.components().any(|part| part.as_os_str() == "runs");
        is_ours.then_some(pid)
    };
    entries.filter_map(of).collect()
}

/// The processes of providers that an executor started by themselves.
pub fn providers(home: &Path) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let of = |entry: std::fs::DirEntry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let program = std::fs::read_link(entry.path().join("exe")).ok()?;
        let name = program.file_name()?.to_str()?;
        (program.starts_with(home) && name.starts_with("terraform-provider-")).then_some(pid)
    };
    entries.filter_map(of).collect()
}

/// Kills one of these processes, or all. Whether any was there.
fn kill(running: &[i32], nth: Option<usize>) -> bool {
    let one = nth.and_then(|nth| running.get(nth % running.len().max(1)));
    let whom = if nth.is_some() { one.map(std::slice::from_ref).unwrap_or_default() } else { running };
    let killed = whom.iter().filter_map(|pid| Pid::from_raw(*pid)).map(|pid| kill_process(pid, Signal::KILL));
    killed.filter(Result::is_ok).count() > 0
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicU32, AtomicUsize};

    use super::*;

    #[test]
    fn a_seed_is_a_plan_that_begins_with_a_blow_for_everybody() {
        for with_providers in [false, true] {
            let all = Whom::all(with_providers).len();
            let plan = |seed| {
                let plan = Plan {
                    applies: 1,
                    begun: AtomicU32::new(1),
                    settled: AtomicU32::new(0),
                    owed: AtomicUsize::new(all),
                };
                let mut kills = Kills::new(seed, 1.0, with_providers, &plan);
                let mut names = Vec::new();
                while names.len() < 100 {
                    assert_eq!(plan.is_ending(), names.len() >= all);
                    let whom = kills.whom();
                    kills.note(whom, true);
                    names.push(whom.name());
                }
                names
            };
            assert_eq!(plan(1), plan(1));
            let kinds = |names: &[&'static str]| names.iter().copied().collect::<BTreeSet<_>>().len();
            assert_eq!((kinds(&plan(1)[..all]), kinds(&plan(1)[all..])), (all, all));
        }
    }

    #[test]
    fn a_blow_that_met_nobody_is_still_owed_and_holds_up_no_other() {
        let plan = Plan {
            applies: 1,
            begun: AtomicU32::new(1),
            settled: AtomicU32::new(0),
            owed: AtomicUsize::new(6),
        };
        let mut kills = Kills::new(7, 1.0, true, &plan);
        let first = kills.whom();
        kills.note(first, false);
        for _ in 0..5 {
            let whom = kills.whom();
            assert_ne!(whom, first);
            kills.note(whom, true);
        }
        assert!(!plan.is_ending());
        assert_eq!(kills.whom(), first);
    }
}
