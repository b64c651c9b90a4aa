//! `wanwright send`.

use clap::Args;

use super::shared::{Connection, OutcomeFormat};

/// `send`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  wanwright send site create acme/oslo-02 '{\"vendor\":\"simwan\",\"lan\":[\"10.9.0.0/24\"]}'\n  \
    wanwright send device change acme/oslo-ap-01 '{\"settings\":{\"vlan\":42}}'\n  \
    wanwright send site decommission acme/oslo-02 '{\"cascade\":true}'\n  \
    wanwright send site suspend acme/oslo-01 '{\"reason\":\"works at the site\"}'\n  \
    wanwright send device approve acme/oslo-ap-01 '{\"generation\":3}' --actor boss\n  \
    wanwright send customer freeze acme '{\"name\":\"christmas\",\"from\":\"2026-12-20T00:00\",\"to\":\"2027-01-02T00:00\",\
    \"zone\":\"Europe/Oslo\",\"reason\":\"nobody is there\"}'\n  \
    wanwright send customer change acme '{\"policy\":{\"device\":\"approve\",\"site\":\"plan\"}}'\n  \
    wanwright send site approve acme/oslo-01 '{\"generation\":3,\"plan\":\"sha256:…\"}' --actor boss\n  \
    wanwright send customer change acme '{\"windows\":{\"nights\":{\"zone\":\"Europe/Oslo\",\"from\":\"22:00\",\"to\":\"04:00\"}}}'\n  \
    wanwright send site release acme/oslo-01 '{\"reason\":\"the line is down\"}'\n  \
    wanwright send device revert acme/oslo-ap-01 '{\"to_generation\":2}'\n\nExit codes: 0 accepted, 3 refused."
)]
pub struct SendArgs {
    #[command(flatten)]
    pub connection: Connection,
    /// Kind of object: customer, site, tunnel or device.
    pub kind: String,
    /// Verb: create, change, cancel, revert, approve, reject, release, suspend, resume, protect, unprotect, decommission, retry,
    /// check-drift, acknowledge or note; for a customer change, approve, reject, suspend, resume, freeze, unfreeze,
    /// decommission, check-drift or note.
    pub verb: String,
    /// The object: CUSTOMER/ID, or CUSTOMER for a customer.
    pub object: String,
    /// The body, as JSON; `-` reads it from standard input.
    #[arg(default_value = "")]
    pub body: String,
    /// Who sends it: the name of the login, unless the login may speak for anybody.
    #[arg(long, env = "WANWRIGHT_ACTOR")]
    pub actor: Option<String>,
    /// Id of the command, a UUIDv7; a repeat with the same id changes nothing. Minted when not given.
    #[arg(long, value_name = "UUID")]
    pub id: Option<String>,
    /// Refuse the command unless the object has this generation.
    #[arg(long, value_name = "N")]
    pub expected_generation: Option<u64>,
    /// Answer what would follow, and write nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// With --dry-run: answer what Terraform would do as well. An executor is asked, which may take a minute.
    #[arg(long, requires = "dry_run")]
    pub plan: bool,
    /// Version of the vendor's settings that the body speaks, for example `v1`; the stored one when not given.
    #[arg(long = "schema", value_name = "VERSION")]
    pub schema: Option<String>,
    /// Publish it into the durable inbox and do not wait for the outcome; `get outcomes` shows it later.
    #[arg(long = "async", conflicts_with = "dry_run")]
    pub durable: bool,
    /// How to print the outcome.
    #[arg(short, long, default_value = "text")]
    pub output: OutcomeFormat,
}
