//! One Postgres and one nats-server for the whole run, a database and an account of its own for each test.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use async_nats::jetstream;
use async_nats::jetstream::stream;
use sqlx::postgres::PgPoolOptions;
use sqlx::{Executor, PgPool};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use wanwright_nats::Nats;
use wanwright_projections::{Config, Projections, ReaderState, Readiness, migrate, read};
use wanwright_schemas::subjects;
use wanwright_supervisor::{NatsOptions, Postgres, PostgresOptions};

use crate::given::PARTITIONS;

pub const LIMIT: Duration = Duration::from_secs(30);

struct Shared {
    postgres: Postgres,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A folder that another user may enter: Postgres does not run as root. It outlives this process, whose servers do not
/// end before it; the next run takes it away.
pub fn folder(name: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    const PREFIX: &str = "wanwright-projections-";
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    let root = ROOT.get_or_init(|| {
        let all = std::env::temp_dir();
        for old in std::fs::read_dir(&all).unwrap().flatten() {
            let name = old.file_name().into_string().unwrap_or_default();
            let of = name.strip_prefix(PREFIX).and_then(|pid| pid.parse::<u32>().ok());
            if of.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
                let _ = std::fs::remove_dir_all(old.path());
            }
        }
        let root = all.join(format!("{PREFIX}{}", std::process::id()));
        std::fs::create_dir_all(&root).unwrap();
        std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o755)).unwrap();
        root
    });
    root.join(format!("{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed)))
}

pub fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("programs")
}

/// The servers outlive the runtime of the test that came first, so they have a thread of their own.
fn shared() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    SHARED.get_or_init(|| {
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(1).build().unwrap();
            runtime.block_on(async {
                let mut options = PostgresOptions::new(folder("postgres"), cache());
                options.settings =
                    vec![("max_connections".into(), "300".into()), ("fsync".into(), "off".into())];
                let postgres = Postgres::start(&options).await.unwrap();
                tell.send(Shared { postgres }).unwrap();
                std::future::pending::<()>().await;
            });
        });
        told.recv().unwrap()
    })
}

/// An empty database: its URL and its name.
pub async fn database() -> (String, String) {
    let shared = tokio::task::spawn_blocking(shared).await.unwrap();
    let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let admin = PgPool::connect(&shared.postgres.url()).await.unwrap();
    admin.execute(format!("CREATE DATABASE {name}").as_str()).await.unwrap();
    (shared.postgres.url_of(&name), name)
}

/// A database and a nats-server for one test.
pub struct World {
    pub pool: PgPool,
    pub nats: Nats,
    pub server: wanwright_supervisor::Nats,
    pub nats_dir: PathBuf,
}

pub async fn connect(server: &wanwright_supervisor::Nats) -> Nats {
    let login = server.login();
    let client =
        async_nats::ConnectOptions::with_user_and_password(login.user.clone(), login.password.clone())
            .connect(server.url())
            .await
            .unwrap();
    let js = jetstream::ContextBuilder::new().timeout(Duration::from_secs(1)).build(client.clone());
    Nats::over(client, js, PARTITIONS)
}

impl World {
    pub async fn new() -> Self {
        let (url, name) = database().await;
        Self::on(&url, folder(&format!("nats-{name}"))).await
    }

    pub async fn on(url: &str, nats_dir: PathBuf) -> Self {
        let pool = PgPoolOptions::new()
            .max_connections(10)
            .acquire_timeout(Duration::from_secs(3))
            .connect(url)
            .await
            .unwrap();
        migrate(&pool).await.unwrap();
        let server = wanwright_supervisor::Nats::start(&NatsOptions::new(&nats_dir, cache())).await.unwrap();
        let nats = connect(&server).await;
        for partition in 0..PARTITIONS {
            let name = subjects::events_stream(partition);
            create_stream(&nats, &name, &subjects::events_of_partition(partition)).await;
        }
        create_stream(&nats, "RUNS", subjects::RUN_ALL).await;
        create_stream(&nats, "VERDICTS", subjects::VERDICT_ALL).await;
        create_stream(&nats, "DEAD", subjects::DEAD_ALL).await;
        for bucket in ["controls", "budgets", "rollouts"] {
            create_stream(&nats, &format!("KV_{bucket}"), &format!("$KV.{bucket}.>")).await;
        }
        Self { pool, nats, server, nats_dir }
    }

    pub async fn publish(&self, (subject, payload): (String, Vec<u8>)) -> u64 {
        self.publish_with(HeaderMap::new(), (subject, payload)).await
    }

    pub async fn publish_with(&self, headers: HeaderMap, (subject, payload): (String, Vec<u8>)) -> u64 {
        let published = self.nats.js.publish_with_headers(subject, headers, payload.into()).await;
        published.unwrap().await.unwrap().sequence
    }

    pub fn project(&self) -> Running {
        self.project_with(|_| ())
    }

    pub fn project_with(&self, change: impl FnOnce(&mut Config)) -> Running {
        let mut config = Config::new(self.pool.clone(), self.nats.clone());
        config.idle = Duration::from_millis(100);
        config.recheck = Duration::from_millis(100);
        config.max_backoff = Duration::from_millis(200);
        change(&mut config);
        let projections = Projections::new(config);
        let readiness = projections.readiness();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(projections.run(shutdown.clone()));
        Running { readiness, task, shutdown: shutdown.drop_guard() }
    }

    /// Every row of the tables, as text: what two ways to the same place must agree on.
    pub async fn rows(&self) -> Vec<String> {
        let mut all = Vec::new();
        for table in
            ["customers", "sites", "tunnels", "devices", "drift_reports", "timeline", "operations", "run_log"]
        {
            let sql = format!("SELECT '{table} ' || t::text FROM {table} t ORDER BY 1");
            all.extend(sqlx::query_scalar::<_, String>(&sql).fetch_all(&self.pool).await.unwrap());
        }
        all
    }

    pub async fn checkpoint(&self, model: &str, stream: &str) -> u64 {
        let all = read::projection_status(&self.pool).await.unwrap();
        all.iter().find(|row| row.read_model == model && row.stream == stream).map_or(0, |row| row.sequence)
    }
}

pub async fn create_stream(nats: &Nats, name: &str, subject: &str) {
    let config =
        stream::Config { name: name.into(), subjects: vec![subject.into()], ..stream::Config::default() };
    nats.js.create_stream(config).await.unwrap();
}

/// Projections that run until this is dropped.
pub struct Running {
    pub readiness: tokio::sync::watch::Receiver<Readiness>,
    task: JoinHandle<()>,
    shutdown: DropGuard,
}

impl Running {
    pub async fn ready(&mut self) {
        self.until(Readiness::is_ready).await;
    }

    pub async fn until(&mut self, level: impl Fn(&Readiness) -> bool) {
        let seen = tokio::time::timeout(LIMIT, self.readiness.wait_for(|now| level(now))).await.is_ok();
        if !seen {
            panic!("not in time: {:#?}", self.readiness.borrow());
        }
    }

    pub async fn stopped(&mut self, reader: &str) -> String {
        self.until(|now| matches!(now.readers.get(reader), Some(ReaderState::Stopped(_)))).await;
        match self.readiness.borrow().readers.get(reader) {
            Some(ReaderState::Stopped(why)) => why.clone(),
            other => panic!("{reader} is {other:?}"),
        }
    }

    pub async fn stop(self) {
        drop(self.shutdown);
        tokio::time::timeout(LIMIT, self.task).await.unwrap().unwrap();
    }
}

/// Waits for a level with a limit.
pub async fn until<F: Future<Output = bool>>(what: &str, mut level: impl FnMut() -> F) {
    let end = Instant::now() + LIMIT;
    while !level().await {
        assert!(Instant::now() < end, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
