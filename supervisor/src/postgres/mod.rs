//! A Postgres of our own.

mod find;
mod init;
mod launch;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use find::{find_postgres, obtain_postgres};

use crate::lock::DirLock;
use crate::{Child, Found, Place, Result, Stopped, User, secret};

/// The superuser and the database that every cluster of ours has.
const NAME: &str = "wanwright";

/// What to start.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// Its data, password and log. The next start with the same folder goes on where this one ended.
    pub dir: PathBuf,
    /// Where a Postgres is kept that had to be fetched.
    pub cache: PathBuf,
    /// More settings, as in `postgresql.conf`.
    pub settings: Vec<(String, String)>,
    /// How long it may take to become ready, which includes recovery after a crash.
    pub start_limit: Duration,
}

impl PostgresOptions {
    /// No more settings, a minute to start.
    pub fn new(dir: impl Into<PathBuf>, cache: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            cache: cache.into(),
            settings: Vec::new(),
            start_limit: Duration::from_secs(60),
        }
    }
}

/// A running Postgres. It ends when this is dropped and when this process ends.
pub struct Postgres {
    child: Child,
    port: u16,
    password: String,
    place: Place,
    found: Found,
    user: Option<User>,
}

impl Postgres {
    /// Finds or fetches a Postgres, makes its cluster and the database `wanwright` at the first start, starts it and waits
    /// until it answers. The port is that of the last start, unless somebody else has taken it meanwhile.
    ///
    /// As root it runs as the user `postgres`, else `nobody`; see [`place`](Self::place) for where its data then is.
    pub async fn start(options: &PostgresOptions) -> Result<Self> {
        let user = User::for_postgres()?;
        let place = Place::reachable_by(user.as_ref(), &options.dir)?;
        let dir = &place.dir;
        // Two starts at once would both make a cluster. After the start Postgres' own lock holds the folder.
        let starting = dir.join("starting");
        let _lock = DirLock::wait(&starting, options.start_limit).await?;
        let data = dir.join("data");
        let found = find::for_data(&options.cache, user.as_ref(), &data).await?;
        let password = init::password(dir, &data)?;
        if !data.exists() {
            init::cluster(&found.path, dir, &password, user.as_ref()).await?;
        }
        let (child, port) = launch::launch(&found.path, dir, options, user.as_ref()).await?;
        Ok(Self { child, port, password, place, found, user })
    }

    /// The address of the database `wanwright` with user and password in it. A secret.
    pub fn url(&self) -> String {
        self.url_of(NAME)
    }

    /// The same for another database.
    pub fn url_of(&self, database: &str) -> String {
        format!("postgres://{NAME}:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }

    /// The address alone, for logs and pages.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where the data is, and whether that is not where it was asked for.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Which Postgres this is.
    pub fn found(&self) -> &Found {
        &self.found
    }

    /// The user it runs as, when that is not this process's own.
    pub fn user(&self) -> Option<&User> {
        self.user.as_ref()
    }

    /// Its log.
    pub fn log(&self) -> PathBuf {
        log(&self.place.dir)
    }

    /// The process, to wait for or to send signals to.
    pub fn child(&self) -> &Child {
        &self.child
    }

    /// Ends it in good order, closing connections that are open (a "fast shutdown"), or kills it after `limit`.
    pub async fn stop(self, limit: Duration) -> Stopped {
        self.child.stop(limit).await
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Postgres");
        debug
            .field("child", &self.child)
            .field("port", &self.port)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

fn log(dir: &Path) -> PathBuf {
    dir.join("postgres.log")
}

/// The last port, if one is known.
fn last_port(dir: &Path) -> Result<Option<u16>> {
    Ok(secret::read(&dir.join("port"))?.and_then(|text| text.trim().parse().ok()))
}

fn keep_port(dir: &Path, port: u16) -> Result<()> {
    secret::write(&dir.join("port"), &format!("{port}\n"))
}
