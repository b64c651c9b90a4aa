//! What Terraform says with `-json`, one message a line.

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
}

impl Said {
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
            Some("apply_start" | "apply_complete" | "change_summary" | "planned_change") => {
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
