//! The README's commands run as pasted.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use wanwright_supervisor::{ChildSpec, obtain_postgres};
use wanwright_tests::{Home, Running, Timing, level};

use crate::support;

const README: &str = include_str!("../../README.md");

/// The client that stands for every other NATS client.
const NATS_PY: &str = "'nats-py[nkeys]==2.16.0'";

/// The shell blocks of a part of the README.
fn blocks(part: &str) -> Vec<&str> {
    part.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

/// A call with bash, as a person's terminal would do it: what it printed, and whether it ended well.
async fn bash(home: &Home, dir: &Path, path: &str, script: &str) -> Result<(bool, String)> {
    let log = home.join("tmp/bash.log");
    let kept = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PIP_"));
    let child = ChildSpec::new("/bin/bash")
        .args(["-euo", "pipefail", "-c", script])
        .cwd(dir)
        .envs(kept)
        .env("PATH", path)
        .env("HOME", home.path())
        .env("PYTHONPATH", home.join("python"))
        .log(&log)
        .spawn()?;
    let status = child.wait().await;
    let said = std::fs::read_to_string(&log).unwrap_or_default();
    let _ = std::fs::remove_file(&log);
    Ok((status.success(), said))
}

/// The NATS client, in a folder of the home.
async fn install_nats_py(home: &Home, path: &str) -> Result<()> {
    let install =
        format!("python3 -m pip install --quiet --target {} {NATS_PY}", home.join("python").display());
    let (well, said) = bash(home, home.path(), path, &install).await?;
    ensure!(well, "{NATS_PY} could not be installed: {said}");
    Ok(())
}

/// `PATH` with psql, which comes with Postgres; where only the fetched one is there, it is not on ours.
async fn path_with_psql(home: &Home) -> Result<String> {
    let postgres = obtain_postgres(&home.join("cache")).await?;
    Ok(format!("{}:{}", std::env::var("PATH")?, postgres.path.display()))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_up_prints_to_try_runs_as_pasted() -> Result<()> {
    let home: Arc<Home> = support::home()?;
    let running = Running::up(&support::program(), &home).await?;
    let path = path_with_psql(&home).await?;
    install_nats_py(&home, &path).await?;
    let printed = async || Ok(home.read("said.log").contains("Ctrl-C stops everything"));
    level::until("the hints are printed", level::LONG, printed).await?;
    let said = home.read("said.log");
    let hints = said.split_once("Publish a command:").context("nothing to try was printed")?.1;
    let hints = hints.split_once("Ctrl-C stops everything").context("the hints do not end")?.0;
    let is_heading = |line: &&str| {
        ["the same as", "Query a table:", "Replay a customer", "Look for drift"]
            .iter()
            .any(|head| line.starts_with(head))
    };
    let script: String =
        hints.lines().filter(|line| !is_heading(line)).map(|line| format!("{line}\n")).collect();
    ensure!(script.matches("wanwright ").count() >= 4 && script.contains("psql "), "{script}");
    // The drift check looks at what the first commands created, once it is there.
    let rows = running.rows().await?;
    let (first, rest) = script.split_once("\nPY\n").context("the hints have no Python")?;
    let first = format!("{first}\nPY\n");
    let (well, said) = bash(&home, home.path(), &path, &first).await?;
    ensure!(well && said.contains("\"status\":\"accepted\""), "{first}\n{said}");
    rows.healthy("demo", 2, std::time::Duration::from_secs(30)).await?;
    let (well, said) = bash(&home, home.path(), &path, rest).await?;
    ensure!(well && said.contains("SiteCreated") && said.contains("no drift"), "{rest}\n{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_the_readme_run_as_pasted() -> Result<()> {
    let timing = Timing::of("readme");
    let (setup, rest) = README.split_once("## Use it").context("the README has no part `Use it`")?;
    ensure!(
        blocks(setup) == ["cargo run -- demo\n", "cargo test\n"],
        "the two commands are not as they were"
    );
    let (part, _) = rest.split_once("\n## ").context("nothing follows the part `Use it`")?;

    let home: Arc<Home> = support::home()?;
    let running = Running::up(&support::program(), &home).await?;
    // A checkout as the README's reader has it: the built program, and the data of the running system.
    let checkout = home.join("checkout");
    std::fs::create_dir_all(checkout.join("target/debug"))?;
    symlink(support::program().path(), checkout.join("target/debug/wanwright"))?;
    symlink(home.path(), checkout.join(".wanwright"))?;
    let path = path_with_psql(&home).await?;
    install_nats_py(&home, &path).await?;
    timing.say("ready");

    let mut all = String::new();
    for block in blocks(part) {
        let (well, said) = bash(&home, &checkout, &path, block).await?;
        ensure!(well, "this block of the README failed:\n{block}\n{said}");
        all.push_str(&said);
    }
    for expected in
        ["accepted  site/acme/bergen-01", "\"status\":\"accepted\"", "tromso-01", "SiteCreated", "bergen-01"]
    {
        ensure!(all.contains(expected), "the README's commands did not print `{expected}`:\n{all}");
    }
    timing.say("all blocks ran");
    drop(running);
    Ok(())
}
