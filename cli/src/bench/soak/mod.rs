//! `wanwright bench soak`: kills and stops parts of a working system again and again, and lets the connections between
//! them down, while the vendor has troubles of its own; then compares what the histories, the tables and the vendor say.

mod cuts;
mod proxy;
mod settle;
mod stacks;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wanwright_supervisor::{Child, ChildSpec};

use super::births;
use super::figures;
use super::fleet::copy;
use super::judge::{self, Verdict};
use super::load::{self, Accepted, Caller, Reach};
use super::victims::{self, Blow, SIMULATOR, Victim};
use super::weather;
use crate::cli::SoakArgs;
use crate::demo::fleet;
use crate::endpoints::Endpoints;
use crate::exit::Exit;
use crate::output::{line, note};
use cuts::Between;
use settle::connect;

/// How long the processes of a killed system have to be gone.
const GONE: Duration = Duration::from_secs(10);

/// How long the system has to settle after the last kill. An order that failed often waits two minutes for its next try.
const SETTLE: Duration = Duration::from_secs(300);

/// How often is looked whether the system still runs.
const LOOK: Duration = Duration::from_millis(500);

/// Longest time a part is stopped and does not answer.
const LONGEST_STOP: Duration = Duration::from_secs(5);

/// A blow whose victim is not there just now is no blow; so many times as many as were asked for are tried.
const MOST_TRIES: u32 = 4;

/// Of so many blows to a part, one stops it for a while instead of killing it.
const STOPPED: u32 = 4;

/// How the simulated vendor's jobs are followed, which its folder does not say because it usually has none.
const JOBS: &str = r#"
[job]
id = "/job/id"
path = "/v1/jobs/{job}"
state = "/job/state"
running = ["running"]
succeeded = ["succeeded"]
failed = ["failed"]
message = "/job/message"
object_id = "/job/object"
interval_seconds = 0.2
limit_seconds = 60
"#;

/// Runs the campaign.
pub async fn run(args: SoakArgs) -> Result<Exit> {
    let home = match &args.home {
        Some(home) => std::path::absolute(home)?,
        None => std::env::temp_dir().join(format!("wanwright-soak-{}", std::process::id())),
    };
    let vendors = std::path::absolute(&args.vendors.vendors)?;
    let mut campaign = Campaign {
        home: home.clone(),
        vendors,
        executors: args.executors,
        between: None,
        orphans: 0,
        failed: BTreeMap::new(),
        cuts: BTreeMap::new(),
        weather: BTreeMap::new(),
        went_on: Vec::new(),
    };
    if let Some(applies) = args.terraform {
        return stacks::run(&args, campaign, applies).await;
    }
    let began = Instant::now();
    let (verdict, blows, accepted) = campaign.run(&args).await?;
    let orphans = campaign.orphans;
    let report = json!({
        "seed": args.seed,
        "executors": args.executors,
        "kills": blows,
        "cuts": campaign.cuts,
        "weather": campaign.weather,
        "through_proxies": campaign.between.as_ref().map(|between| between.passed()),
        "seconds": figures::seconds(began.elapsed().as_secs_f64()),
        "accepted_commands": accepted.commands.len(),
        "requests_asked_again": accepted.asked_again,
        "failed_for_good_and_tried_again": campaign.failed,
        "orphan_processes": orphans,
        "verdict": verdict,
    });
    line(serde_json::to_string_pretty(&report)?);
    let good = verdict.is_good() && orphans == 0;
    if good && args.home.is_none() {
        let _ = std::fs::remove_dir_all(&home);
    } else {
        note(format!("the system's folder is {}", home.display()));
    }
    Ok(if good { Exit::Done } else { Exit::Different })
}

/// How a blow is dealt.
struct Plan {
    nth: usize,
    stopped: Duration,
    blow: Blow,
}

struct Campaign {
    home: PathBuf,
    vendors: PathBuf,
    executors: u16,
    /// What the roles reach the servers through, unless they reach them directly.
    between: Option<Arc<Between>>,
    /// Processes that outlived the system they belonged to.
    orphans: usize,
    /// How many objects failed for good, by reason, and were told to try again.
    failed: BTreeMap<String, u32>,
    /// How often which connections were let down.
    cuts: BTreeMap<String, u32>,
    /// How often the vendor had which trouble of its own.
    weather: BTreeMap<&'static str, u32>,
    /// When the vendor went on after it had been stopped, in milliseconds since 1970.
    went_on: Vec<u64>,
}

impl Campaign {
    async fn run(&mut self, args: &SoakArgs) -> Result<(Verdict, BTreeMap<String, u32>, Accepted)> {
        std::fs::create_dir_all(&self.home).with_context(|| format!("making {}", self.home.display()))?;
        if let Some(cache) = &args.cache {
            share(cache, &self.home)?;
        }
        self.follow_jobs()?;
        if !args.without_cuts {
            self.between = Some(Arc::new(Between::start(&self.home).await?));
        }
        let accepted = Arc::new(Mutex::new(Accepted::default()));
        let (stop, abandon) = (CancellationToken::new(), CancellationToken::new());
        let mut system = self.start()?;
        let nats = self.between.as_ref().map(|between| between.nats());
        let reach = Reach { home: self.home.clone(), nats };
        let fleet = tokio::spawn(create(reach.clone(), abandon.clone()));
        let weather = tokio::spawn(weather::run(self.home.clone(), args.seed, stop.clone()));
        let caller = || Caller::new(reach.clone(), Arc::clone(&accepted), abandon.clone());
        let load = tokio::spawn(load::run(caller(), args.seed, stop.clone()));
        let births = tokio::spawn(births::run(caller(), args.seed, stop.clone()));
        let (blows, cuts) = self.harm(args, &mut system, &stop).await?;
        self.cuts = cuts;
        let ended = async { tokio::join!(load, births, fleet, weather) };
        let ended = tokio::time::timeout(SETTLE, self.alive_until(&mut system, ended)).await;
        let Ok(ended) = ended else {
            abandon.cancel();
            anyhow::bail!("the load had no outcome {} s after the last kill", SETTLE.as_secs());
        };
        let (load, births, fleet, weather) = ended?;
        load??;
        births??;
        fleet??;
        self.weather = weather?;
        let endpoints = self.settle(&mut system).await?;
        let accepted = std::mem::take(&mut *accepted.lock().await);
        let verdict = judge::judge(&endpoints, &accepted, &self.went_on).await?;
        system.stop(Duration::from_secs(20)).await;
        self.orphans += self.wait_until_gone().await;
        Ok((verdict, blows, accepted))
    }

    /// Copies the vendors' folders, with what jobs are at the simulated vendor.
    fn follow_jobs(&mut self) -> Result<()> {
        let vendors = self.home.join("vendors");
        copy(&self.vendors, &vendors)?;
        let file = vendors.join("simwan/api/device.toml");
        let doing = || format!("changing {}", file.display());
        let text = std::fs::read_to_string(&file).with_context(doing)?;
        std::fs::write(&file, text + JOBS).with_context(doing)?;
        self.vendors = vendors;
        Ok(())
    }

    /// Strikes and cuts beside each other until all blows are dealt.
    async fn harm(
        &mut self,
        args: &SoakArgs,
        system: &mut Child,
        stop: &CancellationToken,
    ) -> Result<(BTreeMap<String, u32>, BTreeMap<String, u32>)> {
        let (between, home) = (self.between.clone(), self.home.clone());
        let cuts = async {
            match &between {
                Some(between) => {
                    // A system that never was there has nothing to lose.
                    until_there(&home, stop).await;
                    between.trouble(args.seed, stop.clone()).await
                }
                None => BTreeMap::new(),
            }
        };
        let blows = async {
            // A blow that meets a system that still starts counts and shows nothing: the first one waits until it is there.
            until_there(&self.home.clone(), stop).await;
            let blows = self.strike(args, system).await;
            stop.cancel();
            blows
        };
        let (blows, cuts) = tokio::join!(blows, cuts);
        Ok((blows?, cuts))
    }

    /// Strikes one part after the other, and answers how often which was struck.
    async fn strike(&mut self, args: &SoakArgs, system: &mut Child) -> Result<BTreeMap<String, u32>> {
        let mut random = fastrand::Rng::with_seed(args.seed);
        let victims = Victim::called(args.only.as_deref());
        anyhow::ensure!(!victims.is_empty(), "there is no part of this name: {:?}", args.only);
        let longest = Duration::try_from_secs_f64(args.life)?;
        let mut blows: BTreeMap<String, u32> = BTreeMap::new();
        let (mut dealt, mut tried) = (0, 0);
        while dealt < args.kills && tried < args.kills * MOST_TRIES {
            tried += 1;
            let life = longest.mul_f64(random.f64());
            tokio::time::sleep(life).await;
            let victim = victims[random.usize(..victims.len())];
            let plan = Plan {
                nth: random.usize(..64),
                stopped: LONGEST_STOP.mul_f64(random.f64()),
                blow: if random.u32(..STOPPED) == 0 { Blow::Stop } else { Blow::Kill },
            };
            let Some(did) = self.deal(victim, &plan, system).await? else { continue };
            dealt += 1;
            *blows.entry(format!("{}, {did}", victim.name())).or_default() += 1;
            let life = life.as_secs_f64();
            note(format!("  {dealt}/{}: {did}: {} after {life:.1} s", args.kills, victim.name()));
        }
        Ok(blows)
    }

    /// Deals one blow, and says what it did; nothing if its victim is not there just now.
    async fn deal(
        &mut self,
        victim: Victim,
        plan: &Plan,
        system: &mut Child,
    ) -> Result<Option<&'static str>> {
        if system.try_wait().is_some() {
            *system = self.start()?;
            return Ok(None);
        }
        let Victim::Role(role) = victim else {
            system.kill().await;
            self.orphans += self.wait_until_gone().await;
            *system = self.start()?;
            return Ok(Some("killed"));
        };
        if !victims::strike(&self.home, role, plan.nth, plan.blow) {
            return Ok(None);
        }
        if plan.blow == Blow::Kill {
            return Ok(Some("killed"));
        }
        tokio::time::sleep(plan.stopped).await;
        if role == SIMULATOR {
            self.went_on.push(u64::try_from(Timestamp::now().as_millisecond())?);
        }
        victims::strike(&self.home, role, plan.nth, Blow::GoOn);
        Ok(Some("stopped for a while"))
    }

    /// Keeps the system running until something has ended: the last blow may have met it while it started.
    async fn alive_until<T>(&self, system: &mut Child, ended: impl Future<Output = T>) -> Result<T> {
        tokio::pin!(ended);
        loop {
            if let Ok(ended) = tokio::time::timeout(LOOK, &mut ended).await {
                return Ok(ended);
            }
            if system.try_wait().is_some() {
                *system = self.start()?;
            }
        }
    }

    fn start(&self) -> Result<Child> {
        let program = std::env::current_exe()?;
        let mut spec = ChildSpec::new(program)
            .args(["up", "--executors", &self.executors.to_string(), "--home"])
            .arg(&self.home)
            .arg("--vendors")
            .arg(&self.vendors)
            .envs(std::env::vars_os())
            .log(self.home.join("soak.log"));
        if let Some(between) = &self.between {
            spec = spec
                .args(["--nats-through".to_owned(), between.nats().to_string()])
                .args(["--postgres-through".to_owned(), between.postgres().to_string()]);
        }
        Ok(spec.spawn()?)
    }

    /// Waits until nothing of the system runs any more, and answers how much still does.
    async fn wait_until_gone(&self) -> usize {
        let deadline = Instant::now() + GONE;
        loop {
            let alive = victims::alive(&self.home);
            if alive == 0 || Instant::now() >= deadline {
                return alive;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Waits until the system has started once.
async fn until_there(home: &Path, stop: &CancellationToken) {
    while !stop.is_cancelled() && Endpoints::read(home).is_err() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Creates the demo's fleet, however often that takes: its commands keep their ids.
async fn create(reach: Reach, abandon: CancellationToken) -> Result<()> {
    let lines = fleet::read()?;
    loop {
        let attempt = async {
            let nats = connect(&reach.endpoints()?).await?;
            fleet::send(&reach.home, &nats, &lines).await
        };
        match attempt.await {
            Ok(()) => return Ok(()),
            Err(error) if abandon.is_cancelled() => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
        }
    }
}

/// Uses servers that were downloaded before.
fn share(cache: &Path, home: &Path) -> Result<()> {
    let link = home.join("cache");
    if !link.exists() {
        std::os::unix::fs::symlink(std::path::absolute(cache)?, &link).context("linking the cache")?;
    }
    Ok(())
}
