//! The rows, one read model per file, and how an event changes them. Pure: no database, no clock.

pub mod budgets;
pub mod condition;
pub mod controls;
pub mod customers;
pub mod dead_letters;
pub mod devices;
pub mod diff;
pub mod drift_reports;
pub mod held;
pub mod lifecycle;
pub mod object;
pub mod operations;
pub mod outcomes;
pub mod plans;
pub mod queue;
pub mod rollouts;
pub mod run_log;
pub mod settings;
pub mod sites;
pub mod state;
pub mod timeline;
pub mod tunnels;

pub use budgets::{BudgetRow, VendorBudget};
pub use condition::{Condition, ConditionStatus};
pub use controls::ControlRow;
pub use customers::CustomerRow;
pub use dead_letters::DeadLetterRow;
pub use devices::DeviceRow;
pub use diff::FieldChange;
pub use drift_reports::{DriftReportRow, Resolution};
pub use held::HeldChange;
pub use lifecycle::Lifecycle;
pub use operations::{OperationRow, OperationState, WaitingFor};
pub use outcomes::OutcomeRow;
pub use plans::{PlanRow, PlanState};
pub use queue::QueueRow;
pub use rollouts::{RolloutCustomer, RolloutRow};
pub use run_log::RunLogRow;
pub use settings::{Settings, Waiting};
pub use sites::SiteRow;
pub use state::{
    Acknowledgement, Approval, ApprovalState, Drift, Health, Postponement, Release, State, Sync,
};
pub use timeline::TimelineRow;
pub use tunnels::TunnelRow;
