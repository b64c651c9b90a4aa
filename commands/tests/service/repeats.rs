//! A command happens once, whatever is left of its first outcome.

use std::time::Duration;

use wanwright_commands::service::Options;
use wanwright_nats::topology::OUTCOMES;
use wanwright_schemas::{CommandId, Outcome, Reason, subjects};

use crate::world::{SITE, World, code, customer};

const CREATE: &str = "acme.demo.site.oslo.create";

#[tokio::test]
async fn a_repeat_gets_the_first_outcome_with_or_without_its_record() {
    let world = World::new().await;
    let id = CommandId::mint();
    let first = world.ask(CREATE, id, SITE).await;
    let again = Outcome { repeated: true, ..first.clone() };
    assert_eq!(world.ask(CREATE, id, SITE).await, again);
    assert_eq!(code(&world.ask(CREATE, id, "{}").await), Some(Reason::CommandIdReused));

    world.forget_outcome("acme", id).await;
    assert_eq!(world.ask(CREATE, id, SITE).await, again);
    assert_eq!(world.outcome("acme", id).await, first);

    // A record that cannot be read is as good as none, at both doors.
    world.forget_outcome("acme", id).await;
    let subject = subjects::outcome(&customer("acme"), id);
    world.nats.js.publish(subject, "no outcome".into()).await.unwrap().await.unwrap();
    assert_eq!(world.ask(CREATE, id, SITE).await, again);
    world.put(CREATE, id, SITE.into()).await;
    world.inbox_is_empty().await;
    assert_eq!(world.history("acme").await.len(), 1);
    world.stop().await;
}

#[tokio::test]
async fn an_old_command_is_refused_unless_its_outcome_is_known() {
    let world = World::empty("").await;
    let window = Duration::from_secs(2);
    let service = world.serve_with(Options { window, ..Options::default() }).await;
    let now = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap();
    let retry = "acme.demo.site.oslo.retry";
    let known = CommandId::of_message(now, 1);
    let first = world.ask(retry, known, "").await;
    assert_eq!(code(&first), Some(Reason::NotFound));
    // Ids as old as the first one are refused in the end, and it still has its outcome.
    let mut number = 2;
    while code(&world.ask(retry, CommandId::of_message(now, number), "").await) != Some(Reason::CommandTooOld)
    {
        number += 1;
        assert!(now + 20_000 > u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap());
    }
    assert_eq!(world.ask(retry, known, "").await, Outcome { repeated: true, ..first });
    service.stop().await;
}

#[tokio::test]
async fn what_no_event_tells_is_said_again_by_another_service_without_its_record() {
    let world = World::new().await;
    let tunnel = r#"{"site":"oslo","peer":{"hub":"hub-eu"},"inside":"169.254.1.0/30"}"#;
    let (refused, nothing) = (CommandId::mint(), CommandId::mint());
    let first = world.ask("acme.demo.tunnel.t1.create", refused, tunnel).await;
    assert!(first.refusal().is_some(), "{first:?}");
    world.ask(CREATE, CommandId::mint(), SITE).await;
    let same = world.ask("acme.demo.site.oslo.change", nothing, SITE).await;
    assert!(same.refusal().is_none() && same.position().is_none(), "{same:?}");

    for id in [refused, nothing] {
        world.outcome("acme", id).await;
        world.forget_outcome("acme", id).await;
    }
    world.restart().await;
    // Decided now, both would have events.
    world.ask("acme.demo.site.oslo.change", CommandId::mint(), r#"{"lan":["10.3.0.0/24"]}"#).await;
    let again = |outcome: Outcome| Outcome { repeated: true, ..outcome };
    assert_eq!(world.ask("acme.demo.tunnel.t1.create", refused, tunnel).await, again(first));
    assert_eq!(world.ask("acme.demo.site.oslo.change", nothing, SITE).await, again(same));
    let other = world.ask("acme.demo.tunnel.t1.create", refused, "{}").await;
    assert_eq!(code(&other), Some(Reason::CommandIdReused));
    assert_eq!(world.history("acme").await.len(), 2);
    world.stop().await;
}

/// What the service of outcomes says.
async fn lookup(world: &World, id: CommandId) -> Outcome {
    let body = serde_json::json!({ "command": id }).to_string();
    let answer = world.nats.client.request("wan.outcome.acme.demo", body.into()).await.unwrap();
    serde_json::from_slice(&answer.payload).unwrap()
}

#[tokio::test]
async fn a_used_id_keeps_the_outcome_of_the_command_that_used_it() {
    let world = World::new().await;
    let id = CommandId::mint();
    let first = world.ask(CREATE, id, SITE).await;
    assert_eq!(world.outcome("acme", id).await, first);
    world.forget_outcome("acme", id).await;
    world.put(CREATE, id, "{}".into()).await;
    world.inbox_is_empty().await;
    let subject = subjects::outcome(&customer("acme"), id);
    assert!(world.stored(OUTCOMES, &subject).await.is_empty());
    assert_eq!(world.ask(CREATE, id, SITE).await, Outcome { repeated: true, ..first.clone() });

    // Nor is such a record believed.
    let other = world.ask(CREATE, id, "{}").await;
    assert_eq!(code(&other), Some(Reason::CommandIdReused));
    world.forget_outcome("acme", id).await;
    let body = serde_json::to_vec(&other).unwrap();
    world.nats.js.publish(subject, body.into()).await.unwrap().await.unwrap();
    assert_eq!(lookup(&world, id).await, first);
    assert_eq!(world.ask(CREATE, id, SITE).await, Outcome { repeated: true, ..first });
    world.stop().await;
}

#[tokio::test]
async fn an_outcome_that_was_recorded_and_not_told_is_told_by_the_inbox() {
    let world = World::new().await;
    let (refused, accepted) = (CommandId::mint(), CommandId::mint());
    let retry = "acme.demo.site.oslo.retry";
    for (tail, id, body) in [(retry, refused, ""), (CREATE, accepted, SITE)] {
        let first = world.ask(tail, id, body).await;
        assert_eq!(world.outcome("acme", id).await, first);
        // As if the service had ended between the two records, before it removed the command.
        world.forget_outcome("acme", id).await;
        world.put(tail, id, body.to_owned().into()).await;
        world.inbox_is_empty().await;
        let told = world.stored(OUTCOMES, &subjects::outcome(&customer("acme"), id)).await;
        assert_eq!(serde_json::from_slice::<Outcome>(&told[0].payload).unwrap(), first);
    }
    world.stop().await;
}

#[tokio::test]
async fn an_outcome_is_found_where_it_was_recorded_first() {
    let world = World::new().await;
    let ids = [CommandId::mint(), CommandId::mint(), CommandId::mint()];
    let change = "acme.demo.site.oslo.change";
    let commands = [("acme.demo.site.oslo.retry", ""), (CREATE, SITE), (change, SITE)];
    let mut firsts = Vec::new();
    for ((tail, body), id) in commands.into_iter().zip(ids) {
        let first = world.ask(tail, id, body).await;
        assert_eq!(world.outcome("acme", id).await, first);
        world.forget_outcome("acme", id).await;
        firsts.push(first);
    }
    assert!(firsts[0].refusal().is_some() && firsts[1].position().is_some());
    assert!(firsts[2].refusal().is_none() && firsts[2].position().is_none());
    // A later generation is not the one that the command made.
    world.ask(change, CommandId::mint(), r#"{"lan":["10.3.0.0/24"]}"#).await;
    for (first, id) in firsts.iter().zip(ids) {
        assert_eq!(&lookup(&world, id).await, first);
        assert!(world.stored(OUTCOMES, &subjects::outcome(&customer("acme"), id)).await.is_empty());
    }
    assert_eq!(code(&lookup(&world, CommandId::mint()).await), Some(Reason::NotFound));
    let again = Outcome { repeated: true, ..firsts[1].clone() };
    assert_eq!(world.ask(CREATE, ids[1], SITE).await, again);
    world.stop().await;
}

fn now_millis() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap()
}

#[tokio::test]
async fn a_durable_command_happens_once_however_long_nobody_served_its_inbox() {
    let world = World::empty("").await;
    let window = Duration::from_secs(2);
    let options = || Options { window, ..Options::default() };
    let service = world.serve_with(options()).await;
    world.ask(CREATE, CommandId::mint(), SITE).await;
    let (change, id) = ("acme.demo.site.oslo.change", CommandId::mint());
    let body = r#"{"lan":["10.2.0.0/24"]}"#;
    let first = world.ask(change, id, body).await;
    assert!(first.position().is_some(), "{first:?}");
    // Done a second time the first one would undo this.
    world.ask(change, CommandId::mint(), r#"{"lan":["10.3.0.0/24"]}"#).await;
    assert_eq!(world.outcome("acme", id).await, first);
    service.stop().await;
    // Decided and not removed from the inbox, whose oldest message is as large as one may be.
    world.put("acme.demo.nothing", CommandId::mint(), vec![b'x'; (4 << 20) - 400].into()).await;
    world.put(change, id, body.into()).await;
    assert!(now_millis() < id.unix_millis() + 2000, "too slow to tell anything");
    world.forget_outcome("acme", id).await;
    while now_millis() < id.unix_millis() + 4500 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    let service = world.serve_with(options()).await;
    world.inbox_is_empty().await;
    assert_eq!(world.outcome("acme", id).await, first);
    assert_eq!(world.history("acme").await.len(), 3);
    service.stop().await;
    world.stop().await;
}
