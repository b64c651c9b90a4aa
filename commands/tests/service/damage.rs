//! Nothing is decided on a history that lost something.

use bytes::Bytes;
use serde_json::{Value, json};
use wanwright_commands::service::{Options, accept_losses, lost_histories};
use wanwright_nats::evidence::{Evidence, Folder, Rolling, SignedHead, SigningKey, leaf};
use wanwright_nats::topology::{self, DEAD, INVENTORY};
use wanwright_nats::{Snapshots, stream_info};
use wanwright_schemas::{CommandId, Reason, headers, subjects};

use crate::inventory::{noted, reported};
use crate::losses::serve;
use crate::world::{LIMIT, PARTITIONS, SITE, World, code, customer, stream_of};

/// What a tenant gets that reads its history from a place on: how many messages, or the code of the refusal.
async fn read(world: &World, after: u64, limit: usize) -> Result<usize, String> {
    let asked = json!({ "after": after, "limit": limit }).to_string();
    let answer = world.nats.client.request("wan.history.acme.anna", asked.into()).await.unwrap();
    let page: Value = serde_json::from_slice(&answer.payload).unwrap();
    match page["messages"].as_array() {
        Some(messages) => Ok(messages.len()),
        None => Err(page["code"].as_str().expect("a refusal").to_owned()),
    }
}

fn damaged() -> Result<usize, String> {
    Err("HistoryDamaged".to_owned())
}

#[tokio::test]
async fn a_history_that_became_shorter_is_damaged_and_its_commands_are_kept() {
    let world = World::new().await;
    let other = SITE.replace("10.1", "10.2");
    world.ask("acme.demo.site.oslo.create", CommandId::mint(), SITE).await;
    world.ask("acme.demo.site.bergen.create", CommandId::mint(), &other).await;

    // What a damaged newest block does: the last message is gone and its sequence will be used again.
    let first = world.history("acme").await.remove(0);
    let name = stream_of(&customer("acme"));
    world.nats.js.delete_stream(&name).await.unwrap();
    let config = topology::streams(PARTITIONS, 1).into_iter().find(|config| config.name == name).unwrap();
    world.nats.js.create_stream(config).await.unwrap();
    world.nats.js.publish(first.subject, first.payload).await.unwrap().await.unwrap();

    // Its end is cut, and what is left fits its chain.
    assert_eq!(read(&world, 0, 10).await, damaged());

    let change = (r#"{"lan":["10.3.0.0/24"]}"#, "acme.demo.site.oslo.change");
    let answer = world.ask(change.1, CommandId::mint(), change.0).await;
    assert_eq!(code(&answer), Some(Reason::HistoryDamaged), "{answer:?}");

    let ids = [CommandId::mint(), CommandId::mint()];
    for id in ids {
        world.put(change.1, id, change.0.into()).await;
    }
    world.inbox_is_empty().await;
    let dead = world.stored(DEAD, "wan.dead.command.HistoryDamaged").await;
    let buried: Vec<String> = dead
        .iter()
        .map(|message| message.headers.get(headers::COMMAND_ID).unwrap().as_str().to_owned())
        .collect();
    assert_eq!(buried, ids.map(|id| id.to_string()));
    assert_eq!(dead[0].payload, Bytes::from(change.0));
    assert_eq!(world.history("acme").await.len(), 1);
    world.stop().await;
}

/// Takes away what the command services wrote down about histories.
async fn forget(world: &World) {
    let written = world.nats.js.get_stream(INVENTORY).await.unwrap();
    written.purge().filter(subjects::inventory_by(subjects::INVENTORY_OF_HISTORIES, "*")).await.unwrap();
}

/// A stream as a loss of everything leaves it: empty, under the same name.
async fn anew(world: &World, name: &str) {
    world.nats.js.delete_stream(name).await.unwrap();
    let config = topology::streams(PARTITIONS, 1).into_iter().find(|config| config.name == name).unwrap();
    world.nats.js.create_stream(config).await.unwrap();
}

#[tokio::test]
async fn a_service_that_has_seen_nothing_believes_the_signed_head_and_not_an_empty_stream() {
    let world = World::empty("").await;
    let dir = tempfile::tempdir().unwrap();
    let key = SigningKey::load_or_make(&dir.path().join("keys")).unwrap();
    let folder = Folder::new(dir.path().join("audit"));
    let evidence = Evidence { folder: folder.clone(), key: Some(key.public()) };
    let options = || Options { evidence: Some(evidence.clone()), ..Options::default() };
    let service = world.serve_with(options()).await;
    world.ask("acme.demo.site.oslo.create", CommandId::mint(), SITE).await;
    let name = stream_of(&customer("acme"));
    let first = world.history("acme").await.remove(0);
    let incarnation = stream_info(&world.nats.js, &name).await.unwrap().incarnation;
    let rolling = Rolling::default().with(1, leaf(&first));
    let head = SignedHead::sign(&key, (&name, incarnation), rolling, leaf(&first), first.time);
    folder.append(&head).unwrap();
    service.stop().await;

    let service = world.serve_with(options()).await;
    let change = ("acme.demo.site.oslo.change", r#"{"lan":["10.3.0.0/24"]}"#);
    let answer = world.ask(change.0, CommandId::mint(), change.1).await;
    assert_eq!(code(&answer), None, "{answer:?}");
    assert_eq!(read(&world, 0, 10).await, Ok(2));
    service.stop().await;

    anew(&world, &name).await;
    forget(&world).await;
    let service = world.serve_with(options()).await;
    assert_eq!(read(&world, 0, 10).await, damaged());
    forget(&world).await;
    let create = ("acme.demo.site.oslo.create", SITE);
    let answer = world.ask(create.0, CommandId::mint(), create.1).await;
    assert_eq!(code(&answer), Some(Reason::HistoryDamaged), "{answer:?}");
    assert!(world.history("acme").await.is_empty(), "nothing was decided");
    service.stop().await;

    // A head that somebody else signed is as good as a damage.
    let other = SigningKey::from_seed([9; 32]).unwrap();
    folder
        .append(&SignedHead::sign(&other, (&name, incarnation), Rolling::default(), leaf(&first), first.time))
        .unwrap();
    let service = world.serve_with(options()).await;
    let answer = world.ask(create.0, CommandId::mint(), create.1).await;
    assert_eq!(code(&answer), Some(Reason::HistoryDamaged), "{answer:?}");
    service.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn a_stream_with_a_hole_is_refused_whose_customer_the_lost_message_was() {
    let world = World::empty("").await;
    let service = world.serve().await;
    world.ask("acme.demo.site.oslo.create", CommandId::mint(), SITE).await;
    service.stop().await;
    let name = stream_of(&customer("acme"));
    let mut config = topology::streams(PARTITIONS, 1).into_iter().find(|config| config.name == name).unwrap();
    let kept = world.history("acme").await.remove(0);
    world.nats.js.delete_stream(&name).await.unwrap();
    // The server lets nobody delete from a stream of events: a hole is made where it may be, and the flags follow.
    (config.deny_delete, config.deny_purge) = (false, false);
    world.nats.js.create_stream(config.clone()).await.unwrap();
    for _ in 0..2 {
        world.nats.js.publish(kept.subject.clone(), kept.payload.clone()).await.unwrap().await.unwrap();
    }
    world.nats.js.get_stream(&name).await.unwrap().delete_message(2).await.unwrap();
    (config.deny_delete, config.deny_purge) = (true, true);
    world.nats.js.update_stream(config).await.unwrap();
    // The chain of what is left is whole: only the count tells.
    let service = world.serve().await;
    assert_eq!(read(&world, 0, 10).await, damaged());
    let answer =
        world.ask("acme.demo.site.oslo.change", CommandId::mint(), r#"{"lan":["10.3.0.0/24"]}"#).await;
    assert_eq!(code(&answer), Some(Reason::HistoryDamaged), "{answer:?}");
    service.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn a_part_of_a_history_is_given_away_as_far_as_its_chain_goes() {
    let world = World::empty("").await;
    let service = world.serve().await;
    for number in 1..=5 {
        let body = SITE.replace("10.1", &format!("10.{number}"));
        world.ask(&format!("acme.demo.site.s{number}.create"), CommandId::mint(), &body).await;
    }
    assert_eq!(read(&world, 0, 10).await, Ok(5));
    assert_eq!((read(&world, 2, 2).await, read(&world, 4, 10).await), (Ok(2), Ok(1)));
    assert_eq!(read(&world, 5, 10).await, Ok(0));
    service.stop().await;

    // The third message is not there, and the stream, which was made anew, counts on without it.
    let all = world.history("acme").await;
    let name = stream_of(&customer("acme"));
    anew(&world, &name).await;
    forget(&world).await;
    for message in all.into_iter().filter(|message| message.sequence != 3) {
        world.nats.js.publish(message.subject, message.payload).await.unwrap().await.unwrap();
    }
    let service = world.serve().await;
    assert_eq!(read(&world, 0, 2).await, Ok(2), "so far it is whole");
    for (after, limit) in [(0, 10), (0, 3), (1, 2), (2, 1)] {
        assert_eq!(read(&world, after, limit).await, damaged(), "{limit} behind {after}");
    }
    assert_eq!(read(&world, 3, 10).await, Ok(1), "it follows the one before it");
    service.stop().await;
}

#[tokio::test]
async fn what_no_head_vouches_for_is_missed_by_whoever_comes_next_until_the_loss_is_known() {
    let world = World::empty("").await;
    let service = world.serve().await;
    let others = (0..).map(|number| format!("other-{number}"));
    let name = stream_of(&customer("acme"));
    let other = others.into_iter().find(|other| stream_of(&customer(other)) == name).unwrap();
    let site = |name: &str| format!("{name}.demo.site.oslo.create");
    world.ask(&site(&other), CommandId::mint(), &SITE.replace("10.1", "10.2")).await;
    world.ask(&site("acme"), CommandId::mint(), SITE).await;
    service.stop().await;

    // The newest block is damaged: of two messages the server has one, and gives the other's number out again.
    let kept = world.history(&other).await.remove(0);
    anew(&world, &name).await;
    world.nats.js.publish(kept.subject, kept.payload).await.unwrap().await.unwrap();

    // Neither is an empty history decided on, nor one that is whole: whose message is lost cannot be told.
    let service = world.serve().await;
    for who in ["acme", &other] {
        let answer = world.ask(&site(who), CommandId::mint(), SITE).await;
        assert_eq!(code(&answer), Some(Reason::HistoryDamaged), "{answer:?}");
    }
    assert_eq!(read(&world, 0, 10).await, damaged());
    let report = reported(&world, "stream", &format!("{name}: it ends at 1, and was seen up to 2")).await;
    let lost = lost_histories(&world.nats).await.unwrap();
    assert_eq!(lost.len(), 1, "{lost:?}");
    assert_eq!((lost[0].stream.as_str(), lost[0].sequence), (name.as_str(), 2));
    service.stop().await;

    // The next one knows it as well, and does not report it again.
    let service = world.serve().await;
    let answer = world.ask(&site("acme"), CommandId::mint(), SITE).await;
    assert_eq!(code(&answer), Some(Reason::HistoryDamaged), "{answer:?}");
    assert_eq!(world.stored(DEAD, &report.subject).await.len(), 1);

    accept_losses(&world.nats).await.unwrap();
    assert_eq!(lost_histories(&world.nats).await.unwrap(), []);
    let decided = async {
        while code(&world.ask(&site("acme"), CommandId::mint(), SITE).await).is_some() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LIMIT, decided).await.expect("the loss is known");
    service.stop().await;
    let service = world.serve().await;
    assert_eq!(read(&world, 0, 10).await, Ok(1));
    service.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn a_history_that_lost_its_end_goes_on_from_what_is_left_when_the_loss_is_known() {
    const CHANGES: usize = 150;
    let world = World::empty("").await;
    let (service, connection) = serve(&world).await;
    let name = stream_of(&customer("acme"));
    let change = |number: usize| format!(r#"{{"lan":["10.{}.{}.0/24"]}}"#, number / 200 + 2, number % 200);
    let changed = async |number: usize| {
        world.ask("acme.demo.site.oslo.change", CommandId::mint(), &change(number)).await
    };
    world.ask("acme.demo.site.oslo.create", CommandId::mint(), SITE).await;
    for number in 0..CHANGES {
        assert_eq!(code(&changed(number).await), None);
    }
    let snapshots = Snapshots::new(world.nats.clone());
    let frozen = snapshots.get(&customer("acme"), wanwright_commands::STATE_VERSION).await.unwrap();
    let beyond = frozen.expect("a snapshot").sequence;
    let partition = subjects::partition(&customer("acme"), PARTITIONS).to_string();
    let all = CHANGES as u64 + 1;
    noted(&world, subjects::INVENTORY_OF_HISTORIES, |body| body["ends"][&partition]["sequence"] == all).await;
    let kept = world.history("acme").await;
    let kept = &kept[..usize::try_from(beyond).unwrap() - 10];
    anew(&world, &name).await;
    for message in kept {
        let sent = world.nats.js.publish(message.subject.clone(), message.payload.clone()).await.unwrap();
        sent.await.unwrap();
    }

    // It saw the end, and the next one knows the snapshot.
    let answer = changed(CHANGES).await;
    assert_eq!(code(&answer), Some(Reason::HistoryDamaged), "{answer:?}");
    connection.client.force_reconnect().await.unwrap();
    reported(&world, "stream", &format!("{name}: it ends at")).await;
    accept_losses(&world.nats).await.unwrap();
    let decided = async {
        while code(&changed(CHANGES).await).is_some() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LIMIT, decided).await.expect("the loss is known");
    assert_eq!(world.history("acme").await.len(), kept.len() + 1);
    service.stop().await;
    let service = world.serve().await;
    assert_eq!(code(&changed(CHANGES + 1).await), None);
    service.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn a_message_that_took_the_place_of_a_lost_one_is_not_taken_for_it() {
    let world = World::empty("").await;
    let service = world.serve().await;
    world.ask("acme.demo.site.oslo.create", CommandId::mint(), SITE).await;
    service.stop().await;
    let name = stream_of(&customer("acme"));
    let other = world.history("acme").await.remove(0);
    anew(&world, &name).await;
    let payload = String::from_utf8(other.payload.to_vec()).unwrap().replace("10.1", "10.9");
    world.nats.js.publish(other.subject, payload.into()).await.unwrap().await.unwrap();

    let service = world.serve().await;
    let answer = world.ask("acme.demo.site.bergen.create", CommandId::mint(), SITE).await;
    assert_eq!(code(&answer), Some(Reason::HistoryDamaged), "{answer:?}");
    reported(&world, "stream", &format!("{name}: message 1 is missing or not the one that was seen")).await;
    service.stop().await;
    world.stop().await;
}
