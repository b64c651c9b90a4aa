//! Customers that want the same serial numbers at the same moment, while services die and the sweeper asks all the time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use wanwright_commands::Head;
use wanwright_commands::service::sweeper;
use wanwright_nats::StoredMessage;
use wanwright_nats::claim::Claims;
use wanwright_schemas::{CommandId, Outcome, Reason};

use crate::sweeper::NOW;
use crate::world::{SITE, World, code, with};

const CUSTOMERS: [&str; 6] = ["acme", "globex", "initech", "umbrella", "hooli", "stark"];
const SERIALS: u64 = 3;
const ROUNDS: usize = 90;
/// How often somebody asks for a serial number in one round.
const TRIES: usize = 3;
/// The round in which one service is killed, and the one in which the other gives its partitions back.
const KILLED: usize = ROUNDS / 3;
const STOPPED: usize = ROUNDS * 2 / 3;
/// How long a command is sent again and again: a partition of a service that was killed is nobody's for some seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// A customer's people, and what they know of its devices.
struct Sender {
    name: &'static str,
    seed: u64,
    /// The devices that are there, and which command created each.
    made: BTreeMap<String, CommandId>,
    /// How many devices were accepted, how many serial numbers were somebody else's, how many devices ended.
    counts: [usize; 3],
}

impl Sender {
    fn draw(&mut self, below: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % below
    }

    /// Sends a command under one id until somebody answers.
    async fn say(&self, world: &World, tail: &str, body: &str) -> (CommandId, Outcome) {
        let (id, subject) = (CommandId::mint(), format!("wan.do.{}.{tail}", self.name));
        let answered = async {
            loop {
                let request = (subject.clone(), with(id), body.to_owned().into());
                let answer = world.nats.client.request_with_headers(request.0, request.1, request.2).await;
                let outcome = answer.ok().map(|answer| serde_json::from_slice(&answer.payload).unwrap());
                match outcome {
                    Some(outcome) if code(&outcome) != Some(Reason::Unavailable) => return (id, outcome),
                    _ => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        tokio::time::timeout(PATIENCE, answered).await.expect("an answer")
    }

    /// Creates a device with the serial number that everybody wants in this round, or ends one.
    async fn act(&mut self, world: &World, wanted: u64) {
        let device = format!("d{}", self.draw(2));
        match self.made.get(&device).copied() {
            None => {
                let serial = if self.draw(8) == 0 { self.draw(SERIALS) } else { wanted };
                let body = format!(r#"{{"site":"oslo","serial":"SN-{serial}","model":"edge-100"}}"#);
                // Again at once where it is somebody's: it may be given back at this very moment.
                for _ in 0..TRIES {
                    let (id, outcome) = self.say(world, &format!("demo.device.{device}.create"), &body).await;
                    match code(&outcome) {
                        None => {
                            self.made.insert(device, id);
                            self.counts[0] += 1;
                            return;
                        }
                        Some(Reason::SerialTaken) => self.counts[1] += 1,
                        other => panic!("{other:?}: {outcome:?}"),
                    }
                }
            }
            Some(_) if self.draw(2) == 0 => {
                let (_, outcome) = self.say(world, &format!("demo.device.{device}.cancel"), "").await;
                match code(&outcome) {
                    None => self.ended(&device),
                    // The lease of who was killed while it cancelled still has to run out.
                    Some(Reason::OrderRunning) => {}
                    other => panic!("{other:?}: {outcome:?}"),
                }
            }
            Some(uid) => {
                self.say(world, &format!("demo.device.{device}.decommission"), "").await;
                let order = "00000000-0000-8000-8000-000000000000";
                let found =
                    format!(r#"{{"kind":"device","id":"{device}","uid":"{uid}","result":"removed"}}"#);
                let report = format!(r#"{{"order":"{order}","findings":[{found}]}}"#);
                let (_, outcome) =
                    self.say(world, &format!("executor.device.{device}.report"), &report).await;
                assert!(outcome.position().is_some(), "{outcome:?}");
                self.ended(&device);
            }
        }
    }

    fn ended(&mut self, device: &str) {
        self.made.remove(device);
        self.counts[2] += 1;
    }
}

/// Folds all histories in the order in which the server stored them, and looks after each message whether a serial number
/// is that of two devices. Answers whose each one is in the end, as claims say it.
async fn folded(world: &World) -> BTreeMap<String, String> {
    let mut all: Vec<(&str, StoredMessage)> = Vec::new();
    for name in CUSTOMERS {
        all.extend(world.history(name).await.into_iter().map(|message| (name, message)));
    }
    all.sort_by_key(|(_, message)| message.time);
    let mut heads: BTreeMap<&str, Head> = BTreeMap::new();
    for (name, message) in &all {
        heads.entry(name).or_default().fold(message.sequence, &message.payload).unwrap();
        owners(&heads);
    }
    owners(&heads)
}

fn owners(heads: &BTreeMap<&str, Head>) -> BTreeMap<String, String> {
    let mut owners = BTreeMap::new();
    for (name, head) in heads {
        for (id, device) in &head.state.devices {
            let owner = format!("{name}/{id}");
            let other = owners.insert(format!("serial/{}", device.spec.serial), owner.clone());
            assert_eq!(
                other, None,
                "{owner} has the serial number of another device, {}",
                device.spec.serial
            );
        }
    }
    owners
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_serial_number_is_that_of_one_device_however_many_want_it() {
    let world = World::empty("").await;
    let claims = Claims::open(&world.nats).await.unwrap();
    let (one, two) = tokio::join!(world.serve(), world.serve());
    world.shared_by(2).await;
    let (mut one, mut two, mut three) = (Some(one), Some(two), None);
    let stop = CancellationToken::new();
    let sweeping = tokio::spawn(sweeper::run(world.nats.clone(), claims.clone(), NOW, stop.clone()));
    let mut senders: Vec<Sender> = (1..)
        .zip(CUSTOMERS)
        .map(|(seed, name)| Sender { name, seed, made: BTreeMap::new(), counts: [0; 3] })
        .collect();
    for sender in &senders {
        let (_, made) = sender.say(&world, "demo.site.oslo.create", SITE).await;
        assert!(made.position().is_some(), "{made:?}");
    }
    for round in 0..ROUNDS {
        let (answered, wanted) = (Notify::new(), round as u64 % SERIALS);
        let acts = join_all(senders.iter_mut().map(async |sender| {
            sender.act(&world, wanted).await;
            answered.notify_one();
        }));
        // In the middle: somebody was answered, and others were not.
        let meanwhile = async {
            answered.notified().await;
            match round {
                KILLED => {
                    one.take().expect("it runs").kill().await;
                    three = Some(world.serve().await);
                }
                STOPPED => two.take().expect("it runs").stop().await,
                _ => {}
            }
        };
        tokio::join!(acts, meanwhile);
    }
    stop.cancel();
    tokio::time::timeout(PATIENCE, sweeping).await.unwrap().unwrap();

    // What was claimed and not used is freed once more, by a sweep that nobody disturbs.
    let swept = sweeper::sweep(&world.nats, &claims, NOW).await.unwrap();
    assert_eq!((swept.restored, swept.conflicts), (0, 0), "{swept:?}");
    let live = folded(&world).await;
    let held = claims.page(0).await.unwrap().0;
    let held: BTreeMap<String, String> = held.into_iter().map(|held| (held.name, held.owner)).collect();
    assert_eq!(held, live, "each device that is there has its claim, and nobody else has one");
    let known: BTreeSet<String> = senders
        .iter()
        .flat_map(|sender| sender.made.keys().map(|device| format!("{}/{device}", sender.name)))
        .collect();
    assert_eq!(known, live.into_values().collect(), "what was answered is what is there");
    let [made, taken, ended] =
        [0, 1, 2].map(|at| senders.iter().map(|sender| sender.counts[at]).sum::<usize>());
    assert!(made >= 30 && ended >= 30 && taken >= 30, "{made} {ended} {taken}");
    three.expect("it runs").stop().await;
}
