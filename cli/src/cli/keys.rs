//! Personal data: `reveal`, `erase` and `keys`.

use clap::{Args, Subcommand, ValueEnum};

use super::shared::{Connection, MasterKey, StateKey};

/// `reveal`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  wanwright reveal site acme/oslo-01")]
pub struct RevealArgs {
    #[command(flatten)]
    pub connection: Connection,
    #[command(flatten)]
    pub master_key: MasterKey,
    /// Kind of object: site or device.
    pub kind: String,
    /// The object: CUSTOMER/ID.
    pub object: String,
    /// How to print.
    #[arg(short, long, default_value = "text")]
    pub output: RevealFormat,
}

/// How a contact is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RevealFormat {
    /// For people.
    Text,
    /// A JSON object.
    Json,
}

/// `erase`.
#[derive(Debug, Args)]
#[command(
    after_help = "The key of the customer's personal data is destroyed; the history stays and says so. It cannot be undone."
)]
pub struct EraseArgs {
    #[command(flatten)]
    pub connection: Connection,
    /// The customer.
    pub customer: String,
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
    /// Who sends it: the name of the login, unless the login may speak for anybody.
    #[arg(long, env = "WANWRIGHT_ACTOR")]
    pub actor: Option<String>,
}

/// `keys`.
#[derive(Debug, Args)]
pub struct KeysArgs {
    #[command(flatten)]
    pub connection: Connection,
    #[command(flatten)]
    pub master_key: MasterKey,
    #[command(flatten)]
    pub state_key: StateKey,
    /// What to do.
    #[command(subcommand)]
    pub what: KeysWhat,
}

/// `keys …`.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum KeysWhat {
    /// Make a new master key, wrap every key of personal data with it and forget the older one; make a new key for
    /// Terraform's states and seal every version with it. The older keys of states stay in their file, because spools and
    /// backups need them. Nothing has to be stopped.
    Rotate {
        /// Only these keys.
        #[arg(long, value_name = "KEYS")]
        only: Option<KeysOf>,
    },
}

/// What keys are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KeysOf {
    /// Personal data.
    Personal,
    /// Terraform's states.
    States,
}
