//! Looks that a list answers: few calls, and nothing is reported that a list alone says.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use futures::stream::{self, StreamExt};
use serde_json::{Value, json};
use wanwright_executors::scheduler::Patience;
use wanwright_schemas::CustomerId;
use wanwright_schemas::control::Scope;
use wanwright_schemas::run::RunEvent;
use wanwright_tests::level;

use crate::pager::{self, Fate, Hold};
use crate::paused::pause;
use crate::world::{ADMIN, LIMIT, World};

fn name(number: usize) -> String {
    format!("edge-{number:04}")
}

/// A customer with so many devices at the vendor, made without being looked at.
async fn with_devices(world: &World, name_of_customer: &str, devices: usize) -> CustomerId {
    let customer = world.customer(name_of_customer).await;
    let maker = world.scheduler("maker", Patience::default()).await;
    let each = stream::iter(0..devices).map(async |number| world.device(&customer, &name(number)).await);
    each.buffer_unordered(32).collect::<Vec<()>>().await;
    // The site's two, and as many for each device.
    world.until_messages(&customer, 2 + 2 * devices as u64, 5 * LIMIT).await;
    let last = world.last_events(&customer).await;
    assert!(last.len() == devices && last.values().all(|event| event["type"] == "DeviceApplied"));
    maker.stop().await;
    customer
}

/// What was found about each device that is not as it should be: the field that differs.
fn drifted(last: &HashMap<String, Value>) -> BTreeMap<String, String> {
    let found = last.iter().filter(|(_, event)| event["type"] == "DeviceDriftFound");
    found
        .map(|(device, event)| (device.clone(), event["fields"][0]["field"].as_str().unwrap().to_owned()))
        .collect()
}

fn expected<'a>(found: impl IntoIterator<Item = (usize, &'a str)>) -> BTreeMap<String, String> {
    found.into_iter().map(|(number, field)| (name(number), field.to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_devices_are_looked_at_page_by_page_and_what_differs_is_found_exactly() {
    const DEVICES: usize = 1000;
    let world = World::many(2, "").await;
    let acme = with_devices(&world, "acme", DEVICES).await;
    let (changed, lost) = ([3, 199, 400, 777, 999], [0, 500, 998]);
    for number in changed {
        world.drift(&name(number), &json!({ "vlan": 77 })).await;
    }
    for number in lost {
        world.lose(&name(number)).await;
    }
    let before = world.calls().await;
    let one = world.scheduler("one", Patience::default()).await;
    world.look_at_all(&acme).await;
    let calls = world.calls().await - before;
    let of_changed = changed.into_iter().map(|number| (number, "vlan"));
    let of_lost = lost.into_iter().map(|number| (number, "id"));
    assert_eq!(drifted(&world.last_events(&acme).await), expected(of_changed.chain(of_lost)));
    println!("{DEVICES} looks: {calls} calls");
    // Ten pages, eight devices that were read alone, and those that came before the list was begun or between two walks.
    assert!((18..=40).contains(&calls), "{calls} calls");

    // Each look has the call that answered it among its records, and the records say whose else it was. They are written
    // when the run ends, which is a moment after it was reported.
    let are_ended = async || Ok(world.open_looks("acme").await == 0);
    level::until("every run has ended", LIMIT, are_ended).await.unwrap();
    let mut orders = BTreeSet::new();
    let mut shared: HashMap<_, (u32, u32)> = HashMap::new();
    for record in world.records("acme").await {
        let RunEvent::Call { method, path, shared: of_many, .. } = &record.event else { continue };
        if method == "GET" && path.starts_with("/v1/devices") {
            orders.insert(record.order);
        }
        if let Some(call) = of_many.filter(|_| method == "GET") {
            let (orders, seen) = shared.entry(call.call).or_insert((call.orders, 0));
            assert_eq!(*orders, call.orders);
            *seen += 1;
        }
    }
    assert!(orders.len() >= DEVICES, "{} of the looks have a call", orders.len());
    for (orders, seen) in shared.values() {
        assert_eq!(orders, seen, "a page is recorded for each look that it answered");
    }
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_fails_or_moves_makes_nothing_gone_and_nothing_differ() {
    const DEVICES: usize = 400;
    const REFUSED: usize = 20;
    let mut world = World::many(2, "").await;
    let acme = with_devices(&world, "acme", DEVICES).await;
    let pager = pager::before(&mut world, ADMIN).await;
    let site = world.at_vendor().await[0]["site_id"].clone();
    let foreign =
        json!({"name": "aaaa.first", "serial": "FIRST", "model": "edge-100", "site_id": site, "vlan": 1});
    world.drift(&name(120), &json!({ "vlan": 77 })).await;
    {
        let mut told = pager.told.lock().unwrap();
        told.fates = BTreeMap::from([
            (0, vec![Fate::ThenLose(format!("acme.{}", name(10)))]),
            (1, vec![Fate::Busy, Fate::ThenInsert(foreign)]),
            (2, vec![Fate::Broken, Fate::ThenLose(format!("acme.{}", name(260)))]),
            (3, vec![Fate::Cut, Fate::Cut]),
        ]);
    }
    let one = world.scheduler("one", Patience::default()).await;
    world.look_at_all(&acme).await;
    let (pages, reads) = {
        let told = pager.told.lock().unwrap();
        assert!(told.fates.values().all(Vec::is_empty), "not everything happened: {:?}", told.fates);
        (told.pages.len(), told.reads)
    };
    println!("{DEVICES} looks: {pages} calls for pages, {reads} for one device");
    // The first one was lost after its page had shown it; what a page lacked because others moved it is there.
    assert_eq!(drifted(&world.last_events(&acme).await), expected([(120, "vlan"), (260, "id")]));
    assert!(pages + reads < DEVICES / 4, "{pages} pages and {reads} reads");

    // Now the first one is missed; and a list that breaks off for good in the middle leaves the rest to single looks.
    {
        let mut told = pager.told.lock().unwrap();
        told.fates = BTreeMap::from([(4, [vec![Fate::Cut], vec![Fate::Refused; REFUSED]].concat())]);
        (told.reads, told.pages) = (0, Vec::new());
    }
    world.look_at_all(&acme).await;
    let found = expected([(10, "id"), (120, "vlan"), (260, "id")]);
    assert_eq!(drifted(&world.last_events(&acme).await), found);
    {
        let told = pager.told.lock().unwrap();
        let (left, reads) = (told.fates[&4].len(), told.reads);
        println!("{REFUSED} refusals, {left} of them left: pages {:?}, {reads} for one device", told.pages);
        assert!(left < REFUSED && told.pages.starts_with(&[0, 1, 2, 3, 4, 4]), "pages {:?}", told.pages);
        // All from the fourth page on, and a few that came before the list was begun or between two walks.
        assert!((200..=240).contains(&reads) && told.pages.len() < 40, "{reads} reads, {:?}", told.pages);
    }
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn looks_of_two_customers_share_a_walk_whoever_goes_on_alone_or_is_paused_meanwhile() {
    let mut world = World::many(2, "").await;
    let (globex, acme) = (with_devices(&world, "globex", 5).await, with_devices(&world, "acme", 120).await);
    let pager = pager::before(&mut world, ADMIN).await;
    let hold = Arc::new(Hold::default());
    {
        let mut told = pager.told.lock().unwrap();
        told.oddities = true;
        told.fates = BTreeMap::from([(1, vec![Fate::Held(Arc::clone(&hold))])]);
    }
    let one = world.scheduler("one", Patience::default()).await;
    // The first look is of the customer with few: it is gone before the list is begun.
    for customer in [&globex, &acme] {
        world.send(&format!("{customer}.demo.customer.{customer}.check-drift"), &json!({})).await;
    }
    tokio::time::timeout(LIMIT, hold.is_read.notified()).await.unwrap();
    let scope = Scope::Customer(acme.clone());
    pause(&world, &scope, true).await;
    hold.go.notify_one();
    world.until_looked_at(&globex).await;
    pause(&world, &scope, false).await;
    world.until_looked_at(&acme).await;
    for customer in [&globex, &acme] {
        assert_eq!(drifted(&world.last_events(customer).await), BTreeMap::new());
    }
    one.stop().await;
    let told = pager.told.lock().unwrap();
    println!("pages {:?}, {} reads", told.pages, told.reads);
    assert!(told.pages.len() + told.reads < 40, "pages {:?}, {} reads", told.pages, told.reads);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_does_not_answer_a_look_that_was_asked_for_while_it_was_under_way() {
    let mut world = World::many(2, "").await;
    let acme = with_devices(&world, "acme", 120).await;
    let pager = pager::before(&mut world, ADMIN).await;
    let hold = Arc::new(Hold::default());
    pager.told.lock().unwrap().fates = BTreeMap::from([(1, vec![Fate::Held(Arc::clone(&hold))])]);
    let one = world.scheduler("one", Patience::default()).await;
    world.send("acme.demo.customer.acme.check-drift", &json!({})).await;
    tokio::time::timeout(LIMIT, hold.is_read.notified()).await.unwrap();
    let look_row = |number| format!("wan.order.simwan.acme.observe-device.{}", name(number));
    // One on that page whose look waits for it.
    let waits = async || {
        for number in 50..100 {
            let row = world.table.get(&look_row(number)).await?;
            if let Some(row) = row.filter(|row| !row.is_done()) {
                return Ok(Some((number, row.sequence)));
            }
        }
        Ok(None)
    };
    let ((number, before), _) = level::reach("a look that waits for the page", LIMIT, waits).await.unwrap();
    world.drift(&name(number), &json!({ "vlan": 77 })).await;
    world.send(&format!("acme.demo.device.{}.check-drift", name(number)), &json!({})).await;
    let row = look_row(number);
    let is_newer = async || Ok(world.table.get(&row).await?.is_some_and(|row| row.sequence > before));
    level::until("the newer look is in the table", LIMIT, is_newer).await.unwrap();
    hold.go.notify_one();
    world.until_looked_at(&acme).await;
    assert_eq!(drifted(&world.last_events(&acme).await), expected([(number, "vlan")]));
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_look_costs_one_call_and_every_sweep_looks_again() {
    let world = World::many(2, "").await;
    let acme = with_devices(&world, "acme", 120).await;
    let one = world.scheduler("one", Patience::default()).await;
    let before = world.calls().await;
    world.send("acme.demo.device.edge-0007.check-drift", &json!({})).await;
    world.until_looked_at(&acme).await;
    assert_eq!(world.calls().await - before, 1, "no list is walked through for one look");
    world.look_at_all(&acme).await;
    assert_eq!(drifted(&world.last_events(&acme).await), BTreeMap::new());
    for number in 0..120 {
        world.drift(&name(number), &json!({ "vlan": 78 })).await;
    }
    world.look_at_all(&acme).await;
    let all = expected((0..120).map(|number| (number, "vlan")));
    assert_eq!(drifted(&world.last_events(&acme).await), all);
    one.stop().await;
}

/// What looking at many devices costs at 50 calls a second, with lists and without. Run it by name, with `--nocapture`;
/// `DEVICES` says how many there are.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "it measures"]
async fn looks_at_ten_thousand_devices() {
    let devices = std::env::var("DEVICES").map_or(10_000, |text| text.parse().unwrap());
    let world = World::many(2, "").await;
    let acme = with_devices(&world, "acme", devices).await;
    let (vendor, api) = (world.folder("vendor.toml"), world.folder("api/device.toml"));
    world.write_folder("vendor.toml", &vendor.replace("per_second = 500", "per_second = 50"));
    let alone: Vec<&str> = api.lines().filter(|line| !line.starts_with("fresh_seconds")).collect();
    let mut messages = 2 + 2 * devices as u64;
    for (how, text) in [("with lists", api.clone()), ("one by one", alone.join("\n"))] {
        world.write_folder("api/device.toml", &text);
        let scheduler = world.scheduler(&how.replace(' ', "-"), Patience::default()).await;
        let (before, began) = (world.calls().await, std::time::Instant::now());
        world.send("acme.demo.customer.acme.check-drift", &json!({})).await;
        messages += 1 + devices as u64;
        world.until_messages(&acme, messages, 5 * LIMIT).await;
        let (calls, took) = (world.calls().await - before, began.elapsed().as_secs_f64());
        println!("{devices} looks {how}: {calls} calls, {took:.0} s");
        scheduler.stop().await;
    }
}
