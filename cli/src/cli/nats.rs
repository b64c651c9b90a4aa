//! `wanwright nats`: streams, replicas, partitions, accounts, users.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::shared::{Connection, OutcomeFormat};
use super::up::PartitionsArg;

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
    /// Have replicas that lack messages copied anew from the servers that have them.
    Repair(RepairArgs),
    /// Say that what VERDICTS lost is known. Commands that were refused with StorageDamaged, because they may have been
    /// answered before, are decided again from then on.
    Accept,
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

/// `nats repair`.
#[derive(Debug, Clone, Copy, Args)]
#[command(
    after_help = "Finds the replicas that lack messages, as `doctor` does. For each of their servers it says when to stop it, takes\n\
    those streams away from it, says when to start it, and waits until it has everything. Nothing is changed before the\n\
    server is stopped. Two servers with everything are left at any time; where there are not two it refuses. Meanwhile a\n\
    stream has one replica less, and a role that is started refuses to. Interrupted, `nats apply --replicas` gives it back.\n\n\
    Examples:\n  wanwright nats repair --dry-run\n  wanwright nats repair"
)]
pub struct RepairArgs {
    /// Name the replicas that would be copied; change nothing. Exits with 1 when there are any.
    #[arg(long)]
    pub dry_run: bool,
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
