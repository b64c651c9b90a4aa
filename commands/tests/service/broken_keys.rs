//! A key or a note that cannot be read is the trouble of one customer, and of nobody beside it.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::json;
use wanwright_nats::topology::{DEAD, VERDICTS};
use wanwright_schemas::{CommandId, Reason, headers, subjects};

use crate::personal::{canary, site};
use crate::world::{PARTITIONS, World, code, customer};

const CREATE: &str = "acme.demo.site.oslo.create";
const ERASE: &str = "acme.demo.customer.acme.erase";

/// A customer whose commands go through the same lane of the same partition as acme's.
fn neighbour() -> String {
    let place = |name: &str| {
        let id = customer(name);
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        (subjects::partition(&id, PARTITIONS), hasher.finish() % 16)
    };
    (0..).map(|number| format!("c{number}")).find(|name| place(name) == place("acme")).unwrap()
}

impl World {
    /// Writes other bytes under a subject of the keys.
    async fn spoil(&self, subject: String, bytes: &'static [u8]) {
        self.nats.js.publish(subject, bytes.into()).await.unwrap().await.unwrap();
    }

    async fn spoil_key_of_acme(&self) {
        let key = self.key_of("acme").await.id();
        let subject = subjects::wrapped_key(&customer("acme"), key, "*");
        let subject = self.stored(wanwright_nats::topology::KEYS, &subject).await.remove(0).subject;
        self.spoil(subject.to_string(), &[7; 60]).await;
    }
}

#[tokio::test]
async fn a_key_that_cannot_be_opened_holds_up_nobody_else() {
    let world = World::empty("").await;
    let service = world.serve_sealing().await;
    let neighbour = neighbour();
    for name in ["acme", &neighbour] {
        let made =
            world.ask(&format!("{name}.demo.site.oslo.create"), CommandId::mint(), &site(1, canary(1))).await;
        assert!(made.position().is_some(), "{made:?}");
    }
    world.spoil_key_of_acme().await;

    // A durable command that cannot be sealed, and behind it the neighbour's, with a contact and without.
    let stuck = CommandId::mint();
    let change = json!({ "contact": canary(2) }).to_string();
    world.put("acme.demo.site.oslo.change", stuck, change.clone().into()).await;
    for body in [change.clone(), r#"{"lan":["10.7.0.0/24"]}"#.to_owned()] {
        let id = CommandId::mint();
        world.put(&format!("{neighbour}.demo.site.oslo.change"), id, body.into()).await;
        let outcome = world.outcome(&neighbour, id).await;
        assert!(outcome.position().is_some(), "{outcome:?}");
    }
    world.inbox_is_empty().await;
    let dead = world.stored(DEAD, "wan.dead.command.KeyUnreadable").await;
    assert_eq!(dead.len(), 1);
    let head = |name: &str| dead[0].headers.get(name).unwrap().as_str().to_owned();
    assert_eq!(
        (head(headers::COMMAND_ID), head(headers::DEAD_LEFT_OUT)),
        (stuck.to_string(), "contact".into())
    );

    // Whoever asks is told so at once, without a word of where the keys are; nothing is recorded of it.
    let id = CommandId::mint();
    let refused = world.ask("acme.demo.site.oslo.change", id, &change).await;
    assert_eq!(code(&refused), Some(Reason::KeyUnreadable), "{refused:?}");
    let text = serde_json::to_string(&refused).unwrap();
    assert!(!text.contains("master.key") && text.contains("erase"), "{text}");
    assert!(world.stored(VERDICTS, "wan.verdict.>").await.is_empty());
    let plain =
        world.ask("acme.demo.site.oslo.change", CommandId::mint(), r#"{"lan":["10.8.0.0/24"]}"#).await;
    assert!(plain.position().is_some(), "{plain:?}");

    // A service starts all the same, and what the refusal advises helps.
    service.stop().await;
    let service = world.serve_sealing().await;
    assert!(world.ask(ERASE, CommandId::mint(), "").await.position().is_some());
    let again = world.ask("acme.demo.site.oslo.change", id, &change).await;
    assert!(again.position().is_some() && !again.repeated, "{again:?}");
    service.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn a_customer_whose_current_key_is_not_told_is_refused_by_name() {
    let world = World::empty("").await;
    let service = world.serve_sealing().await;
    world.ask(CREATE, CommandId::mint(), &site(1, canary(1))).await;
    world.spoil(subjects::current_key(&customer("acme")), b"no key").await;
    let change = json!({ "contact": canary(2) }).to_string();
    for (tail, body) in [("acme.demo.site.oslo.change", change.as_str()), (ERASE, "")] {
        let refused = world.ask(tail, CommandId::mint(), body).await;
        assert_eq!(code(&refused), Some(Reason::KeyUnreadable), "{refused:?}");
    }
    service.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn a_note_that_cannot_be_read_keeps_no_partition_from_being_served() {
    let world = World::empty("").await;
    let service = world.serve_sealing().await;
    world.ask(CREATE, CommandId::mint(), &site(1, canary(1))).await;
    service.stop().await;
    world.spoil(subjects::erasing_key(&customer("acme")), b"no key").await;
    // Ready is who serves every partition.
    let service = world.serve_sealing().await;
    assert_eq!(world.keys().erasing().await.unwrap(), [customer("acme")]);
    let erased = world.ask(ERASE, CommandId::mint(), "").await;
    assert!(erased.position().is_some(), "{erased:?}");
    assert_eq!(world.keys().erasing().await.unwrap(), []);
    service.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn an_erasure_that_was_decided_and_not_done_is_done_when_it_is_asked_for_again() {
    let world = World::empty("").await;
    let service = world.serve_sealing().await;
    world.ask(CREATE, CommandId::mint(), &site(1, canary(1))).await;
    let key = world.key_of("acme").await;
    assert!(world.ask(ERASE, CommandId::mint(), "").await.position().is_some());
    // As if it had not come to be destroyed: the same key is there again.
    let wrapped = subjects::wrapped_key(&customer("acme"), key.id(), "0011223344556677");
    world.spoil(wrapped, &[7; 60]).await;
    let again = world.ask(ERASE, CommandId::mint(), "").await;
    assert!(again.refusal().is_none() && again.position().is_none(), "{again:?}");
    assert!(world.keys().get(&customer("acme"), key.id()).await.unwrap().is_none());
    service.stop().await;
    world.stop().await;
}
