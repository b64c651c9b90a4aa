//! `kill -9` of the whole demo at ten moments while it converges, and a new start each time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use wanwright_supervisor::Child;
use wanwright_tests::{Home, Processes, Random, Running, Signal, Timing, level};

use crate::support::{home, program};

/// The moments come from here; another seed is another campaign.
const SEED: u64 = 20_261_121;

/// Kills while it starts, and kills while it carries orders out.
const EARLY: u64 = 3;
const LATE: u64 = 7;

/// How long after the process's start the early kills may come, in milliseconds.
const START: u64 = 4000;

/// How long after the first order can be carried out the late kills may come, in milliseconds.
const WORK: u64 = 3500;

/// Everybody is gone that soon after the kill.
const GONE: Duration = Duration::from_secs(5);

const OBJECTS: usize = 162;

#[tokio::test(flavor = "multi_thread")]
async fn ten_kills_lose_nothing_and_double_nothing() -> Result<()> {
    let timing = Timing::of("kill -9 of the demo, ten times");
    let home = home()?;
    let mut random = Random::new(SEED);
    // Stratified: each kill has a slice of its own, so that ten kills cover the whole stretch.
    let mut moments = Vec::new();
    for (working, kills, stretch) in [(false, EARLY, START), (true, LATE, WORK)] {
        moments.extend((0..kills).map(|n| (working, (n * stretch + random.below(stretch)) / kills)));
    }
    for at in (1..moments.len()).rev() {
        moments.swap(at, usize::try_from(random.below(at as u64 + 1))?);
    }
    let (mut useful, mut slowest) = (0, Duration::ZERO);
    for (working, after) in moments {
        let (what, gone) = one(&home, working, Duration::from_millis(after)).await?;
        useful += usize::from(what.in_the_middle());
        slowest = slowest.max(gone);
        timing.say(format_args!("{what}, gone in {} ms", gone.as_millis()));
    }
    timing.say(format_args!("{useful} of 10 while objects were being made; slowest end {slowest:?}"));
    ensure!(
        useful >= 4,
        "only {useful} of 10 kills came while objects were being made: slow the vendor down"
    );
    let said = program().call_within(&home, &["demo", "--once"], Duration::from_secs(180)).await?.code(0)?;
    timing.say(format_args!("demo --once afterwards: {:.1} s", said.took.as_secs_f64()));
    let running = Running::up(&program(), &home).await?;
    running.vendor()?.judge("", OBJECTS).await?;
    // The demo drifts two objects at its end.
    let sick = running.rows().await?.number("SELECT count(*) FROM status WHERE health <> 'Healthy'").await?;
    ensure!(sick == 0, "{sick} objects are not healthy");
    running.rows().await?.all_running().await?;
    running.call(&["rebuild", "--verify"]).await?.code(0)?;
    ensure!(home.panics().is_empty(), "{:?}", home.panics());
    ensure!(home.violations().is_empty(), "{:?}", home.violations());
    Ok(())
}

/// Where a kill hit.
struct Hit {
    working: bool,
    after: Duration,
    made: Option<u64>,
}

impl Hit {
    fn in_the_middle(&self) -> bool {
        self.made.is_some_and(|made| (1..OBJECTS as u64).contains(&made))
    }
}

impl std::fmt::Display for Hit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let since = if self.working { "work" } else { "start" };
        write!(f, "killed {} ms after {since}, ", self.after.as_millis())?;
        match self.made {
            Some(made) => write!(f, "{made} of {OBJECTS} objects made"),
            None => write!(f, "vendor not up"),
        }
    }
}

/// Starts the demo, kills it, and waits until everybody is gone.
async fn one(home: &Arc<Home>, working: bool, after: Duration) -> Result<(Hit, Duration)> {
    let program = program();
    let began = Instant::now();
    let mut child: Child = Running::launch(&program, home, &["demo", "--once"])?;
    let mut vendor = None;
    if working {
        let running = Running::ready(&program, home, child).await?;
        // Slow enough that a kill meets work; a new start of the vendor has no faults.
        running.vendor()?.faults(&json!({ "latency_ms": 250, "jitter_ms": 500 })).await?;
        vendor = Some(running.vendor()?);
        tokio::time::sleep(after).await;
        child = running.into_child();
    } else {
        let left = after.saturating_sub(began.elapsed());
        tokio::time::sleep(left).await;
    }
    let made = match &vendor {
        Some(vendor) => Some(vendor.made().await.context("the vendor died before the kill")?),
        None => None,
    };
    let family = Processes::below(child.id());
    child.signal(Signal::KILL);
    let gone = Processes::gone(&family, home.path(), GONE).await?;
    level::until("the demo is reaped", GONE, async || Ok(child.try_wait().is_some())).await?;
    Ok((Hit { working, after, made }, gone))
}
