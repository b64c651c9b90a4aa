//! Streams on a real nats-server.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod hidden;

use std::path::Path;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::{kv, stream};
use futures::TryStreamExt;
use serde_json::json;
use wanwright_nats::claim::{Claimed, Claims};
use wanwright_nats::evidence::Unproven;
use wanwright_nats::inventory;
use wanwright_nats::publish::publish;
use wanwright_nats::{Follower, History, Nats, PlanError, PlanFiles, PlanPlace, StateKeys, topology};
use wanwright_schemas::{Digest, subjects};
use wanwright_supervisor::{NatsOptions, SyncInterval};

async fn server(dir: &Path) -> (wanwright_supervisor::Nats, Nats) {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("programs");
    let mut options = NatsOptions::new(dir, cache);
    options.sync_interval = SyncInterval::Lazy;
    let server = wanwright_supervisor::Nats::start(&options).await.unwrap();
    let nats = wanwright_nats::connect(&server.url_with_login(), "test", 2).await.unwrap();
    (server, nats)
}

#[tokio::test]
async fn a_follower_never_goes_back() {
    let dir = tempfile::tempdir().unwrap();
    let (_server, nats) = server(dir.path()).await;
    let config = stream::Config { name: "S".into(), subjects: vec!["s".into()], ..stream::Config::default() };
    let stream = nats.js.create_stream(config).await.unwrap();
    for number in 1..=3 {
        nats.js.publish("s", number.to_string().into()).await.unwrap().await.unwrap();
    }
    let mut follower = Follower::open(nats.js.clone(), "S", 4).await.unwrap();
    assert!(follower.next_batch(10, Duration::from_millis(200)).await.unwrap().is_empty());
    // The server forgets the consumer, as it does when it starts again or loses a peer.
    let names: Vec<String> = stream.consumer_names().try_collect().await.unwrap();
    for name in names {
        stream.delete_consumer(&name).await.unwrap();
    }
    assert!(follower.next_batch(10, Duration::from_millis(500)).await.unwrap().is_empty());
    nats.js.publish("s", "4".into()).await.unwrap().await.unwrap();
    let batch = follower.next_batch(10, Duration::from_secs(20)).await.unwrap();
    let sequences: Vec<u64> = batch.iter().map(|message| message.sequence).collect();
    assert_eq!(sequences, [4]);
}

#[tokio::test]
async fn a_follower_asks_again_as_soon_as_the_server_is_another_one() {
    let dir = tempfile::tempdir().unwrap();
    let (killed, nats) = server(dir.path()).await;
    let config = stream::Config { name: "S".into(), subjects: vec!["s".into()], ..stream::Config::default() };
    nats.js.create_stream(config).await.unwrap();
    let mut follower = Follower::open(nats.js.clone(), "S", 1).await.unwrap();
    assert!(follower.next_batch(10, Duration::from_millis(200)).await.unwrap().is_empty());
    killed.child().signal(wanwright_supervisor::Signal::KILL);
    drop(killed);
    let (_server, other) = server(dir.path()).await;
    other.js.publish("s", "1".into()).await.unwrap().await.unwrap();
    // The client library alone takes three heartbeats, 15 s.
    let batch = follower.next_batch(10, Duration::from_secs(8)).await.unwrap();
    assert_eq!(batch.len(), 1);
}

#[tokio::test]
async fn a_subscription_counts_when_the_server_has_read_it_and_not_when_it_was_sent() {
    let dir = tempfile::tempdir().unwrap();
    let (server, nats) = server(dir.path()).await;
    server.child().signal(wanwright_supervisor::Signal::STOP);
    let stat = format!("/proc/{}/stat", server.child().id());
    while !std::fs::read_to_string(&stat).unwrap().contains(") T ") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let _subscriber = nats.client.subscribe("asked").await.unwrap();
    nats.client.flush().await.unwrap();
    let mut known = Box::pin(nats.subscribed());
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut known).await.is_err());
    server.child().signal(wanwright_supervisor::Signal::CONT);
    known.await.unwrap();
}

#[tokio::test]
async fn a_record_of_a_server_that_does_not_answer_is_not_one_that_cannot_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let (server, nats) = server(dir.path()).await;
    topology::apply(&nats, 1).await.unwrap();
    let of = subjects::INVENTORY_OF_STREAMS;
    let written = subjects::inventory_by(of, "somebody");
    publish(&nats.js, written, HeaderMap::new(), "7".into()).await.unwrap();
    server.child().signal(wanwright_supervisor::Signal::STOP);
    let read = inventory::read::<u32>(&nats, of).await;
    assert!(read.is_err(), "{read:?}");
    server.child().signal(wanwright_supervisor::Signal::CONT);
    // It may still be about to end the connection.
    let read = async || inventory::read::<u32>(&nats, of).await.ok();
    let mut said = read().await;
    while said.is_none() {
        said = read().await;
    }
    assert!(matches!(said, Some((_, inventory::Said::This(7)))), "{said:?}");
}

#[tokio::test]
async fn a_claim_that_was_claimed_again_is_not_given_back_as_it_was_seen() {
    let dir = tempfile::tempdir().unwrap();
    let (_server, nats) = server(dir.path()).await;
    topology::apply(&nats, 1).await.unwrap();
    let claims = Claims::open(&nats).await.unwrap();
    let Claimed::New(first) = claims.claim("serial/A.1", "acme/d1").await.unwrap() else {
        panic!("not free")
    };
    let (seen, next) = claims.page(0).await.unwrap();
    let [seen] = seen.as_slice() else { panic!("{seen:?}") };
    assert_eq!((seen.name.as_str(), seen.owner.as_str(), next), ("serial/A.1", "acme/d1", None));
    assert_eq!(claims.claim("serial/A.1", "other/d1").await.unwrap(), Claimed::Taken);
    assert_eq!((seen.revision, claims.seen("serial/A.1", "acme/d1").await.unwrap()), (first, Some(first)));
    assert_eq!(claims.seen("serial/A.1", "other/d1").await.unwrap(), None);
    let Claimed::Again { was, now } = claims.claim("serial/A.1", "acme/d1").await.unwrap() else {
        panic!("not his own")
    };
    assert_eq!((was, claims.seen("serial/A.1", "acme/d1").await.unwrap()), (first, Some(now)));
    assert!(!claims.release_seen("serial/A.1", seen.revision).await.unwrap());
    assert!(claims.is_taken("serial/A.1", "other/d1").await.unwrap());

    let again = &claims.page(0).await.unwrap().0[0];
    assert!(again.revision > seen.revision);
    assert!(claims.release_seen("serial/A.1", again.revision).await.unwrap());
    assert!(!claims.release_seen("serial/A.1", again.revision).await.unwrap());
    assert_eq!(claims.page(0).await.unwrap(), (Vec::new(), None));
    assert_eq!(claims.seen("serial/A.1", "acme/d1").await.unwrap(), None);
    assert!(matches!(claims.claim("serial/A.1", "other/d1").await.unwrap(), Claimed::New(_)));
}

#[tokio::test]
async fn claims_are_paged_oldest_first() {
    let dir = tempfile::tempdir().unwrap();
    let (_server, nats) = server(dir.path()).await;
    topology::apply(&nats, 1).await.unwrap();
    let claims = Claims::open(&nats).await.unwrap();
    for number in 0..600 {
        claims.claim(&format!("serial/{number:04}"), "acme/d").await.unwrap();
    }
    let (mut all, mut after) = (Vec::new(), Some(0));
    while let Some(from) = after {
        let (page, next) = claims.page(from).await.unwrap();
        assert!(page.len() <= 256);
        all.extend(page.into_iter().map(|held| held.name));
        after = next;
    }
    let wanted: Vec<String> = (0..600).map(|number| format!("serial/{number:04}")).collect();
    assert_eq!(all, wanted);
}

#[tokio::test]
async fn a_bucket_that_differs_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (_server, nats) = server(dir.path()).await;
    topology::apply(&nats, 1).await.unwrap();
    assert_eq!(topology::plan(&nats, 1).await.unwrap(), topology::Plan::default());

    nats.js.delete_key_value(topology::LEASES).await.unwrap();
    let config = kv::Config {
        bucket: topology::LEASES.to_owned(),
        max_age: Duration::from_secs(60),
        ..kv::Config::default()
    };
    nats.js.create_key_value(config).await.unwrap();
    let plan = topology::plan(&nats, 1).await.unwrap();
    assert_eq!(plan.differences, ["  KV_leases: max age is \"60s\", should be \"9s\""]);
    assert!(topology::apply(&nats, 1).await.is_err());
}

#[tokio::test]
async fn the_partition_of_a_customer_is_the_servers_own() {
    let dir = tempfile::tempdir().unwrap();
    let (_server, nats) = server(dir.path()).await;
    let transform = stream::SubjectTransform {
        source: "in.*".into(),
        destination: "out.{{partition(8,1)}}.{{wildcard(1)}}".into(),
    };
    let config = stream::Config {
        name: "P".into(),
        subjects: vec!["in.*".into()],
        subject_transform: Some(transform),
        ..stream::Config::default()
    };
    nats.js.create_stream(config).await.unwrap();
    let mut follower = Follower::open(nats.js.clone(), "P", 1).await.unwrap();
    for name in ["acme", "globex", "initech", "a", "0", "customer-00042", "z-9-z", "wan"] {
        nats.js.publish(format!("in.{name}"), "".into()).await.unwrap().await.unwrap();
        let stored = follower.next_batch(1, Duration::from_secs(10)).await.unwrap().remove(0).subject;
        let ours = subjects::partition(&name.parse().unwrap(), 8);
        assert_eq!(stored, format!("out.{ours}.{name}"));
    }
}

#[tokio::test]
async fn a_plan_file_opens_as_itself_only() {
    let dir = tempfile::tempdir().unwrap();
    let (_server, nats) = server(dir.path()).await;
    topology::apply(&nats, 1).await.unwrap();
    let keys = StateKeys::new(dir.path().join("keys/state.key"));
    keys.check(None).unwrap();
    let plans = PlanFiles::new(nats.clone(), keys.clone());
    let place = |stack: &str, file: &[u8], serial: i64| PlanPlace {
        stack: stack.to_owned(),
        hash: Digest::of(file),
        serial,
        lineage: "l".to_owned(),
    };
    // Larger than a message; and a second one takes its place.
    let (large, small) = (vec![7; 3 << 20], b"small".to_vec());
    let here = place("s", &large, 3);
    assert!(matches!(plans.get(&here).await, Err(PlanError::Missing)));
    plans.put(&here, &large).await.unwrap();
    assert_eq!(plans.get(&here).await.unwrap(), large);
    plans.put(&place("s", &small, 4), &small).await.unwrap();
    assert!(matches!(plans.get(&here).await, Err(PlanError::Missing)), "another one is there by now");
    let here = place("s", &small, 4);
    // Any executor with the key finds it.
    assert_eq!(PlanFiles::new(nats.clone(), keys).get(&here).await.unwrap(), small);
    for other in [place("t", &small, 4), place("s", b"other", 4)] {
        assert!(matches!(plans.get(&other).await, Err(PlanError::Missing)), "{other:?}");
    }
    for other in [place("s", &small, 5), PlanPlace { lineage: "m".to_owned(), ..here.clone() }] {
        assert!(matches!(plans.get(&other).await, Err(PlanError::Damaged(_))), "{other:?}");
    }
    // The sealed bytes of one stack under the subject of another, with headers that fit.
    let stored =
        wanwright_nats::load_subject(&nats, topology::PLANS, "wan.plan.s", 0).await.unwrap().pop().unwrap();
    let put = async |body: Vec<u8>| {
        let mut headers = stored.headers.clone();
        headers.insert("Wan-Sha256", Digest::of(&body).to_string().as_str());
        nats.js.publish_with_headers("wan.plan.t", headers, body.into()).await.unwrap().await.unwrap();
    };
    put(stored.payload.to_vec()).await;
    assert!(matches!(plans.get(&place("t", &small, 4)).await, Err(PlanError::Damaged(_))));
    for at in 0..stored.payload.len() {
        let mut body = stored.payload.to_vec();
        body[at] ^= 1;
        put(body).await;
        assert!(matches!(plans.get(&place("t", &small, 4)).await, Err(PlanError::Damaged(_))), "{at}");
    }
    plans.forget("s").await.unwrap();
    assert!(matches!(plans.get(&here).await, Err(PlanError::Missing)));
}

#[tokio::test]
async fn a_history_is_not_proven_where_its_stream_lost_what_was_seen_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let (server, nats) = server(dir.path()).await;
    topology::apply(&nats, 1).await.unwrap();
    let acme = "acme".parse().unwrap();
    let (partition, subject) = (subjects::partition(&acme, 2), subjects::events(&acme, 2));
    let store = async |body: &'static str| {
        nats.js.publish(subject.clone(), body.into()).await.unwrap().await.unwrap();
    };
    let write = async |writer: &str, record: String| {
        let subject = subjects::inventory_by(subjects::INVENTORY_OF_HISTORIES, writer);
        nats.js.publish(subject, record.into()).await.unwrap().await.unwrap();
    };
    let end = json!({ "sequence": 2, "body": Digest::of(b"two") });
    write("one", json!({ "v": 1, "ends": { partition.to_string(): end } }).to_string()).await;
    store("one").await;
    let prove = async |nats: &Nats| History::new(nats.clone()).prove(&acme, None).await;
    let lost = prove(&nats).await.unwrap_err();
    assert!(matches!(lost, Unproven::Lost { .. }), "{lost}");
    assert!(lost.to_string().contains("it ends at 1, and was seen up to 2"), "{lost}");
    store("two").await;
    assert_eq!(prove(&nats).await.unwrap().messages, 2);

    // A record that cannot be read holds up nobody.
    write("other", "{".to_owned()).await;
    let again = wanwright_nats::connect(&server.url_with_login(), "test", 2).await.unwrap();
    assert_eq!(prove(&again).await.unwrap().messages, 2);
    // What was stored instead is not what was seen.
    let other = json!({ "sequence": 2, "body": Digest::of(b"other") });
    write("one", json!({ "v": 1, "ends": { partition.to_string(): other } }).to_string()).await;
    assert_eq!(prove(&again).await.unwrap().messages, 2, "it was compared over this connection");
    let again = wanwright_nats::connect(&server.url_with_login(), "test", 2).await.unwrap();
    assert!(matches!(prove(&again).await, Err(Unproven::Lost { .. })));
}
