//! The commands of random lives, and how a person would type them.

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::json;

use crate::model::{Ask, End, HOST_BITS, Kind, MODELS, Model, PREFIXES, VENDORS, WINDOWS};

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
        2 => (0..3u8).prop_map(Ask::DecommissionAll),
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
