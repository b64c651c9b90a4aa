//! Applies through wanwright: a command for each object, and everything that follows.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::stream::{self, StreamExt, TryStreamExt};
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use wanwright_nats::{Nats, StateCopies};
use wanwright_schemas::control::{Control, ControlRequest, Scope};
use wanwright_schemas::services;

use super::{Measured, per_minute, tree};
use crate::bench::figures;
use crate::bench::fleet::sender;
use crate::bench::usage;
use crate::endpoints::PERSON;
use crate::stack::Stack;

/// Tunnels of a stack, which has one site besides.
pub const TUNNELS: u32 = 4;

/// Stacks of one customer.
const STACKS: u32 = 10;

/// How many customers send commands at once.
const AT_ONCE: usize = 32;

/// How often is looked how far it is.
const POLL: Duration = Duration::from_millis(500);

/// Longest time for an apply, at the slowest.
const EACH: Duration = Duration::from_secs(3);

/// The figures of runs, out of the tables.
#[derive(Debug, sqlx::FromRow)]
struct Ran {
    applies: i64,
    seconds: f64,
    tried_again: i64,
    locked: i64,
    peak_kib: i64,
    cpu_millis: f64,
    preparing: f64,
    waiting: f64,
    running: f64,
    finishing: f64,
}

const RAN: &str = "
    SELECT count(*) FILTER (WHERE state = 'succeeded') AS applies,
           coalesce(extract(epoch FROM max(finished_at) - min(started_at)), 0)::float8 AS seconds,
           count(*) FILTER (WHERE attempts > 1 OR state = 'failed') AS tried_again,
           count(*) FILTER (WHERE error_message ILIKE '%lock%') AS locked,
           coalesce(max(peak_kib), 0) AS peak_kib,
           coalesce(avg(cpu_millis), 0)::float8 AS cpu_millis,
           coalesce(avg(preparing_millis), 0)::float8 AS preparing,
           coalesce(avg(waiting_millis), 0)::float8 AS waiting,
           coalesce(avg(running_millis), 0)::float8 AS running,
           coalesce(avg(finishing_millis), 0)::float8 AS finishing
    FROM operations
    WHERE kind = 'site' AND intent = 'apply' AND customer LIKE $1 AND state NOT IN ('superseded','withdrawn')";

/// A running wanwright, to be measured.
pub struct Ours<'a> {
    stack: &'a Stack,
    at_once: usize,
    /// How many series there were; each has customers of its own.
    series: u32,
}

impl<'a> Ours<'a> {
    /// On this system.
    pub fn new(stack: &'a Stack, at_once: usize) -> Result<Self> {
        Ok(Self { stack, at_once, series: 0 })
    }

    /// Has the template made ready, and everything used once.
    pub async fn warm_up(&mut self) -> Result<()> {
        self.applies("warming up", 2 * u32::try_from(self.at_once)?).await.map(drop)
    }

    /// Has so many stacks made. What they are to be is decided before and waits: measured is the time from the first run to the last one's end.
    pub async fn applies(&mut self, name: &str, applies: u32) -> Result<Measured> {
        self.series += 1;
        let prefix = format!("s{}", self.series);
        control(&self.stack.nats, Scope::parse("vendor", "simwan"), true).await?;
        let began = Instant::now();
        let customers = applies.div_ceil(STACKS);
        let (nats, prefix_of) = (&self.stack.nats, &prefix);
        stream::iter(0..customers)
            .map(|number| async move {
                let stacks = STACKS.min(applies - number * STACKS);
                for stack in 0..stacks {
                    create(nats, &format!("{prefix_of}-{number:04}"), stack).await?;
                }
                anyhow::Ok(())
            })
            .buffer_unordered(AT_ONCE)
            .try_collect::<Vec<()>>()
            .await?;
        let decided = began.elapsed();
        self.queued(&prefix, applies).await?;
        let (cpu, resident) = (tree::cpu_by_name(), self.executors_mb());
        control(&self.stack.nats, Scope::parse("vendor", "simwan"), false).await?;
        let ran = self.done(&prefix, applies).await?;
        let cpu = since(&cpu, &tree::cpu_by_name(), applies);
        let grown = (self.executors_mb() - resident).max(0.0);
        self.measured(name, decided, &ran, (cpu, grown))
    }

    fn measured(
        &self,
        name: &str,
        decided: Duration,
        ran: &Ran,
        (cpu, grown): (BTreeMap<String, f64>, f64),
    ) -> Result<Measured> {
        let applies = u32::try_from(ran.applies)?;
        #[expect(clippy::cast_precision_loss, reason = "megabytes")]
        let peak_mb = ran.peak_kib as f64 / 1024.0 + grown / self.at_once as f64;
        let mut more = Map::new();
        more.insert("cpu_millis_each_by_process".to_owned(), json!(cpu));
        more.insert("terraform_cpu_millis_each".to_owned(), json!(figures::millis(ran.cpu_millis)));
        let parts = json!({
            "preparing": figures::millis(ran.preparing),
            "waiting": figures::millis(ran.waiting),
            "terraform": figures::millis(ran.running),
            "finishing": figures::millis(ran.finishing),
        });
        more.insert("millis_each_by_part".to_owned(), parts);
        more.insert("decided_in_seconds".to_owned(), json!(figures::seconds(decided.as_secs_f64())));
        let (locked, tried_again) = (u32::try_from(ran.locked)?, u32::try_from(ran.tried_again)?);
        Ok(Measured {
            name: name.to_owned(),
            at_once: self.at_once,
            applies,
            per_minute: per_minute(applies, ran.seconds),
            cpu_millis_each: figures::rate(cpu.values().sum()),
            peak_mb_each: figures::rate(peak_mb),
            lock_failures: locked,
            other_failures: tried_again.saturating_sub(locked),
            more,
        })
    }

    /// Waits until so many orders are in the table, each with its whole stack.
    async fn queued(&self, prefix: &str, applies: u32) -> Result<()> {
        let sql =
            "SELECT count(*) FROM operations WHERE customer LIKE $1 AND kind = 'site' AND state = 'waiting'";
        let began = Instant::now();
        loop {
            let waiting: i64 = self.ask(sql, prefix).await?;
            let behind: i64 =
                sqlx::query_scalar("SELECT coalesce(sum(behind), 0)::bigint FROM projection_lag")
                    .fetch_one(&self.stack.pool)
                    .await?;
            if waiting >= i64::from(applies) && behind == 0 {
                return Ok(());
            }
            anyhow::ensure!(
                began.elapsed() < EACH * applies.max(60),
                "{waiting} of {applies} orders were written in time"
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until all of them are done.
    async fn done(&self, prefix: &str, applies: u32) -> Result<Ran> {
        let began = Instant::now();
        loop {
            tokio::time::sleep(POLL).await;
            let ran: Ran =
                sqlx::query_as(RAN).bind(format!("{prefix}-%")).fetch_one(&self.stack.pool).await?;
            if ran.applies >= i64::from(applies) {
                return Ok(ran);
            }
            anyhow::ensure!(
                began.elapsed() < EACH * applies.max(60),
                "{} of {applies} stacks were made in time",
                ran.applies
            );
        }
    }

    async fn ask(&self, sql: &str, prefix: &str) -> Result<i64> {
        let asked = sqlx::query_scalar(sql).bind(format!("{prefix}-%"));
        Ok(asked.fetch_one(&self.stack.pool).await?)
    }

    #[expect(clippy::cast_precision_loss, reason = "megabytes")]
    fn executors_mb(&self) -> f64 {
        usage::by_role(self.stack.home()).get("executors").map_or(0.0, |usage| usage.resident_mb as f64)
    }

    /// Other customers' stacks: each has an order that waits because its customer is paused, and a state that was kept.
    pub async fn fill(&self, others: u32) -> Result<()> {
        const EACH: u32 = 100;
        let nats = &self.stack.nats;
        stream::iter(0..others.div_ceil(EACH))
            .map(|number| async move {
                let customer = format!("others-{number:04}");
                control(nats, Scope::parse("customer", &customer), true).await?;
                for stack in 0..EACH.min(others - number * EACH) {
                    let lan = format!("10.{}.{}.0/24", stack / 256, stack % 256);
                    let body = json!({ "vendor": "simwan", "lan": [lan] });
                    let site = format!("{customer}/site-{stack:03}");
                    sender::accepted(nats, "site", "create", &site, &body).await?;
                }
                anyhow::Ok(())
            })
            .buffer_unordered(AT_ONCE)
            .try_collect::<Vec<()>>()
            .await?;
        self.queued("others", others).await?;
        self.states().await
    }

    /// States of those stacks: versions that were kept of others stand for them, in the table and as second copies.
    async fn states(&self) -> Result<()> {
        sqlx::query(
            "INSERT INTO terraform.states (stack, serial, lineage, wan_order, sealed_with, body)
             SELECT s.uid::text, t.serial, t.lineage, t.wan_order, t.sealed_with, t.body
             FROM sites s CROSS JOIN (SELECT * FROM terraform.states
                 WHERE stack = (SELECT stack FROM terraform.states LIMIT 1)) t
             WHERE s.customer LIKE 'others-%'",
        )
        .execute(&self.stack.pool)
        .await?;
        let admin = self
            .stack
            .endpoints
            .access(crate::endpoints::Login::Role(wanwright_nats::accounts::Role::Admin))?;
        let nats = wanwright_nats::connect(admin, "wanwright-bench", self.stack.nats.partitions).await?;
        let copies = StateCopies::new(nats);
        let kept: String = sqlx::query_scalar(
            "SELECT stack FROM terraform.states t WHERE NOT EXISTS
                 (SELECT FROM sites s WHERE s.uid::text = t.stack AND s.customer LIKE 'others-%') LIMIT 1",
        )
        .fetch_one(&self.stack.pool)
        .await?;
        let copy = copies.get(&kept).await?.context("a state has no second copy")?;
        let stacks: Vec<String> =
            sqlx::query_scalar("SELECT uid::text FROM sites WHERE customer LIKE 'others-%'")
                .fetch_all(&self.stack.pool)
                .await?;
        let (copies, copy) = (&copies, &copy);
        stream::iter(stacks)
            .map(|stack| async move {
                let mut sealed = copy.clone();
                sealed.stack = stack;
                copies.put(&sealed).await
            })
            .buffer_unordered(AT_ONCE)
            .try_collect::<Vec<()>>()
            .await?;
        Ok(())
    }
}

/// A site and its tunnels.
async fn create(nats: &Nats, customer: &str, stack: u32) -> Result<()> {
    let site = format!("site-{stack:02}");
    let body = json!({ "vendor": "simwan", "lan": [format!("10.{stack}.0.0/24")] });
    sender::accepted(nats, "site", "create", &format!("{customer}/{site}"), &body).await?;
    for tunnel in 0..TUNNELS {
        let inside = format!("169.254.{stack}.{}/30", tunnel * 4);
        let body = json!({ "site": site, "peer": { "hub": "hub-eu" }, "inside": inside });
        let object = format!("{customer}/{site}-t{tunnel}");
        sender::accepted(nats, "tunnel", "create", &object, &body).await?;
    }
    Ok(())
}

/// Pauses or resumes.
async fn control(
    nats: &Nats,
    scope: Result<Scope, wanwright_schemas::reason::Refusal>,
    paused: bool,
) -> Result<()> {
    let scope = scope.map_err(|refusal| anyhow::anyhow!("{refusal}"))?;
    let subject = services::control(&PERSON.parse()?, &scope, paused);
    let request = ControlRequest { reason: "a measurement".to_owned(), until: None };
    let answer = nats.client.request(subject, serde_json::to_vec(&request)?.into()).await?;
    let told: Value = serde_json::from_slice(&answer.payload)?;
    serde_json::from_value::<Control>(told.clone()).with_context(|| format!("pausing: {told}")).map(drop)
}

/// Processor time since then for one apply, in milliseconds.
fn since(
    before: &BTreeMap<String, f64>,
    after: &BTreeMap<String, f64>,
    applies: u32,
) -> BTreeMap<String, f64> {
    let each = |(name, seconds): (&String, &f64)| {
        let taken = seconds - before.get(name).copied().unwrap_or_default();
        (name.clone(), figures::rate(taken * 1000.0 / f64::from(applies)))
    };
    after.iter().map(each).filter(|(_, millis)| *millis > 0.0).collect()
}
