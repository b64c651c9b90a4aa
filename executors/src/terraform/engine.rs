//! One run of Terraform, from the order to its findings.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use sqlx::PgPool;
use tokio::fs;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;
use wanwright_nats::{Nats, PlanFiles, StateCopies, StateKeys, chain};
use wanwright_schemas::order::{Desired, Intent};
use wanwright_schemas::plan::Plan;
use wanwright_schemas::reason::{Reason, Refusal};
use wanwright_vendors::{TerraformTemplate, Vendors};

use super::carry_out::{PLAN, PLAN_DESTROY};
use super::error::{TerraformError, io};
use super::findings::Stack;
use super::folder::{Folder, private};
use super::foreign::Pool;
use super::inputs;
use super::left::RUNS;
use super::messages::Secrets;
use super::outcomes::{internal, passing};
use super::planning::{self, Basis};
use super::process::Terraform;
use super::provider::{self, Provider};
use super::reconcile::{self, Doubt};
use super::runner::{Ended, Runner};
use super::state::{StateServer, StateSession};
use super::store::{Store, StoreError};
use super::template::{Ready, Templates};
use crate::engine::{self, Outcome, Run};

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
    /// How many of it run at once, at least 1: each needs a core.
    pub at_once: usize,
    /// Longest run of Terraform, [`USUAL_LIMIT`] as a rule. What takes longer is stopped, keeps its state, and is tried
    /// again.
    pub limit: Duration,
}

/// Longest run of Terraform, unless the configuration says otherwise.
pub const USUAL_LIMIT: Duration = Duration::from_secs(15 * 60);

/// The Terraform engine of one executor.
pub struct TerraformEngine {
    pub(super) terraform: Terraform,
    vendors: Vendors,
    templates: Templates,
    pub(super) states: StateServer,
    pub(super) plans: PlanFiles,
    runs: PathBuf,
    sockets: PathBuf,
    pub(super) pool: Pool,
    pub(super) limit: Duration,
    nats: Nats,
    cores: Semaphore,
    at_once: usize,
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
            limit: config.limit,
            nats: config.nats,
            cores: Semaphore::new(config.at_once.max(1)),
            at_once: config.at_once.max(1),
        };
        let cleared = engine.states.clear(&engine.runs).await;
        cleared.map_err(|error| TerraformError::State(error.into()))?;
        Ok(engine)
    }

    /// Waits until a part of the engine ended that was not told to: runs then have no state.
    pub async fn failed(&self) {
        self.states.failed().await;
    }

    /// How many Terraforms run at once.
    #[must_use]
    pub fn at_once(&self) -> usize {
        self.at_once
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
        let template = match template_of(run) {
            Ok(template) => template,
            Err(outcome) => return Ok(outcome),
        };
        if run.order.template.is_some() {
            run.log.line("info", format!("template {}, {}", template.version, template.digest)).await;
        }
        let stack = Stack { site, tunnels, leaving, vendor: run.vendor, template };
        let uid = site.uid.to_string();
        let session = self.states.open(&uid, &run.order.id.to_string(), run.held.clone());
        let session = session.knowing(run.order.state);
        let ready = self.templates.get(&self.terraform, template, &session).await?;
        let dir = self.runs.join(format!("{}-{}", run.order.id, run.attempt));
        let (runner, before, doubt) = self.runner(run, stop, (&stack, dir), (&ready, session)).await?;
        if let Some(plan) = &run.order.plan
            && let Err(why) = planning::judge(plan, &template.effects, &Basis::of(&before), Timestamp::now())
        {
            return Ok(engine::stale(run.order, plan.hash, why));
        }
        let outcome = match runner.reconcile(&stack, &doubt).await? {
            Some(unknown) => unknown,
            None if doubt.is_any_lost() => runner.carry_out(&stack, &self.state(&uid).await?, &uid).await?,
            None => runner.carry_out(&stack, &before, &uid).await?,
        };
        run.stored.set(runner.session.stored().await);
        reconcile::remember(run, &stack, &outcome, self).await?;
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
        let (Desired::Site { site, tunnels, leaving }, Intent::Plan { remove, .. }) =
            (&run.order.desired, &run.order.intent)
        else {
            return Ok(Err(internal("only stacks are planned")));
        };
        let template = match template_of(run) {
            Ok(template) => template,
            Err(outcome) => return Ok(Err(outcome)),
        };
        let stack = Stack { site, tunnels, leaving, vendor: run.vendor, template };
        let uid = site.uid.to_string();
        // It never locks the state, so it cannot write one either.
        let session = self.states.open(&uid, &run.order.id.to_string(), run.held.clone());
        let session = session.knowing(run.order.state);
        let ready = self.templates.get(&self.terraform, template, &session).await?;
        let dir = self.runs.join(format!("preview-{}", uuid::Uuid::new_v4().simple()));
        let (runner, before, _) = self.runner(run, stop, (&stack, dir), (&ready, session)).await?;
        let args: &[&str] = if *remove { &PLAN_DESTROY } else { &PLAN };
        match runner.terraform(args).await? {
            Ended::Well(_) => Ok(Ok(runner.told(&stack, &before).await?.0)),
            Ended::Badly(said) => Ok(Err(passing(&said))),
            cut => Ok(Err(cut.cut_short())),
        }
    }

    /// A core for a run, for as long as it is held; none when that is to stop.
    pub(crate) async fn core(&self, stop: &CancellationToken) -> Option<SemaphorePermit<'_>> {
        tokio::select! {
            biased;
            () = stop.cancelled() => None,
            core = self.cores.acquire() => core.ok(),
        }
    }

    /// Reads the state that the run begins with, starts its providers and has Terraform ready in its folder.
    async fn runner<'a>(
        &'a self,
        run: &'a Run<'a>,
        stop: &'a CancellationToken,
        (stack, dir): (&Stack<'_>, PathBuf),
        (ready, session): (&'a Ready, StateSession),
    ) -> Result<(Runner<'a>, Value, Doubt), TerraformError> {
        let vendors = self.vendors.snapshot();
        // What was judged of the vendor's folder is about the one that the run was begun with.
        if vendors.get(&run.vendor.name).is_none_or(|vendor| vendor.digest != run.vendor.digest) {
            return Err(TerraformError::Vendor(run.vendor.name.clone()));
        }
        let vendor = vendors.only(&run.vendor.name);
        let (sockets, pool, nats) = (&self.sockets, &self.pool, &self.nats);
        let source = provider::Source { vendor: &vendor, sockets, pool, nats };
        let variables = inputs::variables(stack.site, stack.tunnels);
        let (before, folder) =
            tokio::try_join!(self.state_before(run, stack, &session), Folder::make(dir, ready, &variables))?;
        let doubt = Doubt::of(run, stack, &before).await?;
        session.note_in(&folder.0);
        let provider = Provider::start(&source, run.gateway, ready, doubt.of_provider(stack)).await?;
        // The path is a right to call the vendor, the token one to read the state.
        let secrets = Secrets::new([run.gateway.token(), session.token()]);
        Ok((Runner { engine: self, run, stop, folder, ready, provider, session, secrets }, before, doubt))
    }

    /// The state that a run begins with. One of a stack that was applied and has none is lost: Terraform would make
    /// everything once more.
    async fn state_before(
        &self,
        run: &Run<'_>,
        stack: &Stack<'_>,
        session: &StateSession,
    ) -> Result<Value, TerraformError> {
        let before = self.begin(session).await?;
        if before.is_null() && run.order.applied {
            let stack = stack.site.uid.to_string();
            return Err(TerraformError::State(StoreError::Gone { stack }.into()));
        }
        Ok(before)
    }

    pub(super) async fn begin(&self, session: &StateSession) -> Result<Value, TerraformError> {
        session.begin().await.map_err(|error| TerraformError::State(error.into()))
    }

    pub(super) async fn state(&self, uid: &str) -> Result<Value, TerraformError> {
        self.states.newest(uid).await.map_err(|error| TerraformError::State(error.into()))
    }
}

/// The version of the template that an order names, with the content that the stack was given; the first as it is for an
/// order that names none.
fn template_of<'a>(run: &Run<'a>) -> Result<&'a TerraformTemplate, Outcome> {
    let Some(wanted) = &run.order.template else {
        return run
            .vendor
            .terraform
            .as_ref()
            .ok_or_else(|| internal("the vendor's folder has no Terraform template"));
    };
    let found = run.vendor.template(wanted.version);
    found.filter(|template| template.digest == wanted.digest).ok_or_else(|| {
        let is = if found.is_some() { "is another one than the stack was given" } else { "is not there" };
        let message = format!("version {} of the template {is}", wanted.version);
        Outcome::Passing { code: Reason::TemplateChanged, message, ours: true }
    })
}
