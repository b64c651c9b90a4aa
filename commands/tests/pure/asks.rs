//! The commands of random lives, and how people would type them and executors would report.

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::json;
use wanwright_schemas::event::{Change, Event};
use wanwright_schemas::ids::{CommandId, OrderId};
use wanwright_schemas::order::{Intent, Order};
use wanwright_schemas::plan::Stale;
use wanwright_schemas::policy::CustomerChange;
use wanwright_schemas::report::{Finding, ObjectFinding, Outputs, Report};
use wanwright_schemas::{Digest, ObjectRef, Reason, Target};

use crate::harness::{VENDORS as CATALOGUE, World, applied, check_of, field, id, map, objects};
use crate::model::{
    ACCOUNTS, ASNS, Ask, AtVendor, BUYERS, End, FILES, Found, HOST_BITS, Kind, MODELS, Model, PREFIXES,
    Planned, Rule, Said, Session, Told, VENDORS, WINDOWS, What,
};

/// Why something fails.
const CODES: [Reason; 3] = [Reason::VendorRefused, Reason::OutcomeUnknown, Reason::Internal];

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Site), Just(Kind::Tunnel), Just(Kind::Device)]
}

/// A thing: mostly one of those that a life begins with.
fn thing() -> impl Strategy<Value = (Kind, u8)> {
    prop_oneof![
        4 => (0..3u8).prop_map(|name| (Kind::Site, name)),
        3 => Just((Kind::Tunnel, 0)),
        3 => Just((Kind::Device, 0)),
        6 => (kind(), 0..4u8),
    ]
}

fn lan() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![6 => prop::collection::vec(0..8usize, 1), 2 => prop::collection::vec(0..=HOST_BITS, 0..4)]
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![4 => (0..3u8).prop_map(End::Site), 3 => Just(End::Hub), 1 => Just(End::NoHub)]
}

fn inside() -> impl Strategy<Value = usize> {
    prop_oneof![8 => 6..11usize, 1 => 0..=HOST_BITS]
}

fn session() -> impl Strategy<Value = Session> {
    prop_oneof![
        6 => Just(Session::Silent),
        3 => (0..2usize, 0..2usize).prop_map(|(near, far)| Session::Both(near, far)),
        1 => (0..ASNS.len(), 0..ASNS.len()).prop_map(|(near, far)| Session::Both(near, far)),
        1 => Just(Session::None),
        1 => (0..3usize).prop_map(Session::Near),
    ]
}

fn rule() -> impl Strategy<Value = Rule> {
    prop_oneof![3 => Just(Rule::Apply), 4 => (1..3usize).prop_map(Rule::Approve)]
}

fn plan_rule() -> impl Strategy<Value = Rule> {
    let minutes = prop_oneof![4 => Just(1440), 3 => Just(10), 1 => Just(9)];
    (1..3usize, any::<bool>(), minutes).prop_map(|(by, any, minutes)| Rule::Plan { by, any, minutes })
}

pub fn ask() -> impl Strategy<Value = Ask> {
    let (site, tunnel, device) = (0..3u8, 0..4u8, 0..3u8);
    let vendor = prop_oneof![4 => Just(0), 1 => Just(1)];
    prop_oneof![
        4 => (site.clone(), vendor, lan()).prop_map(|(site, vendor, lan)| Ask::CreateSite { site, vendor, lan }),
        2 => (site.clone(), lan()).prop_map(|(site, lan)| Ask::ChangeSite { site, lan }),
        5 => (tunnel.clone(), site.clone(), end(), inside(), session())
            .prop_map(|(tunnel, site, end, inside, session)| Ask::CreateTunnel { tunnel, site, end, inside, session }),
        4 => (tunnel, end(), inside(), session())
            .prop_map(|(tunnel, end, inside, session)| Ask::ChangeTunnel { tunnel, end, inside, session }),
        3 => (device.clone(), site, 0..3u8, 0..3usize)
            .prop_map(|(device, site, serial, model)| Ask::CreateDevice { device, site, serial, model }),
        5 => (device, any::<bool>()).prop_map(|(device, hostname)| Ask::ChangeDevice { device, hostname }),
        3 => thing().prop_map(|(kind, name)| Ask::Decommission(kind, name)),
        3 => thing().prop_map(|(kind, name)| Ask::Retry(kind, name)),
        2 => thing().prop_map(|(kind, name)| Ask::Check(kind, name)),
        1 => Just(Ask::CheckAll),
        8 => held(),
        5 => timed(),
        6 => of_vendors(),
    ]
}

/// What keeps things as they are, and what takes much down at once. Every hold is lifted more often than it is made:
/// else nothing would ever happen.
fn held() -> impl Strategy<Value = Ask> {
    let often = || prop_oneof![1 => Just(true), 2 => Just(false)];
    prop_oneof![
        4 => (0..3u8).prop_map(Ask::DecommissionAll),
        1 => any::<bool>().prop_map(|cascade| Ask::DecommissionCustomer { cascade }),
        3 => thing().prop_map(|(kind, name)| Ask::Suspend(kind, name)),
        4 => thing().prop_map(|(kind, name)| Ask::Resume(kind, name)),
        1 => Just(Ask::SuspendCustomer),
        3 => Just(Ask::ResumeCustomer),
        5 => (thing(), often()).prop_map(|((kind, name), protected)| Ask::Protect(kind, name, protected)),
        4 => (thing(), prop_oneof![4 => Just(0), 1 => Just(1)])
            .prop_map(|((kind, name), off)| Ask::Approve(kind, name, off)),
        1 => (thing(), prop_oneof![4 => Just(0), 1 => Just(1)])
            .prop_map(|((kind, name), off)| Ask::Reject(kind, name, off)),
        8 => (kind(), rule()).prop_map(|(kind, rule)| Ask::Policy(kind, rule)),
        6 => prop_oneof![4 => Just(0), 1 => Just(1)].prop_map(Ask::ApprovePolicy),
        2 => prop_oneof![4 => Just(0), 1 => Just(1)].prop_map(Ask::RejectPolicy),
        2 => (0..2u8, -5..20i64, -5..20i64).prop_map(|(name, from, to)| Ask::Freeze(name, from, to)),
        3 => (0..2u8).prop_map(Ask::Unfreeze),
    ]
}

/// What is about plans, versions of templates, accounts and serial numbers.
fn of_vendors() -> impl Strategy<Value = Ask> {
    let mostly = |kind: Kind| prop_oneof![9 => Just(kind), 1 => self::kind()];
    let off = || prop_oneof![6 => Just(0), 1 => Just(1)];
    let version = || prop_oneof![5 => 1..3u32, 1 => Just(3)];
    prop_oneof![
        4 => (mostly(Kind::Site), plan_rule()).prop_map(|(kind, rule)| Ask::Policy(kind, rule)),
        4 => (mostly(Kind::Site), 0..3u8, off(), off())
            .prop_map(|(kind, name, off, file)| Ask::ApprovePlan(kind, name, off, file)),
        2 => (mostly(Kind::Site), 0..3u8, off(), off())
            .prop_map(|(kind, name, off, file)| Ask::RejectPlan(kind, name, off, file)),
        3 => (prop_oneof![8 => Just(0), 1 => Just(1), 1 => Just(2)], prop::option::of(0..ACCOUNTS.len()))
            .prop_map(|(vendor, account)| Ask::Account(vendor, account)),
        6 => (0..3u8, version(), version(), prop_oneof![1 => Just(0), 4 => Just(1)], any::<bool>(), any::<bool>())
            .prop_map(|(site, from, to, rollout, odd, other)| Ask::Assign {
                site,
                from,
                to,
                rollout,
                as_planned: !odd || from == 2,
                by: if other { "other" } else { "demo" },
            }),
        1 => prop::collection::vec((0..3u8, 0..3u8), 0..4).prop_map(Ask::Confirm),
    ]
}

/// What is about windows, earlier generations and remarks.
fn timed() -> impl Strategy<Value = Ask> {
    prop_oneof![
        4 => (kind(), 0..3usize).prop_map(|(kind, rank)| Ask::Windows(kind, rank)),
        4 => thing().prop_map(|(kind, name)| Ask::Release(kind, name)),
        5 => (thing(), prop_oneof![1 => Just(0), 5 => Just(1), 3 => 2..5i64, 3 => -3..0i64])
            .prop_map(|((kind, name), back)| Ask::Revert(kind, name, back)),
        5 => (thing(), prop_oneof![3 => Just(false), 1 => Just(true)])
            .prop_map(|((kind, name), tried)| Ask::Cancel(kind, name, tried)),
        2 => thing().prop_map(|(kind, name)| Ask::Acknowledge(kind, name)),
        1 => thing().prop_map(|(kind, name)| Ask::Note(kind, name)),
    ]
}

/// By how much the generation is off that somebody says he saw, where he says one.
pub fn saw() -> impl Strategy<Value = Option<i64>> {
    prop_oneof![6 => Just(None), 3 => Just(Some(0)), 1 => Just(Some(1)), 1 => Just(Some(-1))]
}

/// The subject and the body a person would type.
pub fn typed(ask: &Ask, model: &Model, now: Timestamp) -> (String, String) {
    let prefix = |at: &usize| PREFIXES[*at].0;
    let peer = |end: &End| match end {
        End::Site(site) => json!({"site": format!("s{site}")}),
        End::Hub => json!({"hub": "hub-a"}),
        End::NoHub => json!({"hub": "hub-x"}),
    };
    match ask {
        Ask::CreateSite { site, vendor, lan } => {
            let lan: Vec<&str> = lan.iter().map(prefix).collect();
            (format!("site.s{site}.create"), json!({"vendor": VENDORS[*vendor], "lan": lan}).to_string())
        }
        Ask::ChangeSite { site, lan } => {
            let lan: Vec<&str> = lan.iter().map(prefix).collect();
            (format!("site.s{site}.change"), json!({"lan": lan}).to_string())
        }
        Ask::CreateTunnel { tunnel, site, end, inside, session } => {
            let mut body = json!({"site": format!("s{site}"), "peer": peer(end), "inside": prefix(inside)});
            say(*session, &mut body);
            (format!("tunnel.t{tunnel}.create"), body.to_string())
        }
        Ask::ChangeTunnel { tunnel, end, inside, session } => {
            let mut peer = peer(end);
            let other = if matches!(end, End::Site(_)) { "hub" } else { "site" };
            peer[other] = json!(null);
            let mut body = json!({"peer": peer, "inside": prefix(inside)});
            say(*session, &mut body);
            (format!("tunnel.t{tunnel}.change"), body.to_string())
        }
        Ask::CreateDevice { device, site, serial, model } => (
            format!("device.d{device}.create"),
            json!({"site": format!("s{site}"), "serial": format!("SN-{serial}"), "model": MODELS[*model]})
                .to_string(),
        ),
        Ask::ChangeDevice { device, hostname } => {
            // Taking the setting away is the same wish as never having had it.
            let hostname = if *hostname { json!("ap") } else { json!(null) };
            (format!("device.d{device}.change"), json!({"settings": {"hostname": hostname}}).to_string())
        }
        Ask::Decommission(kind, name) => (format!("{}.decommission", named(*kind, *name)), String::new()),
        Ask::Retry(kind, name) => (format!("{}.retry", named(*kind, *name)), String::new()),
        Ask::Check(kind, name) => (format!("{}.check-drift", named(*kind, *name)), String::new()),
        Ask::CheckAll => ("customer.acme.check-drift".into(), String::new()),
        other => typed_hold(other, model, now),
    }
}

fn say(session: Session, body: &mut serde_json::Value) {
    let asn = |at: usize| ASNS[at].0;
    match session {
        Session::Silent => {}
        Session::None => body["bgp"] = json!(null),
        Session::Both(near, far) => body["bgp"] = json!({"local_asn": asn(near), "peer_asn": asn(far)}),
        Session::Near(near) => body["bgp"] = json!({"local_asn": asn(near)}),
    }
}

fn hash_of(file: usize) -> Digest {
    Digest::of(format!("file {file}").as_bytes())
}

pub fn file_of(hash: Digest) -> usize {
    (0..FILES).find(|file| hash_of(*file) == hash).expect("one of the files")
}

/// The digest of a version of the first vendor's template, and of what its resources do.
fn version(version: u32) -> Option<(String, String)> {
    let template = CATALOGUE.get(VENDORS[0])?.template(version)?;
    Some((template.digest.clone(), template.effects.clone()))
}

pub fn named(kind: Kind, name: u8) -> String {
    match kind {
        Kind::Site => format!("site.s{name}"),
        Kind::Tunnel => format!("tunnel.t{name}"),
        Kind::Device => format!("device.d{name}"),
    }
}

fn typed_hold(ask: &Ask, model: &Model, now: Timestamp) -> (String, String) {
    let own = |verb: &str| format!("customer.acme.{verb}");
    let minute = |minutes: &i64| (now + SignedDuration::from_mins(*minutes)).to_string();
    let (tail, body) = match ask {
        Ask::DecommissionAll(site) => (format!("site.s{site}.decommission"), json!({"cascade": true})),
        Ask::DecommissionCustomer { cascade } => (own("decommission"), json!({"cascade": cascade})),
        Ask::Suspend(kind, name) => (format!("{}.suspend", named(*kind, *name)), json!({"reason": "works"})),
        Ask::Resume(kind, name) => (format!("{}.resume", named(*kind, *name)), json!({})),
        Ask::SuspendCustomer => (own("suspend"), json!({"reason": "works"})),
        Ask::ResumeCustomer => (own("resume"), json!({})),
        Ask::Protect(kind, name, true) => (format!("{}.protect", named(*kind, *name)), json!({})),
        Ask::Protect(kind, name, false) => (format!("{}.unprotect", named(*kind, *name)), json!({})),
        Ask::Approve(kind, name, off) => {
            let generation = model.generation(*kind, *name) + off;
            (format!("{}.approve", named(*kind, *name)), json!({"generation": generation}))
        }
        Ask::Reject(kind, name, off) => {
            let generation = model.generation(*kind, *name) + off;
            let body = json!({"generation": generation, "reason": "no"});
            (format!("{}.reject", named(*kind, *name)), body)
        }
        Ask::ApprovePolicy(off) => (own("approve"), json!({"generation": model.asked() + off})),
        Ask::RejectPolicy(off) => (own("reject"), json!({"generation": model.asked() + off, "reason": "no"})),
        Ask::ApprovePlan(kind, name, off, other) => {
            let generation = model.generation(*kind, *name) + off;
            let plan = hash_of(model.file(*kind, *name, *other));
            (format!("{}.approve", named(*kind, *name)), json!({"generation": generation, "plan": plan}))
        }
        Ask::RejectPlan(kind, name, off, other) => {
            let generation = model.generation(*kind, *name) + off;
            let plan = hash_of(model.file(*kind, *name, *other));
            let body = json!({"generation": generation, "plan": plan, "reason": "no"});
            (format!("{}.reject", named(*kind, *name)), body)
        }
        Ask::Account(vendor, account) => {
            let account = account.map(|account| {
                let (credential, budget, _) = ACCOUNTS[account];
                json!({"credential": credential, "budget": budget})
            });
            (own("change"), json!({"accounts": {BUYERS[*vendor]: account}}))
        }
        Ask::Assign { site, from, to, rollout, as_planned, by } => {
            let digest = version(*to).filter(|_| *as_planned).map(|(digest, _)| digest).unwrap_or_default();
            let rollout = model.rollout(*site) + rollout;
            let body = json!({"version": to, "digest": digest, "from": from, "rollout": rollout, "by": by});
            (format!("site.s{site}.assign-template"), body)
        }
        Ask::Confirm(claims) => {
            let claim = |(device, serial): &(u8, u8)| json!({"device": format!("d{device}"), "serial": format!("SN-{serial}")});
            (own("confirm-claims"), json!({"claims": claims.iter().map(claim).collect::<Vec<_>>()}))
        }
        Ask::Policy(kind, rule) => {
            let kind = format!("{kind:?}").to_lowercase();
            let rule = match rule {
                Rule::Apply => json!(null),
                Rule::Approve(1) => json!("approve"),
                Rule::Approve(by) => json!({"plan": null, "approve": {"by": by}}),
                Rule::Plan { by, any, minutes } => {
                    let only = if *any { "changes" } else { "destroys" };
                    json!({"approve": null, "plan": {"by": by, "only": only, "valid": format!("{minutes}m")}})
                }
            };
            (own("change"), json!({"policy": {kind: rule}}))
        }
        Ask::Freeze(name, from, to) => {
            let name = format!("f{name}");
            (own("freeze"), json!({"name": name, "from": minute(from), "to": minute(to), "reason": "quiet"}))
        }
        Ask::Unfreeze(name) => (own("unfreeze"), json!({"name": format!("f{name}")})),
        Ask::Windows(kind, rank) => {
            let kind = if *kind == Kind::Device { "device" } else { "site" };
            let clock = |minute: i64| format!("{:02}:{:02}", minute / 60, minute % 60);
            let window = WINDOWS.get(*rank).map(
                |(from, to)| json!({"zone": "UTC", "from": clock(*from), "to": clock(*to), "kinds": [kind]}),
            );
            (own("change"), json!({"windows": {kind: window}}))
        }
        Ask::Release(kind, name) => (format!("{}.release", named(*kind, *name)), json!({"reason": "now"})),
        Ask::Revert(kind, name, back) => {
            let generation = model.generation(*kind, *name).saturating_add_signed(-back);
            (format!("{}.revert", named(*kind, *name)), json!({"to_generation": generation}))
        }
        Ask::Cancel(kind, name, _) => (format!("{}.cancel", named(*kind, *name)), json!({})),
        Ask::Acknowledge(kind, name) => {
            (format!("{}.acknowledge", named(*kind, *name)), json!({"reason": "known"}))
        }
        Ask::Note(kind, name) => (format!("{}.note", named(*kind, *name)), json!({"text": "so"})),
        other => panic!("{other:?} holds nothing"),
    };
    (tail, body.to_string())
}

/// What an honest executor says about an order: something about each of its objects, unless one failed, or of all of it that
/// this is the plan, or that the plan does not hold any more.
pub fn honest(order: &Order, bits: u8, silent: u8) -> (Target, Report) {
    let whole = match (&order.intent, &order.plan) {
        (Intent::Plan { .. }, _) if bits & 1 == 1 => {
            Some(planned(order.template.as_ref().map_or(1, |template| template.version), bits))
        }
        (_, Some(plan)) if silent % 5 == 4 => Some(Finding::PlanStale { plan: plan.hash, why: Stale::State }),
        _ => None,
    };
    if let Some(finding) = whole {
        let (object, uid, ..) = objects(order).swap_remove(0);
        return (
            order.target(),
            Report { order: order.id, findings: vec![ObjectFinding { object, uid, finding }], state: None },
        );
    }
    let mut report = Report { order: order.id, findings: Vec::new(), state: None };
    for (at, (object, uid, generation, mut outputs)) in objects(order).into_iter().enumerate() {
        if matches!(object, ObjectRef::Site(_)) {
            outputs.insert("address".into(), json!(format!("203.0.113.{}", bits >> 6)));
        }
        let finding = match (bits >> at & 1 == 1, generation) {
            (true, Some(generation)) => applied(generation, outputs),
            (true, None) => Finding::Removed,
            (false, generation) => fails(generation.unwrap_or_default(), usize::from(bits >> 6) + at),
        };
        report.findings.push(ObjectFinding { object, uid, finding });
    }
    let fails = |found: &ObjectFinding| matches!(found.finding, Finding::Failed { .. });
    let said = |(at, found)| (silent >> at & 1 == 0).then_some(found);
    let rest: Vec<_> = report.findings.iter().cloned().enumerate().filter_map(said).collect();
    if rest.iter().any(fails) {
        report.findings = rest;
    }
    (order.target(), report)
}

fn fails(generation: u64, why: usize) -> Finding {
    Finding::Failed { generation, code: CODES[why % CODES.len()], message: "no".into() }
}

/// A plan by this version of the template: which file, and what it counts. By no version it was made with another folder.
fn planned(by: u32, bits: u8) -> Finding {
    let effects = version(by).map(|(_, effects)| effects).unwrap_or_default();
    let counts = match bits >> 4 & 3 {
        0 => json!({"create": 0, "update": 0, "delete": 0, "replace": 0}),
        1 => json!({"create": 1, "update": 0, "delete": 0, "replace": 1}),
        _ => json!({"create": 0, "update": 2, "delete": 0, "replace": 0}),
    };
    let plan = json!({
        "hash": hash_of(usize::from(bits >> 6) % FILES), "template": effects, "serial": 3, "lineage": "l", "counts": counts,
    });
    Finding::Planned { plan: serde_json::from_value(plan).expect("a plan") }
}

pub fn looked(order: &Order, bits: u8) -> (Target, Report) {
    let check = check_of(order);
    let mut report = Report { order: order.id, findings: Vec::new(), state: None };
    for (at, (object, uid, _, _)) in objects(order).into_iter().enumerate() {
        let drifted = bits >> at & 1 == 1;
        let finding = if drifted {
            Finding::Drifted { check, fields: vec![field()] }
        } else {
            Finding::InSync { check }
        };
        report.findings.push(ObjectFinding { object, uid, finding });
    }
    (order.target(), report)
}

/// Under which order something is said that nobody asked for.
#[derive(Clone, Copy, Debug)]
pub enum Under {
    /// The change or the look that is wanted now, where there is one.
    Change,
    Look,
    /// One that was issued before.
    Former(usize),
    Invented,
}

/// Something that nobody asked for.
#[derive(Clone, Debug)]
pub struct Nonsense {
    about: usize,
    /// What is said, and of which generation, for each time that something is said about the same object.
    bits: Vec<u8>,
    pub under: Under,
    /// Whether it says that it comes from the look that is wanted now, where there is one.
    asked: bool,
    /// Whether it is about a namesake.
    namesake: bool,
    /// On whose subject it is said, where that is not the object's own.
    pub elsewhere: Option<usize>,
}

pub fn nonsense() -> impl Strategy<Value = Nonsense> {
    let under = prop_oneof![
        2 => Just(Under::Change),
        3 => Just(Under::Look),
        2 => any::<usize>().prop_map(Under::Former),
        2 => Just(Under::Invented),
    ];
    let bits = prop::collection::vec(any::<u8>(), 1..3);
    let rarely = || prop_oneof![8 => Just(false), 1 => Just(true)];
    let elsewhere = (rarely(), 0..6usize).prop_map(|(is_so, target)| is_so.then_some(target));
    (0..10usize, bits, under, any::<bool>(), rarely(), elsewhere).prop_map(
        |(about, bits, under, asked, namesake, elsewhere)| Nonsense {
            about,
            bits,
            under,
            asked,
            namesake,
            elsewhere,
        },
    )
}

impl Nonsense {
    /// What it is about, as `tunnel.t1`.
    pub fn object(&self) -> String {
        match self.about {
            0..3 => format!("site.s{}", self.about),
            3..7 => format!("tunnel.t{}", self.about - 3),
            _ => format!("device.d{}", self.about - 7),
        }
    }

    /// An order's id that there never was.
    pub fn invented(&self) -> OrderId {
        let id = format!("44136fa3-55b3-878a-9146-ad16f7e864{:02x}", self.bits[0]);
        serde_json::from_value(json!(id)).expect("an order's id")
    }

    /// What it says of the object that this command made; `check` asked for the look that is wanted now.
    pub fn findings(
        &self,
        object: &ObjectRef,
        uid: CommandId,
        check: Option<CommandId>,
    ) -> Vec<ObjectFinding> {
        let uid = if self.namesake { id(u64::from(self.bits[0])) } else { uid };
        let finding = |bits: &u8| {
            let generation = u64::from(bits >> 5);
            let check = check.filter(|_| self.asked).unwrap_or(id(u64::from(*bits)));
            let finding = match bits % 7 {
                5 => planned(u32::from(bits & 3), *bits),
                6 => {
                    Finding::PlanStale { plan: hash_of(usize::from(bits >> 6) % FILES), why: Stale::Missing }
                }
                0 => applied(generation, map(json!({"id": "x", "address": "203.0.113.200"}))),
                1 => fails(generation, usize::from(bits >> 4)),
                2 => Finding::Removed,
                3 => Finding::InSync { check },
                _ => Finding::Drifted { check, fields: vec![field()] },
            };
            ObjectFinding { object: object.clone(), uid, finding }
        };
        self.bits.iter().map(finding).collect()
    }
}

/// The number of a command: they are counted in their ids.
fn number_of(command: CommandId) -> u64 {
    command.unix_millis() - id(0).unix_millis()
}

/// The minute of a life that a moment is.
pub fn minute_of(moment: Timestamp) -> i64 {
    (moment.as_second() - World::default().now.as_second()) / 60
}

/// What the model calls an object.
fn called(object: &ObjectRef) -> (Kind, u8) {
    let kind = match object {
        ObjectRef::Site(_) => Kind::Site,
        ObjectRef::Tunnel(_) => Kind::Tunnel,
        ObjectRef::Device(_) => Kind::Device,
        ObjectRef::Customer(_) => panic!("nobody reports about customers"),
    };
    (kind, object.id()[1..].parse().expect("a number"))
}

fn at_vendor(outputs: &Outputs) -> AtVendor {
    let text = |name: &str| outputs.get(name)?.as_str().map(str::to_owned);
    let inputs = outputs.get("inputs").and_then(serde_json::Value::as_object);
    let with = inputs.and_then(|inputs| inputs.values().next()?.as_str().map(str::to_owned));
    AtVendor { id: text("id"), address: text("address"), with }
}

/// What an executor says, in the model's terms.
pub fn found(findings: &[ObjectFinding]) -> Vec<Found> {
    let found = |ObjectFinding { object, uid, finding }: &ObjectFinding| {
        let what = match finding {
            Finding::Applied { generation, outputs } => What::Applied(*generation, at_vendor(outputs)),
            Finding::Failed { generation, code, .. } => What::Failed(*generation, *code),
            Finding::Removed => What::Removed,
            Finding::Drifted { check, .. } => What::Drifted(number_of(*check)),
            Finding::InSync { check } => What::InSync(number_of(*check)),
            Finding::Planned { plan } => What::Told(Told {
                file: file_of(plan.hash),
                by: (1..3).find(|by| version(*by).is_some_and(|(_, effects)| effects == plan.template)),
                changes: !plan.counts.is_empty(),
                destroys: plan.counts.destroys(),
            }),
            Finding::PlanStale { plan, .. } => What::PlanStale(file_of(*plan)),
        };
        let (kind, name) = called(object);
        Found { kind, name, born: number_of(*uid), what }
    };
    findings.iter().map(found).collect()
}

/// What was recorded of a report about this order, in the model's terms.
pub fn said(event: &Event, order: OrderId) -> Said {
    match event {
        Event::Site(_, change) => said_of(event, change, order),
        Event::Tunnel(_, change) => said_of(event, change, order),
        Event::Device(_, change) => said_of(event, change, order),
        Event::Customer(_, CustomerChange::Removed {}) => Said::End,
        Event::Customer(..) => panic!("no report says {event:?}"),
    }
}

fn said_of<S>(event: &Event, change: &Change<S>, by: OrderId) -> Said {
    let (kind, name) = called(&event.object());
    let what = match change {
        Change::Applied { generation, order, outputs } if *order == by => {
            What::Applied(*generation, at_vendor(outputs))
        }
        Change::Failed { generation, order, code, .. } if *order == by => What::Failed(*generation, *code),
        Change::Planned { order, plan, expires, requested_by, approvals, .. } if *order == by => {
            let asked = requested_by.iter().map(|actor| actor.as_str().to_owned()).collect();
            let needs = approvals.as_ref().map_or(0, |approvals| approvals.by as usize);
            What::Planned(Planned { file: file_of(plan.hash), until: minute_of(*expires), asked, needs })
        }
        Change::PlanApplied { order, plan, .. } if *order == by => What::PlanApplied(file_of(*plan)),
        Change::PlanStale { order, plan, .. } if *order == by => What::PlanStale(file_of(*plan)),
        Change::Removed { order } if *order == by => What::Removed,
        Change::DriftFound { check, .. } => What::Drifted(number_of(*check)),
        Change::DriftNotFound { check } => What::InSync(number_of(*check)),
        Change::Postponed { generation, until: Some(until), .. } => {
            return Said::Postponed(kind, name, *generation, minute_of(*until));
        }
        _ => panic!("no report says {event:?}"),
    };
    Said::About(kind, name, what)
}
