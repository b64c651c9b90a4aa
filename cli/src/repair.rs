//! `wanwright nats repair`: replicas that lack messages, copied anew.

use anyhow::Result;
use wanwright_nats::Nats;
use wanwright_nats::replicas::{self, Progress};

use crate::cli::RepairArgs;
use crate::exit::Exit;
use crate::output::{line, note};

/// Repairs every damaged replica, or names them.
pub async fn run(nats: &Nats, args: RepairArgs) -> Result<Exit> {
    let damaged = replicas::damaged(nats).await?;
    if damaged.is_empty() {
        note("Every server that answers has all of every stream that it keeps.");
        return Ok(Exit::Done);
    }
    damaged.iter().for_each(line);
    replicas::check(&damaged)?;
    if args.dry_run {
        return Ok(Exit::Different);
    }
    replicas::repair(nats, &damaged, &|progress| note(sentence(progress))).await?;
    note("The servers have all of these streams.");
    Ok(Exit::Done)
}

fn sentence(progress: &Progress) -> String {
    match progress {
        Progress::Stop { server } => {
            format!("stop the server {server} now, and leave its files; this waits, and goes on by itself")
        }
        Progress::TakenOut { server, stream } => format!("{stream} is kept without {server}"),
        Progress::Start { server } => {
            format!("start the server {server} now; this waits, and goes on by itself")
        }
        Progress::Copied { server, stream, messages, of } => {
            format!("{server} has {messages} of {of} messages of {stream}")
        }
    }
}
