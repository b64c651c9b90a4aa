//! Read models in Postgres, folded from the streams.
//!
//! [`Projections`] drives one reader per read model and stream. A reader takes a batch of messages, loads the rows they
//! touch, folds in memory ([`models`], pure), and writes rows and checkpoint in one transaction. What does not fit (a gap,
//! a wrong chain, another incarnation, an event nobody can read) stops that reader by name ([`Stop`]) and no other.
//!
//! [`read`] is the typed way to query the tables, [`wait_for`] waits for a position, [`rebuild`] folds beside the live
//! tables and merges in one transaction, [`verify`] compares by hash and changes nothing. A [`Signer`] vouches for what the streams held.
#![warn(missing_docs)]

mod audit;
mod beside;
mod buckets;
mod checkpoint;
mod error;
mod events;
mod live;
mod message;
mod migrate;
pub mod models;
mod overview;
mod prune;
pub mod read;
mod reader;
mod readiness;
mod rebuild;
mod records;
mod run;
mod table;
mod tail;
mod thin;
mod verify;
mod wait;

pub use audit::{Signer, accept, heads};
pub use checkpoint::StatusRow;
pub use error::{Error, Stop};
pub use events::{EventRows, Touched};
pub use message::EventMessage;
pub use migrate::migrate;
pub use overview::{CustomerOverview, customer_overview};
pub use prune::{Keep, prune};
pub use readiness::{ReaderState, Readiness};
pub use rebuild::{Rebuilt, folded_otherwise, rebuild, rebuild_all, rebuild_customer, restart};
pub use run::{Config, Projections, ReadModel};
pub use table::{Slots, Table};
pub use thin::thin;
pub use verify::{Verified, verify};
pub use wait::{WaitError, wait_for};
