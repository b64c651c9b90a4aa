//! Terraform's commands in the folder of one run: what they say goes into the run's log as it comes.

use std::time::Duration;

use serde_json::Value;
use tokio::fs;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wanwright_schemas::reason::Reason;
use wanwright_supervisor::{Child, ChildSpec, Lines};

use super::bounded::{self, LAST_WORDS};
use super::engine::TerraformEngine;
use super::error::{TerraformError, io};
use super::folder::Folder;
use super::left::{self, ERRORED};
use super::messages::{self, Heard, Said, Secrets};
use super::process::{Surroundings, output, took};
use super::provider::Provider;
use super::state::StateSession;
use super::store::StoreError;
use super::template::Ready;
use crate::engine::{Outcome, Run};

/// How long Terraform has to write its state after it was asked to stop.
const STOP_LIMIT: Duration = Duration::from_secs(6);

/// How Terraform ended.
pub(super) enum Ended {
    Well(Said),
    Badly(Said),
    Stopped,
    /// It took longer than this.
    TooLong(Duration),
}

impl Ended {
    /// The outcome of a run that came to no end of its own.
    pub(super) fn cut_short(&self) -> Outcome {
        let ours = matches!(self, Self::Stopped);
        let message = match self {
            Self::TooLong(limit) => format!("the run took longer than {} s", limit.as_secs()),
            _ => "the executor stopped".to_owned(),
        };
        Outcome::Passing { code: Reason::Internal, message, ours }
    }
}

/// Terraform in the folder of one run.
pub(super) struct Runner<'a> {
    pub(super) engine: &'a TerraformEngine,
    pub(super) run: &'a Run<'a>,
    pub(super) stop: &'a CancellationToken,
    pub(super) folder: Folder,
    pub(super) ready: &'a Ready,
    pub(super) provider: Provider,
    pub(super) session: StateSession,
    /// What nobody may read in the run's log.
    pub(super) secrets: Secrets,
}

/// What is heard of a command while it runs.
struct Hearing {
    lines: Lines,
    said: Said,
    /// The most memory it was seen with.
    peak_kib: Option<u64>,
}

impl Runner<'_> {
    pub(super) fn spec(&self) -> ChildSpec {
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
            .log(self.folder.0.join(LAST_WORDS))
    }

    /// The end of what Terraform said beside its messages: a panic, say. Without secrets.
    pub(super) async fn last_words(&self) -> String {
        self.secrets.taken_out(bounded::last_words(&self.folder.0.join(LAST_WORDS)).await)
    }

    /// Whether what is around Terraform let it down: the state backend, or a provider that is not ours.
    pub(super) fn is_troubled(&self) -> bool {
        self.session.troubled() || self.provider.troubled()
    }

    /// Runs a command, its messages into the live log as they come.
    pub(super) async fn terraform(&self, args: &[&str]) -> Result<Ended, TerraformError> {
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
            None => {
                hearing.said.last_words = self.last_words().await;
                Ended::Badly(hearing.said)
            }
        })
    }

    /// Waits for the end of a command, and says if it was cut short.
    async fn to_its_end(
        &self,
        child: &Child,
        hearing: &mut Hearing,
    ) -> Result<Option<Ended>, TerraformError> {
        let limit = self.engine.limit;
        let cut = tokio::select! {
            heard = async {
                self.listen(child, hearing).await?;
                // One that has closed its output has not ended.
                Ok(child.wait().await)
            } => heard.map(|_| None)?,
            () = self.stop.cancelled() => Some(Ended::Stopped),
            () = tokio::time::sleep(limit) => Some(Ended::TooLong(limit)),
        };
        if cut.is_some() {
            // It goes on talking, and must not wait for somebody to listen.
            let (_, heard) = tokio::join!(child.stop(STOP_LIMIT), self.listen(child, hearing));
            heard?;
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
    pub(super) async fn adopt(&self) -> Result<(), TerraformError> {
        let file = self.folder.0.join(ERRORED);
        let body = left::errored(&file).await.map_err(|error| TerraformError::State(error.into()))?;
        let Some(body) = body else { return Ok(()) };
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
    pub(super) async fn show(&self, plan: &str) -> Result<Value, TerraformError> {
        let began = Instant::now();
        let shown = output(self.spec().args(["show", "-json", plan])).await;
        self.run.measure.ran(began);
        let (_, text) = shown?;
        serde_json::from_str(text.trim()).map_err(|error| TerraformError::Unreadable("the plan", error))
    }
}
