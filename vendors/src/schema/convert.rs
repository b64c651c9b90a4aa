//! From one version of a kind's settings to the next one and back, as `schemas/<kind>.v1-v2.json` declares it.

mod check;
mod path;

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

pub(super) use check::check;
use path::Path;

use super::check::clipped;
use super::{FieldError, FieldErrorKind};

/// A declared conversion. Whatever it does not name has the same place and meaning in both versions.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Conversion {
    /// What changed, for people.
    description: String,
    /// Where a field of the older version is in the newer one.
    moved: BTreeMap<Path, Path>,
    /// By the newer version's path: pairs of a value of the older version and what it is in the newer one.
    values: BTreeMap<Path, Vec<(Value, Value)>>,
    /// Fields the newer version has not, and the one value of each it stands for; null for a field that is absent.
    dropped: BTreeMap<Path, Value>,
    /// Fields the older version has not, and the value of each it stands for; null for a field that is absent.
    added: BTreeMap<Path, Value>,
    /// The objects of either version: one that is no object of the other version goes when it is empty.
    #[serde(skip)]
    objects: Objects,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Objects {
    older: BTreeSet<Path>,
    newer: BTreeSet<Path>,
    /// What an added field is when nobody gives it.
    silent: BTreeMap<Path, Value>,
}

/// What the older version could not say, on its way back: so a change in the older version changes nothing else.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    added: BTreeMap<Path, Value>,
    /// What stood in the older version, and what it was in the newer one.
    values: BTreeMap<Path, (Value, Value)>,
}

/// Whether what the other version cannot say is an error. For settings that are stored already it is none: they were
/// accepted, so they stay as near to what they were as can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    Refused,
    Accepted,
}

impl Conversion {
    /// From the older version to the newer one.
    pub(super) fn up(&self, mut value: Value, loss: Loss, kept: &Kept) -> Result<Value, FieldError> {
        let moved = self.moved.iter().map(|(from, to)| (to, from.take(&mut value, &self.objects.newer)));
        let moved: Vec<_> = moved.collect();
        for (path, stands) in &self.dropped {
            let said = path.take(&mut value, &self.objects.newer);
            if loss == Loss::Refused && said.as_ref().is_some_and(|said| said != stands) {
                return Err(unsayable(path, &said.unwrap_or_default(), stands));
            }
        }
        for (to, said) in moved {
            if let Some(said) = said {
                to.put(&mut value, said);
            }
        }
        for (path, pairs) in &self.values {
            let Some(slot) = path.get_mut(&mut value) else { continue };
            let kept = kept.values.get(path).filter(|(older, _)| older == slot).map(|(_, newer)| newer);
            match kept.or_else(|| pairs.iter().find(|(older, _)| older == slot).map(|(_, newer)| newer)) {
                Some(newer) => *slot = newer.clone(),
                None if loss == Loss::Refused => return Err(unsayable(path, slot, &Value::Null)),
                None => {}
            }
        }
        for (path, stands) in &self.added {
            let fills = kept.added.get(path).unwrap_or(stands);
            if path.get_mut(&mut value).is_none() && !fills.is_null() {
                path.put(&mut value, fills.clone());
            }
        }
        Ok(value)
    }

    /// From the newer version to the older one; `kept` gets what only the newer one can say.
    pub(super) fn down(&self, mut value: Value, loss: Loss, kept: &mut Kept) -> Result<Value, FieldError> {
        for (path, stands) in &self.added {
            let Some(said) = path.take(&mut value, &self.objects.older) else { continue };
            let silent = &said == stands || self.objects.silent.get(path) == Some(&said);
            if loss == Loss::Refused && !silent {
                return Err(unsayable(path, &said, stands));
            }
            kept.added.insert(path.clone(), said);
        }
        for (path, pairs) in &self.values {
            let Some(slot) = path.get_mut(&mut value) else { continue };
            match pairs.iter().find(|(_, newer)| newer == slot) {
                Some((older, _)) => {
                    let newer = std::mem::replace(slot, older.clone());
                    kept.values.insert(path.clone(), (older.clone(), newer));
                }
                None if loss == Loss::Refused => return Err(unsayable(path, slot, &Value::Null)),
                None => {}
            }
        }
        let moved = self.moved.iter().map(|(from, to)| (from, to.take(&mut value, &self.objects.older)));
        for (from, said) in moved.collect::<Vec<_>>() {
            if let Some(said) = said {
                from.put(&mut value, said);
            }
        }
        for (path, stands) in &self.dropped {
            if path.get_mut(&mut value).is_none() && !stands.is_null() {
                path.put(&mut value, stands.clone());
            }
        }
        Ok(value)
    }

    /// What changed, for people.
    pub(super) fn description(&self) -> &str {
        &self.description
    }
}

fn unsayable(path: &Path, said: &Value, stands: &Value) -> FieldError {
    let said = clipped(&said.to_string(), 40);
    let expected = if stands.is_null() { "no value".to_owned() } else { clipped(&stands.to_string(), 40) };
    FieldError {
        kind: FieldErrorKind::NotConvertible,
        path: format!("settings.{path}"),
        message: format!("is {said}, which the stored version cannot say"),
        expected,
    }
}
