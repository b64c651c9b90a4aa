//! Everything wanwright does with JetStream, in one place.
//!
//! [`topology`] holds every stream, consumer and bucket as data. [`history`] is the event store: one subject per
//! customer, appended to with the sequence that was decided on. [`table`] is the table of orders, [`lease`] and
//! [`claim`] are exclusive rights, [`budgets`] what is left of vendors' budgets, [`timer`] wakes somebody later,
//! [`snapshot`] keeps states that are made again from a history, [`keys`] the keys of personal data, [`controls`] what is
//! paused, [`rollouts`] how new versions of templates are given out, [`states`] the second copies of Terraform's states,
//! [`plans`] its plan files, [`dead`] what could not be handled, [`inventory`] what should be in other streams, [`follow`] reads a
//! stream for ever, [`unreadable`] finds messages that no client can read, [`replicas`]
//! servers that lack messages. [`trace`] goes from message to message in
//! headers. [`members`] of a role hear of each other. [`accounts`] says who may do what, [`evidence`] what a stream held.

pub mod accounts;
pub mod budgets;
pub mod claim;
pub mod connect;
pub mod controls;
pub mod dead;
pub mod error;
pub mod evidence;
pub mod follow;
pub mod history;
pub mod inventory;
pub mod keys;
pub mod lease;
pub mod load;
pub mod members;
pub mod partitions;
mod parts;
pub mod plans;
pub mod publish;
pub mod repartition;
pub mod replicas;
pub mod rollouts;
pub mod snapshot;
pub mod states;
pub mod table;
pub mod timer;
pub mod topology;
pub mod trace;
pub mod unreadable;

pub use budgets::Budgets;
pub use connect::{Access, Nats, Tls, connect};
pub use controls::Controls;
pub use error::{NatsError, chain};
pub use follow::{Follower, StoredMessage, StreamInfo, stream_info};
pub use history::{AppendError, History};
pub use keys::{DataKey, KeyError, Keys, StateKeys, StatePlace};
pub use lease::{Fence, Held, Lease, Leases};
pub use load::{load_page, load_subject};
pub use plans::{PlanError, PlanFiles, PlanPlace};
pub use rollouts::Rollouts;
pub use snapshot::{Snapshot, Snapshots};
pub use states::{SealedState, StateCopies};
pub use table::{OrderTable, TableRow};

#[cfg(test)]
#[path = "../../schemas/tests/wire/spoilt.rs"]
mod spoilt;
