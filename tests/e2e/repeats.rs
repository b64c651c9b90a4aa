//! A command happens once, however often and through whichever door it comes.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use wanwright_tests::{Answer, Customer, Running, Signal, Timing, level, mint};

use crate::support::{own, shared};

const CREATE: &str = "site.oslo.create";

fn body() -> serde_json::Value {
    json!({ "vendor": "simwan", "lan": ["10.1.0.0/24"] })
}

/// The same outcome as the first time, said to be a repeat; one message in the history.
async fn same(customer: &Customer, first: &Answer, again: Answer) -> Result<()> {
    ensure!(again.repeated(), "not said to be a repeat: {}", again.0);
    ensure!(again.position() == first.position(), "{} and then {}", first.0, again.0);
    ensure!(again.get("/code") == first.get("/code") && again.get("/events") == first.get("/events"));
    created_once(customer).await
}

async fn created_once(customer: &Customer) -> Result<()> {
    let history = customer.history().await?;
    let types =
        history.iter().flat_map(|envelope| envelope["events"].as_array().cloned().unwrap_or_default());
    let created = types.filter(|event| event["type"] == "SiteCreated").count();
    ensure!(created == 1, "the site was created {created} times");
    Ok(())
}

/// Publishes into the inbox and waits until the inbox is empty again.
async fn through_the_inbox(customer: &Customer, id: &str, body: &serde_json::Value) -> Result<()> {
    let place = customer.publish(Some(id), CREATE, body).await?;
    handled(customer, place).await
}

async fn handled(customer: &Customer, place: u64) -> Result<()> {
    level::until("the command left the inbox", level::LONG, async || {
        let inbox = customer.nats.js.get_stream_no_info("COMMANDS").await?;
        Ok(inbox.get_raw_message(place).await.is_err())
    })
    .await
    .map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn by_request() -> Result<()> {
    let _timing = Timing::of("repeat by request");
    let customer = shared().await?.customer("rep-request").await?;
    let id = mint();
    let first = customer.ask(&id, CREATE, &body()).await?.accepted()?;
    ensure!(!first.repeated() && first.position().is_some(), "{}", first.0);
    for _ in 0..3 {
        same(&customer, &first, customer.ask(&id, CREATE, &body()).await?).await?;
    }
    // Twice at once, from two connections.
    let other = shared().await?.customer("rep-request").await?;
    let both = mint();
    let change = json!({ "settings": { "location": "Oslo" } });
    let (one, two) = tokio::join!(
        customer.ask(&both, "site.oslo.change", &change),
        other.ask(&both, "site.oslo.change", &change)
    );
    let (one, two) = (one?.accepted()?, two?.accepted()?);
    ensure!(one.position() == two.position() && (one.repeated() != two.repeated()), "{} {}", one.0, two.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn through_both_doors() -> Result<()> {
    let _timing = Timing::of("repeat through both doors");
    let customer = shared().await?.customer("rep-doors").await?;
    let id = mint();
    through_the_inbox(&customer, &id, &body()).await?;
    let first = customer.outcome(&id).await?.context("no outcome")?.accepted()?;
    through_the_inbox(&customer, &id, &body()).await?;
    ensure!(customer.outcome(&id).await?.as_ref() == Some(&first), "the recorded outcome changed");
    same(&customer, &first, customer.ask(&id, CREATE, &body()).await?).await?;
    // Both doors at once.
    let id = mint();
    let change = json!({ "settings": { "location": "Oslo" } });
    let (stored, asked) = tokio::join!(
        customer.publish(Some(&id), "site.oslo.change", &change),
        customer.ask(&id, "site.oslo.change", &change)
    );
    asked?.accepted()?;
    handled(&customer, stored?).await?;
    let changes =
        customer.history().await?.iter().filter(|envelope| envelope["command"] == json!(id)).count();
    ensure!(changes == 1, "{changes} messages for one command");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_used_id_with_another_content_is_refused() -> Result<()> {
    let _timing = Timing::of("used ids");
    let customer = shared().await?.customer("rep-reused").await?;
    let id = mint();
    let first = customer.ask(&id, CREATE, &body()).await?.accepted()?;
    let other = json!({ "vendor": "simwan", "lan": ["10.2.0.0/24"] });
    customer.ask(&id, CREATE, &other).await?.refused("CommandIdReused")?;
    customer.ask(&id, "site.bergen.create", &body()).await?.refused("CommandIdReused")?;
    customer.ask(&id, "site.oslo.decommission", &body()).await?.refused("CommandIdReused")?;
    // Through the inbox it changes nothing either, and the first outcome stands.
    through_the_inbox(&customer, &id, &other).await?;
    same(&customer, &first, customer.ask(&id, CREATE, &body()).await?).await?;
    // Of a refused command too.
    let refused = mint();
    customer.ask(&refused, CREATE, &body()).await?.refused("AlreadyExists")?;
    customer.ask(&refused, CREATE, &other).await?.refused("CommandIdReused")?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_stands() -> Result<()> {
    let _timing = Timing::of("repeat of a refusal");
    let customer = shared().await?.customer("rep-refused").await?;
    let (id, tunnel) = (mint(), "tunnel.t1.create");
    let wants = json!({ "site": "oslo", "peer": { "hub": "hub-eu" }, "inside": "169.254.1.0/30" });
    let first = customer.ask(&id, tunnel, &wants).await?.refused("SiteMissing")?;
    ensure!(!first.repeated());
    // What was missing is there now; the answer to that command stays what it was.
    customer.send(CREATE, &body()).await?.accepted()?;
    same(&customer, &first, customer.ask(&id, tunnel, &wants).await?).await?;
    customer.send(tunnel, &wants).await?.accepted()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_outcome_is_rebuilt_from_the_events() -> Result<()> {
    let _timing = Timing::of("lost outcome");
    let customer = shared().await?.customer("rep-lost").await?;
    let id = mint();
    let first = customer.ask(&id, CREATE, &body()).await?.accepted()?;
    forget_outcome(&customer, &id).await?;
    same(&customer, &first, customer.ask(&id, CREATE, &body()).await?).await?;
    let rebuilt = customer.outcome(&id).await?.context("it was not recorded again")?;
    ensure!(rebuilt == first, "{} became {}", first.0, rebuilt.0);
    // What no event tells is among the verdicts: a refusal, and a command that had nothing to change.
    let (refused, nothing) = (mint(), mint());
    let no = customer.ask(&refused, CREATE, &body()).await?.refused("AlreadyExists")?;
    let same_lan = json!({ "lan": ["10.1.0.0/24"] });
    let unchanged = customer.ask(&nothing, "site.oslo.change", &same_lan).await?.accepted()?;
    ensure!(unchanged.position().is_none(), "{}", unchanged.0);
    forget_outcome(&customer, &refused).await?;
    forget_outcome(&customer, &nothing).await?;
    same(&customer, &no, customer.ask(&refused, CREATE, &body()).await?).await?;
    same(&customer, &unchanged, customer.ask(&nothing, "site.oslo.change", &same_lan).await?).await?;
    each_is_a_row(&customer, &[&id, &refused, &nothing]).await
}

/// The table has the outcome of each of these commands, though their stream has lost them.
async fn each_is_a_row(customer: &Customer, ids: &[&str]) -> Result<()> {
    let running = shared().await?;
    for id in ids {
        let sql = format!(
            "SELECT count(*) FROM outcomes WHERE customer = '{}' AND command = '{id}'
             AND (stream = 'VERDICTS') = (position_stream IS NULL)",
            customer.name
        );
        running.rows().await?.reach("the outcome is a row", &sql, 1, level::LONG).await?;
        let shown = running.call(&["get", "outcomes", id, "-c", &customer.name, "-o", "jsonl"]).await?;
        let row: serde_json::Value = serde_json::from_str(shown.code(0)?.out.trim())?;
        ensure!(row["command"] == json!(id) && row["sequence"].is_u64(), "{row}");
    }
    Ok(())
}

/// Takes a command's outcome out of its stream, as a loss of power does with the last ones.
async fn forget_outcome(customer: &Customer, id: &str) -> Result<()> {
    // Its sender may have it before the stream has.
    level::until("the outcome is in its stream", level::LONG, async || {
        Ok(customer.outcome(id).await?.is_some())
    })
    .await?;
    let stream = customer.nats.js.get_stream_no_info("OUTCOMES").await?;
    let subject = format!("wan.out.{}.{id}", customer.name);
    stream.purge().filter(subject).await?;
    ensure!(customer.outcome(id).await?.is_none());
    Ok(())
}

async fn restart_commands(running: &Running) -> Result<()> {
    let before = running.role("commands").context("no command service")?;
    before.signal(Signal::KILL);
    running.comes_back("commands", &before).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn over_a_restart_of_the_command_service() -> Result<()> {
    let _timing = Timing::of("repeat over a restart");
    let running = own().await?;
    let customer = running.customer("rep-restart").await?;
    let (accepted, refused, rebuilt) = (mint(), mint(), mint());
    let first = customer.ask(&accepted, CREATE, &body()).await?.accepted()?;
    let no = customer.ask(&refused, CREATE, &body()).await?.refused("AlreadyExists")?;
    let change = json!({ "settings": { "location": "Oslo" } });
    let third = customer.ask(&rebuilt, "site.oslo.change", &change).await?.accepted()?;
    forget_outcome(&customer, &rebuilt).await?;
    forget_outcome(&customer, &refused).await?;
    restart_commands(&running).await?;
    let ask = async || match customer.ask(&accepted, CREATE, &body()).await {
        Ok(answer) => Ok(Some(answer)),
        Err(error) => Err(error),
    };
    let (again, took) = level::reach("the command service answers", level::LONG, ask).await?;
    Timing::of("command service").say(format_args!("answers {took:?} after it was started again"));
    same(&customer, &first, again).await?;
    same(&customer, &no, customer.ask(&refused, CREATE, &body()).await?).await?;
    same(&customer, &third, customer.ask(&rebuilt, "site.oslo.change", &change).await?).await?;
    customer.ask(&accepted, "site.oslo.decommission", &json!({})).await?.refused("CommandIdReused")?;
    Ok(())
}
