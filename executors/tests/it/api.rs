//! The API engine: what cannot be changed is made anew, and what is to go is looked for by name.

use serde_json::{Map, Value, json};
use wanwright_executors::engine::{Begun, Log, Measure, Outcome, Run, Scans, Together, api};
use wanwright_schemas::effect::Phase;
use wanwright_schemas::order::{Desired, DesiredDevice, Intent, Order};
use wanwright_schemas::report::Finding;
use wanwright_schemas::{CommandId, Position};

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
    let (context, opened) = world.run("edge-01");
    let position = Position { stream: "EVENTS-0".to_owned(), sequence: 1 };
    let (customer, vendor) = (context.customer.clone(), context.vendor.clone());
    let order = Order::new(customer, vendor, intent, 0, Desired::Device(device), position);
    let measure = Measure::begin();
    let run = Run {
        order: &order,
        vendor: world.catalogue.get("simwan").unwrap(),
        gateway: &opened,
        observe_first: false,
        scans: &Scans::default(),
        together: &Together::new(world.gateway.clone()),
        attempt: 1,
        unsettled: true,
        log: Log::new(&world.nats, &opened),
        measure: &measure,
        begun: &Begun::default(),
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
