//! What a customer says about itself: accounts and policy. And what it is asked about its claims.

use wanwright_schemas::Reason::*;

use crate::harness::*;

const ACCOUNT: &str = r#"{"accounts":{"northwan":{"credential":"acme-north","budget":"acme"}}}"#;

#[test]
fn nobody_creates_a_customer() {
    let mut world = World::default();
    world.refuse("customer.acme.create", "{}", UnknownVerb, "");
    assert_eq!(world.accept("customer.acme.change", ACCOUNT), ["acme CustomerChanged 1"]);
    world.nothing("customer.acme.change", ACCOUNT);
    world.nothing("customer.acme.change", r#"{"policy":{"site":"apply"}}"#);
    assert_eq!(
        world.accept("customer.acme.change", r#"{"policy":{"site":"approve"}}"#),
        ["acme CustomerChanged 2"]
    );
    assert_eq!(world.accept("customer.acme.change", r#"{"accounts":null}"#), ["acme CustomerChanged 3"]);
}

#[test]
fn a_customers_settings_have_a_generation() {
    let mut world = World::default();
    let change = "customer.acme.change";
    let refused = world.send("demo", change, ACCOUNT, Some(1)).unwrap_err();
    assert_eq!(refused.code, GenerationMismatch);
    world.send("demo", change, ACCOUNT, Some(0)).unwrap();
    world.send("demo", change, r#"{"accounts":null}"#, Some(1)).unwrap();
    let refused = world.send("demo", change, ACCOUNT, Some(1)).unwrap_err();
    assert_eq!(refused.code, GenerationMismatch);
}

#[test]
fn an_account_is_names_at_a_known_vendor() {
    let mut world = World::default();
    let change = "customer.acme.change";
    world.refuse(change, &ACCOUNT.replace("northwan", "nowhere"), UnknownVendor, "accounts.nowhere");
    let refusal = world.refuse(
        change,
        &ACCOUNT.replace("acme-north", "Bearer S3cret"),
        InvalidValue,
        "accounts.northwan.credential",
    );
    assert!(!refusal.message.contains("S3cret"), "{refusal}");
    let half = r#"{"accounts":{"northwan":{"credential":"a"}}}"#;
    world.refuse(change, half, MissingField, "accounts.northwan.budget");
    let other = |from: &str, to: &str| ACCOUNT.replace(from, to);
    let unknown = "accounts.northwan.credential";
    let refusal = world.refuse(change, &other("acme-north", "nobodys"), UnknownAccount, unknown);
    assert!(refusal.message.ends_with("it has a, acme, acme-north"), "{refusal}");
    // Another customer's account looks like one that is not there.
    let theirs = world.refuse(change, &other("acme-north", "globex"), UnknownAccount, unknown);
    assert_eq!(theirs.message, refusal.message.replace("nobodys", "globex"));
    world.refuse(change, &other(r#":"acme""#, r#":"b""#), UnknownAccount, "accounts.northwan.budget");
    world.refuse(change, r#"{"polic":{}}"#, UnknownField, "polic");
    world.refuse(change, r#"{"policy":{"site":"ask"}}"#, InvalidValue, "policy.site");
    world.refuse(change, "7", WrongType, "");
}

#[test]
fn an_account_that_is_gone_stands_in_the_way_of_nothing_else() {
    let mut world = World::given(&[("customer.acme.change", ACCOUNT)]);
    world.vendors = &VENDORS_LATER;
    world.accept("customer.acme.change", r#"{"policy":{"site":"approve"}}"#);
    world.accept("customer.acme.change", r#"{"accounts":null}"#);
    world.refuse("customer.acme.change", ACCOUNT, UnknownAccount, "accounts.northwan.credential");
}

#[test]
fn orders_carry_the_account_and_without_one_are_what_they_were() {
    let mut world = World::given(&[("site.oslo.create", LAN), ("device.d1.create", DEVICE)]);
    let without = world.change("site.oslo");
    assert!(!serde_json::to_string(&without).unwrap().contains("account"));
    assert_eq!(
        without.id.to_string(),
        "19e3e33a-c03a-8365-aa8d-e0afdc609493",
        "as before there were accounts"
    );
    world.accept("customer.acme.change", ACCOUNT);
    let concerned = wanwright_commands::orders::affected(&world.state, &world.history.last().unwrap().1);
    assert_eq!(concerned.len(), 2);
    let with = world.change("site.oslo");
    assert_eq!(with.account.as_ref().map(|account| account.credential.as_str()), Some("acme-north"));
    assert_ne!(with.id, without.id);
    world.carry_out("site.oslo");
    assert!(world.change("device.d1").account.is_some());
    world.idle("site.oslo");
}

#[test]
fn only_the_sweeper_asks_about_claims_and_it_asks_nothing_else() {
    let mut world = World::running();
    let tail = "customer.acme.confirm-claims";
    let body = r#"{"claims":[{"device":"d1","serial":"SN-0001"},{"device":"d1","serial":"SN-0002"},
        {"device":"d2","serial":"SN-0001"}]}"#;
    world.refuse(tail, body, NotAllowed, "");
    assert_eq!(world.send("sweeper", "site.oslo.decommission", "", None).unwrap_err().code, NotAllowed);
    let before = world.state.clone();
    let events = world.send("sweeper", tail, body, None).unwrap();
    let events: Vec<String> = events.iter().map(|event| serde_json::to_string(event).unwrap()).collect();
    assert_eq!(events.len(), 2, "what a device has is confirmed: {events:?}");
    assert!(
        events[0].contains(r#""serial":"SN-0002""#) && events[1].contains(r#""device":"d2""#),
        "{events:?}"
    );
    assert_eq!(world.state, before, "the sequence is what changes");
    let many: Vec<_> =
        (0..257).map(|n| serde_json::json!({"device": "d1", "serial": n.to_string()})).collect();
    let many = serde_json::json!({"claims": many}).to_string();
    assert_eq!(world.send("sweeper", tail, &many, None).unwrap_err().code, InvalidValue);
}
