//! The Terraform engine: real Terraform, one process group per run, on a state that wanwright keeps.

mod archive;
mod engine;
mod findings;
mod foreign;
mod inputs;
mod keeper;
mod left;
mod messages;
mod neighbours;
mod planning;
mod process;
mod provider;
mod remains;
#[cfg(test)]
mod rivals;
mod spool;
mod state;
mod store;
mod template;
#[cfg(test)]
mod tests;
mod waiting;

pub use archive::{Resealed, Restored, StateRow, StateVersion, States};
pub use engine::{Config, TerraformEngine, TerraformError};
pub use store::StoreError;
pub use waiting::{WaitingState, host, waiting_states};
