//! `wanwright watch`: decisions and runs as they happen.

mod served;

use std::time::Duration;

use anyhow::Result;
use tokio::sync::mpsc;
use wanwright_nats::accounts::Role;
use wanwright_nats::topology::RUNS;
use wanwright_nats::{Follower, Nats, StoredMessage, stream_info};
use wanwright_schemas::envelope::Envelope;
use wanwright_schemas::run::{self, RunEvent, RunRecord};
use wanwright_schemas::{CustomerId, subjects};

use crate::cli::WatchArgs;
use crate::endpoints::Login;
use crate::exit::{Exit, Usage};
use crate::history::Source;
use crate::output;
use crate::serve::stop_token;

/// Prints lines until interrupted.
pub async fn run(args: WatchArgs) -> Result<Exit> {
    let customer = args.customer.as_deref().map(str::parse::<CustomerId>).transpose();
    let customer = customer.map_err(|error| Usage(format!("{error}")))?;
    if let Source::Service(actor) = Source::of(&args.connection)? {
        let one = || Usage("name the customer: this login watches one at a time".to_owned());
        return served::run(&args.connection, customer.ok_or_else(one)?, &actor).await;
    }
    let nats = args.connection.nats(Login::Role(Role::Reader), "wanwright-watch").await?;
    let stop = stop_token()?;
    let (tell, mut lines) = mpsc::channel(256);
    for partition in 0..nats.partitions {
        if customer.as_ref().is_some_and(|of| subjects::partition(of, nats.partitions) != partition) {
            continue;
        }
        let filter = customer.as_ref().map(|of| subjects::events(of, nats.partitions)).unwrap_or_default();
        follow(&nats, &subjects::events_stream(partition), filter, tell.clone(), decisions).await?;
    }
    if !args.events {
        let filter = customer.map(|of| format!("wan.run.{of}.*.*")).unwrap_or_default();
        follow(&nats, RUNS, filter, tell, runs).await?;
    }
    output::note("watching; Ctrl-C ends it");
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(Exit::Interrupted),
            line = lines.recv() => match line {
                Some(line) => output::line(line),
                None => return Ok(Exit::Done),
            },
        }
    }
}

async fn follow(
    nats: &Nats,
    stream: &str,
    filter: String,
    tell: mpsc::Sender<String>,
    read: fn(&StoredMessage) -> Vec<String>,
) -> Result<()> {
    let from = stream_info(&nats.js, stream).await?.last + 1;
    let mut follower = Follower::open_filtered(nats.js.clone(), stream, filter, from).await?;
    tokio::spawn(async move {
        loop {
            match follower.next_batch(64, Duration::from_secs(30)).await {
                Ok(batch) => {
                    for line in batch.iter().flat_map(read) {
                        if tell.send(line).await.is_err() {
                            return;
                        }
                    }
                }
                Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
            }
        }
    });
    Ok(())
}

fn decisions(message: &StoredMessage) -> Vec<String> {
    let customer =
        subjects::customer_of_events(&message.subject).map(|id| id.to_string()).unwrap_or_default();
    match Envelope::decode(&message.payload) {
        Ok(envelope) => told(&customer, &envelope),
        Err(error) => vec![format!("{} {}: {error}", message.stream, message.sequence)],
    }
}

/// What was decided for a customer, an event a line.
fn told(customer: &str, envelope: &Envelope) -> Vec<String> {
    let line = |event: &wanwright_schemas::Event| {
        let time = envelope.time.strftime("%H:%M:%S");
        format!(
            "{time}  {customer:<12} {:<22} {:<26} by {}",
            event.object().to_string(),
            event.type_name(),
            envelope.actor
        )
    };
    envelope.events.iter().map(line).collect()
}

fn runs(message: &StoredMessage) -> Vec<String> {
    run::read(&message.payload).unwrap_or_default().iter().map(line).collect()
}

/// What a record says, without control characters: a vendor's text must not steer a terminal.
pub fn detail(event: &RunEvent) -> String {
    let detail = match event {
        RunEvent::Queued { intent, generation } => format!("{intent} generation {generation}"),
        RunEvent::Superseded { .. } => "a newer order took its place".to_owned(),
        RunEvent::Withdrawn => "not wanted any more".to_owned(),
        RunEvent::Cancelled { .. } => "taken back before it began".to_owned(),
        RunEvent::Waiting { why } => format!("waits for {}", format!("{why:?}").to_lowercase()),
        RunEvent::Started { attempt, replaced: None, .. } => format!("try {attempt}"),
        RunEvent::Started { attempt, replaced: Some(range), .. } => {
            format!("try {attempt}, in place of generations {} to {}", range.from, range.to)
        }
        RunEvent::Unknown { attempt, .. } => format!("try {attempt} died; looking what it did"),
        RunEvent::Call { method, path, status, millis, .. } => {
            format!("{method} {path} {status} in {millis} ms")
        }
        RunEvent::Planned { plan } | RunEvent::PlanOpened { plan } => plan.to_string(),
        RunEvent::Log { message, resource: Some(step), .. } => {
            format!("{message} ({} of {} done)", step.done, step.total)
        }
        RunEvent::Log { message, .. } => message.clone(),
        RunEvent::Retrying { code, message, at, .. } => format!("{code}: {message}; again at {at:.0}"),
        RunEvent::Succeeded { calls, millis, .. } => format!("{calls} calls, {millis} ms"),
        RunEvent::Failed { code, message, .. } => format!("{code}: {message}"),
    };
    let detail = match event.usage() {
        Some(usage) => format!("{detail}; {usage}"),
        None => detail,
    };
    detail.chars().filter(|c| !c.is_control()).collect()
}

fn line(record: &RunRecord) -> String {
    let detail = detail(&record.event);
    let time = record.time.strftime("%H:%M:%S");
    format!(
        "{time}  {:<12} {:<22} {:<26} {detail}",
        record.customer.as_str(),
        record.target.to_string(),
        record.event.word()
    )
}
