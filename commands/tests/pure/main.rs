//! The rules, without NATS: given accepted commands, when a command arrives on its subject, then events or a refusal.

mod changes;
mod contact;
mod device;
mod explain;
mod fleet;
mod harness;
mod history;
mod life;
mod model;
mod orders;
mod properties;
mod reports;
mod settings;
mod site;
mod stack;
mod tunnel;
mod vendors;
