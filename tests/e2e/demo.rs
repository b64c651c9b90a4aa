//! `wanwright demo --once`, twice.

use std::time::Duration;

use anyhow::{Result, ensure};
use wanwright_tests::{Processes, Running, Timing};

use crate::support::{home, program};

/// What the example fleet has.
const OBJECTS: usize = 162;

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_comes_up_and_a_second_start_goes_on() -> Result<()> {
    let timing = Timing::of("demo --once, twice");
    let (program, home) = (program(), home()?);
    for start in ["first", "second"] {
        let said =
            program.call_within(&home, &["demo", "--once"], Duration::from_secs(180)).await?.code(0)?;
        timing.say(format_args!("{start}: {:.1} s", said.took.as_secs_f64()));
        ensure!(said.err.contains("Both drifts were found."), "{}", said.err);
        ensure!(said.out.contains("Bergen") && said.out.contains("999"), "{}", said.out);
        Processes::gone(&[], home.path(), Duration::from_secs(5)).await?;
        ensure!(!home.join("endpoints.json").exists(), "the address of what is gone is still there");
    }
    let running = Running::up(&program, &home).await?;
    running.vendor()?.judge("", OBJECTS).await?;
    running.rows().await?.all_running().await?;
    ensure!(home.panics().is_empty(), "{:?}", home.panics());
    ensure!(home.violations().is_empty(), "{:?}", home.violations());
    Ok(())
}
