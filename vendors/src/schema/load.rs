//! Reading `schemas/` of a vendor folder.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::kind_schemas::KindSchemas;
use super::{SchemaError, SchemaVersion, StructuralSchema, convert};
use crate::error::LoadError;
use crate::folder::Folder;
use crate::kind::Kind;
use crate::section::Section;

type File<'a> = (PathBuf, &'a [u8]);

/// The files of one kind.
#[derive(Default)]
struct Files<'a> {
    versions: BTreeMap<SchemaVersion, File<'a>>,
    conversions: BTreeMap<(SchemaVersion, SchemaVersion), File<'a>>,
}

/// Reads every file in `schemas/`; `wishes` is `[schemas]` of `vendor.toml`.
pub(crate) fn load_all(
    folder: &Folder,
    wishes: Option<Section>,
) -> Result<BTreeMap<Kind, KindSchemas>, LoadError> {
    let mut kinds: BTreeMap<Kind, Files<'_>> = BTreeMap::new();
    for (name, path, bytes) in folder.part("schemas") {
        let Some((kind, from, to)) = named(name) else {
            let message = "has no name of the form <kind>.v1.json or <kind>.v1-v2.json: rename or remove it";
            return Err(LoadError::Layout { path, message: message.to_owned() });
        };
        let files = kinds.entry(kind).or_default();
        match to {
            None => files.versions.insert(from, (path, bytes)),
            Some(to) => files.conversions.insert((from, to), (path, bytes)),
        };
    }
    let mut wishes = wishes;
    let mut found = BTreeMap::new();
    for (kind, files) in kinds {
        let wish = match &mut wishes {
            None => None,
            Some(wishes) => wishes.optional_section(kind.as_str())?,
        };
        let schemas = one(folder, &kind, files, wish)?;
        found.insert(kind, schemas);
    }
    match wishes {
        Some(wishes) => wishes.finish().map(|()| found),
        None => Ok(found),
    }
}

fn named(name: &str) -> Option<(Kind, SchemaVersion, Option<SchemaVersion>)> {
    let (kind, versions) = name.strip_suffix(".json")?.split_once('.')?;
    let kind = Kind::new(kind)?;
    match versions.split_once('-') {
        None => Some((kind, versions.parse().ok()?, None)),
        Some((from, to)) => Some((kind, from.parse().ok()?, Some(to.parse().ok()?))),
    }
}

fn one(
    folder: &Folder,
    kind: &Kind,
    files: Files<'_>,
    wish: Option<Section>,
) -> Result<KindSchemas, LoadError> {
    let Files { versions, mut conversions } = files;
    let missing = |name: String, message: String| {
        Err(LoadError::Layout { path: folder.dir.join("schemas").join(name), message })
    };
    let newest = versions.keys().next_back().copied().unwrap_or(SchemaVersion::FIRST);
    let mut schemas = BTreeMap::new();
    let mut converted = Vec::new();
    let mut version = SchemaVersion::FIRST;
    loop {
        let Some((path, bytes)) = versions.get(&version) else {
            let message = format!(
                "is missing: settings of {version} may be stored, so it stays; to serve it no longer, write \
                 retired = [\"{version}\"] under [schemas.{kind}] in vendor.toml"
            );
            return missing(format!("{kind}.{version}.json"), message);
        };
        schemas.insert(version, read(path, bytes, StructuralSchema::parse)?);
        if version >= newest {
            break;
        }
        let next = version.next();
        let Some((path, bytes)) = conversions.remove(&(version, next)) else {
            let message = format!("is missing: it says how settings of {version} are said in {next}");
            return missing(format!("{kind}.{version}-{next}.json"), message);
        };
        converted.push((path, bytes));
        version = next;
    }
    if let Some(((from, to), (path, _))) = conversions.into_iter().next() {
        let message =
            format!("is between {from} and {to}, which are no neighbours here: rename or remove it");
        return Err(LoadError::Layout { path, message });
    }
    let neighbours = schemas.values().zip(schemas.values().skip(1));
    let converted: Vec<_> = converted
        .iter()
        .zip(neighbours)
        .map(|((path, bytes), (older, newer))| {
            read(path, bytes, |json| convert::check(json, &older.root, &newer.root))
        })
        .collect::<Result<_, _>>()?;
    let (stored, retired) = wished(wish, &schemas, newest)?;
    Ok(KindSchemas::new(schemas, stored, retired, converted))
}

/// Which version is stored and which are served no longer.
fn wished(
    wish: Option<Section>,
    schemas: &BTreeMap<SchemaVersion, StructuralSchema>,
    newest: SchemaVersion,
) -> Result<(SchemaVersion, BTreeSet<SchemaVersion>), LoadError> {
    let Some(mut wish) = wish else { return Ok((newest, BTreeSet::new())) };
    let stored: Option<SchemaVersion> = wish.optional("stored")?;
    let retired: BTreeSet<SchemaVersion> = wish.optional("retired")?.unwrap_or_default();
    let stored = stored.unwrap_or(newest);
    for (key, version) in
        [("stored", &stored)].into_iter().chain(retired.iter().map(|version| ("retired", version)))
    {
        if !schemas.contains_key(version) {
            return Err(wish.error(key, format!("names {version}, which has no file")));
        }
    }
    if retired.contains(&stored) {
        return Err(wish.error("retired", format!("names {stored}, which is the stored version")));
    }
    wish.finish()?;
    Ok((stored, retired))
}

fn read<T>(
    path: &Path,
    bytes: &[u8],
    parse: impl FnOnce(Value) -> Result<T, SchemaError>,
) -> Result<T, LoadError> {
    let json = serde_json::from_slice(bytes)
        .map_err(|error| LoadError::Syntax { file: path.to_owned(), message: error.to_string() })?;
    parse(json).map_err(|error| LoadError::Field {
        file: path.to_owned(),
        field: error.path,
        message: error.message,
    })
}
