//! The API engine: what cannot be changed is made anew, and what is to go is looked for by name.

use serde_json::{Map, Value, json};
use wanwright_executors::engine::{Begun, Log, Measure, Outcome, Run, Scans, Stored, Together, api};
use wanwright_executors::gateway::{Gateway, RunContext};
use wanwright_nats::Nats;
use wanwright_schemas::effect::Phase;
use wanwright_schemas::order::{Desired, DesiredDevice, Intent, Order};
use wanwright_schemas::report::Finding;
use wanwright_schemas::{CommandId, Position};
use wanwright_vendors::Vendor;

use crate::world::World;

pub fn device(uid: CommandId, site: &Value, known: Option<&str>) -> DesiredDevice {
    DesiredDevice {
        id: "edge-01".parse().unwrap(),
        uid,
        generation: 2,
        name: "acme.edge-01".to_owned(),
        serial: "SN1".to_owned(),
        model: "edge-100".to_owned(),
        settings: Map::from_iter([("vlan".to_owned(), json!(7))]).into_iter().collect(),
        inputs: Map::from_iter([("site_id".to_owned(), site.clone())]),
        known: known.map(|id| ("id".to_owned(), json!(id))).into_iter().collect(),
    }
}

/// What comes of an order about the device.
pub async fn outcome(world: &World, intent: Intent, device: DesiredDevice) -> Outcome {
    outcome_after(world, false, intent, device).await
}

/// The same where a run before may have died.
async fn outcome_after(world: &World, died: bool, intent: Intent, device: DesiredDevice) -> Outcome {
    let vendor = world.catalogue.get("simwan").unwrap();
    let context = World::context("edge-01");
    outcome_of(&Way { nats: &world.nats, gateway: &world.gateway, vendor, context, died }, intent, device)
        .await
}

/// By which way an order is carried out.
pub struct Way<'a> {
    pub nats: &'a Nats,
    pub gateway: &'a Gateway,
    pub vendor: &'a Vendor,
    pub context: RunContext,
    /// Whether a run before may have died.
    pub died: bool,
}

/// What comes of an order about a device at any vendor.
pub async fn outcome_of(way: &Way<'_>, intent: Intent, device: DesiredDevice) -> Outcome {
    let opened = way.gateway.open(way.context.clone());
    let position = Position { stream: "EVENTS-0".to_owned(), sequence: 1 };
    let (customer, vendor) = (way.context.customer.clone(), way.context.vendor.clone());
    let order = Order::new(customer, vendor, intent, 0, Desired::Device(device), position);
    let measure = Measure::begin();
    let run = Run {
        order: &order,
        vendor: way.vendor,
        gateway: &opened,
        observe_first: way.died,
        scans: &Scans::default(),
        together: &Together::new(way.gateway.clone()),
        attempt: 1,
        unsettled: true,
        held: None,
        log: Log::new(way.nats, &opened),
        measure: &measure,
        begun: &Begun::default(),
        stored: &Stored::default(),
    };
    api::run(&run).await
}

async fn carry_out(world: &World, intent: Intent, device: DesiredDevice) -> Finding {
    match outcome(world, intent, device).await {
        Outcome::Done(mut findings) => findings.remove(0).finding,
        Outcome::Passing { message, .. } => panic!("{message}"),
    }
}

fn id(finding: &Finding) -> String {
    match finding {
        Finding::Applied { generation: 2, outputs } => outputs["id"].as_str().unwrap().to_owned(),
        other => panic!("not applied: {other:?}"),
    }
}

#[tokio::test]
async fn a_device_whose_site_is_another_one_is_made_anew_and_removed_by_name() {
    let world = World::new(50).await;
    let (context, opened) = world.run("edge-01");
    let mut sites = Vec::new();
    for name in ["acme.one", "acme.two"] {
        let (status, site) = World::create_site(world.http.clone(), opened.base_url().to_owned(), name).await;
        assert_eq!(status, 201);
        sites.push(site["id"].clone());
    }
    let uid = CommandId::mint();
    let first = id(&carry_out(&world, Intent::Apply, device(uid, &sites[0], None)).await);
    let same = id(&carry_out(&world, Intent::Apply, device(uid, &sites[0], Some(&first))).await);
    assert_eq!(first, same);
    let second = id(&carry_out(&world, Intent::Apply, device(uid, &sites[1], Some(&first))).await);
    assert_ne!(first, second, "its site cannot be changed");
    // A run that died had made it anew, so the known id is an old one.
    let removed = carry_out(&world, Intent::Remove, device(uid, &sites[1], Some(&first))).await;
    assert_eq!(removed, Finding::Removed);
    let stats = world.stats().await;
    assert_eq!(stats.kinds["device"].objects, 0);
    assert_eq!(world.journal(&context).await.last(), Some(&Phase::Settled));
}

#[tokio::test]
async fn after_a_death_the_object_of_that_name_is_taken_whatever_key_made_it() {
    let world = World::new(50).await;
    let (_, opened) = world.run("edge-01");
    let (status, site) =
        World::create_site(world.http.clone(), opened.base_url().to_owned(), "acme.one").await;
    assert_eq!(status, 201);
    // An executor of an earlier life made it under a key that nobody knows any more.
    let other = device(CommandId::mint(), &site["id"], None);
    let made = id(&carry_out(&world, Intent::Apply, other).await);
    let after = async |device| match outcome_after(&world, true, Intent::Apply, device).await {
        Outcome::Done(mut findings) => findings.remove(0).finding,
        Outcome::Passing { message, .. } => panic!("{message}"),
    };
    let found = id(&after(device(CommandId::mint(), &site["id"], None)).await);
    assert_eq!(found, made);
    let stats = world.stats().await;
    let made = &stats.kinds["device"];
    assert_eq!((made.objects, made.totals.creations), (1, 1));
}
