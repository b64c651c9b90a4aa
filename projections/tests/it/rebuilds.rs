//! Rebuild and verify, while the tables serve.

use wanwright_nats::{Follower, stream_info};
use wanwright_projections::{customer_overview, rebuild, rebuild_all, rebuild_customer, verify};
use wanwright_schemas::{CustomerId, subjects};

use crate::given::*;
use crate::rows::stream_of;
use crate::servers::{LIMIT, World, create_stream};

async fn history(world: &World) {
    let mut writer = Writer::default();
    for number in 0..40 {
        let site = format!("s-{number}");
        for customer in ["acme", "globex", "initech-0"] {
            world.publish(writer.next(customer, &[site_created(&site), tunnel_created(&site, &site)])).await;
            world
                .publish(writer.next(customer, &[site_applied(&site, 1), site_drifted(&site, 90 + number)]))
                .await;
        }
        if number % 3 == 0 {
            let removed = about("site", &site, "SiteRemoved", serde_json::json!({"order": order(1)}));
            world.publish(writer.next("acme", &[removed])).await;
        }
    }
}

#[tokio::test]
async fn a_rebuild_gives_the_rows_that_reading_message_by_message_gave() {
    let world = World::new().await;
    history(&world).await;
    let acme = stream_of("acme");
    let mut running = world.project_with(|config| config.batch = 1);
    running.ready().await;
    let good = world.rows().await;
    let verified = verify(&world.pool, &world.nats, &acme).await.unwrap();
    assert!(verified.different.is_empty() && verified.customers > 0, "{verified:?}");
    let rebuilt = rebuild(&world.pool, &world.nats, &acme).await.unwrap();
    assert_eq!((rebuilt.written, rebuilt.deleted), (0, 0), "rows that are right are left alone");
    assert_eq!(world.rows().await, good);

    // Somebody meddles with the tables.
    for sql in [
        "UPDATE sites SET health = 'Unknown' WHERE customer = 'acme' AND id = 's-1'",
        "DELETE FROM timeline WHERE customer = 'acme' AND sequence < 10",
        "UPDATE customers SET sites = 7 WHERE customer = 'acme'",
        "INSERT INTO tunnels SELECT (jsonb_populate_record(t, '{\"id\": \"ghost\"}')).* FROM tunnels t
         WHERE customer = 'acme' AND id = 's-1'",
    ] {
        sqlx::query(sql).execute(&world.pool).await.unwrap();
    }
    let verified = verify(&world.pool, &world.nats, &acme).await.unwrap();
    let tables: Vec<&str> = verified.different["acme"].iter().map(String::as_str).collect();
    assert_eq!(verified.different.len(), 1);
    assert_eq!(tables, ["customers", "sites", "timeline", "tunnels"]);

    let rebuilt = rebuild_customer(&world.pool, &world.nats, &acme, &id("acme")).await.unwrap();
    assert_eq!(rebuilt.deleted, 1);
    assert_eq!(world.rows().await, good);

    // Everything is lost; the reader has to find its place again.
    sqlx::query("TRUNCATE customers, sites, tunnels, devices, drift_reports, timeline")
        .execute(&world.pool)
        .await
        .unwrap();
    for partition in 0..PARTITIONS {
        let stream = wanwright_schemas::subjects::events_stream(partition);
        rebuild(&world.pool, &world.nats, &stream).await.unwrap();
    }
    assert_eq!(world.rows().await, good);
    let schemas: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'beside%'")
        .fetch_one(&world.pool)
        .await
        .unwrap();
    assert_eq!(schemas, 0);
    running.stop().await;
}

#[tokio::test]
async fn another_partition_count_stops_the_readers_until_everything_is_folded_again() {
    let world = World::new().await;
    history(&world).await;
    let mut running = world.project();
    running.ready().await;
    running.stop().await;
    let counts = "SELECT customer || sites || tunnels || messages || chain_head FROM customers ORDER BY 1";
    let before: Vec<String> = sqlx::query_scalar(counts).fetch_all(&world.pool).await.unwrap();

    let (from, to) = (PARTITIONS, 4);
    for partition in from..to {
        let name = subjects::events_stream(partition);
        create_stream(&world.nats, &name, &subjects::events_of_partition(partition)).await;
    }
    let nats = world.nats.with_partitions(to);
    let mut moved = None;
    for customer in ["acme", "globex", "initech-0"] {
        let of = id::<CustomerId>(customer);
        let (old, new) = (subjects::events(&of, from), subjects::events(&of, to));
        if old == new {
            continue;
        }
        let stream = stream_of(customer);
        let mut left = stream_info(&nats.js, &stream).await.unwrap().last;
        let mut follower = Follower::open(nats.js.clone(), &stream, 1).await.unwrap();
        while left > 0 {
            let message = follower.next_batch(1, LIMIT).await.unwrap().remove(0);
            left -= 1;
            if message.subject == old {
                world.publish((new.clone(), message.payload.to_vec())).await;
            }
        }
        moved = Some(of);
    }
    let mut running = world.project_with(|config| config.nats = nats.clone());
    for reader in ["events EVENTS-0", "events EVENTS-3", "overview EVENTS-1"] {
        let why = running.stopped(reader).await;
        assert!(
            why.contains("2 partitions, now there are 4") && why.contains("wanwright rebuild --all"),
            "{why}"
        );
    }
    assert!(verify(&world.pool, &nats, "EVENTS-0").await.is_err());

    // The readers go on by themselves.
    assert_eq!(rebuild_all(&world.pool, &nats).await.unwrap().len(), 4);
    running.ready().await;
    for stream in (0..to).map(subjects::events_stream) {
        assert!(verify(&world.pool, &nats, &stream).await.unwrap().different.is_empty(), "{stream}");
    }
    let after: Vec<String> = sqlx::query_scalar(counts).fetch_all(&world.pool).await.unwrap();
    assert_eq!(after, before);
    let overview = customer_overview(&world.pool, &moved.unwrap()).await.unwrap().unwrap();
    assert!(!overview.sites.is_empty());
    running.stop().await;
}
