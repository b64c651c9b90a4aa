//! A nats-server of our own.

mod cluster;
mod config;
mod find;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde::Deserialize;

pub use cluster::NatsCluster;
pub use config::{Login, SyncInterval};
pub use find::{find_nats, obtain_nats};

use crate::log::Log;
use crate::{Child, ChildSpec, Error, Found, Result, Stopped, http};
use config::{Ports, State};

/// What to start.
#[derive(Debug, Clone)]
pub struct NatsOptions {
    /// Its data, configuration, credentials and log. The next start with the same folder goes on where this one ended.
    pub dir: PathBuf,
    /// What it calls itself.
    pub server_name: String,
    /// Where a nats-server is kept that had to be fetched.
    pub cache: PathBuf,
    /// When acknowledged messages are on the disk.
    pub sync_interval: SyncInterval,
    /// The most JetStream may keep on disk, in bytes.
    pub max_file_store: u64,
    /// The part of the configuration that says whom the server believes. Without it there are two generated logins: one
    /// for account WAN, one for the system account.
    pub authority: Option<String>,
    /// More configuration, appended as it is.
    pub extra: String,
    /// How long it may take to become ready, which includes recovering its streams.
    pub start_limit: Duration,
}

impl NatsOptions {
    /// Durable, at most 64 GiB, a minute to start.
    pub fn new(dir: impl Into<PathBuf>, cache: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            server_name: "wanwright".to_owned(),
            cache: cache.into(),
            sync_interval: SyncInterval::Always,
            max_file_store: 64 << 30,
            authority: None,
            extra: String::new(),
            start_limit: Duration::from_secs(60),
        }
    }
}

/// A running nats-server. It ends when this is dropped and when this process ends.
#[derive(Debug)]
pub struct Nats {
    child: Child,
    ports: Ports,
    state: State,
    found: Found,
    log: Log,
}

/// What the server writes into `ports_file_dir`.
#[derive(Debug, Deserialize)]
struct PortsFile {
    nats: Vec<String>,
    monitoring: Vec<String>,
}

impl Nats {
    /// Finds or fetches a nats-server, starts it and waits until it is healthy. Ports and credentials are those of the last
    /// start with the same folder, except that a port somebody else has taken meanwhile is replaced.
    pub async fn start(options: &NatsOptions) -> Result<Self> {
        let found = obtain_nats(&options.cache).await?;
        std::fs::create_dir_all(&options.dir).map_err(Error::io("make the folder", &options.dir))?;
        let dir = options.dir.canonicalize().map_err(Error::io("resolve", &options.dir))?;
        let mut state = State::load_or_make(&dir)?;
        loop {
            match launch(options, &dir, &state, &found).await {
                Ok((child, ports, log)) => {
                    if state.ports != Some(ports) {
                        state.ports = Some(ports);
                        state.save(&dir)?;
                    }
                    return Ok(Self { child, ports, state, found, log });
                }
                Err(Error::Ended { tail, .. })
                    if state.ports.is_some() && tail.contains("address already in use") =>
                {
                    state.ports = None;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The address alone. async-nats does not read user and password from an address: hand it the [`login`](Self::login).
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.ports.client)
    }

    /// The address with user and password of account WAN in it, for tools that read them there. A secret, and of no use
    /// where the options named an authority.
    pub fn url_with_login(&self) -> String {
        let Login { user, password } = self.login();
        format!("nats://{user}:{password}@127.0.0.1:{}", self.ports.client)
    }

    /// User and password of account WAN.
    pub fn login(&self) -> &Login {
        &self.state.client
    }

    /// User and password of the system account.
    pub fn system_login(&self) -> &Login {
        &self.state.system
    }

    /// Does it say it is healthy now?
    pub async fn is_healthy(&self) -> bool {
        http::is_ok(self.ports.monitor, "/healthz").await
    }

    /// Which nats-server this is.
    pub fn found(&self) -> &Found {
        &self.found
    }

    /// Its log.
    pub fn log(&self) -> &Path {
        &self.log.path
    }

    /// The process, to wait for or to send signals to.
    pub fn child(&self) -> &Child {
        &self.child
    }

    /// Ends it in good order, or kills it after `limit`.
    pub async fn stop(self, limit: Duration) -> Stopped {
        self.child.stop(limit).await
    }
}

/// When the server's runtime looks for memory that nobody uses any more. Each time takes it tens of milliseconds, in which
/// answers take five times as long; usually it does so whenever the memory in use has doubled. So it may grow to three times
/// that first, but not beyond a quarter of the machine's memory: above that it is looked for as often as it needs.
fn memory() -> [(&'static str, String); 2] {
    let machine = rustix::system::sysinfo();
    let bytes = machine.totalram.saturating_mul(machine.mem_unit.max(1).into());
    [("GOGC", "200".into()), ("GOMEMLIMIT", (bytes / 4).to_string())]
}

async fn launch(
    options: &NatsOptions,
    dir: &Path,
    state: &State,
    found: &Found,
) -> Result<(Child, Ports, Log)> {
    let ports_dir = dir.join("ports");
    // A file of an earlier server whose number is given again would be read as this one's.
    let _ = std::fs::remove_dir_all(&ports_dir);
    std::fs::create_dir_all(&ports_dir).map_err(Error::io("make the folder", &ports_dir))?;
    let config = config::write(options, dir, &ports_dir, state)?;
    let log = Log::from_here(&dir.join("nats.log"));
    let spec = ChildSpec::new(&found.path).arg("-c").arg(config).cwd(dir).log(&log.path).envs(memory());
    // The server takes SIGINT and SIGTERM alike: it closes its streams and ends.
    let child = spec.stop_signal(Signal::TERM).spawn()?;
    let end = Instant::now() + options.start_limit;
    let what = || format!("starting {}", found.path.display());
    loop {
        if let Some(ports) = chosen_ports(&ports_dir, child.id())
            && http::is_ok(ports.monitor, "/healthz").await
        {
            return Ok((child, ports, log));
        }
        if let Ok(status) = tokio::time::timeout(Duration::from_millis(20), child.wait()).await {
            return Err(Error::Ended { what: what(), status, tail: log.tail(), log: log.path });
        }
        if Instant::now() > end {
            child.kill().await;
            return Err(Error::TooSlow {
                what: what(),
                limit: options.start_limit,
                tail: log.tail(),
                log: log.path,
            });
        }
    }
}

/// The file is named after the executable and the process; it may be half written when it is read.
fn chosen_ports(ports_dir: &Path, pid: u32) -> Option<Ports> {
    let end = format!("_{pid}.ports");
    let mut files = std::fs::read_dir(ports_dir).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let file =
        files.find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(&end)))?;
    let written: PortsFile = serde_json::from_str(&std::fs::read_to_string(file).ok()?).ok()?;
    let port = |urls: &[String]| urls.first()?.rsplit(':').next()?.trim_end_matches('/').parse().ok();
    Some(Ports { client: port(&written.nats)?, monitor: port(&written.monitoring)? })
}
