//! Streams that are not as this program has them stop the start of every role, which says what differs.

use anyhow::{Result, ensure};
use wanwright_nats::topology;
use wanwright_schemas::subjects::PARTITIONS;
use wanwright_supervisor::NatsOptions;
use wanwright_tests::Said;

use crate::support::{home, program};

const ROLES: [&str; 4] = ["commands", "dispatcher", "executors", "projections"];

/// Every role ends at once, says the same as `nats plan` and never that it is ready.
fn stopped(said: &Said, wanted: &str) -> Result<()> {
    ensure!(said.code == 1 && said.out.is_empty(), "{said:?}");
    ensure!(said.err.contains(wanted), "{wanted} is not in {}", said.err);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layout_that_differs_stops_every_role_and_is_printed() -> Result<()> {
    let home = home()?;
    let server =
        wanwright_supervisor::Nats::start(&NatsOptions::new(home.join("nats"), home.join("cache"))).await?;
    let program = program().with("WANWRIGHT_NATS", &server.url_with_login());
    let call = async |args: &[&str]| program.call(&home, args).await;
    let nats = wanwright_nats::connect(&server.url_with_login(), "wanwright-tests", PARTITIONS).await?;
    let every = async |wanted: &str| {
        for role in ROLES {
            stopped(&call(&["serve", role]).await?, wanted)?;
        }
        anyhow::Ok(())
    };
    every("streams are missing: EVENTS-0, EVENTS-1").await?;

    call(&["nats", "apply"]).await?.code(0)?;
    let timers = nats.js.get_stream(topology::TIMERS).await?.cached_info().config.clone();
    let mut other = timers.clone();
    other.max_messages_per_subject = 5;
    other.metadata.insert("wanwright-layout".to_owned(), "1".to_owned());
    nats.js.update_stream(&other).await?;
    let (layout, limit) = (
        format!("TIMERS: layout is \"1\", should be {:?}", topology::LAYOUT),
        format!(
            "TIMERS: max messages per subject is \"5\", should be {:?}",
            match timers.max_messages_per_subject {
                ..=0 => "unlimited".to_owned(),
                limit => limit.to_string(),
            }
        ),
    );
    let plan = call(&["nats", "plan"]).await?.code(1)?.out;
    ensure!(plan.contains(&layout) && plan.contains(&limit) && plan.lines().count() == 2, "{plan}");
    every(&layout).await?;
    every(&limit).await?;

    // Nothing was changed behind anybody's back, and put right by hand it starts.
    let found = nats.js.get_stream(topology::TIMERS).await?.cached_info().config.clone();
    ensure!(found.max_messages_per_subject == 5, "{found:?}");
    nats.js.update_stream(&timers).await?;
    call(&["nats", "plan"]).await?.code(0)?;
    let mut commands =
        program.spec(&home, &["serve", "commands"]).log(home.join("commands.log")).piped().spawn()?;
    let ready = commands.lines()?.next().await?;
    ensure!(ready.as_deref() == Some("ready"), "{ready:?}: {}", home.read("commands.log"));
    Ok(())
}
