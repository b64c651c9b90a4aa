//! From what Terraform said and the state it left to findings about the stack's objects.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use wanwright_commands::orders::tunnel_inputs;
use wanwright_schemas::command::ObjectRef;
use wanwright_schemas::order::{DesiredSite, DesiredTunnel, Intent};
use wanwright_schemas::reason::Reason;
use wanwright_schemas::report::{DriftField, Finding, ObjectFinding, Outputs};
use wanwright_schemas::{CommandId, TunnelId};
use wanwright_vendors::{TerraformTemplate, Vendor};

use super::messages::{Problem, Said};
use crate::engine::{ABSENCE, with_inputs};

/// The stack an order is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stack<'a> {
    pub(super) site: &'a DesiredSite,
    pub(super) tunnels: &'a BTreeMap<TunnelId, DesiredTunnel>,
    pub(super) leaving: &'a BTreeMap<TunnelId, CommandId>,
    pub(super) vendor: &'a Vendor,
    pub(super) template: &'a TerraformTemplate,
}

impl Stack<'_> {
    fn of_site(&self, finding: Finding) -> ObjectFinding {
        ObjectFinding { object: ObjectRef::Site(self.site.id.clone()), uid: self.site.uid, finding }
    }

    fn of_tunnel(&self, id: &TunnelId, uid: CommandId, finding: Finding) -> ObjectFinding {
        ObjectFinding { object: ObjectRef::Tunnel(id.clone()), uid, finding }
    }

    fn gone(&self) -> impl Iterator<Item = ObjectFinding> + '_ {
        self.leaving.iter().map(|(id, uid)| self.of_tunnel(id, *uid, Finding::Removed))
    }

    /// The address of an object's resource.
    fn address(&self, tunnel: Option<&TunnelId>) -> Option<String> {
        match tunnel {
            None => Some(self.template.outputs.get("site")?.resource.clone()),
            Some(id) => Some(format!("{}[\"{id}\"]", self.template.outputs.get("tunnel")?.resource)),
        }
    }

    /// The kind of object that resources of a type are.
    pub(super) fn kind_of(&self, r#type: &str) -> Option<&'static str> {
        let is_it = |kind: &&str| {
            let output = self.template.outputs.get(*kind);
            output.and_then(|output| output.resource.split_once('.')).is_some_and(|(of, _)| of == r#type)
        };
        ["site", "tunnel"].into_iter().find(is_it)
    }

    /// The resource type that our provider has for a kind.
    pub(super) fn own_type(&self, kind: &str) -> String {
        wanwright_provider::resource_type(&self.vendor.name, kind)
    }

    /// The name of the object at an address, and what it should be.
    pub(super) fn desired_at(&self, address: &str) -> Option<(String, Value)> {
        if self.address(None).as_deref() == Some(address) {
            return Some((self.site.name.clone(), serde_json::to_value(self.site).ok()?));
        }
        let is_it =
            |(id, _): &(&TunnelId, &DesiredTunnel)| self.address(Some(id)).as_deref() == Some(address);
        let (_, tunnel) = self.tunnels.iter().find(is_it)?;
        Some((tunnel.name.clone(), serde_json::to_value(tunnel).ok()?))
    }

    /// After an apply without an error: everything is applied, with the outputs that the folder names.
    pub(super) fn applied(&self, outputs: &Map<String, Value>) -> Vec<ObjectFinding> {
        let output = |kind: &str| outputs.get(&self.template.outputs.get(kind)?.output);
        let object = |value: Option<&Value>| value.and_then(Value::as_object).cloned().unwrap_or_default();
        let of_tunnels = output("tunnel");
        let tunnels = self.tunnels.iter().map(|(id, tunnel)| {
            let outputs = object(of_tunnels.and_then(|tunnels| tunnels.get(id.as_str())));
            self.of_tunnel(id, tunnel.uid, applied_tunnel(tunnel, outputs))
        });
        let generation = self.site.generation;
        let site = self.of_site(Finding::Applied { generation, outputs: object(output("site")) });
        std::iter::once(site).chain(tunnels).chain(self.gone()).collect()
    }

    /// After a run in which the vendor refused something for good: what it refused failed, what was done is done, and
    /// what Terraform did not come to failed with it. `None` when an error cannot be pinned to an object, or when the
    /// state does not hold what was done.
    pub(super) fn partly(&self, said: &Said, state: &Value, intent: &Intent) -> Option<Vec<ObjectFinding>> {
        let mut failures: BTreeMap<String, &Problem> = BTreeMap::new();
        for problem in &said.problems {
            let known = failures.entry(problem.address.clone()?).or_insert(problem);
            // A person has to look, whatever else went wrong with it.
            if problem.class == Some(Reason::OutcomeUnknown) {
                *known = problem;
            }
        }
        let (first, cause) = failures.iter().next()?;
        let skipped = Problem { message: format!("not attempted: {first} failed"), ..(*cause).clone() };
        let mut known = BTreeSet::new();
        // Whether a resource is as planned, or why not.
        let mut judge = |address: String, generation: u64| {
            let failure = match failures.get(&address) {
                Some(problem) => Some(*problem),
                None if said.is_done(&address) => None,
                None => Some(&skipped),
            };
            known.insert(address);
            let failed = |problem: &Problem| {
                let code = problem.class.unwrap_or(Reason::Internal);
                Finding::Failed { generation, code, message: problem.message.clone() }
            };
            failure.map(failed)
        };
        let removing = matches!(intent, Intent::Remove);
        let generation = self.site.generation;
        let site = match judge(self.address(None)?, generation) {
            Some(failed) => failed,
            None if removing => Finding::Removed,
            None => Finding::Applied { generation, outputs: self.outputs_in(state, None)? },
        };
        let mut findings = vec![self.of_site(site)];
        for (id, tunnel) in self.tunnels {
            let finding = match judge(self.address(Some(id))?, tunnel.generation) {
                Some(failed) => failed,
                None if removing => Finding::Removed,
                None => applied_tunnel(tunnel, self.outputs_in(state, Some(id))?),
            };
            findings.push(self.of_tunnel(id, tunnel.uid, finding));
        }
        for (id, uid) in self.leaving {
            let finding = judge(self.address(Some(id))?, ABSENCE).unwrap_or(Finding::Removed);
            findings.push(self.of_tunnel(id, *uid, finding));
        }
        failures.keys().all(|address| known.contains(address)).then_some(findings)
    }

    /// After a destroy: nothing is left.
    pub(super) fn removed(&self) -> Vec<ObjectFinding> {
        let tunnels =
            self.tunnels.iter().map(|(id, tunnel)| self.of_tunnel(id, tunnel.uid, Finding::Removed));
        tunnels.chain(self.gone()).chain(std::iter::once(self.of_site(Finding::Removed))).collect()
    }

    /// After a look: what the refresh changed in the state is drift. `plan` is Terraform's own account of it.
    ///
    /// An object that the state does not hold was compared with nothing. That is drift as well: applying again finds
    /// the object at the vendor by its idempotency key, or makes it, and either way the state holds it again.
    pub(super) fn observed(
        &self,
        check: CommandId,
        plan: Option<&Value>,
        state: &Value,
    ) -> Vec<ObjectFinding> {
        let drift = plan.and_then(|plan| plan.get("resource_drift")).and_then(Value::as_array);
        let finding = |kind: &str, tunnel: Option<&TunnelId>| {
            let address = self.address(tunnel);
            let is_it = |change: &&Value| change.get("address").and_then(Value::as_str) == address.as_deref();
            let change = drift.and_then(|drift| drift.iter().find(is_it));
            let fields = match change {
                Some(change) => self.fields(kind, change),
                None if self.holds(state, tunnel) => Vec::new(),
                None => vec![DriftField {
                    field: "terraform_state".to_owned(),
                    desired: address.into(),
                    observed: Value::Null,
                }],
            };
            if fields.is_empty() { Finding::InSync { check } } else { Finding::Drifted { check, fields } }
        };
        let tunnels = self
            .tunnels
            .iter()
            .map(|(id, tunnel)| self.of_tunnel(id, tunnel.uid, finding("tunnel", Some(id))));
        std::iter::once(self.of_site(finding("site", None))).chain(tunnels).collect()
    }

    fn fields(&self, kind: &str, change: &Value) -> Vec<DriftField> {
        let side = |name: &str| change.pointer(&format!("/change/{name}")).cloned().unwrap_or_default();
        let (before, after) = (side("before"), side("after"));
        if after.is_null() {
            let desired = before.get("id").cloned().unwrap_or_default();
            return vec![DriftField { field: "id".to_owned(), desired, observed: Value::Null }];
        }
        let Some(api) = self.vendor.api.get(kind) else { return Vec::new() };
        let (Some(before), Some(after)) = (before.as_object(), after.as_object()) else { return Vec::new() };
        let fields = api.differences(before, after).into_iter().map(|difference| DriftField {
            field: difference.attribute,
            desired: difference.desired,
            observed: difference.observed,
        });
        fields.collect()
    }

    /// The state's instance of an object, whole or tainted.
    fn instance<'s>(&self, state: &'s Value, tunnel: Option<&TunnelId>) -> Option<&'s Value> {
        let kind = if tunnel.is_some() { "tunnel" } else { "site" };
        let (r#type, name) = self.template.outputs.get(kind)?.resource.split_once('.')?;
        let resources = state.get("resources")?.as_array()?;
        let is = |resource: &&Value, key: &str, text: &str| {
            resource.get(key).and_then(Value::as_str) == Some(text)
        };
        let resource = resources.iter().find(|found| is(found, "type", r#type) && is(found, "name", name))?;
        resource.get("instances")?.as_array()?.iter().find(|instance| {
            instance.get("index_key").and_then(Value::as_str) == tunnel.map(TunnelId::as_str)
        })
    }

    /// Whether the state holds an object.
    pub(super) fn holds(&self, state: &Value, tunnel: Option<&TunnelId>) -> bool {
        self.instance(state, tunnel).is_some()
    }

    /// What the state holds of an object: its id and what the vendor computed.
    fn outputs_in(&self, state: &Value, tunnel: Option<&TunnelId>) -> Option<Outputs> {
        let kind = if tunnel.is_some() { "tunnel" } else { "site" };
        // A tainted instance was created but is not as it should be.
        let instance = self.instance(state, tunnel).filter(|instance| instance.get("status").is_none())?;
        let attributes = instance.get("attributes")?.as_object()?;
        let api = self.vendor.api.get(kind)?;
        let computed = |name: &str| {
            name == "id" || api.attributes.get(name).is_some_and(wanwright_vendors::Attribute::is_computed)
        };
        Some(
            attributes
                .iter()
                .filter(|(name, _)| computed(name))
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect(),
        )
    }
}

fn applied_tunnel(tunnel: &DesiredTunnel, outputs: Outputs) -> Finding {
    let outputs = with_inputs(outputs, tunnel_inputs(&tunnel.peer_address));
    Finding::Applied { generation: tunnel.generation, outputs }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;
    use wanwright_schemas::order::{Desired, Order};
    use wanwright_schemas::outcome::Position;
    use wanwright_vendors::Catalogue;

    use super::*;
    use crate::engine::Outcome;
    use crate::terraform::outcomes::{finally, is_final};

    const SITE: &str = "wanwright_simwan_site.site";
    const TUNNEL: &str = "wanwright_simwan_tunnel.tunnel[\"t1\"]";
    const LEAVING: &str = "wanwright_simwan_tunnel.tunnel[\"t2\"]";

    fn with_stack<T>(test: impl FnOnce(Stack<'_>) -> T) -> T {
        let vendors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vendors");
        let catalogue = Catalogue::load(&vendors).expect("the vendors");
        let vendor = catalogue.get("simwan").expect("simwan");
        let uid = CommandId::mint();
        let site = DesiredSite {
            id: "oslo".parse().expect("an id"),
            uid,
            generation: 3,
            name: "acme.oslo".to_owned(),
            lan: Vec::new(),
            settings: Default::default(),
        };
        let tunnel = DesiredTunnel {
            uid,
            generation: 2,
            name: "acme.t1".to_owned(),
            inside: "169.254.0.0/30".to_owned(),
            peer_address: "198.51.100.1".to_owned(),
            local_asn: 0,
            peer_asn: 0,
            settings: Default::default(),
        };
        let tunnels = BTreeMap::from([("t1".parse().expect("an id"), tunnel)]);
        let leaving = BTreeMap::from([("t2".parse().expect("an id"), uid)]);
        let template = vendor.terraform.as_ref().expect("a template");
        test(Stack { site: &site, tunnels: &tunnels, leaving: &leaving, vendor, template })
    }

    fn state() -> Value {
        json!({"resources": [
            {"type": "wanwright_simwan_site", "name": "site", "instances": [{"attributes": {"id": "s1"}}]},
            {"type": "wanwright_simwan_tunnel", "name": "tunnel",
                "instances": [{"index_key": "t1", "attributes": {"id": "x1"}}]},
        ]})
    }

    /// What Terraform says when it plans and does these, and the vendor refuses one.
    fn said(planned: &[(&str, &str)], begun: bool, done: &[(&str, &str)], refused: &str) -> Said {
        let mut said = Said::default();
        let mut hear = |message: Value| drop(said.line(&message.to_string()));
        for (address, action) in planned {
            let change = json!({"resource": {"addr": address}, "action": action});
            hear(json!({"type": "planned_change", "change": change}));
        }
        hear(json!({"type": "change_summary", "changes": {"operation": "plan"}}));
        if begun {
            hear(json!({"type": "apply_start", "hook": {"resource": {"addr": refused}}}));
        }
        for (address, action) in done {
            hear(
                json!({"type": "apply_complete", "hook": {"resource": {"addr": address}, "action": action}}),
            );
        }
        let diagnostic =
            json!({"severity": "error", "summary": "VendorRefused: no", "detail": "", "address": refused});
        hear(json!({"type": "diagnostic", "diagnostic": diagnostic}));
        said
    }

    /// Codes and messages of what failed.
    fn codes(findings: Vec<ObjectFinding>) -> Vec<Option<(Reason, String)>> {
        let code = |found: ObjectFinding| match found.finding {
            Finding::Failed { code, message, .. } => Some((code, message)),
            _ => None,
        };
        findings.into_iter().map(code).collect()
    }

    fn words(findings: Option<Vec<ObjectFinding>>) -> Vec<String> {
        let word = |finding: Finding| match finding {
            Finding::Applied { generation, .. } => format!("applied {generation}"),
            Finding::Failed { generation, message, .. } => format!("failed {generation}: {message}"),
            other => format!("{other:?}"),
        };
        findings.into_iter().flatten().map(|found| word(found.finding)).collect()
    }

    #[test]
    fn what_terraform_did_not_come_to_is_not_applied() {
        let planned = [(SITE, "update"), (TUNNEL, "update"), (LEAVING, "delete")];
        with_stack(|stack| {
            let said = said(&planned, true, &[(LEAVING, "delete")], SITE);
            let skipped = format!("failed 2: not attempted: {SITE} failed");
            let expected = ["failed 3: VendorRefused: no".to_owned(), skipped, "Removed".to_owned()];
            assert_eq!(words(stack.partly(&said, &state(), &Intent::Apply)), expected);
        });
    }

    #[test]
    fn what_was_not_planned_or_was_done_is_applied() {
        with_stack(|stack| {
            let said = said(&[(SITE, "update"), (LEAVING, "delete")], true, &[(SITE, "update")], LEAVING);
            let expected = ["applied 3", "applied 2", "failed 0: VendorRefused: no"];
            assert_eq!(words(stack.partly(&said, &state(), &Intent::Apply)), expected);
        });
    }

    #[test]
    fn a_plan_that_failed_applied_nothing() {
        with_stack(|stack| {
            let said = said(&[(SITE, "update")], false, &[], TUNNEL);
            let findings = words(stack.partly(&said, &state(), &Intent::Apply));
            assert!(findings.iter().all(|finding| finding.starts_with("failed")), "{findings:?}");
        });
    }

    #[test]
    fn a_destroy_that_was_refused_removed_what_it_came_to() {
        with_stack(|stack| {
            let planned = [(SITE, "delete"), (TUNNEL, "delete")];
            let said = said(&planned, true, &[(TUNNEL, "delete")], SITE);
            let findings = words(stack.partly(&said, &state(), &Intent::Remove));
            assert_eq!(findings, ["failed 3: VendorRefused: no", "Removed", "Removed"]);
        });
    }

    #[test]
    fn what_a_person_has_to_look_at_is_not_tried_again_for_something_that_passes() {
        let diagnostic = |summary: &str, address: &str| {
            json!({"type": "diagnostic", "diagnostic":
                {"severity": "error", "summary": summary, "detail": "", "address": address}})
        };
        let (unknown, busy) = ("OutcomeUnknown: asked for", "VendorBusy: not now");
        let judged = |problems: &[(&str, &str)]| {
            let mut said = said(&[(SITE, "update"), (TUNNEL, "create")], true, &[], SITE);
            said.problems.clear();
            for (summary, address) in problems {
                said.line(&diagnostic(summary, address).to_string());
            }
            with_stack(|stack| {
                let (tunnels, leaving) = (stack.tunnels.clone(), stack.leaving.clone());
                let desired = Desired::Site { site: stack.site.clone(), tunnels, leaving };
                let position = Position { stream: "EVENTS-0".to_owned(), sequence: 1 };
                let (customer, vendor) = ("acme".parse().expect("an id"), "simwan".parse().expect("an id"));
                let order = Order::new(customer, vendor, Intent::Apply, 0, desired, position);
                is_final(&said).then(|| match finally(&order, &stack, &said, &state()) {
                    Outcome::Done(findings) => codes(findings),
                    Outcome::Passing { code, .. } => panic!("{code}"),
                })
            })
        };
        let of = |code: Reason, message: &str| Some((code, message.to_owned()));
        let removed = None;
        let both = judged(&[(busy, SITE), (unknown, TUNNEL)]);
        let expected =
            vec![of(Reason::VendorBusy, busy), of(Reason::OutcomeUnknown, unknown), removed.clone()];
        assert_eq!(both, Some(expected), "each with its own words");
        let same = judged(&[(busy, TUNNEL), (unknown, TUNNEL)]).expect("final");
        assert_eq!(same.get(1), Some(&of(Reason::OutcomeUnknown, unknown)));
        let elsewhere = judged(&[(busy, "wanwright_simwan_tunnel.other"), (unknown, TUNNEL)]).expect("final");
        let all = of(Reason::OutcomeUnknown, &format!("{busy}; {unknown}"));
        assert!(elsewhere.iter().all(|code| *code == all), "{elsewhere:?}");
        assert_eq!(judged(&[(busy, SITE)]), None, "that passes");
    }

    #[test]
    fn an_error_of_something_else_is_nobodys() {
        with_stack(|stack| {
            let said = said(&[], true, &[], "wanwright_simwan_tunnel.other");
            assert!(stack.partly(&said, &state(), &Intent::Apply).is_none());
        });
    }

    #[test]
    fn an_object_that_the_state_does_not_hold_is_not_in_sync() {
        with_stack(|stack| {
            let check = CommandId::mint();
            let in_sync = |state: &Value| -> Vec<bool> {
                let findings = stack.observed(check, None, state).into_iter();
                findings.map(|found| matches!(found.finding, Finding::InSync { .. })).collect()
            };
            assert_eq!(in_sync(&state()), [true, true]);
            assert_eq!(in_sync(&Value::Null), [false, false]);
        });
    }
}
