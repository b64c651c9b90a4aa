//! Given a history, when it is folded, then the rows say so. No server.

use serde_json::json;
use wanwright_projections::models::{
    ConditionStatus, Health, OperationRow, OperationState, Resolution, SiteRow, Sync, WaitingFor,
};
use wanwright_projections::{EventMessage, EventRows, Stop};
use wanwright_schemas::run::{
    ProcessUsage, RUN_VERSION, ResourceState, ResourceStep, RunEvent, RunRecord, RunUsage,
};
use wanwright_schemas::{Digest, Reason, Target};

use crate::given::*;

fn site(rows: &EventRows) -> &SiteRow {
    rows.sites.rows().next().expect("the site")
}

fn condition(row: &SiteRow, name: &str) -> (ConditionStatus, String) {
    let found = row.life.conditions.iter().find(|condition| condition.name == name).expect("the condition");
    (found.status, found.reason.clone())
}

#[test]
fn a_site_is_progressing_until_its_generation_was_applied() {
    let rows = fold(&[vec![site_created("oslo-01")]]);
    let row = site(&rows);
    assert_eq!((row.life.state.health, row.life.state.sync), (Health::Progressing, Sync::Unknown));
    assert_eq!(condition(row, "Provisioned"), (ConditionStatus::False, "CreationPending".into()));
    assert_eq!(condition(row, "InSync"), (ConditionStatus::Unknown, "NeverApplied".into()));

    let rows = fold(&[vec![site_created("oslo-01")], vec![site_applied("oslo-01", 1)]]);
    let row = site(&rows);
    assert_eq!((row.life.state.health, row.life.state.sync), (Health::Healthy, Sync::Synced));
    assert_eq!(row.life.outputs["id"], "st-1");
    assert_eq!(condition(row, "Ready"), (ConditionStatus::True, "Healthy".into()));
    assert_eq!(row.life.uid, command(1));

    let rows = fold(&[
        vec![site_created("oslo-01")],
        vec![site_changed("oslo-01", 2, "10.8.0.0/24")],
        vec![site_applied("oslo-01", 1)],
    ]);
    let row = site(&rows);
    assert_eq!((row.life.state.health, row.life.state.sync), (Health::Progressing, Sync::OutOfSync));
    assert_eq!(row.lan, ["10.8.0.0/24"]);
}

#[test]
fn a_site_has_the_version_of_the_template_it_was_given_last_and_did_not_take_back() {
    let assigned = |generation: u64, version: u32, rollout: u64| {
        let template = json!({"version": version, "digest": "5f"});
        let fields = json!({"generation": generation, "template": template, "rollout": rollout, "assigned_by": "olga"});
        about("site", "oslo-01", "SiteTemplateAssigned", fields)
    };
    let mut history = vec![vec![site_created("oslo-01")], vec![site_applied("oslo-01", 1)]];
    assert_eq!((site(&fold(&history)).template, site(&fold(&history)).templates.is_empty()), (1, true));
    history.push(vec![assigned(2, 2, 1)]);
    let rows = fold(&history);
    let row = site(&rows);
    assert_eq!((row.template, row.life.state.generation, row.life.state.health), (2, 2, Health::Progressing));
    history.push(vec![site_applied("oslo-01", 2)]);
    history.push(vec![assigned(3, 3, 2)]);
    assert_eq!(site(&fold(&history)).template, 3);
    let cancelled = json!({"generation": 4, "restored": 2, "tried": false});
    history.push(vec![
        site_changed("oslo-01", 4, "10.7.0.0/24"),
        about("site", "oslo-01", "SiteCancelled", cancelled),
    ]);
    let rows = fold(&history);
    let row = site(&rows);
    assert_eq!((row.template, row.templates.rollout(), row.life.state.health), (2, 2, Health::Healthy));
}

#[test]
fn a_failure_degrades_until_it_is_retried_or_changed() {
    let failed = vec![vec![site_created("oslo-01")], vec![site_failed("oslo-01", 1)]];
    let rows = fold(&failed);
    assert_eq!(site(&rows).life.state.health, Health::Degraded);
    assert_eq!(condition(site(&rows), "Ready"), (ConditionStatus::False, "VendorRefused".into()));
    let customer = rows.customers.rows().next().expect("the customer");
    assert_eq!((customer.counts.sites, customer.counts.sites_degraded), (1, 1));

    let mut retried = failed;
    retried.push(vec![about("site", "oslo-01", "SiteRetryRequested", json!({"retries": 1}))]);
    let rows = fold(&retried);
    assert_eq!(site(&rows).life.state.health, Health::Progressing);
    assert_eq!(site(&rows).life.state.failure_code, None);
    let customer = rows.customers.rows().next().expect("the customer");
    assert_eq!((customer.counts.sites_progressing, customer.counts.sites_degraded), (1, 0));
}

#[test]
fn a_drift_is_reported_and_resolved_by_what_comes_next() {
    let mut history = vec![
        vec![site_created("oslo-01")],
        vec![site_applied("oslo-01", 1)],
        vec![about("site", "oslo-01", "SiteDriftCheckRequested", json!({"check": command(50)}))],
        vec![site_drifted("oslo-01", 50)],
    ];
    let rows = fold(&history);
    assert_eq!(
        (site(&rows).life.state.health, site(&rows).life.state.sync),
        (Health::Healthy, Sync::OutOfSync)
    );
    assert_eq!(site(&rows).life.checking, None);
    assert_eq!(rows.customers.rows().next().expect("the customer").counts.sites_out_of_sync, 1);
    let report = rows.drift_reports.rows().next().expect("the report");
    assert_eq!((report.resolved_at, report.fields.len()), (None, 1));
    let last = rows.timeline.last().expect("a row");
    assert_eq!(last.summary, "site oslo-01 has drifted: location");

    for (what, resolution) in [
        (site_applied("oslo-01", 1), Resolution::Applied),
        (
            about("site", "oslo-01", "SiteDriftNotFound", json!({"check": command(51)})),
            Resolution::Disappeared,
        ),
        (about("site", "oslo-01", "SiteRemoved", json!({"order": order(1)})), Resolution::Removed),
        (site_drifted("oslo-01", 52), Resolution::FoundAgain),
    ] {
        history.truncate(4);
        history.push(vec![what]);
        let rows = fold(&history);
        let report = rows.drift_reports.rows().next().expect("the report");
        assert_eq!(report.resolution, Some(resolution));
    }
}

#[test]
fn an_object_that_is_gone_at_its_vendor_is_missing() {
    let gone =
        json!({"check": command(9), "fields": [{"field": "location", "desired": "Oslo", "observed": null}]});
    let rows = fold(&[
        vec![site_created("oslo-01")],
        vec![site_applied("oslo-01", 1)],
        vec![about("site", "oslo-01", "SiteDriftFound", gone)],
    ]);
    assert_eq!(site(&rows).life.state.health, Health::Missing);
}

#[test]
fn tunnels_and_devices_take_their_vendor_from_their_site_and_go_when_removed() {
    let created =
        vec![site_created("oslo-01"), tunnel_created("t1", "oslo-01"), device_created("ap-1", "oslo-01")];
    let rows = fold(std::slice::from_ref(&created));
    let tunnel = rows.tunnels.rows().next().expect("the tunnel");
    assert_eq!(tunnel.vendor, Some(id("simwan")));
    assert_eq!(
        (tunnel.peer_kind.as_str(), tunnel.peer.as_str(), tunnel.local_asn),
        ("hub", "hub-eu", Some(65010))
    );
    let device = rows.devices.rows().next().expect("the device");
    assert_eq!((device.vendor.clone(), device.serial.as_str()), (Some(id("simwan")), "SN-0001"));

    let rows = fold(&[
        created,
        vec![about("tunnel", "t1", "TunnelDecommissionRequested", json!({"generation": 2}))],
        vec![about("tunnel", "t1", "TunnelRemoved", json!({"order": order(1)}))],
    ]);
    assert_eq!(rows.tunnels.rows().count(), 0);
    let counts = &rows.customers.rows().next().expect("the customer").counts;
    assert_eq!((counts.tunnels, counts.tunnels_progressing, counts.sites, counts.devices), (0, 0, 1, 1));
    assert_eq!(rows.timeline.len(), 5);
}

#[test]
fn the_timeline_says_what_changed_field_by_field() {
    let rows = fold(&[vec![site_created("oslo-01")], vec![site_changed("oslo-01", 2, "10.8.0.0/24")]]);
    let row = rows.timeline.last().expect("a row");
    assert_eq!(row.summary, "site oslo-01 was changed to generation 2: lan");
    let changes = row.changes.as_ref().expect("the changes");
    assert_eq!((&changes[0].before, &changes[0].after), (&json!(["10.7.0.0/24"]), &json!(["10.8.0.0/24"])));
}

#[test]
fn a_condition_keeps_its_time_until_its_status_changes() {
    let since = |messages: &[Vec<serde_json::Value>]| {
        let rows = fold(messages);
        let conditions = &site(&rows).life.conditions;
        conditions.iter().find(|condition| condition.name == "Ready").expect("Ready").last_transition_time
    };
    let mut history = vec![vec![site_created("oslo-01")]];
    let first = since(&history);
    history.push(vec![site_changed("oslo-01", 2, "10.8.0.0/24")]);
    assert_eq!(since(&history), first);
    history.push(vec![site_applied("oslo-01", 2)]);
    assert_ne!(since(&history), first);
}

#[test]
fn a_message_that_does_not_continue_the_history_changes_nothing() {
    let mut writer = Writer::default();
    let mut rows = EventRows::default();
    let read = |message| EventMessage::read(&stored(1, message)).expect("a message");
    rows.fold(&read(writer.next("acme", &[site_created("oslo-01")]))).expect("the first message");
    let lost = read(writer.next("acme", &[site_applied("oslo-01", 1)]));
    let after = read(writer.next("acme", &[site_failed("oslo-01", 1)]));
    let stop = rows.fold(&after).expect_err("a hole");
    assert!(matches!(&stop, Stop::Chain { found: Some(found), .. } if *found == lost.digest), "{stop}");
    assert_eq!((site(&rows).life.state.health, rows.timeline.len()), (Health::Progressing, 1));

    let mut other = Writer::default();
    let first = read(other.next("acme", &[site_created("b")]));
    assert!(matches!(rows.fold(&first), Err(Stop::Chain { found: None, .. })));
}

#[test]
fn an_event_nobody_can_read_is_named() {
    let (subject, payload) = Writer::default().next("acme", &[site_created("oslo-01")]);
    let newer = String::from_utf8(payload).expect("JSON").replace("SiteCreated", "SitePainted");
    let stop = EventMessage::read(&stored(7, (subject, newer.into_bytes()))).expect_err("unreadable");
    assert!(matches!(&stop, Stop::Unreadable { sequence: 7, .. }), "{stop}");
    let other = stored(8, ("wan.evt.0".into(), b"{}".to_vec()));
    assert!(matches!(EventMessage::read(&other), Err(Stop::Subject { .. })));
}

fn record(event: RunEvent) -> RunRecord {
    RunRecord {
        v: RUN_VERSION,
        time: jiff::Timestamp::UNIX_EPOCH,
        customer: id("acme"),
        vendor: id("simwan"),
        order: id(&order(1)),
        target: Target::Site(id("oslo-01")),
        event,
    }
}

#[test]
fn an_operation_says_what_it_waits_for_and_how_it_ended() {
    let at = jiff::Timestamp::from_second(60).expect("a time");
    let told = |events: Vec<RunEvent>| {
        let mut row: Option<OperationRow> = None;
        for (sequence, event) in (1..).zip(events) {
            row = Some(OperationRow::after(row.as_ref(), &record(event), sequence));
        }
        row.expect("a row")
    };
    let mut events = vec![RunEvent::Queued { intent: "apply".into(), generation: 3 }];
    let row = told(events.clone());
    assert_eq!((row.state, row.waiting_for), (OperationState::Waiting, Some(WaitingFor::Lane)));
    events.push(RunEvent::Started { attempt: 1, executor: "e1".into(), replaced: None });
    let call = |waited_millis| RunEvent::Call {
        method: "POST".into(),
        path: "/sites".into(),
        status: 201,
        millis: 5,
        waited_millis,
        attempt: 1,
        shared: None,
    };
    events.extend([call(10), call(20)]);
    let row = told(events.clone());
    assert_eq!((row.state, row.waiting_for), (OperationState::Running, None));
    assert_eq!((row.calls, row.budget_wait_millis, row.generation), (2, 30, Some(3)));
    let (code, message) = (Reason::VendorBusy, "429".to_owned());
    let usage =
        RunUsage { processes: Some(ProcessUsage { cpu_millis: 90, peak_kib: 70 }), ..Default::default() };
    events.push(RunEvent::Retrying { attempt: 1, code, message, at, usage: Some(usage) });
    let row = told(events.clone());
    assert_eq!(
        (row.state, row.waiting_for, row.next_at),
        (OperationState::Retrying, Some(WaitingFor::Retry), Some(at))
    );
    events.push(RunEvent::Unknown { attempt: 1, executor: "e1".into() });
    assert_eq!(told(events.clone()).state, OperationState::Unknown);
    events.push(RunEvent::Started { attempt: 2, executor: "e2".into(), replaced: None });
    let step = |address: &str, action: &str, state, done| RunEvent::Log {
        level: "info".into(),
        message: "a step".into(),
        resource: Some(ResourceStep {
            address: address.into(),
            action: action.into(),
            state,
            done,
            total: 2,
        }),
    };
    events.push(step("a", "replace", ResourceState::Planned, 0));
    events.push(step("b", "create", ResourceState::Planned, 0));
    events.push(step("a", "delete", ResourceState::Done, 0));
    events.push(step("a", "create", ResourceState::Done, 1));
    let row = told(events.clone());
    let steps: Vec<_> =
        row.resources.iter().map(|of| (of.address.as_str(), of.action.as_str(), of.state)).collect();
    let expected = [("a", "replace", ResourceState::Done), ("b", "create", ResourceState::Planned)];
    assert_eq!((steps, row.resources_done, row.resources_total), (expected.to_vec(), Some(1), Some(2)));
    let processes = Some(ProcessUsage { cpu_millis: 30, peak_kib: 60 });
    let usage = RunUsage { running_millis: 40, processes, ..Default::default() };
    events.push(RunEvent::Succeeded { calls: 2, millis: 50, usage: Some(usage) });
    let row = told(events);
    // Processor time adds up over the tries, parts are of the last one.
    assert_eq!((row.cpu_millis, row.peak_kib, row.running_millis), (Some(120), Some(70), Some(40)));
    assert_eq!((row.state, row.attempts, row.error_code), (OperationState::Succeeded, 2, None));
    assert!(row.finished_at.is_some());
    let superseded = told(vec![RunEvent::Superseded { by: id(&order(2)) }]);
    assert_eq!(
        (superseded.state, superseded.superseded_by),
        (OperationState::Superseded, Some(id(&order(2))))
    );
    let queued = RunEvent::Queued { intent: "apply".into(), generation: 3 };
    let by = "0195f0c0-0000-7000-8000-000000000001".parse().expect("an id");
    let mut events = vec![queued.clone(), RunEvent::Cancelled { by }];
    let cancelled = told(events.clone());
    assert_eq!((cancelled.state, cancelled.waiting_for), (OperationState::Cancelled, None));
    assert!(cancelled.finished_at.is_some());
    // Where the cancel was not recorded after all, the order is wanted again.
    events.push(queued);
    assert_eq!(told(events).state, OperationState::Waiting);
}

#[test]
fn digests_are_of_the_bytes_as_stored() {
    let message = stored(1, Writer::default().next("acme", &[site_created("oslo-01")]));
    let read = EventMessage::read(&message).expect("a message");
    assert_eq!(read.digest, Digest::of(&message.payload));
}

#[test]
fn another_contact_and_an_erasure_change_no_state() {
    let sealed = "sealed:v1:0192f0c1a2b37c4d8e5f60718293a4b5:QUJD";
    let contact = json!({ "contact": { "name": sealed } });
    let mut messages = vec![vec![site_created("oslo-01")], vec![site_applied("oslo-01", 1)]];
    let before = site(&fold(&messages)).life.state.clone();
    messages.push(vec![about("site", "oslo-01", "SiteContactChanged", contact)]);
    let key = json!({ "key": "0192f0c1a2b37c4d8e5f60718293a4b5" });
    messages.push(vec![about("customer", "acme", "CustomerErased", key)]);
    let rows = fold(&messages);
    let row = site(&rows);
    assert_eq!(row.life.state, before);
    let named = row.contact.as_ref().and_then(|contact| contact.name.as_ref()).map(ToString::to_string);
    assert_eq!((named.as_deref(), &row.spec.contact), (Some(sealed), &row.contact));
    let said: Vec<&str> = rows.timeline.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(said[2..], ["SiteContactChanged", "CustomerErased"]);
    let changes = rows.timeline[2].changes.as_ref().expect("what changed");
    assert_eq!((changes[0].field.as_str(), &changes[0].before), ("contact", &json!(null)));
    messages.push(vec![about("site", "oslo-01", "SiteContactChanged", json!({}))]);
    assert_eq!(site(&fold(&messages)).contact, None);
}
