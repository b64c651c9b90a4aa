//! `wanwright nats`: the streams, shown and created.

use anyhow::Result;
use wanwright_nats::accounts::Role;
use wanwright_nats::topology;
use wanwright_schemas::subjects::PARTITIONS;

use crate::accounts;
use crate::cli::{NatsArgs, NatsWhat};
use crate::endpoints::Login;
use crate::exit::Exit;
use crate::output;

/// What is certain about a message that was acknowledged, in a sentence.
pub fn durability() -> String {
    let rebuilt = topology::rebuilt_streams(PARTITIONS, 1).join(" and ");
    format!(
        "one replica, each write synced to disk before it is acknowledged (but for {rebuilt}, made again from the others)"
    )
}

/// Shows or creates the streams.
pub async fn run(args: NatsArgs) -> Result<Exit> {
    let nats = async || args.connection.nats(Login::Role(Role::Admin), "wanwright-nats").await;
    let plan = match &args.what {
        NatsWhat::Plan => topology::plan(&nats().await?, 1).await?,
        NatsWhat::Apply => topology::apply(&nats().await?, 1).await?,
        NatsWhat::Account(what) => return accounts::account(&args.connection, what).await,
        NatsWhat::User(what) => return accounts::user(&args.connection, what).await,
    };
    let mark = if matches!(args.what, NatsWhat::Plan) { "+" } else { "created" };
    plan.create.iter().for_each(|name| output::line(format!("{mark} {name}")));
    plan.differences.iter().for_each(|difference| output::line(format!("!{difference}")));
    if plan.create.is_empty() && plan.differences.is_empty() {
        output::note("The server has every stream as it should be.");
    }
    let differs =
        matches!(args.what, NatsWhat::Plan) && !(plan.create.is_empty() && plan.differences.is_empty());
    Ok(if differs { Exit::Different } else { Exit::Done })
}
