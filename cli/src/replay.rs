//! `wanwright replay`: a customer's history as it is stored, checked against its chain.

use anyhow::Result;
use wanwright_commands::Head;
use wanwright_nats::History;
use wanwright_nats::accounts::Role;
use wanwright_schemas::envelope::Envelope;
use wanwright_schemas::services::{HistoryRequest, MAX_PAGE};
use wanwright_schemas::{Actor, CustomerId};

use crate::cli::ReplayArgs;
use crate::endpoints::Login;
use crate::exit::{Exit, Usage};
use crate::history::{Asked, Source};
use crate::output;

/// Prints the events of a customer, a line each.
pub async fn run(args: ReplayArgs) -> Result<Exit> {
    let customer: CustomerId = args.customer.parse().map_err(|error| Usage(format!("{error}")))?;
    let head = match Source::of(&args.connection)? {
        Source::Streams => stored(&args, &customer).await?,
        Source::Service(actor) => served(&args, &customer, &actor).await?,
    };
    if head.sequence == 0 {
        output::note(format!("customer {customer} has no history"));
    }
    Ok(Exit::Done)
}

/// From the stream, which is compared with the signed heads of this installation.
async fn stored(args: &ReplayArgs, customer: &CustomerId) -> Result<Head> {
    let nats = args.connection.nats(Login::Role(Role::Reader), "wanwright-replay").await?;
    let history = History::new(nats);
    let evidence = crate::audit::evidence(&args.connection.home, None)?;
    let proven = history.prove(customer, Some(&evidence)).await?;
    let mut head = Head::default();
    for message in history.load(customer, 0).await? {
        next(&mut head, args, message.sequence, &message.payload)?;
    }
    proven.is_read_by(head.messages)?;
    Ok(head)
}

/// From the service, page by page. The chain is checked here as well; where the history ends is the service's word.
async fn served(args: &ReplayArgs, customer: &CustomerId, actor: &Actor) -> Result<Head> {
    let asked = Asked::connect(&args.connection, customer.clone(), actor, "wanwright-replay").await?;
    let mut head = Head::default();
    let mut after = Some(0);
    while let Some(place) = after {
        let request = HistoryRequest { after: place, limit: MAX_PAGE, newest: false };
        let page = asked.page(&request).await?;
        for message in &page.messages {
            next(&mut head, args, message.sequence, message.envelope.get().as_bytes())?;
        }
        after = page.next;
    }
    Ok(head)
}

/// Every message is checked, also those that are not printed.
fn next(head: &mut Head, args: &ReplayArgs, sequence: u64, bytes: &[u8]) -> Result<()> {
    let envelope = head.fold(sequence, bytes)?;
    if sequence <= args.after {
        return Ok(());
    }
    if args.raw {
        output::line(String::from_utf8_lossy(bytes));
    } else {
        lines(sequence, &envelope);
    }
    Ok(())
}

fn lines(sequence: u64, envelope: &Envelope) {
    for event in &envelope.events {
        let detail = serde_json::to_value(event).unwrap_or_default();
        let time = envelope.time.strftime("%Y-%m-%dT%H:%M:%SZ");
        let object = event.object();
        output::line(format!(
            "{sequence:>6}  {time}  {:<10}  {:<26} {object}  {}",
            envelope.actor.as_str(),
            event.type_name(),
            brief(detail)
        ));
    }
}

/// An event without what the line says already.
fn brief(mut event: serde_json::Value) -> String {
    if let Some(fields) = event.as_object_mut() {
        for key in ["type", "v", "site", "tunnel", "device"] {
            fields.remove(key);
        }
    }
    event.to_string()
}
