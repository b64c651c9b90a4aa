//! Signed heads: what the streams held, and who notices when they no longer do.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use wanwright_nats::Follower;
use wanwright_nats::evidence::{Folder, Rolling, SignedHead, SigningKey, leaf};
use wanwright_projections::{Signer, accept, heads, thin};
use wanwright_schemas::Digest;

use crate::given::*;
use crate::rows::stream_of;
use crate::servers::{Running, World, create_stream, until};

fn signer(world: &World) -> Signer {
    let key = SigningKey::load_or_make(&world.nats_dir.join("keys")).unwrap();
    Signer { key, folder: Some(Folder::new(world.nats_dir.join("audit"))) }
}

fn project(world: &World) -> Running {
    world.project_with(|config| config.audit = Some(signer(world)))
}

#[tokio::test]
async fn what_was_read_is_signed_in_postgres_and_in_the_folder() {
    let world = World::new().await;
    let (mut writer, acme) = (Writer::default(), stream_of("acme"));
    let mut running = project(&world);
    running.ready().await;
    for site in ["a", "b", "c"] {
        world.publish(writer.next("acme", &[site_created(site)])).await;
    }
    let (key, folder) = (signer(&world).key.public(), signer(&world).folder.unwrap());
    until("the last message is signed", || async {
        heads(&world.pool, &acme, 2, 10).await.unwrap().iter().any(|head| head.sequence == 3)
    })
    .await;
    running.stop().await;
    let kept = heads(&world.pool, &acme, 0, 100).await.unwrap();
    assert_eq!(kept, folder.heads(&acme).unwrap());
    assert!(kept.iter().all(|head| head.is_signed_by(&key)));
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(world.nats_dir.join("keys/audit.key")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);

    // It goes on from there, and what is read when it is told to stop is signed last.
    let mut running = project(&world);
    running.ready().await;
    world.publish(writer.next("acme", &[site_created("d")])).await;
    until("it is signed", || async { world.checkpoint("audit", &acme).await == 4 }).await;
    running.stop().await;
}

#[tokio::test]
async fn a_stream_that_was_made_anew_is_compared_with_what_was_signed() {
    let world = World::new().await;
    let (mut writer, acme) = (Writer::default(), stream_of("acme"));
    for site in ["a", "b"] {
        world.publish(writer.next("acme", &[site_created(site)])).await;
    }
    let mut running = project(&world);
    running.ready().await;
    running.stop().await;

    let subject = world.nats.js.get_stream(&acme).await.unwrap().cached_info().config.subjects[0].clone();
    world.nats.js.delete_stream(&acme).await.unwrap();
    create_stream(&world.nats, &acme, &subject).await;
    let mut anew = Writer::default();
    for site in ["x", "y", "z"] {
        world.publish(anew.next("acme", &[site_created(site)])).await;
    }
    // Postgres has forgotten how far it was; the heads have not.
    sqlx::query("DELETE FROM projection_status WHERE read_model = 'audit'")
        .execute(&world.pool)
        .await
        .unwrap();
    let mut running = project(&world);
    let why = running.stopped(&format!("audit {acme}")).await;
    assert!(why.contains("is not what was signed on"), "{why}");
    // Nor has the folder, when Postgres was emptied.
    sqlx::query("DELETE FROM audit_heads").execute(&world.pool).await.unwrap();
    running.stop().await;
    let mut running = project(&world);
    let why = running.stopped(&format!("audit {acme}")).await;
    assert!(why.contains("is not what was signed on"), "{why}");

    // An operator looks, and says that this is the history from now on.
    accept(&world.pool, signer(&world).folder.as_ref(), &acme).await.unwrap();
    until("it is signed anew", || async { world.checkpoint("audit", &acme).await == 3 }).await;
    running.stop().await;
}

#[tokio::test]
async fn a_forged_head_stops_the_reader() {
    let world = World::new().await;
    let (mut writer, acme) = (Writer::default(), stream_of("acme"));
    world.publish(writer.next("acme", &[site_created("a")])).await;
    let mut running = project(&world);
    running.ready().await;
    running.stop().await;
    sqlx::query("UPDATE audit_heads SET rolling = 'sha256:' || repeat('0', 64) WHERE stream = $1")
        .bind(&acme)
        .execute(&world.pool)
        .await
        .unwrap();
    let mut running = project(&world);
    let why = running.stopped(&format!("audit {acme}")).await;
    assert!(why.contains("is forged"), "{why}");
    running.stop().await;
}

/// The sequences of the heads that Postgres and the folder have.
async fn sequences(world: &World, stream: &str) -> (Vec<u64>, Vec<u64>) {
    let of = |heads: Vec<SignedHead>| heads.iter().map(|head| head.sequence).collect();
    let folder = signer(world).folder.unwrap().heads(stream).unwrap();
    (of(heads(&world.pool, stream, 0, 1_000).await.unwrap()), of(folder))
}

/// The digests of the first messages of a stream.
async fn rolled(world: &World, stream: &str, count: usize) -> Vec<(Rolling, Digest)> {
    let mut follower = Follower::open(world.nats.js.clone(), stream, 1).await.unwrap();
    let (mut rolling, mut rolled) = (Rolling::default(), Vec::new());
    while rolled.len() < count {
        for message in follower.next_batch(count - rolled.len(), Duration::from_secs(20)).await.unwrap() {
            let leaf = leaf(&message);
            rolling = rolling.with(message.sequence, leaf);
            rolled.push((rolling, leaf));
        }
    }
    rolled
}

/// Keeps a head in Postgres; the third one no longer counts.
async fn insert(world: &World, head: &SignedHead) {
    sqlx::query(
        "INSERT INTO audit_heads (stream, incarnation, sequence, leaf, rolling, time, key, signature, superseded_at)
         VALUES ($1, $2::timestamptz, $3, $4, $5, $6::timestamptz, $7, $8, CASE WHEN $3 = 3 THEN now() END)",
    )
    .bind(&head.stream)
    .bind(head.incarnation.to_string())
    .bind(i64::try_from(head.sequence).unwrap())
    .bind(head.leaf.to_string())
    .bind(head.rolling.to_string())
    .bind(head.time.to_string())
    .bind(&head.key)
    .bind(&head.signature)
    .execute(&world.pool)
    .await
    .unwrap();
}

#[tokio::test]
async fn old_heads_are_thinned_out_by_whoever_signs() {
    let world = World::new().await;
    let (mut writer, acme) = (Writer::default(), stream_of("acme"));
    for site in ["a", "b", "c", "d", "e", "f"] {
        world.publish(writer.next("acme", &[site_created(site)])).await;
    }
    let mut running = project(&world);
    running.ready().await;
    until("all is signed", || async { world.checkpoint("audit", &acme).await == 6 }).await;
    running.stop().await;
    let Signer { key, folder } = signer(&world);
    let folder = folder.unwrap();
    let newest = folder.newest(&acme).unwrap().unwrap();
    std::fs::remove_file(folder.file(&acme)).unwrap();
    sqlx::query("DELETE FROM audit_heads WHERE sequence < 6").execute(&world.pool).await.unwrap();
    // As if the others had been signed three days ago, within one hour. One of those no longer counts.
    let old = Timestamp::from_second(Timestamp::now().as_second() / 3600 * 3600 - 3 * 24 * 3600).unwrap();
    for (rolling, leaf) in rolled(&world, &acme, 5).await {
        let minute = SignedDuration::from_mins(i64::try_from(rolling.sequence).unwrap());
        let head = SignedHead::sign(&key, (&acme, newest.incarnation), rolling, leaf, old + minute);
        folder.append(&head).unwrap();
        insert(&world, &head).await;
    }
    folder.append(&newest).unwrap();
    assert_eq!(sequences(&world, &acme).await, (vec![1, 2, 4, 5, 6], vec![1, 2, 3, 4, 5, 6]));
    let mut running = project(&world);
    running.ready().await;
    world.publish(writer.next("acme", &[site_created("g")])).await;
    // The first, the last one of the hour, and what was signed today.
    until("old heads are left out", || async {
        sequences(&world, &acme).await == (vec![1, 5, 6, 7], vec![1, 5, 6, 7])
    })
    .await;
    running.stop().await;
    let superseded: i64 =
        sqlx::query_scalar("SELECT count(*) FROM audit_heads WHERE superseded_at IS NOT NULL")
            .fetch_one(&world.pool)
            .await
            .unwrap();
    assert_eq!(superseded, 1, "what no longer counts is kept as it is");

    // Years later the first and the newest are left, and it goes on from there.
    let later = Timestamp::now() + SignedDuration::from_hours(24 * 400);
    assert!(thin(&world.pool, &signer(&world), &acme, later).await.unwrap() > 0);
    let (table, folder) = sequences(&world, &acme).await;
    assert_eq!(table, folder);
    assert_eq!((table.first(), table.last()), (Some(&1), Some(&7)));
    assert_eq!(thin(&world.pool, &signer(&world), &acme, later).await.unwrap(), 0);
    let mut running = project(&world);
    running.ready().await;
    world.publish(writer.next("acme", &[site_created("h")])).await;
    until("it goes on", || async { world.checkpoint("audit", &acme).await == 8 }).await;
    running.stop().await;
}

#[tokio::test]
async fn a_forged_head_is_not_thinned_out() {
    let world = World::new().await;
    let (mut writer, acme) = (Writer::default(), stream_of("acme"));
    let mut running = project(&world);
    running.ready().await;
    for (site, sequence) in [("a", 1), ("b", 2), ("c", 3)] {
        world.publish(writer.next("acme", &[site_created(site)])).await;
        until("it is signed", || async { world.checkpoint("audit", &acme).await == sequence }).await;
    }
    running.stop().await;
    let file = signer(&world).folder.unwrap().file(&acme);
    sqlx::query("UPDATE audit_heads SET rolling = 'sha256:' || repeat('0', 64) WHERE sequence = 2")
        .execute(&world.pool)
        .await
        .unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace(r#""sequence":2"#, r#""sequence":1"#)).unwrap();
    let later = Timestamp::now() + SignedDuration::from_hours(24 * 400);
    assert_eq!(thin(&world.pool, &signer(&world), &acme, later).await.unwrap(), 0);
    assert_eq!(sequences(&world, &acme).await, (vec![1, 2, 3], vec![1, 1, 3]));
}
