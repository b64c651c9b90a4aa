//! What cannot be carried out goes to the dead letters, and holds up nobody else.

use std::time::Duration;

use async_nats::HeaderMap;
use serde_json::{Value, json};
use wanwright_executors::scheduler::Patience;
use wanwright_nats::dead::{self, Back, Kept, Settled, Settlement};
use wanwright_nats::publish::publish;
use wanwright_nats::{StoredMessage, topology};
use wanwright_schemas::{CommandId, OrderId, headers};
use wanwright_tests::level;

use crate::world::{LIMIT, World};

async fn letter(world: &World, reason: &str) -> StoredMessage {
    let look = async || {
        let letters = world.letters().await;
        Ok(letters.into_iter().find(|letter| letter.subject == format!("wan.dead.{reason}")))
    };
    level::reach(reason, LIMIT, look).await.unwrap().0
}

fn header(letter: &StoredMessage, name: &str) -> String {
    letter.headers.get(name).map(|value| value.as_str().to_owned()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_no_order_holds_up_nobody() {
    let world = World::new(5).await;
    let acme = world.customer("acme").await;
    let row = World::device_row(&acme, "edge");
    world.table.put(row.clone(), 0, HeaderMap::new(), "{\"v\":1".into()).await.unwrap();
    let scheduler = world.scheduler("one", Patience::default()).await;
    world.device(&acme, "core").await;
    let found = letter(&world, "order.OrderUnreadable").await;
    assert_eq!(found.payload, "{\"v\":1");
    assert_eq!(
        (header(&found, headers::DEAD_ROW), header(&found, headers::DEAD_SUBJECT)),
        (row.clone(), row)
    );
    world.until_event(&acme, "core", "DeviceApplied").await;
    // The target itself is as usable as before.
    world.device(&acme, "edge").await;
    world.until_event(&acme, "edge", "DeviceApplied").await;
    assert_eq!(world.devices().await.objects, 2);
    assert_eq!(world.letters().await.len(), 1);
    scheduler.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_ends_its_executors_fails_and_can_be_retried() {
    let world = World::new(5).await;
    let acme = world.customer("acme").await;
    world.device(&acme, "edge").await;
    let row = World::device_row(&acme, "edge");
    let order = level::reach("the order", LIMIT, async || {
        let found = world.table.get(&row).await?;
        Ok(found.map(|found| serde_json::from_slice::<Value>(&found.payload)).transpose()?)
    });
    let order: OrderId = order.await.unwrap().0["id"].as_str().unwrap().parse().unwrap();
    // What two executors have left that died over it.
    let attempts = world.nats.js.get_key_value(topology::ATTEMPTS).await.unwrap();
    let left = json!({ "order": order, "generation": 1, "number": 2, "failures": 0, "deaths": 1, "unsure": true,
        "phase": "running", "executor": "dead" });
    attempts.put(&row, left.to_string().into()).await.unwrap();
    let patience = Patience { deaths: 2, ..Patience::default() };
    let scheduler = world.scheduler("one", patience).await;
    let found = letter(&world, "order.RunDied").await;
    assert_eq!(header(&found, headers::DEAD_ORDER), order.to_string());
    world.until_event(&acme, "edge", "DeviceFailed").await;
    world.until_done("acme").await;
    assert_eq!(world.devices().await.objects, 0, "it was not run again");
    let told = Kept::Failed { kind: "device".to_owned(), customer: "acme".to_owned(), id: "edge".to_owned() };
    assert_eq!(dead::requeue(&world.nats, &found, false).await.unwrap(), Err(told));
    let before = world.calls_heard().await.len();
    world.send("acme.demo.device.edge.retry", &json!({})).await;
    world.until_event(&acme, "edge", "DeviceApplied").await;
    let calls = world.calls_heard().await;
    let methods: Vec<&str> = calls[before..].iter().map(|call| call.method.as_str()).collect();
    assert!(methods.starts_with(&["GET"]), "whoever died over it may have made it: {methods:?}");
    scheduler.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_waits_for_its_vendors_folder_and_not_for_ever() {
    let world = World::new(5).await;
    let acme = world.customer("acme").await;
    world.device(&acme, "edge").await;
    let row = World::device_row(&acme, "edge");
    let order = level::reach("the order", LIMIT, async || Ok(world.table.get(&row).await?));
    let order = order.await.unwrap().0;
    let text = String::from_utf8(order.payload.to_vec()).unwrap().replace("simwan", "ghost");
    let ghost = row.replace("simwan", "ghost");
    world.table.put(ghost.clone(), 0, HeaderMap::new(), text.into()).await.unwrap();
    let patience = Patience { no_vendor: Duration::from_secs(1), ..Patience::default() };
    let scheduler = world.scheduler("one", patience).await;
    let found = letter(&world, "order.UnknownVendor").await;
    assert_eq!(header(&found, headers::DEAD_ROW), ghost);
    level::until("its row is done", LIMIT, async || {
        Ok(world.table.get(&ghost).await?.is_some_and(|row| row.is_done()))
    })
    .await
    .unwrap();
    scheduler.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_is_refused_for_good_is_kept_until_a_person_sends_its_order_back() {
    let world = World::new(5).await;
    let acme = world.customer("acme").await;
    let scheduler = world.scheduler("one", Patience { refusals: 2, ..Patience::default() }).await;
    world.device(&acme, "edge").await;
    world.until_event(&acme, "edge", "DeviceApplied").await;
    // What the vendor has is more than a body may be, so nobody takes what was found.
    world.drift("edge", &json!({ "hostname": "x".repeat(1_200_000) })).await;
    world.send("acme.demo.device.edge.check-drift", &json!({})).await;
    let found = letter(&world, "report.BodyTooLarge").await;
    assert!(found.payload.len() > 1_200_000);
    assert_eq!(header(&found, headers::DEAD_SUBJECT), "wan.do.acme.executor.device.edge.report");
    let row = "wan.order.simwan.acme.observe-device.edge";
    assert_eq!(header(&found, headers::DEAD_ROW), row);
    let done = async || Ok(world.table.get(row).await?.filter(|row| row.is_done()));
    let dead = level::reach("the row is done", LIMIT, done).await.unwrap().0;
    // The state still wants the look, and whatever else happens to the device nobody issues it again.
    world.send("acme.demo.device.edge.protect", &json!({})).await;
    world.device(&acme, "core").await;
    world.until_event(&acme, "core", "DeviceApplied").await;
    assert_eq!(world.table.get(row).await.unwrap().unwrap().sequence, dead.sequence);
    world.drift("edge", &json!({ "hostname": "short" })).await;
    let back = dead::requeue(&world.nats, &found, false).await.unwrap();
    assert_eq!(back, Ok(Back::Table(row.to_owned())));
    assert_eq!(dead::requeue(&world.nats, &found, false).await.unwrap(), Err(Kept::Free));
    world.until_event(&acme, "edge", "DeviceDriftFound").await;
    let by = Settled {
        letter: found.sequence,
        how: Settlement::Requeued,
        by: "anna".to_owned(),
        reason: None,
        time: jiff::Timestamp::now(),
    };
    dead::settle(&world.nats, &by).await.unwrap();
    assert_eq!(dead::settlement(&world.nats, found.sequence).await.unwrap(), Some(by));
    assert!(world.letters().await.is_empty());
    scheduler.stop().await;
}

/// Makes a letter of a command, as the command service does of one that it can decide on nothing.
async fn bury(world: &World, id: CommandId, tail: &str, extra: Option<(&str, &str)>) -> StoredMessage {
    let mut head = HeaderMap::new();
    head.insert(headers::COMMAND_ID, id.to_string().as_str());
    head.insert(headers::DEAD_SUBJECT, format!("wan.cmd.{tail}").as_str());
    head.insert(headers::DEAD_REASON, "HistoryDamaged");
    head.insert(headers::DEAD_SIZE, "2");
    if let Some((name, value)) = extra {
        head.insert(name, value);
    }
    let subject = "wan.dead.command.HistoryDamaged".to_owned();
    let sequence = publish(&world.nats.js, subject, head, "{}".into()).await.unwrap();
    dead::get(&world.nats, sequence).await.unwrap().unwrap()
}

async fn is_decided(world: &World, id: CommandId) {
    let outcome = async || Ok(world.outcome("acme", id).await);
    let outcome = level::reach("its outcome", LIMIT, outcome).await.unwrap().0;
    assert!(outcome.refusal().is_none(), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_goes_back_into_the_inbox_under_its_own_id() {
    let world = World::new(0).await;
    world.customer("acme").await;
    let id = CommandId::mint();
    let tail = "acme.demo.site.hq.protect";
    let personal = bury(&world, id, tail, Some((headers::DEAD_LEFT_OUT, "contact"))).await;
    assert_eq!(dead::requeue(&world.nats, &personal, false).await.unwrap(), Err(Kept::LeftOut));
    let whole = bury(&world, id, tail, None).await;
    assert_eq!(dead::requeue(&world.nats, &whole, false).await.unwrap(), Ok(Back::Inbox(id)));
    is_decided(&world, id).await;
    dead::remove(&world.nats, whole.sequence).await.unwrap();
    assert!(dead::get(&world.nats, whole.sequence).await.unwrap().is_none());
    assert_eq!(world.letters().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_was_overtaken_goes_back_only_if_that_is_meant() {
    let world = World::new(0).await;
    let acme = world.customer("acme").await;
    let (first, second) = (CommandId::mint(), CommandId::mint());
    world.device(&acme, "core").await;
    world.send("acme.demo.site.hq.note", &json!({ "text": "looked at" })).await;
    let overtaken =
        async |id: CommandId, letter: &StoredMessage| match dead::requeue(&world.nats, letter, false)
            .await
            .unwrap()
        {
            Err(Kept::Overtaken { by, .. }) => assert_ne!(by, id),
            other => panic!("{other:?}"),
        };
    // One about the site, and one about the device that was created later than it says.
    let of_site = bury(&world, first, "acme.demo.site.hq.protect", None).await;
    overtaken(first, &of_site).await;
    let of_device = bury(&world, second, "acme.demo.device.core.protect", None).await;
    overtaken(second, &of_device).await;
    assert_eq!(dead::requeue(&world.nats, &of_site, true).await.unwrap(), Ok(Back::Inbox(first)));
    is_decided(&world, first).await;

    // What happens to others, or is only found out, overtakes nothing.
    let third = CommandId::mint();
    let letter = bury(&world, third, "acme.demo.device.core.protect", None).await;
    let scheduler = world.scheduler("one", Patience::default()).await;
    world.until_event(&acme, "core", "DeviceApplied").await;
    world.device(&acme, "edge").await;
    assert_eq!(dead::requeue(&world.nats, &letter, false).await.unwrap(), Ok(Back::Inbox(third)));
    is_decided(&world, third).await;
    // It can be sent back twice, and is carried out once.
    assert_eq!(dead::requeue(&world.nats, &letter, false).await.unwrap(), Ok(Back::Inbox(third)));
    scheduler.stop().await;
}
