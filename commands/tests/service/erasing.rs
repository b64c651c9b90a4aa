//! Erasing a customer's personal data: the key is gone from the disk, and nothing else is.

use serde_json::json;
use wanwright_commands::Head;
use wanwright_schemas::policy::CustomerChange;
use wanwright_schemas::{CommandId, Envelope, Event, Reason, subjects};

use crate::personal::{appears, canary, files_with, site, texts, writings};
use crate::world::{LIMIT, World, code, customer};

const CREATE: &str = "acme.demo.site.oslo.create";
const CHANGE: &str = "acme.demo.site.oslo.change";
const ERASE: &str = "acme.demo.customer.acme.erase";

impl World {
    /// The bytes in which the key of a customer is kept.
    async fn wrapped(&self, name: &str) -> Vec<u8> {
        let subject = subjects::wrapped_key(&customer(name), self.key_of(name).await.id(), "*");
        self.stored(wanwright_nats::topology::KEYS, &subject).await.remove(0).payload.to_vec()
    }
}

#[tokio::test]
async fn an_erased_key_is_in_no_file_and_everything_replays() {
    let world = World::empty("").await;
    let service = world.serve_sealing().await;
    world.ask(CREATE, CommandId::mint(), &site(1, canary(1))).await;
    world.ask("beta.demo.site.oslo.create", CommandId::mint(), &site(1, canary(2))).await;
    let (key, others) = (world.key_of("acme").await, world.key_of("beta").await);
    let (wrapped, of_beta) = (world.wrapped("acme").await, world.wrapped("beta").await);
    appears(&world.kept(), &writings(&wrapped)).await;
    let before = world.history("acme").await;

    let id = CommandId::mint();
    let erased = world.ask(ERASE, id, "").await;
    assert!(erased.position().is_some(), "{erased:?}");
    assert!(world.keys().get(&customer("acme"), key.id()).await.unwrap().is_none());
    for bytes in [&wrapped[..], &wrapped[12..], key.secret()] {
        assert_eq!(files_with(&world.kept(), &writings(bytes)), Vec::<String>::new());
    }
    appears(&world.kept(), &writings(&of_beta)).await;
    assert!(world.keys().get(&customer("beta"), others.id()).await.unwrap().is_some());

    // The history is what it was, and says that it happened.
    let after = world.history("acme").await;
    assert_eq!(after.len(), before.len() + 1);
    assert!(
        before.iter().zip(&after).all(|(was, is)| was.payload == is.payload && was.sequence == is.sequence)
    );
    let mut head = Head::default();
    for message in &after {
        head.fold(message.sequence, &message.payload).unwrap();
    }
    assert!(head.state.erased.contains(&key.id()));
    assert_eq!(texts(&after[0].payload).len(), 4);

    // Asked again it is done, and no command is carried out twice or lost by it.
    let again = world.ask(ERASE, id, "").await;
    assert!(again.repeated && again.position() == erased.position(), "{again:?}");
    let nothing = world.ask(ERASE, CommandId::mint(), "").await;
    assert!(nothing.refusal().is_none() && nothing.position().is_none(), "{nothing:?}");
    assert_eq!(
        code(&world.ask(CREATE, CommandId::mint(), &site(1, canary(1))).await),
        Some(Reason::AlreadyExists)
    );
    let lan = r#"{"lan":["10.9.0.0/24"]}"#;
    assert!(world.ask(CHANGE, CommandId::mint(), lan).await.position().is_some());
    service.stop().await;
    let service = world.serve_sealing().await;

    // What is said from now on is sealed by another key.
    let contact = json!({ "contact": { "name": "Somebody else" } }).to_string();
    assert!(world.ask(CHANGE, CommandId::mint(), &contact).await.position().is_some());
    let newer = world.key_of("acme").await;
    assert_ne!(newer.id(), key.id());
    let last = world.history("acme").await.pop().unwrap();
    let keys: Vec<_> = texts(&last.payload).iter().map(|(field, text)| (field.clone(), text.key())).collect();
    assert_eq!(keys.iter().filter(|(_, by)| *by == newer.id()).count(), 1);
    assert_eq!(Envelope::decode(&last.payload).unwrap().key, Some(newer.id().to_string()));
    let again = world.ask(ERASE, CommandId::mint(), "").await;
    assert!(again.position().is_some(), "{again:?}");
    assert_eq!(files_with(&world.kept(), &writings(newer.secret())), Vec::<String>::new());
    service.stop().await;
    world.stop().await;
}

/// Records the end of the key as a service does that is killed before it destroys it.
async fn half_erased(world: &World, noted: bool) -> wanwright_nats::DataKey {
    let service = world.serve_sealing().await;
    world.ask(CREATE, CommandId::mint(), &site(1, canary(1))).await;
    service.stop().await;
    let acme = customer("acme");
    let key = world.key_of("acme").await;
    if noted {
        world.keys().note_erasing(&acme, key.id()).await.unwrap();
    }
    let last = world.history("acme").await.pop().unwrap();
    let before = Envelope::decode(&last.payload).unwrap();
    let event = Event::Customer(acme.clone(), CustomerChange::Erased { key: key.id() });
    let command = CommandId::mint();
    let prev = Some(wanwright_schemas::Digest::of(&last.payload));
    let envelope = Envelope { command, prev, events: vec![event], key: None, ..before };
    let history = wanwright_nats::History::new(world.nats.clone());
    let bytes = envelope.encode().unwrap().into();
    history.append(&acme, last.sequence, command, Default::default(), bytes).await.unwrap();
    key
}

#[tokio::test]
async fn an_erasure_that_was_killed_is_finished_by_whoever_takes_the_partition() {
    let world = World::empty("").await;
    let key = half_erased(&world, true).await;
    assert!(world.keys().get(&customer("acme"), key.id()).await.unwrap().is_some());
    // Ready is who has finished what others began.
    let service = world.serve_sealing().await;
    assert!(world.keys().get(&customer("acme"), key.id()).await.unwrap().is_none());
    assert_eq!(world.keys().erasing().await.unwrap(), []);
    assert_eq!(files_with(&world.kept(), &writings(key.secret())), Vec::<String>::new());
    service.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn an_erasure_that_was_not_decided_destroys_nothing() {
    let world = World::empty("").await;
    let service = world.serve_sealing().await;
    world.ask(CREATE, CommandId::mint(), &site(1, canary(1))).await;
    service.stop().await;
    let key = world.key_of("acme").await;
    world.keys().note_erasing(&customer("acme"), key.id()).await.unwrap();
    let service = world.serve_sealing().await;
    assert_eq!(world.key_of("acme").await.id(), key.id());
    assert!(world.ask(ERASE, CommandId::mint(), "").await.position().is_some());
    assert_eq!(world.keys().erasing().await.unwrap(), []);
    service.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn a_key_whose_end_was_recorded_seals_nothing_any_more() {
    let world = World::empty("").await;
    let key = half_erased(&world, false).await;
    let service = world.serve_sealing().await;
    let contact = json!({ "contact": canary(2) }).to_string();
    assert!(world.ask(CHANGE, CommandId::mint(), &contact).await.position().is_some());
    assert_ne!(world.key_of("acme").await.id(), key.id());
    assert!(world.keys().get(&customer("acme"), key.id()).await.unwrap().is_none());
    service.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn services_that_die_between_deciding_and_destroying_leave_no_key_behind() {
    let world = World::empty("").await;
    let mut number = 0;
    for round in 0..6_u64 {
        let service = world.serve_sealing().await;
        number += 1;
        let body = json!({ "contact": canary(number) }).to_string();
        let (tail, body) = if round == 0 { (CREATE, site(1, canary(1))) } else { (CHANGE, body) };
        assert!(world.ask(tail, CommandId::mint(), &body).await.position().is_some());
        let key = world.key_of("acme").await;
        // In the inbox, so that it is not lost with who takes it.
        world.put(ERASE, CommandId::mint(), "".into()).await;
        let is_decided = async {
            while !world.events("acme").await.iter().any(
                |event| matches!(event, Event::Customer(_, CustomerChange::Erased { key: of }) if *of == key.id()),
            ) {}
        };
        tokio::time::timeout(LIMIT, is_decided).await.unwrap();
        service.kill().await;
        let service = world.serve_sealing().await;
        world.inbox_is_empty().await;
        assert!(world.keys().get(&customer("acme"), key.id()).await.unwrap().is_none());
        assert_eq!(files_with(&world.kept(), &writings(key.secret())), Vec::<String>::new());
        service.stop().await;
    }
    let erased =
        world.events("acme").await.iter().filter(|event| matches!(event, Event::Customer(..))).count();
    assert_eq!(erased, 6);
    world.stop().await;
}

#[tokio::test]
async fn master_keys_are_rotated_under_a_running_service() {
    let world = World::empty("").await;
    let service = world.serve_sealing().await;
    for name in ["acme", "beta", "gamma"] {
        world.ask(&format!("{name}.demo.site.oslo.create"), CommandId::mint(), &site(1, canary(1))).await;
    }
    let (key, wrapped) = (world.key_of("acme").await, world.wrapped("acme").await);
    let before = std::fs::read_to_string(world.master_key()).unwrap();
    let keys = world.keys();
    let (rotated, made) = tokio::join!(keys.rotate(), async {
        let mut made = 0;
        for number in 0..20 {
            let tail = format!("c{number}.demo.site.oslo.create");
            made += usize::from(
                world.ask(&tail, CommandId::mint(), &site(1, canary(1))).await.position().is_some(),
            );
        }
        made
    });
    let rotated = rotated.unwrap();
    assert!(made == 20 && rotated.keys >= 3, "{made} {rotated:?}");
    let after = std::fs::read_to_string(world.master_key()).unwrap();
    assert!(after != before && after.lines().count() == 1 && after.contains(&rotated.master));
    assert_eq!(world.key_of("acme").await.secret(), key.secret());
    for number in 0..20 {
        world.key_of(&format!("c{number}")).await;
    }
    assert_eq!(files_with(&world.kept(), &writings(&wrapped)), Vec::<String>::new());
    service.stop().await;
    let service = world.serve_sealing().await;
    let erased = world.ask(ERASE, CommandId::mint(), "").await;
    assert!(erased.position().is_some(), "{erased:?}");
    assert!(world.keys().get(&customer("acme"), key.id()).await.unwrap().is_none());
    service.stop().await;
    world.stop().await;
}
