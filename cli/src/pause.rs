//! `wanwright pause` and `wanwright resume`: orders of a vendor or a customer wait, or go on.

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use jiff::{SignedDuration, Timestamp};
use wanwright_nats::Nats;
use wanwright_nats::accounts::Credentials;
use wanwright_schemas::control::{Control, ControlRequest, Scope};
use wanwright_schemas::{Outcome, services};

use crate::cli::{Connection, OutcomeFormat};
use crate::endpoints::Login;
use crate::exit::{Exit, TimedOut, Unreachable, Usage};
use crate::output;

/// `pause`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  wanwright pause vendor simwan --reason 'their maintenance' --until 2h\n  \
    wanwright pause customer acme --reason 'moving house' --until 2026-12-24T12:00:00Z\n\nWhat runs ends in peace; what is \
    decided meanwhile waits. Exit codes: 0 done, 3 refused."
)]
pub struct PauseArgs {
    #[command(flatten)]
    of: Of,
    /// Why.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// When it ends by itself: a time such as 2026-12-24T12:00:00Z, or how long from now, such as 90m or 2h.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

/// `resume`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  wanwright resume vendor simwan\n\nExit codes: 0 done, 3 refused.")]
pub struct ResumeArgs {
    #[command(flatten)]
    of: Of,
    /// Why.
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

/// What is paused or resumed, and by whom.
#[derive(Debug, Args)]
struct Of {
    #[command(flatten)]
    connection: Connection,
    /// A vendor or a customer.
    scope: ScopeWord,
    /// Its name.
    name: String,
    /// Who says so: the name of the login, unless the login may speak for anybody.
    #[arg(long, env = "WANWRIGHT_ACTOR")]
    actor: Option<String>,
    /// How to print.
    #[arg(short, long, default_value = "text")]
    output: OutcomeFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ScopeWord {
    Vendor,
    Customer,
}

/// Pauses a vendor or a customer.
pub async fn pause(args: PauseArgs) -> Result<Exit> {
    let until = args.until.as_deref().map(|text| end(text, Timestamp::now())).transpose()?;
    ask(args.of, true, ControlRequest { reason: args.reason, until }).await
}

/// Has a vendor or a customer go on.
pub async fn resume(args: ResumeArgs) -> Result<Exit> {
    ask(args.of, false, ControlRequest { reason: args.reason, until: None }).await
}

/// When a pause ends: a time, or so long from now.
fn end(text: &str, now: Timestamp) -> Result<Timestamp> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let length = text.parse::<SignedDuration>().ok().and_then(|length| now.checked_add(length).ok());
    length.ok_or_else(|| {
        let what = format!(
            "--until {text}: it is a time such as 2026-12-24T12:00:00Z, or how long, such as 90m or 2h"
        );
        Usage(what).into()
    })
}

async fn ask(of: Of, paused: bool, request: ControlRequest) -> Result<Exit> {
    let word = if of.scope == ScopeWord::Vendor { "vendor" } else { "customer" };
    let scope = Scope::parse(word, &of.name).map_err(|refusal| Usage(refusal.message))?;
    let actor = of.connection.actor(of.actor.as_deref())?;
    let actor = actor.parse().map_err(|error| Usage(format!("--actor: {error}")))?;
    let subject = services::control(&actor, &scope, paused);
    // The server refuses a message in silence: whoever lacks the right would wait in vain.
    if let Some(creds) = of.connection.access(Login::Person)?.creds {
        let creds = Credentials::read(&creds)?;
        anyhow::ensure!(
            creds.may_publish(&subject),
            Usage(format!("`{}` is no operator: it may pause and resume nothing", creds.name))
        );
    }
    let nats = of.connection.nats_unasked(Login::Person, "wanwright-pause").await?;
    match said(&nats, subject, &request).await? {
        Ok(control) => {
            match of.output {
                OutcomeFormat::Json => output::line(serde_json::to_string(&control)?),
                OutcomeFormat::Text => output::line(text(&control)),
            }
            Ok(Exit::Done)
        }
        Err(refused) => {
            match of.output {
                OutcomeFormat::Json => output::line(serde_json::to_string(&refused)?),
                OutcomeFormat::Text => {
                    let refusal = refused.refusal().context("the answer is no refusal")?;
                    output::line(format!(
                        "refused  {}: {}\n  {}",
                        refusal.code, refusal.message, refusal.next
                    ));
                }
            }
            Ok(Exit::Refused)
        }
    }
}

/// Asks the command service; inside, its refusal.
pub async fn said(
    nats: &Nats,
    subject: String,
    request: &ControlRequest,
) -> Result<Result<Control, Outcome>> {
    let asked = nats.client.request(subject, serde_json::to_vec(request)?.into()).await;
    let answer = asked.map_err(|error| match error.kind() {
        async_nats::RequestErrorKind::TimedOut => TimedOut(
            "the command service did not answer in time, and may still write it down: look with `wanwright doctor`"
                .to_owned(),
        ),
        _ => Unreachable(format!("no command service answers, so nothing was changed: {error}")),
    })?;
    if let Ok(control) = serde_json::from_slice::<Control>(&answer.payload) {
        return Ok(Ok(control));
    }
    Ok(Err(serde_json::from_slice(&answer.payload).context("the answer is neither a control nor a refusal")?))
}

/// A control in a line.
pub fn text(control: &Control) -> String {
    let Control { scope, actor, reason, until, .. } = control;
    let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    if !control.paused {
        return format!("{scope} goes on, says {actor}{reason}");
    }
    let end = until.map_or("until somebody resumes it".to_owned(), |until| format!("until {until:.0}"));
    format!("{scope} is paused by {actor} {end}{reason}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_time_or_a_length() {
        let now = Timestamp::from_second(1_000_000).expect("a time");
        let after = |text: &str| end(text, now).map(|end| end.as_second() - now.as_second()).ok();
        assert_eq!((after("90m"), after("2h"), after("1h 30m")), (Some(5400), Some(7200), Some(5400)));
        assert_eq!(end("2026-12-24T12:00:00Z", now).expect("a time").to_string(), "2026-12-24T12:00:00Z");
        assert_eq!((after("soon"), after("")), (None, None));
    }
}
