//! What befalls the runs: one blow after the other, from a seed.

use std::collections::BTreeMap;
use std::path::Path;
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
}

impl Whom {
    fn next(random: &mut Rng) -> Self {
        match random.u32(..12) {
            0..4 => Self::Terraform,
            4..7 => Self::Executor,
            7..8 => Self::Group,
            8..9 => Self::Everything,
            _ => Self::Postgres,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Terraform => "terraform killed",
            Self::Executor => "executor with its providers killed",
            Self::Group => "executor and terraforms killed",
            Self::Everything => "everything killed",
            Self::Postgres => "Postgres cut off",
        }
    }
}

/// The blows.
pub struct Kills<'a> {
    random: Rng,
    longest: Duration,
    next: Instant,
    dealt: BTreeMap<&'static str, u32>,
    plan: &'a Plan,
}

impl<'a> Kills<'a> {
    /// From this seed; `longest` is the longest time between two blows, in seconds.
    pub fn new(seed: u64, longest: f64, plan: &'a Plan) -> Self {
        let longest = Duration::from_secs_f64(longest.max(0.1));
        let random = Rng::with_seed(seed ^ 0x0b10_35a7_7e44_af0e);
        Self { random, longest, next: Instant::now(), dealt: BTreeMap::new(), plan }
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
        let whom = Whom::next(&mut self.random);
        let (nth, into) = (self.random.usize(..64), INTO_A_RUN.mul_f64(self.random.f64()));
        let cut_off = CUT_OFF.mul_f64(self.random.f64());
        self.next = Instant::now() + self.longest.mul_f64(self.random.f64());
        let met = in_a_run(&campaign.home).await;
        tokio::time::sleep(into).await;
        let home = campaign.home.clone();
        let dealt = match whom {
            Whom::Terraform => kill_terraforms(&home, Some(nth)),
            Whom::Executor => victims::strike(&home, "executors", nth, Blow::Kill),
            Whom::Group => {
                let killed = victims::strike(&home, "executors", nth, Blow::Kill);
                kill_terraforms(&home, None);
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
        if dealt {
            *self.dealt.entry(whom.name()).or_default() += 1;
            let settled = self.plan.settled.load(std::sync::atomic::Ordering::Relaxed);
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

/// Kills one of them, or all.
fn kill_terraforms(home: &Path, nth: Option<usize>) -> bool {
    let mut running = terraforms(home);
    if let Some(nth) = nth {
        running = running.get(nth % running.len().max(1)).copied().into_iter().collect();
    }
    let killed = running.into_iter().filter_map(Pid::from_raw).map(|pid| kill_process(pid, Signal::KILL));
    killed.filter(Result::is_ok).count() > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_plan_with_every_blow_in_it() {
        let plan = |seed| {
            let mut random = Rng::with_seed(seed);
            (0..100).map(|_| Whom::next(&mut random).name()).collect::<Vec<_>>()
        };
        assert_eq!(plan(1), plan(1));
        assert_eq!(plan(1).into_iter().collect::<std::collections::BTreeSet<_>>().len(), 5);
    }
}
