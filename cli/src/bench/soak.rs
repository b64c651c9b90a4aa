//! `wanwright bench soak`: kills and stops parts of a working system again and again while the vendor has troubles of its
//! own, then compares what the histories, the tables and the vendor say.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use async_nats::HeaderMap;
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wanwright_nats::accounts::Role;
use wanwright_schemas::subjects::PARTITIONS;
use wanwright_supervisor::{Child, ChildSpec};

use super::figures;
use super::judge::{self, Verdict};
use super::load::{self, Accepted};
use super::victims::{self, Blow, Victim};
use super::weather;
use crate::cli::SoakArgs;
use crate::demo::fleet;
use crate::endpoints::{Endpoints, Login, PERSON};
use crate::exit::Exit;
use crate::output::{line, note};
use crate::send;

/// Longest time between a start, or a kill, and the next kill.
const LONGEST_LIFE: Duration = Duration::from_secs(9);

/// How long the processes of a killed system have to be gone.
const GONE: Duration = Duration::from_secs(10);

/// How long the system has to settle after the last kill. An order that failed often waits two minutes for its next try.
const SETTLE: Duration = Duration::from_secs(300);

/// Longest time a part is stopped and does not answer.
const LONGEST_STOP: Duration = Duration::from_secs(5);

/// Of so many blows to a part, one stops it for a while instead of killing it.
const STOPPED: u32 = 4;

/// How often what failed for good is told to try again, as a person would.
const RETRY: Duration = Duration::from_secs(2);

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
        orphans: 0,
        failed: BTreeMap::new(),
    };
    let began = Instant::now();
    let (verdict, blows, accepted) = campaign.run(&args).await?;
    let orphans = campaign.orphans;
    let report = json!({
        "seed": args.seed,
        "executors": args.executors,
        "kills": blows,
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

struct Campaign {
    home: PathBuf,
    vendors: PathBuf,
    executors: u16,
    /// Processes that outlived the system they belonged to.
    orphans: usize,
    /// How many objects failed for good, by reason, and were told to try again.
    failed: BTreeMap<String, u32>,
}

impl Campaign {
    async fn run(&mut self, args: &SoakArgs) -> Result<(Verdict, BTreeMap<String, u32>, Accepted)> {
        std::fs::create_dir_all(&self.home).with_context(|| format!("making {}", self.home.display()))?;
        if let Some(cache) = &args.cache {
            share(cache, &self.home)?;
        }
        let accepted = Arc::new(Mutex::new(Accepted::default()));
        let (stop, abandon) = (CancellationToken::new(), CancellationToken::new());
        let mut system = self.start()?;
        let fleet = tokio::spawn(create(self.home.clone(), abandon.clone()));
        let weather = tokio::spawn(weather::run(self.home.clone(), args.seed, stop.clone()));
        let load =
            load::run(self.home.clone(), args.seed, Arc::clone(&accepted), stop.clone(), abandon.clone());
        let load = tokio::spawn(load);
        let blows = self.strike(args, &mut system).await?;
        stop.cancel();
        let ended = async { tokio::join!(load, fleet, weather) };
        let Ok((load, fleet, weather)) = tokio::time::timeout(SETTLE, ended).await else {
            abandon.cancel();
            anyhow::bail!("the load had no outcome {} s after the last kill", SETTLE.as_secs());
        };
        load??;
        fleet??;
        weather?;
        let endpoints = self.settle(&mut system).await?;
        let accepted = std::mem::take(&mut *accepted.lock().await);
        let verdict = judge::judge(&endpoints, &accepted).await?;
        system.stop(Duration::from_secs(20)).await;
        self.orphans += self.wait_until_gone().await;
        Ok((verdict, blows, accepted))
    }

    /// Strikes one part after the other, and answers how often which was struck.
    async fn strike(&mut self, args: &SoakArgs, system: &mut Child) -> Result<BTreeMap<String, u32>> {
        let mut random = fastrand::Rng::with_seed(args.seed);
        let mut blows: BTreeMap<String, u32> = BTreeMap::new();
        for number in 1..=args.kills {
            let life = LONGEST_LIFE.mul_f64(random.f64());
            tokio::time::sleep(life).await;
            let mut victim = Victim::ALL[random.usize(..Victim::ALL.len())];
            let (nth, stopped) = (random.usize(..64), LONGEST_STOP.mul_f64(random.f64()));
            let blow = if random.u32(..STOPPED) == 0 { Blow::Stop } else { Blow::Kill };
            if let Victim::Role(role) = victim
                && !victims::strike(&self.home, role, nth, blow)
            {
                victim = Victim::Everything;
            }
            let mut did = "killed";
            if victim == Victim::Everything {
                system.kill().await;
                self.orphans += self.wait_until_gone().await;
                *system = self.start()?;
            } else if system.try_wait().is_some() {
                *system = self.start()?;
            } else if let (Victim::Role(role), Blow::Stop) = (victim, blow) {
                did = "stopped for a while";
                tokio::time::sleep(stopped).await;
                victims::strike(&self.home, role, nth, Blow::GoOn);
            }
            *blows.entry(format!("{}, {did}", victim.name())).or_default() += 1;
            note(format!(
                "  {number}/{}: {did}: {} after {:.1} s",
                args.kills,
                victim.name(),
                life.as_secs_f64()
            ));
        }
        Ok(blows)
    }

    fn start(&self) -> Result<Child> {
        let program = std::env::current_exe()?;
        let spec = ChildSpec::new(program)
            .args(["up", "--executors", &self.executors.to_string(), "--home"])
            .arg(&self.home)
            .arg("--vendors")
            .arg(&self.vendors)
            .envs(std::env::vars_os())
            .log(self.home.join("soak.log"));
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

    /// Waits until every order is worked off.
    async fn settle(&mut self, system: &mut Child) -> Result<Endpoints> {
        let deadline = Instant::now() + SETTLE;
        let mut last = "it has not started".to_owned();
        let mut asked = Instant::now();
        while Instant::now() < deadline {
            if system.try_wait().is_some() {
                *system = self.start()?;
            }
            match self.unsettled().await {
                Ok((endpoints, 0)) => return Ok(endpoints),
                Ok((endpoints, waiting)) => {
                    last = format!("{waiting} objects are not as they should be");
                    if asked.elapsed() >= RETRY {
                        asked = Instant::now();
                        if let Err(error) = self.try_again(&endpoints).await {
                            last = error.to_string();
                        }
                    }
                }
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        anyhow::bail!("the system did not settle in {} s: {last}", SETTLE.as_secs())
    }

    async fn unsettled(&self) -> Result<(Endpoints, i64)> {
        let endpoints = Endpoints::read(&self.home)?;
        let pool = pool(&endpoints).await?;
        // The fleet has 162 objects; before all are created nothing has settled.
        let waiting: i64 = sqlx::query_scalar(
            "SELECT greatest(162 - count(*), 0)
                    + count(*) FILTER (WHERE observed_generation IS DISTINCT FROM generation OR health <> 'Healthy')
             FROM status",
        )
        .fetch_one(&pool)
        .await?;
        let behind: i64 = sqlx::query_scalar("SELECT coalesce(sum(behind), 0)::bigint FROM projection_lag")
            .fetch_one(&pool)
            .await?;
        Ok((endpoints, waiting + behind))
    }

    /// Tells what failed for good to try again: the vendor has no more trouble.
    async fn try_again(&mut self, endpoints: &Endpoints) -> Result<()> {
        let failed: Vec<(String, String, String, String)> = sqlx::query_as(
            "SELECT kind, customer, id, reason FROM status
             WHERE reason IS NOT NULL AND reason <> 'Drifted' AND health = 'Degraded'",
        )
        .fetch_all(&pool(endpoints).await?)
        .await?;
        if failed.is_empty() {
            return Ok(());
        }
        let nats = connect(endpoints).await?;
        for (kind, customer, id, reason) in failed {
            let subject = send::subject(PERSON, &kind, "retry", &format!("{customer}/{id}"))?;
            let outcome = send::request(&nats, &subject, HeaderMap::new(), Vec::new()).await?;
            if outcome.position().is_some() {
                *self.failed.entry(format!("{kind}: {reason}")).or_default() += 1;
            }
        }
        Ok(())
    }
}

async fn pool(endpoints: &Endpoints) -> Result<sqlx::PgPool> {
    let options =
        sqlx::postgres::PgPoolOptions::new().max_connections(1).acquire_timeout(Duration::from_secs(2));
    options.connect(&endpoints.postgres).await.map_err(Into::into)
}

async fn connect(endpoints: &Endpoints) -> Result<wanwright_nats::Nats> {
    let access = endpoints.access(Login::Role(Role::Admin))?;
    Ok(wanwright_nats::connect(access, "wanwright-soak", PARTITIONS).await?)
}

/// Creates the demo's fleet, however often that takes: its commands keep their ids.
async fn create(home: PathBuf, abandon: CancellationToken) -> Result<()> {
    let lines = fleet::read()?;
    loop {
        let attempt = async {
            let nats = connect(&Endpoints::read(&home)?).await?;
            fleet::send(&home, &nats, &lines).await
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
