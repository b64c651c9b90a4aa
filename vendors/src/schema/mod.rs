//! Structural schemas: what the settings of a site, tunnel or device may hold.

mod check;
mod convert;
mod explain;
mod kind_schemas;
mod load;
mod parse;
mod rules;
mod samples;
mod version;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use explain::{FieldExplained, RuleExplained};
pub use kind_schemas::{KindSchemas, Present, UnknownVersion};
pub(crate) use load::load_all;
pub use version::{InvalidVersion, SchemaVersion};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

/// A closed subset of JSON Schema; `vendors/README.md` lists it. Its root is an object. A clone shares it.
#[derive(Clone, Debug, PartialEq)]
pub struct StructuralSchema {
    root: Arc<Node>,
    json: Arc<Value>,
    digest: Arc<str>,
}

/// Why a structural schema is not one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{path}`: {message}")]
pub struct SchemaError {
    /// Where in the schema, dotted.
    pub path: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// Why a value does not fit a schema.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[error("`{path}` {message}")]
pub struct FieldError {
    /// What kind of error it is.
    pub kind: FieldErrorKind,
    /// Where in the value, `settings.vlan` or `settings.dns[2]`.
    pub path: String,
    /// What is wrong, to be read after the path: `is 5000, more than 4094`.
    pub message: String,
    /// What would be right: `a whole number from 1 to 4094`.
    pub expected: String,
}

/// What kind of error a [`FieldError`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FieldErrorKind {
    /// There is no such field.
    Unknown,
    /// A required field is not there.
    Missing,
    /// The value is of another type.
    WrongType,
    /// The type is right and the value is not allowed.
    NotAllowed,
    /// Each field may be what it is, but not all of them together, or not after what they were.
    RuleBroken,
    /// The value is right and cannot be said in the version in which settings are stored.
    NotConvertible,
}

/// What a list or text without a bound of its own holds at most: no body is longer than this many bytes.
const UNBOUNDED: u64 = 1 << 20;

/// One place in a schema.
#[derive(Clone, Debug, PartialEq)]
struct Node {
    shape: Shape,
    default: Option<Value>,
    choices: Option<Vec<Value>>,
    /// Whether it is the name of a secret, never one itself.
    secret: bool,
    rules: Vec<rules::Rule>,
    /// Whether this place or one below it has a rule.
    has_rules: bool,
}

/// What a place holds.
#[derive(Clone, Debug, PartialEq)]
enum Shape {
    Object { properties: BTreeMap<String, Node>, required: Vec<String> },
    Array { items: Box<Node>, fewest: u64, most: Option<u64> },
    String { shortest: u64, longest: Option<u64> },
    Integer { minimum: Option<i64>, maximum: Option<i64> },
    Number { minimum: Option<f64>, maximum: Option<f64> },
    Boolean,
}

impl Node {
    /// The place at a dotted path of properties below this one.
    fn at(&self, path: &str) -> Option<&Self> {
        path.split('.').try_fold(self, |node, name| match &node.shape {
            Shape::Object { properties, .. } => properties.get(name),
            _ => None,
        })
    }
}

impl StructuralSchema {
    /// Parses a schema.
    ///
    /// # Errors
    /// [`SchemaError`] if it uses anything outside the subset or contradicts itself.
    pub fn parse(json: Value) -> Result<Self, SchemaError> {
        let root = parse::root(&json)?;
        let digest = version::digest(&json).into();
        Ok(Self { root: Arc::new(root), json: Arc::new(json), digest })
    }

    /// Checks a value and fills the defaults in. Paths in errors start with `settings`.
    ///
    /// # Errors
    /// Every field that is wrong, at most 32 of them.
    pub fn check(&self, value: &Value) -> Result<Value, Vec<FieldError>> {
        self.check_at("settings", value)
    }

    /// As [`StructuralSchema::check`], with paths in errors that start with `root`.
    ///
    /// # Errors
    /// Every field that is wrong, at most 32 of them.
    pub fn check_at(&self, root: &str, value: &Value) -> Result<Value, Vec<FieldError>> {
        check::check(&self.root, root, value, None)
    }

    /// What is wrong with a value that is not known as a whole: the dotted paths of `unknown`, which begin with `root` and
    /// go through objects only, are not in it. What depends on them, rules among it, is not judged.
    #[must_use]
    pub fn check_known(&self, root: &str, value: &Value, unknown: &[String]) -> Vec<FieldError> {
        check::check_known(&self.root, root, value, unknown)
    }

    /// As [`StructuralSchema::check_at`] for a change: `old` is what the value was, for rules that compare with it.
    ///
    /// # Errors
    /// Every field that is wrong, at most 32 of them.
    pub fn check_change(&self, root: &str, value: &Value, old: &Value) -> Result<Value, Vec<FieldError>> {
        check::check(&self.root, root, value, Some(old))
    }

    /// The schema as it was written, for people and programs that show it.
    #[must_use]
    pub fn json(&self) -> &Value {
        &self.json
    }

    /// `sha256:` and the digest of the schema's canonical JSON: which edition of a version judged.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }
}
