//! The roles as child processes: started in order, watched, started again when they die.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio_util::sync::CancellationToken;
use wanwright_supervisor::{Child, ChildSpec, Lines};

use crate::output::note;

/// How long a role has to become ready: on a busy machine, with a large fleet to read, that takes a while.
const READY: Duration = Duration::from_secs(60);

/// How long a role has to end.
const STOP: Duration = Duration::from_secs(10);

/// Pause before a role that died is started again.
pub const PAUSE: Duration = Duration::from_secs(1);

/// How long a role has to live for its earlier deaths to be forgotten.
pub const HEALTHY: Duration = Duration::from_secs(60);

/// How often a role may die before everything is stopped.
pub const MOST_DEATHS: u32 = 20;

/// What of our own environment the roles get.
const HANDED_ON: [&str; 11] = [
    "PATH",
    "HOME",
    "TMPDIR",
    "WANWRIGHT_LOG",
    "WANWRIGHT_TERRAFORM",
    "WANWRIGHT_TERRAFORM_LIMIT",
    "WANWRIGHT_PROVIDERS",
    "WANWRIGHT_AUDIT_DIR",
    "WANWRIGHT_MASTER_KEY_FILE",
    "WANWRIGHT_STATE_KEY_FILE",
    "RUST_BACKTRACE",
];

/// A role to start.
#[derive(Debug, Clone)]
pub struct Role {
    name: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
}

impl Role {
    pub fn new(name: &str, args: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            env: Vec::new(),
        }
    }

    pub fn args(mut self, args: impl IntoIterator<Item = String>) -> Self {
        self.args.extend(args);
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Those of these variables that are set here.
    pub fn handed_on(mut self, names: impl IntoIterator<Item = String>) -> Self {
        self.env.extend(
            names.into_iter().filter_map(|name| std::env::var(&name).ok().map(|value| (name, value))),
        );
        self
    }

    /// One of several processes of the role, by its number.
    pub fn called(mut self, name: String) -> Self {
        self.name = name;
        self
    }
}

/// The running roles.
pub struct Roles {
    logs: PathBuf,
    program: PathBuf,
    failed: CancellationToken,
    watchers: Vec<(CancellationToken, tokio::task::JoinHandle<()>)>,
}

impl Roles {
    /// No role yet. `failed` is cancelled when a role cannot be kept alive.
    pub fn new(logs: PathBuf, failed: CancellationToken) -> Result<Self> {
        std::fs::create_dir_all(&logs).with_context(|| format!("making {}", logs.display()))?;
        let program = std::env::current_exe().context("finding this program")?;
        Ok(Self { logs, program, failed, watchers: Vec::new() })
    }

    /// Starts a role and waits until it is ready.
    pub async fn start(&mut self, role: Role) -> Result<()> {
        let log = self.logs.join(format!("{}.log", role.name));
        let mut spec = ChildSpec::new(&self.program).args(&role.args).log(&log).piped().process_group();
        let handed_on = HANDED_ON.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
        spec = spec.envs(handed_on);
        for (name, value) in &role.env {
            spec = spec.env(name, value);
        }
        let (child, lines) = spawn(&spec, &role.name, &log).await?;
        let stop = CancellationToken::new();
        let keeper = Keeper { name: role.name, spec, log, stop: stop.clone(), failed: self.failed.clone() };
        self.watchers.push((stop, tokio::spawn(keeper.keep(child, lines))));
        Ok(())
    }

    /// Stops all roles, the last started first: what acts still has somebody to report to.
    pub async fn stop(mut self) {
        while let Some((stop, watcher)) = self.watchers.pop() {
            stop.cancel();
            let _ = watcher.await;
        }
    }
}

async fn spawn(spec: &ChildSpec, name: &str, log: &std::path::Path) -> Result<(Arc<Child>, Lines)> {
    let mut child = spec.spawn()?;
    let mut lines = child.lines()?;
    let wait = async {
        while let Some(line) = lines.next().await? {
            if line.starts_with("ready") {
                return Ok::<_, std::io::Error>(true);
            }
        }
        Ok(false)
    };
    match tokio::time::timeout(READY, wait).await {
        Ok(Ok(true)) => Ok((Arc::new(child), lines)),
        Ok(_) => {
            let status = child.wait().await;
            anyhow::bail!(
                "{name} ended with {status} before it was ready:\n{}\nits log is {}",
                tail(log),
                log.display()
            )
        }
        Err(_) => {
            anyhow::bail!("{name} was not ready in {} s; its log is {}", READY.as_secs(), log.display())
        }
    }
}

/// The end of a log, for whoever has to find out why.
fn tail(log: &std::path::Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(8)..]
        .iter()
        .map(|line| format!("    {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Keeps one role alive.
struct Keeper {
    name: String,
    spec: ChildSpec,
    log: PathBuf,
    stop: CancellationToken,
    failed: CancellationToken,
}

impl Keeper {
    async fn keep(self, child: Arc<Child>, lines: Lines) {
        let mut running = (child, lines);
        let mut deaths = 0;
        loop {
            let born = tokio::time::Instant::now();
            let (child, lines) = &mut running;
            tokio::select! {
                () = self.stop.cancelled() => {
                    child.stop(STOP).await;
                    return;
                }
                // A role says nothing more; reading on keeps it from blocking if it does.
                () = drain(lines) => {}
            }
            let status = child.wait().await;
            if born.elapsed() >= HEALTHY {
                deaths = 0;
            }
            if self.stop.is_cancelled() {
                return;
            }
            note(format!(
                "{} ended with {status}; starting it again. Its log is {}",
                self.name,
                self.log.display()
            ));
            loop {
                deaths += 1;
                if deaths > MOST_DEATHS {
                    note(format!("{} does not stay alive; giving up", self.name));
                    self.failed.cancel();
                    return;
                }
                tokio::select! {
                    () = self.stop.cancelled() => return,
                    () = tokio::time::sleep(PAUSE) => {}
                }
                match spawn(&self.spec, &self.name, &self.log).await {
                    Ok(again) => {
                        running = again;
                        break;
                    }
                    Err(error) => note(format!("{error}")),
                }
            }
        }
    }
}

async fn drain(lines: &mut Lines) {
    while let Ok(Some(_)) = lines.next().await {}
}
