//! How an object is: what its events say about generation, failure and drift, and the two words for it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use wanwright_schemas::policy::Name;
use wanwright_schemas::remarks::Trouble;
use wanwright_schemas::report::DriftField;
use wanwright_schemas::rule::Approvals;
use wanwright_schemas::{Actor, Change, CommandId};

/// How an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Health {
    /// The vendor has what is wanted, as far as is known.
    Healthy,
    /// A change is on its way.
    Progressing,
    /// The change failed for good; a person has to look.
    Degraded,
    /// Nothing is done about it because somebody asked for that.
    Suspended,
    /// The vendor does not have the object any more, though it is wanted.
    Missing,
    /// Nothing is known.
    Unknown,
}

impl Health {
    /// The health as it stands in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "Healthy",
            Self::Progressing => "Progressing",
            Self::Degraded => "Degraded",
            Self::Suspended => "Suspended",
            Self::Missing => "Missing",
            Self::Unknown => "Unknown",
        }
    }
}

/// Whether the vendor has what is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Sync {
    /// It has.
    Synced,
    /// It has something else.
    OutOfSync,
    /// Nothing was applied yet.
    Unknown,
}

impl Sync {
    /// The word as it stands in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Synced => "Synced",
            Self::OutOfSync => "OutOfSync",
            Self::Unknown => "Unknown",
        }
    }
}

/// A drift that is not resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    /// The command that asked to look.
    pub check: CommandId,
    /// When it was found.
    pub found_at: Timestamp,
    /// What differs.
    pub fields: Vec<DriftField>,
}

impl Drift {
    /// Whether the vendor has nothing of the object any more.
    pub fn is_gone(&self) -> bool {
        !self.fields.is_empty() && self.fields.iter().all(|field| field.observed.is_null())
    }

    /// What differs, in a sentence.
    pub fn summary(&self) -> String {
        if self.is_gone() {
            return "the vendor does not have the object any more".to_owned();
        }
        let names: Vec<&str> = self.fields.iter().map(|field| field.field.as_str()).collect();
        format!("the vendor has another value of {}", names.join(", "))
    }
}

/// Whether a generation may be brought about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ApprovalState {
    /// Somebody has to approve it.
    Waiting,
    /// Everybody who is needed has.
    Approved,
    /// Somebody refused it: it is not to be.
    Rejected,
}

/// The approval that a generation needs or had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Whether it has been given.
    pub state: ApprovalState,
    /// The generation.
    pub generation: u64,
    /// Who asked for what the generation brings.
    pub requested_by: Vec<Actor>,
    /// The approvals it needs.
    #[serde(default, skip_serializing_if = "Approvals::is_default")]
    pub approvals: Approvals,
    /// Who approved it last.
    pub approved_by: Option<Actor>,
    /// Who approved it before that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also_approved_by: Vec<Actor>,
    /// Who rejected it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected_by: Option<Actor>,
    /// Why it was rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejection: Option<String>,
}

impl Approval {
    /// One that nobody has given yet.
    fn asked(generation: u64, requested_by: &[Actor], approvals: &Approvals) -> Self {
        Self {
            state: ApprovalState::Waiting,
            generation,
            requested_by: requested_by.to_vec(),
            approvals: approvals.clone(),
            approved_by: None,
            also_approved_by: Vec::new(),
            rejected_by: None,
            rejection: None,
        }
    }

    /// How the approval stands, in a sentence.
    pub fn summary(&self) -> String {
        let asked = format!("generation {}, asked for by {},", self.generation, listed(&self.requested_by));
        match self.state {
            ApprovalState::Waiting => format!("{asked} waits for {}", self.missing()),
            ApprovalState::Approved => format!("{asked} was approved by {}", listed(self.approvers())),
            ApprovalState::Rejected => {
                let by = self.rejected_by.as_ref().map_or("somebody", Actor::as_str);
                format!("{asked} was rejected by {by}: {}", self.rejection.as_deref().unwrap_or_default())
            }
        }
    }

    /// Who approved it.
    fn approvers(&self) -> impl Iterator<Item = &Actor> {
        self.also_approved_by.iter().chain(&self.approved_by)
    }

    /// Whose approval is missing.
    fn missing(&self) -> String {
        let Approvals { by, group } = &self.approvals;
        if self.approvals.is_default() {
            return "somebody else's approval".to_owned();
        }
        let given = self.approvers().count();
        let whose = group.as_ref().map(|group| format!(" of the group {group}")).unwrap_or_default();
        format!("approvals{whose}: {given} of {by} are there")
    }

    fn approve(&mut self, by: &Actor) {
        self.also_approved_by.extend(self.approved_by.replace(by.clone()));
        let given = self.approvers().count();
        if u32::try_from(given).is_ok_and(|given| given >= self.approvals.by) {
            self.state = ApprovalState::Approved;
        }
    }
}

fn listed<'a>(actors: impl IntoIterator<Item = &'a Actor>) -> String {
    actors.into_iter().map(Actor::as_str).collect::<Vec<_>>().join(", ")
}

/// That what is to be done waits for a change window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Postponement {
    /// The generation.
    pub generation: u64,
    /// When a window opens, as it was judged last; none where none does as far as could be told.
    pub until: Option<Timestamp>,
    /// Which.
    pub window: Option<Name>,
}

impl Postponement {
    /// What is waited for, in a sentence.
    pub fn summary(&self) -> String {
        let Self { generation, until, window } = self;
        match (until, window) {
            (Some(until), Some(window)) => {
                format!("generation {generation} waits for the change window {window}, not before {until}")
            }
            _ => format!("generation {generation} waits for a change window, and none opens"),
        }
    }
}

/// That what is to be done need not wait for a change window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// The generation.
    pub generation: u64,
    /// Who said so.
    pub by: Actor,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
}

/// That somebody knows of a trouble.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// The trouble.
    pub of: Trouble,
    /// Who knows of it.
    pub by: Actor,
    /// Since when.
    pub at: Timestamp,
    /// Why it is left as it is.
    pub reason: String,
    /// The moment up to which nobody else has to look, if there is one.
    pub until: Option<Timestamp>,
}

/// How an object is, without its specification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The generation that is wanted.
    pub generation: u64,
    /// The newest generation the vendor is known to have.
    pub observed_generation: Option<u64>,
    /// The reason's code when the last try failed for good.
    pub failure_code: Option<String>,
    /// The failure in a sentence.
    pub failure_message: Option<String>,
    /// The generation that failed.
    pub failed_generation: Option<u64>,
    /// The drift that is not resolved.
    pub drift: Option<Drift>,
    /// Whether it is being taken down.
    pub decommissioning: bool,
    /// Whether a person asked to try again and no answer has come yet.
    pub retry_pending: bool,
    /// How many times a person asked to try again.
    pub retries: u64,
    /// Whether nothing is done about it.
    #[serde(default)]
    pub suspended: bool,
    /// Why.
    #[serde(default)]
    pub suspend_reason: Option<String>,
    /// Whether it may not be taken down.
    #[serde(default)]
    pub protected: bool,
    /// The approval that the generation needs or had.
    #[serde(default)]
    pub approval: Option<Approval>,
    /// Whether what was asked for is to be planned, and there is no plan of it yet.
    #[serde(default)]
    pub planning: bool,
    /// The newest plan that nothing has become of yet: the order it was made for.
    #[serde(default)]
    pub plan: Option<Uuid>,
    /// That what is to be done waits for a change window.
    #[serde(default)]
    pub postponement: Option<Postponement>,
    /// That what is to be done need not wait for a change window.
    #[serde(default)]
    pub release: Option<Release>,
    /// That somebody knows of the trouble it has.
    #[serde(default)]
    pub acknowledgement: Option<Acknowledgement>,
    /// How it is.
    pub health: Health,
    /// Whether the vendor has what is wanted.
    pub sync: Sync,
}

impl State {
    /// An object that was just created.
    pub fn created(generation: u64) -> Self {
        Self {
            generation,
            observed_generation: None,
            failure_code: None,
            failure_message: None,
            failed_generation: None,
            drift: None,
            decommissioning: false,
            retry_pending: false,
            retries: 0,
            suspended: false,
            suspend_reason: None,
            protected: false,
            approval: None,
            planning: false,
            plan: None,
            postponement: None,
            release: None,
            acknowledgement: None,
            health: Health::Progressing,
            sync: Sync::Unknown,
        }
    }

    /// What a change makes of it. `time` is when the change was decided.
    pub fn evolve<S>(&mut self, change: &Change<S>, time: Timestamp) {
        match change {
            Change::Created { generation, .. } => *self = Self::created(*generation),
            Change::Changed { generation, .. } => {
                self.wish(*generation);
                // It was to go only where that was rejected.
                self.decommissioning = false;
            }
            Change::DecommissionRequested { generation } => {
                self.wish(*generation);
                self.decommissioning = true;
            }
            Change::TemplateAssigned { generation, .. } if *generation != self.generation => {
                self.wish(*generation);
            }
            Change::RetryRequested { retries } => {
                self.retries = *retries;
                self.retry_pending = true;
                self.forget_failure();
                self.acknowledgement = None;
                self.begin_anew();
            }
            Change::DriftCheckRequested { .. }
            | Change::Removed { .. }
            | Change::ContactChanged { .. }
            | Change::Noted { .. } => {}
            Change::Applied { generation, .. } => {
                self.observed_generation = Some(*generation);
                self.drift = None;
                self.retry_pending = false;
                self.is_news(Trouble::Drift);
                if *generation >= self.generation {
                    self.planning = false;
                    self.acknowledgement = None;
                    self.begin_anew();
                }
                // An answer about an older generation says nothing about the failure of a newer one.
                if self.failed_generation.is_some_and(|failed| failed <= *generation) {
                    self.forget_failure();
                }
            }
            // The vendor has this generation already.
            Change::Cancelled { generation, tried: false, .. } => {
                self.observed_generation = Some(*generation);
                self.planning = false;
            }
            Change::Failed { generation, code, message, .. } => {
                self.failure_code = Some(code.code().to_owned());
                self.failure_message = Some(message.clone());
                self.failed_generation = Some(*generation);
                self.retry_pending = false;
                self.is_news(Trouble::Failure);
                self.begin_anew();
            }
            Change::DriftFound { check, fields } => {
                if self.drift.as_ref().is_none_or(|known| known.fields != *fields) {
                    self.is_news(Trouble::Drift);
                }
                self.drift = Some(Drift { check: *check, found_at: time, fields: fields.clone() });
            }
            Change::DriftNotFound { .. } => {
                self.drift = None;
                self.is_news(Trouble::Drift);
            }
            _ => self.evolve_hold(change, time),
        }
        self.health = self.judge_health();
        self.sync = self.judge_sync();
    }

    fn evolve_hold<S>(&mut self, change: &Change<S>, time: Timestamp) {
        match change {
            Change::Suspended { reason } => {
                self.suspended = true;
                self.suspend_reason = Some(reason.clone());
            }
            Change::Resumed {} => {
                self.suspended = false;
                self.suspend_reason = None;
            }
            Change::Protected {} => self.protected = true,
            Change::Unprotected {} => self.protected = false,
            Change::ApprovalRequested { generation, requested_by, approvals } => {
                self.approval = Some(Approval::asked(*generation, requested_by, approvals));
            }
            Change::PlanRequested { .. } => {
                self.planning = true;
                self.plan = None;
            }
            Change::Planned { generation, order, requested_by, approvals, .. } => {
                self.planning = false;
                self.plan = Some(order.uuid());
                self.approval = approvals.as_ref().map(|of| Approval::asked(*generation, requested_by, of));
            }
            Change::PlanApplied { .. } => self.plan = None,
            Change::PlanStale { .. } => {
                self.planning = true;
                self.plan = None;
                self.approval = None;
            }
            Change::Approved { approved_by, .. } => {
                if let Some(approval) = &mut self.approval {
                    approval.approve(approved_by);
                }
            }
            Change::Rejected { rejected_by, reason, .. } => {
                if let Some(approval) = &mut self.approval {
                    approval.state = ApprovalState::Rejected;
                    approval.rejected_by = Some(rejected_by.clone());
                    approval.rejection = Some(reason.clone());
                }
            }
            Change::Postponed { generation, until, window } => {
                let (generation, until, window) = (*generation, *until, window.clone());
                self.postponement = Some(Postponement { generation, until, window });
            }
            Change::Due { .. } => self.postponement = None,
            Change::Released { generation, released_by, reason } => {
                let (by, reason) = (released_by.clone(), reason.clone());
                self.postponement = None;
                self.release = Some(Release { generation: *generation, by, at: time, reason });
            }
            Change::Acknowledged { of, acknowledged_by, reason, until } => {
                let (by, reason) = (acknowledged_by.clone(), reason.clone());
                self.acknowledgement = Some(Acknowledgement { of: *of, by, at: time, reason, until: *until });
            }
            _ => {}
        }
    }

    /// The approval that the generation still needs.
    pub fn waiting_for_approval(&self) -> Option<&Approval> {
        self.approval.as_ref().filter(|approval| approval.state == ApprovalState::Waiting)
    }

    fn wish(&mut self, generation: u64) {
        self.generation = generation;
        self.approval = None;
        self.plan = None;
        self.acknowledgement = None;
        self.begin_anew();
        self.forget_failure();
    }

    /// Forgets what was said of windows: it was about what is over now, or is to be done again.
    fn begin_anew(&mut self) {
        self.postponement = None;
        self.release = None;
    }

    /// Forgets that somebody knew of a trouble which is another one now.
    fn is_news(&mut self, trouble: Trouble) {
        self.acknowledgement = self.acknowledgement.take().filter(|known| known.of != trouble);
    }

    fn forget_failure(&mut self) {
        self.failure_code = None;
        self.failure_message = None;
        self.failed_generation = None;
    }

    /// Whether the generation that is wanted failed.
    pub fn has_failed(&self) -> bool {
        self.failed_generation.is_some_and(|failed| failed >= self.generation)
    }

    /// Whether the vendor has the generation that is wanted, as far as wanwright's own changes go.
    pub fn is_applied(&self) -> bool {
        !self.decommissioning && self.observed_generation.is_some_and(|observed| observed >= self.generation)
    }

    fn judge_health(&self) -> Health {
        if self.has_failed() {
            Health::Degraded
        } else if self.suspended {
            Health::Suspended
        } else if !self.is_applied() || self.retry_pending {
            Health::Progressing
        } else if self.drift.as_ref().is_some_and(Drift::is_gone) {
            Health::Missing
        } else {
            Health::Healthy
        }
    }

    fn judge_sync(&self) -> Sync {
        if self.drift.is_some() {
            Sync::OutOfSync
        } else if self.observed_generation.is_none() {
            Sync::Unknown
        } else if self.is_applied() {
            Sync::Synced
        } else {
            Sync::OutOfSync
        }
    }
}
