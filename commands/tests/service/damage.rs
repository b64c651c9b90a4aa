//! Nothing is decided on a history that lost something.

use bytes::Bytes;
use wanwright_nats::topology::{self, DEAD};
use wanwright_schemas::{CommandId, Reason, headers};

use crate::world::{PARTITIONS, SITE, World, code, customer, stream_of};

#[tokio::test]
async fn a_history_that_became_shorter_is_damaged_and_its_commands_are_kept() {
    let world = World::new().await;
    let other = SITE.replace("10.1", "10.2");
    world.ask("acme.demo.site.oslo.create", CommandId::mint(), SITE).await;
    world.ask("acme.demo.site.bergen.create", CommandId::mint(), &other).await;

    // What a damaged newest block does: the last message is gone and its sequence will be used again.
    let first = world.history("acme").await.remove(0);
    let name = stream_of(&customer("acme"));
    world.nats.js.delete_stream(&name).await.unwrap();
    let config = topology::streams(PARTITIONS, 1).into_iter().find(|config| config.name == name).unwrap();
    world.nats.js.create_stream(config).await.unwrap();
    world.nats.js.publish(first.subject, first.payload).await.unwrap().await.unwrap();

    let change = (r#"{"lan":["10.3.0.0/24"]}"#, "acme.demo.site.oslo.change");
    let answer = world.ask(change.1, CommandId::mint(), change.0).await;
    assert_eq!(code(&answer), Some(Reason::HistoryDamaged), "{answer:?}");

    let ids = [CommandId::mint(), CommandId::mint()];
    for id in ids {
        world.put(change.1, id, change.0.into()).await;
    }
    world.inbox_is_empty().await;
    let dead = world.stored(DEAD, "wan.dead.command.HistoryDamaged").await;
    let buried: Vec<String> = dead
        .iter()
        .map(|message| message.headers.get(headers::COMMAND_ID).unwrap().as_str().to_owned())
        .collect();
    assert_eq!(buried, ids.map(|id| id.to_string()));
    assert_eq!(dead[0].payload, Bytes::from(change.0));
    assert_eq!(world.history("acme").await.len(), 1);
    world.stop().await;
}
