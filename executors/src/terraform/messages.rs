//! What Terraform says with `-json`, one message a line.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use wanwright_schemas::reason::Reason;

use crate::engine::reason_of_class;

/// An error of Terraform or its provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    /// The class that our provider states, if it was our provider.
    pub(super) class: Option<Reason>,
    /// The sentence.
    pub(super) message: String,
    /// The resource it is about.
    pub(super) address: Option<String>,
}

/// What a run said, as far as it matters.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) problems: Vec<Problem>,
    pub(super) outputs: Map<String, Value>,
    /// Whether a refreshed resource differs from the state.
    pub(super) drifted: bool,
    /// What the plan does to which resource. One that it does nothing to is not in here.
    planned: BTreeMap<String, String>,
    /// What was done: resource and action. A replacement is a `delete` and a `create`.
    done: BTreeSet<(String, String)>,
    /// Whether the plan was made to its end.
    plan_ended: bool,
    /// Whether anything of the plan was begun. Terraform also prints what there is of a plan that failed, and then
    /// begins nothing.
    applying: bool,
}

impl Said {
    /// Whether a resource is as planned: there was nothing to do to it, or it was done.
    pub(super) fn is_done(&self, address: &str) -> bool {
        let done = |action: &str| self.done.contains(&(address.to_owned(), action.to_owned()));
        self.plan_ended
            && self.applying
            && self.planned.get(address).is_none_or(|planned| match planned.as_str() {
                "replace" => done("create") && done("delete"),
                action => done(action),
            })
    }

    /// Takes a line in, and answers what of it belongs into the live log: level and text.
    pub(super) fn line(&mut self, line: &str) -> Option<(&'static str, String)> {
        let Ok(message) = serde_json::from_str::<Value>(line) else {
            return (!line.trim().is_empty()).then(|| ("warn", line.trim().to_owned()));
        };
        let text = |pointer: &str| message.pointer(pointer).and_then(Value::as_str);
        let said = text("/@message").unwrap_or_default().to_owned();
        match text("/type") {
            Some("diagnostic") if text("/diagnostic/severity") == Some("error") => {
                let problem = problem(&message);
                let shown = match &problem.address {
                    Some(address) => format!("{address}: {}", problem.message),
                    None => problem.message.clone(),
                };
                self.problems.push(problem);
                Some(("error", shown))
            }
            Some("diagnostic") => Some(("warn", said)),
            Some("resource_drift") => {
                self.drifted = true;
                Some(("warn", said))
            }
            Some("outputs") => {
                for (name, output) in message.get("outputs").and_then(Value::as_object)? {
                    if let Some(value) = output.get("value") {
                        self.outputs.insert(name.clone(), value.clone());
                    }
                }
                None
            }
            Some("planned_change") => {
                if let (Some(address), Some(action)) = (text("/change/resource/addr"), text("/change/action"))
                {
                    self.planned.insert(address.to_owned(), action.to_owned());
                }
                Some(("info", said))
            }
            Some("change_summary") => {
                self.plan_ended |= text("/changes/operation") == Some("plan");
                Some(("info", said))
            }
            Some("apply_start") => {
                self.applying = true;
                Some(("info", said))
            }
            Some("apply_complete") => {
                if let (Some(address), Some(action)) = (text("/hook/resource/addr"), text("/hook/action")) {
                    self.done.insert((address.to_owned(), action.to_owned()));
                }
                Some(("info", said))
            }
            Some("apply_errored") => Some(("error", said)),
            _ => None,
        }
    }
}

fn problem(message: &Value) -> Problem {
    let text = |pointer: &str| message.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (summary, detail) = (text("/diagnostic/summary"), text("/diagnostic/detail"));
    let class = summary.split(|c: char| !c.is_ascii_alphanumeric()).next().and_then(reason_of_class);
    let message = if detail.is_empty() { summary.to_owned() } else { format!("{summary}: {detail}") };
    let address = text("/diagnostic/address");
    Problem { class, message, address: (!address.is_empty()).then(|| address.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_carry_their_class_and_their_resource() {
        let mut said = Said::default();
        let line = r#"{"@message":"Error: VendorRefused","type":"diagnostic","diagnostic":{"severity":"error",
            "summary":"VendorRefused: mtu","detail":"mtu is too large","address":"wanwright_simwan_tunnel.tunnel[\"t1\"]"}}"#
            .replace('\n', "");
        assert_eq!(said.line(&line).map(|(level, _)| level), Some("error"));
        assert_eq!(said.problems[0].class, Some(Reason::VendorRefused));
        assert_eq!(said.problems[0].address.as_deref(), Some("wanwright_simwan_tunnel.tunnel[\"t1\"]"));
    }

    #[test]
    fn done_is_what_was_not_planned_or_completed() {
        let mut said = Said::default();
        let mut hear = |line: &str| drop(said.line(line));
        hear(r#"{"type":"planned_change","change":{"resource":{"addr":"a"},"action":"replace"}}"#);
        hear(r#"{"type":"planned_change","change":{"resource":{"addr":"b"},"action":"update"}}"#);
        hear(r#"{"type":"change_summary","changes":{"operation":"plan"}}"#);
        assert!(!said.is_done("c"), "a plan that failed is printed too, but nothing of it is begun");
        let mut hear = |line: &str| drop(said.line(line));
        hear(r#"{"type":"apply_start","hook":{"resource":{"addr":"a"},"action":"delete"}}"#);
        hear(r#"{"type":"apply_complete","hook":{"resource":{"addr":"a"},"action":"delete"}}"#);
        assert!(said.is_done("c"));
        assert!(!said.is_done("a"), "deleted, but not created again");
        assert!(!said.is_done("b"));
        said.line(r#"{"type":"apply_complete","hook":{"resource":{"addr":"a"},"action":"create"}}"#);
        assert!(said.is_done("a"));
    }

    #[test]
    fn outputs_are_values_and_noise_is_left_out() {
        let mut said = Said::default();
        assert_eq!(said.line(r#"{"type":"version","@message":"Terraform 1.11"}"#), None);
        assert_eq!(
            said.line(r#"{"type":"outputs","outputs":{"site":{"sensitive":false,"value":{"id":"s1"}}}}"#),
            None
        );
        assert_eq!(said.outputs["site"]["id"], "s1");
        assert_eq!(said.line("panic: oh"), Some(("warn", "panic: oh".to_owned())));
    }
}
