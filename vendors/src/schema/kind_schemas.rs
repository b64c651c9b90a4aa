//! Every version of a kind's settings: several are served, one is stored.
//!
//! A sender may speak any served version. What it says is checked in that version, converted to the stored one and
//! checked there too. Settings that were stored in another version are converted when they are used; nothing that was
//! accepted ever becomes unreadable, so conversions of what is stored lose rather than fail.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use thiserror::Error;

use super::convert::{Conversion, Kept, Loss};
use super::{FieldError, SchemaVersion, StructuralSchema};

/// Every version of a kind's settings and the conversions between neighbours.
#[derive(Clone, Debug, PartialEq)]
pub struct KindSchemas {
    versions: BTreeMap<SchemaVersion, StructuralSchema>,
    stored: SchemaVersion,
    retired: BTreeSet<SchemaVersion>,
    /// The first one is between v1 and v2.
    conversions: Vec<Conversion>,
}

/// Settings as they are stored.
#[derive(Clone, Copy, Debug)]
pub struct Present<'a> {
    /// The version they are stored in.
    pub version: SchemaVersion,
    /// The settings.
    pub settings: &'a Value,
}

/// There is no such version, or it is not served any more.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("there is no version {asked}; there are {}", known.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
pub struct UnknownVersion {
    /// The version that was asked for.
    pub asked: SchemaVersion,
    /// The versions there are.
    pub known: Vec<SchemaVersion>,
}

impl KindSchemas {
    pub(super) fn new(
        versions: BTreeMap<SchemaVersion, StructuralSchema>,
        stored: SchemaVersion,
        retired: BTreeSet<SchemaVersion>,
        conversions: Vec<Conversion>,
    ) -> Self {
        Self { versions, stored, retired, conversions }
    }

    /// The version in which settings are stored, and in which orders carry them.
    #[must_use]
    pub fn stored(&self) -> SchemaVersion {
        self.stored
    }

    /// The schema of a version, whether it is still served or not.
    #[must_use]
    pub fn get(&self, version: SchemaVersion) -> Option<&StructuralSchema> {
        self.versions.get(&version)
    }

    /// Every version there is, oldest first.
    pub fn versions(&self) -> impl Iterator<Item = (SchemaVersion, &StructuralSchema)> {
        self.versions.iter().map(|(version, schema)| (*version, schema))
    }

    /// The versions a sender may speak.
    pub fn served(&self) -> impl Iterator<Item = SchemaVersion> {
        self.versions.keys().copied().filter(|version| !self.retired.contains(version))
    }

    /// What changed from this version to the one after it, for people.
    #[must_use]
    pub fn change_after(&self, version: SchemaVersion) -> Option<&str> {
        let text = self.conversions.get(version.index())?.description();
        (!text.is_empty()).then_some(text)
    }

    /// Checks that a sender may speak this version.
    ///
    /// # Errors
    /// [`UnknownVersion`] when it may not.
    pub fn spoken(&self, version: SchemaVersion) -> Result<SchemaVersion, UnknownVersion> {
        if self.served().any(|served| served == version) {
            return Ok(version);
        }
        Err(UnknownVersion { asked: version, known: self.served().collect() })
    }

    /// Stored settings in another version. What that version cannot say is left out.
    ///
    /// # Errors
    /// [`UnknownVersion`] when one of the two is not there: settings stored by a later edition of the folder.
    pub fn convert(&self, present: Present<'_>, to: SchemaVersion) -> Result<Value, UnknownVersion> {
        self.known(present.version)?;
        self.known(to)?;
        let (settings, _) = self.remembered(present, to);
        Ok(settings)
    }

    /// Reads settings that were said in a version: checked there, converted to the stored version and checked again.
    /// `present` is what is stored, for a change. What the spoken version cannot say stays as it is stored.
    ///
    /// # Errors
    /// Every field that is wrong, at most 32 of them; fields have the names of the version that was spoken, or when only
    /// the stored version minds, of that one.
    pub fn read(
        &self,
        speaks: SchemaVersion,
        given: &Value,
        present: Option<Present<'_>>,
    ) -> Result<Value, Vec<FieldError>> {
        let schema = |version: SchemaVersion| self.versions.get(&version);
        let (Some(spoken), Some(stored)) = (schema(speaks), schema(self.stored)) else {
            return Ok(given.clone());
        };
        let present = present.filter(|present| self.known(present.version).is_ok());
        let old = present.map(|present| self.remembered(present, self.stored).0);
        let (old_spoken, mut kept) = match &old {
            None => (None, vec![Kept::default(); self.conversions.len()]),
            Some(old) => {
                let (spoken, kept) = self.remembered(Present { version: self.stored, settings: old }, speaks);
                (Some(spoken), kept)
            }
        };
        let said = checked(spoken, given, old_spoken.as_ref())?;
        if speaks == self.stored {
            return Ok(said);
        }
        let converted = self.through(said, speaks, self.stored, Loss::Refused, &mut kept);
        let converted = converted.map_err(|error| vec![error])?;
        checked(stored, &converted, old.as_ref()).map_err(|errors| {
            let stored = self.stored;
            let named = |error: FieldError| FieldError {
                message: format!("{} (as {stored})", error.message),
                ..error
            };
            errors.into_iter().map(named).collect()
        })
    }

    fn known(&self, version: SchemaVersion) -> Result<(), UnknownVersion> {
        if self.versions.contains_key(&version) {
            return Ok(());
        }
        Err(UnknownVersion { asked: version, known: self.versions.keys().copied().collect() })
    }

    /// Stored settings in another version, and what that version cannot say.
    fn remembered(&self, present: Present<'_>, to: SchemaVersion) -> (Value, Vec<Kept>) {
        let mut kept = vec![Kept::default(); self.conversions.len()];
        let settings = present.settings.clone();
        let converted = self.through(settings, present.version, to, Loss::Accepted, &mut kept);
        // What may be lost is never an error.
        (converted.unwrap_or_else(|_| present.settings.clone()), kept)
    }

    fn through(
        &self,
        mut value: Value,
        from: SchemaVersion,
        to: SchemaVersion,
        loss: Loss,
        kept: &mut [Kept],
    ) -> Result<Value, FieldError> {
        let (from, to) = (from.index(), to.index());
        for (conversion, kept) in self.conversions.iter().zip(&*kept).take(to).skip(from) {
            value = conversion.up(value, loss, kept)?;
        }
        for (conversion, kept) in self.conversions.iter().zip(kept).take(from).skip(to).rev() {
            value = conversion.down(value, loss, kept)?;
        }
        Ok(value)
    }
}

fn checked(schema: &StructuralSchema, value: &Value, old: Option<&Value>) -> Result<Value, Vec<FieldError>> {
    match old {
        None => schema.check_at("settings", value),
        Some(old) => schema.check_change("settings", value, old),
    }
}
