//! A dispatcher drives rollouts on a real nats-server, and has trouble with some customers and vendors. The command service
//! is a stand-in that has every stack changed at once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use async_nats::HeaderMap;
use futures::StreamExt;
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::Mutex;
use wanwright_commands::{Head, rollouts};
use wanwright_nats::{History, Rollouts};
use wanwright_schemas::outcome::Outcome;
use wanwright_schemas::rollout::{Rollout, RolloutRequest, RolloutState, RolloutVerb, estimate};
use wanwright_schemas::template::AssignTemplateBody;
use wanwright_schemas::{CommandId, CustomerId, Reason, Refusal, VendorId};
use wanwright_vendors::Catalogue;

use crate::dispatcher::{World, applied, site, until};
use crate::world::copy;

/// Vendors of these names, each of which has two versions of its template.
fn vendors(names: &[&str]) -> Arc<Catalogue> {
    let dir = tempfile::tempdir().unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vendors/simwan");
    for name in names {
        let to = dir.path().join(name);
        copy(&from, &to);
        copy(&from.join("terraform"), &to.join("terraform@2"));
        let file = to.join("vendor.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(file, text.replace("name = \"simwan\"", &format!("name = \"{name}\""))).unwrap();
    }
    Arc::new(Catalogue::load(dir.path()).unwrap())
}

fn id(name: &str) -> CustomerId {
    name.parse().unwrap()
}

/// What the command service does, as far as a rollout sees it.
struct Service {
    world: World,
    vendors: Arc<Catalogue>,
    records: Rollouts,
    heads: Mutex<BTreeMap<CustomerId, Head>>,
    /// Who was asked to take a version.
    asked: Mutex<Vec<CustomerId>>,
    /// Whom it cannot serve now.
    away: Mutex<BTreeSet<CustomerId>>,
    /// Whether somebody pauses the rollout while the first one is given it.
    is_paused: bool,
}

impl Service {
    async fn new(vendors: Arc<Catalogue>, is_paused: bool) -> Arc<Self> {
        let world = World::new().await;
        let (heads, asked, away) = Default::default();
        let records = Rollouts::open(&world.nats).await.unwrap();
        Arc::new(Self { world, vendors, records, heads, asked, away, is_paused })
    }

    /// A customer with a site at a vendor.
    async fn customer(&self, name: &str, vendor: &str) {
        let mut head = Head::default();
        let mut created = site("oslo", "10.1.0.0/24");
        created["spec"]["vendor"] = json!(vendor);
        self.world.append(&id(name), &mut head, &[created, applied("site", "oslo", 1)]).await;
        self.heads.lock().await.insert(id(name), head);
    }

    /// Asks something of a vendor's rollout.
    async fn ask(&self, vendor: &str, verb: RolloutVerb, request: &RolloutRequest) {
        let folder = self.vendors.get(vendor).unwrap();
        let vendor: VendorId = vendor.parse().unwrap();
        loop {
            let (present, revision) = self.records.get(&vendor).await.unwrap();
            let actor = "olga".parse().unwrap();
            let next =
                rollouts::judge(present.as_ref(), verb, request, folder, &actor, Timestamp::now()).unwrap();
            if self.records.put(&next, revision).await.unwrap().is_some() {
                return;
            }
        }
    }

    async fn record(&self, vendor: &str) -> Rollout {
        self.records.get(&vendor.parse().unwrap()).await.unwrap().0.unwrap()
    }

    /// Answers those who give a version.
    async fn serve(self: Arc<Self>, mut requests: async_nats::Subscriber) {
        while let Some(message) = requests.next().await {
            let mut heads = self.heads.lock().await;
            let mut tokens = message.subject.split('.');
            let customer = tokens.find_map(|token| heads.keys().find(|name| name.as_str() == token)).cloned();
            let customer = customer.unwrap();
            let is_first = self.asked.lock().await.is_empty();
            self.asked.lock().await.push(customer.clone());
            let outcome = if self.away.lock().await.contains(&customer) {
                Outcome::refused(None, None, Refusal::new(Reason::Unavailable, "not now"))
            } else {
                let body: AssignTemplateBody = serde_json::from_slice(&message.payload).unwrap();
                let head = heads.get_mut(&customer).unwrap();
                let assigned = json!({"type": "SiteTemplateAssigned", "v": 1, "site": "oslo", "generation": 2,
                    "template": {"version": body.version, "digest": "5f"}, "rollout": body.rollout, "assigned_by": "olga"});
                self.world.append(&customer, head, &[assigned, applied("site", "oslo", 2)]).await;
                let accepted = json!({"v": 1, "command": null, "object": null, "status": "accepted", "position": null, "events": []});
                serde_json::from_value(accepted).unwrap()
            };
            if self.is_paused && is_first {
                let why = RolloutRequest { reason: "wait".to_owned(), ..RolloutRequest::default() };
                self.ask("simwan", RolloutVerb::Pause, &why).await;
            }
            let answer = serde_json::to_vec(&outcome).unwrap();
            self.world.nats.client.publish(message.reply.unwrap(), answer.into()).await.unwrap();
        }
    }

    async fn start(self: &Arc<Self>) {
        for subject in ["wan.do.>", "wan.decide.>"] {
            let requests = self.world.nats.client.subscribe(subject).await.unwrap();
            tokio::spawn(Arc::clone(self).serve(requests));
        }
    }
}

fn to_two(at_once: u32, canaries: &[&str]) -> RolloutRequest {
    let canaries = canaries.iter().map(|name| id(name)).collect();
    RolloutRequest {
        to: Some(2),
        steps: Some(vec![100]),
        canaries,
        at_once: Some(at_once),
        ..RolloutRequest::default()
    }
}

#[tokio::test]
async fn what_is_wrong_with_one_rollout_or_customer_stops_no_other_one() {
    let service = Service::new(vendors(&["alan", "blan", "simwan"]), false).await;
    for name in ["c0", "c1", "c2"] {
        service.customer(name, "simwan").await;
    }
    service.customer("far", "blan").await;
    service.away.lock().await.insert(id("c0"));
    service.start().await;
    // The record of one vendor cannot be read; an executor does not say what another one's stack would be.
    let store = service.world.nats.js.get_key_value("rollouts").await.unwrap();
    store.put("alan", "{".into()).await.unwrap();
    let mut questions =
        service.world.nats.client.subscribe(estimate(&"blan".parse().unwrap())).await.unwrap();
    let plan = RolloutRequest { to: Some(2), ..RolloutRequest::default() };
    service.ask("blan", RolloutVerb::Plan, &plan).await;
    service.ask("simwan", RolloutVerb::Start, &to_two(1, &[])).await;
    let running = service.world.dispatch_for(Arc::clone(&service.vendors));
    until("whoever comes after the customer that is away has it", || async {
        service.record("simwan").await.counts.applied == 2
    })
    .await;
    let waits = service.record("simwan").await;
    assert_eq!((waits.state, waits.counts.waiting), (RolloutState::Running, 1), "{waits:?}");
    service.away.lock().await.clear();
    until("it is come back for", || async { service.record("simwan").await.state == RolloutState::Done })
        .await;
    // That plan is being made all the while, and was asked for once.
    assert_eq!(service.record("blan").await.state, RolloutState::Planning);
    let question = questions.next().await.unwrap();
    assert!(String::from_utf8_lossy(&question.payload).contains("oslo"));
    running.stop().await;
    assert!(futures::FutureExt::now_or_never(questions.next()).is_none(), "it was asked for anew");
}

#[tokio::test]
async fn a_canary_that_cannot_be_read_holds_up_everybody_after_it() {
    let service = Service::new(vendors(&["simwan"]), false).await;
    for name in ["can", "c1", "c2"] {
        service.customer(name, "simwan").await;
    }
    service.start().await;
    let (can, history) = (id("can"), History::new(service.world.nats.clone()));
    let end = service.heads.lock().await[&can].sequence;
    let damaged = history.append(&can, end, CommandId::mint(), HeaderMap::new(), "no event".into());
    damaged.await.unwrap();
    service.ask("simwan", RolloutVerb::Start, &to_two(20, &["can", "c1"])).await;
    let running = service.world.dispatch_for(Arc::clone(&service.vendors));
    until("the other canary has it", || async { service.record("simwan").await.counts.applied == 1 }).await;
    let waits = service.record("simwan").await;
    assert_eq!((waits.state, waits.wave, waits.counts.unread), (RolloutState::Running, 0, 1), "{waits:?}");
    assert_eq!(*service.asked.lock().await, [id("c1")]);
    running.stop().await;
}

#[tokio::test]
async fn whoever_pauses_a_rollout_is_heard_while_it_gives() {
    let service = Service::new(vendors(&["simwan"]), true).await;
    for name in ["c0", "c1", "c2", "c3"] {
        service.customer(name, "simwan").await;
    }
    service.start().await;
    service.ask("simwan", RolloutVerb::Start, &to_two(20, &[])).await;
    let running = service.world.dispatch_for(Arc::clone(&service.vendors));
    until("it is counted who has it", || async { service.record("simwan").await.counts.applied > 0 }).await;
    let paused = service.record("simwan").await;
    assert_eq!((paused.state, paused.counts.applied), (RolloutState::Paused, 1), "{paused:?}");
    assert_eq!(service.asked.lock().await.len(), 1);
    running.stop().await;
}
