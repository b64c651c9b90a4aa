//! `wanwright erase`: makes a customer's personal data unreadable for ever.

use std::io::{BufRead, IsTerminal};

use anyhow::{Context, Result};
use async_nats::HeaderMap;
use wanwright_executors::terraform::States;
use wanwright_nats::accounts::Role;
use wanwright_schemas::CustomerId;
use wanwright_schemas::ids::CommandId;
use wanwright_schemas::{Outcome, headers};

use crate::cli::{EraseArgs, KeysArgs, KeysOf, KeysWhat};
use crate::endpoints::Login;
use crate::exit::{Exit, Usage};
use crate::{output, send, state};

/// Asks whether it is meant, then sends the command. Who answers has destroyed the key.
pub async fn run(args: EraseArgs) -> Result<Exit> {
    let customer: CustomerId = args.customer.parse().map_err(|error| Usage(format!("{error}")))?;
    let actor = args.connection.actor(args.actor.as_deref())?;
    let subject = send::subject(&actor, "customer", "erase", customer.as_str())?;
    args.connection.may_publish(Login::Person, &subject.request())?;
    if !args.yes && !is_meant(&customer)? {
        output::note("nothing was erased");
        return Ok(Exit::Different);
    }
    let mut head = HeaderMap::new();
    head.insert(headers::COMMAND_ID, CommandId::mint().to_string().as_str());
    let nats = args.connection.nats_unasked(Login::Person, "wanwright-erase").await?;
    let outcome = send::request(&nats, &subject, head, Vec::new()).await?;
    if outcome.refusal().is_some() {
        send::print(&subject, &outcome);
        return Ok(Exit::Refused);
    }
    output::line(said(&customer, &outcome));
    Ok(Exit::Done)
}

fn said(customer: &CustomerId, outcome: &Outcome) -> String {
    match outcome.position() {
        Some(position) => {
            format!(
                "erased  customer/{customer}  position {position}\n  the key is destroyed; the history stays"
            )
        }
        None => format!("nothing to erase  customer/{customer} has no personal data that can be read"),
    }
}

fn is_meant(customer: &CustomerId) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        let what = "erasing cannot be undone, and there is no terminal to ask at: add --yes if it is meant";
        return Err(Usage(what.to_owned()).into());
    }
    output::note(format!(
        "Names, addresses, numbers and notes of customer {customer} can never be read again, also not from backups\n\
         of the streams. Sites, tunnels, devices and the history stay.\n\nType the customer's name to go on:"
    ));
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).context("reading the answer")?;
    Ok(line.trim() == customer.as_str())
}

/// Works on keys.
pub async fn keys(args: KeysArgs) -> Result<Exit> {
    let nats = args.connection.nats(Login::Role(Role::Admin), "wanwright-keys").await?;
    let KeysWhat::Rotate { only } = args.what;
    if only != Some(KeysOf::States) {
        let rotated = args.master_key.keys(nats.clone(), &args.connection.home).rotate().await?;
        output::line(format!("master key {}: {} keys are wrapped by it", rotated.master, rotated.keys));
    }
    if only == Some(KeysOf::Personal) {
        return Ok(Exit::Done);
    }
    let keys = args.state_key.keys(&args.connection.home);
    if only.is_none() && !keys.path().exists() {
        output::note(format!("{} is not there: no keys of states were rotated", keys.path().display()));
        return Ok(Exit::Done);
    }
    let pool = args.connection.postgres(2).await?;
    let key = keys.add()?;
    let done = States::new(pool, nats, keys).reseal(false).await?;
    output::line(format!(
        "state key {key}: {} versions and {} second copies are sealed with it",
        done.versions, done.copies
    ));
    Ok(state::unopened(&done.unopened))
}
