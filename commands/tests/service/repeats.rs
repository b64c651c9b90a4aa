//! A command happens once, whatever is left of its first outcome.

use wanwright_schemas::{CommandId, Outcome, Reason, Refusal, subjects};

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
    let world = World::new().await;
    let now = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap();
    let old = |number| CommandId::of_message(now - (24 * 60 + 1) * 60 * 1000, number);
    let known = Outcome::refused(Some(old(1)), None, Refusal::new(Reason::NotFound, "there is no such site"));
    let subject = subjects::outcome(&customer("acme"), old(1));
    let body = serde_json::to_vec(&known).unwrap();
    world.nats.js.publish(subject, body.into()).await.unwrap().await.unwrap();
    assert_eq!(world.ask(CREATE, old(1), SITE).await, Outcome { repeated: true, ..known });
    assert_eq!(code(&world.ask(CREATE, old(2), SITE).await), Some(Reason::CommandTooOld));
    world.stop().await;
}
