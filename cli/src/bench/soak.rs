//! `wanwright bench soak`: kills parts of a working system again and again, then compares what the histories, the tables
//! and the vendor say.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wanwright_supervisor::{Child, ChildSpec};

use super::figures;
use super::judge::{self, Verdict};
use super::load::{self, Accepted};
use super::victims::{self, Victim};
use crate::cli::SoakArgs;
use crate::endpoints::Endpoints;
use crate::exit::Exit;
use crate::output::{line, note};

/// Longest time between a start, or a kill, and the next kill.
const LONGEST_LIFE: Duration = Duration::from_secs(9);

/// How long the processes of a killed system have to be gone.
const GONE: Duration = Duration::from_secs(10);

/// How long the system has to settle after the last kill.
const SETTLE: Duration = Duration::from_secs(180);

/// Runs the campaign.
pub async fn run(args: SoakArgs) -> Result<Exit> {
    let home = match &args.home {
        Some(home) => std::path::absolute(home)?,
        None => std::env::temp_dir().join(format!("wanwright-soak-{}", std::process::id())),
    };
    let campaign = Campaign { home: home.clone(), vendors: std::path::absolute(&args.vendors.vendors)? };
    let began = Instant::now();
    let (verdict, kills, orphans, accepted) = campaign.run(&args).await?;
    let report = json!({
        "seed": args.seed,
        "kills": kills,
        "seconds": figures::seconds(began.elapsed().as_secs_f64()),
        "accepted_commands": accepted.commands.len(),
        "requests_asked_again": accepted.asked_again,
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
}

impl Campaign {
    async fn run(&self, args: &SoakArgs) -> Result<(Verdict, BTreeMap<&'static str, u32>, usize, Accepted)> {
        std::fs::create_dir_all(&self.home).with_context(|| format!("making {}", self.home.display()))?;
        if let Some(cache) = &args.cache {
            share(cache, &self.home)?;
        }
        let mut random = fastrand::Rng::with_seed(args.seed);
        let accepted = Arc::new(Mutex::new(Accepted::default()));
        let (stop, abandon) = (CancellationToken::new(), CancellationToken::new());
        let load = tokio::spawn(load::run(
            self.home.clone(),
            args.seed,
            Arc::clone(&accepted),
            stop.clone(),
            abandon.clone(),
        ));
        let mut kills: BTreeMap<&'static str, u32> = BTreeMap::new();
        let mut orphans = 0;
        let mut system = self.start()?;
        for number in 1..=args.kills {
            let life = LONGEST_LIFE.mul_f64(random.f64());
            tokio::time::sleep(life).await;
            let mut victim = Victim::ALL[random.usize(..Victim::ALL.len())];
            if let Victim::Role(role) = victim
                && !victims::kill_role(&self.home, role)
            {
                victim = Victim::Everything;
            }
            if victim == Victim::Everything {
                system.kill().await;
                orphans += self.wait_until_gone().await;
                system = self.start()?;
            } else if system.try_wait().is_some() {
                system = self.start()?;
            }
            *kills.entry(victim.name()).or_default() += 1;
            note(format!(
                "  {number}/{}: killed {} after {:.1} s",
                args.kills,
                victim.name(),
                life.as_secs_f64()
            ));
        }
        stop.cancel();
        if tokio::time::timeout(SETTLE, load).await.is_err() {
            abandon.cancel();
            anyhow::bail!("the load had no outcome {} s after the last kill", SETTLE.as_secs());
        }
        let endpoints = self.settle(&mut system).await?;
        let accepted = std::mem::take(&mut *accepted.lock().await);
        let verdict = judge::judge(&endpoints, &accepted).await?;
        system.stop(Duration::from_secs(20)).await;
        orphans += self.wait_until_gone().await;
        Ok((verdict, kills, orphans, accepted))
    }

    fn start(&self) -> Result<Child> {
        let program = std::env::current_exe()?;
        let spec = ChildSpec::new(program)
            .args(["demo", "--home"])
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
    async fn settle(&self, system: &mut Child) -> Result<Endpoints> {
        let deadline = Instant::now() + SETTLE;
        let mut last = "it has not started".to_owned();
        while Instant::now() < deadline {
            if system.try_wait().is_some() {
                *system = self.start()?;
            }
            match self.unsettled().await {
                Ok((endpoints, 0)) => return Ok(endpoints),
                Ok((_, waiting)) => last = format!("{waiting} objects are not as they should be"),
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        anyhow::bail!("the system did not settle in {} s: {last}", SETTLE.as_secs())
    }

    async fn unsettled(&self) -> Result<(Endpoints, i64)> {
        let endpoints = Endpoints::read(&self.home)?;
        let pool = sqlx::postgres::PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(Duration::from_secs(2))
            .connect(&endpoints.postgres)
            .await?;
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
}

/// Uses servers that were downloaded before.
fn share(cache: &Path, home: &Path) -> Result<()> {
    let link = home.join("cache");
    if !link.exists() {
        std::os::unix::fs::symlink(std::path::absolute(cache)?, &link).context("linking the cache")?;
    }
    Ok(())
}
