//! `wanwright send`: one command, one outcome.

use std::io::Read;
use std::time::Duration;

use anyhow::{Context, Result};
use async_nats::{HeaderMap, RequestErrorKind};
use tokio::time::Instant;
use wanwright_nats::Nats;
use wanwright_schemas::ids::{CommandId, Kind, ObjectId};
use wanwright_schemas::order::Intent;
use wanwright_schemas::outcome::{Outcome, Verdict, WouldOrder};
use wanwright_schemas::subjects::CommandSubject;
use wanwright_schemas::{ObjectRef, headers};

use crate::cli::{OutcomeFormat, SendArgs};
use crate::endpoints::Login;
use crate::exit::{Exit, TimedOut, Unreachable, Usage};
use crate::{output, plan};

/// How long to wait for somebody to serve the customer's partition.
const NOBODY: Duration = Duration::from_secs(6);

/// How long an answer to a dry run is waited for that says what Terraform would do.
const WITH_PLANS: Duration = Duration::from_secs(260);

/// Pause before asking again.
const AGAIN: Duration = Duration::from_millis(200);

/// Sends a command and prints its outcome.
pub async fn run(args: SendArgs) -> Result<Exit> {
    let actor = args.connection.actor(args.actor.as_deref())?;
    let subject = subject(&actor, &args.kind, &args.verb, &args.object)?;
    let id = match &args.id {
        Some(text) => text.parse().map_err(|error| Usage(format!("--id: {error}")))?,
        None => CommandId::mint(),
    };
    let body = if args.body == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("reading the body from standard input")?;
        text
    } else {
        args.body.clone()
    };
    let mut head = HeaderMap::new();
    head.insert(headers::COMMAND_ID, id.to_string().as_str());
    if let Some(generation) = args.expected_generation {
        head.insert(headers::EXPECTED_GENERATION, generation.to_string().as_str());
    }
    if let Some(version) = &args.schema {
        let version: wanwright_vendors::SchemaVersion =
            version.parse().map_err(|error| Usage(format!("--schema: {error}")))?;
        head.insert(headers::SCHEMA, version.to_string().as_str());
    }
    if args.dry_run {
        head.insert(headers::DRY_RUN, "true");
    }
    if args.plan {
        head.insert(headers::PLAN, "true");
    }
    let door = if args.durable { subject.durable() } else { subject.request() };
    args.connection.may_publish(Login::Person, &door)?;
    let nats = args.connection.nats_unasked(Login::Person, "wanwright-send").await?;
    if args.durable {
        return submit(&args, &nats, &subject, head, body.into_bytes()).await;
    }
    let outcome = request(&nats, &subject, head, body.into_bytes()).await?;
    match args.output {
        OutcomeFormat::Json => output::line(serde_json::to_string(&outcome)?),
        OutcomeFormat::Text => print(&subject, &outcome),
    }
    Ok(if outcome.refusal().is_some() { Exit::Refused } else { Exit::Done })
}

/// Hands a command to the durable door. From an account the ingress answers; inside WAN the stream itself.
async fn submit(
    args: &SendArgs,
    nats: &Nats,
    subject: &CommandSubject,
    head: HeaderMap,
    body: Vec<u8>,
) -> Result<Exit> {
    let customer = &subject.customer;
    let asked = nats.client.request_with_headers(subject.durable(), head.clone(), body.into()).await;
    let answer = asked.map_err(|error| unanswered(&error, &head))?;
    let id = head.get(headers::COMMAND_ID).map(ToString::to_string).unwrap_or_default();
    if let Ok(outcome) = serde_json::from_slice::<Outcome>(&answer.payload) {
        match args.output {
            OutcomeFormat::Json => output::line(serde_json::to_string(&outcome)?),
            OutcomeFormat::Text => print(subject, &outcome),
        }
        return Ok(Exit::Refused);
    }
    let answer: serde_json::Value =
        serde_json::from_slice(&answer.payload).context("the answer is not one of the durable door")?;
    if let Some(error) = answer.get("error") {
        anyhow::bail!("the inbox did not take the command: {error}");
    }
    match args.output {
        OutcomeFormat::Json => output::line(serde_json::json!({ "status": "stored", "command": id })),
        OutcomeFormat::Text => output::line(format!("stored in the inbox  command {id}")),
    }
    output::note(format!("its outcome, once it has one: wanwright get outcomes {id} -c {customer}"));
    Ok(Exit::Done)
}

/// The subject of a command as people name it: `site`, `create`, `acme/oslo-01`.
pub fn subject(actor: &str, kind: &str, verb: &str, object: &str) -> Result<CommandSubject> {
    let usage = |what: String| anyhow::Error::new(Usage(what));
    let kind = Kind::parse(kind)
        .ok_or_else(|| usage(format!("there is no kind `{kind}`; use customer, site, tunnel or device")))?;
    let (customer, id) = match (object.split_once('/'), kind) {
        (Some((customer, id)), _) => (customer, id),
        (None, Kind::Customer) => (object, object),
        (None, _) => return Err(usage(format!("`{object}`: name the object as CUSTOMER/ID"))),
    };
    let id: ObjectId = id.parse().map_err(|error| usage(format!("{error}")))?;
    Ok(CommandSubject {
        customer: customer.parse().map_err(|error| usage(format!("{error}")))?,
        actor: actor.parse().map_err(|error| usage(format!("{error}")))?,
        object: ObjectRef::new(kind, id).map_err(|refusal| usage(refusal.to_string()))?,
        verb: verb.to_owned(),
    })
}

/// Asks the command service and waits for the outcome.
pub async fn request(
    nats: &Nats,
    subject: &CommandSubject,
    head: HeaderMap,
    body: Vec<u8>,
) -> Result<Outcome> {
    let give_up = Instant::now() + NOBODY;
    let reply = loop {
        let asked = async_nats::Request::new().headers(head.clone()).payload(body.clone().into());
        // Executors are given a minute for each plan.
        let asked = match head.get(headers::PLAN) {
            Some(_) => asked.timeout(Some(WITH_PLANS)),
            None => asked,
        };
        match nats.client.send_request(subject.request(), asked).await {
            // A partition whose holder died is taken over within seconds; nothing was changed meanwhile.
            Err(error) if error.kind() == RequestErrorKind::NoResponders && Instant::now() < give_up => {
                tokio::time::sleep(AGAIN).await;
            }
            other => break other.map_err(|error| unanswered(&error, &head))?,
        }
    };
    serde_json::from_slice(&reply.payload).context("the answer is not an outcome")
}

/// Why there is no answer, and what to do about it.
fn unanswered(error: &async_nats::RequestError, head: &HeaderMap) -> anyhow::Error {
    let problem = match error.kind() {
        RequestErrorKind::NoResponders => Unreachable(
            "no command service is running, so nothing was changed: start one with `wanwright up` or `wanwright serve \
             commands`, and send the command again"
                .to_owned(),
        ),
        RequestErrorKind::TimedOut => {
            let id = head.get(headers::COMMAND_ID).map(|id| format!(" {id}")).unwrap_or_default();
            TimedOut(format!(
                "the command service did not answer in time, and may still carry the command out: send it again with \
                 `--id{id}`, which is carried out once"
            ))
        }
        _ => Unreachable(format!("the command could not be sent: {error}")),
    };
    problem.into()
}

/// An order that there would be, in a line.
fn would(order: &WouldOrder) -> String {
    let what = match &order.intent {
        Intent::Apply => "apply",
        Intent::Remove => "remove",
        Intent::Observe { .. } => "look at",
        Intent::Plan { .. } => "plan",
    };
    let WouldOrder { target, vendor, generation, desired, .. } = order;
    let desired = serde_json::to_string(desired).unwrap_or_default();
    format!("would {what} {target} at {vendor}, generation {generation}: {desired}")
}

/// Prints an outcome for people.
pub fn print(subject: &CommandSubject, outcome: &Outcome) {
    let object = format!("{}/{}/{}", subject.object.kind(), subject.customer, subject.object.id());
    let repeated = if outcome.repeated { "  (repeated: this is the first outcome)" } else { "" };
    let id = outcome.command.map(|id| format!("  command {id}")).unwrap_or_default();
    match &outcome.verdict {
        Verdict::Accepted {
            position,
            events,
            generation,
            would_follow,
            would_order,
            more_orders,
            would_plan,
            more_plans,
        } => {
            let generation =
                generation.map(|generation| format!("  generation {generation}")).unwrap_or_default();
            let position =
                position.as_ref().map(|position| format!("  position {position}")).unwrap_or_default();
            let word = if outcome.dry_run { "would be accepted" } else { "accepted" };
            output::line(format!("{word}  {object}{generation}{position}{id}{repeated}"));
            match would_follow {
                Some(events) => events.iter().for_each(|event| {
                    output::line(format!("  {}", serde_json::to_string(event).unwrap_or_default()));
                }),
                None if events.is_empty() => output::line("  nothing to change"),
                None => output::line(format!("  {}", events.join(", "))),
            }
            would_order.iter().flatten().for_each(|order| output::line(format!("  {}", would(order))));
            if *more_orders > 0 {
                output::line(format!("  and {more_orders} more orders"));
            }
            would_plan.iter().flatten().for_each(plan::print_preview);
            if *more_plans > 0 {
                output::line(format!("  and {more_plans} more stacks, which were not planned"));
            }
        }
        Verdict::Refused { refusal, .. } => {
            let field = refusal.field.as_ref().map(|field| format!("{field}: ")).unwrap_or_default();
            output::line(format!("refused  {}  {field}{}{id}{repeated}", refusal.code, refusal.message));
            output::line(format!("  {}", refusal.next));
        }
    }
}
