//! Migrations run while the version before them still serves, and by several processes at once.

use sqlx::PgPool;
use wanwright_projections::migrate;
use wanwright_projections::read::{self, Filter, Page};
use wanwright_projections::verify;

use crate::given::{Writer, command, id, site_applied, site_created};
use crate::rows::stream_of;
use crate::servers::{World, database};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../migrations");

/// Runs the files up to a number, as the version did that knew no more of them.
async fn migrate_to(pool: &PgPool, last: i64) {
    let mut all = sqlx::migrate::Migrator::new(std::path::Path::new(FOLDER)).await.unwrap();
    all.migrations.to_mut().retain(|migration| migration.version <= last);
    all.run(pool).await.unwrap();
}

/// What the version before 0010 wrote for an outcome.
async fn as_before(pool: &PgPool, number: u64, sequence: i64) {
    let sql = "INSERT INTO outcomes (customer, command, status, events, time, sequence)
               VALUES ('acme', $1::uuid, 'accepted', '{SiteCreated}', now(), $2)
               ON CONFLICT (customer, command) DO UPDATE SET sequence = excluded.sequence";
    sqlx::query(sql).bind(command(number).to_string()).bind(sequence).execute(pool).await.unwrap();
}

#[tokio::test]
async fn outcomes_of_the_version_before_stay_and_its_reader_is_forgotten() {
    let (url, _) = database().await;
    let pool = PgPool::connect(&url).await.unwrap();
    migrate_to(&pool, 9).await;
    as_before(&pool, 1, 700).await;
    for (model, stream) in [("outcomes", "OUTCOMES"), ("events", "EVENTS-0")] {
        let sql = "INSERT INTO projection_status (read_model, stream, sequence, incarnation) VALUES ($1, $2, 700, now())";
        sqlx::query(sql).bind(model).bind(stream).execute(&pool).await.unwrap();
    }
    migrate(&pool).await.unwrap();
    // It still writes.
    as_before(&pool, 2, 701).await;
    as_before(&pool, 1, 702).await;
    let of_acme = Filter { customer: Some(id("acme")), ..Filter::default() };
    let rows = read::outcomes(&pool, &of_acme, &Page::default()).await.unwrap().rows;
    assert_eq!(rows.iter().map(|row| row.command).collect::<Vec<_>>(), [command(2), command(1)]);
    assert!(rows.iter().all(|row| row.stream == "OUTCOMES"), "{rows:?}");
    let status = read::projection_status(&pool).await.unwrap();
    assert_eq!(status.iter().map(|row| row.stream.as_str()).collect::<Vec<_>>(), ["EVENTS-0"]);
}

#[tokio::test]
async fn sites_of_the_version_before_0024_are_what_their_events_say() {
    let world = World::new().await;
    let mut writer = Writer::default();
    world.publish(writer.next("acme", &[site_created("oslo-01")])).await;
    world.publish(writer.next("acme", &[site_applied("oslo-01", 1)])).await;
    let mut running = world.project();
    running.ready().await;
    running.stop().await;
    // As the version before left it, which knew nothing of templates.
    for sql in [
        "DROP VIEW rollout_customers",
        "DROP TABLE rollouts",
        "ALTER TABLE sites DROP COLUMN template, DROP COLUMN templates",
        "DELETE FROM _sqlx_migrations WHERE version = 24",
    ] {
        sqlx::query(sql).execute(&world.pool).await.unwrap();
    }
    migrate(&world.pool).await.unwrap();
    let verified = verify(&world.pool, &world.nats, &stream_of("acme")).await.unwrap();
    assert_eq!((verified.customers, verified.different.len()), (1, 0), "{verified:?}");
    let sites = read::sites(&world.pool, &Filter::default(), &Page::default()).await.unwrap().rows;
    assert_eq!(
        sites.iter().map(|site| (site.template, site.templates.is_empty())).collect::<Vec<_>>(),
        [(1, true)]
    );
}

#[tokio::test]
async fn many_processes_migrate_at_once() {
    let (url, _) = database().await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let url = url.clone();
        tasks.spawn(async move { migrate(&PgPool::connect(&url).await.unwrap()).await });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap().unwrap();
    }
}
