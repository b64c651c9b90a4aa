//! Two command services share the partitions; one of them is killed while requests and durable commands come in.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use serde_json::json;
use wanwright_nats::topology;
use wanwright_tests::{Customer, Signal, Timing, level, mint};

use crate::support::own;

/// How long a customer may have to wait when the holder of its partition is killed. Its lease runs out after four seconds,
/// and it asks again after one; the rest is for a machine that has other things to do.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How long an answer is waited for before the same command is sent again.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a customer rests after it has published some durable commands at once.
const REST: Duration = Duration::from_secs(1);

/// How many it publishes at once, so that a kill finds some that are decided, some that wait in a lane and some that do
/// not.
const AT_ONCE: u32 = 8;

/// Durable commands until told to stop. Answers their ids in the order in which the inbox got them.
async fn durable(customer: &Customer, stop: &AtomicBool) -> Result<Vec<String>> {
    let is_there = async || Ok(!customer.history().await?.is_empty());
    level::until("the customer has its site", level::LONG, is_there).await?;
    let mut sent = Vec::new();
    for number in 1_u32.. {
        if number % AT_ONCE == 0 {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            tokio::time::sleep(REST).await;
        }
        // Another field than that of the requests, and each time another value, so that each has an event.
        let body = json!({ "lan": [format!("10.{}.{}.0/24", number / 256, number % 256)] });
        let id = mint();
        customer.publish(Some(&id), "site.s.change", &body).await?;
        sent.push(id);
    }
    Ok(sent)
}

/// The durable commands are in the history once each and in the order in which they were sent, and each has its outcome.
async fn in_order(customer: &Customer, decided: &[String], sent: &[String]) -> Result<()> {
    let durable: Vec<&String> = decided.iter().filter(|id| sent.contains(id)).collect();
    ensure!(
        durable.iter().copied().eq(sent),
        "{} sent {} durable commands and has {} of them, or in another order",
        customer.name,
        sent.len(),
        durable.len()
    );
    for id in sent {
        customer.outcome(id).await?.with_context(|| format!("{id} has no outcome"))?.accepted()?;
    }
    Ok(())
}

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
    let (loaded, published, kills) = tokio::try_join!(
        try_join_all(customers.iter().map(|one| load(one, &stop))),
        try_join_all(customers.iter().map(|one| durable(one, &stop))),
        kills
    )?;
    let nats = running.nats().await?;
    let is_empty =
        async || Ok(wanwright_nats::stream_info(&nats.js, topology::COMMANDS).await?.messages == 0);
    level::until("the inbox is empty", level::LONG, is_empty).await?;
    let (mut commands, mut durable, mut longest) = (0, 0, Duration::ZERO);
    for ((customer, (accepted, pause)), sent) in customers.iter().zip(&loaded).zip(&published) {
        let (mut times, mut decided) = (BTreeMap::<String, u32>::new(), Vec::new());
        for envelope in customer.history().await? {
            // What the vendor answered is told by the executors, in their own name.
            if envelope["actor"] == "executor" {
                continue;
            }
            let id = envelope["command"].as_str().unwrap_or_default().to_owned();
            *times.entry(id.clone()).or_default() += 1;
            decided.push(id);
        }
        in_order(customer, &decided, sent).await?;
        for id in accepted {
            ensure!(
                times.get(id) == Some(&1),
                "{id} of {} is there {:?} times",
                customer.name,
                times.get(id)
            );
        }
        times.retain(|id, _| !accepted.contains(id) && !sent.contains(id));
        ensure!(times.is_empty(), "{} has commands nobody sent: {times:?}", customer.name);
        (commands, durable, longest) = (commands + accepted.len(), durable + sent.len(), longest.max(*pause));
    }
    ensure!(commands > 200, "only {commands} commands: that is no load");
    ensure!(durable > 200, "only {durable} durable commands: that is no load");
    ensure!(longest < LONGEST_PAUSE, "a customer waited for {longest:?}");
    timing.say(format!("{kills} kills, {commands} commands and {durable} durable ones, each once; the longest wait {longest:.1?}"));
    second.stop(Duration::from_secs(10)).await;
    Ok(())
}
