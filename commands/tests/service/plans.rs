//! A thousand attacks on the approval of plans, through the doors of the real service: none gets anything applied that
//! somebody else did not approve as it is.
//!
//! The test is the executor as well: it makes plans by reporting them. What would be applied is derived from the history
//! as the dispatcher derives it, after every attack.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use wanwright_commands::service::Options;
use wanwright_commands::{Customer, orders};
use wanwright_nats::{History, load_subject};
use wanwright_schemas::order::{Intent, Order, Target};
use wanwright_schemas::report::{Finding, ObjectFinding, Report};
use wanwright_schemas::{
    CommandId, Digest, Envelope, ObjectRef, Outcome, Position, Reason, SiteId, subjects,
};
use wanwright_vendors::{Refreshed, Vendors};

use crate::vendors::copy;
use crate::world::{PARTITIONS, Service, World, code, customer, stream_of};

/// How many attacks there are.
const ATTACKS: usize = 1_000;

const TENANTS: [&str; 3] = ["acme", "globex", "initech"];
/// The tenant whose history is of before there was a shortest time for plans: they are valid for a second.
const HASTY: usize = 2;
const SITES: [&str; 3] = ["oslo", "bergen", "munich"];
/// The site that is at another vendor than the others.
const ELSEWHERE: usize = 2;
const VENDORS: [&str; SITES.len()] = ["simwan", "simwan", "versa"];
const LOCATIONS: [&str; 3] = ["Oslo", "Bergen", "Paris"];

/// What an attacker tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Attack {
    /// The plan that was there before another edit.
    Stale,
    /// The plan that was there before a tunnel of the stack was changed: the site's generation is the same.
    OtherTunnel,
    OtherStack,
    OtherTenant,
    /// By who asked for it.
    ByItsAuthor,
    /// A hash that nobody made.
    Forged,
    /// Without a hash.
    Unnamed,
    OtherGeneration,
    /// A plan that was approved and applied.
    Twice,
    /// The very message that approved an earlier plan, again.
    Replayed,
    /// The same id with another plan.
    ReusedId,
    /// An edit and the approval of what it takes the place of, at once.
    Racing,
    /// Another plan is reported in the place of the one that waits.
    Exchanged,
    /// A plan is reported by somebody who is no executor.
    Reported,
    /// A report that the plan is stale, of an order that does not apply it.
    FalselyStale,
    /// The plan as that of a tunnel, of a device, of the customer.
    OtherKind,
    /// By the durable door, under an id of a message.
    Durable,
    /// A plan whose time is over.
    Expired,
    /// An approval that was given in time, of a plan that nobody applied in time.
    ApprovedThenExpired,
    /// A plan that was made before the vendor's folder said something else of what would be done.
    OtherTemplate,
    /// An approval that was given before it did.
    ApprovedThenOtherTemplate,
    /// A plan that was made before the stack was given another version of the template.
    OtherVersion,
    /// The plan of a site at another vendor.
    OtherVendor,
    /// A plan that was made with another vendor's template, as the site's own.
    MadeByOtherVendor,
}

const ALL: [Attack; 24] = [
    Attack::Stale,
    Attack::OtherTunnel,
    Attack::OtherStack,
    Attack::OtherTenant,
    Attack::ByItsAuthor,
    Attack::Forged,
    Attack::Unnamed,
    Attack::OtherGeneration,
    Attack::Twice,
    Attack::Replayed,
    Attack::ReusedId,
    Attack::Racing,
    Attack::Exchanged,
    Attack::Reported,
    Attack::FalselyStale,
    Attack::OtherKind,
    Attack::Durable,
    Attack::Expired,
    Attack::ApprovedThenExpired,
    Attack::OtherTemplate,
    Attack::ApprovedThenOtherTemplate,
    Attack::OtherVersion,
    Attack::OtherVendor,
    Attack::MadeByOtherVendor,
];

/// What some attacks are always refused with: another rule would have stopped some of them too, later.
const REFUSED_WITH: [(Attack, Reason); 5] = [
    (Attack::Expired, Reason::PlanExpired),
    (Attack::OtherTemplate, Reason::PlanStale),
    (Attack::OtherVersion, Reason::PlanMismatch),
    (Attack::OtherVendor, Reason::PlanMismatch),
    (Attack::MadeByOtherVendor, Reason::PlanMismatch),
];

/// A plan that waits.
#[derive(Debug, Clone)]
struct Waiting {
    generation: u64,
    hash: Digest,
    order: Order,
}

/// An approval as it was sent.
#[derive(Debug, Clone)]
struct Given {
    id: CommandId,
    tail: String,
    body: Value,
    hash: Digest,
}

struct Scene {
    world: World,
    service: Service,
    /// The vendors' folders, which the attacks change.
    folders: tempfile::TempDir,
    vendors: Vendors,
    /// The states of the tenants, and the sequences up to which they are read.
    states: [(u64, Customer); TENANTS.len()],
    /// How many plans were made: each has another file.
    made: u64,
    edits: usize,
    rollouts: u64,
    /// The plan of the hasty tenant that is left until its time is over.
    left: Option<Waiting>,
    /// Approvals that counted, by tenant and site.
    given: BTreeMap<(usize, usize), Given>,
    /// What honest people approved.
    approved: BTreeSet<Digest>,
    applied: BTreeSet<Digest>,
}

impl Scene {
    async fn open() -> Self {
        let folders = tempfile::tempdir().unwrap();
        for vendor in ["simwan", "versa"] {
            let from = concat!(env!("CARGO_MANIFEST_DIR"), "/../vendors");
            copy(&std::path::Path::new(from).join(vendor), &folders.path().join(vendor));
        }
        let first = folders.path().join("simwan/terraform");
        let second = folders.path().join("simwan/terraform@2");
        copy(&first, &second);
        let template = std::fs::read_to_string(second.join("main.tf")).unwrap();
        std::fs::write(second.join("main.tf"), format!("# The second version.\n{template}")).unwrap();
        let vendors = Vendors::open(folders.path()).unwrap();
        let world = World::empty("").await;
        let service = world.serve_vendors(vendors.clone(), Options::default()).await;
        let scene = Self {
            world,
            service,
            folders,
            vendors,
            states: Default::default(),
            made: 0,
            edits: 0,
            rollouts: 0,
            left: None,
            given: BTreeMap::new(),
            approved: BTreeSet::new(),
            applied: BTreeSet::new(),
        };
        for (number, tenant) in TENANTS.into_iter().enumerate() {
            let policy = json!({ "policy": { "site": { "plan": { "valid": "30d" } } } });
            scene.accepted(&format!("{tenant}.ann.customer.{tenant}.change"), &policy).await;
            if number == HASTY {
                scene.hurry(tenant).await;
            }
            for (net, site) in (1..).zip(SITES) {
                let mut body = json!({ "vendor": VENDORS[net - 1], "lan": [format!("10.{net}.0.0/24")] });
                if net - 1 == ELSEWHERE {
                    body["settings"] = json!({ "organization": tenant, "template": "branch" });
                }
                scene.accepted(&format!("{tenant}.ann.site.{site}.create"), &body).await;
                if net - 1 == ELSEWHERE {
                    continue;
                }
                let tunnel = json!({
                    "site": site, "peer": { "hub": "hub-eu" }, "inside": format!("169.254.{net}.0/30"),
                });
                scene.accepted(&format!("{tenant}.ann.tunnel.{site}-t1.create"), &tunnel).await;
            }
        }
        scene
    }

    /// Says of a tenant's plans once more how long they are valid, as nobody may any more.
    async fn hurry(&self, tenant: &str) {
        let of = customer(tenant);
        let last = self.world.history(tenant).await.pop().unwrap();
        let before = Envelope::decode(&last.payload).unwrap();
        let (command, prev) = (CommandId::mint(), Some(Digest::of(&last.payload)));
        let text = String::from_utf8(Envelope { command, prev, ..before }.encode().unwrap()).unwrap();
        assert!(text.contains(r#""30d""#), "{text}");
        let bytes = text.replace(r#""30d""#, r#""1s""#).into();
        let history = History::new(self.world.nats.clone());
        history.append(&of, last.sequence, command, async_nats::HeaderMap::new(), bytes).await.unwrap();
    }

    async fn ask(&self, tail: &str, body: &Value) -> Outcome {
        self.world.ask(tail, CommandId::mint(), &body.to_string()).await
    }

    async fn accepted(&self, tail: &str, body: &Value) {
        let outcome = self.ask(tail, body).await;
        assert_eq!(code(&outcome), None, "{tail} {body}: {outcome:?}");
    }

    /// The state at the head of a tenant's history.
    async fn state(&mut self, tenant: usize) -> Customer {
        let of = customer(TENANTS[tenant]);
        let subject = subjects::events(&of, PARTITIONS);
        let (sequence, state) = &mut self.states[tenant];
        for message in load_subject(&self.world.nats, &stream_of(&of), &subject, *sequence).await.unwrap() {
            let envelope = Envelope::decode(&message.payload).unwrap();
            envelope.events.iter().for_each(|event| state.evolve(event, envelope.command));
            *sequence = message.sequence;
        }
        state.clone()
    }

    fn due(&self, state: &Customer, tenant: usize, site: usize) -> Option<Order> {
        self.due_at(state, tenant, site, Timestamp::now())
    }

    fn due_at(&self, state: &Customer, tenant: usize, site: usize, now: Timestamp) -> Option<Order> {
        let target = Target::Site(SITES[site].parse().unwrap());
        let nowhere = Position { stream: String::new(), sequence: 0 };
        let vendors = self.vendors.snapshot();
        let vendor = vendors.get(VENDORS[site]).unwrap();
        orders::wanted_at(&customer(TENANTS[tenant]), state, vendor, &target, &nowhere, now).change
    }

    async fn report(
        &mut self,
        tenant: usize,
        site: usize,
        actor: &str,
        order: &Order,
        finding: Finding,
    ) -> Outcome {
        let id: SiteId = SITES[site].parse().unwrap();
        let uid = self.state(tenant).await.sites[&id].uid;
        let findings = vec![ObjectFinding { object: ObjectRef::Site(id), uid, finding }];
        let report = json!(Report { order: order.id, findings, state: None });
        self.ask(&format!("{}.{actor}.site.{}.report", TENANTS[tenant], SITES[site]), &report).await
    }

    /// A plan of this order.
    fn plan(&mut self, site: usize, order: &Order) -> Value {
        let version = order.template.as_ref().map_or(1, |template| template.version);
        let vendors = self.vendors.snapshot();
        let effects = vendors.get(VENDORS[site]).unwrap().template(version).unwrap().effects.clone();
        self.plan_with(&effects)
    }

    fn plan_with(&mut self, template: &str) -> Value {
        self.made += 1;
        json!({
            "hash": Digest::of(format!("plan {}", self.made).as_bytes()), "template": template, "serial": 1,
            "lineage": "l", "counts": { "create": 1, "update": 0, "delete": 0, "replace": 0 },
        })
    }

    /// Has the stack asked for otherwise and planned; what waits then is nobody's yet.
    async fn waiting(&mut self, tenant: usize, site: usize) -> Waiting {
        let state = self.state(tenant).await;
        let due = self.due(&state, tenant, site);
        if due.as_ref().is_none_or(|order| order.plan.is_some()) {
            self.edit(tenant, site).await;
        }
        let state = self.state(tenant).await;
        let order = self.due(&state, tenant, site).unwrap();
        assert!(matches!(order.intent, Intent::Plan { .. }), "{order:?}");
        let plan = self.plan(site, &order);
        let finding = Finding::Planned { plan: serde_json::from_value(plan.clone()).unwrap() };
        let reported = self.report(tenant, site, "executor", &order, finding).await;
        assert_eq!(code(&reported), None);
        let hash = serde_json::from_value(plan["hash"].clone()).unwrap();
        Waiting { generation: order.generation(), hash, order }
    }

    /// An edit that makes a generation of its own.
    async fn edit(&mut self, tenant: usize, site: usize) {
        self.edits += 1;
        let location = format!("{} {}", LOCATIONS[self.edits % LOCATIONS.len()], self.edits);
        let setting = if site == ELSEWHERE { "template" } else { "location" };
        let body = json!({ "settings": { (setting): location } });
        self.accepted(&format!("{}.ann.site.{}.change", TENANTS[tenant], SITES[site]), &body).await;
    }

    fn approval(tenant: usize, site: usize, who: &str, generation: u64, hash: Digest) -> (String, Value) {
        let tail = format!("{}.{who}.site.{}.approve", TENANTS[tenant], SITES[site]);
        (tail, json!({ "generation": generation, "plan": hash }))
    }

    /// The vendor's folder says something else of what its resources do, as it never did before.
    fn edit_folder(&mut self) {
        self.edits += 1;
        let file = self.folders.path().join("simwan/api/site.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, format!("{text}\n# {}", self.edits)).unwrap();
        assert!(matches!(self.vendors.refresh(), Refreshed::Swapped(_)));
    }

    /// A rollout gives a stack the version of the template that it does not have.
    async fn assign(&mut self, tenant: usize, site: usize) {
        self.rollouts += 1;
        let id: SiteId = SITES[site].parse().unwrap();
        let present = &self.state(tenant).await.sites[&id];
        let from = present.templates.version_at(present.generation);
        let vendors = self.vendors.snapshot();
        let template = vendors.get(VENDORS[site]).unwrap().template(3 - from).unwrap();
        let body = json!({
            "version": template.version, "digest": template.digest, "from": from, "rollout": self.rollouts,
            "by": "ann",
        });
        let tail = format!("{}.rollout.site.{}.assign-template", TENANTS[tenant], SITES[site]);
        self.accepted(&tail, &body).await;
    }

    /// An approval that counts. It is honest only if what comes of it is noted as approved.
    async fn approves(&self, tenant: usize, site: usize, waiting: &Waiting) {
        let (tail, body) = Self::approval(tenant, site, "bob", waiting.generation, waiting.hash);
        self.accepted(&tail, &body).await;
    }

    /// Somebody honest approves what waits, and it is applied.
    async fn carried_out(&mut self, tenant: usize, site: usize, waiting: &Waiting) {
        let (tail, body) = Self::approval(tenant, site, "bob", waiting.generation, waiting.hash);
        let id = CommandId::mint();
        let outcome = self.world.ask(&tail, id, &body.to_string()).await;
        assert_eq!(code(&outcome), None, "{outcome:?}");
        self.approved.insert(waiting.hash);
        self.given.insert((tenant, site), Given { id, tail, body, hash: waiting.hash });
        let state = self.state(tenant).await;
        let order = self.due(&state, tenant, site).unwrap();
        self.applies(&order);
        let outputs = json!({ "id": "st-1", "address": "203.0.113.1" }).as_object().unwrap().clone();
        let finding = Finding::Applied { generation: order.generation(), outputs };
        assert_eq!(code(&self.report(tenant, site, "executor", &order, finding).await), None);
    }

    fn applies(&mut self, order: &Order) {
        let plan = order.plan.as_ref().expect("nothing is applied without a plan");
        self.applied.insert(plan.hash);
    }

    /// Notes what would be applied now.
    async fn look(&mut self) {
        for tenant in 0..TENANTS.len() {
            let state = self.state(tenant).await;
            for site in 0..SITES.len() {
                if let Some(order) = self.due(&state, tenant, site).filter(Order::changes) {
                    self.applies(&order);
                }
            }
        }
    }

    /// One attack. Answers why it was refused; none where it was heard and changed nothing.
    async fn attack(&mut self, attack: Attack, turn: usize) -> Option<Reason> {
        let (tenant, site) = (turn % 2, turn / 2 % 2);
        let (other_tenant, other_site) = (1 - tenant, 1 - site);
        let waiting = self.waiting(tenant, site).await;
        let Waiting { generation, hash, order } = waiting.clone();
        let forged = Digest::of(format!("forged {turn}").as_bytes());
        let (tail, body) = match attack {
            Attack::Stale => {
                self.edit(tenant, site).await;
                Self::approval(tenant, site, "eve", generation + u64::from(turn.is_multiple_of(3)), hash)
            }
            Attack::OtherTunnel => {
                self.edits += 1;
                let change = format!("{}.ann.tunnel.{}-t1.change", TENANTS[tenant], SITES[site]);
                let mtu = json!({ "settings": { "mtu": 1300 + self.edits % 100 } });
                self.accepted(&change, &mtu).await;
                Self::approval(tenant, site, "eve", generation, hash)
            }
            Attack::OtherStack => {
                let other = self.waiting(tenant, other_site).await;
                Self::approval(tenant, site, "eve", generation, other.hash)
            }
            Attack::OtherTenant => {
                let other = self.waiting(other_tenant, site).await;
                Self::approval(tenant, site, "eve", generation, other.hash)
            }
            Attack::ByItsAuthor => Self::approval(tenant, site, "ann", generation, hash),
            Attack::Forged => Self::approval(tenant, site, "eve", generation, forged),
            Attack::Unnamed => {
                let (tail, _) = Self::approval(tenant, site, "eve", generation, hash);
                (tail, json!({ "generation": generation }))
            }
            Attack::OtherGeneration => {
                Self::approval(tenant, site, "eve", generation + 1 - 2 * (turn as u64 % 2), hash)
            }
            Attack::Twice => {
                self.carried_out(tenant, site, &waiting).await;
                self.edit(tenant, site).await;
                Self::approval(tenant, site, "eve", generation, hash)
            }
            Attack::Replayed | Attack::ReusedId => {
                self.carried_out(tenant, site, &waiting).await;
                let next = self.waiting(tenant, site).await;
                let given = self.given[&(tenant, site)].clone();
                assert_eq!(given.hash, hash);
                let body = match attack {
                    Attack::Replayed => given.body,
                    _ => json!({ "generation": next.generation, "plan": next.hash }),
                };
                let outcome = self.world.ask(&given.tail, given.id, &body.to_string()).await;
                assert!(outcome.repeated || code(&outcome) == Some(Reason::CommandIdReused), "{outcome:?}");
                return code(&outcome);
            }
            Attack::Racing => return self.race(tenant, site, &waiting).await,
            Attack::Exchanged => {
                let plan = self.plan(site, &order);
                let finding = Finding::Planned { plan: serde_json::from_value(plan).unwrap() };
                let exchanged = self.report(tenant, site, "executor", &order, finding).await;
                assert_eq!(code(&exchanged), None, "a report is heard, and says nothing new");
                let made = Digest::of(format!("plan {}", self.made).as_bytes());
                Self::approval(tenant, site, "eve", generation, made)
            }
            Attack::Reported => {
                self.edit(tenant, site).await;
                let state = self.state(tenant).await;
                let order = self.due(&state, tenant, site).unwrap();
                let plan = self.plan(site, &order);
                let finding = Finding::Planned { plan: serde_json::from_value(plan).unwrap() };
                return code(&self.report(tenant, site, "eve", &order, finding).await);
            }
            Attack::FalselyStale => {
                let finding = Finding::PlanStale { plan: hash, why: wanwright_schemas::plan::Stale::State };
                let before = self.state(tenant).await;
                let outcome = self.report(tenant, site, "executor", &order, finding).await;
                assert_eq!(self.state(tenant).await, before, "{outcome:?}");
                return code(&outcome);
            }
            Attack::OtherKind => {
                let tenant = TENANTS[tenant];
                let object = [format!("customer.{tenant}"), "tunnel.t1".to_owned(), "device.d1".to_owned()];
                let tail = format!("{tenant}.eve.{}.approve", object[turn % 3]);
                (tail, json!({ "generation": generation, "plan": hash }))
            }
            Attack::Durable => {
                let (tail, body) = Self::approval(tenant, site, "eve", generation, forged);
                let id = CommandId::mint();
                self.world.put(&tail, id, body.to_string().into()).await;
                return code(&self.world.outcome(TENANTS[tenant], id).await);
            }
            Attack::Expired => {
                let left = self.left.take();
                let Waiting { generation, hash, .. } = match left {
                    Some(left) => left,
                    None => self.waiting(HASTY, ELSEWHERE).await,
                };
                let (tail, body) = Self::approval(HASTY, ELSEWHERE, "eve", generation, hash);
                let state = self.state(HASTY).await;
                // At a vendor whose folder no attack changes: nothing else is wrong with the plan.
                let target = Target::Site(SITES[ELSEWHERE].parse().unwrap());
                let expires = orders::expiry(&state, &target).unwrap();
                if let Ok(rest) = expires.duration_since(Timestamp::now()).try_into() {
                    tokio::time::sleep(rest).await;
                }
                let answer = code(&self.ask(&tail, &body).await);
                // It is out of date when this attack has its turn again.
                self.left = Some(self.waiting(HASTY, ELSEWHERE).await);
                return answer;
            }
            Attack::ApprovedThenExpired => {
                self.approves(tenant, site, &waiting).await;
                let state = self.state(tenant).await;
                let now = self.due(&state, tenant, site).unwrap();
                assert_eq!(now.plan.map(|plan| plan.hash), Some(hash), "it is applied in time");
                let later = Timestamp::now() + SignedDuration::from_hours(31 * 24);
                let later = self.due_at(&state, tenant, site, later).unwrap();
                assert!(matches!(later.intent, Intent::Plan { .. }), "it is applied too late: {later:?}");
                self.approved.insert(hash);
                return None;
            }
            Attack::OtherTemplate => {
                self.edit_folder();
                Self::approval(tenant, site, "eve", generation, hash)
            }
            Attack::ApprovedThenOtherTemplate => {
                self.approves(tenant, site, &waiting).await;
                self.edit_folder();
                return None;
            }
            Attack::OtherVersion => {
                self.assign(tenant, site).await;
                Self::approval(tenant, site, "eve", generation, hash)
            }
            Attack::OtherVendor => {
                let other = self.waiting(tenant, ELSEWHERE).await;
                Self::approval(tenant, site, "eve", generation, other.hash)
            }
            Attack::MadeByOtherVendor => {
                self.edit(tenant, site).await;
                let state = self.state(tenant).await;
                let order = self.due(&state, tenant, site).unwrap();
                let vendors = self.vendors.snapshot();
                let effects = &vendors.get(VENDORS[ELSEWHERE]).unwrap().terraform.as_ref().unwrap().effects;
                let plan = self.plan_with(effects);
                let finding = Finding::Planned { plan: serde_json::from_value(plan.clone()).unwrap() };
                let reported = self.report(tenant, site, "executor", &order, finding).await;
                assert_eq!(code(&reported), None, "a report is heard, and says nothing new");
                let (tail, _) = Self::approval(tenant, site, "eve", generation, hash);
                (tail, json!({ "generation": order.generation(), "plan": plan["hash"] }))
            }
        };
        code(&self.ask(&tail, &body).await)
    }

    /// An edit and an approval of what it takes the place of are on their way together: whichever is first, the edit is
    /// not applied by that approval.
    async fn race(&mut self, tenant: usize, site: usize, waiting: &Waiting) -> Option<Reason> {
        self.edits += 1;
        let edit = json!({ "settings": { "location": format!("Race {}", self.edits) } });
        let change = format!("{}.ann.site.{}.change", TENANTS[tenant], SITES[site]);
        let (approve, body) = Self::approval(tenant, site, "bob", waiting.generation, waiting.hash);
        let (edited, approved) = match self.edits % 2 {
            0 => tokio::join!(self.ask(&change, &edit), self.ask(&approve, &body)),
            _ => {
                let (approved, edited) = tokio::join!(self.ask(&approve, &body), self.ask(&change, &edit));
                (edited, approved)
            }
        };
        assert_eq!(code(&edited), None);
        if code(&approved).is_none() {
            // It came first, and was right then; what is due now is another wish.
            self.approved.insert(waiting.hash);
        }
        let state = self.state(tenant).await;
        let due = self.due(&state, tenant, site).unwrap();
        assert!(
            matches!(due.intent, Intent::Plan { .. }),
            "an edit was applied that nobody approved: {due:?}"
        );
        code(&approved)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_attacks_get_nothing_applied() {
    let mut scene = Scene::open().await;
    let mut answers: BTreeMap<Attack, BTreeMap<Option<Reason>, usize>> = BTreeMap::new();
    for turn in 0..ATTACKS {
        let attack = ALL[turn % ALL.len()];
        let answer = scene.attack(attack, turn / ALL.len()).await;
        *answers.entry(attack).or_default().entry(answer).or_default() += 1;
        scene.look().await;
    }
    let heard_and_void = [
        Attack::Replayed,
        Attack::Racing,
        Attack::FalselyStale,
        Attack::ApprovedThenExpired,
        Attack::ApprovedThenOtherTemplate,
    ];
    for (attack, answers) in &answers {
        eprintln!("{attack:?}: {answers:?}");
        let accepted = answers.contains_key(&None);
        assert!(!accepted || heard_and_void.contains(attack), "{attack:?}: {answers:?}");
    }
    for (attack, reason) in REFUSED_WITH {
        assert_eq!(answers[&attack].keys().collect::<Vec<_>>(), [&Some(reason)], "{attack:?}");
    }
    let foreign: Vec<_> = scene.applied.difference(&scene.approved).collect();
    eprintln!("{ATTACKS} attacks, {} applied that nobody approved; {} plans", foreign.len(), scene.made);
    assert!(foreign.is_empty(), "{foreign:?}");
    assert!(scene.applied.len() > 100, "the honest ones were applied: {}", scene.applied.len());
    scene.service.stop().await;
    scene.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_with_a_plan_says_clearly_that_nobody_can_make_one() {
    let world = World::new().await;
    let mut head = crate::world::with(CommandId::mint());
    head.insert("Wan-Dry-Run", "true");
    head.insert("Wan-Plan", "true");
    let subject = "wan.do.acme.demo.site.oslo.create";
    let asked = world.nats.client.request_with_headers(subject, head, crate::world::SITE.into());
    let answer: Value = serde_json::from_slice(&asked.await.unwrap().payload).unwrap();
    assert_eq!(answer["would_plan"][0]["target"], json!({"kind": "site", "id": "oslo"}));
    assert_eq!(answer["would_plan"][0]["trouble"]["code"], "PreviewUnavailable", "{answer}");
    assert!(world.history("acme").await.is_empty());
    let mut head = crate::world::with(CommandId::mint());
    head.insert("Wan-Plan", "true");
    let asked = world.nats.client.request_with_headers(subject, head, crate::world::SITE.into());
    let refused: Outcome = serde_json::from_slice(&asked.await.unwrap().payload).unwrap();
    assert_eq!(code(&refused), Some(Reason::BadHeader));
    world.stop().await;
}
