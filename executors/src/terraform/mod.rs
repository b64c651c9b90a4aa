//! The Terraform engine: real Terraform, one process group per run, on a state that wanwright keeps.

mod archive;
mod backup;
mod bounded;
mod carry_out;
mod creates;
mod engine;
mod error;
mod findings;
mod folder;
mod foreign;
#[cfg(test)]
mod hostile_templates;
mod inputs;
mod keeper;
mod left;
mod messages;
mod neighbours;
mod outcomes;
mod planning;
mod process;
mod provider;
mod reconcile;
mod remains;
#[cfg(test)]
mod rivals;
mod runner;
mod spool;
mod state;
mod store;
mod template;
#[cfg(test)]
mod tests;
mod waiting;

pub use archive::{Accepted, Resealed, Restored, StateRow, StateVersion, States};
pub use backup::{Backup, BackupError, BackupFile, BackupManifest, RestoredStack, Tell, Verdict};
pub use engine::{Config, TerraformEngine, USUAL_LIMIT};
pub use error::TerraformError;
pub use store::StoreError;
pub use waiting::{WaitingState, host, waiting_states};
