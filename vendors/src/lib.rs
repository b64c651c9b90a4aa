//! What wanwright knows about each vendor.
//!
//! A vendor is a folder of data beside this crate (see `README.md` there). [`Catalogue::load`] reads every folder,
//! checks it whole, and hands out values that never change afterwards, so they are shared without locks. The feature
//! `client` adds [`ResourceClient`], the one HTTP client that does what an `api/<kind>.toml` says, and `check` the check
//! of a folder with its recorded examples; without them this crate pulls in no I/O crate.

#![warn(missing_docs)]

mod access;
mod attributes;
mod budget;
mod catalogue;
#[cfg(feature = "check")]
pub mod check;
#[cfg(feature = "client")]
mod client;
mod differences;
mod error;
mod errors;
mod folder;
mod hcl;
mod kind;
mod live;
mod normal;
mod pointer;
mod providers;
mod resource;
mod schema;
mod section;
mod suggest;
mod terraform;
mod vendor;

pub use access::{
    AccountRef, AccountRefused, CredentialRef, CredentialSource, OAuthBody, OAuthRef, SecretsFolder,
    SecretsRef, secret_name,
};
pub use budget::{Breaker, Budget, BusyAnswer, Counted, RateLimit, Scope};
pub use catalogue::Catalogue;
#[cfg(feature = "client")]
pub use client::{
    Brought, BulkAnswer, BulkChange, BulkItem, Carried, Carrier, ClientError, ClientOptions, CreateError,
    Created, Deleted, JobNote, JobNotes, JobOf, LOOKS_HEADER, Pages, Patience, RemoteObject, ResourceClient,
    VendorHttp,
};
pub use differences::FieldDifference;
pub use error::LoadError;
pub use errors::{Complaint, ErrorClass, ErrorPointers, ErrorRule, ErrorRules};
pub use kind::Kind;
pub use live::{PAUSE, RefreshError, Refreshed, Vendors, Watching};
pub use providers::ForeignProvider;
pub use resource::{
    Attribute, AttributePath, AttributeType, Body, Bounds, BulkApi, BulkKey, Bulks, Count, CountOf,
    HttpMethod, IdPlace, JobApi, ListApi, Normal, Operation, Paging, PathStep, Presence, ResourceApi, Shape,
    Template, Wire,
};
pub use schema::{
    FieldError, FieldErrorKind, FieldExplained, InvalidVersion, KindSchemas, Present, RuleExplained,
    SchemaError, SchemaVersion, StructuralSchema, UnknownVersion,
};
pub use terraform::{StackOutput, TerraformTemplate};
pub use vendor::{Connection, Engine, Limits, Proxy, Vendor};
