//! One run of Terraform, from the order to its findings.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use sqlx::PgPool;
use tokio::fs;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wanwright_nats::{KeyError, Nats, PlanError, PlanFiles, StateCopies, StateKeys, chain};
use wanwright_schemas::Digest;
use wanwright_schemas::order::{Desired, Intent};
use wanwright_schemas::plan::Plan;
use wanwright_schemas::reason::{Reason, Refusal};
use wanwright_schemas::report::Finding;
use wanwright_schemas::run::RunEvent;
use wanwright_supervisor::{Child, ChildSpec, Lines};
use wanwright_vendors::{ClientError, Vendors};

use super::findings::Stack;
use super::foreign::Pool;
use super::inputs;
use super::left::{ERRORED, RUNS, VARIABLES};
use super::messages::{self, Heard, Said, Secrets};
use super::planning::{self, Basis, Unopened};
use super::process::{Surroundings, Terraform, output, took};
use super::provider::{self, Provider};
use super::remains;
use super::state::{StateServer, StateSession};
use super::store::{Store, StoreError};
use super::template::{Ready, Templates};
use crate::engine::{self, Outcome, Run};

/// Longest run. What takes longer is stopped and tried again.
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// How long Terraform has to write its state after it was asked to stop.
const STOP_LIMIT: Duration = Duration::from_secs(6);

const APPLY: [&str; 5] = ["apply", "-json", "-input=false", "-auto-approve", "-var-file=variables.json"];
const DESTROY: [&str; 6] =
    ["apply", "-destroy", "-json", "-input=false", "-auto-approve", "-var-file=variables.json"];
const LOOK: [&str; 6] =
    ["plan", "-refresh-only", "-json", "-input=false", "-var-file=variables.json", "-out=plan"];

const PLAN: [&str; 5] = ["plan", "-json", "-input=false", "-var-file=variables.json", "-out=plan"];
const PLAN_DESTROY: [&str; 6] =
    ["plan", "-destroy", "-json", "-input=false", "-var-file=variables.json", "-out=plan"];
const PREVIEW: [&str; 6] =
    ["plan", "-lock=false", "-json", "-input=false", "-var-file=variables.json", "-out=plan"];
const PREVIEW_DESTROY: [&str; 7] =
    ["plan", "-destroy", "-lock=false", "-json", "-input=false", "-var-file=variables.json", "-out=plan"];
const APPLY_PLAN: [&str; 4] = ["apply", "-json", "-input=false", PLAN_FILE];

/// The name of a plan's file in the folder of its run.
const PLAN_FILE: &str = "plan";

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
    /// A provider that is not ours cannot be used as it is.
    #[error("{0}")]
    Foreign(String),
    /// `terraform init` said no.
    #[error("terraform init failed: {0}")]
    Init(String),
    /// What Terraform printed is not what it should be.
    #[error("reading {0}")]
    Unreadable(&'static str, #[source] serde_json::Error),
    /// The state cannot be read or kept.
    #[error("reading or keeping the stack's state")]
    State(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A plan's file cannot be kept or had.
    #[error("keeping or opening the stack's plan")]
    Plan(#[source] PlanError),
    /// A step before or after a run that takes no time took too much.
    #[error("Terraform did not end within {} s", .0.as_secs())]
    Slow(Duration),
}

impl TerraformError {
    /// What an order says that waits because of it.
    fn code(&self) -> Reason {
        let Self::State(error) = self else { return Reason::Internal };
        match error.downcast_ref() {
            Some(
                StoreError::Key(KeyError::StateChanged { .. })
                | StoreError::Unsealed { .. }
                | StoreError::Apart { .. }
                | StoreError::Gone { .. },
            ) => Reason::StateDamaged,
            _ => Reason::Internal,
        }
    }
}

/// What the engine needs.
#[derive(Debug)]
pub struct Config {
    /// Where states are kept.
    pub pool: PgPool,
    /// Where their second copies are, and where it is noted which states wait for Postgres.
    pub nats: Nats,
    /// What seals them.
    pub keys: StateKeys,
    /// A folder of its own, on a disk that keeps what was synced. Executors whose folders are beside each other take over
    /// what one of them leaves that is never started again; each holds a [`DirLock`](wanwright_supervisor::DirLock) on its
    /// own.
    pub work: PathBuf,
    /// The vendors.
    pub vendors: Vendors,
    /// A filesystem mirror with the providers that templates name and that are not ours.
    pub mirror: PathBuf,
    /// The program, `terraform` or `tofu`.
    pub program: PathBuf,
    /// Its version.
    pub version: String,
}

/// The Terraform engine of one executor.
pub struct TerraformEngine {
    terraform: Terraform,
    vendors: Vendors,
    templates: Templates,
    states: StateServer,
    plans: PlanFiles,
    runs: PathBuf,
    sockets: PathBuf,
    pub(super) pool: Pool,
    nats: Nats,
}

impl std::fmt::Debug for TerraformEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TerraformEngine").field("terraform", &self.terraform).finish_non_exhaustive()
    }
}

impl Drop for TerraformEngine {
    fn drop(&mut self) {
        self.states.stop();
        let _ = std::fs::remove_dir_all(&self.sockets);
    }
}

fn io(doing: &str, path: &Path) -> impl FnOnce(std::io::Error) -> TerraformError {
    let doing = format!("{doing} {}", path.display());
    move |source| TerraformError::Io { doing, source }
}

/// Where the providers' sockets are: below the work folder, unless a socket's path would be longer than the 107 bytes it
/// may have. Elsewhere the folder's name says whose it is, so that the next start clears it.
fn sockets_of(work: &Path) -> PathBuf {
    const LONGEST_FOLDER: usize = 107 - "/sockets/".len() - provider::SOCKET_NAME;
    if work.as_os_str().len() <= LONGEST_FOLDER {
        return work.join("sockets");
    }
    let digest = wanwright_schemas::Digest::of(work.as_os_str().as_encoded_bytes()).to_string();
    std::env::temp_dir().join(format!("wanwright-{}", &digest["sha256:".len()..][..16]))
}

async fn private(dir: &Path) -> Result<(), TerraformError> {
    fs::create_dir_all(dir).await.map_err(io("making", dir))?;
    fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).await.map_err(io("closing", dir))
}

impl TerraformEngine {
    /// Starts the state backend and makes the engine's folders. Run folders of a process that died are removed: what
    /// matters of them is in the state and the spool, and a state that Terraform could not hand over is taken in now.
    ///
    /// The state backend serves until the engine is dropped: a run that is told to stop still has to write its state.
    ///
    /// # Errors
    /// [`TerraformError`].
    pub async fn start(config: Config) -> Result<Self, TerraformError> {
        let runs = config.work.join(RUNS);
        private(&config.work).await?;
        private(&runs).await?;
        let sockets = sockets_of(&config.work);
        // What a process that was killed left there.
        let _ = fs::remove_dir_all(&sockets).await;
        private(&sockets).await?;
        let copies = StateCopies::new(config.nats.clone());
        let plans = PlanFiles::new(config.nats.clone(), config.keys.clone());
        let store = Store { pool: config.pool, keys: config.keys, copies };
        for what in wanwright_supervisor::missing_confinement() {
            tracing::warn!(what, "Terraform and its providers are not confined as they should be");
        }
        store.check().await.map_err(|error| TerraformError::State(error.into()))?;
        let states = StateServer::start(store, config.nats.clone(), &config.work);
        let states = states.await.map_err(io("serving states from", &config.work))?;
        let engine = Self {
            terraform: Terraform { program: config.program, version: config.version },
            vendors: config.vendors,
            templates: Templates::new(config.work.join("templates"), config.mirror),
            states,
            plans,
            runs,
            pool: Pool::new(sockets.clone()),
            sockets,
            nats: config.nats,
        };
        let cleared = engine.states.clear(&engine.runs).await;
        cleared.map_err(|error| TerraformError::State(error.into()))?;
        Ok(engine)
    }

    /// Waits until a part of the engine ended that was not told to: runs then have no state.
    pub async fn failed(&self) {
        self.states.failed().await;
    }

    /// Runs an order about a site's stack.
    pub async fn run(&self, run: &Run<'_>, stop: &CancellationToken) -> Outcome {
        let outcome = match self.try_run(run, stop).await {
            Ok(outcome) => outcome,
            Err(error) => {
                let message = chain(&error);
                run.log.line("error", message.clone()).await;
                Outcome::Passing { code: error.code(), message, ours: true }
            }
        };
        engine::ended(run, outcome).await
    }

    async fn try_run(&self, run: &Run<'_>, stop: &CancellationToken) -> Result<Outcome, TerraformError> {
        let Desired::Site { site, tunnels, leaving } = &run.order.desired else {
            return Ok(internal("the Terraform engine carries out stacks only"));
        };
        let Some(template) = &run.vendor.terraform else {
            return Ok(internal("the vendor's folder has no Terraform template"));
        };
        let stack = Stack { site, tunnels, leaving, vendor: run.vendor, template };
        let uid = site.uid.to_string();
        let session = self.states.open(&uid, &run.order.id.to_string());
        let ready = self.templates.get(&self.terraform, template, &session).await?;
        let before = self.state_before(run, &uid).await?;
        if let Some(plan) = &run.order.plan
            && let Err(why) = planning::judge(plan, &template.digest, &Basis::of(&before), Timestamp::now())
        {
            return Ok(engine::stale(run.order, plan.hash, why));
        }
        let dir = self.runs.join(format!("{}-{}", run.order.id, run.attempt));
        let folder = Folder::make(dir, &ready, &inputs::variables(site, tunnels)).await?;
        let provider = self.provider(run, &ready).await?;
        // The path is a right to call the vendor, the token one to read the state.
        let secrets = Secrets::new([run.gateway.token(), session.token()]);
        let runner =
            Runner { engine: self, run, stop, folder: &folder, ready: &ready, provider, session, secrets };
        let outcome = runner.carry_out(&stack, &before, &uid).await?;
        Ok(match outcome {
            Outcome::Passing { code, message, ours } => {
                let ours = ours || runner.is_troubled();
                Outcome::Passing { code, message, ours }
            }
            done @ Outcome::Done(_) => done,
        })
    }

    /// Says what an order that plans would be answered, and keeps nothing of it.
    ///
    /// # Errors
    /// A refusal that says why it cannot be said.
    pub(crate) async fn preview(&self, run: &Run<'_>, stop: &CancellationToken) -> Result<Plan, Refusal> {
        let unavailable = |why: String| Refusal::new(Reason::PreviewUnavailable, why);
        match self.try_preview(run, stop).await {
            Ok(Ok(plan)) => Ok(plan),
            Ok(Err(Outcome::Passing { code, message, .. })) => Err(Refusal::new(code, message)),
            Ok(Err(Outcome::Done(_))) => Err(unavailable("it cannot be planned".to_owned())),
            Err(error) => Err(unavailable(chain(&error))),
        }
    }

    async fn try_preview(
        &self,
        run: &Run<'_>,
        stop: &CancellationToken,
    ) -> Result<Result<Plan, Outcome>, TerraformError> {
        let (Desired::Site { site, tunnels, leaving }, Some(template), Intent::Plan { remove, .. }) =
            (&run.order.desired, &run.vendor.terraform, &run.order.intent)
        else {
            return Ok(Err(internal("only stacks of vendors with a template are planned")));
        };
        let stack = Stack { site, tunnels, leaving, vendor: run.vendor, template };
        let uid = site.uid.to_string();
        // It never locks the state, so it cannot write one either.
        let session = self.states.open(&uid, &run.order.id.to_string());
        let ready = self.templates.get(&self.terraform, template, &session).await?;
        let before = self.state_before(run, &uid).await?;
        let dir = self.runs.join(format!("preview-{}", uuid::Uuid::new_v4().simple()));
        let folder = Folder::make(dir, &ready, &inputs::variables(site, tunnels)).await?;
        let provider = self.provider(run, &ready).await?;
        let secrets = Secrets::new([run.gateway.token(), session.token()]);
        let runner =
            Runner { engine: self, run, stop, folder: &folder, ready: &ready, provider, session, secrets };
        let args: &[&str] = if *remove { &PREVIEW_DESTROY } else { &PREVIEW };
        match runner.terraform(args).await? {
            Ended::Well(_) => Ok(Ok(runner.told(&stack, &before).await?.0)),
            Ended::Badly(said) => Ok(Err(passing(&said))),
            cut => Ok(Err(cut.cut_short())),
        }
    }

    /// The state that a run begins with. One of a stack that was applied and has none is lost: Terraform would make
    /// everything once more.
    async fn state_before(&self, run: &Run<'_>, uid: &str) -> Result<Value, TerraformError> {
        let before = self.state(uid).await?;
        if before.is_null() && run.order.applied {
            return Err(TerraformError::State(StoreError::Gone { stack: uid.to_owned() }.into()));
        }
        Ok(before)
    }

    async fn provider(&self, run: &Run<'_>, ready: &Ready) -> Result<Provider, TerraformError> {
        let vendors = self.vendors.snapshot();
        let (sockets, pool, nats) = (&self.sockets, &self.pool, &self.nats);
        let source = provider::Source { vendors: &vendors, sockets, pool, nats };
        Provider::start(&source, run.gateway, ready).await
    }

    async fn state(&self, uid: &str) -> Result<Value, TerraformError> {
        self.states.newest(uid).await.map_err(|error| TerraformError::State(error.into()))
    }

    /// A run with errors: for good if the vendor refused each thing that failed, else in passing.
    async fn judge(
        &self,
        stack: &Stack<'_>,
        said: &Said,
        intent: &Intent,
        uid: &str,
    ) -> Result<Outcome, TerraformError> {
        let refused = |problem: &super::messages::Problem| problem.class == Some(Reason::VendorRefused);
        if said.problems.is_empty() || !said.problems.iter().all(refused) {
            return Ok(passing(said));
        }
        let state = self.state(uid).await?;
        Ok(stack.partly(said, &state, intent).map_or_else(|| passing(said), Outcome::Done))
    }
}

fn internal(message: &str) -> Outcome {
    Outcome::Passing { code: Reason::Internal, message: message.to_owned(), ours: false }
}

/// What Terraform does not know could not be removed.
fn not_cleared(run: &Run<'_>, error: &ClientError) -> Outcome {
    let (code, message) = (engine::reason_of(error), format!("removing what a dead run left: {error}"));
    if error.is_passing() {
        // Between here and the gateway there is nothing of the vendor's.
        let ours = matches!(error, ClientError::Network { .. });
        return Outcome::Passing { code, message, ours };
    }
    Outcome::Done(engine::failed(run.order, code, &message))
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

/// The folder of a run. It is removed when this is dropped, unless there is a state in it that nobody has taken in: the
/// next start does.
struct Folder(PathBuf);

impl Folder {
    async fn make(dir: PathBuf, ready: &Ready, variables: &Value) -> Result<Self, TerraformError> {
        private(&dir).await?;
        let folder = Self(dir);
        for name in &ready.names {
            let to = folder.0.join(name);
            fs::copy(ready.files.join(name), &to).await.map_err(io("copying a template to", &to))?;
        }
        let file = folder.0.join(VARIABLES);
        fs::write(&file, variables.to_string()).await.map_err(io("writing", &file))?;
        Ok(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.0.join(ERRORED).exists() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// How Terraform ended.
enum Ended {
    Well(Said),
    Badly(Said),
    Stopped,
    TooLong,
}

impl Ended {
    /// The outcome of a run that came to no end of its own.
    fn cut_short(&self) -> Outcome {
        let ours = matches!(self, Self::Stopped);
        let message = match self {
            Self::TooLong => format!("the run took longer than {} s", LIMIT.as_secs()),
            _ => "the executor stopped".to_owned(),
        };
        Outcome::Passing { code: Reason::Internal, message, ours }
    }
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
    /// What nobody may read in the run's log.
    secrets: Secrets,
}

/// What is heard of a command while it runs.
struct Hearing {
    lines: Lines,
    said: Said,
    /// The most memory it was seen with.
    peak_kib: Option<u64>,
}

impl Runner<'_> {
    fn spec(&self) -> ChildSpec {
        let gateway = url::Url::parse(self.run.gateway.base_url()).ok().and_then(|url| url.port());
        let surroundings = Surroundings {
            cwd: &self.folder.0,
            data: &self.ready.data,
            provider: Some(&self.provider.socket),
            ports: std::iter::once(self.session.port()).chain(gateway).collect(),
            mirror: None,
        };
        self.engine
            .terraform
            .spec(&surroundings)
            .env("TF_REATTACH_PROVIDERS", &self.provider.reattach)
            .envs(self.session.env())
    }

    /// Whether what is around Terraform let it down: the state backend, or a provider that is not ours.
    fn is_troubled(&self) -> bool {
        self.session.troubled() || self.provider.troubled()
    }

    /// Does what the order asks for. `before` is the state the run begins with.
    async fn carry_out(
        &self,
        stack: &Stack<'_>,
        before: &Value,
        uid: &str,
    ) -> Result<Outcome, TerraformError> {
        let intent = &self.run.order.intent;
        if self.run.order.changes() {
            if self.run.order.plan.is_some() {
                return self.apply_plan(stack, before, uid).await;
            }
            if let Err(error) = remains::clear_tunnels(self.run, stack, before).await {
                return Ok(not_cleared(self.run, &error));
            }
        }
        match intent {
            Intent::Plan { remove, .. } => self.plan(stack, *remove, before, uid).await,
            Intent::Apply => match self.terraform(&APPLY).await? {
                Ended::Well(said) => Ok(Outcome::Done(stack.applied(&said.outputs))),
                Ended::Badly(said) => self.engine.judge(stack, &said, intent, uid).await,
                cut => Ok(cut.cut_short()),
            },
            Intent::Remove => match self.terraform(&DESTROY).await? {
                Ended::Well(_) => Ok(match remains::clear_site(self.run, stack, before).await {
                    Ok(()) => Outcome::Done(stack.removed()),
                    Err(error) => not_cleared(self.run, &error),
                }),
                Ended::Badly(said) => self.engine.judge(stack, &said, intent, uid).await,
                cut => Ok(cut.cut_short()),
            },
            Intent::Observe { check } => match self.terraform(&LOOK).await? {
                Ended::Well(said) => {
                    let plan = if said.drifted { Some(self.show("plan").await?) } else { None };
                    Ok(Outcome::Done(stack.observed(*check, plan.as_ref(), before)))
                }
                Ended::Badly(said) => Ok(passing(&said)),
                cut => Ok(cut.cut_short()),
            },
        }
    }

    /// Plans, keeps the plan's file, and tells what it would do.
    async fn plan(
        &self,
        stack: &Stack<'_>,
        remove: bool,
        before: &Value,
        uid: &str,
    ) -> Result<Outcome, TerraformError> {
        let said = match self.terraform(if remove { &PLAN_DESTROY } else { &PLAN }).await? {
            Ended::Well(_) => return self.keep_plan(stack, before, uid).await,
            Ended::Badly(said) => said,
            cut => return Ok(cut.cut_short()),
        };
        let refused = |problem: &super::messages::Problem| problem.class == Some(Reason::VendorRefused);
        match said.problems.first() {
            Some(first) if said.problems.iter().all(refused) => {
                let findings = engine::failed(self.run.order, Reason::VendorRefused, &first.message);
                Ok(Outcome::Done(findings))
            }
            _ => Ok(passing(&said)),
        }
    }

    async fn keep_plan(
        &self,
        stack: &Stack<'_>,
        before: &Value,
        uid: &str,
    ) -> Result<Outcome, TerraformError> {
        let (plan, bytes) = self.told(stack, before).await?;
        let hash = plan.hash;
        let kept = self.engine.plans.put(&planning::place(uid, hash, &Basis::of(before)), &bytes).await;
        kept.map_err(TerraformError::Plan)?;
        self.run.gateway.records().add(RunEvent::Planned { plan: hash }).await;
        Ok(Outcome::Done(engine::of_stack(self.run.order, Finding::Planned { plan })))
    }

    /// What the plan in the run's folder would do, and its file.
    async fn told(&self, stack: &Stack<'_>, before: &Value) -> Result<(Plan, Vec<u8>), TerraformError> {
        let file = self.folder.0.join(PLAN_FILE);
        let bytes = planning::read(&file).await.map_err(io("reading", &file))?;
        let (hash, basis) = (Digest::of(&bytes), Basis::of(before));
        let plan = planning::told(&self.show(PLAN_FILE).await?, hash, &stack.template.digest, &basis);
        Ok((plan, bytes))
    }

    /// Applies the plan that the order names, and nothing else.
    async fn apply_plan(
        &self,
        stack: &Stack<'_>,
        before: &Value,
        uid: &str,
    ) -> Result<Outcome, TerraformError> {
        let Some(plan) = &self.run.order.plan else { return Ok(internal("the order names no plan")) };
        let place = planning::place(uid, plan.hash, &Basis::of(before));
        // It may have been waited for, for as long as the key or the streams were away, so the state is read again.
        let found = async {
            let file = self.engine.plans.get(&place).await.map_err(Unopened::from)?;
            let before = self.engine.state(uid).await.map_err(Unopened::Trouble)?;
            Ok((file, before))
        };
        let opened = planning::open(plan, &stack.template.digest, found, Timestamp::now).await;
        let (bytes, before) = match opened {
            Ok(opened) => opened,
            Err(Unopened::Stale(why)) => return Ok(engine::stale(self.run.order, plan.hash, why)),
            Err(Unopened::Trouble(error)) => return Err(error),
        };
        let file = self.folder.0.join(PLAN_FILE);
        fs::write(&file, &bytes).await.map_err(io("writing", &file))?;
        // What is recorded is the digest of what Terraform gets, not the one that the order names.
        let opened = Digest::of(&bytes);
        self.run.gateway.records().add(RunEvent::PlanOpened { plan: opened }).await;
        if let Err(error) = remains::clear_tunnels(self.run, stack, &before).await {
            return Ok(not_cleared(self.run, &error));
        }
        self.run.begun.set(true);
        let intent = &self.run.order.intent;
        let ended = self.terraform(&APPLY_PLAN).await?;
        if matches!(ended, Ended::Badly(_)) && !self.is_troubled() {
            // The state says how far it came: by its serial the plan is as good as it was, or stale.
            self.run.begun.set(false);
        }
        let before = &before;
        match ended {
            Ended::Well(_) if matches!(intent, Intent::Remove) => {
                Ok(match remains::clear_site(self.run, stack, before).await {
                    Ok(()) => Outcome::Done(stack.removed()),
                    Err(error) => not_cleared(self.run, &error),
                })
            }
            Ended::Well(said) => Ok(Outcome::Done(stack.applied(&said.outputs))),
            Ended::Badly(mut said) => {
                said.planned_before(&self.show(PLAN_FILE).await?);
                self.engine.judge(stack, &said, intent, uid).await
            }
            cut => Ok(cut.cut_short()),
        }
    }

    /// Runs a command, its messages into the live log as they come.
    async fn terraform(&self, args: &[&str]) -> Result<Ended, TerraformError> {
        let began = Instant::now();
        let mut child = self.spec().args(args).spawn().map_err(TerraformError::Process)?;
        let lines = child.lines().map_err(TerraformError::Process)?;
        let mut hearing = Hearing { lines, said: Said::default(), peak_kib: None };
        let ended = self.to_its_end(&child, &mut hearing).await;
        self.run.measure.ran(began);
        self.run.measure.process(took(&child, hearing.peak_kib));
        let cut = ended?;
        self.adopt().await?;
        Ok(match cut {
            Some(cut) => cut,
            None if child.wait().await.success() => Ended::Well(hearing.said),
            None => Ended::Badly(hearing.said),
        })
    }

    /// Waits for the end of a command, and says if it was cut short.
    async fn to_its_end(
        &self,
        child: &Child,
        hearing: &mut Hearing,
    ) -> Result<Option<Ended>, TerraformError> {
        let cut = tokio::select! {
            heard = self.listen(child, hearing) => heard.map(|()| None)?,
            () = self.stop.cancelled() => Some(Ended::Stopped),
            () = tokio::time::sleep(LIMIT) => Some(Ended::TooLong),
        };
        if cut.is_some() {
            // It goes on talking, and must not wait for somebody to listen.
            let (_, heard) = tokio::join!(child.stop(STOP_LIMIT), self.listen(child, hearing));
            heard?;
        } else {
            child.wait().await;
        }
        Ok(cut)
    }

    async fn listen(&self, child: &Child, hearing: &mut Hearing) -> Result<(), TerraformError> {
        let unheard = |source| TerraformError::Io { doing: "reading what Terraform says".to_owned(), source };
        while let Some(line) = hearing.lines.next().await.map_err(unheard)? {
            if messages::is_telling(&line) {
                hearing.peak_kib = hearing.peak_kib.max(child.peak_kib());
            }
            let line = self.secrets.taken_out(line);
            match hearing.said.line(&line) {
                Some(Heard { level, text, step: Some(step) }) => self.run.log.step(level, text, step).await,
                Some(Heard { level, text, step: None }) => self.run.log.line(level, text).await,
                None => {}
            }
        }
        Ok(())
    }

    /// Takes in the state that Terraform could not hand over, if there is one.
    async fn adopt(&self) -> Result<(), TerraformError> {
        let file = self.folder.0.join(ERRORED);
        let body = match fs::read(&file).await {
            Ok(body) => body,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(io("reading", &file)(error)),
        };
        match self.session.adopt(body).await {
            Ok(()) => {
                self.run.log.line("warn", "a state that Terraform could not hand over is taken in").await
            }
            // It was set aside, for a person.
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(TerraformError::State(error.into())),
        }
        fs::remove_file(&file).await.map_err(io("removing", &file))
    }

    /// A plan as JSON.
    async fn show(&self, plan: &str) -> Result<Value, TerraformError> {
        let began = Instant::now();
        let shown = output(self.spec().args(["show", "-json", plan])).await;
        self.run.measure.ran(began);
        let (_, text) = shown?;
        serde_json::from_str(text.trim()).map_err(|error| TerraformError::Unreadable("the plan", error))
    }
}
