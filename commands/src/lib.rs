//! The command side.
//!
//! The pure half decides: [`decide`] answers events, nothing (a repeat) or a refusal; [`Customer::evolve`] folds
//! events; [`orders`] says what follows. It has no clock, no randomness and no I/O; what it needs arrives in the command.
//! The feature `service` adds the half that talks to NATS.

pub mod accounts;
mod addresses;
mod approvals;
mod calendar;
pub mod cancel;
mod cascade;
mod customer;
mod decide;
mod device;
pub mod explain;
mod freezes;
mod head;
mod holds;
mod load;
mod loosening;
mod missed;
mod object;
pub mod orders;
mod own;
mod plans;
mod recent;
mod remarks;
mod report;
pub mod revert;
pub mod rollouts;
mod settings;
mod site;
pub mod templates;
mod tunnel;
mod waits;
mod windows;

pub use customer::{Customer, Own, Waiting};
pub use decide::{Circumstances, ROLLOUT, SWEEPER, decide};
pub use head::{BrokenHistory, Head, STATE_VERSION, Unthawable};
pub use load::{Loading, Regressed};
pub use object::{Acknowledgement, Approval, Failure, Object, Observed, Planned, Planning, Postponement};
pub use recent::{Recent, Recents};

#[cfg(feature = "service")]
pub mod service;

#[cfg(test)]
#[path = "../../schemas/tests/wire/spoilt.rs"]
mod spoilt;
