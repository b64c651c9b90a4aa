//! Reads a vendor folder. What the simulator cannot do is refused at the start, not met in the middle of a test.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use axum::http::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::config::Limit;
use crate::error::Error;
use crate::vendor::{Attribute, Computed, Kind, ListFields, NAME, Rule, Type, Vendor};

/// `vendor.toml`, as far as the simulator needs it.
#[derive(Deserialize)]
struct VendorFile {
    budget: BudgetFile,
}

/// `[budget]`: a token bucket for every call, or named limits, or both.
#[derive(Deserialize)]
struct BudgetFile {
    per_second: Option<f64>,
    burst: Option<u32>,
    #[serde(default)]
    limits: BTreeMap<String, LimitFile>,
}

/// `[budget.limits.<name>]`, as far as the simulator needs it.
#[derive(Deserialize)]
struct LimitFile {
    per_second: Option<f64>,
    per_minute: Option<f64>,
    per_hour: Option<f64>,
    burst: Option<u32>,
    #[serde(default)]
    each_operation: bool,
    #[serde(default)]
    operations: Vec<String>,
    #[serde(default)]
    methods: Vec<String>,
    #[serde(default)]
    paths: Vec<String>,
}

impl BudgetFile {
    /// The narrowest limit that counts every call, which is the one that the simulator keeps; none that counts some calls
    /// only is. Without any there is no limit.
    fn limit(&self) -> Limit {
        let plain = self.per_second.map(|per_second| Limit { per_second, burst: self.burst.unwrap_or(1) });
        let counts_all = |limit: &&LimitFile| {
            !limit.each_operation
                && [&limit.operations, &limit.methods, &limit.paths].iter().all(|list| list.is_empty())
        };
        let named = self.limits.values().filter(counts_all).filter_map(LimitFile::limit);
        let narrowest = |one: &Limit, other: &Limit| one.per_second.total_cmp(&other.per_second);
        plain
            .into_iter()
            .chain(named)
            .min_by(narrowest)
            .unwrap_or(Limit { per_second: 1e6, burst: 1_000_000 })
    }
}

impl LimitFile {
    fn limit(&self) -> Option<Limit> {
        let rates = [(self.per_second, 1.0), (self.per_minute, 60.0), (self.per_hour, 3600.0)];
        let (calls, window) = rates.into_iter().find_map(|(calls, window)| Some((calls?, window)))?;
        // A vendor that counts takes as many at once as in a window.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a whole number of calls"
        )]
        let burst = self.burst.unwrap_or(calls as u32);
        Some(Limit { per_second: calls / window, burst })
    }
}

/// `api/<kind>.toml`, as far as the simulator needs it.
#[derive(Deserialize)]
struct ApiFile {
    collection: String,
    item: String,
    id: String,
    update_method: String,
    idempotency_header: Option<String>,
    list: ListFile,
    attributes: BTreeMap<String, AttributeFile>,
}

#[derive(Deserialize)]
struct ListFile {
    items: String,
    next: String,
    cursor: String,
    name: String,
}

#[derive(Deserialize)]
struct AttributeFile {
    #[serde(rename = "type")]
    kind: Type,
    #[serde(default)]
    required: bool,
    #[serde(default)]
    computed: bool,
    #[serde(default)]
    replace: bool,
    default: Option<Value>,
    json: Option<String>,
}

/// `simulator.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SimulatorFile {
    page_size: usize,
    kind: BTreeMap<String, BehaviourFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BehaviourFile {
    id_prefix: String,
    #[serde(default)]
    bulk: usize,
    #[serde(default)]
    unique: Vec<String>,
    #[serde(default)]
    filters: Vec<String>,
    #[serde(default)]
    references: BTreeMap<String, String>,
    #[serde(default)]
    rules: BTreeMap<String, Rule>,
    #[serde(default)]
    computed: BTreeMap<String, ComputedFile>,
}

#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum ComputedFile {
    Value { value: Value },
    Pool { pool: Vec<String> },
}

impl Vendor {
    /// Reads `vendor.toml`, `simulator.toml` and one `api/<kind>.toml` per kind that `simulator.toml` names.
    pub(crate) fn load(folder: &Path) -> Result<Self, Error> {
        let invalid = |what: String| Error::Vendor { path: folder.to_owned(), what };
        let vendor: VendorFile = read(folder.join("vendor.toml"))?;
        let simulator: SimulatorFile = read(folder.join("simulator.toml"))?;
        if simulator.page_size == 0 {
            return Err(invalid("page_size must be at least 1".into()));
        }
        let mut kinds = BTreeMap::new();
        for (name, behaviour) in simulator.kind {
            let api: ApiFile = read(folder.join("api").join(format!("{name}.toml")))?;
            let kind = kind(&name, api, behaviour).map_err(|what| invalid(format!("{name}: {what}")))?;
            kinds.insert(name, kind);
        }
        if let Some(missing) = described(folder)?.into_iter().find(|name| !kinds.contains_key(name)) {
            return Err(invalid(format!("simulator.toml says nothing about {missing}")));
        }
        let targets = kinds.values().flat_map(|kind| kind.references.values());
        if let Some(target) = targets.into_iter().find(|target| !kinds.contains_key(*target)) {
            return Err(invalid(format!("a reference names {target}, which is not a kind")));
        }
        Ok(Self { budget: vendor.budget.limit(), page_size: simulator.page_size, kinds })
    }
}

fn read<T: DeserializeOwned>(path: PathBuf) -> Result<T, Error> {
    let text = fs::read_to_string(&path).map_err(Error::io(format!("reading {}", path.display())))?;
    toml::from_str(&text).map_err(|source| Error::Toml { path, source: Box::new(source) })
}

/// The kinds that have a file in `api`.
fn described(folder: &Path) -> Result<BTreeSet<String>, Error> {
    let api = folder.join("api");
    let doing = || format!("listing {}", api.display());
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(&api).map_err(Error::io(doing()))? {
        let path = entry.map_err(Error::io(doing()))?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            names.extend(path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned));
        }
    }
    Ok(names)
}

fn kind(name: &str, api: ApiFile, mut behaviour: BehaviourFile) -> Result<Kind, String> {
    let mut attributes = BTreeMap::new();
    for (attribute, file) in api.attributes {
        let json = file.json.clone().unwrap_or_else(|| format!("/{attribute}"));
        let rule = behaviour.rules.remove(&attribute).unwrap_or_default();
        let computed = behaviour.computed.remove(&attribute);
        let about = about(file, rule, computed).map_err(|what| format!("{attribute}: {what}"))?;
        attributes.insert(field(&json)?, about);
    }
    if let Some(unused) = behaviour.rules.keys().chain(behaviour.computed.keys()).next() {
        return Err(format!("simulator.toml speaks of {unused}, which is not an attribute"));
    }
    let references = behaviour.references.keys();
    let mut looked_up = behaviour.unique.iter().chain(&behaviour.filters).chain(references);
    let is_text =
        |name: &str| attributes.get(name).is_some_and(|about: &Attribute| about.kind == Type::String);
    if let Some(wrong) = looked_up.find(|name| !is_text(name)) {
        return Err(format!("{wrong} is looked up, but is not a string attribute"));
    }
    if !is_text(NAME) {
        return Err("there is no string attribute \"name\"".into());
    }
    let (before, after) = api.item.split_once("{id}").ok_or("item has no {id}")?;
    Ok(Kind {
        name: name.to_owned(),
        collection: api.collection,
        item: (before.to_owned(), after.to_owned()),
        id_field: field(&api.id)?,
        update: Method::from_bytes(api.update_method.as_bytes()).map_err(|error| error.to_string())?,
        idempotency_header: api.idempotency_header,
        list: ListFields {
            items: field(&api.list.items)?,
            next: field(&api.list.next)?,
            cursor: api.list.cursor,
            name: api.list.name,
        },
        attributes,
        id_prefix: behaviour.id_prefix,
        bulk: behaviour.bulk,
        unique: behaviour.unique,
        filters: behaviour.filters,
        references: behaviour.references,
    })
}

fn about(file: AttributeFile, rule: Rule, computed: Option<ComputedFile>) -> Result<Attribute, String> {
    if file.computed != computed.is_some() {
        return Err("computed in only one of api and simulator.toml".into());
    }
    let computed = match computed {
        None => None,
        Some(ComputedFile::Value { value }) => Some(Computed::Value(value)),
        Some(ComputedFile::Pool { pool }) => {
            let networks: Result<Vec<_>, _> = pool.iter().map(|network| hosts(network)).collect();
            Some(Computed::Pool(networks?))
        }
    };
    Ok(Attribute {
        kind: file.kind,
        required: file.required,
        replace: file.replace,
        default: file.default,
        rule,
        computed,
    })
}

/// The field a JSON pointer names. The simulated vendor's objects are flat.
fn field(pointer: &str) -> Result<String, String> {
    match pointer.strip_prefix('/') {
        Some(field) if !field.is_empty() && !field.contains(['/', '~']) => Ok(field.to_owned()),
        _ => Err(format!("{pointer:?} does not name a field at the top")),
    }
}

/// The first host address of a network and how many there are, without the network's own and the broadcast address.
fn hosts(network: &str) -> Result<(Ipv4Addr, u32), String> {
    let parsed = network.split_once('/').and_then(|(address, length)| {
        let address: Ipv4Addr = address.parse().ok()?;
        let length: u32 = length.parse().ok()?;
        let size = (8..=30).contains(&length).then(|| 1u32 << (32 - length))?;
        Some((Ipv4Addr::from_bits((address.to_bits() & !(size - 1)) + 1), size - 2))
    });
    parsed.ok_or_else(|| format!("{network:?} is not an IPv4 network from /8 to /30"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrowest_limit_of_all_calls_is_kept() {
        let limit =
            |text: &str| toml::from_str::<BudgetFile>(text).map(|budget| budget.limit()).expect("a budget");
        assert_eq!(limit("per_second = 50\nburst = 20"), Limit { per_second: 50.0, burst: 20 });
        let named = "per_second = 50\nburst = 20\n[limits.minute]\nper_minute = 120\n[limits.posts]\nper_hour = 1\nmethods = [\"POST\"]";
        assert_eq!(limit(named), Limit { per_second: 2.0, burst: 120 });
        assert!(
            limit("[limits.each]\nper_hour = 1\neach_operation = true").per_second >= 1e6,
            "none counts every call"
        );
    }

    #[test]
    fn the_budgets_of_all_folders_are_read() {
        let vendors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vendors");
        for vendor in ["simwan", "cato", "versa"] {
            let file: VendorFile = read(vendors.join(vendor).join("vendor.toml")).expect("a folder");
            assert!(file.budget.limit().burst >= 1);
        }
    }
}
