//! Migrations run while the version before them still serves, and by several processes at once.

use sqlx::PgPool;
use wanwright_projections::migrate;
use wanwright_projections::read::{self, Filter, Page};

use crate::given::{command, id};
use crate::servers::database;

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
