//! The published language of wanwright.
//!
//! Everything that crosses a process boundary is defined here, once: the ids and the subjects they travel on, commands,
//! events and the envelope that carries them, outcomes and the reasons of refusals, orders, run records and the effect
//! journal. The wire form of each type is frozen by version; the files under `frozen/` prove that every version ever
//! written still reads.
#![warn(missing_docs)]

pub mod body;
pub mod cloudevent;
pub mod command;
pub mod contact;
pub mod control;
pub mod effect;
pub mod envelope;
pub mod event;
pub mod headers;
pub mod ids;
#[cfg(feature = "json-schema")]
pub mod json;
pub mod order;
pub mod outcome;
pub mod plan;
pub mod policy;
pub mod published;
pub mod reason;
pub mod remarks;
pub mod report;
pub mod rollout;
pub mod rule;
pub mod run;
pub mod schema_ref;
pub mod services;
pub mod spec;
pub mod strict;
pub mod subjects;
pub mod template;
pub mod trace;
pub mod upcast;
pub mod window;

pub use command::{Command, CommandBody, ObjectRef};
pub use contact::{Contact, KeyId, SealedText};
pub use envelope::{Digest, Envelope};
pub use event::{Change, Event};
pub use ids::{Actor, CommandId, CustomerId, DeviceId, Kind, OrderId, SiteId, TunnelId, VendorId};
pub use order::{Order, Target};
pub use outcome::{Outcome, Position};
pub use reason::{Reason, Refusal};
pub use schema_ref::SchemaRef;
pub use template::Template;
