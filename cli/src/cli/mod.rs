//! The command line.

mod bench;
mod explain;
mod get;
mod keys;
mod nats;
mod send;
mod serve;
mod shared;
mod up;

use clap::{Parser, Subcommand};

pub use bench::{
    BenchArgs, BenchWhat, CommandsArgs, CustomersArgs, DamageArgs, FleetArgs, RacesArgs, SoakArgs,
    TerraformArgs,
};
pub use explain::{ExplainArgs, SchemaArgs};
pub use get::{
    DriftArgs, GetArgs, PlanArgs, PlanCommand, PlanShowArgs, RebuildArgs, ReplayArgs, Rows, WatchArgs,
};
pub use keys::{EraseArgs, KeysArgs, KeysOf, KeysWhat, RevealArgs, RevealFormat};
pub use nats::{
    AccountWhat, ApplyArgs, KindOfUser, NatsArgs, NatsWhat, RepairArgs, RepartitionArgs, UserWhat,
};
pub use send::SendArgs;
pub use serve::{Role, ServeArgs, SimulatorArgs};
pub use shared::{Connection, Home, MasterKey, OutcomeFormat, RowFormat, StateKey, Vendors};
pub use up::{Between, DemoArgs, DoctorArgs, PartitionsArg, Profile, UpArgs, UrlArgs, UrlOf};

/// An event-sourced control plane for multi-vendor SD-WAN.
///
/// You publish a command on NATS; wanwright judges it against that customer's history, records the decision as events,
/// carries it out inside the vendors' limits, and keeps Postgres tables of what should be, what is and what drifted.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 done; 1 failed, or there is a difference; 2 wrong usage; 3 refused by a \
    rule;\n5 NATS or Postgres cannot be reached; 8 time ran out; 130 interrupted before the end\n(`up` and `demo` that are stopped after they were ready end with 0).\n\nStart with: wanwright demo"
)]
pub struct Cli {
    /// What to log to standard error, for example `info` or `wanwright_commands=debug`.
    #[arg(long, global = true, env = "WANWRIGHT_LOG", default_value = "warn", value_name = "FILTER")]
    pub log: String,
    /// What to do.
    #[command(subcommand)]
    pub mode: Mode,
}

/// The modes.
#[derive(Debug, Subcommand)]
pub enum Mode {
    /// Start everything on this machine with an example fleet, and find two drifts. Not for production.
    Demo(DemoArgs),
    /// Start everything on this machine, without the fleet.
    Up(UpArgs),
    /// Send a command and print its outcome.
    Send(SendArgs),
    /// Show customers, sites, tunnels, devices, operations, drift or the timeline.
    Get(GetArgs),
    /// Say which kinds, versions, fields, rules and verbs a vendor has.
    Explain(ExplainArgs),
    /// Check a vendor's folder, or have calls go on where a vendor asked in error to be left alone.
    Vendor(crate::vendor::VendorArgs),
    /// Print whom to talk to about a site or a device. It takes the master key.
    Reveal(RevealArgs),
    /// Make a customer's personal data unreadable, for ever.
    Erase(EraseArgs),
    /// Work on the keys of personal data and of Terraform's states.
    Keys(KeysArgs),
    /// List, show, compare or restore Terraform's states.
    State(crate::state::StateArgs),
    /// List, show, send back or drop what could not be handled.
    Dead(crate::dead::DeadArgs),
    /// Have all orders of a vendor or a customer wait. For operators.
    Pause(crate::pause::PauseArgs),
    /// Have the orders of a vendor or a customer go on. For operators.
    Resume(crate::pause::ResumeArgs),
    /// Give a vendor's stacks another version of its Terraform template, wave by wave. For operators.
    Rollout(crate::rollout::RolloutArgs),
    /// Show what happens, as it happens.
    Watch(WatchArgs),
    /// Print everything that was written down about one order: tries, steps, calls, and what they took.
    Log(crate::log::LogArgs),
    /// Print what would be done to a stack, and what that waits for.
    Plan(PlanArgs),
    /// Look for drift at the vendors and print the report; exits with 1 when there is some.
    Drift(DriftArgs),
    /// Print a customer's history from the stream, an event a line.
    Replay(ReplayArgs),
    /// Build every read model anew from the streams, beside the live tables, and compare.
    Rebuild(RebuildArgs),
    /// Export the histories with signed evidence, and tell whether they are what they were.
    Audit(crate::audit::AuditArgs),
    /// Print where NATS, Postgres or the simulated vendor of the running system is.
    Url(UrlArgs),
    /// Say what is missing on this machine, and how to get it.
    Doctor(DoctorArgs),
    /// Print the JSON Schema of a command's body, of an event or of another message.
    Schema(SchemaArgs),
    /// Show, create or replicate the streams that wanwright needs; accounts and users.
    Nats(NatsArgs),
    /// Campaigns that measure and judge.
    Bench(BenchArgs),
    /// Run one role; `up` and `demo` start them all.
    Serve(ServeArgs),
    /// Run the simulated vendor.
    Simulator(SimulatorArgs),
    /// Run the Terraform provider.
    Provider(wanwright_provider::ProviderArgs),
}
