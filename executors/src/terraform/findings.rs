//! From what Terraform said and the state it left to findings about the stack's objects.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use wanwright_commands::orders::tunnel_inputs;
use wanwright_schemas::command::ObjectRef;
use wanwright_schemas::order::{DesiredSite, DesiredTunnel};
use wanwright_schemas::report::{DriftField, Finding, ObjectFinding, Outputs};
use wanwright_schemas::{CommandId, TunnelId};
use wanwright_vendors::{TerraformTemplate, Vendor};

use super::messages::Problem;
use crate::engine::with_inputs;

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

    /// After an apply in which the vendor refused something for good: what it refused failed, what the state holds is
    /// applied. `None` when an error cannot be pinned to an object.
    pub(super) fn partly(&self, problems: &[Problem], state: &Value) -> Option<Vec<ObjectFinding>> {
        let mut failures: BTreeMap<String, Problem> = BTreeMap::new();
        for problem in problems {
            let address = problem.address.clone()?;
            failures.entry(address).or_insert_with(|| problem.clone());
        }
        let failed = |generation, problem: &Problem| {
            Some(Finding::Failed { generation, code: problem.class?, message: problem.message.clone() })
        };
        let mut findings = Vec::new();
        let site_address = self.address(None)?;
        let site = match failures.remove(&site_address) {
            Some(problem) => failed(self.site.generation, &problem),
            None => self.outputs_in(state, None).map(|outputs| {
                let generation = self.site.generation;
                Finding::Applied { generation, outputs }
            }),
        };
        findings.extend(site.map(|finding| self.of_site(finding)));
        for (id, tunnel) in self.tunnels {
            let finding = match failures.remove(&self.address(Some(id))?) {
                Some(problem) => failed(tunnel.generation, &problem),
                None => self.outputs_in(state, Some(id)).map(|outputs| applied_tunnel(tunnel, outputs)),
            };
            findings.extend(finding.map(|finding| self.of_tunnel(id, tunnel.uid, finding)));
        }
        for (id, uid) in self.leaving {
            let finding = match failures.remove(&self.address(Some(id))?) {
                // A leaving tunnel has no generation in the order; the failure stands for the whole stack.
                Some(_) => return None,
                None if self.outputs_in(state, Some(id)).is_none() => Finding::Removed,
                None => continue,
            };
            findings.push(self.of_tunnel(id, *uid, finding));
        }
        failures.is_empty().then_some(findings)
    }

    /// After a destroy: nothing is left.
    pub(super) fn removed(&self) -> Vec<ObjectFinding> {
        let tunnels =
            self.tunnels.iter().map(|(id, tunnel)| self.of_tunnel(id, tunnel.uid, Finding::Removed));
        tunnels.chain(self.gone()).chain(std::iter::once(self.of_site(Finding::Removed))).collect()
    }

    /// After a look: what the refresh changed in the state is drift. `plan` is Terraform's own account of it.
    pub(super) fn observed(&self, check: CommandId, plan: Option<&Value>) -> Vec<ObjectFinding> {
        let drift = plan.and_then(|plan| plan.get("resource_drift")).and_then(Value::as_array);
        let finding = |kind: &str, address: Option<String>| {
            let change = drift.and_then(|drift| {
                drift
                    .iter()
                    .find(|change| change.get("address").and_then(Value::as_str) == address.as_deref())
            });
            let fields = change.map(|change| self.fields(kind, change)).unwrap_or_default();
            if fields.is_empty() { Finding::InSync { check } } else { Finding::Drifted { check, fields } }
        };
        let tunnels = self
            .tunnels
            .iter()
            .map(|(id, tunnel)| self.of_tunnel(id, tunnel.uid, finding("tunnel", self.address(Some(id)))));
        std::iter::once(self.of_site(finding("site", self.address(None)))).chain(tunnels).collect()
    }

    fn fields(&self, kind: &str, change: &Value) -> Vec<DriftField> {
        let side = |name: &str| change.pointer(&format!("/change/{name}")).cloned().unwrap_or_default();
        let (before, after) = (side("before"), side("after"));
        if after.is_null() {
            let desired = before.get("id").cloned().unwrap_or_default();
            return vec![DriftField { field: "id".to_owned(), desired, observed: Value::Null }];
        }
        let Some(api) = self.vendor.api.get(kind) else { return Vec::new() };
        let compared = api.attributes.iter().filter(|(_, attribute)| attribute.compare);
        let fields = compared.filter_map(|(name, _)| {
            let get = |side: &Value| side.get(name).cloned().unwrap_or_default();
            let (desired, observed) = (get(&before), get(&after));
            (desired != observed).then(|| DriftField { field: name.clone(), desired, observed })
        });
        fields.collect()
    }

    /// What the state holds of an object: its id and what the vendor computed.
    fn outputs_in(&self, state: &Value, tunnel: Option<&TunnelId>) -> Option<Outputs> {
        let kind = if tunnel.is_some() { "tunnel" } else { "site" };
        let (r#type, name) = self.template.outputs.get(kind)?.resource.split_once('.')?;
        let resources = state.get("resources")?.as_array()?;
        let is = |resource: &&Value, key: &str, text: &str| {
            resource.get(key).and_then(Value::as_str) == Some(text)
        };
        let resource = resources.iter().find(|found| is(found, "type", r#type) && is(found, "name", name))?;
        let instance = resource.get("instances")?.as_array()?.iter().find(|instance| {
            instance.get("index_key").and_then(Value::as_str) == tunnel.map(TunnelId::as_str)
                // A tainted instance was created but is not as it should be.
                && instance.get("status").is_none()
        })?;
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
