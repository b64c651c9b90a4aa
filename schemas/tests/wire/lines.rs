//! The frozen lines, and how each kind of line is read and written.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use wanwright_schemas::command::{Ask, Command, CommandBody};
use wanwright_schemas::effect::Effect;
use wanwright_schemas::policy::CustomerAsk;
use wanwright_schemas::run::{RunBatch, RunRecord};
use wanwright_schemas::subjects::CommandSubject;
use wanwright_schemas::{Envelope, Event, Order, Outcome, Refusal};

/// A file of frozen lines: its text, the schema its lines follow, and what a reader makes of a line, written again.
pub struct Frozen {
    pub schema: &'static str,
    pub text: &'static str,
    pub again: fn(&[u8]) -> Result<String, String>,
}

impl Frozen {
    pub fn lines(&self) -> Vec<&'static str> {
        self.text.lines().collect()
    }
}

/// Every file whose lines have one schema. A new file has its line here.
pub const FILES: &[Frozen] = &[
    Frozen { schema: "envelope", text: include_str!("../../frozen/envelope.v1.jsonl"), again: envelope },
    Frozen { schema: "event", text: include_str!("../../frozen/event.v1.jsonl"), again: json::<Event> },
    Frozen { schema: "outcome", text: include_str!("../../frozen/outcome.v1.jsonl"), again: json::<Outcome> },
    Frozen { schema: "order", text: include_str!("../../frozen/order.v1.jsonl"), again: json::<Order> },
    Frozen { schema: "run", text: include_str!("../../frozen/run.v1.jsonl"), again: json::<RunRecord> },
    Frozen { schema: "run-batch", text: include_str!("../../frozen/run.v2.jsonl"), again: json::<RunBatch> },
    Frozen { schema: "effect", text: include_str!("../../frozen/effect.v2.jsonl"), again: json::<Effect> },
];

fn envelope(line: &[u8]) -> Result<String, String> {
    let envelope = Envelope::decode(line).map_err(|error| error.to_string())?;
    let bytes = envelope.encode().map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|error| error.to_string())
}

pub fn json<T: DeserializeOwned + Serialize>(line: &[u8]) -> Result<String, String> {
    let read: T = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    serde_json::to_string(&read).map_err(|error| error.to_string())
}

/// The frozen commands.
pub const COMMANDS: &str = include_str!("../../frozen/command.v1.jsonl");

/// A frozen command: its subject, its body as it was typed, and what it says.
pub struct FrozenCommand {
    pub subject: String,
    pub body: String,
    pub says: Value,
}

pub fn commands() -> Vec<FrozenCommand> {
    let read = |line: &str| {
        let line: Value = serde_json::from_str(line).expect("JSON");
        let text = |name: &str| line[name].as_str().expect(name).to_owned();
        FrozenCommand { subject: text("subject"), body: text("body"), says: line["says"].clone() }
    };
    COMMANDS.lines().map(read).collect()
}

/// Reads a command as the service does.
pub fn parse(subject: &str, body: &[u8]) -> Result<Command, Refusal> {
    let subject = CommandSubject::parse(subject)?;
    Command::parse(subject.customer, subject.actor, &subject.object, &subject.verb, &sealed(body))
}

/// A body whose contact is sealed, as the service seals it before it reads on.
fn sealed(body: &[u8]) -> Vec<u8> {
    let Ok(mut value) = serde_json::from_slice::<Value>(body) else { return body.to_vec() };
    let Some(Value::Object(contact)) = value.get_mut("contact") else { return body.to_vec() };
    for text in contact.values_mut().filter(|text| text.is_string()) {
        *text = "sealed:v1:0192f0c1a2b37c4d8e5f60718293a4b5:QUJD".into();
    }
    value.to_string().into_bytes()
}

/// What a command says, as JSON; null where its verb says it all.
pub fn says(command: &Command) -> Value {
    fn ask<S: Serialize>(ask: &Ask<S>) -> Value {
        let said = match ask {
            Ask::Create(spec) => serde_json::to_value(spec),
            Ask::Change(patch) => return patch.clone(),
            Ask::Report(report) => serde_json::to_value(report),
            Ask::Suspend(body) => serde_json::to_value(body),
            Ask::Approve(body) => serde_json::to_value(body),
            Ask::Reject(body) => serde_json::to_value(body),
            Ask::Release(body) => serde_json::to_value(body),
            Ask::Revert(body) => serde_json::to_value(body),
            Ask::Note(body) => serde_json::to_value(body),
            Ask::Acknowledge(body) => serde_json::to_value(body),
            Ask::AssignTemplate(body) => serde_json::to_value(body),
            // Without a cascade its verb says it all.
            Ask::Decommission(body) if body.cascade => serde_json::to_value(body),
            Ask::Decommission(_)
            | Ask::Retry
            | Ask::Cancel
            | Ask::CheckDrift
            | Ask::Resume
            | Ask::Protect
            | Ask::Unprotect => return Value::Null,
        };
        said.expect("JSON")
    }
    match &command.body {
        CommandBody::CheckCustomerDrift => Value::Null,
        CommandBody::Site(_, site) => ask(site),
        CommandBody::Tunnel(_, tunnel) => ask(tunnel),
        CommandBody::Device(_, device) => ask(device),
        CommandBody::Customer(asked) => match asked {
            CustomerAsk::Change(patch) => Ok(patch.clone()),
            CustomerAsk::Decommission(body) => serde_json::to_value(body),
            CustomerAsk::Suspend(body) => serde_json::to_value(body),
            CustomerAsk::Resume | CustomerAsk::Erase => Ok(Value::Null),
            CustomerAsk::Freeze(body) => serde_json::to_value(body),
            CustomerAsk::Unfreeze(body) => serde_json::to_value(body),
            CustomerAsk::Approve(body) => serde_json::to_value(body),
            CustomerAsk::Reject(body) => serde_json::to_value(body),
            CustomerAsk::Note(body) => serde_json::to_value(body),
            CustomerAsk::ConfirmClaims(body) => serde_json::to_value(body),
        }
        .expect("JSON"),
    }
}
