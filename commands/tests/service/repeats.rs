//! A command happens once, whatever is left of its first outcome.

use std::time::Duration;

use wanwright_commands::service::Options;
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
