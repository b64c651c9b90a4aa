//! A run dies when the vendor has made its objects and before the state has them: the next one makes none of them twice. The
//! vendor takes no idempotency key here.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use wanwright_schemas::effect::{Effect, Phase};
use wanwright_schemas::order::{Desired, DesiredTunnel, Intent, Order};
use wanwright_schemas::reason::Reason;
use wanwright_schemas::report::Finding;
use wanwright_simulator::{Faults, Jobs};
use wanwright_vendors::Vendors;

use super::tests::{VendorFolder, World, is_done, provider, released, until, uses_other};
use crate::engine::{Notes, Outcome};
use crate::gateway::journal::{self, Change};
use crate::records::context_of;
use crate::terraform::tests::servers;

/// Whose resources they are.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Provider {
    Ours,
    Foreign,
}

const LIST: &str = "[list]\nitems = \"/items\"\nnext = \"/next\"\ncursor = \"cursor\"\nname = \"name\"\n";

/// What is said of a vendor that makes its objects in jobs.
const JOB: &str = r#"
[job]
id = "/job/id"
path = "/v1/jobs/{job}"
state = "/job/state"
running = ["running"]
succeeded = ["succeeded"]
failed = ["failed"]
object_id = "/job/object"
interval_seconds = 0.02
limit_seconds = 20
"#;

/// A system whose template names no keys. Objects of these kinds cannot be looked for by name.
pub(super) async fn world(of: Provider, without_names: &[&str]) -> World {
    world_with(of, without_names, &[]).await
}

/// The same, whose vendor makes objects of these kinds in jobs.
async fn world_with(of: Provider, without_names: &[&str], in_jobs: &[&str]) -> World {
    let servers = servers().await;
    let dir = servers.dir.path().to_owned();
    let release = released(&dir.join("r"), provider());
    let folder = VendorFolder::new(&dir);
    // What the vendor can do is as ever; what is said of it is changed below.
    let kinds = in_jobs.iter().map(|&kind| kind.to_owned()).collect();
    let jobs = (!in_jobs.is_empty()).then(|| Jobs { kinds, ..Jobs::default() });
    let vendor = World::vendor_with(&dir, Faults { latency_ms: 300, jobs, ..Faults::default() }).await;
    let nothing = String::new();
    let keys = [
        ("  idempotency_key = var.site.uid\n", nothing.clone()),
        ("  idempotency_key = each.value.uid\n", nothing),
    ];
    folder.change("terraform/main.tf", &keys);
    for kind in without_names {
        folder.change(&format!("api/{kind}.toml"), &[(LIST, String::new())]);
    }
    for kind in in_jobs {
        folder.change(&format!("api/{kind}.toml"), &[(LIST, format!("{LIST}{JOB}"))]);
    }
    if of == Provider::Foreign {
        uses_other(&folder);
        folder.uses(&release, true, false);
    }
    let vendors = Vendors::open(dir.join("vendors")).expect("the vendors' folders");
    World::of(servers, vendors, vendor, release.packed).await
}

/// A site with a tunnel.
pub(super) fn order(intent: Intent, retries: u64) -> Order {
    let Order { customer, vendor, desired, position, .. } = World::order(1, intent.clone());
    let Desired::Site { site, leaving, .. } = desired else { panic!("a site") };
    let tunnel = DesiredTunnel {
        uid: site.uid,
        generation: 1,
        name: "c1.t1".to_owned(),
        inside: "169.254.0.0/30".to_owned(),
        peer_address: "198.51.100.1".to_owned(),
        local_asn: 0,
        peer_asn: 0,
        settings: serde_json::from_value(json!({"mtu": 1400})).expect("settings"),
    };
    let tunnels = BTreeMap::from([("t1".parse().expect("an id"), tunnel)]);
    Order::new(customer, vendor, intent, retries, Desired::Site { site, tunnels, leaving }, position)
}

/// How often the vendor was asked for a tunnel, and how often it answered.
fn tunnels(effects: &[Effect]) -> [usize; 2] {
    let posts = || effects.iter().filter(|effect| effect.method == "POST" && effect.path == "/v1/tunnels");
    let answered = posts().filter(|effect| matches!(effect.phase, Phase::After { .. }));
    [posts().filter(|effect| effect.phase == Phase::Before).count(), answered.count()]
}

impl World {
    /// Carries an order out until the vendor has been asked for the tunnel, and dies: the site is answered by then, and in
    /// no state. Waits until nothing of that run is under way.
    async fn dies_over(&self, order: &Order, attempt: u32) {
        let [before, _] = tunnels(&self.effects(order).await);
        let asked = async || tunnels(&self.effects(order).await)[0] > before;
        tokio::select! {
            ended = self.run(order, attempt) => panic!("it has to die: {ended:?}"),
            () = until("the tunnel is asked for", asked) => {}
        }
        until("its calls are answered", async || {
            let [asked, answered] = tunnels(&self.effects(order).await);
            asked == answered
        })
        .await;
        let held = self.held().await;
        assert!(held.iter().all(Vec::is_empty), "the run that died has left a state: {held:?}");
        assert_eq!((self.there("sites").await.len(), self.there("tunnels").await.len()), (1, 1));
    }

    async fn state(&self) -> Value {
        let Desired::Site { site, .. } = order(Intent::Apply, 0).desired else { panic!("a site") };
        self.engine.state(&site.uid.to_string()).await.expect("a state")
    }

    /// The ids of what the vendor has.
    pub(super) async fn there(&self, what: &str) -> Vec<String> {
        let url = format!("{}/v1/{what}", self.vendor.url());
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let listed = client.get(url).bearer_auth("token").send().await.expect("an answer");
        let listed: Value = serde_json::from_slice(&listed.bytes().await.expect("a body")).expect("a list");
        let items = listed["items"].as_array().expect("items").iter();
        items.map(|item| item["id"].as_str().expect("an id").to_owned()).collect()
    }

    /// The ids in the state, of sites and of tunnels.
    async fn held(&self) -> [Vec<String>; 2] {
        let state = self.state().await;
        ["site", "tunnel"].map(|kind| {
            let resources = state["resources"].as_array().into_iter().flatten();
            let of_kind = resources.filter(|resource| resource["name"] == kind);
            let instances =
                of_kind.flat_map(|resource| resource["instances"].as_array().into_iter().flatten());
            instances
                .map(|instance| instance["attributes"]["id"].as_str().expect("an id").to_owned())
                .collect()
        })
    }

    /// The vendor has one object of each kind, and the state has these.
    pub(super) async fn is_whole(&self) {
        let there = [self.there("sites").await, self.there("tunnels").await];
        assert_eq!(there.each_ref().map(Vec::len), [1, 1], "one of each: {there:?}");
        assert_eq!(self.held().await, there);
    }
}

fn is_unknown(outcome: &Outcome) -> bool {
    let is_it = |finding: &Finding| matches!(finding, Finding::Failed { code: Reason::OutcomeUnknown, .. });
    matches!(outcome, Outcome::Done(findings) if findings.iter().any(|found| is_it(&found.finding)))
}

fn settled(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| effect.phase == Phase::Settled).count()
}

/// It dies, and the next run takes over what it made.
async fn is_taken_over(world: World, posts: usize) {
    let order = order(Intent::Apply, 0);
    world.dies_over(&order, 1).await;
    let (outcome, _) = world.run(&order, 2).await;
    assert!(is_done(&outcome), "{outcome:?}");
    world.is_whole().await;
    let effects = world.effects(&order).await;
    let asked = effects.iter().filter(|effect| effect.method == "POST" && effect.phase == Phase::Before);
    assert_eq!((asked.count(), settled(&effects)), (posts, 1), "{effects:?}");
    let removal = super::lost::order(Intent::Remove, 0);
    // What was taken over is as wanted, and goes when it is to go.
    assert!(is_done(&world.run(&order, 1).await.0));
    world.is_whole().await;
    assert!(is_done(&world.run(&removal, 1).await.0));
    assert_eq!((world.there("sites").await.len(), world.there("tunnels").await.len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_our_provider_made_is_found_by_its_name() {
    is_taken_over(world(Provider::Ours, &[]).await, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_foreign_provider_made_is_found_by_its_name() {
    is_taken_over(world(Provider::Foreign, &[]).await, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_foreign_provider_made_is_found_by_the_id_in_the_journal() {
    is_taken_over(world(Provider::Foreign, &["site", "tunnel"]).await, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_job_has_made_is_found_by_its_name() {
    is_taken_over(world_with(Provider::Ours, &[], &["tunnel"]).await, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_job_may_still_make_is_not_made_again_because_it_is_not_there() {
    let world = world_with(Provider::Ours, &[], &["tunnel"]).await;
    let first = order(Intent::Apply, 0);
    world.dies_over(&first, 1).await;
    // As if the job had not come to it yet.
    let there = world.there("tunnels").await;
    world.delete("tunnels", &there[0]).await;
    for attempt in 2..4 {
        let (outcome, _) = world.run(&first, attempt).await;
        assert!(is_unknown(&outcome), "{outcome:?}");
        assert_eq!((world.there("sites").await.len(), world.there("tunnels").await.len()), (1, 0));
    }
    let (outcome, _) = world.run(&order(Intent::Apply, 1), 2).await;
    assert!(is_done(&outcome), "{outcome:?}");
    world.is_whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_has_looked_at_is_that_loss_and_not_the_next_one() {
    let world = world(Provider::Ours, &["site", "tunnel"]).await;
    let (first, again, last) = (order(Intent::Apply, 0), order(Intent::Apply, 1), order(Intent::Apply, 2));
    world.dies_over(&first, 1).await;
    assert!(is_unknown(&world.run(&first, 2).await.0));
    world.clear().await;
    // The run that hears of it dies as well.
    world.dies_over(&again, 2).await;
    for attempt in 3..5 {
        let (outcome, _) = world.run(&again, attempt).await;
        assert!(is_unknown(&outcome), "{outcome:?}");
        assert_eq!((world.there("sites").await.len(), world.there("tunnels").await.len()), (1, 1));
    }
    world.clear().await;
    let (outcome, _) = world.run(&last, 2).await;
    assert!(is_done(&outcome), "{outcome:?}");
    world.is_whole().await;
    assert_eq!(settled(&world.effects(&first).await), 1);
    let Desired::Site { site, .. } = &first.desired else { panic!("a site") };
    let later = order(Intent::Apply, 3);
    let noted = Notes::looked_at(&world.servers.nats, &later, site.uid).await.expect("an answer");
    assert!(noted.is_empty(), "nothing is left to look at: {noted:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_made_and_told_is_judged_no_more() {
    let world = world(Provider::Foreign, &["site", "tunnel"]).await;
    let order = order(Intent::Apply, 0);
    for number in 1..3 {
        assert!(is_done(&world.run(&order, 1).await.0));
        world.is_whole().await;
        assert_eq!(settled(&world.effects(&order).await), number);
        // Somebody deletes it at the vendor, and the next run makes another one.
        let there = world.there("tunnels").await;
        world.delete("tunnels", &there[0]).await;
    }
    let (outcome, _) = world.run(&order, 2).await;
    assert!(is_done(&outcome), "{outcome:?}");
    world.is_whole().await;
}

/// It dies, and nothing tells what it made: nothing is created until a person has looked.
async fn waits_for_a_person(of: Provider, without_names: &[&str]) {
    let world = world(of, without_names).await;
    let first = order(Intent::Apply, 0);
    world.dies_over(&first, 1).await;
    if of == Provider::Foreign {
        world.forget_answers(&first).await;
    }
    for attempt in 2..4 {
        let (outcome, _) = world.run(&first, attempt).await;
        assert!(is_unknown(&outcome), "{outcome:?}");
        assert_eq!((world.there("sites").await.len(), world.there("tunnels").await.len()), (1, 1));
    }
    assert_eq!(settled(&world.effects(&first).await), 0);
    // A person has removed what is there, and says so.
    world.clear().await;
    let (outcome, _) = world.run(&order(Intent::Apply, 1), 2).await;
    assert!(is_done(&outcome), "{outcome:?}");
    world.is_whole().await;
}

impl World {
    /// Deletes all that the vendor has.
    async fn clear(&self) {
        for what in ["tunnels", "sites"] {
            for id in self.there(what).await {
                self.delete(what, &id).await;
            }
        }
    }

    async fn delete(&self, what: &str, id: &str) {
        let url = format!("{}/v1/{what}/{id}", self.vendor.url());
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let deleted = client.delete(url).bearer_auth("token").send().await.expect("an answer");
        assert!(deleted.status().is_success(), "{deleted:?}");
    }

    /// Leaves of the journal only what was asked for, as if the executor had died before it heard any answer.
    async fn forget_answers(&self, order: &Order) {
        let effects = self.effects(order).await;
        let opened = self.gateway.open(context_of(order, None));
        journal::forget(&self.servers.nats, opened.context()).await.expect("forgotten");
        for effect in effects.into_iter().filter(|effect| effect.phase == Phase::Before) {
            let Effect { call, method, path, key, phase, .. } = effect;
            let change = Change { call, method, path, key };
            let written = journal::write(&self.servers.nats, opened.context(), &change, phase);
            written.await.expect("written");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_neither_key_nor_name_finds_waits_for_a_person() {
    waits_for_a_person(Provider::Ours, &["site", "tunnel"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_foreign_provider_made_under_an_id_that_nobody_heard_waits_for_a_person() {
    waits_for_a_person(Provider::Foreign, &["site", "tunnel"]).await;
}
