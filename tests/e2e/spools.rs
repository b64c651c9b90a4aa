//! What an executor that is never started again has on its disk.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use wanwright_tests::{Processes, Running, Signal, Timing, level};

use crate::support::own;

/// Stops everybody of Postgres, or lets them go on.
struct Postgres(Vec<wanwright_tests::Process>);

impl Postgres {
    fn of(running: &Running) -> Result<Self> {
        let postgres = running.role("postgres").context("no Postgres")?;
        Ok(Self([Processes::below(postgres.pid), vec![postgres]].concat()))
    }

    fn signal(&self, signal: Signal) {
        self.0.iter().for_each(|process| process.signal(signal));
    }
}

/// What stands still cannot be ended in good order, and would outlive a test that fails.
impl Drop for Postgres {
    fn drop(&mut self) {
        self.signal(Signal::CONT);
    }
}

/// The states in a spool.
fn spooled(work: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(work.join("spool")).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_in_the_spool_of_a_lost_executor_is_missed_and_taken_over() -> Result<()> {
    let _timing = Timing::of("spool of a lost executor");
    let running = own().await?;
    let customer = running.customer("spools").await?;
    let mut objects = customer.site("oslo", 1, 1, 0).await?;
    let rows = running.rows().await?;
    rows.healthy("spools", objects, level::LONG).await?;

    // Postgres is away before the next run ends, so its state is on the executor's disk only.
    let postgres = Postgres::of(&running)?;
    let work = running.home.join("executor");
    let vendor = running.vendor()?;
    vendor.faults(&json!({ "latency_ms": 1500 })).await?;
    objects += customer.site("bergen", 2, 2, 0).await?;
    level::until("the site is at the vendor", level::LONG, async || {
        Ok(vendor.object("site", "spools.bergen").await?.is_some())
    })
    .await?;
    postgres.signal(Signal::STOP);
    level::until("a state waits in the spool", level::LONG, async || Ok(!spooled(&work).is_empty())).await?;

    // That is noted outside of it.
    level::until("it is said what waits", level::LONG, async || {
        Ok(running.call(&["doctor"]).await?.out.contains("later    Terraform state of"))
    })
    .await?;

    // That executor dies, and its folder is gone: the next one has another.
    let lost = running.home.join("tmp/lost");
    std::fs::create_dir(&lost)?;
    let executor = running.role("executors").context("no executor")?;
    executor.signal(Signal::KILL);
    std::fs::rename(&work, lost.join("executor"))?;
    let [file] = &spooled(&lost.join("executor"))[..] else { anyhow::bail!("one stack was being made") };
    let stack = file.file_stem().context("a name")?.to_string_lossy().into_owned();
    let state: serde_json::Value = serde_json::from_slice(&std::fs::read(file)?)?;
    running.comes_back("executors", &executor).await?;
    level::until("it is said what is missing, and where", level::LONG, async || {
        let said = running.call(&["doctor"]).await?;
        let line = said.out.lines().find(|line| line.starts_with("missing  Terraform state of"));
        Ok(line
            .is_some_and(|line| line.contains(&stack) && line.contains(&format!("{} on ", work.display()))))
    })
    .await?;

    // Found again beside the others, it is taken over and told to Postgres.
    let found = running.home.join("executor-lost");
    std::fs::rename(lost.join("executor"), &found)?;
    level::until("it is taken over", level::LONG, async || Ok(spooled(&found).is_empty())).await?;
    vendor.heal().await?;
    postgres.signal(Signal::CONT);
    rows.healthy("spools", objects, level::LONG).await?;
    let kept: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM terraform.states WHERE stack = $1 AND lineage = $2 AND serial = $3)",
    )
    .bind(&stack)
    .bind(state["lineage"].as_str().context("a lineage")?)
    .bind(state["serial"].as_i64().context("a serial")?)
    .fetch_one(&sqlx::PgPool::connect(&running.endpoints.postgres).await?)
    .await?;
    ensure!(kept, "the state did not reach Postgres");
    for folder in ["executor", "executor-lost"] {
        let left: Vec<_> = std::fs::read_dir(running.home.join(folder).join("spool"))?.flatten().collect();
        ensure!(left.is_empty(), "{folder} has {left:?}");
    }
    let said = running.call(&["doctor"]).await?.code(0)?;
    ensure!(said.out.contains("no Terraform state waits"), "{}", said.out);
    running.call(&["drift", "spools"]).await?.code(0)?;
    vendor.judge("spools.", usize::try_from(objects)?).await
}
