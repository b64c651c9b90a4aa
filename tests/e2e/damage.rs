//! A history that was tampered with: its customer is refused, its partition's readers stop by name, everybody else goes
//! on.

use anyhow::{Context, Result, ensure};
use async_nats::HeaderMap;
use serde_json::json;
use wanwright_nats::publish::publish;
use wanwright_schemas::subjects::{PARTITIONS, events, partition};
use wanwright_tests::{Signal, Timing, level};

use crate::support::own;

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_named_and_stays_where_it_is() -> Result<()> {
    let _timing = Timing::of("damaged history");
    let running = own().await?;
    let (hurt, well) = (running.customer("hurt").await?, running.customer("well").await?);
    ensure!(
        partition(&"hurt".parse()?, PARTITIONS) != partition(&"well".parse()?, PARTITIONS),
        "choose other names"
    );
    let rows = running.rows().await?;
    for customer in [&hurt, &well] {
        let objects = customer.site("oslo", 1, 1, 1).await?;
        rows.healthy(&customer.name, objects, level::LONG).await?;
    }
    // A message that claims to follow another one than it does.
    let mut forged = hurt.history().await?.pop().context("no history")?;
    forged["prev"] = json!(format!("sha256:{}", "0".repeat(64)));
    let subject = events(&"hurt".parse()?, PARTITIONS);
    publish(&hurt.nats.js, subject, HeaderMap::new(), forged.to_string().into()).await?;
    let home = format!("EVENTS-{}", partition(&"hurt".parse()?, PARTITIONS));
    let stopped = format!(
        "SELECT count(*) FROM projection_status WHERE stream = '{home}' AND read_model = 'events' AND state = 'stopped'
         AND last_error LIKE '%hurt%'"
    );
    rows.reach("its readers stop and say why", &stopped, 1, level::LONG).await?;
    let others =
        format!("SELECT count(*) FROM projection_status WHERE stream <> '{home}' AND state <> 'running'");
    ensure!(rows.number(&others).await? == 0, "readers of other streams stopped too");
    let change = json!({ "settings": { "location": "Bergen" } });
    // Not at once: the command service has the state in memory, and learns of the message when it appends.
    hurt.send("site.oslo.change", &change).await?.refused("HistoryDamaged")?;
    hurt.send("site.more.create", &json!({ "vendor": "simwan", "lan": ["10.9.0.0/24"] }))
        .await?
        .refused("HistoryDamaged")?;
    // After a restart of every role that keeps states in memory, too.
    for part in ["commands", "dispatcher", "projections"] {
        let before = running.role(part).context(part)?;
        before.signal(Signal::KILL);
        running.comes_back(part, &before).await?;
    }
    let ask = async || Ok(hurt.send("site.oslo.change", &change).await.ok());
    level::reach("the command service answers", level::LONG, ask).await?.0.refused("HistoryDamaged")?;
    let length = hurt.history().await?.len();
    well.send("site.oslo.change", &change).await?.accepted()?;
    well.site("bergen", 2, 1, 1).await?;
    rows.healthy("well", 6, level::LONG).await?;
    ensure!(
        rows.number(&stopped).await? == 1 || {
            rows.reach("its readers are stopped again", &stopped, 1, level::LONG).await?;
            true
        }
    );
    ensure!(hurt.history().await?.len() == length, "something was appended to a damaged history");
    let replay = running.call(&["replay", "hurt"]).await?.code(1)?;
    ensure!(replay.err.contains("does not follow"), "{}", replay.err);
    let doctor = running.call(&["doctor"]).await?.code(1)?;
    ensure!(doctor.out.contains("hurt"), "{}", doctor.out);
    ensure!(running.home.panics().is_empty(), "{:?}", running.home.panics());
    Ok(())
}
