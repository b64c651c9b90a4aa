//! Options that several subcommands share.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Where everything of an installation on this machine is.
#[derive(Debug, Clone, Args)]
pub struct Home {
    /// Folder for data, logs and what was downloaded.
    #[arg(long, env = "WANWRIGHT_HOME", default_value = ".wanwright", value_name = "DIR")]
    pub home: PathBuf,
}

/// Where the vendors' folders are.
#[derive(Debug, Clone, Args)]
pub struct Vendors {
    /// Folder with the vendors' folders.
    #[arg(long, env = "WANWRIGHT_VENDORS", default_value = "vendors", value_name = "DIR")]
    pub vendors: PathBuf,
}

/// Where a running wanwright is. Without these options: the one started here by `demo` or `up`.
#[derive(Debug, Clone, Args)]
pub struct Connection {
    #[command(flatten)]
    pub home: Home,
    /// NATS server: nats://host:port with --creds, or nats://user:password@host:port. Those of a cluster are separated by
    /// commas.
    #[arg(long, env = "WANWRIGHT_NATS", value_name = "URL", hide_env_values = true)]
    pub nats: Option<String>,
    /// Credentials file for NATS, as `wanwright nats user add` writes it.
    #[arg(long, env = "WANWRIGHT_NATS_CREDS", value_name = "FILE")]
    pub creds: Option<PathBuf>,
    /// Certificate authorities to believe when connecting to NATS, PEM; the connection is then always encrypted.
    #[arg(long, env = "WANWRIGHT_NATS_CA", value_name = "FILE")]
    pub nats_ca: Option<PathBuf>,
    /// Our own certificate, PEM, for a NATS server that asks for one.
    #[arg(long, env = "WANWRIGHT_NATS_CERT", value_name = "FILE", requires = "nats_key")]
    pub nats_cert: Option<PathBuf>,
    /// The key of that certificate, PEM.
    #[arg(long, env = "WANWRIGHT_NATS_KEY", value_name = "FILE", requires = "nats_cert")]
    pub nats_key: Option<PathBuf>,
    /// Postgres database: postgres://user:password@host:port/database
    #[arg(long, env = "WANWRIGHT_POSTGRES", value_name = "URL", hide_env_values = true)]
    pub postgres: Option<String>,
}

/// The file of the master keys, which wrap the keys of customers' personal data.
#[derive(Debug, Clone, Args)]
pub struct MasterKey {
    /// File of the master keys; keys/master.key in the home folder when none is given. Back it up apart from the streams.
    #[arg(long, env = "WANWRIGHT_MASTER_KEY_FILE", value_name = "FILE")]
    pub master_key_file: Option<PathBuf>,
}

/// The file of the keys that seal Terraform's states.
#[derive(Debug, Clone, Args)]
pub struct StateKey {
    /// File of the keys of Terraform's states; keys/state.key in the home folder when none is given. Executors on several
    /// machines need the same one. Back it up apart from Postgres: no state can be read without it.
    #[arg(long, env = "WANWRIGHT_STATE_KEY_FILE", value_name = "FILE")]
    pub state_key_file: Option<PathBuf>,
}

/// How an outcome is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutcomeFormat {
    /// For people.
    Text,
    /// The outcome as it is.
    Json,
}

/// How rows are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RowFormat {
    /// For people.
    Table,
    /// `{"items":[…],"next":…}`.
    Json,
    /// A row a line.
    Jsonl,
    /// KIND/CUSTOMER/ID, a line each.
    Name,
}
