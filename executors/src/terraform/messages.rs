//! What Terraform says with `-json`, one message a line.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use wanwright_schemas::reason::Reason;
use wanwright_schemas::run::{ResourceState, ResourceStep};

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

/// What stands where a secret was.
const TAKEN_OUT: &str = "(taken out)";

/// What must not be told on, wherever Terraform or a provider quotes it.
#[derive(Debug)]
pub(super) struct Secrets(Vec<String>);

impl Secrets {
    /// Tokens of letters and digits: JSON and URLs write them as they are.
    pub(super) fn new<'a>(tokens: impl IntoIterator<Item = &'a str>) -> Self {
        let tokens: Vec<&str> = tokens.into_iter().filter(|token| !token.is_empty()).collect();
        // A backend's login may be quoted as the header that it is sent in.
        let headers = tokens.iter().map(|token| STANDARD.encode(format!("{}:{token}", super::state::USER)));
        Self(tokens.iter().map(|token| (*token).to_owned()).chain(headers).collect())
    }

    /// A line without them.
    pub(super) fn taken_out(&self, line: String) -> String {
        self.0.iter().fold(line, |line, secret| match line.contains(secret.as_str()) {
            true => line.replace(secret.as_str(), TAKEN_OUT),
            false => line,
        })
    }
}

/// Whether Terraform has done something that takes memory when it says this.
pub(super) fn is_telling(line: &str) -> bool {
    ["\"change_summary\"", "\"outputs\"", "\"diagnostic\""].iter().any(|kind| line.contains(kind))
}

/// What of a line belongs into the live log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Heard {
    /// `info`, `warn` or `error`.
    pub(super) level: &'static str,
    pub(super) text: String,
    /// The step of a resource that it tells of.
    pub(super) step: Option<ResourceStep>,
}

impl Heard {
    fn plain(level: &'static str, text: String) -> Option<Self> {
        Some(Self { level, text, step: None })
    }
}

/// What a run said, as far as it matters.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) problems: Vec<Problem>,
    pub(super) outputs: Map<String, Value>,
    /// Whether a refreshed resource differs from the state.
    pub(super) drifted: bool,
    /// The end of what it said beside its messages.
    pub(super) last_words: String,
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

    /// Whether Terraform came as far as to have a plan: before that it changes nothing.
    pub(super) fn is_planned(&self) -> bool {
        self.plan_ended
    }

    /// Takes in what was planned by a run before this one, as Terraform tells it of the plan's file: it does not say it
    /// again when it applies that.
    pub(super) fn planned_before(&mut self, shown: &Value) {
        for resource in shown.get("resource_changes").and_then(Value::as_array).into_iter().flatten() {
            let actions = resource.pointer("/change/actions").and_then(Value::as_array);
            let action = match actions.map(Vec::as_slice) {
                Some([only]) => only.as_str().unwrap_or_default(),
                _ => "replace",
            };
            if let Some(address) =
                resource.get("address").and_then(Value::as_str).filter(|_| action != "no-op")
            {
                self.planned.insert(address.to_owned(), action.to_owned());
            }
        }
        self.plan_ended = true;
    }

    /// A step of a resource that was just noted.
    fn step(&self, address: &str, action: &str, state: ResourceState) -> Option<ResourceStep> {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let done = self.planned.keys().filter(|address| self.is_done(address)).count();
        let (address, action) = (address.to_owned(), action.to_owned());
        Some(ResourceStep { address, action, state, done: count(done), total: count(self.planned.len()) })
    }

    /// Takes a line in, and answers what of it belongs into the live log.
    pub(super) fn line(&mut self, line: &str) -> Option<Heard> {
        let Ok(message) = serde_json::from_str::<Value>(line) else {
            let said = line.trim();
            return if said.is_empty() { None } else { Heard::plain("warn", said.to_owned()) };
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
                Heard::plain("error", shown)
            }
            Some("diagnostic") => Heard::plain("warn", said),
            Some("resource_drift") => {
                self.drifted = true;
                Heard::plain("warn", said)
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
                let (address, action) = (text("/change/resource/addr"), text("/change/action"));
                let (Some(address), Some(action)) = (address, action) else {
                    return Heard::plain("info", said);
                };
                self.planned.insert(address.to_owned(), action.to_owned());
                let step = self.step(address, action, ResourceState::Planned);
                Some(Heard { level: "info", text: said, step })
            }
            Some("change_summary") => {
                self.plan_ended |= text("/changes/operation") == Some("plan");
                Heard::plain("info", said)
            }
            Some(kind @ ("apply_start" | "apply_complete" | "apply_errored")) => {
                let (address, action) = (text("/hook/resource/addr"), text("/hook/action"));
                let hook = address.zip(action);
                let (level, step) = self.applied(kind, hook);
                Some(Heard { level, text: said, step })
            }
            _ => None,
        }
    }

    /// Notes what was begun, done or failed.
    fn applied(&mut self, kind: &str, hook: Option<(&str, &str)>) -> (&'static str, Option<ResourceStep>) {
        let (level, state) = match kind {
            "apply_start" => {
                self.applying = true;
                ("info", ResourceState::Applying)
            }
            "apply_complete" => {
                self.done.extend(hook.map(|(address, action)| (address.to_owned(), action.to_owned())));
                ("info", ResourceState::Done)
            }
            _ => ("error", ResourceState::Failed),
        };
        (level, hook.and_then(|(address, action)| self.step(address, action, state)))
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
        assert_eq!(said.line(&line).map(|heard| heard.level), Some("error"));
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
        assert_eq!(said.line("panic: oh"), Heard::plain("warn", "panic: oh".to_owned()));
    }

    #[test]
    fn each_resource_is_followed_with_the_count_of_all() {
        let mut said = Said::default();
        let mut hear = |line: &str| {
            let step = said.line(line).and_then(|heard| heard.step);
            step.map(|step| (step.address, step.state.as_str(), step.done, step.total))
        };
        let at = |address: &str, state, done, total| Some((address.to_owned(), state, done, total));
        let planned = |address: &str, action: &str| {
            format!(
                r#"{{"type":"planned_change","change":{{"resource":{{"addr":"{address}"}},"action":"{action}"}}}}"#
            )
        };
        let hook = |kind: &str, address: &str, action: &str| {
            format!(r#"{{"type":"{kind}","hook":{{"resource":{{"addr":"{address}"}},"action":"{action}"}}}}"#)
        };
        assert_eq!(hear(&planned("a", "replace")), at("a", "planned", 0, 1));
        assert_eq!(hear(&planned("b", "create")), at("b", "planned", 0, 2));
        assert_eq!(hear(r#"{"type":"change_summary","changes":{"operation":"plan"}}"#), None);
        assert_eq!(hear(&hook("apply_start", "a", "delete")), at("a", "applying", 0, 2));
        assert_eq!(hear(&hook("apply_complete", "a", "delete")), at("a", "done", 0, 2), "half of it");
        assert_eq!(hear(&hook("apply_start", "a", "create")), at("a", "applying", 0, 2));
        assert_eq!(hear(&hook("apply_complete", "a", "create")), at("a", "done", 1, 2));
        assert_eq!(hear(&hook("apply_start", "b", "create")), at("b", "applying", 1, 2));
        assert_eq!(hear(&hook("apply_errored", "b", "create")), at("b", "failed", 1, 2));
    }

    #[test]
    fn tokens_are_taken_out_of_whatever_is_quoted() {
        let secrets = Secrets::new(["0a1b2c", "", "9f8e7d"]);
        let header = STANDARD.encode("run:9f8e7d");
        let line = format!("POST http://127.0.0.1:1/r/0a1b2c/v1/sites: Basic {header}, 9f8e7d twice 9f8e7d");
        let told = secrets.taken_out(line);
        assert_eq!(
            told,
            "POST http://127.0.0.1:1/r/(taken out)/v1/sites: Basic (taken out), (taken out) twice (taken out)"
        );
        assert_eq!(secrets.taken_out("nothing".to_owned()), "nothing");
    }

    #[test]
    fn what_terraform_calls_sensitive_is_in_no_line() {
        let mut said = Said::default();
        let output = r#"{"type":"outputs","@message":"Outputs: 1","outputs":{"key":{"sensitive":true,"value":"hunter2"}}}"#;
        assert_eq!(said.line(output), None);
        let diagnostic =
            r#"{"@message":"Error: no","type":"diagnostic","diagnostic":{"severity":"error","summary":"no",
            "detail":"","snippet":{"values":[{"traversal":"var.key","statement":"is \"hunter2\""}]}}}"#
                .replace('\n', "");
        assert_eq!(said.line(&diagnostic).map(|heard| heard.text), Some("no".to_owned()));
    }
}
