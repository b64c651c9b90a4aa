//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

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
    /// Check a vendor's folder.
    Vendor(crate::vendor::VendorArgs),
    /// Print whom to talk to about a site or a device. It takes the master key.
    Reveal(RevealArgs),
    /// Make a customer's personal data unreadable, for ever.
    Erase(EraseArgs),
    /// Work on the keys of personal data.
    Keys(KeysArgs),
    /// List, show, send back or drop what could not be handled.
    Dead(crate::dead::DeadArgs),
    /// Have all orders of a vendor or a customer wait. For operators.
    Pause(crate::pause::PauseArgs),
    /// Have the orders of a vendor or a customer go on. For operators.
    Resume(crate::pause::ResumeArgs),
    /// Show what happens, as it happens.
    Watch(WatchArgs),
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
    /// What survives a loss of power.
    #[arg(long, value_enum, default_value_t = Profile::Durable, env = "WANWRIGHT_PROFILE")]
    pub profile: Profile,
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
    wanwright send customer change acme '{\"policy\":{\"device\":\"approve\"}}'\n  \
    wanwright send customer change acme '{\"windows\":{\"nights\":{\"zone\":\"Europe/Oslo\",\"from\":\"22:00\",\"to\":\"04:00\"}}}'\n  \
    wanwright send site release acme/oslo-01 '{\"reason\":\"the line is down\"}'\n  \
    wanwright send device revert acme/oslo-ap-01 '{\"to_generation\":2}'\n\nExit codes: 0 accepted, 3 refused."
)]
pub struct SendArgs {
    #[command(flatten)]
    pub connection: Connection,
    /// Kind of object: customer, site, tunnel or device.
    pub kind: String,
    /// Verb: create, change, revert, approve, reject, release, suspend, resume, protect, unprotect, decommission, retry,
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
    /// What could not be handled, newest first.
    Dead,
}

/// `get`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  wanwright get sites -c acme\n  wanwright get devices --health Degraded -o json\n  \
    wanwright get operations --state failed\n  wanwright get budgets\n  wanwright get customers acme -o json"
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
    /// With this health only (sites, tunnels, devices): Healthy, Progressing, Degraded, Suspended, Missing or Unknown.
    #[arg(long)]
    pub health: Option<String>,
    /// With this state only (operations): waiting, running, retrying, succeeded, failed, superseded, withdrawn, unknown.
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
    /// What to do.
    #[command(subcommand)]
    pub what: KeysWhat,
}

/// `keys …`.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum KeysWhat {
    /// Make a new master key, wrap every key with it and forget the older one. Nothing has to be stopped.
    Rotate,
}

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

/// `watch`.
#[derive(Debug, Args)]
pub struct WatchArgs {
    #[command(flatten)]
    pub connection: Connection,
    /// Of this customer only.
    pub customer: Option<String>,
    /// Decisions only, without the detail of runs.
    #[arg(long)]
    pub events: bool,
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

/// `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    pub connection: Connection,
    #[command(flatten)]
    pub vendors: Vendors,
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

/// `nats`.
#[derive(Debug, Args)]
pub struct NatsArgs {
    #[command(flatten)]
    pub connection: Connection,
    /// What to do.
    #[command(subcommand)]
    pub what: NatsWhat,
}

/// `nats …`.
#[derive(Debug, Clone, Subcommand)]
pub enum NatsWhat {
    /// Show what is missing or differs; exits with 1 when anything does.
    Plan,
    /// Create what is missing, and change the replicas if told to. What differs otherwise is never changed: a person has
    /// to decide.
    Apply(ApplyArgs),
    /// Spread the customers over another number of partitions. All roles must be stopped.
    Repartition(RepartitionArgs),
    /// The accounts of customers: made, shown, taken away.
    #[command(subcommand)]
    Account(AccountWhat),
    /// Who may connect, and what for.
    #[command(subcommand)]
    User(UserWhat),
}

/// `nats apply`.
#[derive(Debug, Clone, Copy, Args)]
pub struct ApplyArgs {
    #[command(flatten)]
    pub partitions: PartitionsArg,
    /// How many servers keep each stream: 1, or 3 or 5 in a cluster of as many. A new installation has 1 unless said
    /// otherwise; one that is there is changed while it runs, and keeps its own without this.
    #[arg(long, value_name = "1|3|5", value_parser = replicas)]
    pub replicas: Option<usize>,
}

/// An even number survives no more deaths than the odd one below it.
fn replicas(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| [1, 3, 5].contains(count));
    count.ok_or_else(|| "it must be 1, 3 or 5".to_owned())
}

/// `nats repartition`.
#[derive(Debug, Clone, Copy, Args)]
#[command(
    after_help = "Of a system that `up` started on this machine: stop it, run this, start it again. Elsewhere name NATS and\n\
    Postgres with --nats and --postgres. It may be killed and run again; until it is through no role starts.\n\n\
    Examples:\n  wanwright nats repartition 32 --dry-run\n  wanwright nats repartition 32"
)]
pub struct RepartitionArgs {
    /// Partitions from now on: 1 to 256.
    #[arg(value_parser = clap::value_parser!(u16).range(1..=256))]
    pub partitions: u16,
    /// Say how many customers and messages would move; change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// How to print what was done.
    #[arg(short, long, default_value = "text")]
    pub output: OutcomeFormat,
}

/// `nats account …`.
#[derive(Debug, Clone, Subcommand)]
#[command(
    after_help = "A customer's account reaches the customer's own commands, history and outcomes and nothing else; it has no\n\
    streams. Keys are in HOME/keys. `operator.nk` is needed only to replace `signing.nk`: keep it elsewhere. Where\n\
    `signing.nk` is not there, accounts can be neither added nor revoked; users still can be added.\n\n\
    Examples:\n  wanwright nats account add acme\n  wanwright nats user add acme/anna --kind tenant\n  \
    wanwright nats account revoke acme"
)]
pub enum AccountWhat {
    /// Make the account of a customer, or sign the one there is anew, and tell the server.
    Add {
        /// The customer.
        customer: String,
    },
    /// List all accounts.
    List,
    /// Print what an account may do, as the server reads it.
    Show {
        /// The customer; or WAN, OPERATORS, SYS.
        account: String,
    },
    /// Take the account of a customer away. All its users are cut off at once and their credentials are dead for ever.
    Revoke {
        /// The customer.
        customer: String,
    },
    /// Print the part of a nats-server's configuration that trusts these keys, for a server that is not started here. Keys
    /// are made where there are none.
    Config {
        /// The folder in which that server will keep accounts. `add` hands them over; it starts empty.
        dir: PathBuf,
    },
}

/// `nats user …`.
#[derive(Debug, Clone, Subcommand)]
#[command(
    after_help = "A user's name is the actor of its commands: the server lets it publish on wan.do.CUSTOMER.NAME.> and\n\
    wan.cmd.CUSTOMER.NAME.> only. Its answers come under the prefix _INBOX.NAME, which other clients have to be told:\n\n  \
    wanwright nats account add acme\n  wanwright nats user add acme/anna --kind tenant --out anna.creds --expires 30d\n  \
    nats --creds anna.creds --inbox-prefix _INBOX.anna request wan.do.acme.anna.site.oslo-09.create '{…}'\n  \
    wanwright send --nats nats://HOST:4222 --creds anna.creds site create acme/oslo-09 '{…}'\n  \
    wanwright nats user revoke acme/anna"
)]
pub enum UserWhat {
    /// Make a user and its credentials file.
    Add {
        /// CUSTOMER/NAME; or NAME for the whole fleet.
        user: String,
        /// What it may do.
        #[arg(long)]
        kind: KindOfUser,
        /// Where to put the credentials file; HOME/keys/creds otherwise.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// How long it is valid, for example 30d, 12h, 90m; for ever when not given.
        #[arg(long, value_name = "TIME")]
        expires: Option<String>,
    },
    /// List users.
    List {
        /// Of this customer only.
        customer: Option<String>,
    },
    /// End a user: it is cut off at once.
    Revoke {
        /// CUSTOMER/NAME; or NAME for the whole fleet.
        user: String,
    },
}

/// What a user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KindOfUser {
    /// Everything for one customer: commands, history, outcomes, changes as they happen.
    Tenant,
    /// The same for every customer.
    Operator,
    /// Approve and reject, and read.
    Approver,
    /// An executor on another machine: speaks as `executor` only.
    Executor,
    /// Read.
    Reader,
}

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
    /// Damage the files of a stopped server again and again; 0 if no damage to a history went unnoticed.
    Damage(DamageArgs),
    /// Use a vendor's budget whole and never beyond, fairly between customers; 0 if the vendor says so. Build with
    /// --release.
    Fleet(FleetArgs),
    /// Let several writers race on one customer while a server dies, then judge the history; 0 if every rule held.
    Races(RacesArgs),
    /// Kill and stop parts of a working system while its vendor has troubles, then compare histories, tables and vendor;
    /// 0 if all agree.
    Soak(SoakArgs),
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
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    pub large: u32,
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
    /// Seed of the kills and the load: the same seed is the same plan.
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
    /// Print JSON instead of a table.
    #[arg(long)]
    pub json: bool,
    /// Folder with servers that were downloaded before.
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    #[command(flatten)]
    pub vendors: Vendors,
}
