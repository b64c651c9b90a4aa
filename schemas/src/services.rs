//! What a tenant is served besides requests: the ingress of the durable door, its history, its outcomes.
//!
//! A tenant's own account has these subjects with its own name in them and no others; the account, not the service, is
//! what keeps tenants apart. The services check the tokens all the same.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::control::Scope;
use crate::ids::{Actor, CommandId, CustomerId};
use crate::reason::{Reason, Refusal};
use crate::subjects::CommandSubject;

/// Durable commands as they leave a tenant's account, where they are called `wan.cmd.…`.
pub const SUBMIT_ALL: &str = "wan.submit.>";
/// Requests for a customer's history.
pub const HISTORY_ALL: &str = "wan.history.*.*";
/// Requests for the outcome of a command.
pub const OUTCOME_ALL: &str = "wan.outcome.*.*";
/// Requests to pause or resume the doing at a vendor, or for a customer: `wan.control.<actor>.<pause|resume>.<vendor|customer>.<name>`.
pub const CONTROL_ALL: &str = "wan.control.*.*.*.*";
/// What changed, said to whoever watches.
pub const LIVE_ALL: &str = "wan.live.>";

/// Most messages of a history in one answer.
pub const MAX_PAGE: usize = 1000;

/// Where a customer's history is asked for.
pub fn history(customer: &CustomerId, actor: &Actor) -> String {
    format!("wan.history.{customer}.{actor}")
}

/// Where the outcome of a customer's command is asked for.
pub fn outcome(customer: &CustomerId, actor: &Actor) -> String {
    format!("wan.outcome.{customer}.{actor}")
}

/// Where whoever watches a customer hears what changed.
pub fn live_of(customer: &CustomerId) -> String {
    format!("wan.live.{customer}.>")
}

/// Where an operator pauses a scope, or resumes it.
pub fn control(actor: &Actor, scope: &Scope, paused: bool) -> String {
    let verb = if paused { "pause" } else { "resume" };
    format!("wan.control.{actor}.{verb}.{}.{}", scope.word(), scope.name())
}

/// Reads who wants to pause (true) or resume what.
///
/// # Errors
/// The refusal of a subject that does not say all of it.
pub fn controlled(subject: &str) -> Result<(Actor, bool, Scope), Refusal> {
    let bad = |why: String| Refusal::new(Reason::BadSubject, why);
    let tokens: Vec<&str> = subject.split('.').collect();
    let ["wan", "control", actor, verb @ ("pause" | "resume"), scope, name] = tokens[..] else {
        let shown: String = subject.chars().take(200).collect();
        return Err(bad(format!("`{shown}` does not name an actor, `pause` or `resume`, and what")));
    };
    let actor = actor.parse().map_err(|error: crate::ids::InvalidToken| bad(error.to_string()))?;
    Ok((actor, verb == "pause", Scope::parse(scope, name)?))
}

/// Reads the subject of a durable command at the ingress.
///
/// # Errors
/// The refusal of a subject that names no command.
pub fn submitted(subject: &str) -> Result<CommandSubject, Refusal> {
    let tail = subject.strip_prefix("wan.submit.").unwrap_or_default();
    CommandSubject::parse(&format!("wan.cmd.{tail}"))
}

/// Reads whose history or outcome is asked for, and by whom.
///
/// # Errors
/// The refusal of a subject that does not say both.
pub fn asked(subject: &str) -> Result<(CustomerId, Actor), Refusal> {
    let bad = |why: String| Refusal::new(Reason::BadSubject, why);
    let tokens: Vec<&str> = subject.split('.').collect();
    let ["wan", _, customer, actor] = tokens[..] else {
        let shown: String = subject.chars().take(200).collect();
        return Err(bad(format!("`{shown}` does not name a customer and an actor")));
    };
    let invalid = |error: crate::ids::InvalidToken| bad(error.to_string());
    Ok((customer.parse().map_err(invalid)?, actor.parse().map_err(invalid)?))
}

/// A request for a part of a history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryRequest {
    /// Only messages behind this sequence; 0 begins at the beginning.
    #[serde(default)]
    pub after: u64,
    /// At most so many messages; there may be fewer, because an answer is bounded in bytes too.
    #[serde(default = "page")]
    pub limit: usize,
    /// The newest message alone, whatever else is asked for: where who follows a history begins.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub newest: bool,
}

fn page() -> usize {
    100
}

/// A part of a history.
#[derive(Debug, Serialize, Deserialize)]
pub struct HistoryPage {
    /// Whose.
    pub customer: CustomerId,
    /// The stream that the sequences count in, as positions name it.
    pub stream: String,
    /// The messages, oldest first.
    pub messages: Vec<HistoryMessage>,
    /// What to ask for `after` next; missing when this was all there is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// A message of a history.
#[derive(Debug, Serialize, Deserialize)]
pub struct HistoryMessage {
    /// Its place.
    pub sequence: u64,
    /// The envelope, byte for byte as it is stored, so that its chain can be checked.
    pub envelope: Box<RawValue>,
}

/// A request for the outcome of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutcomeRequest {
    /// The command.
    pub command: CommandId,
}

/// What the ingress answers to a command that is in the inbox. A refusal has the form of an outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename = "stored")]
pub struct Stored {
    /// The command; its id was minted by the ingress where the sender named none.
    pub command: CommandId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_submitted_is_read_as_a_durable_command() {
        let read = submitted("wan.submit.acme.anna.site.oslo.create").expect("a command");
        assert_eq!(read.durable(), "wan.cmd.acme.anna.site.oslo.create");
        for bad in ["wan.cmd.acme.anna.site.oslo.create", "wan.submit.acme", "wan.submit.A.b.site.c.create"] {
            assert_eq!(submitted(bad).expect_err(bad).code, Reason::BadSubject);
        }
    }

    #[test]
    fn a_pause_is_read_as_it_is_written() {
        let (actor, scope) =
            ("anna".parse().expect("an actor"), Scope::parse("vendor", "simwan").expect("a scope"));
        for paused in [true, false] {
            let subject = control(&actor, &scope, paused);
            assert_eq!(controlled(&subject), Ok((actor.clone(), paused, scope.clone())));
        }
        for bad in ["wan.control.anna.stop.vendor.simwan", "wan.control.anna.pause.device.a", "wan.control"] {
            assert_eq!(controlled(bad).expect_err(bad).code, Reason::BadSubject);
        }
    }

    #[test]
    fn whoever_asks_is_named_by_the_subject() {
        let (customer, actor) = asked("wan.history.acme.anna").expect("both");
        assert_eq!((customer.as_str(), actor.as_str()), ("acme", "anna"));
        assert_eq!(history(&customer, &actor), "wan.history.acme.anna");
        assert_eq!(live_of(&customer), "wan.live.acme.>");
        assert!(asked("wan.history.acme").is_err());
        assert!(asked("wan.history.acme.anna.more").is_err());
    }
}
