//! The columns that sites, tunnels and devices share, and what a change makes of them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use wanwright_schemas::report::Outputs;
use wanwright_schemas::{Change, CommandId};

use super::condition::{Condition, conditions};
use super::state::State;

/// Where and when something was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At {
    /// The stream.
    pub stream: String,
    /// The sequence of the message.
    pub sequence: u64,
    /// When, by the command service's clock.
    pub time: Timestamp,
    /// The command that was decided.
    pub command: CommandId,
}

/// The columns that sites, tunnels and devices share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifecycle {
    /// The command that created the object.
    pub uid: CommandId,
    /// How the object is.
    #[serde(flatten)]
    pub state: State,
    /// What the object is at the vendor.
    pub outputs: Outputs,
    /// The drift check that has not been answered.
    pub checking: Option<CommandId>,
    /// When a drift check was answered last.
    pub checked_at: Option<Timestamp>,
    /// `Ready`, `Provisioned` and `InSync`.
    pub conditions: Vec<Condition>,
    /// The order that applied or failed last.
    pub last_order: Option<Uuid>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When its specification changed last.
    pub changed_at: Timestamp,
    /// When a generation was applied last.
    pub applied_at: Option<Timestamp>,
    /// When the last event about it was decided.
    pub updated_at: Timestamp,
    /// The stream with the last event about it.
    pub stream: String,
    /// The sequence of the last message about it.
    pub sequence: u64,
}

impl Lifecycle {
    /// An object that was just created.
    pub fn created(generation: u64, at: &At) -> Self {
        let state = State::created(generation);
        Self {
            uid: at.command,
            outputs: Outputs::new(),
            checking: None,
            checked_at: None,
            conditions: conditions(&state, &[], at.time),
            state,
            last_order: None,
            created_at: at.time,
            changed_at: at.time,
            applied_at: None,
            updated_at: at.time,
            stream: at.stream.clone(),
            sequence: at.sequence,
        }
    }

    /// What a change makes of it.
    pub fn evolve<S>(&mut self, change: &Change<S>, at: &At) {
        self.state.evolve(change, at.time);
        match change {
            Change::Changed { .. } | Change::DecommissionRequested { .. } | Change::ContactChanged { .. } => {
                self.changed_at = at.time;
            }
            Change::DriftCheckRequested { check } => self.checking = Some(*check),
            Change::DriftFound { check, .. } | Change::DriftNotFound { check } => {
                self.checked_at = Some(at.time);
                if self.checking == Some(*check) {
                    self.checking = None;
                }
            }
            Change::Applied { order, outputs, .. } => {
                self.last_order = Some(order.uuid());
                self.applied_at = Some(at.time);
                self.outputs = outputs.clone();
            }
            Change::Failed { order, .. } => self.last_order = Some(order.uuid()),
            _ => {}
        }
        self.conditions = conditions(&self.state, &self.conditions, at.time);
        self.updated_at = at.time;
        self.stream.clone_from(&at.stream);
        self.sequence = at.sequence;
    }
}
