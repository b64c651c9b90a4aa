use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection, Row};
use wanwright_supervisor::{Error, Postgres, PostgresOptions, User};

use crate::helper::Helper;
use crate::support::{TempDir, is_alive, is_root, make_open, set_mode, until};

fn options(dir: &TempDir) -> PostgresOptions {
    // The cache stays empty where the machine has a Postgres of its own.
    PostgresOptions::new(dir.join("postgres"), dir.join("postgres.cache"))
}

async fn connect(postgres: &Postgres) -> PgConnection {
    PgConnection::connect(&postgres.url()).await.unwrap()
}

async fn ask(connection: &mut PgConnection, question: &str) -> String {
    sqlx::query(question).fetch_one(connection).await.unwrap().get(0)
}

#[tokio::test]
async fn a_restart_keeps_data_password_and_port() {
    let dir = TempDir::new();
    let postgres = Postgres::start(&options(&dir)).await.unwrap();
    assert_eq!(postgres.place().instead_of, None);
    let url = postgres.url();
    let mut connection = connect(&postgres).await;
    for (question, answer) in [
        ("SHOW server_encoding", "UTF8"),
        ("SHOW data_checksums", "on"),
        ("SHOW fsync", "on"),
        ("SHOW listen_addresses", "127.0.0.1"),
        ("SHOW password_encryption", "scram-sha-256"),
        ("SELECT datcollate::text FROM pg_database WHERE datname = current_database()", "C"),
    ] {
        assert_eq!(ask(&mut connection, question).await, answer, "{question}");
    }
    sqlx::query("CREATE TABLE keep AS SELECT 'this' AS what").execute(&mut connection).await.unwrap();
    let begun = Instant::now();
    // The connection is still open: a fast shutdown does not wait for it.
    assert!(!postgres.stop(Duration::from_secs(10)).await.killed);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());

    let postgres = Postgres::start(&options(&dir)).await.unwrap();
    assert_eq!(postgres.url(), url);
    assert_eq!(ask(&mut connect(&postgres).await, "SELECT what FROM keep").await, "this");
    let mode =
        |name: &str| std::fs::metadata(postgres.place().dir.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("password"), mode("postgres.log"), mode("data")), (0o600, 0o600, 0o700));
    let wrong = format!("postgres://wanwright:wrong@{}/wanwright", postgres.address());
    assert!(PgConnection::connect(&wrong).await.is_err());
}

#[tokio::test]
async fn it_ends_with_its_killed_parent_and_starts_again_at_once() {
    let dir = TempDir::new();
    let helper = Helper::start("postgres", dir.join("postgres"), None).await;
    helper.child.kill().await;
    let postgres = Postgres::start(&options(&dir)).await.unwrap();
    until("the first server is gone", || !is_alive(helper.pids[0])).await;

    // Now the postmaster alone, with a connection whose own process has to notice.
    let mut connection = connect(&postgres).await;
    sqlx::query("CREATE TABLE keep AS SELECT 'this' AS what").execute(&mut connection).await.unwrap();
    postgres.child().kill().await;
    let postgres = Postgres::start(&options(&dir)).await.unwrap();
    assert_eq!(ask(&mut connect(&postgres).await, "SELECT what FROM keep").await, "this");
}

#[tokio::test]
async fn a_port_taken_meanwhile_is_replaced() {
    let dir = TempDir::new();
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = stranger.local_addr().unwrap().port();
    make_open(&dir.join("postgres"));
    std::fs::write(dir.join("postgres/port"), port.to_string()).unwrap();
    let postgres = Postgres::start(&options(&dir)).await.unwrap();
    assert_ne!(postgres.address(), format!("127.0.0.1:{port}"));
}

#[tokio::test]
async fn an_ordinary_user_runs_it_as_itself() {
    if !is_root() {
        return; // Then all the other tests show it.
    }
    let dir = TempDir::new();
    let nobody = User::named("nobody").unwrap().unwrap();
    for name in ["postgres", "postgres.cache"] {
        std::fs::create_dir(dir.join(name)).unwrap();
        std::os::unix::fs::chown(dir.join(name), Some(nobody.uid), Some(nobody.gid)).unwrap();
    }
    let uid = nobody.uid;
    let helper = Helper::start("postgres", dir.join("postgres"), Some(nobody)).await;
    assert_eq!(std::fs::metadata(format!("/proc/{}", helper.pids[0])).unwrap().uid(), uid);
    helper.child.kill().await;
    until("the server is gone", || !is_alive(helper.pids[0])).await;
}

#[tokio::test]
async fn a_folder_its_user_cannot_enter_is_replaced_by_the_same_one_every_time() {
    if !is_root() {
        return;
    }
    let dir = TempDir::new();
    let home = dir.join("home");
    std::fs::create_dir(&home).unwrap();
    set_mode(&home, 0o700);
    let options = PostgresOptions::new(home.join("data"), dir.join("cache"));
    let postgres = Postgres::start(&options).await.unwrap();
    let place = postgres.place().clone();
    assert_eq!(place.instead_of.as_deref(), Some(home.join("data").as_path()));
    assert!(place.dir.starts_with("/var"), "{place:?}");
    postgres.stop(Duration::from_secs(10)).await;
    let again = Postgres::start(&options).await.unwrap();
    assert_eq!(*again.place(), place);
    again.stop(Duration::from_secs(10)).await;
    std::fs::remove_dir_all(&place.dir).unwrap();
}

fn data_of(dir: &TempDir, major: &str) -> PostgresOptions {
    let data = dir.join("postgres/data");
    make_open(&dir.join("postgres"));
    make_open(&data);
    std::fs::write(data.join("PG_VERSION"), major).unwrap();
    options(dir)
}

#[tokio::test]
async fn data_of_a_version_that_is_not_here_is_not_touched() {
    let dir = TempDir::new();
    let error = Postgres::start(&data_of(&dir, "9\n")).await.unwrap_err();
    assert!(matches!(error, Error::OtherMajor { made_by: 9, .. }), "{error}");
}

#[tokio::test]
async fn data_without_its_password_is_not_touched() {
    let dir = TempDir::new();
    let postgres = Postgres::start(&options(&dir)).await.unwrap();
    postgres.stop(Duration::from_secs(10)).await;
    let password = dir.join("postgres/password");
    std::fs::remove_file(&password).unwrap();
    let error = Postgres::start(&options(&dir)).await.unwrap_err().to_string();
    assert!(error.contains(&*password.to_string_lossy()), "{error}");
    assert!(Path::new(&dir.join("postgres/data/PG_VERSION")).exists());
}
