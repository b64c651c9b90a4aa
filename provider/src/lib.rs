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
//! The layers, from the inside: `cty` (Terraform's values), `resource` (resource types and their states), `plan`
//! (pure), `apply` (calls the vendor), `service` (the protocol), `serve` and `plugin` (sockets). [`release`] writes what
//! a registry or a mirror has of a provider, [`package`] reads it and knows its hashes.

#![warn(missing_docs)]

mod apply;
mod args;
mod cty;
mod diagnostic;
mod host;
pub mod package;
mod plan;
pub mod plugin;
// Public for whoever stands between Terraform and a provider and reads what they say; no promise is made about it.
#[doc(hidden)]
pub mod proto;
pub mod release;
mod resource;
mod serve;
mod service;
mod unpack;

pub use args::{ProviderArgs, run};
pub use serve::{Listening, ServeError, ServeOptions, reattach_providers, serve_reattach};
