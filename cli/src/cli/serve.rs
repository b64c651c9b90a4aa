//! Single roles: `serve` and `simulator`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::shared::{Connection, MasterKey, StateKey, Vendors};

/// A role of the running system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Decides commands.
    Commands,
    /// Keeps the table of orders.
    Dispatcher,
    /// Carries orders out: scheduler, gateway and engines.
    Executors,
    /// Keeps the read models.
    Projections,
}

/// `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The role.
    pub role: Role,
    #[command(flatten)]
    pub connection: Connection,
    #[command(flatten)]
    pub vendors: Vendors,
    #[command(flatten)]
    pub master_key: MasterKey,
    #[command(flatten)]
    pub state_key: StateKey,
    /// Where a vendor is, instead of where its folder says: NAME=URL. May be repeated.
    #[arg(
        long = "vendor-url",
        env = "WANWRIGHT_VENDOR_URLS",
        value_delimiter = ',',
        value_name = "NAME=URL"
    )]
    pub vendor_urls: Vec<String>,
    /// Folder of the signed heads. By default, `audit` in the home folder.
    #[arg(long, env = "WANWRIGHT_AUDIT_DIR", value_name = "DIR")]
    pub audit_dir: Option<PathBuf>,
    /// Folder for Terraform's runs and what was not yet stored of its states (executors; `executor` in the home folder
    /// unless given). Each process needs one of its own, and its next start the same one.
    #[arg(long, value_name = "DIR")]
    pub work: Option<PathBuf>,
    /// How many Terraform runs there are at once (executors; one for each core unless given, and at least two).
    #[arg(long, value_name = "N", value_parser = at_once)]
    pub terraforms: Option<usize>,
    /// Longest run of Terraform, in seconds (executors; 900 unless given). What takes longer is stopped, keeps its state, and
    /// is tried again.
    #[arg(
        long,
        env = "WANWRIGHT_TERRAFORM_LIMIT",
        value_name = "SECONDS",
        value_parser = clap::value_parser!(u64).range(1..=86_400)
    )]
    pub terraform_limit: Option<u64>,
    /// Filesystem mirror with the Terraform providers that vendors' templates name and that are not ours (executors;
    /// `providers` in the home folder unless given).
    #[arg(long, env = "WANWRIGHT_PROVIDERS", value_name = "DIR")]
    pub providers: Option<PathBuf>,
    /// How long the id of a command is good, in hours, 1 to 24 (commands; 24 unless given): a repeat within that time
    /// gets the first outcome, an older id is refused. A shorter window takes less memory for each customer.
    #[arg(long, value_name = "HOURS", value_parser = clap::value_parser!(u64).range(1..=24))]
    pub window: Option<u64>,
    /// How much memory the states of customers may take, in MiB (commands; 512 unless given). A customer whose state is
    /// not there is loaded from its snapshot and history, so a small cache costs time, nothing else.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    pub cache: Option<u64>,
}

/// `simulator`.
#[derive(Debug, Args)]
pub struct SimulatorArgs {
    /// The vendor folder that says what the simulator offers.
    #[arg(long, default_value = "vendors/simwan", value_name = "DIR")]
    pub vendor: PathBuf,
    /// Folder for its objects.
    #[arg(long, default_value = ".wanwright/simulator", value_name = "DIR")]
    pub data: PathBuf,
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:9000", value_name = "ADDRESS")]
    pub listen: std::net::SocketAddr,
    /// Token of API calls.
    #[arg(long, env = "WANWRIGHT_SIMWAN_TOKEN", hide_env_values = true)]
    pub token: String,
    /// Token of the back door.
    #[arg(long, env = "WANWRIGHT_SIMWAN_ADMIN_TOKEN", hide_env_values = true)]
    pub admin_token: String,
}

/// A number of runs.
pub(super) fn at_once(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(runs @ 1..=256) => Ok(runs),
        _ => Err("a number from 1 to 256".to_owned()),
    }
}
