//! `wanwright dead`: what could not be handled, and what to do about it.

use std::io::{BufRead, IsTerminal};

use anyhow::{Context, Result};
use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use serde_json::{Value, json};
use wanwright_nats::accounts::Role;
use wanwright_nats::dead::{self, Back, Settled, Settlement};
use wanwright_nats::{Nats, StoredMessage};
use wanwright_schemas::{Reason, headers};

use crate::cli::Connection;
use crate::endpoints::Login;
use crate::exit::{Exit, Usage};
use crate::output;

/// `dead`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  wanwright dead list\n  wanwright dead show 17 -o json\n  wanwright dead requeue 17\n  \
    wanwright dead drop 17 --reason 'a test' --yes\n\nExit codes: 0 done, 1 there is no such letter, 3 it cannot be sent back."
)]
pub struct DeadArgs {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List the letters that nobody has done anything about, oldest first.
    List {
        /// Most letters to show.
        #[arg(long, default_value_t = 100, value_name = "N")]
        limit: usize,
        /// Letters behind this one.
        #[arg(long, default_value_t = 0, value_name = "SEQUENCE")]
        after: u64,
        /// How to print.
        #[arg(short, long, default_value = "table")]
        output: Format,
    },
    /// Show a letter whole: why it is here, its headers and its body.
    Show {
        /// The letter's number.
        #[arg(value_parser = number)]
        letter: u64,
        /// How to print.
        #[arg(short, long, default_value = "table")]
        output: Format,
    },
    /// Send a letter back: a command into the inbox under its own id, an order to be issued again if it is still wanted.
    Requeue {
        /// The letter's number.
        #[arg(value_parser = number)]
        letter: u64,
        /// Also a command that later ones about the same object have overtaken.
        #[arg(long)]
        anyway: bool,
        #[command(flatten)]
        by: By,
    },
    /// Give a letter up: it is overwritten on the disk, and a note stays of who did it and why.
    Drop {
        /// The letter's number.
        #[arg(value_parser = number)]
        letter: u64,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        by: By,
    },
}

/// The number of a letter.
fn number(text: &str) -> Result<u64, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| "a letter is named by its number, which `wanwright dead list` shows".to_owned())
}

/// Who does something about a letter, and why.
#[derive(Debug, Args)]
struct By {
    /// Why.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Who does it: the name of the login, unless the login may speak for anybody.
    #[arg(long, env = "WANWRIGHT_ACTOR")]
    actor: Option<String>,
    /// How to print.
    #[arg(short, long, default_value = "table")]
    output: Format,
}

/// How letters are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Table,
    /// JSON.
    Json,
}

/// Works on dead letters.
pub async fn run(args: DeadArgs) -> Result<Exit> {
    match args.what {
        What::List { limit, after, output } => {
            let nats = connect(&args.connection, Role::Reader).await?;
            list(&dead::open(&nats, after, limit).await?, limit, output);
            Ok(Exit::Done)
        }
        What::Show { letter, output } => {
            let nats = connect(&args.connection, Role::Reader).await?;
            show(&nats, letter, output).await
        }
        What::Requeue { letter, anyway, by } => {
            let actor = args.connection.actor(by.actor.as_deref())?;
            let nats = connect(&args.connection, Role::Admin).await?;
            requeue(&nats, (letter, anyway), actor, by).await
        }
        What::Drop { letter, yes, by } => {
            let actor = args.connection.actor(by.actor.as_deref())?;
            let nats = connect(&args.connection, Role::Admin).await?;
            give_up(&nats, letter, yes, actor, by).await
        }
    }
}

async fn connect(connection: &Connection, role: Role) -> Result<Nats> {
    connection.nats(Login::Role(role), "wanwright-dead").await
}

fn header(letter: &StoredMessage, name: &str) -> Option<String> {
    letter.headers.get(name).map(|value| value.as_str().to_owned())
}

/// A letter as JSON: what is known of it, without headers and body.
fn summary(letter: &StoredMessage) -> Value {
    json!({
        "letter": letter.sequence,
        "time": letter.time,
        "what": letter.subject.split('.').nth(2),
        "reason": header(letter, headers::DEAD_REASON),
        "message": header(letter, headers::DEAD_MESSAGE),
        "subject": header(letter, headers::DEAD_SUBJECT),
        "order": header(letter, headers::DEAD_ORDER),
        "command": header(letter, headers::COMMAND_ID),
        "bytes": header(letter, headers::DEAD_SIZE).and_then(|size| size.parse::<u64>().ok()),
    })
}

fn list(letters: &[StoredMessage], limit: usize, format: Format) {
    let items: Vec<Value> = letters.iter().map(summary).collect();
    let next = letters.last().filter(|_| letters.len() == limit).map(|last| last.sequence);
    if format == Format::Json {
        return output::line(json!({ "items": items, "next": next }));
    }
    if items.is_empty() {
        return output::note("there are no dead letters");
    }
    let cells = |item: &Value| {
        let names = ["letter", "time", "what", "reason", "subject", "message"];
        names.iter().map(|name| crate::get::cell(item.get(name))).collect()
    };
    let head = ["letter", "time", "what", "reason", "subject", "message"];
    output::line(output::table(&head, items.iter().map(cells).collect()));
    if let Some(next) = next {
        output::note(format!("there may be more: --after {next}"));
    }
}

async fn show(nats: &Nats, sequence: u64, format: Format) -> Result<Exit> {
    let Some(letter) = dead::get(nats, sequence).await? else { return missing(nats, sequence).await };
    let settled = dead::settlement(nats, sequence).await?;
    let mut shown = summary(&letter);
    let text = String::from_utf8_lossy(&letter.payload);
    let body =
        serde_json::from_slice::<Value>(&letter.payload).unwrap_or_else(|_| Value::from(text.as_ref()));
    let names = letter.headers.iter().map(|(name, values)| {
        (name.to_string(), values.iter().map(|value| value.as_str().to_owned()).collect::<Vec<_>>())
    });
    shown["headers"] = json!(names.collect::<std::collections::BTreeMap<_, _>>());
    shown["body"] = body;
    shown["settled"] = serde_json::to_value(settled)?;
    match format {
        Format::Json => output::line(shown),
        // A letter's text must not steer a terminal: JSON escapes what would.
        Format::Table => {
            for pointer in ["/time", "/settled/time"] {
                if let Some(Value::String(text)) = shown.pointer_mut(pointer)
                    && let Some(time) = output::time(text)
                {
                    *text = time;
                }
            }
            output::line(serde_json::to_string_pretty(&shown)?);
        }
    }
    Ok(Exit::Done)
}

/// Says that there is no such letter, or what became of it.
async fn missing(nats: &Nats, sequence: u64) -> Result<Exit> {
    output::note(match dead::settlement(nats, sequence).await? {
        Some(note) => format!(
            "letter {sequence} was {} by {} on {}",
            note.how.as_str(),
            note.by,
            format_args!("{:.0}", note.time)
        ),
        None => format!("there is no dead letter {sequence}; `wanwright dead list` shows those there are"),
    });
    Ok(Exit::Different)
}

/// A letter that nobody has done anything about yet.
async fn open(nats: &Nats, sequence: u64) -> Result<Option<StoredMessage>> {
    if dead::settlement(nats, sequence).await?.is_some() {
        return Ok(None);
    }
    Ok(dead::get(nats, sequence).await?)
}

async fn requeue(nats: &Nats, (sequence, anyway): (u64, bool), actor: String, by: By) -> Result<Exit> {
    let Some(letter) = open(nats, sequence).await? else { return missing(nats, sequence).await };
    let back = match dead::requeue(nats, &letter, anyway).await? {
        Ok(back) => back,
        Err(kept) => {
            let (why, code) = (kept.to_string(), kept.code());
            let next = code.map(Reason::next);
            match (by.output, code) {
                (Format::Json, _) => output::line(
                    json!({ "letter": sequence, "requeued": false, "code": code, "why": why, "next": next }),
                ),
                (Format::Table, Some(code)) => {
                    output::note(format!("not sent back  {code}: {why}. {}", code.next()))
                }
                (Format::Table, None) => output::note(format!("not sent back: {why}")),
            }
            return Ok(Exit::Refused);
        }
    };
    note(nats, sequence, Settlement::Requeued, actor, by.reason).await?;
    match (by.output, back) {
        (Format::Json, Back::Inbox(command)) => {
            output::line(json!({ "letter": sequence, "requeued": true, "command": command }));
        }
        (Format::Json, Back::Table(row)) => {
            output::line(json!({ "letter": sequence, "requeued": true, "row": row }));
        }
        (Format::Table, Back::Inbox(command)) => {
            output::line(format!("sent back  command {command} is in the inbox"))
        }
        (Format::Table, Back::Table(row)) => {
            output::line(format!(
                "sent back  {row} is issued again within half a minute, if it is still wanted"
            ));
        }
    }
    Ok(Exit::Done)
}

async fn give_up(nats: &Nats, sequence: u64, yes: bool, actor: String, by: By) -> Result<Exit> {
    let Some(letter) = open(nats, sequence).await? else { return missing(nats, sequence).await };
    if !yes && !is_meant(&letter)? {
        output::note("nothing was dropped");
        return Ok(Exit::Different);
    }
    // The note first: a letter that is gone without one would be a hole.
    note(nats, sequence, Settlement::Dropped, actor, by.reason).await?;
    dead::remove(nats, sequence).await?;
    match by.output {
        Format::Json => output::line(json!({ "letter": sequence, "dropped": true })),
        Format::Table => output::line(format!("dropped  letter {sequence}")),
    }
    Ok(Exit::Done)
}

async fn note(nats: &Nats, letter: u64, how: Settlement, by: String, reason: Option<String>) -> Result<()> {
    Ok(dead::settle(nats, &Settled { letter, how, by, reason, time: Timestamp::now() }).await?)
}

fn is_meant(letter: &StoredMessage) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        let what = "dropping cannot be undone, and there is no terminal to ask at: add --yes if it is meant";
        return Err(Usage(what.to_owned()).into());
    }
    let about = header(letter, headers::DEAD_SUBJECT).unwrap_or_default();
    let about: String = about.chars().filter(|c| !c.is_control()).collect();
    output::note(format!(
        "Letter {} about {about} is overwritten and cannot be read again.\n\nType its number to go on:",
        letter.sequence
    ));
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).context("reading the answer")?;
    Ok(line.trim() == letter.sequence.to_string())
}
