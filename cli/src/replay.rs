//! `wanwright replay`: a customer's history as the stream holds it, checked against its chain.

use anyhow::Result;
use wanwright_commands::Head;
use wanwright_nats::History;
use wanwright_nats::accounts::Role;
use wanwright_schemas::CustomerId;
use wanwright_schemas::envelope::Envelope;

use crate::cli::ReplayArgs;
use crate::endpoints::Login;
use crate::exit::{Exit, Usage};
use crate::output;

/// Prints the events of a customer, a line each.
pub async fn run(args: ReplayArgs) -> Result<Exit> {
    let customer: CustomerId = args.customer.parse().map_err(|error| Usage(format!("{error}")))?;
    let nats = args.connection.nats(Login::Role(Role::Reader), "wanwright-replay").await?;
    let history = History::new(nats);
    let evidence = crate::audit::evidence(&args.connection.home, None)?;
    let proven = history.prove(&customer, Some(&evidence)).await?;
    let mut head = Head::default();
    for message in history.load(&customer, 0).await? {
        // Every message is checked, also those that are not printed.
        let envelope = head.fold(message.sequence, &message.payload)?;
        if message.sequence <= args.after {
            continue;
        }
        if args.raw {
            output::line(String::from_utf8_lossy(&message.payload));
        } else {
            lines(message.sequence, &envelope);
        }
    }
    proven.is_read_by(head.messages)?;
    if head.sequence == 0 {
        output::note(format!("customer {customer} has no history"));
    }
    Ok(Exit::Done)
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
