//! What wanwright knows about each vendor.
//!
//! A vendor is a folder of data beside this crate (see `README.md` there). [`Catalogue::load`] reads every folder,
//! checks it whole, and hands out values that never change afterwards, so they are shared without locks. The feature
//! `client` adds [`ResourceClient`], the one HTTP client that does what an `api/<kind>.toml` says; without it this crate
//! pulls in no I/O crate.

#![warn(missing_docs)]

mod attributes;
mod budget;
mod catalogue;
#[cfg(feature = "client")]
mod client;
mod error;
mod folder;
mod kind;
mod live;
mod resource;
mod schema;
mod section;
mod suggest;
mod terraform;
mod vendor;

pub use attributes::FieldDifference;
pub use budget::{Breaker, Budget, BusyAnswer, Counted, RateLimit, Scope};
pub use catalogue::Catalogue;
#[cfg(feature = "client")]
pub use client::{
    ClientError, ClientOptions, CreateError, Created, Deleted, RemoteObject, ResourceClient, VendorHttp,
};
pub use error::LoadError;
pub use kind::Kind;
pub use live::{PAUSE, RefreshError, Refreshed, Vendors, Watching};
pub use resource::{Attribute, AttributeType, ListApi, Presence, ResourceApi, UpdateMethod};
pub use schema::{
    FieldError, FieldErrorKind, FieldExplained, InvalidVersion, KindSchemas, Present, RuleExplained,
    SchemaError, SchemaVersion, StructuralSchema, UnknownVersion,
};
pub use terraform::{StackOutput, TerraformTemplate};
pub use vendor::{Connection, CredentialRef, CredentialSource, Engine, ErrorPointers, Limits, Vendor};
