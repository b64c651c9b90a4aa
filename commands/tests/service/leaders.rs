//! A server whose files are damaged looks healthy and may lead: nothing is decided on what it answers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::jetstream::stream::ClusterInfo;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;
use wanwright_commands::service::Options;
use wanwright_nats::inventory::{AGREED, End, lacks};
use wanwright_nats::replicas::{Damaged, Progress, damaged, repair};
use wanwright_nats::topology::DEAD;
use wanwright_nats::{Nats, NatsError, stream_info, topology};
use wanwright_schemas::{CommandId, CustomerId, Digest, Outcome, Reason, subjects};
use wanwright_supervisor::{NatsCluster, NatsOptions, SyncInterval};
use wanwright_vendors::Catalogue;

use crate::world::{LIMIT, PARTITIONS, SITE, Service, World, code, customer, stream_of, with};

/// The server that is damaged; connections are made to the first one, so they stay.
const DAMAGED: &str = "node-2";

/// A server begins another block after 8 MiB: with so many messages of that length the first block is none it still writes to.
const FILLERS: usize = 40;
const FILLER: usize = 256 * 1024;

/// How long a repair may take in which nobody is slow to stop and start the server.
const REPAIRED: Duration = Duration::from_secs(60);

struct Cluster {
    nats: Nats,
    servers: NatsCluster,
    dir: tempfile::TempDir,
}

impl Cluster {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("programs");
        let mut options = NatsOptions::new(dir.path(), cache);
        options.sync_interval = SyncInterval::Lazy;
        let servers = NatsCluster::start(&options, 3).await.unwrap();
        let nats =
            wanwright_nats::connect(&servers.url_with_login().unwrap(), "test", PARTITIONS).await.unwrap();
        let made = async {
            while topology::apply(&nats, 3).await.is_err() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(3 * LIMIT, made).await.unwrap();
        Self { nats, servers, dir }
    }

    async fn serve(&self) -> Service {
        let serving = async {
            loop {
                let url = self.servers.url_with_login().unwrap();
                let nats = wanwright_nats::connect(&url, "test", PARTITIONS).await.unwrap();
                let vendors = Catalogue::load(concat!(env!("CARGO_MANIFEST_DIR"), "/../vendors")).unwrap();
                let (service, opened) = World::launch(nats, vendors, Options::default());
                if opened.await.is_ok() {
                    return service;
                }
                // A stream may have had no leader yet: whoever runs it starts it again.
                eprintln!("started again: {}", service.ends().await);
            }
        };
        tokio::time::timeout(3 * LIMIT, serving).await.unwrap()
    }

    /// Asks until it is decided, under one id.
    async fn ask(&self, tail: &str, body: &str) -> Outcome {
        let headers = with(CommandId::mint());
        let asking = async {
            loop {
                let asked =
                    async_nats::Request::new().headers(headers.clone()).payload(body.to_owned().into());
                let asked = asked.timeout(Some(LIMIT / 2));
                let answered = self.nats.client.send_request(format!("wan.do.{tail}"), asked).await;
                let outcome =
                    answered.ok().map(|answer| serde_json::from_slice::<Outcome>(&answer.payload).unwrap());
                // Other streams of the server that was killed may still be without a leader.
                if let Some(outcome) = outcome.filter(|outcome| code(outcome) != Some(Reason::Unavailable)) {
                    return outcome;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(3 * LIMIT, asking).await.expect("an outcome")
    }

    /// Gives the stream of a customer's history several blocks.
    async fn fill(&self, customer: &CustomerId) {
        let other = subjects::events(customer, PARTITIONS).replace(&customer.to_string(), "filler");
        for _ in 0..FILLERS {
            let sent = self.nats.js.publish(other.clone(), vec![b'x'; FILLER].into()).await.unwrap();
            sent.await.unwrap();
        }
    }

    /// The damaged replicas, once there are any.
    async fn found(&self) -> Vec<Damaged> {
        let found = async {
            loop {
                let found = damaged(&self.nats).await.unwrap();
                if !found.is_empty() {
                    return found;
                }
            }
        };
        tokio::time::timeout(3 * LIMIT, found).await.expect("a damaged replica")
    }

    async fn info(&self, stream: &str) -> Option<ClusterInfo> {
        self.nats.js.get_stream(stream).await.ok()?.cached_info().cluster.clone()
    }

    /// Waits until the servers that keep a stream are like this.
    async fn until(&self, stream: &str, is_so: impl Fn(&ClusterInfo) -> bool) {
        let so = async {
            while !self.info(stream).await.is_some_and(|info| is_so(&info)) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(3 * LIMIT, so).await.unwrap();
    }

    /// Has this server lead a stream.
    async fn lead(&self, stream: &str, server: &str) {
        let request = format!("$JS.API.STREAM.LEADER.STEPDOWN.{stream}");
        let body = format!(r#"{{"placement":{{"preferred":"{server}"}}}}"#);
        let led = async {
            while self.info(stream).await.and_then(|info| info.leader).as_deref() != Some(server) {
                let _ = self.nats.client.request(request.clone(), body.clone().into()).await;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        tokio::time::timeout(3 * LIMIT, led).await.unwrap();
    }

    /// Damages the first block that the server has of a stream, from its first message on. The server that reads its blocks
    /// when it starts, because it was killed and has no index, leaves out what it cannot read.
    fn damage(&self, stream: &str) {
        let blocks = messages(&self.dir.path().join(DAMAGED), stream).unwrap();
        assert!(blocks.join("2.blk").exists(), "it has one block only");
        let block = blocks.join("1.blk");
        let mut bytes = std::fs::read(&block).unwrap();
        bytes[60] ^= 1;
        std::fs::write(block, bytes).unwrap();
        let _ = std::fs::remove_file(blocks.join("index.db"));
    }
}

/// The folder below this one that has the blocks of a stream.
fn messages(below: &Path, stream: &str) -> Option<PathBuf> {
    let wanted = Path::new(stream).join("msgs");
    std::fs::read_dir(below).ok()?.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).find_map(
        |path| {
            if path.ends_with(&wanted) { Some(path) } else { messages(&path, stream) }
        },
    )
}

fn all_current(info: &ClusterInfo) -> bool {
    info.leader.is_some()
        && info.replicas.len() == 2
        && info.replicas.iter().all(|other| other.current && !other.offline)
}

#[tokio::test]
async fn for_what_is_known_to_be_lost_nobody_waits() {
    let cluster = Cluster::start().await;
    let end = End { sequence: 9, body: Digest::of(b"lost"), lost: None };
    for (lost, waits) in [(None, true), (Some(1), false)] {
        let asked = Instant::now();
        let lacking = lacks(&cluster.nats, "EVENTS-0", &End { lost, ..end.clone() }).await.unwrap();
        assert!(lacking.is_some_and(|why| why.contains("it ends at 0")));
        assert_eq!(asked.elapsed() >= AGREED, waits, "{:?}", asked.elapsed());
    }
}

#[tokio::test]
async fn nothing_is_decided_on_a_history_that_a_damaged_server_leads() {
    let mut cluster = Cluster::start().await;
    let service = cluster.serve().await;
    let acme = customer("acme");
    let stream = stream_of(&acme);
    let change = |lan: &str| ("acme.demo.site.oslo.change", format!(r#"{{"lan":["{lan}"]}}"#));
    assert!(cluster.ask("acme.demo.site.oslo.create", SITE).await.position().is_some());
    let (tail, body) = change("10.2.0.0/24");
    assert!(cluster.ask(tail, &body).await.position().is_some());
    cluster.fill(&acme).await;
    cluster.until(&stream, all_current).await;

    assert!(cluster.servers.kill(DAMAGED).await);
    cluster.damage(&stream);
    cluster.servers.mend().await.unwrap();
    cluster.until(&stream, all_current).await;
    cluster.lead(&stream, DAMAGED).await;
    let led = stream_info(&cluster.nats.js, &stream).await.unwrap();
    assert!(led.messages < led.last, "the server has mended it: {led:?}");

    // Who knew the customer is told by the append that it knows something else, and who did not by what is missing.
    let (tail, body) = change("10.3.0.0/24");
    let answer = cluster.ask(tail, &body).await;
    assert_eq!(code(&answer), Some(Reason::HistoryDamaged), "{answer:?}");
    service.stop().await;
    let service = cluster.serve().await;
    for tail in ["acme.demo.site.oslo.create", "acme.demo.site.bergen.create"] {
        let answer = cluster.ask(tail, SITE).await;
        assert_eq!(code(&answer), Some(Reason::HistoryDamaged), "{tail}: {answer:?}");
    }

    // Under the lead of a server that has everything it goes on where it was.
    cluster.lead(&stream, "node-0").await;
    let led = stream_info(&cluster.nats.js, &stream).await.unwrap();
    assert_eq!((led.messages, led.last), (led.last, FILLERS as u64 + 2), "something was decided");
    let decided = async {
        // It is compared again when the news of the election come.
        while cluster.ask(tail, &body).await.position().is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(3 * LIMIT, decided).await.expect("a decision");
    service.stop().await;
}

#[tokio::test]
async fn a_damaged_server_that_does_not_lead_is_named_and_gets_everything_again() {
    let mut cluster = Cluster::start().await;
    let service = cluster.serve().await;
    let acme = customer("acme");
    let stream = stream_of(&acme);
    assert!(cluster.ask("acme.demo.site.oslo.create", SITE).await.position().is_some());
    cluster.fill(&acme).await;
    cluster.until(&stream, all_current).await;
    cluster.lead(&stream, "node-0").await;
    assert_eq!(damaged(&cluster.nats).await.unwrap(), []);

    assert!(cluster.servers.kill(DAMAGED).await);
    cluster.damage(&stream);
    cluster.servers.mend().await.unwrap();
    cluster.until(&stream, all_current).await;
    let found = cluster.found().await;
    let [Damaged { server, stream: lacking, lacks, whole }] = &found[..] else { panic!("{found:?}") };
    assert_eq!((server.as_str(), lacking), (DAMAGED, &stream));
    assert!(*lacks > 0 && *lacks < FILLERS as u64, "{found:?}");
    assert_eq!(*whole, ["node-0", "node-1"]);
    let change = |number: u8| format!(r#"{{"lan":["10.{number}.0.0/24"]}}"#);
    let changed = "acme.demo.site.oslo.change";
    let answer = cluster.ask(changed, &change(2)).await;
    assert!(answer.position().is_some(), "a whole one leads: {answer:?}");
    service.stop().await;
    let service = cluster.serve().await;
    let letter = async {
        let subject = subjects::dead("replica", Reason::StorageDamaged);
        let dead = cluster.nats.js.get_stream(DEAD).await.unwrap();
        loop {
            if let Ok(letter) = dead.get_last_raw_message_by_subject(&subject).await {
                return letter;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let letter = tokio::time::timeout(3 * LIMIT, letter).await.expect("a dead letter");
    let told: Value = serde_json::from_slice(&letter.payload).unwrap();
    assert_eq!((&told["server"], &told["stream"]), (&json!(DAMAGED), &json!(stream)));

    // Whoever runs the server stops and starts it when told to.
    let began = Instant::now();
    let (tell, mut told) = mpsc::unbounded_channel();
    let nats = cluster.nats.clone();
    let repairing =
        tokio::spawn(
            async move { repair(&nats, &found, &|progress| tell.send(progress.clone()).unwrap()).await },
        );
    let mut steps = Vec::new();
    while let Some(progress) = tokio::time::timeout_at(began + REPAIRED, told.recv()).await.expect("progress")
    {
        match &progress {
            Progress::Stop { server } => assert!(cluster.servers.kill(server).await),
            Progress::TakenOut { .. } => {
                let info = cluster.info(&stream).await.unwrap();
                assert!(info.replicas.iter().all(|peer| peer.name != DAMAGED), "a whole one went: {info:?}");
                let answer = cluster.ask(changed, &change(3)).await;
                assert!(answer.position().is_some(), "while it is away: {answer:?}");
            }
            Progress::Start { .. } => cluster.servers.mend().await.unwrap(),
            Progress::Copied { .. } => {}
        }
        steps.push(progress);
    }
    repairing.await.unwrap().unwrap();
    eprintln!("repaired in {:.1?}: {steps:?}", began.elapsed());
    assert!(began.elapsed() < REPAIRED);
    cluster.until(&stream, all_current).await;
    assert_eq!(damaged(&cluster.nats).await.unwrap(), []);

    cluster.lead(&stream, DAMAGED).await;
    let led = stream_info(&cluster.nats.js, &stream).await.unwrap();
    assert_eq!((led.messages, led.last), (led.last, FILLERS as u64 + 3), "the copy is not whole");
    assert_eq!(led.replicas, 3);
    // It is compared again when the news of the election come.
    let answer = cluster.ask(changed, &change(4)).await;
    assert!(answer.position().is_some(), "the one that was damaged leads: {answer:?}");
    service.stop().await;
}

#[tokio::test]
async fn a_stream_of_which_one_server_has_all_is_not_touched() {
    let cluster = Cluster::start().await;
    let found = Damaged { whole: vec!["node-0".to_owned()], ..lacking() };
    let refused = repair(&cluster.nats, &[lacking(), found], &|progress| panic!("{progress:?}")).await;
    assert!(matches!(refused, Err(NatsError::TooFewWhole { whole: 1, .. })), "{refused:?}");
}

fn lacking() -> Damaged {
    let whole = vec!["node-0".to_owned(), "node-1".to_owned()];
    Damaged { server: DAMAGED.to_owned(), stream: "EVENTS-0".to_owned(), lacks: 1, whole }
}
