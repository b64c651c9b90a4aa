//! Rollouts: another version of a vendor's template, given to its stacks in waves.
//!
//! A vendor has one record, the newest rollout's. It says what is wanted and how far that is; which stack has which version
//! is in the customers' histories, and is counted from them.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{Actor, CustomerId, VendorId};
use crate::plan::PlanCounts;
use crate::reason::{Reason, Refusal};

/// The version this code writes.
pub const ROLLOUT_VERSION: u64 = 1;

/// Requests of a dispatcher that an executor say what Terraform would do: `wan.estimate.<vendor>`.
pub const ESTIMATE_ALL: &str = "wan.estimate.*";

/// Where an executor is asked what Terraform would do to a stack of a vendor. The body is an
/// order that plans; nothing of it is kept.
pub fn estimate(vendor: &VendorId) -> String {
    format!("wan.estimate.{vendor}")
}

/// How far a rollout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RolloutState {
    /// What Terraform would do to the fleet is being found out.
    Planning,
    /// That is known, and nothing was changed.
    Planned,
    /// Stacks are given the version.
    Running,
    /// No other stack is given it until somebody resumes it.
    Paused,
    /// No other stack is given it: too much failed, or somebody stopped it.
    Stopped,
    /// Every stack has it, but those that could not be given it.
    Done,
}

impl RolloutState {
    /// The state in one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Planning => "planning",
            Self::Planned => "planned",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Done => "done",
        }
    }

    /// Whether another rollout of the vendor has to wait for it.
    pub fn is_under_way(self) -> bool {
        matches!(self, Self::Planning | Self::Running | Self::Paused)
    }
}

/// What becomes of a wave with a stack that is held: suspended, frozen, waiting for an approval or a change window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhenHeld {
    /// It waits for the stack.
    #[default]
    Wait,
    /// It goes on without the stack, which follows when it can.
    Skip,
    /// The stack counts as failed.
    Fail,
}

/// How a rollout goes about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waves {
    /// The customers of the first wave.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub canaries: BTreeSet<CustomerId>,
    /// How much of the customers has the version after each further wave, in percent; the last one is 100.
    pub steps: Vec<u8>,
    /// How many failed stacks stop it; none: no number does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_failures: Option<u32>,
    /// How much of the stacks of the waves so far has to fail to stop it, in percent; none: no share does. With one, a wave of
    /// which everything failed stops it too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_failures_percent: Option<u8>,
    /// What becomes of a wave with a stack that is held.
    #[serde(default)]
    pub when_held: WhenHeld,
    /// How long it rests after each wave, in seconds.
    #[serde(default)]
    pub pause_seconds: u32,
    /// Most customers whose stacks are being changed at once.
    pub at_once: u32,
}

/// How its stacks are, as they were counted last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Customers with such stacks.
    pub customers: u32,
    /// Stacks it is about.
    pub stacks: u32,
    /// Those it did not come to.
    pub waiting: u32,
    /// Those that are being changed.
    pub progressing: u32,
    /// Those that have the version: it was brought about there.
    pub applied: u32,
    /// Those that were given the version and failed before they had it.
    pub failed: u32,
    /// Those that are suspended, frozen, or wait for an approval or a change window.
    pub held: u32,
    /// Those whose customer took the version back.
    pub taken_back: u32,
    /// Those that it leaves alone: they had failed before it came to them, and not because of a version.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failed_before: u32,
    /// Customers of whom it is not known how they are: they could not be read, or nothing could be given to them. While there
    /// are any in the waves so far it neither goes on to the next one nor ends.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unread: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes what it may leave out by reference")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// What a version would do to the fleet: what Terraform plans for some stacks or all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Most stacks to plan for; 0 for all.
    pub sample: u32,
    /// Customers with stacks that would be given it.
    pub customers: u32,
    /// Those stacks.
    pub stacks: u32,
    /// The stacks that Terraform planned for.
    pub planned: u32,
    /// The planned stacks to which nothing would be done.
    pub unchanged: u32,
    /// What would be done to the planned ones together.
    pub actions: PlanCounts,
    /// The stacks for which there is no plan.
    pub failed: u32,
    /// Why there is none for the first of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Customers that could not be read: nothing above is about them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unread: u32,
}

/// The newest rollout of a vendor's template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// The record's version.
    pub v: u64,
    /// Whose template.
    pub vendor: VendorId,
    /// Which rollout of the vendor, from 1.
    pub number: u64,
    /// The version that its stacks have.
    pub from: u32,
    /// The version that they get.
    pub to: u32,
    /// The digest of that one when it was started: the folder's may not be another.
    pub digest: String,
    /// The rollout that it takes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolls_back: Option<u64>,
    /// How it goes about it.
    pub waves: Waves,
    /// How far it is.
    pub state: RolloutState,
    /// Why, where it is paused or stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The wave it is at: 0 are the canaries.
    pub wave: u32,
    /// When all of that wave was done; none before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wave_ended: Option<Timestamp>,
    /// How its stacks are.
    #[serde(default)]
    pub counts: Counts,
    /// What it would do, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
    /// Who started it.
    pub by: Actor,
    /// When it was started or planned.
    pub began: Timestamp,
    /// When it was written last.
    pub time: Timestamp,
}

/// What an operator asks of a vendor's rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RolloutVerb {
    /// Say what a version would do to the fleet.
    Plan,
    /// Give stacks the version, wave by wave.
    Start,
    /// Say how it is.
    Status,
    /// Give it to no other stack for a while.
    Pause,
    /// Go on.
    Resume,
    /// Give it to no other stack.
    Stop,
    /// Give every stack that was given it, and has it, the version before.
    Rollback,
}

impl RolloutVerb {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Plan, Self::Start, Self::Status, Self::Pause, Self::Resume, Self::Stop, Self::Rollback];

    /// The word in a subject.
    pub fn word(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::Start => "start",
            Self::Status => "status",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Stop => "stop",
            Self::Rollback => "rollback",
        }
    }

    /// The subject on which an operator asks: one of those of the controls.
    pub fn subject(self, actor: &Actor, vendor: &VendorId) -> String {
        format!("wan.control.{actor}.{}.rollout.{vendor}", self.word())
    }
}

/// Reads who asks what of which vendor's rollout; none for a subject that is about something else.
///
/// # Errors
/// The refusal of one that is about a rollout and does not say all of it.
pub fn asked(subject: &str) -> Result<Option<(Actor, RolloutVerb, VendorId)>, Refusal> {
    let tokens: Vec<&str> = subject.split('.').collect();
    let ["wan", "control", actor, verb, "rollout", vendor] = tokens[..] else { return Ok(None) };
    let bad = |error: crate::ids::InvalidToken| Refusal::new(Reason::BadSubject, error.to_string());
    let Some(verb) = RolloutVerb::ALL.into_iter().find(|known| known.word() == verb) else {
        let known: Vec<&str> = RolloutVerb::ALL.iter().map(|verb| verb.word()).collect();
        let message = format!("a rollout has no `{verb}`; there are {}", known.join(", "));
        return Err(Refusal::new(Reason::BadSubject, message));
    };
    Ok(Some((actor.parse().map_err(bad)?, verb, vendor.parse().map_err(bad)?)))
}

/// The body of what an operator asks. What is not said is what it was, or the usual.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RolloutRequest {
    /// The version that stacks are to get (`plan`, `start`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<u32>,
    /// The version that they have; without it the one that new stacks get, or the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<u32>,
    /// Most stacks to plan for; 0 for all (`plan`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample: Option<u32>,
    /// The customers of the first wave (`start`).
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub canaries: BTreeSet<CustomerId>,
    /// How much of the customers has it after each further wave, in percent (`start`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<Vec<u8>>,
    /// How many failed stacks stop it (`start`, `resume`); 0 for no number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_failures: Option<u32>,
    /// How much of the stacks of the waves so far, in percent, has to fail to stop it (`start`, `resume`); 0 for no share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_failures_percent: Option<u8>,
    /// What becomes of a wave with a stack that is held (`start`, `resume`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when_held: Option<WhenHeld>,
    /// How long it rests after each wave, in seconds (`start`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause_seconds: Option<u32>,
    /// Most customers whose stacks are being changed at once (`start`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_once: Option<u32>,
    /// Why (`pause`, `stop`).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// What an executor found that Terraform would do to a stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "lowercase")]
pub enum Estimated {
    /// This.
    Planned(PlanCounts),
    /// There is no plan.
    Failed {
        /// Why.
        message: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_of_a_rollout_is_read_as_it_is_written() {
        let (actor, vendor): (Actor, VendorId) =
            ("olga".parse().expect("an actor"), "simwan".parse().expect("a vendor"));
        for verb in RolloutVerb::ALL {
            let read = asked(&verb.subject(&actor, &vendor));
            assert_eq!(read, Ok(Some((actor.clone(), verb, vendor.clone()))));
        }
        assert_eq!(asked("wan.control.olga.pause.vendor.simwan"), Ok(None));
        assert!(asked("wan.control.olga.restart.rollout.simwan").is_err());
        assert!(asked("wan.control.olga.stop.rollout.A").is_err());
    }

    /// What is stored keeps its form: these lines may never change.
    #[test]
    fn a_stored_rollout_reads_and_is_written_as_it_was() {
        for line in [
            r#"{"v":1,"vendor":"simwan","number":2,"from":1,"to":2,"digest":"5f","waves":{"canaries":["acme"],"steps":[10,100],"max_failures":1,"max_failures_percent":5,"when_held":"wait","pause_seconds":60,"at_once":20},"state":"stopped","why":"2 stacks failed","wave":1,"wave_ended":"2026-11-21T08:00:00Z","counts":{"customers":3,"stacks":9,"waiting":1,"progressing":2,"applied":2,"failed":2,"held":1,"taken_back":1},"summary":{"sample":20,"customers":3,"stacks":9,"planned":8,"unchanged":1,"actions":{"create":1,"update":2,"delete":4,"replace":3},"failed":1,"problem":"no"},"by":"olga","began":"2026-11-21T07:00:00Z","time":"2026-11-21T08:00:00Z"}"#,
            r#"{"v":1,"vendor":"simwan","number":3,"from":2,"to":1,"digest":"5f","rolls_back":2,"waves":{"steps":[100],"when_held":"skip","pause_seconds":0,"at_once":20},"state":"running","wave":1,"counts":{"customers":0,"stacks":0,"waiting":0,"progressing":0,"applied":0,"failed":0,"held":0,"taken_back":0},"by":"olga","began":"2026-11-21T07:00:00Z","time":"2026-11-21T08:00:00Z"}"#,
        ] {
            let rollout: Rollout = serde_json::from_str(line).expect("a rollout");
            assert_eq!(serde_json::to_string(&rollout).expect("JSON"), line);
        }
    }
}
