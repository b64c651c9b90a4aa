//! Versions of a vendor's Terraform template, and which of them a stack has.

use serde::{Deserialize, Serialize};

use crate::ids::Actor;

/// The version that a stack has which was never given one.
pub const FIRST_VERSION: u32 = 1;

/// A version of a vendor's template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// Which version, from 1.
    pub version: u32,
    /// SHA-256 over its files when it was given, in lowercase hexadecimal: another content is not applied under its number.
    pub digest: String,
}

/// The body of `assign-template`: a rollout gives a stack another version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AssignTemplateBody {
    /// The version that it is to have.
    pub version: u32,
    /// The digest of that one when the rollout was started: another content is not given under its number.
    pub digest: String,
    /// The version that it has: one with another version is left alone.
    pub from: u32,
    /// The number of the rollout. A stack listens to each number once, and to no smaller one afterwards.
    pub rollout: u64,
    /// Who started the rollout, and so asks for the change.
    pub by: Actor,
}

/// A version from a generation on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assigned {
    /// The first generation that has it.
    pub generation: u64,
    /// The version; none where it is that of a stack that was never given one.
    pub template: Option<Template>,
}

/// The versions that a stack was given, as far as they matter still: the one that was applied last, and those after it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Templates {
    /// By generation, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    assigned: Vec<Assigned>,
    /// The number of the last rollout that gave it one; 0 before the first. Nothing of it is written then: what was
    /// given none is written as rows are that were there before there were versions.
    #[serde(default, skip_serializing_if = "is_zero")]
    rollout: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form serde asks for")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Templates {
    /// Whether it was never given any.
    pub fn is_empty(&self) -> bool {
        self == &Self::default()
    }

    /// The number of the last rollout that gave it a version; 0 before the first.
    pub fn rollout(&self) -> u64 {
        self.rollout
    }

    /// The version that a generation has; none where it was never given one.
    pub fn at(&self, generation: u64) -> Option<&Template> {
        let assigned = self.assigned.iter().rev().find(|assigned| assigned.generation <= generation);
        assigned.and_then(|assigned| assigned.template.as_ref())
    }

    /// The number of the version that a generation has.
    pub fn version_at(&self, generation: u64) -> u32 {
        self.at(generation).map_or(FIRST_VERSION, |template| template.version)
    }

    /// Whether two generations have the version that was given at the same time.
    pub fn is_one(&self, generation: u64, other: u64) -> bool {
        let given =
            |generation: u64| self.assigned.iter().rposition(|assigned| assigned.generation <= generation);
        given(generation) == given(other)
    }

    /// Notes that it is given a version.
    pub fn assign(&mut self, generation: u64, template: Template, rollout: Option<u64>) {
        self.rollout = self.rollout.max(rollout.unwrap_or_default());
        self.assigned.push(Assigned { generation, template: Some(template) });
    }

    /// Forgets what was before the version that is applied now.
    pub fn applied(&mut self, generation: u64) {
        let older = self.assigned.iter().filter(|assigned| assigned.generation <= generation).count();
        self.assigned.drain(..older.saturating_sub(1));
    }

    /// Gives a generation the version again that the one has which was applied last. What was given since was tried, and
    /// nobody knows what the stack has of it.
    pub fn bring_back(&mut self, generation: u64, applied: u64) {
        let template = self.at(applied).cloned();
        if self.at(generation) != template.as_ref() {
            self.assigned.push(Assigned { generation, template });
        }
    }

    /// Forgets what was given after the generation that was applied last: that was taken back before anybody began it.
    pub fn restored(&mut self, applied: u64) {
        self.assigned.retain(|assigned| assigned.generation <= applied);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(version: u32) -> Template {
        Template { version, digest: format!("digest of {version}") }
    }

    #[test]
    fn a_generation_has_the_version_given_last_before_it() {
        let mut templates = Templates::default();
        assert_eq!(serde_json::to_string(&templates).expect("JSON"), "{}");
        assert_eq!((templates.version_at(7), templates.at(7), templates.is_empty()), (1, None, true));
        templates.assign(3, template(2), Some(1));
        templates.assign(6, template(3), Some(2));
        let versions =
            |templates: &Templates| [2, 3, 5, 6, 9].map(|generation| templates.version_at(generation));
        assert_eq!(versions(&templates), [1, 2, 2, 3, 3]);
        templates.applied(5);
        assert_eq!(versions(&templates), [1, 2, 2, 3, 3], "what waits is kept");
        let mut cancelled = templates.clone();
        cancelled.restored(5);
        assert_eq!((cancelled.version_at(9), cancelled.rollout()), (2, 2), "and that it was asked");
        let mut tried = templates.clone();
        tried.bring_back(9, 5);
        assert_eq!(versions(&tried), [1, 2, 2, 3, 2]);
        assert!(!tried.is_one(5, 9), "what the stack has of the one between is not known");
        let again = tried.clone();
        tried.bring_back(10, 5);
        assert_eq!(tried, again);
        let mut first = Templates::default();
        first.assign(3, template(2), Some(1));
        first.bring_back(6, 2);
        assert_eq!((versions(&first), first.at(6)), ([1, 2, 2, 1, 1], None));
        templates.applied(6);
        assert_eq!(versions(&templates), [1, 1, 1, 3, 3], "what is over is forgotten");
    }
}
