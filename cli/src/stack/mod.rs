//! Everything on this machine: servers, streams, tables, the simulated vendor and the roles, in an order in which
//! nothing meets a part that is not ready.

mod first;
mod offline;
mod roles;
mod servers;

use std::collections::BTreeSet;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio_util::sync::CancellationToken;
use wanwright_nats::accounts::{Authority, OPERATORS, UserKind};
use wanwright_nats::{Access, Nats, accounts, topology};
use wanwright_schemas::subjects::PARTITIONS;
use wanwright_supervisor::{DirLock, NatsOptions, PostgresOptions, SyncInterval};
use wanwright_vendors::Catalogue;

use crate::cli::{Profile, UpArgs};
use crate::endpoints::{Endpoints, Login, PERSON};
use crate::output::note;
use first::FirstStart;
pub use offline::Offline;
use roles::{Role, Roles};
use servers::Servers;

/// The tokens of the simulated vendor, minted once and kept with its data.
#[derive(Serialize, Deserialize)]
struct Tokens {
    token: String,
    admin: String,
}

/// The running system.
pub struct Stack {
    /// Where everything is.
    pub endpoints: Endpoints,
    /// A connection of the person who started it.
    pub nats: Nats,
    /// The read models.
    pub pool: PgPool,
    home: PathBuf,
    roles: Roles,
    servers: Servers,
    _lock: DirLock,
}

impl Stack {
    /// Starts everything. What was started ends again when a later part fails: children die with what holds them.
    pub async fn start(args: &UpArgs, failed: CancellationToken) -> Result<Self> {
        let vendors = std::path::absolute(&args.vendors.vendors)?;
        anyhow::ensure!(
            vendors.join("simwan/vendor.toml").is_file(),
            "there is no {}; run wanwright in its checkout, or name the folder with --vendors",
            vendors.join("simwan/vendor.toml").display()
        );
        let home = std::path::absolute(&args.home.home)?;
        private(&home)?;
        let lock = DirLock::acquire(&home)?;
        // That of a start that was killed leads nowhere.
        Endpoints::remove(&home);
        let terraform = wanwright_supervisor::find_terraform().await?;
        note(format!("  {terraform}"));
        let cache = home.join("cache");
        let keys = Authority::open_or_make(&home.join("keys"), PARTITIONS)?;
        let (nats_options, postgres_options) = (
            nats_options(args.profile, &home, &cache, &keys)?,
            PostgresOptions::new(home.join("postgres"), &cache),
        );
        let first = FirstStart::begin(&home)?;
        let (nats_server, postgres) = tokio::join!(
            wanwright_supervisor::Nats::start(&nats_options),
            wanwright_supervisor::Postgres::start(&postgres_options),
        );
        let (nats_server, postgres) = (nats_server?, postgres?);
        note(format!("  {}", nats_server.found()));
        note(format!("  {}", postgres.found()));
        if postgres.place().instead_of.is_some() {
            note(format!("  Postgres keeps its data in {}", postgres.place().dir.display()));
        }
        let pool = PgPoolOptions::new()
            .max_connections(4)
            .acquire_timeout(Duration::from_secs(20))
            .connect(&postgres.url())
            .await
            .context("connecting to Postgres")?;
        wanwright_projections::migrate(&pool).await?;
        let as_admin = Access::with_creds(nats_server.url(), keys.role(accounts::Role::Admin));
        let admin = wanwright_nats::connect(as_admin, "wanwright-up", PARTITIONS).await?;
        let admin = crate::topology::with_partitions(admin, args.partitions).await?;
        let keys = crate::accounts::recounted(keys, &nats_server.url(), admin.partitions).await?;
        let replicas = topology::replicas(&admin).await?.unwrap_or(1);
        topology::apply(&admin, replicas).await?;
        first.done()?;
        note(format!("  {}", crate::topology::durability(args.profile, replicas)));
        let tokens = tokens(&home.join("simulator"))?;
        let mut roles = Roles::new(home.join("logs"), failed.clone())?;
        let port = free_port()?;
        let simulator = Role::new("simulator", &["simulator"])
            .args(["--listen".to_owned(), format!("127.0.0.1:{port}")])
            .args(["--vendor".to_owned(), vendors.join("simwan").display().to_string()])
            .args(["--data".to_owned(), home.join("simulator/data").display().to_string()])
            .env("WANWRIGHT_SIMWAN_TOKEN", &tokens.token)
            .env("WANWRIGHT_SIMWAN_ADMIN_TOKEN", &tokens.admin);
        roles.start(simulator).await?;
        let endpoints = Endpoints {
            pid: std::process::id(),
            nats: nats_server.url(),
            keys: keys.dir().to_owned(),
            postgres: postgres.url(),
            simulator: format!("http://127.0.0.1:{port}"),
            simulator_admin_token: tokens.admin,
        };
        // Streams and tables first, then read models, then what decides, then what acts.
        for (name, login) in [
            ("projections", accounts::Role::Projections),
            ("commands", accounts::Role::Commands),
            ("dispatcher", accounts::Role::Dispatcher),
            ("executors", accounts::Role::Executors),
        ] {
            let mut role = Role::new(name, &["serve", name])
                .args(["--home".to_owned(), home.display().to_string()])
                .args(["--vendors".to_owned(), vendors.display().to_string()])
                .env("WANWRIGHT_NATS", &args.between.nats(&endpoints.nats))
                .env("WANWRIGHT_NATS_CREDS", &keys.role(login).to_string_lossy())
                .env("WANWRIGHT_POSTGRES", &args.between.postgres(&endpoints.postgres, &postgres.address()));
            if name == "executors" {
                role = role
                    .handed_on(secrets_of(&vendors)?)
                    .env("WANWRIGHT_SIMWAN_TOKEN", &tokens.token)
                    .env("WANWRIGHT_VENDOR_URLS", &format!("simwan={}", endpoints.simulator))
                    .args(
                        args.terraforms.iter().flat_map(|runs| ["--terraforms".to_owned(), runs.to_string()]),
                    );
            }
            roles.start(role.clone()).await?;
            // Each further executor has a folder of its own, which it finds again after its death.
            for number in 2..=args.executors {
                if name == "executors" {
                    let folder = home.join(format!("executor-{number}")).display().to_string();
                    let another = role.clone().called(format!("{name}-{number}"));
                    roles.start(another.args(["--work".to_owned(), folder])).await?;
                }
            }
        }
        let servers = Servers::keep((nats_server, nats_options), (postgres, postgres_options), failed);
        person(&keys)?;
        let as_person = endpoints.access(Login::Person)?;
        let nats = wanwright_nats::connect(as_person, "wanwright-up", admin.partitions).await?;
        endpoints.write(&home)?;
        Ok(Self { endpoints, nats, pool, home, roles, servers, _lock: lock })
    }

    /// The folder of this installation.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Stops everything, the parts that act first.
    pub async fn stop(self) {
        Endpoints::remove(&self.home);
        self.roles.stop().await;
        self.pool.close().await;
        self.servers.stop().await;
    }
}

/// The environment variables that the vendors' folders name: who starts the system has the vendors' secrets in them.
fn secrets_of(vendors: &Path) -> Result<BTreeSet<String>> {
    let vendors = Catalogue::load(vendors)?;
    Ok(vendors.iter().flat_map(|vendor| vendor.environment()).map(str::to_owned).collect())
}

/// The server with an operator that keeps an account per customer.
fn nats_options(profile: Profile, home: &Path, cache: &Path, keys: &Authority) -> Result<NatsOptions> {
    let mut options = NatsOptions::new(home.join("nats"), cache);
    options.sync_interval = match profile {
        Profile::Durable => SyncInterval::Always,
        Profile::Fast => SyncInterval::Lazy,
    };
    if keys.adopt(&home.join("nats/jetstream"))? {
        note("  the streams of this home are those of account WAN now; see `wanwright nats account list`");
    }
    let accounts = home.join("nats/accounts");
    keys.fill(&accounts)?;
    options.authority = Some(keys.configuration(&accounts)?);
    Ok(options)
}

/// The operator that stands for whoever started this.
fn person(keys: &Authority) -> Result<()> {
    if !keys.creds(OPERATORS, PERSON).exists() {
        keys.add_user(None, &PERSON.parse()?, UserKind::Operator, None, None)?;
    }
    Ok(())
}

/// Makes the home folder. Others may pass through it, because Postgres may run as another user, but not list it.
fn private(home: &Path) -> Result<()> {
    if !home.exists() {
        std::fs::create_dir_all(home).with_context(|| format!("making {}", home.display()))?;
        std::fs::set_permissions(home, std::fs::Permissions::from_mode(0o711))?;
    }
    Ok(())
}

fn tokens(dir: &Path) -> Result<Tokens> {
    let path = dir.join("tokens.json");
    if let Ok(text) = std::fs::read(&path) {
        return serde_json::from_slice(&text).with_context(|| format!("reading {}", path.display()));
    }
    std::fs::create_dir_all(dir)?;
    let mint = || uuid::Uuid::new_v4().simple().to_string();
    let tokens = Tokens { token: mint(), admin: mint() };
    let temporary = dir.join("tokens.json.tmp");
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    serde_json::to_writer(file, &tokens)?;
    std::fs::rename(&temporary, &path)?;
    Ok(tokens)
}

/// A port that is free now. The simulated vendor keeps it over its restarts, so that the gateway finds it again.
fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
