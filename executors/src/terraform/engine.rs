//! One run of Terraform, from the order to its findings.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use sqlx::PgPool;
use tokio::fs;
use tokio_util::sync::CancellationToken;
use wanwright_nats::chain;
use wanwright_schemas::order::{Desired, Intent};
use wanwright_schemas::reason::Reason;
use wanwright_supervisor::ChildSpec;
use wanwright_vendors::Catalogue;

use super::findings::Stack;
use super::inputs;
use super::messages::Said;
use super::process::{Terraform, output};
use super::provider::Provider;
use super::state::{StateServer, StateSession};
use super::template::{Ready, Templates};
use crate::engine::{Outcome, Run};

/// Longest run. What takes longer is stopped and tried again.
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// How long Terraform has to write its state after it was asked to stop.
const STOP_LIMIT: Duration = Duration::from_secs(6);

/// What went wrong around Terraform; what goes wrong inside is a finding.
#[derive(Debug, thiserror::Error)]
pub enum TerraformError {
    /// A file or folder.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The process.
    #[error("running Terraform")]
    Process(#[source] wanwright_supervisor::Error),
    /// The provider.
    #[error("serving the provider")]
    Provider(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// `terraform init` said no.
    #[error("terraform init failed: {0}")]
    Init(String),
    /// What Terraform printed is not what it should be.
    #[error("reading {0}")]
    Unreadable(&'static str, #[source] serde_json::Error),
    /// The state cannot be read.
    #[error("reading the stack's state")]
    State(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What the engine needs.
#[derive(Debug)]
pub struct Config {
    /// Where states are kept.
    pub pool: PgPool,
    /// A folder of its own, on a disk that keeps what was synced.
    pub work: PathBuf,
    /// The vendors.
    pub vendors: std::sync::Arc<Catalogue>,
    /// The program, `terraform` or `tofu`.
    pub program: PathBuf,
    /// Its version.
    pub version: String,
}

/// The Terraform engine of one executor.
pub struct TerraformEngine {
    terraform: Terraform,
    vendors: std::sync::Arc<Catalogue>,
    templates: Templates,
    states: StateServer,
    runs: PathBuf,
    sockets: PathBuf,
}

impl std::fmt::Debug for TerraformEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TerraformEngine").field("terraform", &self.terraform).finish_non_exhaustive()
    }
}

impl Drop for TerraformEngine {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.sockets);
    }
}

fn io(doing: &str, path: &Path) -> impl FnOnce(std::io::Error) -> TerraformError {
    let doing = format!("{doing} {}", path.display());
    move |source| TerraformError::Io { doing, source }
}

async fn private(dir: &Path) -> Result<(), TerraformError> {
    fs::create_dir_all(dir).await.map_err(io("making", dir))?;
    fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).await.map_err(io("closing", dir))
}

impl TerraformEngine {
    /// Starts the state backend and makes the engine's folders. Run folders of a process that died are removed: what
    /// matters of them is in the state and the spool.
    ///
    /// # Errors
    /// [`TerraformError`].
    pub async fn start(config: Config, stop: CancellationToken) -> Result<Self, TerraformError> {
        let runs = config.work.join("runs");
        let _ = fs::remove_dir_all(&runs).await;
        private(&config.work).await?;
        private(&runs).await?;
        // A socket's path has at most 107 bytes, so sockets are not below the work folder.
        let sockets = std::env::temp_dir().join(format!("wanwright-{}", uuid::Uuid::new_v4().simple()));
        private(&sockets).await?;
        let spool = config.work.join("spool");
        let states =
            StateServer::start(config.pool, &spool, stop).await.map_err(io("serving states from", &spool))?;
        Ok(Self {
            terraform: Terraform { program: config.program, version: config.version },
            vendors: config.vendors,
            templates: Templates::new(config.work.join("templates")),
            states,
            runs,
            sockets,
        })
    }

    /// Runs an order about a site's stack.
    pub async fn run(&self, run: &Run<'_>, stop: &CancellationToken) -> Outcome {
        let result = tokio::time::timeout(LIMIT, self.try_run(run, stop)).await;
        let message = match result {
            Ok(Ok(outcome)) => return outcome,
            Ok(Err(error)) => chain(&error),
            Err(_) => format!("the run took longer than {} s", LIMIT.as_secs()),
        };
        run.log.line("error", message.clone()).await;
        Outcome::Passing { code: Reason::Internal, message, ours: true }
    }

    async fn try_run(&self, run: &Run<'_>, stop: &CancellationToken) -> Result<Outcome, TerraformError> {
        let internal =
            |message: &str| Ok(Outcome::Passing { code: Reason::Internal, message: message.to_owned(), ours: true });
        let Desired::Site { site, tunnels, leaving } = &run.order.desired else {
            return internal("the Terraform engine carries out stacks only");
        };
        let Some(template) = &run.vendor.terraform else {
            return internal("the vendor's folder has no Terraform template");
        };
        let stack = Stack { site, tunnels, leaving, vendor: run.vendor, template };
        let uid = site.uid.to_string();
        let session = self.states.open(&uid, &run.order.id.to_string());
        let ready = self.templates.get(&self.terraform, template, &session).await?;
        let dir = self.runs.join(format!("{}-{}", run.order.id, run.attempt));
        let folder = Folder::make(dir, &ready, &inputs::variables(site, tunnels)).await?;
        let provider = Provider::start(&self.vendors, &self.sockets, run.base_url).await?;
        let runner = Runner { engine: self, run, stop, folder: &folder, ready: &ready, provider, session };
        match run.order.intent {
            Intent::Apply => {
                let args = ["apply", "-json", "-input=false", "-auto-approve", "-var-file=variables.json"];
                match runner.terraform(&args).await? {
                    Ended::Well(said) => Ok(Outcome::Done(stack.applied(&said.outputs))),
                    Ended::Badly(said) => self.failed(&stack, &said, &uid).await,
                    Ended::Stopped => internal("the executor stopped"),
                }
            }
            Intent::Remove => {
                let args = [
                    "apply",
                    "-destroy",
                    "-json",
                    "-input=false",
                    "-auto-approve",
                    "-var-file=variables.json",
                ];
                match runner.terraform(&args).await? {
                    Ended::Well(_) => Ok(Outcome::Done(stack.removed())),
                    Ended::Badly(said) => self.failed(&stack, &said, &uid).await,
                    Ended::Stopped => internal("the executor stopped"),
                }
            }
            Intent::Observe { check } => {
                let args = [
                    "plan",
                    "-refresh-only",
                    "-json",
                    "-input=false",
                    "-var-file=variables.json",
                    "-out=plan",
                ];
                match runner.terraform(&args).await? {
                    Ended::Well(said) if !said.drifted => Ok(Outcome::Done(stack.observed(check, None))),
                    Ended::Well(_) => {
                        let plan = runner.show("plan").await?;
                        Ok(Outcome::Done(stack.observed(check, Some(&plan))))
                    }
                    Ended::Badly(said) => Ok(passing(&said)),
                    Ended::Stopped => internal("the executor stopped"),
                }
            }
        }
    }

    /// A run with errors: for good if the vendor refused each thing that failed, else in passing.
    async fn failed(&self, stack: &Stack<'_>, said: &Said, uid: &str) -> Result<Outcome, TerraformError> {
        let refused = |problem: &super::messages::Problem| problem.class == Some(Reason::VendorRefused);
        if said.problems.is_empty() || !said.problems.iter().all(refused) {
            return Ok(passing(said));
        }
        let state = self.states.newest(uid).await.map_err(|error| TerraformError::State(error.into()))?;
        let state: Value = match state {
            Some(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| TerraformError::Unreadable("the state", error))?,
            None => Value::Null,
        };
        if let Some(findings) = stack.partly(&said.problems, &state) {
            return Ok(Outcome::Done(findings));
        }
        Ok(passing(said))
    }
}

/// The first problem that may pass stands for the run.
fn passing(said: &Said) -> Outcome {
    let worst = said.problems.iter().find(|problem| problem.class != Some(Reason::VendorRefused));
    match worst.or(said.problems.first()) {
        Some(problem) => Outcome::Passing {
            code: problem.class.unwrap_or(Reason::Internal),
            message: match &problem.address {
                Some(address) => format!("{address}: {}", problem.message),
                None => problem.message.clone(),
            },
            ours: false,
        },
        None => Outcome::Passing {
            code: Reason::Internal,
            message: "Terraform ended without saying why".to_owned(),
            ours: true,
        },
    }
}

/// The folder of a run. It is removed when this is dropped.
struct Folder(PathBuf);

impl Folder {
    async fn make(dir: PathBuf, ready: &Ready, variables: &Value) -> Result<Self, TerraformError> {
        private(&dir).await?;
        let folder = Self(dir);
        for name in &ready.names {
            let to = folder.0.join(name);
            fs::copy(ready.files.join(name), &to).await.map_err(io("copying a template to", &to))?;
        }
        let file = folder.0.join("variables.json");
        fs::write(&file, variables.to_string()).await.map_err(io("writing", &file))?;
        Ok(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// How Terraform ended.
enum Ended {
    Well(Said),
    Badly(Said),
    Stopped,
}

/// Terraform in the folder of one run.
struct Runner<'a> {
    engine: &'a TerraformEngine,
    run: &'a Run<'a>,
    stop: &'a CancellationToken,
    folder: &'a Folder,
    ready: &'a Ready,
    provider: Provider,
    session: StateSession,
}

impl Runner<'_> {
    fn spec(&self) -> ChildSpec {
        self.engine
            .terraform
            .spec(&self.folder.0, &self.ready.data)
            .env("TF_REATTACH_PROVIDERS", &self.provider.reattach)
            .envs(self.session.env())
    }

    /// Runs a command, its messages into the live log as they come.
    async fn terraform(&self, args: &[&str]) -> Result<Ended, TerraformError> {
        let mut child = self.spec().args(args).spawn().map_err(TerraformError::Process)?;
        let mut lines = child.lines().map_err(TerraformError::Process)?;
        let mut said = Said::default();
        loop {
            let line = tokio::select! {
                line = lines.next() => line,
                () = self.stop.cancelled() => {
                    child.stop(STOP_LIMIT).await;
                    return Ok(Ended::Stopped);
                }
            };
            let line = line.map_err(|source| TerraformError::Io {
                doing: "reading what Terraform says".to_owned(),
                source,
            })?;
            let Some(line) = line else { break };
            if let Some((level, text)) = said.line(&line) {
                self.run.log.line(level, text).await;
            }
        }
        let status = child.wait().await;
        Ok(if status.success() { Ended::Well(said) } else { Ended::Badly(said) })
    }

    /// A plan as JSON.
    async fn show(&self, plan: &str) -> Result<Value, TerraformError> {
        let (_, text) = output(self.spec().args(["show", "-json", plan])).await?;
        serde_json::from_str(text.trim()).map_err(|error| TerraformError::Unreadable("the plan", error))
    }
}
