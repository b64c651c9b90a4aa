//! Waiting until the world is as the fleet says, with something to look at meanwhile.

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::Result;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use sqlx::{PgPool, Row};
use tokio::time::Instant;
use wanwright_schemas::ids::Kind;

use super::fleet::Line;
use crate::exit::TimedOut;
use crate::output::note;
use crate::stack::Stack;

const TEMPLATE: &str = "  {prefix:10} {bar:30} {pos}/{len} {msg} {elapsed}";

/// How often a line is printed where there is no terminal.
const QUIET: Duration = Duration::from_secs(10);

fn style() -> ProgressStyle {
    ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// A progress bar, where there is a terminal to draw it on.
pub fn bar(what: &'static str, length: u64) -> ProgressBar {
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    ProgressBar::with_draw_target(Some(length), target).with_style(style()).with_prefix(what)
}

/// The same in a line, where there is no terminal.
pub fn said(bar: &ProgressBar, what: &str, length: u64) {
    if bar.is_hidden() {
        note(format!("  {what:10} {}/{length}", bar.position()));
    }
}

/// How many objects of a kind are as they should be, and what is wrong with those that failed.
struct Level {
    done: i64,
    failed: Vec<String>,
}

async fn level(pool: &PgPool, table: &str, customers: &[String]) -> Result<Level> {
    let done = sqlx::query_scalar(&format!(
        "SELECT count(*) FROM {table} WHERE customer = ANY($1) AND observed_generation = generation AND failure_code IS NULL"
    ))
    .bind(customers)
    .fetch_one(pool)
    .await?;
    let rows = sqlx::query(&format!(
        "SELECT customer, id, failure_code, failure_message FROM {table}
         WHERE customer = ANY($1) AND failure_code IS NOT NULL ORDER BY 1, 2 LIMIT 5"
    ))
    .bind(customers)
    .fetch_all(pool)
    .await?;
    let mut failed = Vec::new();
    for row in rows {
        let get = |column: &str| row.try_get::<String, _>(column);
        failed.push(format!(
            "{}/{}: {}: {}",
            get("customer")?,
            get("id")?,
            get("failure_code")?,
            get("failure_message")?
        ));
    }
    Ok(Level { done, failed })
}

/// Waits until every object of the fleet is at the vendor as it should be.
pub async fn converge(stack: &Stack, fleet: &[Line], limit: Duration) -> Result<()> {
    let kinds = [("sites", Kind::Site), ("tunnels", Kind::Tunnel), ("devices", Kind::Device)];
    let mut customers: Vec<String> = fleet.iter().map(|line| line.subject.customer.to_string()).collect();
    customers.dedup();
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let multi = MultiProgress::with_draw_target(target);
    let bars = kinds.map(|(name, kind)| {
        let length = fleet.iter().filter(|line| line.subject.object.kind() == kind).count() as u64;
        (name, length, multi.add(ProgressBar::new(length).with_style(style()).with_prefix(name)))
    });
    let began = Instant::now();
    let mut spoken = began;
    loop {
        let mut all = true;
        let mut failed = Vec::new();
        for (name, length, bar) in &bars {
            let level = level(&stack.pool, name, &customers).await?;
            let done = u64::try_from(level.done).unwrap_or_default();
            bar.set_position(done.min(*length));
            all &= done >= *length;
            failed.extend(level.failed);
        }
        if !failed.is_empty() {
            anyhow::bail!("the fleet did not converge:\n  {}", failed.join("\n  "));
        }
        let quiet = bars.iter().all(|(_, _, bar)| bar.is_hidden());
        if quiet && (all || spoken.elapsed() >= QUIET) {
            spoken = Instant::now();
            let counts = bars.iter().map(|(name, length, bar)| format!("{name} {}/{length}", bar.position()));
            note(format!(
                "  {} after {} s",
                counts.collect::<Vec<_>>().join(", "),
                began.elapsed().as_secs()
            ));
        }
        if all {
            bars.iter().for_each(|(_, _, bar)| bar.finish());
            return Ok(());
        }
        if began.elapsed() >= limit {
            let what = format!(
                "the fleet did not converge in {} s; see `wanwright get operations`",
                limit.as_secs()
            );
            return Err(TimedOut(what).into());
        }
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
}
