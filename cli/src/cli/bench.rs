//! `wanwright bench`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use wanwright_schemas::subjects::PARTITIONS;

use super::shared::Vendors;

/// `bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Which campaign.
    #[command(subcommand)]
    pub what: BenchWhat,
}

/// `bench …`.
#[derive(Debug, Subcommand)]
pub enum BenchWhat {
    /// What a command costs, beside what its messages cost bare and beside postgres-es. Build with --release.
    Commands(CommandsArgs),
    /// Load many customers through the command service: time, disk, memory, restart, and loads from deep histories.
    Customers(CustomersArgs),
    /// Damage the files of a stopped server again and again; 0 if every damage that took something was named to whoever
    /// asked, and no other was.
    Damage(DamageArgs),
    /// Use a vendor's budget whole and never beyond, fairly between customers; 0 if the vendor says so. Build with
    /// --release.
    Fleet(FleetArgs),
    /// Let several writers race on one customer while a server dies, then judge the history; 0 if every rule held.
    Races(RacesArgs),
    /// Kill and stop parts of a working system and cut their connections while its vendor has troubles, then compare
    /// histories, tables and vendor; 0 if all agree.
    Soak(SoakArgs),
    /// How many stacks Terraform applies in a minute with everything on, beside a plain loop of `init` and `apply`. Build
    /// with --release.
    Terraform(TerraformArgs),
}

/// `bench customers`.
#[derive(Debug, Args)]
pub struct CustomersArgs {
    /// Customers, of one site each.
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    pub customers: u32,
    /// Devices of each customer.
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub devices: u32,
    /// Devices of one more customer.
    #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = clap::value_parser!(u32).range(100..))]
    pub large: u32,
    /// Events of the customer of usual size whose loads are measured.
    #[arg(long, default_value_t = 5_000, value_name = "N", value_parser = clap::value_parser!(u32).range(101..))]
    pub deep: u32,
    /// How often it is loaded, and a tenth of that the large one: of a percentile of few, one pause of the machine is the
    /// most part.
    #[arg(long, default_value_t = 3_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub loads: u32,
    /// Customers at work at once.
    #[arg(long, default_value_t = 64, value_name = "N")]
    pub at_once: usize,
    /// Folder with servers that were downloaded before.
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    #[command(flatten)]
    pub vendors: Vendors,
}

/// `bench damage`.
#[derive(Debug, Args)]
pub struct DamageArgs {
    /// How many damages, each to a fresh copy of the files.
    #[arg(long, default_value_t = 200, value_name = "N")]
    pub count: u32,
    /// Only damages whose kind begins like this, for example `inbox`.
    #[arg(long, value_name = "KIND")]
    pub kind: Option<String>,
    /// Seed of the damages: the same seed damages the same places in files of the same length.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// Folder with servers that were downloaded before.
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    #[command(flatten)]
    pub vendors: Vendors,
}

/// `bench fleet`.
#[derive(Debug, Args)]
pub struct FleetArgs {
    /// Device changes of all customers together.
    #[arg(long, default_value_t = 20_000, value_name = "N")]
    pub changes: u32,
    /// Customers, of one site each.
    #[arg(long, default_value_t = 200, value_name = "N", value_parser = clap::value_parser!(u32).range(10..=1000))]
    pub customers: u32,
    /// Changes that one more customer queues before others' single ones.
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    pub bulk: u32,
    /// Numbers of executor processes: the campaign runs once with each.
    #[arg(long, value_delimiter = ',', default_value = "1,4", value_name = "N,N")]
    pub executors: Vec<u16>,
    /// Have many changes of a customer go in one call, as the vendor's folder describes it.
    #[arg(long)]
    pub many: bool,
    /// Have looks for drift made one by one, though the vendor's folder says that lists answer them.
    #[arg(long)]
    pub looks_alone: bool,
    /// Folder with servers that were downloaded before.
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    #[command(flatten)]
    pub vendors: Vendors,
}

/// `bench races`.
#[derive(Debug, Args)]
pub struct RacesArgs {
    /// Commands altogether, accepted and refused.
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    pub commands: u64,
    /// Writers, each with a connection and a cache of its own.
    #[arg(long, default_value_t = 8, value_name = "N")]
    pub writers: u64,
    /// How many nats-servers keep each stream: 1, or 3 for a cluster whose leader is killed.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=5))]
    pub replicas: u8,
    /// Seed of the commands.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// Folder with servers that were downloaded before.
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    #[command(flatten)]
    pub vendors: Vendors,
}

/// `bench soak`.
#[derive(Debug, Args)]
pub struct SoakArgs {
    /// How many times a part is killed, or stopped for a while.
    #[arg(long, default_value_t = 30, value_name = "N")]
    pub kills: u32,
    /// Executor processes.
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=16))]
    pub executors: u16,
    /// Longest time between two blows, in seconds.
    #[arg(long, default_value_t = 9.0, value_name = "SECONDS")]
    pub life: f64,
    /// Have stacks made, changed and destroyed so often while Terraform, executors or everything is killed and Postgres is
    /// cut off, instead of everything else; then compare every state with the vendor, field by field.
    #[arg(long, value_name = "APPLIES", conflicts_with_all = ["only", "without_cuts"])]
    pub terraform: Option<u32>,
    /// Strike this part only, for example `executors`.
    #[arg(long, value_name = "PART")]
    pub only: Option<String>,
    /// Leave the connections between the roles and the servers alone.
    #[arg(long)]
    pub without_cuts: bool,
    /// Seed of the kills, the cuts and the load: the same seed is the same plan.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// Folder for the system; a temporary one, removed when all was well, when none is given.
    #[arg(long, value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// Folder with servers that were downloaded before.
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    #[command(flatten)]
    pub vendors: Vendors,
}

/// `bench commands`.
#[derive(Debug, Args)]
pub struct CommandsArgs {
    /// Commands in each measurement.
    #[arg(long, default_value_t = 20_000, value_name = "N")]
    pub commands: u32,
    /// Customers at work at once.
    #[arg(long, default_value_t = 256, value_name = "N")]
    pub at_once: usize,
    /// Requests a second in the steady measurement.
    #[arg(long, default_value_t = 833, value_name = "N")]
    pub paced: u32,
    /// Partitions of the customers: each is a stream with writes of its own to wait for.
    #[arg(long, default_value_t = PARTITIONS, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub partitions: u16,
    /// Print the JSON alone, without the table beside it.
    #[arg(long)]
    pub json: bool,
    /// Folder with servers that were downloaded before.
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    #[command(flatten)]
    pub vendors: Vendors,
}

/// `bench terraform`.
#[derive(Debug, Args)]
pub struct TerraformArgs {
    /// Stacks in each measurement.
    #[arg(long, default_value_t = 300, value_name = "N")]
    pub applies: u32,
    /// Stacks in each measurement of the loops beside it (plain, and Terraform alone); 0 leaves them out.
    #[arg(long, default_value_t = 60, value_name = "N")]
    pub plain: u32,
    /// Numbers of applies at once: everything is measured with each.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4", value_name = "N,N")]
    pub at_once: Vec<usize>,
    /// How many other stacks there are while it is measured once more, with the last of those numbers; 0 leaves it out.
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    pub others: u32,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub json: bool,
    /// Folder with servers that were downloaded before.
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    #[command(flatten)]
    pub vendors: Vendors,
}
