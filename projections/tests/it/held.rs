//! What holds things as they are, in the rows.

use serde_json::{Value, json};
use wanwright_projections::models::{ApprovalState, ConditionStatus, Health, Lifecycle};
use wanwright_projections::read::{self, Filter, Page};
use wanwright_projections::{EventRows, customer_overview};
use wanwright_schemas::Position;

use crate::given::*;
use crate::rows::stream_of;
use crate::servers::{LIMIT, World};

fn life(rows: &EventRows) -> Lifecycle {
    rows.sites.rows().next().expect("the site").life.clone()
}

fn condition(life: &Lifecycle, name: &str) -> Option<(ConditionStatus, String)> {
    let found = life.conditions.iter().find(|condition| condition.name == name)?;
    Some((found.status, found.reason.clone()))
}

fn site(change: &str, more: Value) -> Vec<Value> {
    vec![about("site", "oslo-01", change, more)]
}

fn own(change: &str, more: Value) -> Vec<Value> {
    vec![about("customer", "acme", change, more)]
}

fn freeze(name: &str, from: &str) -> Vec<Value> {
    let freeze = json!({"name": name, "from": from, "to": "2027-01-02T00:00:00Z", "reason": "quiet"});
    own("CustomerFrozen", json!({"freeze": freeze}))
}

#[test]
fn a_suspended_object_says_so_and_why() {
    let mut history = vec![vec![site_created("oslo-01")], vec![site_applied("oslo-01", 1)]];
    history.push(site("SiteSuspended", json!({"reason": "works"})));
    let rows = fold(&history);
    let suspended = life(&rows);
    assert_eq!(
        (suspended.state.health, suspended.state.suspend_reason.as_deref()),
        (Health::Suspended, Some("works"))
    );
    assert_eq!(condition(&suspended, "Ready"), Some((ConditionStatus::False, "Suspended".into())));
    assert_eq!(condition(&suspended, "Provisioned"), Some((ConditionStatus::True, "Applied".into())));
    assert_eq!(rows.customers.rows().next().expect("the customer").counts.sites_suspended, 1);
    assert_eq!(rows.timeline.last().expect("a row").summary, "site oslo-01 was suspended: works");

    history.push(vec![site_changed("oslo-01", 2, "10.8.0.0/24")]);
    let waiting = life(&fold(&history));
    assert_eq!(condition(&waiting, "Provisioned"), Some((ConditionStatus::False, "Suspended".into())));
    history.push(site("SiteResumed", json!({})));
    let rows = fold(&history);
    assert_eq!((life(&rows).state.health, life(&rows).state.suspended), (Health::Progressing, false));
    assert_eq!(rows.customers.rows().next().expect("the customer").counts.sites_suspended, 0);
}

#[test]
fn an_approval_is_a_condition_where_there_was_one() {
    let mut history = vec![vec![site_created("oslo-01")], vec![site_applied("oslo-01", 1)]];
    assert_eq!(condition(&life(&fold(&history)), "Approved"), None);
    let mut asked = vec![site_changed("oslo-01", 2, "10.8.0.0/24")];
    asked.extend(site("SiteApprovalRequested", json!({"generation": 2, "requested_by": ["demo"]})));
    history.push(asked);
    let waiting = life(&fold(&history));
    assert_eq!(condition(&waiting, "Approved"), Some((ConditionStatus::False, "AwaitingApproval".into())));
    assert_eq!(condition(&waiting, "Provisioned"), Some((ConditionStatus::False, "AwaitingApproval".into())));
    history.push(site("SiteApproved", json!({"generation": 2, "approved_by": "boss"})));
    let approved = life(&fold(&history));
    assert_eq!(condition(&approved, "Approved"), Some((ConditionStatus::True, "Approved".into())));
    assert_eq!(
        approved.state.approval.as_ref().map(|approval| approval.state),
        Some(ApprovalState::Approved)
    );
    history.push(vec![site_changed("oslo-01", 3, "10.9.0.0/24")]);
    assert_eq!(life(&fold(&history)).state.approval, None);
}

#[test]
fn a_condition_says_how_many_approvals_are_there_and_who_rejected() {
    let needs = json!({"by": 2, "group": "network"});
    let mut asked = vec![site_changed("oslo-01", 2, "10.8.0.0/24")];
    let request = json!({"generation": 2, "requested_by": ["demo"], "approvals": needs});
    asked.extend(site("SiteApprovalRequested", request));
    let mut history = vec![vec![site_created("oslo-01")], vec![site_applied("oslo-01", 1)], asked];
    let summary = |history: &[Vec<Value>]| {
        let approval = life(&fold(history)).state.approval.expect("an approval");
        (approval.state, approval.summary())
    };
    history.push(site("SiteApproved", json!({"generation": 2, "approved_by": "anna"})));
    let (state, text) = summary(&history);
    assert_eq!(state, ApprovalState::Waiting);
    assert!(text.ends_with("of the group network: 1 of 2 are there"), "{text}");
    let mut rejected = history.clone();
    rejected.push(site("SiteRejected", json!({"generation": 2, "rejected_by": "ben", "reason": "not now"})));
    let (state, text) = summary(&rejected);
    assert_eq!(state, ApprovalState::Rejected);
    assert!(text.ends_with("was rejected by ben: not now"), "{text}");
    let life = life(&fold(&rejected));
    assert_eq!(condition(&life, "Approved"), Some((ConditionStatus::False, "Rejected".into())));
    assert_eq!(condition(&life, "Provisioned"), Some((ConditionStatus::False, "Rejected".into())));
    history.push(site("SiteApproved", json!({"generation": 2, "approved_by": "ben"})));
    let (state, text) = summary(&history);
    assert_eq!(state, ApprovalState::Approved);
    assert!(text.ends_with("was approved by anna, ben"), "{text}");
}

#[test]
fn a_customers_row_says_what_it_said_about_itself_until_it_is_gone() {
    let spec =
        json!({"accounts": {"simwan": {"credential": "a", "budget": "b"}}, "policy": {"site": "approve"}});
    let mut history = vec![
        own("CustomerChanged", json!({"generation": 1, "spec": spec})),
        freeze("late", "2026-12-24T00:00:00Z"),
        freeze("early", "2026-12-20T00:00:00Z"),
        own("CustomerSuspended", json!({"reason": "unpaid"})),
    ];
    let rows = fold(&history);
    let row = rows.customers.rows().next().expect("the customer").clone();
    assert_eq!(
        row.settings.freezes.iter().map(|freeze| freeze.name.as_str()).collect::<Vec<_>>(),
        ["early", "late"]
    );
    assert_eq!((row.settings.generation, row.settings.suspended), (1, true));
    let fields: Vec<_> =
        rows.timeline[0].changes.as_ref().expect("fields").iter().map(|c| c.field.clone()).collect();
    assert_eq!(fields, ["accounts.simwan", "policy.site"]);
    history.push(own("CustomerRemoved", json!({})));
    let settings = fold(&history).customers.rows().next().expect("the customer").settings.clone();
    assert!(settings.removed_at.is_some() && settings.freezes.is_empty() && !settings.suspended);
    history.push(vec![site_created("oslo-01")]);
    assert_eq!(fold(&history).customers.rows().next().expect("the customer").settings.removed_at, None);
}

#[tokio::test]
async fn rows_that_are_held_are_the_fold_and_the_status_says_by_whom() {
    let world = World::new().await;
    let mut writer = Writer::default();
    let mut running = world.project();
    running.ready().await;
    let created =
        [site_created("oslo-01"), tunnel_created("t1", "oslo-01"), device_created("ap-1", "oslo-01")];
    world.publish(writer.next("acme", &created)).await;
    world.publish(writer.next("acme", &site("SiteSuspended", json!({"reason": "works"})))).await;
    world.publish(writer.next("acme", &freeze("christmas", "2026-12-20T00:00:00Z"))).await;
    let protect = [about("device", "ap-1", "DeviceProtected", json!({}))];
    let sequence = world.publish(writer.next("acme", &protect)).await;
    let position = Position { stream: stream_of("acme"), sequence };
    wanwright_projections::wait_for(&world.pool, &position, LIMIT).await.unwrap();

    let status: Vec<(String, Option<String>, Option<String>, bool)> =
        sqlx::query_as("SELECT kind, suspended_with, suspend_reason, protected FROM status ORDER BY kind")
            .fetch_all(&world.pool)
            .await
            .unwrap();
    let works = |kind: &str, protected| {
        (kind.to_owned(), Some("site".to_owned()), Some("works".to_owned()), protected)
    };
    assert_eq!(status, [works("device", true), works("site", false), works("tunnel", false)]);
    let filter = Filter { customer: Some(id("acme")), ..Filter::default() };
    let customers = read::customers(&world.pool, &filter, &Page::default()).await.unwrap();
    assert_eq!(customers.rows[0].settings.freezes[0].name.as_str(), "christmas");
    crate::servers::until("the overview", || async {
        let found = customer_overview(&world.pool, &id("acme")).await.unwrap();
        found.is_some_and(|overview| overview.settings.freezes.len() == 1)
    })
    .await;
    let verified = wanwright_projections::verify(&world.pool, &world.nats, &stream_of("acme")).await.unwrap();
    assert!(verified.different.is_empty() && verified.customers == 1, "{verified:?}");
    running.stop().await;
}

#[test]
fn what_waits_for_a_window_says_until_when_and_is_let_through() {
    let mut history = vec![vec![site_created("oslo-01")], vec![site_applied("oslo-01", 1)]];
    let mut asked = vec![site_changed("oslo-01", 2, "10.8.0.0/24")];
    let until = json!({"generation": 2, "until": "2026-11-22T01:00:00Z", "window": "nights"});
    asked.extend(site("SitePostponed", until));
    history.push(asked);
    let waiting = life(&fold(&history));
    assert_eq!(condition(&waiting, "Provisioned"), Some((ConditionStatus::False, "AwaitingWindow".into())));
    let provisioned = waiting.conditions.iter().find(|condition| condition.name == "Provisioned");
    let said = "generation 2 waits for the change window nights, not before 2026-11-22T01:00:00Z";
    assert_eq!(provisioned.map(|condition| condition.message.as_str()), Some(said));
    assert_eq!(waiting.state.health, Health::Progressing);

    let mut due = history.clone();
    due.push(site("SiteDue", json!({"generation": 2})));
    assert_eq!(life(&fold(&due)).state.postponement, None);

    let released = json!({"generation": 2, "released_by": "anna", "reason": "the line is down"});
    history.push(site("SiteReleased", released));
    let rows = fold(&history);
    let state = life(&rows).state;
    let release = state.release.as_ref().expect("a release");
    assert_eq!((state.postponement.as_ref(), release.by.as_str()), (None, "anna"));
    let summary = &rows.timeline.last().expect("a row").summary;
    assert!(summary.ends_with("in generation 2 by anna: the line is down"), "{summary}");
    history.push(vec![site_applied("oslo-01", 2)]);
    assert_eq!(life(&fold(&history)).state.release, None);
}

#[test]
fn who_knows_of_a_trouble_is_in_the_row_until_it_is_another_one() {
    let drift = |value: u64| {
        let fields = json!([{"field": "mtu", "desired": 1400, "observed": value}]);
        site("SiteDriftFound", json!({"check": command(9), "fields": fields}))
    };
    let mut history = vec![vec![site_created("oslo-01")], vec![site_applied("oslo-01", 1)], drift(9000)];
    history.push(site(
        "SiteAcknowledged",
        json!({"of": "drift", "acknowledged_by": "anna", "reason": "ticket", "until": "2026-12-01T00:00:00Z"}),
    ));
    let rows = fold(&history);
    let known = life(&rows).state.acknowledgement.expect("an acknowledgement");
    assert_eq!((known.by.as_str(), known.reason.as_str(), known.of.as_str()), ("anna", "ticket", "drift"));
    assert_eq!(known.at, life(&rows).updated_at);
    let summary = &rows.timeline.last().expect("a row").summary;
    assert_eq!(summary, "site oslo-01 has a drift that anna knows of until 2026-12-01T00:00:00Z: ticket");
    history.push(drift(9000));
    assert!(life(&fold(&history)).state.acknowledgement.is_some(), "the same again is no news");
    for news in [
        drift(8000),
        site("SiteDriftNotFound", json!({"check": command(9)})),
        site("SiteRetryRequested", json!({"retries": 1})),
    ] {
        let mut history = history.clone();
        history.push(news);
        assert_eq!(life(&fold(&history)).state.acknowledgement, None);
    }
}

#[test]
fn notes_and_reverts_are_in_the_timeline() {
    let mut back = site_changed("oslo-01", 2, "10.8.0.0/24");
    back["reverted_to"] = json!(1);
    let history = vec![
        vec![site_created("oslo-01")],
        site("SiteNoted", json!({"text": "call before noon"})),
        own("CustomerNoted", json!({"text": "moves in May"})),
        vec![back],
    ];
    let rows = fold(&history);
    let said: Vec<&str> = rows.timeline.iter().map(|row| row.summary.as_str()).skip(1).collect();
    assert_eq!(said[0], "site oslo-01 was noted: call before noon");
    assert_eq!(said[1], "customer acme was noted: moves in May");
    assert!(
        said[2].starts_with("site oslo-01 was reverted to generation 1, as generation 2: lan"),
        "{}",
        said[2]
    );
    assert_eq!(rows.timeline[1].actor.as_str(), "demo");
}

#[tokio::test]
async fn windows_groups_and_waiting_settings_are_columns() {
    let world = World::new().await;
    let mut writer = Writer::default();
    let mut running = world.project();
    running.ready().await;
    let windows = json!({"nights": {"zone": "Europe/Oslo", "from": "22:00", "to": "04:00", "days": ["sat"]}});
    let spec = json!({"policy": {"site": {"approve": {"group": "net"}}}, "groups": {"net": ["anna", "ben"]}, "windows": windows});
    let mut events = own("CustomerChanged", json!({"generation": 1, "spec": spec}));
    let looser = json!({"generation": 2, "spec": {"policy": {}}, "requested_by": "demo", "approvals": {"by": 2, "group": "net"}});
    events.extend(own("CustomerApprovalRequested", looser));
    events.extend(own("CustomerApproved", json!({"generation": 2, "approved_by": "anna"})));
    world.publish(writer.next("acme", &events)).await;
    let created =
        [site_created("oslo-01"), tunnel_created("t1", "oslo-01"), device_created("ap-1", "oslo-01")];
    world.publish(writer.next("acme", &created)).await;
    let mut events =
        site("SitePostponed", json!({"generation": 1, "until": "2026-11-28T21:00:00Z", "window": "nights"}));
    let failed = json!({"generation": 1, "order": order(1), "code": "VendorRefused", "message": "no"});
    events.push(about("device", "ap-1", "DeviceFailed", failed));
    let known = json!({"of": "failure", "acknowledged_by": "anna", "reason": "known"});
    events.push(about("device", "ap-1", "DeviceAcknowledged", known));
    let sequence = world.publish(writer.next("acme", &events)).await;
    let position = Position { stream: stream_of("acme"), sequence };
    wanwright_projections::wait_for(&world.pool, &position, LIMIT).await.unwrap();

    let (groups, windows, waiting): (Value, Value, Value) =
        sqlx::query_as("SELECT groups, windows, waiting FROM customers")
            .fetch_one(&world.pool)
            .await
            .unwrap();
    assert_eq!(groups, json!({"net": ["anna", "ben"]}));
    assert_eq!(windows["nights"]["days"], json!(["sat"]));
    assert_eq!((&waiting["generation"], &waiting["approved_by"]), (&json!(2), &json!(["anna"])));
    let status: Vec<(String, Option<String>, Option<String>)> = sqlx::query_as(
        "SELECT kind, to_char(postponed_until AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI'), acknowledged_by FROM status ORDER BY kind",
    )
    .fetch_all(&world.pool)
    .await
    .unwrap();
    let row = |kind: &str, until: Option<&str>, by: Option<&str>| {
        (kind.to_owned(), until.map(str::to_owned), by.map(str::to_owned))
    };
    let expected = [
        row("device", None, Some("anna")),
        row("site", Some("2026-11-28 21:00"), None),
        row("tunnel", None, None),
    ];
    assert_eq!(status, expected);
    let verified = wanwright_projections::verify(&world.pool, &world.nats, &stream_of("acme")).await.unwrap();
    assert!(verified.different.is_empty() && verified.customers == 1, "{verified:?}");
    running.stop().await;
}

#[test]
fn a_plan_has_a_row_from_when_it_is_made_until_something_has_become_of_it() {
    let hash = |number: u8| format!("sha256:{}", format!("{number:02x}").repeat(32));
    let planned = |number: u8, approvals: Value| {
        let plan = json!({"hash": hash(number), "template": "t", "serial": 1, "lineage": "l",
            "counts": {"create": 1, "update": 2, "delete": 3, "replace": 4},
            "changes": [{"address": "a", "action": "delete"}], "left_out": 5});
        site(
            "SitePlanned",
            json!({"generation": 1, "order": order(number), "wish": order(99), "plan": plan,
            "expires": "2026-11-22T08:00:00Z", "requested_by": ["demo"], "approvals": approvals}),
        )
    };
    let states = |history: &[Vec<Value>]| {
        let rows = fold(history);
        let mut states: Vec<_> =
            rows.plans.rows().map(|row| (row.order_id, row.state, row.because.clone())).collect();
        states.sort_by_key(|(order, ..)| *order);
        states.into_iter().map(|(_, state, because)| (state.as_str(), because)).collect::<Vec<_>>()
    };
    let rule = json!({"generation": 1, "requested_by": ["demo"], "rule": {}});
    let mut history = vec![vec![site_created("oslo-01")], site("SitePlanRequested", rule)];
    let waits = life(&fold(&history));
    assert_eq!(condition(&waits, "Provisioned"), Some((ConditionStatus::False, "Planning".into())));
    history.push(planned(1, json!({"by": 2})));
    assert_eq!(states(&history), [("waiting", None)]);
    let waits = life(&fold(&history));
    assert_eq!(condition(&waits, "Provisioned"), Some((ConditionStatus::False, "AwaitingApproval".into())));
    let approved = |who: &str, number: u8| {
        site("SiteApproved", json!({"generation": 1, "approved_by": who, "plan": hash(number)}))
    };
    history.push(approved("anna", 1));
    assert_eq!(states(&history), [("waiting", None)]);
    history.push(approved("ben", 1));
    assert_eq!(states(&history), [("approved", None)]);
    let row = fold(&history).plans.rows().next().expect("a row").clone();
    assert_eq!((row.creates, row.updates, row.deletes, row.replaces, row.left_out), (1, 2, 3, 4, 5));
    assert_eq!(row.approved_by.len(), 2);

    let stale = json!({"generation": 1, "order": order(50), "plan": hash(1), "why": "state"});
    history.push(site("SitePlanStale", stale));
    let because = Some("the stack's state is another one than it was made from".to_owned());
    assert_eq!(states(&history), [("stale", because.clone())]);
    history.push(planned(2, json!({})));
    let mut given = history.clone();
    let template = json!({"generation": 2, "template": {"version": 2, "digest": "d"}, "rollout": 1, "assigned_by": "olga"});
    given.push(site("SiteTemplateAssigned", template));
    assert_eq!(states(&given), [("stale", because.clone()), ("void", None)]);
    history.push(planned(3, Value::Null));
    assert_eq!(states(&history), [("stale", because.clone()), ("void", None), ("free", None)]);
    let mut rejected = history.clone();
    rejected.push(planned(4, json!({})));
    let body = json!({"generation": 1, "rejected_by": "boss", "reason": "no", "plan": hash(4)});
    rejected.push(site("SiteRejected", body));
    rejected.push(vec![site_changed("oslo-01", 2, "10.8.0.0/24")]);
    assert_eq!(states(&rejected)[3], ("rejected", Some("no".to_owned())));
    history.push(site("SitePlanApplied", json!({"generation": 1, "order": order(51), "plan": hash(3)})));
    history.push(vec![site_applied("oslo-01", 1)]);
    history.push(vec![site_changed("oslo-01", 2, "10.8.0.0/24")]);
    assert_eq!(states(&history)[2], ("applied", None), "what was applied stays so");
    assert_eq!(fold(&history).timeline.len(), history.len());
}
