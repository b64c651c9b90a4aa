//! What a folder that loads may still have overlooked.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::Problem;
use super::example::{Example, Wanted};
use crate::resource::ResourceApi;
use crate::schema::StructuralSchema;
use crate::vendor::{Engine, Vendor};

/// What an order for the API engine says of its object, beside its settings and inputs.
const DESIRED: &[&str] = &["id", "uid", "generation", "name", "serial", "model"];

pub(super) fn lint(dir: &Path, vendor: &Vendor) -> Vec<Problem> {
    let mut found = Vec::new();
    let plain = vendor.base_url.strip_prefix("http://");
    if plain.is_some_and(|host| !host.starts_with("127.0.0.1") && !host.starts_with("localhost")) {
        let message = "is not encrypted, and the credential travels with every call: write https://";
        found.push(Problem::warning(dir.join("vendor.toml"), Some("base_url"), message));
    }
    for (kind, api) in &vendor.api {
        let file = dir.join(format!("api/{kind}.toml"));
        if !api.takes_key() && !api.finds_by_name() {
            let message = "has no idempotency key, and objects cannot be found by name: when the answer to a create is \
                           lost, a person has to look. Add `idempotency_header`, or [list] and an attribute `name`";
            found.push(Problem::warning(&file, Some("create"), message));
        } else if !api.finds_lost_create() {
            let message = "may begin a job and has no idempotency key: while the job runs nothing has the name yet, so when \
                           the answer to a create is lost, a person has to look. Add `idempotency_header`, or `job = \
                           false` where a create is no job";
            found.push(Problem::warning(&file, Some("create"), message));
        }
        if api.update.nulls
            && api.attributes.values().all(|attribute| attribute.replace || !attribute.is_sent())
        {
            let message = "is never made: every attribute is computed or has `replace = true`";
            found.push(Problem::warning(&file, Some("update"), message));
        }
        found.extend(bulks(&file, api));
        if vendor.engines.get(kind.as_str()) == Some(&Engine::Api) {
            found.extend(paths(&file, api, settings(vendor, kind.as_str())));
        }
    }
    found
}

/// What a bulk form may have overlooked.
fn bulks(file: &Path, api: &ResourceApi) -> Vec<Problem> {
    let mut found = Vec::new();
    let forms = [("create", &api.bulk.create), ("update", &api.bulk.update), ("delete", &api.bulk.delete)];
    for (name, bulk) in forms.into_iter().filter_map(|(name, bulk)| Some((name, bulk.as_ref()?))) {
        let key = format!("{name}.bulk");
        let rules = &api.errors;
        if bulk.status.is_none() && rules.in_success.is_none() {
            let message = "names no `status`: a result is taken for an error only where it has a code or a message at \
                           the pointers of [errors]";
            found.push(Problem::warning(file, Some(&key), message));
        }
        if bulk.object.is_none() && name != "delete" {
            let message = "names no `object`: each object costs a call of its own to be read";
            found.push(Problem::warning(file, Some(&key), message));
        }
        if bulk.object.is_none() && bulk.id.is_none() && name == "create" && !api.finds_by_name() {
            let message = "names neither `object` nor `id`: what was made cannot be told";
            found.push(Problem::error(file, Some(&key), message));
        }
        if api.job.is_some() && bulk.operation.job && bulk.job_results.is_none() {
            let message = "may begin a job and names no `job_results`: the last answer about the job is searched at \
                           `results`";
            found.push(Problem::warning(file, Some(&key), message));
        }
    }
    found
}

fn settings<'a>(vendor: &'a Vendor, kind: &str) -> Option<&'a StructuralSchema> {
    let schemas = vendor.schemas.get(kind)?;
    schemas.get(schemas.stored())
}

/// Whether every attribute comes from somewhere, and every setting goes somewhere.
fn paths(file: &Path, api: &ResourceApi, settings: Option<&StructuralSchema>) -> Vec<Problem> {
    let mut found = Vec::new();
    let fields: Vec<String> = settings
        .map(|schema| schema.fields().into_iter().map(|field| field.path).collect())
        .unwrap_or_default();
    let mut taken = BTreeSet::new();
    for (name, attribute) in api.attributes.iter().filter(|(_, attribute)| attribute.is_sent()) {
        let key = format!("attributes.{name}.from");
        let (root, rest) = attribute.from.split_once('.').unwrap_or((&attribute.from, ""));
        let wrong = match root {
            "settings" if !fields.iter().any(|field| field == rest) => Some(format!(
                "is `{}`, and the stored schema has no setting `{rest}`: correct one of them",
                attribute.from
            )),
            "settings" | "inputs" | "known" => None,
            _ if DESIRED.contains(&attribute.from.as_str()) => None,
            _ => Some(format!(
                "is `{}`, which an order does not have: write settings.…, inputs.… or one of {}",
                attribute.from,
                DESIRED.join(", ")
            )),
        };
        taken.insert(rest.to_owned());
        found.extend(wrong.map(|message| Problem::error(file, Some(&key), message)));
    }
    let leaf = |field: &&String| {
        let below = |other: &String| {
            other.starts_with(&format!("{field}.")) || other.starts_with(&format!("{field}["))
        };
        !field.is_empty()
            && !field.contains("[]")
            && !fields.iter().any(|other| below(other) && !other.contains("[]"))
    };
    for field in fields.iter().filter(leaf) {
        let goes = taken
            .iter()
            .any(|taken| taken == field || field.starts_with(&format!("{taken}.")) && !taken.is_empty());
        if !goes {
            let message = format!(
                "has none from `settings.{field}`, so that setting has no effect: add one, or remove it from the schema"
            );
            found.push(Problem::warning(file, Some("attributes"), message));
        }
    }
    found
}

/// Lists that answer looks though they lack what a single object shows: a difference there would never be seen.
pub(super) fn bare_lists<'a>(
    dir: &Path,
    vendor: &Vendor,
    examples: impl Iterator<Item = &'a Example> + Clone,
) -> Vec<Problem> {
    let mut found = Vec::new();
    for (kind, api) in &vendor.api {
        if api.list.as_ref().is_none_or(|list| list.fresh.is_none()) {
            continue;
        }
        let file = dir.join(format!("api/{kind}.toml"));
        let of = |operation| {
            let examples = examples.clone().filter(move |example| example.operation == operation);
            examples
                .filter(|example| example.kind == kind.as_str())
                .flat_map(|example| example.result.objects())
        };
        if of(Wanted::List).next().is_none() {
            let message = "needs an example of a list with an object: record one, so that it is seen that lists are whole";
            found.push(Problem::error(&file, Some("list.fresh_seconds"), message));
        }
        let shown: BTreeSet<&String> = of(Wanted::Read).flat_map(compared(api)).collect();
        for listed in of(Wanted::List) {
            let there: BTreeSet<&String> = std::iter::once(listed).flat_map(compared(api)).collect();
            if let Some(name) = shown.difference(&there).next() {
                let message = format!(
                    "cannot be used: in an example a list has no `{name}`, which a single object has. Write \
                     `partial = true` in its place"
                );
                found.push(Problem::error(&file, Some("list.fresh_seconds"), message));
                break;
            }
        }
    }
    found
}

/// The attributes of an object that are there and are compared.
fn compared<'a>(api: &ResourceApi) -> impl Fn(&'a serde_json::Map<String, Value>) -> Vec<&'a String> {
    move |attributes| {
        let is_compared = |name: &String| api.attributes.get(name).is_some_and(|attribute| attribute.compare);
        let there = attributes.iter().filter(|(name, value)| !value.is_null() && is_compared(name));
        there.map(|(name, _)| name).collect()
    }
}

/// The operations without an example.
pub(super) fn unplayed<'a>(
    dir: &Path,
    vendor: &Vendor,
    examples: impl Iterator<Item = &'a Example>,
) -> Vec<Problem> {
    let played: BTreeSet<(&str, Wanted)> =
        examples.map(|example| (example.kind.as_str(), example.operation)).collect();
    let mut found = Vec::new();
    for (kind, api) in &vendor.api {
        let mut wanted = vec![Wanted::Create, Wanted::Read, Wanted::Update, Wanted::Delete];
        wanted.extend(api.list.is_some().then_some(Wanted::List));
        wanted.extend(api.bulk.create.is_some().then_some(Wanted::BulkCreate));
        wanted.extend(api.bulk.update.is_some().then_some(Wanted::BulkUpdate));
        wanted.extend(api.bulk.delete.is_some().then_some(Wanted::BulkDelete));
        for operation in wanted {
            if !played.contains(&(kind.as_str(), operation)) {
                let word = operation.word();
                let message = format!(
                    "has no example for {word} of a {kind}: record one as examples/{kind}-{word}.json"
                );
                found.push(Problem::warning(dir.join("examples"), None, message));
            }
        }
    }
    found
}

/// The value without members that are null, at the top.
pub(super) fn set(attributes: &serde_json::Map<String, Value>) -> serde_json::Map<String, Value> {
    let set = attributes.iter().filter(|(_, value)| !value.is_null());
    set.map(|(name, value)| (name.clone(), value.clone())).collect()
}
