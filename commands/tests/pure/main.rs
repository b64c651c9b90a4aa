//! The rules, without NATS: given accepted commands, when a command arrives on its subject, then events or a refusal.

mod approvals;
mod asks;
mod cascade;
mod changes;
mod contact;
mod customer;
mod device;
mod explain;
mod fleet;
mod freezes;
mod harness;
mod history;
mod holds;
mod life;
mod model;
mod orders;
mod properties;
mod remarks;
mod reports;
mod revert;
mod settings;
mod site;
mod stack;
mod tunnel;
mod vendors;
mod windows;
