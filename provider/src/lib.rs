//! `terraform-provider-wanwright`: a Terraform provider whose resources are what the vendor folders describe.
//!
//! For each `api/<kind>.toml` of each vendor there is a resource `wanwright_<vendor>_<kind>` with that file's
//! attributes, `id` and `idempotency_key`. It speaks plugin protocol 6 and does its calls with the client of
//! `wanwright-vendors`, so a vendor with nothing but an HTTP API is usable from Terraform.
//!
//! It is served in two ways. Either it is started before ([`serve_reattach`], or [`Listening`] inside a process that has
//! other things to do too) and Terraform is told where it listens through `TF_REATTACH_PROVIDERS`; or Terraform installs
//! the program `terraform-provider-wanwright` and starts it ([`plugin`]). One socket serves one Terraform run at a time,
//! because a run configures the provider behind it.
//!
//! The layers, from the inside: `cty` and `wire` (Terraform's values), `resource`, `schema` and `observe` (resource types and
//! their states), `validate` and `plan` (pure), `apply`, `import`, `data` and `timeouts` (call the vendor), `service` and
//! `protocol` (the protocol), `serve` and `plugin` (sockets). [`release`] writes what
//! a registry or a mirror has of a provider, [`package`] reads it and knows its hashes.

#![warn(missing_docs)]

mod apply;
mod args;
mod bounded;
#[cfg(test)]
mod conformance;
mod cty;
mod data;
mod diagnostic;
mod docs;
mod host;
mod import;
mod observe;
pub mod package;
mod plan;
pub mod plugin;
// Public for whoever stands between Terraform and a provider and reads what they say; no promise is made about it.
#[doc(hidden)]
pub mod proto;
mod protocol;
pub mod release;
mod resource;
mod schema;
mod serve;
mod service;
mod timeouts;
mod unpack;
mod validate;
mod wire;

pub use args::{ProviderArgs, run};
pub use docs::docs;
pub use resource::resource_type;
pub use serve::{
    CreateEnd, Creates, Doubt, Listening, ServeError, ServeOptions, reattach_providers, serve_reattach,
};
