//! `wanwright up` and `demo`, and what is asked about an installation.

use std::net::SocketAddr;

use clap::{Args, ValueEnum};

use super::shared::{Connection, Home, Vendors};

/// `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    #[command(flatten)]
    pub up: UpArgs,
    /// End when the fleet has converged and both drifts were found: 0 if so, 1 otherwise.
    #[arg(long)]
    pub once: bool,
    /// Longest time for the fleet to converge, in seconds.
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    pub timeout: u64,
}

/// `up`.
#[derive(Debug, Args)]
pub struct UpArgs {
    #[command(flatten)]
    pub home: Home,
    #[command(flatten)]
    pub vendors: Vendors,
    #[command(flatten)]
    pub partitions: PartitionsArg,
    /// How many executor processes to start. They share each vendor's budget.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub executors: u16,
    /// How many Terraform runs each executor process has at once; one for each core unless given, and at least two.
    #[arg(long, value_name = "N", value_parser = super::serve::at_once)]
    pub terraforms: Option<usize>,
    /// What survives a loss of power.
    #[arg(long, value_enum, default_value_t = Profile::Durable, env = "WANWRIGHT_PROFILE")]
    pub profile: Profile,
    #[command(flatten)]
    pub between: Between,
}

/// What stands between the roles and the servers, for campaigns that cut their connections.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Between {
    /// Where the roles find NATS, instead of where it is.
    #[arg(long, value_name = "HOST:PORT", hide = true)]
    pub nats_through: Option<SocketAddr>,
    /// Where the roles find Postgres, instead of where it is.
    #[arg(long, value_name = "HOST:PORT", hide = true)]
    pub postgres_through: Option<SocketAddr>,
}

impl Between {
    /// The address of NATS as the roles are told it.
    pub fn nats(&self, direct: &str) -> String {
        self.nats_through.map_or_else(|| direct.to_owned(), |through| format!("nats://{through}"))
    }

    /// The URL of Postgres as the roles are told it; `address` is the part of it that says where it is.
    pub fn postgres(&self, direct: &str, address: &str) -> String {
        let through = self.postgres_through.map(|through| through.to_string());
        direct.replace(address, through.as_deref().unwrap_or(address))
    }
}

/// What a message that was acknowledged survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// Everything that was acknowledged is on the disk.
    Durable,
    /// Several times faster; a loss of power takes what was acknowledged in the last two minutes. Never by default.
    Fast,
}

/// Over how many partitions customers are spread in a new installation.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct PartitionsArg {
    /// Partitions of a new installation: 8 unless said otherwise, 32 for a large fleet. An installation that is there
    /// keeps its own; `nats repartition` changes it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub partitions: Option<u16>,
}

/// `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    pub connection: Connection,
    #[command(flatten)]
    pub vendors: Vendors,
}

/// `url`.
#[derive(Debug, Args)]
pub struct UrlArgs {
    #[command(flatten)]
    pub home: Home,
    /// Of what.
    pub what: UrlOf,
}

/// What has a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum UrlOf {
    /// NATS.
    Nats,
    /// The credentials file for NATS of whoever started it: the operator `demo`.
    Creds,
    /// Postgres, with login.
    Postgres,
    /// The simulated vendor.
    Simulator,
}
