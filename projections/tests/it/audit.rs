//! Signed heads: what the streams held, and who notices when they no longer do.

use wanwright_nats::evidence::{Folder, SigningKey};
use wanwright_projections::{Signer, accept, heads};

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
