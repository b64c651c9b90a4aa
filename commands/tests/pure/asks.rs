//! The commands of random lives, and how people would type them and executors would report.

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::json;
use wanwright_schemas::event::{Change, Event};
use wanwright_schemas::ids::{CommandId, OrderId};
use wanwright_schemas::order::Order;
use wanwright_schemas::policy::CustomerChange;
use wanwright_schemas::report::{Finding, ObjectFinding, Outputs, Report};
use wanwright_schemas::{ObjectRef, Target};

use crate::harness::{World, applied, check_of, failure, field, id, map, objects};
use crate::model::{
    Ask, AtVendor, End, Found, HOST_BITS, Kind, MODELS, Model, PREFIXES, Said, VENDORS, WINDOWS, What,
};

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Site), Just(Kind::Tunnel), Just(Kind::Device)]
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

pub fn ask() -> impl Strategy<Value = Ask> {
    let (site, tunnel, device) = (0..3u8, 0..4u8, 0..3u8);
    let vendor = prop_oneof![4 => Just(0), 1 => Just(1)];
    prop_oneof![
        4 => (site.clone(), vendor, lan()).prop_map(|(site, vendor, lan)| Ask::CreateSite { site, vendor, lan }),
        2 => (site.clone(), lan()).prop_map(|(site, lan)| Ask::ChangeSite { site, lan }),
        5 => (tunnel.clone(), site.clone(), end(), inside())
            .prop_map(|(tunnel, site, end, inside)| Ask::CreateTunnel { tunnel, site, end, inside }),
        3 => (tunnel, end(), inside()).prop_map(|(tunnel, end, inside)| Ask::ChangeTunnel { tunnel, end, inside }),
        3 => (device.clone(), site, 0..3u8, 0..3usize)
            .prop_map(|(device, site, serial, model)| Ask::CreateDevice { device, site, serial, model }),
        5 => (device, any::<bool>()).prop_map(|(device, hostname)| Ask::ChangeDevice { device, hostname }),
        3 => (kind(), 0..4u8).prop_map(|(kind, name)| Ask::Decommission(kind, name)),
        3 => (kind(), 0..4u8).prop_map(|(kind, name)| Ask::Retry(kind, name)),
        2 => (kind(), 0..4u8).prop_map(|(kind, name)| Ask::Check(kind, name)),
        1 => Just(Ask::CheckAll),
        8 => held(),
        5 => timed(),
    ]
}

/// What keeps things as they are, and what takes much down at once. Every hold is lifted more often than it is made:
/// else nothing would ever happen.
fn held() -> impl Strategy<Value = Ask> {
    let often = || prop_oneof![1 => Just(true), 2 => Just(false)];
    prop_oneof![
        4 => (0..3u8).prop_map(Ask::DecommissionAll),
        1 => any::<bool>().prop_map(|cascade| Ask::DecommissionCustomer { cascade }),
        2 => (kind(), 0..4u8).prop_map(|(kind, name)| Ask::Suspend(kind, name)),
        4 => (kind(), 0..4u8).prop_map(|(kind, name)| Ask::Resume(kind, name)),
        1 => Just(Ask::SuspendCustomer),
        3 => Just(Ask::ResumeCustomer),
        5 => (kind(), 0..4u8, often()).prop_map(|(kind, name, protected)| Ask::Protect(kind, name, protected)),
        4 => (kind(), 0..4u8, prop_oneof![4 => Just(0), 1 => Just(1)])
            .prop_map(|(kind, name, off)| Ask::Approve(kind, name, off)),
        1 => (kind(), 0..4u8, prop_oneof![4 => Just(0), 1 => Just(1)])
            .prop_map(|(kind, name, off)| Ask::Reject(kind, name, off)),
        8 => (kind(), 0..3usize).prop_map(|(kind, needs)| Ask::Policy(kind, needs)),
        6 => prop_oneof![4 => Just(0), 1 => Just(1)].prop_map(Ask::ApprovePolicy),
        1 => prop_oneof![4 => Just(0), 1 => Just(1)].prop_map(Ask::RejectPolicy),
        1 => (0..3u8, -5..20i64, -5..20i64).prop_map(|(name, from, to)| Ask::Freeze(name, from, to)),
        2 => (0..3u8).prop_map(Ask::Unfreeze),
    ]
}

/// What is about windows, earlier generations and remarks.
fn timed() -> impl Strategy<Value = Ask> {
    prop_oneof![
        4 => (kind(), 0..3usize).prop_map(|(kind, rank)| Ask::Windows(kind, rank)),
        4 => (kind(), 0..4u8).prop_map(|(kind, name)| Ask::Release(kind, name)),
        5 => (kind(), 0..4u8, prop_oneof![1 => Just(0), 5 => Just(1), 3 => 2..5i64, 3 => -3..0i64])
            .prop_map(|(kind, name, back)| Ask::Revert(kind, name, back)),
        5 => (kind(), 0..4u8, prop_oneof![3 => Just(false), 1 => Just(true)])
            .prop_map(|(kind, name, tried)| Ask::Cancel(kind, name, tried)),
        2 => (kind(), 0..4u8).prop_map(|(kind, name)| Ask::Acknowledge(kind, name)),
        1 => (kind(), 0..4u8).prop_map(|(kind, name)| Ask::Note(kind, name)),
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
        Ask::CreateTunnel { tunnel, site, end, inside } => (
            format!("tunnel.t{tunnel}.create"),
            json!({"site": format!("s{site}"), "peer": peer(end), "inside": prefix(inside)}).to_string(),
        ),
        Ask::ChangeTunnel { tunnel, end, inside } => {
            let mut peer = peer(end);
            let other = if matches!(end, End::Site(_)) { "hub" } else { "site" };
            peer[other] = json!(null);
            (format!("tunnel.t{tunnel}.change"), json!({"peer": peer, "inside": prefix(inside)}).to_string())
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
        Ask::Policy(kind, needs) => {
            let kind = format!("{kind:?}").to_lowercase();
            let rule = match needs {
                0 => json!(null),
                1 => json!("approve"),
                by => json!({"approve": {"by": by}}),
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

/// What an honest executor says about an order: something about each of its objects, unless one failed.
pub fn honest(order: &Order, bits: u8, silent: u8) -> (Target, Report) {
    let mut report = Report { order: order.id, findings: Vec::new() };
    for (at, (object, uid, generation, mut outputs)) in objects(order).into_iter().enumerate() {
        if matches!(object, ObjectRef::Site(_)) {
            outputs.insert("address".into(), json!(format!("203.0.113.{}", bits >> 6)));
        }
        let finding = match (bits >> at & 1 == 1, generation) {
            (true, Some(generation)) => applied(generation, outputs),
            (true, None) => Finding::Removed,
            (false, generation) => failure(generation.unwrap_or_default()),
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

pub fn looked(order: &Order, bits: u8) -> (Target, Report) {
    let check = check_of(order);
    let mut report = Report { order: order.id, findings: Vec::new() };
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
            let finding = match bits % 5 {
                0 => applied(generation, map(json!({"id": "x", "address": "203.0.113.200"}))),
                1 => failure(generation),
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
            Finding::Failed { generation, .. } => What::Failed(*generation),
            Finding::Removed => What::Removed,
            Finding::Drifted { check, .. } => What::Drifted(number_of(*check)),
            Finding::InSync { check } => What::InSync(number_of(*check)),
            Finding::Planned { .. } | Finding::PlanStale { .. } => panic!("nothing is planned"),
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
        Change::Failed { generation, order, .. } if *order == by => What::Failed(*generation),
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
