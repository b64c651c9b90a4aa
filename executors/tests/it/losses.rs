//! A stream of events lost something, and an administrator said that this is known.

use serde_json::{Value, json};
use wanwright_commands::Head;
use wanwright_nats::inventory::{Accepted, End, Ends};
use wanwright_nats::{History, OrderTable, topology};
use wanwright_schemas::envelope::Digest;
use wanwright_schemas::order::Order;
use wanwright_schemas::{CustomerId, subjects};

use crate::dispatcher::{World, site, until};

const EVENTS: &str = "EVENTS-0";
const ROW: &str = "wan.order.simwan.acme.site.oslo";

/// Writes down what the command services do once they have found that the stream should go up to this sequence.
async fn lost(world: &World, sequence: u64) {
    let end = End { sequence, body: Digest::of(b"lost"), lost: Some(1) };
    let ends = Ends { v: 1, ends: [(0, end)].into() };
    write(world, subjects::INVENTORY_OF_HISTORIES, serde_json::to_vec(&ends).unwrap()).await;
}

/// Says what `wanwright nats accept` does.
async fn accept(world: &World) {
    write(world, subjects::INVENTORY_ACCEPTED, serde_json::to_vec(&Accepted { v: 1, at: 2 }).unwrap()).await;
}

async fn write(world: &World, of: &str, body: Vec<u8>) {
    let subject = subjects::inventory_by(of, "test");
    world.nats.js.publish(subject, body.into()).await.unwrap().await.unwrap();
}

fn changed(generation: u64, lan: &str) -> Value {
    json!({"type": "SiteChanged", "v": 1, "site": "oslo", "generation": generation,
        "spec": {"vendor": "simwan", "lan": [lan], "settings": {}}})
}

/// The order that waits for Oslo.
async fn waiting(world: &World) -> Option<Order> {
    let row = OrderTable::new(world.nats.clone()).get(ROW).await.unwrap()?;
    (!row.is_done()).then(|| serde_json::from_slice(&row.payload).unwrap())
}

#[tokio::test]
async fn what_was_not_ordered_because_of_a_loss_is_ordered_once_the_loss_is_known() {
    let world = World::new().await;
    let acme: CustomerId = "acme".parse().unwrap();
    world.append(&acme, &mut Head::default(), &[site("oslo", "10.1.0.0/24")]).await;
    lost(&world, 9).await;
    let running = world.dispatch();
    world.worked_off(1).await;
    assert_eq!(world.orders("acme").await, 0, "it rests on a history of which something is lost");
    accept(&world).await;
    // No event comes any more.
    until("the order", || async { waiting(&world).await.is_some() }).await;
    running.stop().await;
}

/// Leaves the stream its first message, as a damaged newest block does, and has that known.
async fn lose_all_but_the_first(world: &World, acme: &CustomerId) -> Head {
    let history = History::new(world.nats.clone());
    let all = history.load(acme, 0).await.unwrap();
    world.nats.js.delete_stream(EVENTS).await.unwrap();
    topology::apply(&world.nats, 1).await.unwrap();
    let first = all[0].clone();
    world.nats.js.publish(first.subject, first.payload.clone()).await.unwrap().await.unwrap();
    lost(world, all.len() as u64).await;
    accept(world).await;
    let mut head = Head::default();
    head.fold(1, &first.payload).unwrap();
    head
}

#[tokio::test]
async fn an_order_of_what_is_lost_does_not_outlive_it() {
    let world = World::new().await;
    let acme: CustomerId = "acme".parse().unwrap();
    let ordered = async |generation| {
        let is_so = || async { waiting(&world).await.is_some_and(|order| order.generation() == generation) };
        until("the order of a generation", is_so).await;
    };
    let mut head = Head::default();
    world.append(&acme, &mut head, &[site("oslo", "10.1.0.0/24")]).await;
    let suspended = json!({"type": "SiteSuspended", "v": 1, "site": "oslo", "reason": "works"});
    for then in [None, Some(suspended)] {
        world.append(&acme, &mut head, &[changed(2, "10.2.0.0/24")]).await;
        world.append(&acme, &mut head, &[changed(3, "10.3.0.0/24")]).await;
        let running = world.dispatch();
        ordered(3).await;
        running.stop().await;

        head = lose_all_but_the_first(&world, &acme).await;
        if let Some(event) = &then {
            world.append(&acme, &mut head, std::slice::from_ref(event)).await;
        }
        let running = world.dispatch();
        match then {
            None => ordered(1).await,
            Some(_) => {
                until("its withdrawal", || async { waiting(&world).await.is_none() }).await;
            }
        }
        running.stop().await;
    }
}

#[tokio::test]
async fn a_stream_that_is_away_keeps_no_other_from_being_swept() {
    let world = World::of_partitions(2).await;
    let others = (0..).map(|number| format!("other-{number}").parse::<CustomerId>().unwrap());
    let other = others.into_iter().find(|other| subjects::partition(other, 2) == 1).unwrap();
    world.append(&other, &mut Head::default(), &[site("oslo", "10.1.0.0/24")]).await;
    let running = world.dispatch();
    let row = format!("wan.order.simwan.{other}.site.oslo");
    let table = OrderTable::new(world.nats.clone());
    let is_ordered = || async { table.get(&row).await.unwrap().is_some() };
    until("the order", is_ordered).await;
    world.nats.js.delete_stream(EVENTS).await.unwrap();
    // Only the sweep brings it back.
    world.nats.js.get_stream(topology::ORDERS).await.unwrap().purge().await.unwrap();
    until("the order again", is_ordered).await;
    running.stop().await;
}
