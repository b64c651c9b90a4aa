//! The durable inbox: publish and forget, in order, whatever is down.

use anyhow::{Context, Result, ensure};
use async_nats::HeaderMap;
use futures::future::try_join_all;
use serde_json::json;
use wanwright_nats::publish::publish;
use wanwright_tests::{Customer, Running, Signal, Timing, level, mint};

use crate::support::own;

const CUSTOMERS: usize = 6;
const EACH: usize = 50;

async fn waiting(running: &Running) -> Result<u64> {
    let nats = running.nats().await?;
    Ok(wanwright_nats::stream_info(&nats.js, "COMMANDS").await?.messages)
}

async fn empty(running: &Running) -> Result<()> {
    let took =
        level::until("the inbox is empty", level::LONG, async || Ok(waiting(running).await? == 0)).await?;
    Timing::of("inbox").say(format_args!("empty after {took:.1?}"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_commands_wait_for_the_command_service_and_keep_their_order() -> Result<()> {
    let _timing = Timing::of("300 durable commands");
    let running = own().await?;
    let names = (0..CUSTOMERS).map(|n| format!("inbox-{n}"));
    let customers = try_join_all(names.map(async |name| running.customer(&name).await)).await?;
    // A stopped process is not started again, unlike a dead one: the inbox fills up in peace.
    let service = running.role("commands").context("no command service")?;
    service.signal(Signal::STOP);
    let mut sent = vec![Vec::new(); CUSTOMERS];
    for n in 0..EACH {
        for (customer, sent) in customers.iter().zip(&mut sent) {
            let id = mint();
            let (tail, body) = if n == 0 {
                ("site.s.create", json!({ "vendor": "simwan", "lan": ["10.0.0.0/24"] }))
            } else {
                ("site.s.change", json!({ "settings": { "location": format!("place {n}") } }))
            };
            customer.publish(Some(&id), tail, &body).await?;
            sent.push(id);
        }
    }
    ensure!(waiting(&running).await? == (CUSTOMERS * EACH) as u64, "the inbox does not hold everything");
    service.signal(Signal::KILL);
    empty(&running).await?;
    for (customer, sent) in customers.iter().zip(&sent) {
        in_order(customer, sent).await?;
    }
    // Killed in the middle of the work.
    let change = |n: usize| json!({ "settings": { "location": format!("again {n}") } });
    let mut more = vec![Vec::new(); CUSTOMERS];
    for n in 0..EACH {
        for (customer, more) in customers.iter().zip(&mut more) {
            let id = mint();
            customer.publish(Some(&id), "site.s.change", &change(n)).await?;
            more.push(id);
        }
        if n % 20 == 10 {
            running.role("commands").context("no command service")?.signal(Signal::KILL);
            level::until("it is started again", level::LONG, async || Ok(running.role("commands").is_some()))
                .await?;
        }
    }
    empty(&running).await?;
    for ((customer, sent), more) in customers.iter().zip(&sent).zip(&more) {
        in_order(customer, &[sent.as_slice(), more.as_slice()].concat()).await?;
        let rows = running.rows().await?;
        rows.healthy(&customer.name, 1, level::LONG).await?;
    }
    ensure!(running.home.panics().is_empty(), "{:?}", running.home.panics());
    ensure!(running.home.violations().is_empty(), "{:?}", running.home.violations());
    Ok(())
}

/// The history has these commands, each once, in this order; reports of executors may lie between them.
async fn in_order(customer: &Customer, sent: &[String]) -> Result<()> {
    let history = customer.history().await?;
    let by_people = history.iter().filter(|envelope| envelope["actor"] != json!("executor"));
    let decided: Vec<&str> = by_people.filter_map(|envelope| envelope["command"].as_str()).collect();
    ensure!(
        decided == sent,
        "{} decided {} commands of {}, or in another order",
        customer.name,
        decided.len(),
        sent.len()
    );
    for id in sent {
        customer.outcome(id).await?.with_context(|| format!("{id} has no outcome"))?.accepted()?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_command_goes_to_the_dead_letters() -> Result<()> {
    let _timing = Timing::of("dead letters");
    let running = own().await?;
    let customer = running.customer("dead").await?;
    let odd = [
        "wan.cmd.x",
        "wan.cmd.dead.demo.site.oslo",
        "wan.cmd.dead.demo.site.oslo.create.now",
        "wan.cmd.DEAD.demo.site.oslo.create",
        "wan.cmd.dead.demo.router.r1.create",
        "wan.cmd.dead.demo.site.os_lo.create",
        "wan.cmd.dead.demo.site.øslo.create",
        "wan.cmd.dead.demo.site.a\u{0}b.create",
        "wan.cmd.dead.demo.site.a\u{1b}[31m.create",
    ];
    for subject in odd {
        let body = vec![0, 159, 146, 150, b'{'];
        publish(&customer.nats.js, subject.to_owned(), HeaderMap::new(), body.into())
            .await
            .context(subject)?;
    }
    // A header that cannot be read is as bad, and has nowhere to put an outcome.
    let mut head = HeaderMap::new();
    head.insert("Wan-Command-Id", "nonsense");
    publish(&customer.nats.js, "wan.cmd.dead.demo.site.oslo.create".to_owned(), head, "{}".into()).await?;
    empty(&running).await?;
    let rows = running.rows().await?;
    rows.reach(
        "dead letters are rows",
        "SELECT count(*) FROM dead_letters",
        odd.len() as i64 + 1,
        level::LONG,
    )
    .await?;
    let reasons = rows.texts("SELECT DISTINCT reason FROM dead_letters ORDER BY 1").await?;
    ensure!(reasons == ["BadHeader", "BadSubject", "UnknownKind"], "{reasons:?}");
    let silent =
        "SELECT count(*) FROM dead_letters WHERE coalesce(message, '') = '' OR original_subject IS NULL";
    ensure!(rows.number(silent).await? == 0, "a dead letter does not say why");
    // A command that is refused is no dead letter: it has an outcome.
    let id = mint();
    customer.publish(Some(&id), "site.oslo.create", &json!({ "vendor": 7 })).await?;
    let (outcome, _) =
        level::reach("it has an outcome", level::LONG, async || customer.outcome(&id).await).await?;
    outcome.refused("WrongType")?;
    // Without an id of its own, too.
    customer
        .publish(None, "site.oslo.create", &json!({ "vendor": "simwan", "lan": ["10.0.0.0/24"] }))
        .await?;
    rows.healthy("dead", 1, level::LONG).await?;
    empty(&running).await?;
    rows.all_running().await?;
    ensure!(running.home.panics().is_empty(), "{:?}", running.home.panics());
    ensure!(running.home.violations().is_empty(), "{:?}", running.home.violations());
    Ok(())
}
