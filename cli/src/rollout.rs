//! `wanwright rollout`: another version of a vendor's Terraform template, for its stacks, wave by wave.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Subcommand, ValueEnum};
use tokio::time::Instant;
use wanwright_nats::Nats;
use wanwright_nats::accounts::Credentials;
use wanwright_schemas::plan::PlanCounts;
use wanwright_schemas::rollout::{Rollout, RolloutRequest, RolloutState, RolloutVerb, Summary, WhenHeld};
use wanwright_schemas::{Actor, CustomerId, Outcome, VendorId};

use crate::cli::{Connection, OutcomeFormat};
use crate::endpoints::Login;
use crate::exit::{Exit, TimedOut, Unreachable, Usage};
use crate::output;

/// How often a plan that is being made is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// `rollout`.
#[derive(Debug, Args)]
#[command(
    after_help = "Versions stand beside each other in the vendor's folder: terraform/, terraform@2/ and so on.\n\nExamples:\n  \
    wanwright rollout plan simwan --to 2\n  wanwright rollout start simwan --to 2 --canary acme --steps 10,50,100 --pause 600\n  \
    wanwright rollout status simwan\n  wanwright rollout rollback simwan\n\nExit codes: 0 done, 3 refused, 8 time ran out."
)]
pub struct RolloutArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Have Terraform plan the version for some stacks, or all, and say what it would do. Nothing is changed.
    Plan {
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        versions: Versions,
        /// How many stacks to plan for; 0 for all.
        #[arg(long, default_value_t = 20, value_name = "N")]
        sample: u32,
        /// Longest wait, in seconds.
        #[arg(long, default_value_t = 600, value_name = "SECONDS")]
        timeout: u64,
    },
    /// Give stacks the version, first the canaries', then share by share.
    Start {
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        versions: Versions,
        /// A customer of the first wave; may be given several times.
        #[arg(long = "canary", value_name = "CUSTOMER")]
        canaries: Vec<CustomerId>,
        /// How much of the customers has the version after each further wave, in percent, rising to 100.
        #[arg(long, value_delimiter = ',', value_name = "PERCENT,…")]
        steps: Option<Vec<u8>>,
        #[command(flatten)]
        limits: Limits,
        /// How long to rest after each wave, in seconds.
        #[arg(long, value_name = "SECONDS")]
        pause: Option<u32>,
        /// Most customers whose stacks are being changed at once.
        #[arg(long, value_name = "N")]
        at_once: Option<u32>,
    },
    /// Say how it is.
    Status {
        #[command(flatten)]
        of: Of,
    },
    /// Give the version to no other stack until `resume`. What has begun goes on.
    Pause {
        #[command(flatten)]
        of: Of,
        /// Why.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Go on with one that is paused or stopped.
    Resume {
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        limits: Limits,
    },
    /// Give the version to no other stack.
    Stop {
        #[command(flatten)]
        of: Of,
        /// Why.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Give every stack that it gave the version the one before.
    Rollback {
        #[command(flatten)]
        of: Of,
    },
}

/// Which vendor's, and by whom.
#[derive(Debug, Args)]
struct Of {
    #[command(flatten)]
    connection: Connection,
    /// The vendor.
    vendor: VendorId,
    /// Who asks: the name of the login, unless the login may speak for anybody.
    #[arg(long, env = "WANWRIGHT_ACTOR")]
    actor: Option<String>,
    /// How to print.
    #[arg(short, long, default_value = "text")]
    output: OutcomeFormat,
}

#[derive(Debug, Args)]
struct Versions {
    /// The version that stacks are to get; without it the one that was planned.
    #[arg(long, value_name = "VERSION")]
    to: Option<u32>,
    /// The version that they have; without it the one that new stacks get. Stacks with another one are left alone.
    #[arg(long, value_name = "VERSION")]
    from: Option<u32>,
}

#[derive(Debug, Args)]
struct Limits {
    /// How many failed stacks stop it; 0 for no number. Usually the first one does.
    #[arg(long, value_name = "N")]
    max_failures: Option<u32>,
    /// How much of the stacks of the waves so far has to fail to stop it, in percent; 0 for no share.
    #[arg(long, value_name = "PERCENT")]
    max_failures_percent: Option<u8>,
    /// What a wave does about a stack that is suspended, frozen, or waits for an approval or a change window.
    #[arg(long)]
    held: Option<Held>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Held {
    /// Wait for it.
    Wait,
    /// Go on without it; it follows when it can.
    Skip,
    /// Count it as failed.
    Fail,
}

impl Limits {
    fn of(self, request: RolloutRequest) -> RolloutRequest {
        let when_held = self.held.map(|held| match held {
            Held::Wait => WhenHeld::Wait,
            Held::Skip => WhenHeld::Skip,
            Held::Fail => WhenHeld::Fail,
        });
        let Self { max_failures, max_failures_percent, .. } = self;
        RolloutRequest { max_failures, max_failures_percent, when_held, ..request }
    }
}

/// Asks something of a vendor's rollout.
pub async fn run(args: RolloutArgs) -> Result<Exit> {
    let usual = RolloutRequest::default();
    match args.what {
        What::Plan { of, versions, sample, timeout } => {
            let Versions { to, from } = versions;
            let request = RolloutRequest { to, from, sample: Some(sample), ..usual };
            plan(of, request, Duration::from_secs(timeout)).await
        }
        What::Start { of, versions, canaries, steps, limits, pause, at_once } => {
            let Versions { to, from } = versions;
            let canaries = canaries.into_iter().collect();
            let request =
                RolloutRequest { to, from, canaries, steps, pause_seconds: pause, at_once, ..usual };
            once(of, RolloutVerb::Start, limits.of(request)).await
        }
        What::Status { of } => once(of, RolloutVerb::Status, usual).await,
        What::Pause { of, reason } => once(of, RolloutVerb::Pause, RolloutRequest { reason, ..usual }).await,
        What::Resume { of, limits } => once(of, RolloutVerb::Resume, limits.of(usual)).await,
        What::Stop { of, reason } => once(of, RolloutVerb::Stop, RolloutRequest { reason, ..usual }).await,
        What::Rollback { of } => once(of, RolloutVerb::Rollback, usual).await,
    }
}

async fn once(of: Of, verb: RolloutVerb, request: RolloutRequest) -> Result<Exit> {
    let asker = Asker::open(&of, verb).await?;
    let answer = asker.ask(verb, &request).await?;
    print(of.output, answer)
}

/// Has the fleet planned and waits for the summary.
async fn plan(of: Of, request: RolloutRequest, limit: Duration) -> Result<Exit> {
    let asker = Asker::open(&of, RolloutVerb::Plan).await?;
    let began = Instant::now();
    let mut answer = asker.ask(RolloutVerb::Plan, &request).await?;
    while let Ok(Rollout { state: RolloutState::Planning, .. }) = &answer {
        if began.elapsed() > limit {
            let message = "the plan is not there yet: look with `wanwright rollout status`";
            return Err(TimedOut(message.to_owned()).into());
        }
        tokio::time::sleep(LOOK).await;
        answer = asker.ask(RolloutVerb::Status, &RolloutRequest::default()).await?;
    }
    print(of.output, answer)
}

/// Who asks the command service.
struct Asker {
    nats: Nats,
    actor: Actor,
    vendor: VendorId,
}

impl Asker {
    async fn open(of: &Of, verb: RolloutVerb) -> Result<Self> {
        let actor = of.connection.actor(of.actor.as_deref())?;
        let actor: Actor = actor.parse().map_err(|error| Usage(format!("--actor: {error}")))?;
        // The server refuses a message in silence: whoever lacks the right would wait in vain.
        if let Some(creds) = of.connection.access(Login::Person)?.creds {
            let creds = Credentials::read(&creds)?;
            anyhow::ensure!(
                creds.may_publish(&verb.subject(&actor, &of.vendor)),
                Usage(format!("`{}` is no operator: rollouts are not for it", creds.name))
            );
        }
        let nats = of.connection.nats_unasked(Login::Person, "wanwright-rollout").await?;
        Ok(Self { nats, actor, vendor: of.vendor.clone() })
    }

    /// Asks; inside, the refusal.
    async fn ask(&self, verb: RolloutVerb, request: &RolloutRequest) -> Result<Result<Rollout, Outcome>> {
        let subject = verb.subject(&self.actor, &self.vendor);
        let asked = self.nats.client.request(subject, serde_json::to_vec(request)?.into()).await;
        let answer = asked.map_err(|error| match error.kind() {
            async_nats::RequestErrorKind::TimedOut => TimedOut(
                "the command service did not answer in time, and may still write it down: look with `wanwright rollout status`"
                    .to_owned(),
            ),
            _ => Unreachable(format!("no command service answers, so nothing was changed: {error}")),
        })?;
        if let Ok(rollout) = serde_json::from_slice::<Rollout>(&answer.payload) {
            return Ok(Ok(rollout));
        }
        Ok(Err(serde_json::from_slice(&answer.payload)
            .context("the answer is neither a rollout nor a refusal")?))
    }
}

fn print(format: OutcomeFormat, answer: Result<Rollout, Outcome>) -> Result<Exit> {
    match (answer, format) {
        (Ok(rollout), OutcomeFormat::Json) => output::line(serde_json::to_string(&rollout)?),
        (Ok(rollout), OutcomeFormat::Text) => output::line(text(&rollout)),
        (Err(refused), OutcomeFormat::Json) => {
            output::line(serde_json::to_string(&refused)?);
            return Ok(Exit::Refused);
        }
        (Err(refused), OutcomeFormat::Text) => {
            let refusal = refused.refusal().context("the answer is no refusal")?;
            output::line(format!("refused  {}: {}\n  {}", refusal.code, refusal.message, refusal.next));
            return Ok(Exit::Refused);
        }
    }
    Ok(Exit::Done)
}

/// A rollout for people.
fn text(rollout: &Rollout) -> String {
    let Rollout { vendor, number, from, to, state, by, wave, counts, .. } = rollout;
    let back = rollout.rolls_back.map(|back| format!(", taking rollout {back} back")).unwrap_or_default();
    let why = rollout.why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
    let mut lines = vec![format!(
        "rollout {number} of {vendor}, version {from} to {to}{back}, by {by}: {}{why}",
        state.as_str()
    )];
    if !rollout.waves.steps.is_empty() {
        let waves = rollout.waves.steps.len();
        let at = if *wave == 0 { "the canaries".to_owned() } else { format!("wave {wave} of {waves}") };
        lines.push(format!(
            "  at {at}; {} stacks of {} customers: {} have it, {} are being changed, {} wait, {} failed, {} are held, {} were taken back",
            counts.stacks, counts.customers, counts.applied, counts.progressing, counts.waiting, counts.failed, counts.held,
            counts.taken_back
        ));
        if counts.failed_before > 0 {
            lines.push(format!("  {} had failed before and are left alone", counts.failed_before));
        }
        if counts.unread > 0 {
            lines.push(format!("  it waits for {} customers of whom nothing is known now", counts.unread));
        }
    }
    if let Some(summary) = rollout.summary.as_ref().filter(|_| *state != RolloutState::Planning) {
        let Summary { customers, stacks, planned, unchanged, actions, failed, problem, unread, .. } = summary;
        let PlanCounts { create, update, replace, delete } = actions;
        lines.push(format!(
            "  {stacks} stacks of {customers} customers; for {planned} of them Terraform would create {create}, update {update}, \
             replace {replace} and delete {delete} resources; {unchanged} would stay as they are"
        ));
        if *failed > 0 {
            let problem = problem.as_deref().unwrap_or_default();
            lines.push(format!("  for {failed} there is no plan: {problem}"));
        }
        if *unread > 0 {
            lines.push(format!("  {unread} customers could not be read, and are not in it"));
        }
    }
    lines.join("\n")
}
