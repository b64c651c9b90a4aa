//! Rules across the fields of a place, written in the Common Expression Language as Kubernetes' custom resources have
//! them: `self` is the value of the place, `oldSelf` what it was before the command.
//!
//! A rule is compiled once, when the folder is loaded. It is typed against the schema, so a field that does not exist is
//! an error of the folder, and its cost is bounded by the bounds the schema sets to lists and texts, so that no settings
//! can make a rule slow.

mod compile;
mod cost;
mod typed;
mod values;

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use cel::parser::Expression;
use cel::{Context, Env, Value as CelValue};
use serde_json::Value;

pub(super) use compile::{KEY, read};
pub(super) use cost::within_budget;

use super::Node;

/// One rule of a place.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    /// The rule as it was written.
    pub(super) source: String,
    /// What to say when it is broken.
    pub(super) message: String,
    /// The property that is at fault, below the place; the place itself when none is named.
    pub(super) field: Option<String>,
    /// Whether it compares with `oldSelf`: then it holds for changes only.
    pub(super) transition: bool,
    /// The fields of the place that it reads; nothing when it reads the place as a whole.
    reads: Option<BTreeSet<String>>,
    /// Most steps one evaluation takes.
    cost: u64,
    expression: Arc<Expression>,
}

/// What was written decides what was compiled.
impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        (&self.source, &self.message, &self.field) == (&other.source, &other.message, &other.field)
    }
}

/// The standard functions; built once, for it is the same for every rule.
static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// The rules of a place that a value breaks, each with what the evaluation said if it could not answer.
pub(super) fn broken<'a>(
    node: &'a Node,
    value: &Value,
    old: Option<&Value>,
) -> Vec<(&'a Rule, Option<String>)> {
    if node.rules.is_empty() {
        return Vec::new();
    }
    let reads = |name: &str| node.rules.iter().any(|rule| rule.reads(name));
    let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
    context.add_variable_from_value("self", values::of(node, value, &reads));
    if let Some(old) = old {
        context.add_variable_from_value("oldSelf", values::of(node, old, &reads));
    }
    let due = node.rules.iter().filter(|rule| !rule.transition || old.is_some());
    due.filter_map(|rule| match rule.holds(&context) {
        Ok(true) => None,
        Ok(false) => Some((rule, None)),
        Err(why) => Some((rule, Some(why))),
    })
    .collect()
}

impl Rule {
    /// Whether it reads that field of its place.
    pub(super) fn reads(&self, field: &str) -> bool {
        self.reads.as_ref().is_none_or(|reads| reads.contains(field))
    }

    fn holds(&self, context: &Context<'_, '_>) -> Result<bool, String> {
        // The interpreter is not ours: should it panic, one command is refused and not every customer's lane ended.
        let evaluate = || CelValue::resolve(&self.expression, context);
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(evaluate)) {
            Ok(Ok(CelValue::Bool(answer))) => Ok(answer),
            Ok(Ok(_)) => Err("it answers neither true nor false".to_owned()),
            Ok(Err(error)) => Err(super::check::clipped(&error.to_string(), 200)),
            Err(_) => Err("its evaluation failed".to_owned()),
        }
    }
}
