//! The customers are spread over another number of partitions, and nobody can tell from their histories.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::HeaderMap;
use futures::{FutureExt, StreamExt};
use serde_json::{Value, json};
use wanwright_commands::{Head, service::Options};
use wanwright_nats::repartition::{self, RepartitionError, Report};
use wanwright_nats::{Nats, NatsError, StoredMessage, topology};
use wanwright_schemas::{CommandId, Outcome, Reason, subjects};
use wanwright_vendors::Catalogue;

use crate::proxy::Proxy;
use crate::world::{LIMIT, PARTITIONS, SITE, World, code, customer, with};

const CUSTOMERS: usize = 200;

/// A command and its outcome.
#[derive(Clone)]
struct Said {
    tail: String,
    id: CommandId,
    body: String,
    outcome: Value,
}

/// What a history says, wherever it is stored.
type Told = Vec<(HeaderMap, bytes::Bytes)>;

fn names() -> Vec<String> {
    (0..CUSTOMERS).map(|number| format!("customer-{number:03}")).collect()
}

/// An outcome without what has to differ: where the events are, and that it is a repeat.
fn plain(outcome: &Outcome) -> Value {
    let mut value = serde_json::to_value(outcome).unwrap();
    let fields = value.as_object_mut().unwrap();
    fields.remove("position");
    fields.remove("repeated");
    value
}

async fn say(world: &World, tail: String, body: String) -> Said {
    let id = CommandId::mint();
    let outcome = plain(&world.ask(&tail, id, &body).await);
    Said { tail, id, body, outcome }
}

/// Some life of a customer: the last accepted command and a refused one are repeated later.
async fn live(world: &World, name: &str) -> Vec<Said> {
    say(world, format!("{name}.demo.site.oslo.create"), SITE.to_owned()).await;
    for vlan in 0..3 {
        let body = json!({ "settings": { "location": format!("room {vlan}") } }).to_string();
        say(world, format!("{name}.demo.site.oslo.change"), body).await;
    }
    let last = json!({ "lan": ["10.9.0.0/24"] }).to_string();
    vec![
        say(world, format!("{name}.demo.site.oslo.change"), last).await,
        say(world, format!("{name}.demo.site.bergen.change"), "{}".to_owned()).await,
    ]
}

async fn everybody<T>(act: impl AsyncFn(String) -> T) -> Vec<T> {
    let acts: Vec<_> = names().into_iter().map(|name| act(name).boxed_local()).collect();
    futures::stream::iter(acts).buffered(32).collect().await
}

fn own(message: StoredMessage) -> (HeaderMap, bytes::Bytes) {
    let mut headers = HeaderMap::new();
    for (name, values) in message.headers.iter().filter(|(name, _)| !name.to_string().starts_with("Nats-")) {
        values.iter().for_each(|value| headers.append(name.clone(), value.clone()));
    }
    (headers, message.payload)
}

async fn history(world: &World, name: &str, partitions: u16) -> Vec<StoredMessage> {
    let of = customer(name);
    let stream = subjects::events_stream(subjects::partition(&of, partitions));
    world.stored(&stream, &subjects::events(&of, partitions)).await
}

async fn histories(world: &World, partitions: u16) -> Vec<Told> {
    everybody(async |name| history(world, &name, partitions).await.into_iter().map(own).collect()).await
}

/// Every history is a chain under this count.
async fn whole(world: &World, partitions: u16) {
    everybody(async |name| {
        let mut head = Head::default();
        for message in history(world, &name, partitions).await {
            head.fold(message.sequence, &message.payload).unwrap();
        }
        assert!(head.sequence > 0, "{name} has no history under {partitions} partitions");
    })
    .await;
}

async fn repeated(world: &World, said: &[Said]) {
    let repeats = said.iter().map(async |said| {
        let again = world.ask(&said.tail, said.id, &said.body).await;
        assert!(again.repeated, "{again:?}");
        assert_eq!(plain(&again), said.outcome);
    });
    let repeats: Vec<_> = repeats.map(FutureExt::boxed_local).collect();
    futures::stream::iter(repeats).buffered(32).collect::<Vec<()>>().await;
}

async fn change(nats: &Nats, to: u16) -> Result<Report, RepartitionError> {
    repartition::run(nats, to, "test", &|_| ()).await
}

/// Ends a change where it stands after so many messages; its lease is as if its time had run out.
async fn killed(nats: &Nats, to: u16, after: u64) {
    let (seen, reached) = (AtomicU64::new(0), tokio::sync::Notify::new());
    let tell = |_| {
        if seen.fetch_add(1, Ordering::Relaxed) + 1 == after {
            reached.notify_one();
        }
    };
    tokio::select! {
        biased;
        () = reached.notified() => {}
        done = repartition::run(nats, to, "killed", &tell) => panic!("it was through before {after}: {done:?}"),
    }
    nats.js.get_key_value(topology::PARTITIONS).await.unwrap().purge("repartition").await.unwrap();
}

async fn settled(nats: &Nats, partitions: u16) {
    let nats = nats.clone().with_servers_partitions().await.unwrap();
    assert_eq!(nats.partitions, partitions);
    assert_eq!(topology::plan(&nats, 1).await.unwrap(), topology::Plan::default());
}

#[tokio::test]
async fn histories_survive_every_change_of_the_count() {
    let world = World::empty("").await;
    let nats = &world.nats;
    let service = world.serve().await;
    let mut said: Vec<Said> = everybody(async |name| live(&world, &name).await).await.concat();
    let refused = change(nats, 32).await.unwrap_err();
    assert!(matches!(refused, RepartitionError::Held { .. }), "{refused}");
    service.stop().await;
    let told = histories(&world, PARTITIONS).await;

    // Nobody may change it to something else in the middle, nobody may start, and whoever knew the old count stops.
    let all: u64 = told.iter().map(|history| history.len() as u64).sum();
    let mut seed = 7_u64;
    for kill in 0..4 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        killed(nats, 32, 1 + (seed >> 33) % (all / 4)).await;
        let other = change(nats, 16).await.unwrap_err();
        assert!(matches!(other, RepartitionError::Unfinished { from: 8, to: 32 }), "{kill}: {other}");
        let start = nats.clone().with_servers_partitions().await.unwrap_err();
        assert!(start.to_string().contains("wanwright nats repartition 32"), "{start}");
    }
    let (late, _) = World::launch(nats.clone(), vendors(), Options::default());
    let why = late.ends().await;
    assert!(matches!(why, NatsError::Repartitioning { from: 8, to: 32 }), "{why}");
    released(nats).await;

    let report = change(nats, 32).await.unwrap();
    assert!(report.plan.begun && report.plan.present > 0 && report.copied > 0, "{report:?}");
    assert_eq!(report.copied + report.plan.present, report.plan.messages);
    assert_eq!(report.damaged, []);
    settled(nats, 32).await;
    assert_eq!(histories(&world, 32).await, told);
    assert_eq!(histories(&world, PARTITIONS).await, told, "nothing is removed from a stream of events");
    whole(&world, 32).await;

    // Whoever still counts 8 finds out before it serves anything.
    let (late, _) = World::launch(nats.clone(), vendors(), Options::default());
    let why = late.ends().await;
    assert!(matches!(why, NatsError::OtherPartitions { known: 8, found: 32 }), "{why}");
    released(nats).await;
    let service = world.serve().await;
    repeated(&world, &said).await;
    said.extend(everybody(async |name| live_on(&world, &name, "32").await).await);
    service.stop().await;
    let told = histories(&world, 32).await;

    // Back again, over what was left there.
    killed(nats, PARTITIONS, all * 2 / 3).await;
    let report = change(nats, PARTITIONS).await.unwrap();
    assert!(report.plan.streams.is_empty(), "{report:?}");
    settled(nats, PARTITIONS).await;
    assert_eq!(histories(&world, PARTITIONS).await, told);
    whole(&world, PARTITIONS).await;
    let service = world.serve().await;
    let last: Vec<Said> = said.into_iter().filter(|said| !said.tail.ends_with("oslo.change")).collect();
    repeated(&world, &last).await;
    let new = everybody(async |name| live_on(&world, &name, "8").await).await;
    assert!(new.iter().all(|said| said.outcome["status"] == "accepted"));
    service.stop().await;
}

/// A command that is new, and accepted.
async fn live_on(world: &World, name: &str, site: &str) -> Said {
    let body = SITE.replace("10.1.", &format!("10.1{site}."));
    let said = say(world, format!("{name}.demo.site.new-{site}.create"), body).await;
    assert_eq!(said.outcome["status"], "accepted", "{}", said.outcome);
    said
}

fn vendors() -> Catalogue {
    Catalogue::load(concat!(env!("CARGO_MANIFEST_DIR"), "/../vendors")).unwrap()
}

/// Waits until the leases of a service that ended have run out.
async fn released(nats: &Nats) {
    let leases = wanwright_nats::Leases::of_partitions(nats, "test").await.unwrap();
    let free = async {
        for partition in 0..PARTITIONS {
            while leases.holder(&partition.to_string()).await.unwrap().is_some() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    tokio::time::timeout(LIMIT, free).await.unwrap();
}

#[tokio::test]
async fn what_does_not_fit_stops_it_before_anything_is_written() {
    let world = World::empty("").await;
    let nats = &world.nats;
    let service = world.serve().await;
    for name in ["acme", "globex"] {
        live(&world, name).await;
    }
    service.stop().await;
    let acme = customer("acme");
    let (from, to) = (subjects::partition(&acme, 8), subjects::partition(&acme, 32));
    assert_ne!(from, to);

    // A command that nobody has handled yet.
    world.put("acme.demo.site.oslo.change", CommandId::mint(), "{}".into()).await;
    assert!(matches!(change(nats, 32).await.unwrap_err(), RepartitionError::Inbox(1)));
    let service = world.serve().await;
    world.inbox_is_empty().await;
    service.stop().await;

    // Somebody who reads the events.
    let stream = nats.js.get_stream_no_info(subjects::events_stream(from)).await.unwrap();
    let config = async_nats::jetstream::consumer::pull::Config {
        durable_name: Some("somebody".to_owned()),
        filter_subject: "wan.evt.0.nobody".to_owned(),
        ..Default::default()
    };
    let consumer = stream.create_consumer(config).await.unwrap();
    let mut messages = consumer.messages().await.unwrap();
    let waiting = tokio::time::timeout(Duration::from_millis(200), messages.next()).await;
    assert!(waiting.is_err());
    let reading = change(nats, 32).await.unwrap_err();
    assert!(
        matches!(&reading, RepartitionError::Reading { reader, .. } if reader == "somebody"),
        "{reading}"
    );
    drop(messages);
    stream.delete_consumer("somebody").await.unwrap();

    // Somebody has written where the history is to go.
    let name = subjects::events_stream(to);
    let config = topology::streams(32, 1).into_iter().find(|config| config.name == name).unwrap();
    nats.js.create_stream(config).await.unwrap();
    let mut forged = history(&world, "acme", 8).await.remove(0);
    forged.payload = b"{}".as_slice().into();
    let target = subjects::events(&acme, 32);
    nats.js.publish(target.clone(), forged.payload).await.unwrap().await.unwrap();
    for refused in [repartition::plan(nats, 32).await.unwrap_err(), change(nats, 32).await.unwrap_err()] {
        let text = refused.to_string();
        assert!(
            text.starts_with(&format!("{name} message 1 is not a part of the history of acme")),
            "{text}"
        );
    }
    settled(nats, 8).await;
    assert_eq!(world.stored(&name, &target).await.len(), 1, "nothing was added to it");
    let service = world.serve().await;
    live_on(&world, "acme", "8").await;
    service.stop().await;
}

#[tokio::test]
async fn a_change_that_was_begun_can_be_taken_back() {
    let world = World::empty("").await;
    let nats = &world.nats;
    let service = world.serve().await;
    let said: Vec<Said> = everybody(async |name| live(&world, &name).await).await.concat();
    service.stop().await;
    let told = histories(&world, 8).await;
    killed(nats, 32, 300).await;
    let plan = repartition::plan(nats, 8).await.unwrap();
    assert!((plan.from, plan.to, plan.moving, plan.begun) == (8, 8, 0, true), "{plan:?}");

    // What is sent meanwhile is kept for the new partitions, and would be lost with them.
    world.put("customer-001.demo.site.oslo.change", CommandId::mint(), "{}".into()).await;
    assert!(matches!(change(nats, 8).await.unwrap_err(), RepartitionError::NoWayBack));
    let inbox = nats.js.get_stream_no_info(topology::COMMANDS).await.unwrap();
    inbox.purge().await.unwrap();
    change(nats, 8).await.unwrap();
    settled(nats, 8).await;
    assert_eq!(histories(&world, 8).await, told);
    let service = world.serve().await;
    repeated(&world, &said).await;
    service.stop().await;

    // And begun again, over what the first one has left; what is sent meanwhile is handled afterwards.
    killed(nats, 32, 700).await;
    let id = CommandId::mint();
    world.put("customer-001.demo.site.oslo.change", id, r#"{"lan":["10.77.0.0/24"]}"#.into()).await;
    change(nats, 32).await.unwrap();
    settled(nats, 32).await;
    let service = world.serve().await;
    let outcome = world.outcome("customer-001", id).await;
    assert!(outcome.position().is_some(), "{outcome:?}");
    service.stop().await;
}

#[tokio::test]
async fn what_is_appended_when_the_count_has_changed_is_accepted_by_nobody_and_decided_once_afterwards() {
    const CHANGE: &str = "acme.demo.site.oslo.change";
    const BODY: &str = r#"{"lan":["10.77.0.0/24"]}"#;
    let world = World::empty("").await;
    let nats = &world.nats;
    // What is published with headers into a history: an append, and nothing else.
    let proxy = Proxy::of_what_is_told(&world.url(), "HPUB wan.evt.").await;
    let slow = wanwright_nats::connect(&proxy.url, "slow", PARTITIONS).await.unwrap();
    let (service, ready) = World::launch(slow, vendors(), Options::default());
    tokio::time::timeout(LIMIT, ready).await.unwrap().unwrap();
    let made = world.ask("acme.demo.site.oslo.create", CommandId::mint(), SITE).await;
    assert!(made.position().is_some(), "{made:?}");

    // The service looked at its lease, decided, and stands still before its append is on its way.
    proxy.arm();
    let id = CommandId::mint();
    let asked = nats.client.request_with_headers(format!("wan.do.{CHANGE}"), with(id), BODY.into());
    let meanwhile = async {
        proxy.met().await;
        // Who holds a lease takes it for lost after two thirds of its time.
        let run_out = tokio::time::Instant::now() + topology::PARTITION_LEASE_TIME * 2 / 3;
        let leases = nats.js.get_key_value(topology::PARTITIONS).await.unwrap();
        for partition in 0..PARTITIONS {
            leases.purge(partition.to_string()).await.unwrap();
        }
        let report = change(nats, 32).await.unwrap();
        assert_eq!((report.plan.moving, report.copied), (1, 1), "{report:?}");
        // By its own clock the service has lost its lease as well, and still waits for the append.
        tokio::time::sleep_until(run_out).await;
        proxy.go_on();
    };
    let (answer, ()) = tokio::join!(asked, meanwhile);
    let answer: Outcome = serde_json::from_slice(&answer.unwrap().payload).unwrap();
    assert_eq!(code(&answer), Some(Reason::Unavailable), "nobody reads what was appended: {answer:?}");
    let why = service.ends().await;
    assert!(matches!(why, NatsError::OtherPartitions { known: PARTITIONS, found: 32 }), "{why}");
    assert_eq!(history(&world, "acme", PARTITIONS).await.len(), 2, "it was appended under the old count");
    assert_eq!(history(&world, "acme", 32).await.len(), 1);

    // Whoever asks again under the same id gets it decided, once.
    let service = world.serve().await;
    let first = world.ask(CHANGE, id, BODY).await;
    assert!(first.position().is_some() && !first.repeated, "{first:?}");
    assert!(world.ask(CHANGE, id, BODY).await.repeated);
    assert_eq!(history(&world, "acme", 32).await.len(), 2);
    service.stop().await;
}
