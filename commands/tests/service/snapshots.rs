//! A load begins at a snapshot, which is believed as far as the history goes through it.

use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use wanwright_commands::{Head, STATE_VERSION};
use wanwright_nats::{Snapshot, Snapshots, topology};
use wanwright_schemas::{CommandId, Outcome, Reason, subjects};

use crate::world::{LIMIT, SITE, World, code, customer};

const CHANGE: &str = "acme.demo.site.oslo.change";

async fn change(world: &World, number: usize) -> Outcome {
    world.ask(CHANGE, CommandId::mint(), &format!(r#"{{"lan":["10.{}.0.0/24"]}}"#, number % 250)).await
}

/// A customer with enough of a history for a snapshot, and the snapshot.
async fn frozen(world: &World) -> Snapshot {
    world.ask("acme.demo.site.oslo.create", CommandId::mint(), SITE).await;
    let snapshots = Snapshots::new(world.nats.clone());
    for number in 0..2000 {
        change(world, number).await;
        if let Some(snapshot) = snapshots.get(&customer("acme"), STATE_VERSION).await.unwrap() {
            return snapshot;
        }
    }
    panic!("no snapshot was made");
}

#[tokio::test]
async fn a_service_goes_on_from_a_snapshot_that_fits() {
    let world = World::new().await;
    let snapshot = frozen(&world).await;
    let mut folded = Head::default();
    for message in world.history("acme").await {
        if message.sequence <= snapshot.sequence {
            folded.fold(message.sequence, &message.payload).unwrap();
        }
    }
    let thawed = Head::thaw(&snapshot.state).unwrap();
    assert_eq!((thawed.state, thawed.digest, thawed.recent), (folded.state, folded.digest, folded.recent));

    // A state that the history cannot tell shows that the service began there.
    let mut other = Head::thaw(&snapshot.state).unwrap();
    let ghost = other.state.sites.values().next().unwrap().clone();
    other.state.sites.insert("ghost".parse().unwrap(), ghost);
    let snapshots = Snapshots::new(world.nats.clone());
    let state = Bytes::from(other.freeze().unwrap());
    snapshots.put(&customer("acme"), &Snapshot { state, ..snapshot.clone() }).await.unwrap();
    world.restart().await;
    let answer = world.ask("acme.demo.site.ghost.create", CommandId::mint(), SITE).await;
    assert_eq!(code(&answer), Some(Reason::AlreadyExists), "{answer:?}");
    // Another version of the state reads the history.
    assert_eq!(snapshots.get(&customer("acme"), STATE_VERSION + 1).await.unwrap(), None);
    world.stop().await;
}

#[tokio::test]
async fn a_snapshot_of_an_earlier_stream_is_believed_where_the_messages_are_the_same() {
    let world = World::new().await;
    let snapshot = frozen(&world).await;
    let (acme, snapshots) = (customer("acme"), Snapshots::new(world.nats.clone()));
    let earlier = Snapshot { incarnation: jiff::Timestamp::UNIX_EPOCH, ..snapshot.clone() };
    assert_ne!(earlier.incarnation, snapshot.incarnation);

    // The stream was brought back from a backup, say: its messages are what counts.
    let mut other = Head::thaw(&snapshot.state).unwrap();
    let ghost = other.state.sites.values().next().unwrap().clone();
    other.state.sites.insert("ghost".parse().unwrap(), ghost);
    let state = Bytes::from(other.freeze().unwrap());
    snapshots.put(&acme, &Snapshot { state, ..earlier.clone() }).await.unwrap();
    world.restart().await;
    let answer = world.ask("acme.demo.site.ghost.create", CommandId::mint(), SITE).await;
    assert_eq!(code(&answer), Some(Reason::AlreadyExists), "{answer:?}");

    // It went on in another way: what this service has not seen, the snapshot has.
    let mut other = Head::thaw(&snapshot.state).unwrap();
    other.digest = Some(wanwright_schemas::Digest::of(b"what that stream had there"));
    let state = Bytes::from(other.freeze().unwrap());
    snapshots.put(&acme, &Snapshot { state, ..earlier }).await.unwrap();
    world.restart().await;
    assert_eq!(code(&change(&world, 2).await), Some(Reason::HistoryDamaged));
    world.stop().await;
}

#[tokio::test]
async fn a_long_history_of_few_things_is_frozen_as_often_as_a_short_one() {
    const CHANGES: usize = 2000;
    let world = World::new().await;
    let mut made = world.nats.client.subscribe(subjects::snapshot(&customer("acme"))).await.unwrap();
    world.nats.client.flush().await.unwrap();
    world.ask("acme.demo.site.oslo.create", CommandId::mint(), SITE).await;
    let changes = (0..CHANGES).map(|number| change(&world, number).boxed_local());
    let changes: Vec<_> = changes.collect();
    let refused = futures::stream::iter(changes).buffered(16).filter(|done| {
        let is_refused = done.refusal().is_some();
        async move { is_refused }
    });
    assert_eq!(refused.count().await, 0);

    let (mut before, mut paces) = (0, Vec::new());
    while before + 150 < CHANGES as u64 {
        let snapshot = tokio::time::timeout(LIMIT, made.next()).await.expect("a snapshot").unwrap();
        let head = snapshot.headers.expect("headers");
        let messages: u64 = head.get("Wan-Messages").unwrap().as_str().parse().unwrap();
        paces.push(messages - before);
        before = messages;
    }
    let newest = Snapshots::new(world.nats.clone()).get(&customer("acme"), STATE_VERSION).await.unwrap();
    let largest = newest.expect("a snapshot").state.len();
    // Each command that is remembered takes 18 bytes at most; the rest is one site.
    assert!(largest < 4096 + 18 * CHANGES, "{largest}");
    // One in 32, and one more for each 8 KiB that it takes, with what comes while a state is frozen.
    let most = 32 + (largest as u64).div_ceil(8192) + 16;
    assert!(paces.iter().all(|pace| (32..=most).contains(pace)), "{paces:?}, at most {most}");
    world.stop().await;
}

#[tokio::test]
async fn a_damaged_snapshot_is_none_and_a_history_that_misses_it_is_damaged() {
    let world = World::new().await;
    let snapshot = frozen(&world).await;
    let (acme, snapshots) = (customer("acme"), Snapshots::new(world.nats.clone()));
    let subject = subjects::snapshot(&acme);
    let stored = world.stored(topology::SNAPSHOTS, &subject).await.remove(0);

    let mut bytes = stored.payload.to_vec();
    bytes[10] ^= 1;
    for payload in [bytes, b"no snapshot".to_vec(), Vec::new()] {
        let js = &world.nats.js;
        let sent = js.publish_with_headers(subject.clone(), stored.headers.clone(), payload.into()).await;
        sent.unwrap().await.unwrap();
        assert_eq!(snapshots.get(&acme, STATE_VERSION).await.unwrap(), None);
        world.restart().await;
        assert!(change(&world, 1).await.refusal().is_none());
        // Reading the whole history makes a new one.
        let again = async { while snapshots.get(&acme, STATE_VERSION).await.unwrap().is_none() {} };
        tokio::time::timeout(LIMIT, again).await.unwrap();
    }

    // It was made of a message that the history does not have.
    let mut other = Head::thaw(&snapshot.state).unwrap();
    other.digest = Some(wanwright_schemas::Digest::of(b"another message"));
    let state = Bytes::from(other.freeze().unwrap());
    snapshots.put(&acme, &Snapshot { state, ..snapshot.clone() }).await.unwrap();
    world.restart().await;
    assert_eq!(code(&change(&world, 2).await), Some(Reason::HistoryDamaged));

    let mut later = Head::thaw(&snapshot.state).unwrap();
    later.sequence += 100_000;
    let (state, sequence) = (Bytes::from(later.freeze().unwrap()), later.sequence);
    snapshots.put(&acme, &Snapshot { state, sequence, ..snapshot }).await.unwrap();
    world.restart().await;
    assert_eq!(code(&change(&world, 3).await), Some(Reason::HistoryDamaged));
    world.stop().await;
}

#[tokio::test]
async fn a_large_snapshot_is_kept_in_parts_and_a_torn_one_is_none() {
    let world = World::new().await;
    let (acme, snapshots) = (customer("acme"), Snapshots::new(world.nats.clone()));
    // Random enough not to shrink.
    let mut state = Vec::new();
    let mut seed = wanwright_schemas::Digest::of(b"seed");
    while state.len() < 3 << 20 {
        state.extend_from_slice(&seed.bytes());
        seed = wanwright_schemas::Digest::of(&seed.bytes());
    }
    for sequence in [7, 8] {
        let incarnation = jiff::Timestamp::UNIX_EPOCH;
        let large = Snapshot { version: 1, sequence, messages: 5, incarnation, state: state.clone().into() };
        snapshots.put(&acme, &large).await.unwrap();
        assert_eq!(snapshots.get(&acme, 1).await.unwrap(), Some(large));
    }
    let subject = subjects::snapshot(&acme);
    let parts = world.stored(topology::SNAPSHOTS, &subject).await;
    assert_eq!(parts.len(), 7, "the one before is gone");
    let stream = world.nats.js.get_stream(topology::SNAPSHOTS).await.unwrap();
    stream.delete_message(parts[6].sequence).await.unwrap();
    assert_eq!(snapshots.get(&acme, 1).await.unwrap(), None);
    world.stop().await;
}
