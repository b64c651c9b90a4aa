//! Each trick in the hands of whoever has the right: a test in which nothing could ever happen would prove nothing.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use async_nats::Subscriber;
use async_nats::jetstream::stream::{Config, StorageType};
use futures::StreamExt;
use wanwright_nats::Nats;

use super::tricks::{Op, Pair, Rightful, TRACED, TRICKS, Trick};
use super::world::{Tenant, World};
use super::{Member, live, perform};

/// How long an answer has to come.
const LIMIT: Duration = Duration::from_secs(5);

/// Who owns what the owner's tricks are about, and whose history the administrator may spoil.
const OWNER: usize = 90;
const SPOILED: usize = 91;

/// Fails with the name of a trick that does nothing.
pub async fn every_trick_works_for_whoever_has_the_right(world: &World, system: &Nats) -> Result<()> {
    let (tenant, nats) = world.tenant(OWNER, system).await?;
    let (owner, spoiled) = (Member { tenant, nats }, Tenant::imagined(SPOILED));
    let config = Config { name: "CONTROL".to_owned(), storage: StorageType::Memory, ..Config::default() };
    world.admin.js.create_stream(config).await?;
    for (number, trick) in TRICKS.iter().enumerate() {
        let on = match trick.rightful {
            Rightful::Owner | Rightful::System => &owner.tenant,
            Rightful::Admin | Rightful::Heard => &spoiled,
        };
        let done = match (trick.op)(Pair { me: on, on, rightful: true }) {
            Op::Subscribe { .. } => {
                let op = (trick.op)(Pair { me: &owner.tenant, on: &owner.tenant, rightful: true });
                listened(world, &owner, trick, &op, number + 100).await
            }
            op => answered(world, &owner, system, trick, &op).await,
        };
        done.with_context(|| format!("`{}` does nothing for whoever has the right", trick.name))?;
    }
    // What the tricks made.
    world.admin.js.delete_stream(format!("STOLEN-{}", spoiled.user)).await?;
    let stream = world.admin.js.get_stream(spoiled.stream()).await?;
    stream.delete_consumer(&spoiled.user).await?;
    Ok(())
}

fn hand<'a>(world: &'a World, owner: &'a Member, system: &'a Nats, rightful: Rightful) -> (&'a Nats, String) {
    match rightful {
        Rightful::Owner => (&owner.nats, format!("_INBOX.{}.control", owner.tenant.user)),
        Rightful::Admin | Rightful::Heard => (&world.admin, "_INBOX.admin.control".to_owned()),
        Rightful::System => (system, "_INBOX.system.control".to_owned()),
    }
}

async fn answered(world: &World, owner: &Member, system: &Nats, trick: &Trick, op: &Op) -> Result<()> {
    let (nats, inbox) = hand(world, owner, system, trick.rightful);
    let Op::Publish { subject, head, .. } = op else { bail!("not a message") };
    let arrives = head.iter().find(|(name, _)| *name == TRACED).map_or(subject, |(_, traced)| traced);
    let listened = if trick.rightful == Rightful::Heard { arrives.clone() } else { inbox.clone() };
    let mut ear = nats.client.subscribe(listened).await?;
    perform(nats, op, &inbox).await?;
    let answer = next(&mut ear).await?;
    // 503: nobody was there.
    ensure!(answer.status.is_none_or(|status| status.as_u16() != 503), "nobody is there");
    ear.unsubscribe().await?;
    Ok(())
}

async fn listened(world: &World, owner: &Member, trick: &Trick, op: &Op, number: usize) -> Result<()> {
    let nats = if trick.rightful == Rightful::Owner { &owner.nats } else { &world.admin };
    let mut ear = perform(nats, op, "").await?.context("a subscription")?;
    // Only the first try has a site to make: the server has to know of the subscription before.
    world.admin.subscribed().await?;
    // In a queue each message reaches one of several.
    for _ in 0..50 {
        // A message that reached this one is missing where it belongs, and is asked for in vain.
        let _ = tokio::time::timeout(Duration::from_secs(1), live(world, owner, number)).await;
        if let Ok(Some(_)) = tokio::time::timeout(Duration::from_millis(50), ear.next()).await {
            ear.unsubscribe().await?;
            nats.client.flush().await?;
            return Ok(());
        }
    }
    bail!("nothing was heard")
}

async fn next(ear: &mut Subscriber) -> Result<async_nats::Message> {
    tokio::time::timeout(LIMIT, ear.next()).await.context("no answer came")?.context("the connection closed")
}
