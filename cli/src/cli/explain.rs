//! `wanwright explain` and `schema`.

use clap::Args;

use super::shared::{OutcomeFormat, Vendors};

/// `explain`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  wanwright explain simwan\n  wanwright explain simwan device\n  \
    wanwright explain simwan device.vlan\n  wanwright explain simwan device --version v1 -o json")]
pub struct ExplainArgs {
    #[command(flatten)]
    pub vendors: Vendors,
    /// The vendor; every vendor when none is given.
    pub vendor: Option<String>,
    /// The kind, or one of its fields: KIND or KIND.FIELD
    #[arg(value_name = "KIND[.FIELD]")]
    pub what: Option<String>,
    /// Another version than the one settings are stored in, for example `v1`.
    #[arg(long = "version", value_name = "VERSION", requires = "what")]
    pub schema: Option<String>,
    /// How to print.
    #[arg(short, long, default_value = "text")]
    pub output: OutcomeFormat,
}

/// `schema`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  wanwright schema\n  wanwright schema site.create\n  wanwright schema event"
)]
pub struct SchemaArgs {
    /// Which: KIND.VERB for the body of a command. All names are printed when none is given.
    pub name: Option<String>,
}
