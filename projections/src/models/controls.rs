//! `controls`: what operators have paused and resumed.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wanwright_schemas::Actor;
use wanwright_schemas::control::Control;

use crate::message::micros;
use crate::table::Table;

/// The key of a control.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ControlKey {
    /// `vendor` or `customer`.
    pub scope: String,
    /// Which one.
    pub name: String,
}

/// A row of `controls`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlRow {
    /// `vendor` or `customer`.
    pub scope: String,
    /// Which one.
    pub name: String,
    /// Whether its orders wait, unless the pause is over.
    pub paused: bool,
    /// Who said so.
    pub actor: Actor,
    /// Why.
    pub reason: String,
    /// When the pause ends by itself.
    pub until: Option<Timestamp>,
    /// When it was said.
    pub time: Timestamp,
    /// The sequence in KV_controls.
    pub sequence: u64,
}

impl Table for ControlRow {
    type Key = ControlKey;
    const NAME: &'static str = "controls";
    const KEY: &'static [&'static str] = &["scope", "name"];
    fn key(&self) -> ControlKey {
        ControlKey { scope: self.scope.clone(), name: self.name.clone() }
    }
}

impl ControlRow {
    /// The row of a record.
    pub fn of(control: Control, sequence: u64) -> Self {
        Self {
            scope: control.scope.word().to_owned(),
            name: control.scope.name().to_owned(),
            paused: control.paused,
            actor: control.actor,
            reason: control.reason,
            until: control.until.map(micros),
            time: micros(control.time),
            sequence,
        }
    }
}
