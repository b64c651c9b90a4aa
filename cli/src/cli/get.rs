//! What is read: `get`, `watch`, `drift`, `replay` and `rebuild`.

use clap::{Args, Subcommand, ValueEnum};

use super::shared::{Connection, MasterKey, RowFormat};

/// What `get` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Rows {
    /// Customers with their counts.
    #[value(alias = "customer")]
    Customers,
    /// Sites.
    #[value(alias = "site")]
    Sites,
    /// Tunnels.
    #[value(alias = "tunnel")]
    Tunnels,
    /// Devices.
    #[value(alias = "device")]
    Devices,
    /// Orders: what is waiting, running, done or failed, and why.
    #[value(alias = "operation")]
    Operations,
    /// Changes that wait before there is an order for them: for a window, an approval, `resume` or another object.
    Held,
    /// The newest rollout of each vendor's template, and with a vendor's name how far it is with each customer.
    #[value(alias = "rollout")]
    Rollouts,
    /// Plans of stacks, newest first: what would change, whose approval it needs, what became of it.
    #[value(alias = "plan")]
    Plans,
    /// Drift reports.
    Drift,
    /// What happened to a customer, newest first.
    Timeline,
    /// Outcomes of commands, newest first.
    #[value(alias = "outcome")]
    Outcomes,
    /// How far each read model is.
    Projections,
    /// Vendors' limits: what is used, waits, is blocked, held back or paused.
    #[value(alias = "budget")]
    Budgets,
    /// Orders that have not ended, counted by customer and vendor, and what they wait for.
    Queue,
    /// What could not be handled, newest first.
    Dead,
}

/// `get`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  wanwright get sites -c acme\n  wanwright get devices --health Degraded -o json\n  \
    wanwright get operations --state failed --vendor simwan\n  wanwright get queue\n  wanwright get held -c acme\n  wanwright get budgets\n  wanwright get customers acme -o json"
)]
pub struct GetArgs {
    #[command(flatten)]
    pub connection: Connection,
    /// What to show.
    pub rows: Rows,
    /// One of them, by its id.
    pub id: Option<String>,
    /// Of this customer only.
    #[arg(short, long)]
    pub customer: Option<String>,
    /// At this vendor only (sites, tunnels, devices, operations, held, queue, dead).
    #[arg(long)]
    pub vendor: Option<String>,
    /// With this health only (sites, tunnels, devices): Healthy, Progressing, Degraded, Suspended, Missing or Unknown.
    #[arg(long)]
    pub health: Option<String>,
    /// With this state only (operations): waiting, running, retrying, succeeded, failed, superseded, withdrawn, cancelled, unknown.
    #[arg(long)]
    pub state: Option<String>,
    /// Most rows to show.
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub limit: u32,
    /// Rows behind this place: the `next` of an earlier answer.
    #[arg(long, value_name = "PLACE")]
    pub after: Option<String>,
    /// How to print.
    #[arg(short, long, default_value = "table")]
    pub output: RowFormat,
    /// Show contacts as they were typed (sites, devices). It takes the master key.
    #[arg(long)]
    pub reveal: bool,
    #[command(flatten)]
    pub master_key: MasterKey,
}

/// `watch`.
#[derive(Debug, Args)]
pub struct WatchArgs {
    #[command(flatten)]
    pub connection: Connection,
    /// Of this customer only. With the login of a customer: its name; such a login is told decisions and their results.
    pub customer: Option<String>,
    /// Decisions only, without the detail of runs.
    #[arg(long)]
    pub events: bool,
}

/// `plan`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  wanwright plan show acme/oslo-01")]
pub struct PlanArgs {
    /// What to do.
    #[command(subcommand)]
    pub what: PlanCommand,
}

/// What `plan` does.
#[derive(Debug, Subcommand)]
pub enum PlanCommand {
    /// Print the newest plan of a site's stack: what would change, and what it waits for.
    Show(PlanShowArgs),
}

/// `plan show`.
#[derive(Debug, Args)]
pub struct PlanShowArgs {
    #[command(flatten)]
    pub connection: Connection,
    /// The site, as CUSTOMER/SITE.
    pub site: String,
    /// The plan with this hash instead of the newest.
    #[arg(long, value_name = "HASH")]
    pub hash: Option<String>,
    /// How to print.
    #[arg(short, long, default_value = "table")]
    pub output: RowFormat,
}

/// `drift`.
#[derive(Debug, Args)]
pub struct DriftArgs {
    #[command(flatten)]
    pub connection: Connection,
    /// Customers to look at; all when none is given.
    pub customers: Vec<String>,
    /// Print what is known without looking at the vendors.
    #[arg(long)]
    pub known: bool,
    /// Longest wait for the looks, in seconds.
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    pub timeout: u64,
    /// How to print.
    #[arg(short, long, default_value = "table")]
    pub output: RowFormat,
}

/// `replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    #[command(flatten)]
    pub connection: Connection,
    /// The customer.
    pub customer: String,
    /// From behind this sequence on.
    #[arg(long, default_value_t = 0, value_name = "SEQUENCE")]
    pub after: u64,
    /// Print the messages as they are stored.
    #[arg(long)]
    pub raw: bool,
}

/// `rebuild`.
#[derive(Debug, Args)]
pub struct RebuildArgs {
    #[command(flatten)]
    pub connection: Connection,
    /// Only compare; change nothing.
    #[arg(long)]
    pub verify: bool,
    /// Also the overviews, and also what is left of streams that hold no customers any more: after the number of
    /// partitions has changed.
    #[arg(long, conflicts_with = "verify")]
    pub all: bool,
}
