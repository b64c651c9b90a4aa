//! `wanwright send` where nobody decides: it says so once, and what to do.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use wanwright_tests::{Running, Said, Signal, Timing};

use crate::support::own;

const SITE: &str = r#"{"vendor":"simwan","lan":["10.1.0.0/24"]}"#;

/// Calls the program with the log that a person has.
async fn call(running: &Running, args: &[&str]) -> Result<Said> {
    running.program.clone().with("WANWRIGHT_LOG", "warn").call(&running.home, args).await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_command_service_it_is_said_once_and_what_to_do() -> Result<()> {
    let timing = Timing::of("send without a command service");
    let running = own().await?;
    let service = running.role("commands").context("no command service")?;
    // Nobody starts it again meanwhile.
    running.child().signal(Signal::STOP);
    service.signal(Signal::KILL);
    let send = ["send", "site", "create", "acme/oslo", SITE];
    // The way into the inbox is the command service, too.
    for args in [&send[..], &[&send[..], &["--async"]].concat()] {
        let said = call(&running, args).await?.code(5)?;
        timing.say(format_args!("said after {:.1?}", said.took));
        ensure!(said.out.is_empty(), "{}", said.out);
        ensure!(said.err.lines().count() == 1 && said.err.starts_with("error: "), "{}", said.err);
        for word in ["no command service", "nothing was changed", "`wanwright up`"] {
            ensure!(said.err.contains(word), "nothing of {word}: {}", said.err);
        }
    }
    running.child().signal(Signal::CONT);
    running.comes_back("commands", &service).await?;
    // It is asked again and again while nobody is there yet.
    call(&running, &send).await?.code(0)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_does_not_answer_is_told_from_one_that_is_not_there() -> Result<()> {
    let _timing = Timing::of("send to a command service that hangs");
    let running = own().await?;
    let service = running.role("commands").context("no command service")?;
    service.signal(Signal::STOP);
    let said = call(&running, &["send", "site", "create", "acme/oslo", SITE]).await?.code(8)?;
    ensure!(said.err.lines().count() == 1, "{}", said.err);
    // What it was sent under, so that it can be sent again.
    let id = said.err.split("--id ").nth(1).and_then(|rest| rest.split('`').next()).context("no id")?;
    service.signal(Signal::CONT);
    let send = ["send", "site", "create", "acme/oslo", SITE, "--id", id, "-o", "json"];
    let said = call(&running, &send).await?.code(0)?;
    let outcome: Value = serde_json::from_str(&said.out)?;
    ensure!(outcome["status"] == "accepted" && outcome["command"] == id, "{outcome}");
    Ok(())
}
