//! Where the running wanwright is: written by `up`, read by everything that talks to it.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use wanwright_nats::accounts::{Authority, Credentials, OPERATORS, Role};
use wanwright_nats::{Access, Nats, Tls};
use wanwright_schemas::subjects::PARTITIONS;

use crate::cli::{Connection, UrlArgs, UrlOf};
use crate::exit::{Exit, Unreachable, Usage};
use crate::output;

/// The file in the home folder.
const FILE: &str = "endpoints.json";

/// Where everything is. The file is readable by its owner only: it has passwords.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Endpoints {
    /// The process that started everything.
    pub pid: u32,
    /// NATS, without login.
    pub nats: String,
    /// The folder of keys and credentials.
    pub keys: PathBuf,
    /// Postgres, with login.
    pub postgres: String,
    /// The simulated vendor.
    pub simulator: String,
    /// The token of its back door.
    pub simulator_admin_token: String,
}

impl Endpoints {
    /// Writes the file, whole or not at all.
    pub fn write(&self, home: &Path) -> Result<()> {
        let (path, temporary) = (home.join(FILE), home.join(format!("{FILE}.tmp")));
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file =
            options.open(&temporary).with_context(|| format!("writing {}", temporary.display()))?;
        file.write_all(serde_json::to_string_pretty(self)?.as_bytes())?;
        std::fs::rename(&temporary, &path).with_context(|| format!("writing {}", path.display()))
    }

    /// Reads the file.
    pub fn read(home: &Path) -> Result<Self> {
        let path = home.join(FILE);
        let text = std::fs::read(&path).map_err(|_| {
            let shown = std::path::absolute(home).unwrap_or_else(|_| home.to_owned());
            let shown = shown.display();
            anyhow::Error::new(Unreachable(if home.join("nats").exists() {
                format!("wanwright is not running in {shown}; its data is there: start it with `wanwright up`")
            } else {
                format!(
                    "there is no wanwright in {shown}; start one with `wanwright up`, name its folder with --home, or \
                     say where one is with --nats and --postgres"
                )
            }))
        })?;
        serde_json::from_slice(&text).with_context(|| format!("reading {}", path.display()))
    }

    /// Removes the file.
    pub fn remove(home: &Path) {
        let _ = std::fs::remove_file(home.join(FILE));
    }
}

/// The operator that stands for whoever started the system.
pub const PERSON: &str = "demo";

/// What whoever reads the streams has the right to ask, and whoever is served by the services beside them has not.
pub const LOOKING: &str = "$JS.API.STREAM.INFO.COMMANDS";

/// As whom to connect to the system of this home, where nothing else is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// The person at the command line.
    Person,
    /// A role, with its rights.
    Role(Role),
}

impl Endpoints {
    /// How to connect as somebody.
    pub fn access(&self, login: Login) -> Result<Access> {
        let keys = Authority::open(&self.keys, PARTITIONS)?;
        let creds = match login {
            Login::Person => keys.creds(OPERATORS, PERSON),
            Login::Role(role) => keys.role(role),
        };
        Ok(Access::with_creds(&self.nats, creds))
    }
}

impl Connection {
    /// Where NATS is, and as whom to connect.
    pub fn access(&self, login: Login) -> Result<Access> {
        let access = match &self.nats {
            Some(url) => url.into(),
            None => Endpoints::read(&self.home.home)?.access(login)?,
        };
        Ok(Access { creds: self.creds.clone().or(access.creds), tls: self.tls(), ..access })
    }

    /// How connections to NATS are encrypted.
    pub fn tls(&self) -> Tls {
        let certificate = self.nats_cert.clone().zip(self.nats_key.clone());
        Tls { authorities: self.nats_ca.clone(), certificate }
    }

    /// Who speaks: whom the credentials name. Without credentials, and for those that name nobody, who is `given`.
    pub fn actor(&self, given: Option<&str>) -> Result<String> {
        let creds = self.access(Login::Person)?.creds.map(|path| Credentials::read(&path)).transpose()?;
        let named = creds.filter(|creds| !creds.publish.is_empty()).map(|creds| creds.name);
        match (given, named) {
            (Some(given), Some(name)) if given != name => {
                Err(Usage(format!("this login speaks as `{name}`; it cannot speak as `{given}`")).into())
            }
            (_, Some(name)) => Ok(name),
            (given, None) => Ok(given.unwrap_or(PERSON).to_owned()),
        }
    }

    fn postgres_url(&self) -> Result<String> {
        match &self.postgres {
            Some(url) => Ok(url.clone()),
            None => Ok(Endpoints::read(&self.home.home)?.postgres),
        }
    }

    /// Refuses what the login has no right to publish. The server would refuse it in silence, and whoever asked would wait
    /// in vain.
    pub fn may_publish(&self, login: Login, subject: &str) -> Result<()> {
        let Some(creds) = self.access(login)?.creds else { return Ok(()) };
        let creds = Credentials::read(&creds)?;
        let why = || format!("the login of `{}` has no right to publish on {subject}", creds.name);
        anyhow::ensure!(creds.may_publish(subject), Usage(why()));
        Ok(())
    }

    /// Refuses a login that cannot read the streams.
    fn may_look(&self, login: Login) -> Result<()> {
        let Some(creds) = self.access(login)?.creds else { return Ok(()) };
        let creds = Credentials::read(&creds)?;
        let why = || {
            let name = &creds.name;
            format!(
                "the login of `{name}` has no right to read the streams, which this does: use one of the fleet's own"
            )
        };
        anyhow::ensure!(creds.may_publish(LOOKING), Usage(why()));
        Ok(())
    }

    /// Connects to NATS and asks over how many partitions the customers are spread.
    pub async fn nats(&self, login: Login, name: &str) -> Result<Nats> {
        self.may_look(login)?;
        Ok(self.nats_unasked(login, name).await?.with_servers_partitions().await?)
    }

    /// Connects to NATS for what needs no partitions, or cannot ask for them.
    pub async fn nats_unasked(&self, login: Login, name: &str) -> Result<Nats> {
        Ok(wanwright_nats::connect(self.access(login)?, name, PARTITIONS).await?)
    }

    /// Whether a Postgres is named, or the system of this home has one.
    pub fn has_postgres(&self) -> bool {
        self.postgres.is_some() || (self.nats.is_none() && Endpoints::read(&self.home.home).is_ok())
    }

    /// Connects to Postgres when that is needed, for what has other things to do while it is away.
    pub fn postgres_when_needed(&self, connections: u32) -> Result<PgPool> {
        Ok(limits(connections).connect_lazy(&self.postgres_url()?)?)
    }

    /// Connects to Postgres.
    pub async fn postgres(&self, connections: u32) -> Result<PgPool> {
        limits(connections)
            .connect(&self.postgres_url()?)
            .await
            .context("Postgres does not answer; `wanwright up` starts one, `wanwright doctor` looks")
    }
}

fn limits(connections: u32) -> PgPoolOptions {
    PgPoolOptions::new().max_connections(connections).acquire_timeout(std::time::Duration::from_secs(5))
}

/// Prints where a part of the running system is.
pub fn url(args: &UrlArgs) -> Result<Exit> {
    let endpoints = Endpoints::read(&args.home.home)?;
    output::line(match args.what {
        UrlOf::Nats => endpoints.nats,
        UrlOf::Creds => {
            let keys = Authority::open(&endpoints.keys, PARTITIONS)?;
            keys.creds(OPERATORS, PERSON).display().to_string()
        }
        UrlOf::Postgres => endpoints.postgres,
        UrlOf::Simulator => endpoints.simulator,
    });
    Ok(Exit::Done)
}
