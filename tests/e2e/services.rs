//! Two command services share the partitions; one of them is killed under load.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use serde_json::json;
use wanwright_tests::{Customer, Signal, Timing, level, mint};

use crate::support::own;

/// How long a customer may have to wait when the holder of its partition is killed: its lease runs out after four
/// seconds.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How long an answer is waited for before the same command is sent again.
const PATIENCE: Duration = Duration::from_secs(1);

/// One command after the other until told to stop, each sent under its id until it is answered. Answers the ids of the
/// accepted ones and the longest wait for one.
async fn load(customer: &Customer, stop: &AtomicBool) -> Result<(Vec<String>, Duration)> {
    let (mut accepted, mut longest) = (Vec::new(), Duration::ZERO);
    for number in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let (id, began) = (mint(), Instant::now());
        let (tail, body) = match number {
            0 => ("site.s.create", json!({ "vendor": "simwan", "lan": ["10.0.0.0/24"] })),
            _ => ("site.s.change", json!({ "settings": { "location": format!("room {number}") } })),
        };
        loop {
            match tokio::time::timeout(PATIENCE, customer.ask(&id, tail, &body)).await {
                Ok(Ok(answer)) if answer.code() == Some("Unavailable") => {}
                Ok(Ok(answer)) => {
                    answer.accepted()?;
                    break;
                }
                Ok(Err(error)) => ensure!(began.elapsed() < Duration::from_secs(60), error),
                // What the killed one had taken is never answered.
                Err(_) => {}
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        longest = longest.max(began.elapsed());
        accepted.push(id);
    }
    Ok((accepted, longest))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_services_is_killed_under_load() -> Result<()> {
    let timing = Timing::of("two command services");
    let running = own().await?;
    let spec = running.program.spec(&running.home, &["serve", "commands"]);
    let mut second = spec.log(running.home.join("logs/second.log")).piped().spawn()?;
    let mut lines = second.lines()?;
    let ready = tokio::time::timeout(level::LONG, lines.next()).await??;
    ensure!(ready.as_deref() == Some("ready"), "{ready:?}");
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next().await {} });

    let names = (0..16).map(|number| format!("pair-{number}"));
    let customers = try_join_all(names.map(async |name| running.customer(&name).await)).await?;
    let stop = AtomicBool::new(false);
    let kills = async {
        let mut kills = 0;
        for _ in 0..2 {
            // Long enough that both hold partitions and answer.
            tokio::time::sleep(Duration::from_secs(4)).await;
            let first = running.role("commands").context("no command service")?;
            first.signal(Signal::KILL);
            running.comes_back("commands", &first).await?;
            kills += 1;
        }
        tokio::time::sleep(Duration::from_secs(6)).await;
        stop.store(true, Ordering::Relaxed);
        anyhow::Ok(kills)
    };
    let (loaded, kills) =
        tokio::try_join!(try_join_all(customers.iter().map(|one| load(one, &stop))), kills)?;
    let (mut commands, mut longest) = (0, Duration::ZERO);
    for (customer, (accepted, pause)) in customers.iter().zip(&loaded) {
        let mut times: BTreeMap<String, u32> = BTreeMap::new();
        for envelope in customer.history().await? {
            // What the vendor answered is told by the executors, in their own name.
            if envelope["actor"] == "executor" {
                continue;
            }
            *times.entry(envelope["command"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
        }
        for id in accepted {
            ensure!(
                times.get(id) == Some(&1),
                "{id} of {} is there {:?} times",
                customer.name,
                times.get(id)
            );
        }
        times.retain(|id, _| !accepted.contains(id));
        ensure!(times.is_empty(), "{} has commands nobody sent: {times:?}", customer.name);
        (commands, longest) = (commands + accepted.len(), longest.max(*pause));
    }
    ensure!(commands > 200, "only {commands} commands: that is no load");
    ensure!(longest < LONGEST_PAUSE, "a customer waited for {longest:?}");
    timing.say(format!("{kills} kills, {commands} commands, each once; the longest wait {longest:.1?}"));
    second.stop(Duration::from_secs(10)).await;
    Ok(())
}
