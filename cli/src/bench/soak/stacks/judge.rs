//! The verdict about stacks: what they should be, what the vendor has, and what the states say, compared.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::PgPool;
use wanwright_executors::terraform::States;
use wanwright_nats::StateKeys;
use wanwright_nats::accounts::Role;
use wanwright_nats::keys::state_key_file;
use wanwright_schemas::subjects::PARTITIONS;

use super::work::Wanted;
use crate::bench::backdoor::BackDoor;
use crate::bench::judge::without_an_end_at_last;
use crate::endpoints::{Endpoints, Login};

/// What only a state has.
const OURS: [&str; 1] = ["idempotency_key"];

/// The resource types of simwan that stacks have, with their kinds.
const KINDS: [(&str, &str); 2] = [("wanwright_simwan_site", "site"), ("wanwright_simwan_tunnel", "tunnel")];

type Objects = BTreeMap<String, Map<String, Value>>;

/// What was found.
#[derive(Debug, Default, Serialize)]
pub struct Verdict {
    /// Objects that were compared with their states.
    pub compared: usize,
    /// Fields of them.
    pub fields: usize,
    /// Objects that the vendor has and nobody wants.
    pub orphans: Vec<String>,
    /// Objects that are wanted and not there.
    pub missing: Vec<String>,
    /// Objects that were made more or less than once, or deleted while they were wanted.
    pub not_made_once: Vec<String>,
    /// Where a state says something else than the vendor.
    pub states_differ: Vec<String>,
    /// Versions of states that were set aside, wait for Postgres, or were not written to their end.
    pub left_behind: Vec<String>,
    /// Orders that are said to go on though nothing does, or to have ended without a word of why.
    pub orders_without_an_end: Vec<String>,
}

impl Verdict {
    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        let wrong = [
            &self.orphans,
            &self.missing,
            &self.not_made_once,
            &self.states_differ,
            &self.left_behind,
            &self.orders_without_an_end,
        ];
        self.compared > 0 && wrong.iter().all(|found| found.is_empty())
    }
}

/// Judges a system that has settled.
pub async fn judge(home: &Path, endpoints: &Endpoints, stacks: &[Wanted]) -> Result<Verdict> {
    let door = BackDoor::new(endpoints)?;
    let pool = pool(endpoints).await?;
    let mut verdict = Verdict::default();
    let mut there = BTreeMap::new();
    for (_, kind) in KINDS {
        let objects = door.objects(kind).await?;
        let by_id = objects.into_iter().filter_map(|object| Some((text(&object, "id")?, object)));
        there.insert(kind, by_id.collect::<Objects>());
    }
    names(&door, &there, stacks, &mut verdict).await?;
    states(home, endpoints, &pool, &there, &mut verdict).await?;
    left_behind(home, &mut verdict);
    verdict.orders_without_an_end = without_an_end_at_last(&pool).await?;
    Ok(verdict)
}

/// How many tries there were of how many orders.
pub async fn tries(endpoints: &Endpoints) -> Result<BTreeMap<String, i64>> {
    let sql = "SELECT count(*), coalesce(sum(attempts), 0)::bigint FROM operations WHERE kind = 'site' AND attempts > 0";
    let (orders, tries): (i64, i64) = sqlx::query_as(sql).fetch_one(&pool(endpoints).await?).await?;
    Ok(BTreeMap::from([("orders".to_owned(), orders), ("tries".to_owned(), tries)]))
}

async fn pool(endpoints: &Endpoints) -> Result<PgPool> {
    Ok(sqlx::postgres::PgPoolOptions::new().max_connections(2).connect(&endpoints.postgres).await?)
}

fn text(object: &Map<String, Value>, field: &str) -> Option<String> {
    object.get(field).and_then(Value::as_str).map(str::to_owned)
}

/// What the vendor has and how often it made it, beside what is wanted.
async fn names(
    door: &BackDoor,
    there: &BTreeMap<&str, Objects>,
    stacks: &[Wanted],
    verdict: &mut Verdict,
) -> Result<()> {
    let stats = door.stats().await?;
    for (_, kind) in KINDS {
        let wanted: BTreeSet<String> = stacks.iter().flat_map(|stack| wanted_of(stack, kind)).collect();
        let have: Vec<String> = there[kind].values().filter_map(|object| text(object, "name")).collect();
        let known: BTreeSet<&String> = have.iter().collect();
        let say = |name: &String| format!("{kind} {name}");
        verdict.orphans.extend(have.iter().filter(|name| !wanted.contains(*name)).map(say));
        verdict.missing.extend(wanted.iter().filter(|name| !known.contains(*name)).map(say));
        for (name, counters) in stats.kinds.get(kind).map(|kind| &kind.names).into_iter().flatten() {
            // Names are never used again.
            let gone = u64::from(!wanted.contains(name));
            if counters.creations != 1 || counters.deletions != gone {
                let (made, deleted) = (counters.creations, counters.deletions);
                verdict.not_made_once.push(format!("{kind} {name}: made {made}, deleted {deleted} times"));
            }
        }
    }
    Ok(())
}

/// The names that the vendor should know of a stack.
fn wanted_of(stack: &Wanted, kind: &str) -> Vec<String> {
    let Some(tunnels) = &stack.tunnels else { return Vec::new() };
    let customer = &stack.customer;
    match kind {
        "site" => vec![format!("{customer}.{}", stack.site)],
        _ => tunnels.iter().map(|tunnel| format!("{customer}.{tunnel}")).collect(),
    }
}

/// Every state beside the vendor's objects: each has the other, and both say the same.
async fn states(
    home: &Path,
    endpoints: &Endpoints,
    pool: &PgPool,
    there: &BTreeMap<&str, Objects>,
    verdict: &mut Verdict,
) -> Result<()> {
    let access = endpoints.access(Login::Role(Role::Admin))?;
    let nats = wanwright_nats::connect(access, "wanwright-judge", PARTITIONS).await?;
    let states = States::new(pool.clone(), nats, StateKeys::new(state_key_file(home)));
    let mut seen: BTreeSet<(&str, String)> = BTreeSet::new();
    for row in states.list().await? {
        let version = states.version(&row.stack, None).await?.context("a state that is listed is gone")?;
        let copy = states.copy(&row.stack).await?;
        if copy.map(|copy| copy.body).as_deref() != Some(&version.body) {
            verdict.states_differ.push(format!("stack {}: its second copy is another version", row.stack));
        }
        let state: Value = serde_json::from_slice(&version.body)?;
        for (kind, attributes) in instances(&state) {
            let id = text(&attributes, "id").unwrap_or_default();
            match there[kind].get(&id) {
                None => verdict.states_differ.push(format!("{kind} {id} is in a state and not there")),
                Some(object) => compare(kind, &id, &attributes, object, verdict),
            }
            if !seen.insert((kind, id.clone())) {
                verdict.states_differ.push(format!("{kind} {id} is in two states"));
            }
        }
    }
    for (kind, objects) in there {
        let unknown = objects.keys().filter(|id| !seen.contains(&(*kind, (*id).clone())));
        verdict.states_differ.extend(unknown.map(|id| format!("{kind} {id} is there and in no state")));
    }
    Ok(())
}

/// The attributes of each resource in a state, with its kind.
fn instances(state: &Value) -> Vec<(&'static str, Map<String, Value>)> {
    let resources = state["resources"].as_array().into_iter().flatten();
    resources
        .filter_map(|resource| {
            let kind = KINDS.iter().find(|(name, _)| resource["type"] == **name)?.1;
            let instances = resource["instances"].as_array()?.iter();
            let attributes = instances.filter_map(|instance| instance["attributes"].as_object().cloned());
            Some(attributes.map(move |attributes| (kind, attributes)).collect::<Vec<_>>())
        })
        .flatten()
        .collect()
}

fn compare(
    kind: &str,
    id: &str,
    attributes: &Map<String, Value>,
    object: &Map<String, Value>,
    verdict: &mut Verdict,
) {
    verdict.compared += 1;
    for (field, value) in attributes.iter().filter(|(field, _)| !OURS.contains(&field.as_str())) {
        let at_vendor = object.get(field).unwrap_or(&Value::Null);
        verdict.fields += 1;
        if at_vendor != value {
            verdict
                .states_differ
                .push(format!("{kind} {id}: {field} is {value} in its state and {at_vendor} at the vendor"));
        }
    }
}

/// What executors have set aside or could not hand over.
fn left_behind(home: &Path, verdict: &mut Verdict) {
    let executors = std::fs::read_dir(home).into_iter().flatten().flatten().map(|entry| entry.path());
    for spool in executors.map(|folder| folder.join("spool")) {
        let files = std::fs::read_dir(&spool).into_iter().flatten().flatten();
        verdict.left_behind.extend(files.map(|file| file.path().display().to_string()));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_state_is_compared_field_by_field() {
        let state = json!({ "resources": [
            { "type": "wanwright_simwan_site", "instances": [
                { "attributes": { "id": "st-1", "lan": ["10.0.0.0/24"], "idempotency_key": "k" } },
            ] },
            { "type": "another", "instances": [{ "attributes": { "id": "x" } }] },
        ] });
        let found = instances(&state);
        assert_eq!(found.len(), 1);
        let (kind, attributes) = &found[0];
        let object =
            |lan: &str| json!({ "id": "st-1", "lan": [lan] }).as_object().cloned().expect("an object");
        let mut verdict = Verdict::default();
        compare(kind, "st-1", attributes, &object("10.0.0.0/24"), &mut verdict);
        assert!(verdict.is_good(), "{verdict:?}");
        assert_eq!((verdict.compared, verdict.fields), (1, 2));
        compare(kind, "st-1", attributes, &object("10.9.0.0/24"), &mut verdict);
        assert_eq!(verdict.states_differ.len(), 1);
        assert!(!Verdict::default().is_good(), "a verdict about nothing is none");
    }
}
