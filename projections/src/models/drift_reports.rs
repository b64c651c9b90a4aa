//! `drift_reports`: one row per drift that was found.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wanwright_schemas::report::DriftField;
use wanwright_schemas::{Change, CommandId, CustomerId, Kind};

use super::lifecycle::At;
use super::object::{ObjectKey, Step};
use crate::table::{Slots, Table};

/// How a drift was resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resolution {
    /// The desired state was applied.
    Applied,
    /// A later check found nothing.
    Disappeared,
    /// The object is gone.
    Removed,
    /// A later check found a drift again, which has its own report.
    FoundAgain,
}

/// The key of a drift report.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct DriftReportKey {
    /// The customer.
    pub customer: CustomerId,
    /// The object's kind.
    pub kind: Kind,
    /// The object.
    pub id: String,
    /// The command that asked to look.
    pub check_command: CommandId,
}

/// A row of `drift_reports`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriftReportRow {
    /// The customer.
    pub customer: CustomerId,
    /// The object's kind.
    pub kind: Kind,
    /// The object.
    pub id: String,
    /// The command that asked to look.
    pub check_command: CommandId,
    /// What differs.
    pub fields: Vec<DriftField>,
    /// When it was found.
    pub found_at: Timestamp,
    /// When it was resolved.
    pub resolved_at: Option<Timestamp>,
    /// How it was resolved.
    pub resolution: Option<Resolution>,
    /// The stream of the last event about it.
    pub stream: String,
    /// The sequence of the last message about it.
    pub sequence: u64,
}

impl Table for DriftReportRow {
    type Key = DriftReportKey;
    const NAME: &'static str = "drift_reports";
    const KEY: &'static [&'static str] = &["customer", "kind", "id", "check_command"];
    fn key(&self) -> DriftReportKey {
        DriftReportKey {
            customer: self.customer.clone(),
            kind: self.kind,
            id: self.id.clone(),
            check_command: self.check_command,
        }
    }
}

/// Resolves the report that a change answers and opens the one it makes. `step` is what the change did to the object.
pub fn follow<S>(
    rows: &mut Slots<DriftReportRow>,
    kind: Kind,
    object: &ObjectKey,
    change: &Change<S>,
    step: &Step,
    at: &At,
) {
    let resolution = match change {
        Change::Applied { .. } => Some(Resolution::Applied),
        Change::DriftNotFound { .. } => Some(Resolution::Disappeared),
        Change::Created { .. } => Some(Resolution::Removed),
        change if change.is_end() => Some(Resolution::Removed),
        Change::DriftFound { .. } => Some(Resolution::FoundAgain),
        _ => None,
    };
    let key = |check| DriftReportKey {
        customer: object.customer.clone(),
        kind,
        id: object.id.clone(),
        check_command: check,
    };
    if let (Some(open), Some(resolution)) = (&step.drift, resolution)
        && let Some(row) = rows.get_mut(&key(open.check))
    {
        row.resolved_at = Some(at.time);
        row.resolution = Some(resolution);
        row.stream.clone_from(&at.stream);
        row.sequence = at.sequence;
    }
    if let Change::DriftFound { check, fields } = change {
        rows.put(DriftReportRow {
            customer: object.customer.clone(),
            kind,
            id: object.id.clone(),
            check_command: *check,
            fields: fields.clone(),
            found_at: at.time,
            resolved_at: None,
            resolution: None,
            stream: at.stream.clone(),
            sequence: at.sequence,
        });
    }
}
