//! How fast a fold is. Not a test: `cargo test -p wanwright-projections -- --ignored --nocapture speed`.

use std::time::Instant;

use wanwright_projections::{ReadModel, rebuild, verify};

use crate::given::*;
use crate::servers::World;

const CUSTOMERS: usize = 200;
const DEVICES: usize = 100;

#[tokio::test]
#[ignore = "a measurement"]
async fn speed() {
    let world = World::new().await;
    let mut writer = Writer::default();
    let mut acks = Vec::new();
    for number in 0..CUSTOMERS {
        let customer = format!("c-{number}");
        acks.push(writer.next(&customer, &[site_created("oslo-01")]));
        for device in 0..DEVICES {
            acks.push(writer.next(&customer, &[device_created(&format!("ap-{device}"), "oslo-01")]));
        }
    }
    let messages = acks.len();
    for chunk in acks.chunks(100) {
        let mut published = Vec::new();
        for (subject, payload) in chunk {
            published.push(world.nats.js.publish(subject.clone(), payload.clone().into()).await.unwrap());
        }
        for ack in published {
            ack.await.unwrap();
        }
    }
    let start = Instant::now();
    let mut running = world.project_with(|config| config.models = vec![ReadModel::Events]);
    running.ready().await;
    println!("events: {messages} messages in {:?}", start.elapsed());
    let start = Instant::now();
    let mut overview = world.project_with(|config| config.models = vec![ReadModel::Overview]);
    overview.ready().await;
    println!("overview: {messages} messages in {:?}", start.elapsed());
    for partition in 0..PARTITIONS {
        let stream = wanwright_schemas::subjects::events_stream(partition);
        let start = Instant::now();
        let verified = verify(&world.pool, &world.nats.js, &stream).await.unwrap();
        println!("verify {stream}: {} messages in {:?}", verified.sequence, start.elapsed());
        assert!(verified.different.is_empty());
        let start = Instant::now();
        let rebuilt = rebuild(&world.pool, &world.nats.js, &stream).await.unwrap();
        println!("rebuild {stream}: {} messages in {:?}", rebuilt.sequence, start.elapsed());
    }
    running.stop().await;
    overview.stop().await;
}
