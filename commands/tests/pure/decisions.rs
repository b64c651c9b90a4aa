//! Commands that were decided once are decided in the same way today: the same events, or a refusal for the same reason.
//!
//! What is recorded stays. Whoever changes a rule on purpose records beside it, under the next version, and says in the
//! commit which lines of this one mean something else now.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use wanwright_schemas::{Event, KeyId, Refusal};
use wanwright_vendors::Catalogue;

use crate::harness::{VENDORS, VENDORS_LATER, World};
use crate::properties;

/// Some customers' commands in the order in which they were decided, with what was decided.
const DECISIONS: &str = include_str!("frozen/decisions.v1.jsonl");

/// How many customers are recorded, and how many commands of each.
const CUSTOMERS: usize = 15;
const COMMANDS: usize = 75;

/// A command, and what was decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    pub actor: String,
    /// Its subject after the actor.
    pub subject: String,
    pub body: String,
    pub received: jiff::Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speaks: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyId>,
    pub decided: Decided,
}

/// Events as they are stored, or the reason and the field. How a refusal is worded is no rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decided {
    Events(Vec<Value>),
    Refused(String, Option<String>),
}

impl Decided {
    pub fn of(decided: &Result<Vec<Event>, Refusal>) -> Self {
        let stored = |event| serde_json::to_value(event).expect("an event");
        match decided {
            Ok(events) => Self::Events(events.iter().map(stored).collect()),
            Err(refusal) => Self::Refused(refusal.code.code().to_owned(), refusal.field.clone()),
        }
    }
}

/// A line: whose command it is, by number.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    customer: usize,
    #[serde(flatten)]
    decision: Decision,
}

fn recorded() -> BTreeMap<usize, Vec<Decision>> {
    let mut customers: BTreeMap<usize, Vec<Decision>> = BTreeMap::new();
    for line in DECISIONS.lines() {
        let line: Line = serde_json::from_str(line).expect("a decision");
        customers.entry(line.customer).or_default().push(line.decision);
    }
    customers
}

/// What is decided differently with these vendors: the customer, the place, what was decided and what is now.
fn differing(vendors: &'static Catalogue) -> Vec<String> {
    let mut differing = Vec::new();
    for (customer, decisions) in recorded() {
        let mut world = World { vendors, ..World::default() };
        for (at, decision) in decisions.iter().enumerate() {
            world.now = decision.received;
            world.speaks = decision.speaks.as_ref().and_then(|version| version.parse().ok());
            world.key = decision.key;
            let Decision { actor, subject, body, expected, decided, .. } = decision;
            let now = Decided::of(&world.send(actor, subject, body, *expected));
            if now != *decided {
                differing.push(format!("{customer}, {at}: {subject} {body}\nwas {decided:?}\nis {now:?}"));
                // What follows is decided on another state.
                break;
            }
        }
    }
    differing
}

#[test]
fn what_was_decided_is_decided_again() {
    let differing = differing(&VENDORS);
    assert!(differing.is_empty(), "{}", differing.join("\n\n"));
}

#[test]
fn another_rule_is_noticed() {
    assert!(!differing(&VENDORS_LATER).is_empty());
}

#[test]
fn what_is_recorded_tells_of_most_rules() {
    let (mut events, mut refused) = (BTreeSet::new(), BTreeSet::new());
    for decision in recorded().into_values().flatten() {
        match decision.decided {
            Decided::Events(all) => events.extend(all.iter().map(|event| event["type"].to_string())),
            Decided::Refused(code, _) => {
                refused.insert(code);
            }
        }
    }
    assert!(events.len() >= 25, "{} types of events: {events:?}", events.len());
    assert!(refused.len() >= 15, "{} reasons: {refused:?}", refused.len());
}

#[test]
#[ignore = "writes the file that the tests above read, where there is none"]
fn record() {
    use std::io::Write;
    let lives = properties::lives(CUSTOMERS, COMMANDS);
    let lines = lives.into_iter().enumerate().flat_map(|(customer, decisions)| {
        let line = move |decision| serde_json::to_string(&Line { customer, decision }).expect("JSON") + "\n";
        decisions.into_iter().map(line)
    });
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pure/frozen/decisions.v1.jsonl");
    let text: String = lines.collect();
    std::fs::File::create_new(file).expect("what is recorded stays").write_all(text.as_bytes()).unwrap();
}
