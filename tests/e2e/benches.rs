//! Tiny samples of `wanwright bench commands` and `bench customers`: not their figures, which nobody could believe here, but
//! that they run to their end, say everything they are for, and say it in the form that programs read.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use wanwright_tests::{Said, Timing};

use crate::support::{home, program};

/// Runs one with a few words more.
async fn bench(words: &str) -> Result<Said> {
    let home = home()?;
    let cache = home.join("cache").display().to_string();
    let args: Vec<&str> = words.split(' ').chain(["--cache", &cache]).collect();
    program().call_within(&home, &args, Duration::from_secs(600)).await?.code(0)
}

/// A number that something was measured to be.
fn measured(report: &Value, pointer: &str) -> Result<f64> {
    let number = report.pointer(pointer).and_then(Value::as_f64);
    let number = number.with_context(|| format!("no {pointer} in {report}"))?;
    ensure!(number > 0.0, "{pointer} is {number}");
    Ok(number)
}

/// A rate and latencies that are in their order.
fn is_measured(row: &Value) -> Result<()> {
    measured(row, "/per_second")?;
    let [middle, slow, slowest] = ["/p50", "/p99", "/max"].map(|pointer| measured(row, pointer));
    let (middle, slow, slowest) = (middle?, slow?, slowest?);
    ensure!(middle <= slow && slow <= slowest, "{row}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bench_commands_prints_a_table_and_json_in_one_run() -> Result<()> {
    let _timing = Timing::of("bench commands, a sample");
    let said = bench("bench commands --commands 100 --at-once 4 --paced 10").await?;
    let report: Value = serde_json::from_str(&said.out)?;
    let rows = report["measured"].as_array().context("no rows")?;
    for row in rows {
        is_measured(row)?;
    }
    let named = |begin: &str| -> Vec<&str> {
        let names = rows.iter().filter_map(|row| row["name"].as_str());
        names.filter(|name| name.starts_with(begin)).collect()
    };
    let steady = ["raw checked publish", "request and reply", "first request of a customer"];
    let wanted = [&["a ", "b ", "c ", "d ", "e ", "f "][..], &steady].concat();
    for begin in &wanted {
        let [name] = named(begin)[..] else { bail!("{begin} is not measured once: {}", said.out) };
        ensure!(said.err.contains(name), "the table lacks {name}: {}", said.err);
    }
    ensure!(rows.len() == wanted.len(), "{}", said.out);
    for (what, ratio) in report["ratios"].as_object().context("no ratios")? {
        ensure!(ratio.as_f64().is_some_and(|ratio| ratio > 0.0), "{what} is {ratio}");
    }
    ensure!(report["ratios"].as_object().map(serde_json::Map::len) == Some(4), "{}", said.out);
    ensure!(report["writes"].as_array().is_some_and(|writes| writes.len() == 3), "{}", said.out);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bench_customers_says_time_disk_memory_and_restart() -> Result<()> {
    let _timing = Timing::of("bench customers, a sample");
    let sizes = "--customers 10 --devices 3 --large 100 --deep 150 --loads 20";
    let said = bench(&format!("bench customers {sizes}")).await?;
    let report: Value = serde_json::from_str(&said.out)?;
    ensure!(
        (&report["customers"], &report["devices_each"]) == (&Value::from(10), &Value::from(3)),
        "{report}"
    );
    for pointer in [
        "/load",
        "/large_customer/created",
        "/large_customer/changed",
        "/cold_loads/deep/load",
        "/cold_loads/deep/bare",
        "/cold_loads/large/load",
        "/cold_loads/large/bare",
    ] {
        is_measured(report.pointer(pointer).with_context(|| format!("no {pointer} in {report}"))?)?;
    }
    for pointer in [
        "/memory_after_load/command_service_mb",
        "/memory_after_load/nats_server_mb",
        "/disk_mb",
        "/restart_seconds/command_service_after_kill",
        "/restart_seconds/nats_server_after_kill",
        "/restart_seconds/both_after_kill",
    ] {
        measured(&report, pointer)?;
    }
    Ok(())
}
