//! `wanwright state`: Terraform's states of the stacks, every version of them.

mod backup;
mod facts;
mod known;

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use sqlx::PgPool;
use wanwright_executors::terraform::{Accepted, Restored, StateRow, StateVersion, States, waiting_states};
use wanwright_nats::accounts::Role;
use wanwright_nats::keys::state_key_file;
use wanwright_nats::{Nats, StateKeys};

use crate::cli::{Connection, Home, StateKey};
use crate::endpoints::Login;
use crate::exit::{Exit, Usage};
use crate::output;

/// `state`.
#[derive(Debug, Args)]
#[command(
    after_help = "A stack is a site with the tunnels it owns: CUSTOMER/SITE, or the id that `state list` shows. Versions are \
    named by the\nserial Terraform gave them.\n\nExamples:\n  wanwright state list\n  wanwright state show acme/oslo-01\n  \
    wanwright state diff acme/oslo-01 3 5\n  wanwright state pull acme/oslo-01 > oslo.tfstate\n  \
    wanwright state backup /backup/2026-11-22\n  wanwright state restore --from /backup/2026-11-22\n  \
    wanwright state accept acme/oslo-01 5\n\nExit codes: 0 done; 1 \
    there is no such state, or the versions differ; 3 refused."
)]
pub struct StateArgs {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    key: StateKey,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List the stacks with the newest version of each.
    List {
        /// Of this customer only.
        #[arg(long)]
        customer: Option<String>,
        /// How to print.
        #[arg(short, long, default_value = "table")]
        output: Format,
    },
    /// List the versions of a stack, the newest first.
    History {
        /// The stack.
        stack: String,
        /// How to print.
        #[arg(short, long, default_value = "table")]
        output: Format,
    },
    /// Show what a version says of each resource. What Terraform calls sensitive is left out.
    Show {
        /// The stack.
        stack: String,
        /// This version, not the newest.
        #[arg(long, value_name = "SERIAL")]
        serial: Option<i64>,
        /// How to print.
        #[arg(short, long, default_value = "table")]
        output: Format,
    },
    /// Show in what two versions differ: the newest and the one before it, if none are named.
    Diff {
        /// The stack.
        stack: String,
        /// The earlier version.
        from: Option<i64>,
        /// The later version; the newest when only one is named.
        to: Option<i64>,
        /// How to print.
        #[arg(short, long, default_value = "table")]
        output: Format,
    },
    /// Print a version as Terraform wrote it.
    Pull {
        /// The stack.
        stack: String,
        /// This version, not the newest.
        #[arg(long, value_name = "SERIAL", conflicts_with = "copy")]
        serial: Option<i64>,
        /// The second copy that NATS has, not the newest version in Postgres.
        #[arg(long)]
        copy: bool,
    },
    /// Write every version of every stack's state into a folder, sealed as it is.
    ///
    /// The folder has to be empty or not there yet; what a backup that was killed left in it is made anew. No key goes
    /// into it: back up the file of the state keys as well, apart from it. Nothing has to be stopped. What an executor
    /// still has on its disk only is not in it; `wanwright doctor` says whether there is any.
    Backup {
        /// The folder.
        dir: PathBuf,
        /// How to print.
        #[arg(short, long, default_value = "table")]
        output: Format,
    },
    /// Put the second copy of a stack in the place of what Postgres has, where that does not open or is older; or, with
    /// --from, bring a backup back.
    ///
    /// A backup is read to its end first, and refused if anything in it is not what was written. Then Postgres gets the
    /// versions it lacks, all or none. A stack that has a later version than the backup is left as it is, and so is one whose
    /// newest version the backup does not have: it is named, and the exit code is 1. No row is ever changed or removed.
    /// Nothing has to be stopped, and NATS is not needed. The table may be gone as well.
    Restore {
        /// The stack.
        #[arg(required_unless_present = "from", conflicts_with = "from")]
        stack: Option<String>,
        /// The folder of a backup, of which every stack is restored.
        #[arg(long, value_name = "DIR")]
        from: Option<PathBuf>,
        /// How to print what became of each stack.
        #[arg(short, long, default_value = "table", requires = "from")]
        output: Format,
    },
    /// Go on from the newest version there is of a stack, where its history tells of a newer one that is lost.
    ///
    /// Nothing is run while Postgres and NATS both have an older state than the history tells of (`StateOlder`). A backup
    /// that has the newer one is the better way: `restore --from`. What Terraform made since the accepted version is at the
    /// vendor and not in the state; the next run finds it by keys and names where the vendor has those, and makes the rest
    /// once more.
    Accept {
        /// The stack.
        stack: String,
        /// The serial of the newest version there is.
        serial: i64,
    },
    /// Give a stack whose state was lost an empty one: its next run finds by keys and names what the vendor has. Refused
    /// where there is a state.
    Begin {
        /// The stack.
        stack: String,
    },
    /// Seal the versions that a wanwright before this one wrote unsealed. Needed once.
    Seal,
}

/// How states are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Table,
    /// JSON.
    Json,
}

impl StateKey {
    /// The keys in the file that was named or is in the installation's folder.
    pub fn keys(&self, home: &Home) -> StateKeys {
        StateKeys::new(self.state_key_file.clone().unwrap_or_else(|| state_key_file(&home.home)))
    }
}

/// Works on states.
pub async fn run(args: StateArgs) -> Result<Exit> {
    let keys = args.key.keys(&args.connection.home);
    match args.what {
        // A backup needs Postgres only, and is brought back where nothing else may be there yet.
        What::Backup { dir, output } => backup::write(&args.connection, &dir, output).await,
        What::Restore { from: Some(dir), output, .. } => {
            backup::restore(&args.connection, &keys, &dir, output).await
        }
        what => with_copies(what, &args.connection, keys).await,
    }
}

/// What needs the second copies as well.
async fn with_copies(what: What, connection: &Connection, keys: StateKeys) -> Result<Exit> {
    let pool = connection.postgres(2).await?;
    let nats = connection.nats(Login::Role(Role::Admin), "wanwright-state").await?;
    let states = States::new(pool.clone(), nats.clone(), keys);
    match what {
        What::List { customer, output } => list(&states, &pool, customer.as_deref(), output).await,
        What::History { stack, output } => {
            let stack = stack_of(&pool, &stack).await?;
            history(&states.history(&stack).await?, &stack, output)
        }
        What::Show { stack, serial, output } => {
            let stack = stack_of(&pool, &stack).await?;
            match states.version(&stack, serial).await? {
                Some(version) => show(&version, output),
                None => Ok(none(&stack, serial)),
            }
        }
        What::Diff { stack, from, to, output } => {
            let stack = stack_of(&pool, &stack).await?;
            diff(&states, &stack, from, to, output).await
        }
        What::Pull { stack, serial, copy } => {
            let stack = stack_of(&pool, &stack).await?;
            let found =
                if copy { states.copy(&stack).await? } else { states.version(&stack, serial).await? };
            let Some(version) = found else { return Ok(none(&stack, serial)) };
            output::line(String::from_utf8_lossy(&version.body).trim_end());
            Ok(Exit::Done)
        }
        What::Restore { stack: Some(stack), .. } => {
            let stack = stack_of(&pool, &stack).await?;
            Ok(restored(&stack, states.restore(&stack).await?))
        }
        What::Accept { stack, serial } => {
            let stack = stack_of(&pool, &stack).await?;
            if waits(&nats, &stack).await? {
                return Ok(Exit::Different);
            }
            let known = known::known(&pool, &nats, &stack).await?;
            Ok(accepted(&stack, serial, states.accept(&stack, serial, known).await?))
        }
        What::Begin { stack } => {
            let stack = stack_of(&pool, &stack).await?;
            if waits(&nats, &stack).await? {
                return Ok(Exit::Different);
            }
            if !states.begin(&stack, known::known(&pool, &nats, &stack).await?).await? {
                output::note(format!("stack {stack} has a state; `wanwright state show {stack}` shows it"));
                return Ok(Exit::Different);
            }
            output::line(format!(
                "begun  stack {stack} has an empty state; its next run finds what is there"
            ));
            Ok(Exit::Done)
        }
        What::Seal => {
            let done = states.reseal(true).await?;
            output::line(format!("sealed  {} versions with key {}", done.versions, done.key));
            Ok(unopened(&done.unopened))
        }
        What::Backup { .. } | What::Restore { stack: None, .. } => {
            Err(Usage("name a stack, or a backup with --from".to_owned()).into())
        }
    }
}

/// Whether a version of a stack is on the disk of an executor only, and says where.
async fn waits(nats: &Nats, stack: &str) -> Result<bool> {
    let waiting = waiting_states(nats).await?;
    let found = waiting.iter().find(|waiting| waiting.stack == stack);
    if let Some(found) = found {
        let host = &found.host;
        output::note(format!("stack {stack} has a state that waits on {host}; start wanwright there"));
    }
    Ok(found.is_some())
}

/// Says which versions do not open.
pub fn unopened(unopened: &[String]) -> Exit {
    for version in unopened {
        output::note(format!("left as it is: {version}"));
    }
    if unopened.is_empty() { Exit::Done } else { Exit::Different }
}

/// The id of a stack that is named by itself or by its site.
async fn stack_of(pool: &PgPool, named: &str) -> Result<String> {
    let Some((customer, site)) = named.split_once('/') else { return Ok(named.to_owned()) };
    let sql = "SELECT uid::text FROM sites WHERE customer = $1 AND id = $2";
    let found: Option<String> = sqlx::query_scalar(sql)
        .bind(customer)
        .bind(site)
        .fetch_optional(pool)
        .await
        .context("reading the sites")?;
    found.ok_or_else(|| {
        Usage(format!("there is no site {named}; `wanwright state list` shows the ids of all stacks")).into()
    })
}

/// The sites of the stacks, as far as there are any.
async fn names(pool: &PgPool) -> Result<HashMap<String, (String, String)>> {
    let rows: Vec<(String, String, String)> = sqlx::query_as("SELECT uid::text, customer, id FROM sites")
        .fetch_all(pool)
        .await
        .context("reading the sites")?;
    Ok(rows.into_iter().map(|(uid, customer, id)| (uid, (customer, id))).collect())
}

fn none(stack: &str, serial: Option<i64>) -> Exit {
    output::note(match serial {
        Some(serial) => {
            format!(
                "stack {stack} has no version {serial}; `wanwright state history {stack}` shows those it has"
            )
        }
        None => format!("stack {stack} has no state"),
    });
    Exit::Different
}

fn item(row: &StateRow, name: Option<&(String, String)>) -> Value {
    json!({
        "stack": row.stack,
        "customer": name.map(|(customer, _)| customer),
        "site": name.map(|(_, site)| site),
        "serial": row.serial,
        "versions": row.versions,
        "written": row.written_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        "order": row.order,
        "bytes": row.bytes,
        "key": row.sealed_with,
    })
}

fn rows(items: Vec<Value>, columns: &[&str], format: Format) {
    if format == Format::Json {
        return output::line(json!({ "items": items, "next": null }));
    }
    let cells = |item: &Value| columns.iter().map(|name| crate::get::cell(item.get(name))).collect();
    output::line(output::table(columns, items.iter().map(cells).collect()));
}

async fn list(states: &States, pool: &PgPool, customer: Option<&str>, format: Format) -> Result<Exit> {
    let names = names(pool).await?;
    let is_wanted = |row: &StateRow| {
        customer.is_none_or(|wanted| names.get(&row.stack).is_some_and(|(customer, _)| customer == wanted))
    };
    let found: Vec<StateRow> = states.list().await?.into_iter().filter(is_wanted).collect();
    if found.is_empty() && format == Format::Table {
        output::note("there are no states: nothing was applied by Terraform yet");
        return Ok(Exit::Done);
    }
    let mut items: Vec<Value> = found.iter().map(|row| item(row, names.get(&row.stack))).collect();
    items.sort_by_key(|item| (item["customer"].to_string(), item["site"].to_string()));
    rows(items, &["customer", "site", "serial", "versions", "written", "bytes", "key", "stack"], format);
    Ok(Exit::Done)
}

fn history(found: &[StateRow], stack: &str, format: Format) -> Result<Exit> {
    if found.is_empty() {
        return Ok(none(stack, None));
    }
    let items = found.iter().map(|row| item(row, None)).collect();
    rows(items, &["serial", "written", "order", "bytes", "key"], format);
    Ok(Exit::Done)
}

fn show(version: &StateVersion, format: Format) -> Result<Exit> {
    let facts = facts::of(&version.body)?;
    if format == Format::Json {
        output::line(json!({ "stack": version.stack, "serial": version.serial, "lineage": version.lineage,
            "order": version.order, "values": facts }));
        return Ok(Exit::Done);
    }
    output::note(format!("stack {}  serial {}  order {}", version.stack, version.serial, version.order));
    let lines = facts.iter().map(|(fact, value)| vec![fact.clone(), value.to_string()]);
    output::line(output::table(&["what", "value"], lines.collect()));
    Ok(Exit::Done)
}

async fn diff(
    states: &States,
    stack: &str,
    from: Option<i64>,
    to: Option<i64>,
    format: Format,
) -> Result<Exit> {
    let serials: Vec<i64> = states.history(stack).await?.iter().map(|row| row.serial).collect();
    let Some(to) = to.or_else(|| serials.first().copied()) else { return Ok(none(stack, None)) };
    let before = || serials.iter().copied().find(|serial| *serial < to);
    let Some(from) = from.or_else(before) else {
        output::note(format!("stack {stack} has no version before {to}"));
        return Ok(Exit::Different);
    };
    let mut facts = Vec::new();
    for serial in [from, to] {
        match states.version(stack, Some(serial)).await? {
            Some(version) => facts.push(facts::of(&version.body)?),
            None => return Ok(none(stack, Some(serial))),
        }
    }
    let changes = facts::changes(&facts[0], &facts[1]);
    let items = changes.iter().map(|change| {
        let text = |value: Option<&Value>| value.map_or_else(|| "-".to_owned(), Value::to_string);
        match format {
            Format::Json => json!({ "what": change.what, "before": change.before, "after": change.after }),
            Format::Table => {
                json!({ "what": change.what, "before": text(change.before), "after": text(change.after) })
            }
        }
    });
    let items: Vec<Value> = items.collect();
    if items.is_empty() && format == Format::Table {
        output::note(format!("versions {from} and {to} say the same"));
        return Ok(Exit::Done);
    }
    let differ = !items.is_empty();
    rows(items, &["what", "before", "after"], format);
    Ok(if differ { Exit::Different } else { Exit::Done })
}

fn accepted(stack: &str, serial: i64, done: Accepted) -> Exit {
    match done {
        Accepted::Done(next) => {
            output::line(format!(
                "accepted  stack {stack} goes on from serial {serial}, stored as serial {next}"
            ));
            Exit::Done
        }
        Accepted::Needless(serial) => {
            output::line(format!(
                "nothing to accept  nothing newer than serial {serial} is known of stack {stack}"
            ));
            Exit::Done
        }
        Accepted::Another(newest) => {
            output::note(format!("the newest version of stack {stack} has serial {newest}, not {serial}"));
            Exit::Different
        }
        Accepted::NoState => none(stack, None),
    }
}

fn restored(stack: &str, done: Restored) -> Exit {
    match done {
        Restored::Done(serial) => {
            output::line(format!("restored  stack {stack} is at serial {serial}, from its second copy"));
            Exit::Done
        }
        Restored::Same(serial) => {
            output::line(format!("nothing to restore  stack {stack} is at serial {serial} in both places"));
            Exit::Done
        }
        Restored::Older(serial) => {
            output::line(format!(
                "nothing to restore  Postgres has serial {serial}, which is later than the copy"
            ));
            Exit::Done
        }
        Restored::NoCopy => {
            output::note(format!("stack {stack} has no second copy; restore Postgres from a backup"));
            Exit::Different
        }
    }
}
