//! Plans: making one and keeping its file, telling what it would do, and opening the very file that was approved.

use std::path::Path;

use jiff::Timestamp;
use serde_json::{Map, Value};
use wanwright_nats::{PlanError, PlanPlace};
use wanwright_schemas::Digest;
use wanwright_schemas::plan::{
    BoundPlan, LONGEST_VALUE, MOST_FIELDS, Plan, PlanAction, PlanChange, PlanCounts, PlanField, Stale,
};

use super::bounded;
use super::error::TerraformError;

/// The largest plan file that is kept, in bytes.
const LARGEST: u64 = 32 << 20;

/// Most resources that a plan tells of by name. What there is beside them is in the counts.
const MOST_RESOURCES: usize = 200;

/// What a plan was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Basis {
    pub(super) serial: i64,
    pub(super) lineage: String,
}

impl Basis {
    /// What a state says of itself; nothing where there is none.
    pub(super) fn of(state: &Value) -> Self {
        let serial = state.get("serial").and_then(Value::as_i64).unwrap_or_default();
        let lineage = state.get("lineage").and_then(Value::as_str).unwrap_or_default().to_owned();
        Self { serial, lineage }
    }
}

/// Where the file of a plan is kept.
pub(super) fn place(stack: &str, hash: Digest, basis: &Basis) -> PlanPlace {
    PlanPlace { stack: stack.to_owned(), hash, serial: basis.serial, lineage: basis.lineage.clone() }
}

/// The bytes of a plan file.
///
/// # Errors
/// When it cannot be read, or is larger than what is kept.
pub(super) async fn read(file: &Path) -> std::io::Result<Vec<u8>> {
    bounded::read(file, LARGEST, "a plan").await
}

/// Whether a plan may be begun now, on this state and with this template.
pub(super) fn judge(plan: &BoundPlan, template: &str, basis: &Basis, now: Timestamp) -> Result<(), Stale> {
    if now >= plan.expires {
        return Err(Stale::Expired);
    }
    if plan.template != template {
        return Err(Stale::Template);
    }
    if (plan.serial, &plan.lineage) != (basis.serial, &basis.lineage) {
        return Err(Stale::State);
    }
    Ok(())
}

/// Why a plan is not begun.
#[derive(Debug)]
pub(super) enum Unopened {
    /// It may not be any more.
    Stale(Stale),
    /// That cannot be told now.
    Trouble(TerraformError),
}

impl From<PlanError> for Unopened {
    fn from(error: PlanError) -> Self {
        stale(&error).map_or_else(|| Self::Trouble(TerraformError::Plan(error)), Self::Stale)
    }
}

/// Opens a plan and answers its file with the state that it is begun on. Finding them may take any time, so it is judged
/// when both are there, by the clock of then.
///
/// # Errors
/// [`Unopened`].
pub(super) async fn open(
    plan: &BoundPlan,
    template: &str,
    found: impl Future<Output = Result<(Vec<u8>, Value), Unopened>>,
    clock: impl FnOnce() -> Timestamp,
) -> Result<(Vec<u8>, Value), Unopened> {
    let (file, state) = found.await?;
    if Digest::of(&file) != plan.hash {
        return Err(Unopened::Stale(Stale::Damaged));
    }
    judge(plan, template, &Basis::of(&state), clock()).map_err(Unopened::Stale)?;
    Ok((file, state))
}

/// Why a plan file that cannot be had makes its plan stale; none where it may be had later.
pub(super) fn stale(error: &PlanError) -> Option<Stale> {
    match error {
        PlanError::Missing => Some(Stale::Missing),
        PlanError::Damaged(_) => Some(Stale::Damaged),
        PlanError::Nats(_) | PlanError::Key(_) => None,
    }
}

/// What a plan would do, by Terraform's own account of it (`terraform show -json`).
pub(super) fn told(shown: &Value, hash: Digest, template: &str, basis: &Basis) -> Plan {
    let mut told = Told { counts: PlanCounts::default(), changes: Vec::new(), fields: 0, left_out: 0 };
    for change in shown.get("resource_changes").and_then(Value::as_array).into_iter().flatten() {
        told.take(change);
    }
    Plan {
        hash,
        template: template.to_owned(),
        serial: basis.serial,
        lineage: basis.lineage.clone(),
        counts: told.counts,
        changes: told.changes,
        left_out: told.left_out,
    }
}

struct Told {
    counts: PlanCounts,
    changes: Vec<PlanChange>,
    fields: usize,
    left_out: u64,
}

impl Told {
    fn take(&mut self, resource: &Value) {
        let Some(change) = resource.get("change") else { return };
        let Some(action) = action(change) else { return };
        let count = match action {
            PlanAction::Create => &mut self.counts.create,
            PlanAction::Update => &mut self.counts.update,
            PlanAction::Delete => &mut self.counts.delete,
            PlanAction::Replace => &mut self.counts.replace,
        };
        *count += 1;
        let mut fields = fields(change);
        let room =
            if self.changes.len() < MOST_RESOURCES { MOST_FIELDS.saturating_sub(self.fields) } else { 0 };
        if fields.len() > room {
            self.left_out += u64::try_from(fields.len() - room).unwrap_or(u64::MAX);
            fields.truncate(room);
        }
        self.fields += fields.len();
        if self.changes.len() < MOST_RESOURCES {
            let address = resource.get("address").and_then(Value::as_str).unwrap_or_default();
            let address = address.chars().take(LONGEST_VALUE).collect();
            self.changes.push(PlanChange { address, action, fields });
        }
    }
}

/// What is done to a resource; none where nothing is. What Terraform may come to say counts as the worst there is.
fn action(change: &Value) -> Option<PlanAction> {
    let actions: Vec<&str> = change
        .get("actions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    match actions[..] {
        ["no-op" | "read"] => None,
        ["create"] => Some(PlanAction::Create),
        ["update"] => Some(PlanAction::Update),
        ["delete" | "forget"] => Some(PlanAction::Delete),
        _ => Some(PlanAction::Replace),
    }
}

/// The attributes that would be others. Of what is taken away none are told: it is all of them.
fn fields(change: &Value) -> Vec<PlanField> {
    let side = |name: &str| change.get(name).and_then(Value::as_object).cloned().unwrap_or_default();
    let (before, after, unknown) = (side("before"), side("after"), side("after_unknown"));
    if change.get("after").is_none_or(Value::is_null) && unknown.is_empty() {
        return Vec::new();
    }
    let sensitive = [side("before_sensitive"), side("after_sensitive")];
    // A whole object may be sensitive.
    let is_all = ["before_sensitive", "after_sensitive"]
        .iter()
        .any(|name| change.get(name) == Some(&Value::Bool(true)));
    let mut names: Vec<&String> = before.keys().chain(after.keys()).chain(unknown.keys()).collect();
    names.sort();
    names.dedup();
    let field = |name: &String| {
        let of = |side: &Map<String, Value>| side.get(name).cloned().unwrap_or_default();
        let (before, after) = (of(&before), of(&after));
        let known_after = unknown.get(name).is_some_and(says_so);
        if before == after && !known_after {
            return None;
        }
        let sensitive = is_all || sensitive.iter().any(|side| side.get(name).is_some_and(says_so));
        let long = |value: &Value| value.to_string().len() > LONGEST_VALUE;
        let too_long = !sensitive && (long(&before) || long(&after));
        let hidden = sensitive || too_long;
        let shown = |value: Value| if hidden { Value::Null } else { value };
        Some(PlanField {
            field: name.chars().take(LONGEST_VALUE).collect(),
            before: shown(before),
            after: if known_after { Value::Null } else { shown(after) },
            known_after,
            sensitive,
            too_long,
        })
    };
    names.into_iter().filter_map(field).collect()
}

/// Whether a mark in Terraform's account is set anywhere within a value.
fn says_so(mark: &Value) -> bool {
    match mark {
        Value::Bool(marked) => *marked,
        Value::Array(items) => items.iter().any(says_so),
        Value::Object(fields) => fields.values().any(says_so),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(changes: Value) -> Plan {
        let basis = Basis::of(&json!({"serial": 4, "lineage": "l"}));
        told(&json!({ "resource_changes": changes }), Digest::of(b"file"), "t", &basis)
    }

    #[tokio::test]
    async fn a_plan_that_is_too_large_is_refused_by_its_size() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("plan");
        std::fs::File::create(&file).and_then(|file| file.set_len(LARGEST + 1)).expect("a file");
        let error = read(&file).await.expect_err("too large").to_string();
        assert_eq!(error, "a plan of 33554433 bytes is larger than 33554432");
    }

    #[test]
    fn a_plan_tells_what_changes_and_no_more() {
        let plan = of(json!([
            {"address": "a", "change": {"actions": ["no-op"], "before": {"x": 1}, "after": {"x": 1}}},
            {"address": "b", "change": {"actions": ["update"], "before": {"x": 1, "y": 2}, "after": {"x": 1, "y": 3}}},
            {"address": "c", "change": {"actions": ["create"], "before": null, "after": {"x": 1},
                "after_unknown": {"id": true, "x": false}}},
            {"address": "d", "change": {"actions": ["delete"], "before": {"x": 1}, "after": null}},
            {"address": "e", "change": {"actions": ["delete", "create"], "before": {"x": 1}, "after": {"x": 2}}},
            {"address": "f", "change": {"actions": ["create", "forget"], "before": {"x": 1}, "after": {"x": 1}}},
        ]));
        assert_eq!(plan.counts, PlanCounts { create: 1, update: 1, delete: 1, replace: 2 });
        assert_eq!((plan.serial, plan.lineage.as_str(), plan.left_out), (4, "l", 0));
        let shown = serde_json::to_value(&plan.changes).expect("JSON");
        assert_eq!(
            shown,
            json!([
                {"address": "b", "action": "update", "fields": [{"field": "y", "before": 2, "after": 3}]},
                {"address": "c", "action": "create", "fields": [
                    {"field": "id", "before": null, "after": null, "known_after": true},
                    {"field": "x", "before": null, "after": 1}]},
                {"address": "d", "action": "delete"},
                {"address": "e", "action": "replace", "fields": [{"field": "x", "before": 1, "after": 2}]},
                {"address": "f", "action": "replace"},
            ])
        );
    }

    #[test]
    fn what_is_sensitive_or_long_is_named_and_not_told() {
        let long = "x".repeat(LONGEST_VALUE + 1);
        let plan = of(json!([
            {"address": "a", "change": {"actions": ["update"],
                "before": {"psk": "old", "deep": {"psk": 1}, "text": "short"},
                "after": {"psk": "new", "deep": {"psk": 2}, "text": long},
                "before_sensitive": {"deep": {"psk": true}}, "after_sensitive": {"psk": true}}},
            {"address": "b", "change": {"actions": ["update"], "before": {"k": 1}, "after": {"k": 2}, "after_sensitive": true}},
        ]));
        let text = serde_json::to_string(&plan).expect("JSON");
        for secret in ["old", "new", "xxx", "short"] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
        let fields: Vec<_> = plan.changes.iter().flat_map(|change| &change.fields).collect();
        let marks: Vec<_> = fields.iter().map(|of| (of.field.as_str(), of.sensitive, of.too_long)).collect();
        let expected =
            [("deep", true, false), ("psk", true, false), ("text", false, true), ("k", true, false)];
        assert_eq!(marks, expected);
    }

    #[test]
    fn a_plan_is_as_long_as_it_may_be() {
        let resource = |number: usize| {
            let after: Map<String, Value> =
                (0..30).map(|field| (format!("f{field}"), json!(number))).collect();
            json!({"address": format!("r{number}"), "change": {"actions": ["create"], "before": null, "after": after}})
        };
        let plan = of((0..1_000).map(resource).collect());
        let told: usize = plan.changes.iter().map(|change| change.fields.len()).sum();
        assert_eq!((told, plan.changes.len(), plan.counts.create), (MOST_FIELDS, MOST_RESOURCES, 1_000));
        assert_eq!(plan.left_out, 30_000 - MOST_FIELDS as u64);
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a moment")
    }

    fn bound() -> BoundPlan {
        BoundPlan {
            hash: Digest::of(b"file"),
            template: "t".to_owned(),
            serial: 4,
            lineage: "l".to_owned(),
            expires: at(10),
        }
    }

    #[tokio::test]
    async fn a_plan_is_judged_after_everything_that_was_waited_for() {
        let plan = bound();
        let open = async |waits: i64, file: &[u8], serial: i64| {
            let clock = std::cell::Cell::new(at(9));
            let found = async {
                tokio::task::yield_now().await;
                clock.set(at(9 + waits));
                Ok((file.to_vec(), json!({"serial": serial, "lineage": "l"})))
            };
            match super::open(&plan, "t", found, || clock.get()).await {
                Ok((file, _)) => Ok(file),
                Err(Unopened::Stale(why)) => Err(why),
                Err(Unopened::Trouble(error)) => panic!("{error}"),
            }
        };
        assert_eq!(open(0, b"file", 4).await, Ok(b"file".to_vec()));
        assert_eq!(open(1, b"file", 4).await, Err(Stale::Expired));
        assert_eq!(open(0, b"another file", 4).await, Err(Stale::Damaged));
        assert_eq!(open(0, b"file", 5).await, Err(Stale::State));
    }

    #[test]
    fn a_plan_fits_one_template_and_one_state_for_a_while() {
        let plan = bound();
        let basis = |serial: i64, lineage: &str| Basis { serial, lineage: lineage.to_owned() };
        assert_eq!(judge(&plan, "t", &basis(4, "l"), at(9)), Ok(()));
        assert_eq!(judge(&plan, "t", &basis(4, "l"), at(10)), Err(Stale::Expired));
        assert_eq!(judge(&plan, "u", &basis(4, "l"), at(9)), Err(Stale::Template));
        assert_eq!(judge(&plan, "t", &basis(5, "l"), at(9)), Err(Stale::State));
        assert_eq!(judge(&plan, "t", &basis(4, "m"), at(9)), Err(Stale::State));
        assert_eq!(judge(&plan, "t", &Basis::of(&Value::Null), at(9)), Err(Stale::State));
    }
}
