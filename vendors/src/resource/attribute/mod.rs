//! The attributes of a resource.

mod bounds;
mod path;
mod types;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use bounds::Bounds;
pub use path::{AttributePath, PathStep};
pub use types::AttributeType;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::LoadError;
use crate::kind;
use crate::pointer;
use crate::section::Section;

/// Names that Terraform, the provider or the places of templates use.
const RESERVED: &[&str] = &[
    "attributes",
    "connection",
    "count",
    "cursor",
    "depends_on",
    "for_each",
    "id",
    "idempotency_key",
    "job",
    "lifecycle",
    "provider",
    "provisioner",
    "size",
    "timeouts",
];

/// How deep objects may stand in objects.
const DEEPEST: usize = 4;

/// One attribute of a resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribute {
    /// Its type.
    pub r#type: AttributeType,
    /// Who sets it.
    pub presence: Presence,
    /// Whether a change means delete and create.
    pub replace: bool,
    /// Whether it is part of an object's address: reads, deletes and lists may name it in their templates.
    pub scope: bool,
    /// JSON pointer in request and answer.
    pub json: String,
    /// How it is written there.
    pub wire: Wire,
    /// Dotted path in an order's desired state.
    pub from: String,
    /// Whether a difference is drift.
    pub compare: bool,
    /// What does not make two values different.
    pub normalise: Vec<Normal>,
    /// Whether people may not see it.
    pub sensitive: bool,
    /// Whether it is sent and never kept: Terraform has it in no state and no plan, and nobody can read it again.
    pub write_only: bool,
    /// Whether it is Terraform's alone: the number that says when a write-only attribute has changed. Never sent, never
    /// read.
    pub local: bool,
    /// Whether Terraform writes it as blocks, `route { … }`, instead of values.
    pub block: bool,
    /// What a value may be beyond its type.
    pub bounds: Bounds,
    /// What to use instead, if it should not be used any more.
    pub deprecated: Option<String>,
    /// The names it had in earlier versions of the folder.
    pub formerly: Vec<String>,
    /// For people; may be empty.
    pub description: String,
}

/// Who sets an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Presence {
    /// The customer, always.
    Required,
    /// The customer or, left out, the default; without a default nobody.
    Optional {
        /// What stands for a value that was left out.
        default: Option<Value>,
    },
    /// The vendor; never sent.
    Computed,
}

/// How a value is written in the vendor's JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Wire {
    /// As its type says.
    #[default]
    Typed,
    /// As text, `"1400"`; read from text, number or truth value.
    Text,
}

/// What does not make two values different.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Normal {
    /// Upper and lower case.
    Case,
    /// How an IP address is written: `2001:DB8::0` is `2001:db8::`.
    Ip,
    /// How a prefix is written, and its host bits: `10.0.0.1/24` is `10.0.0.0/24`, an address alone is its longest prefix.
    Cidr,
    /// The order of a list.
    Unordered,
    /// An empty text, list or map is the same as none.
    Empty,
    /// None is the same as the default.
    Default,
}

impl Normal {
    fn fits(self, r#type: &AttributeType) -> bool {
        use AttributeType::{List, Map, Object, String};
        match (self, r#type) {
            (Self::Default, _) | (Self::Empty, String | List(_) | Map(_) | Object(_)) => true,
            (Self::Case | Self::Ip | Self::Cidr, String) => true,
            (Self::Case | Self::Ip | Self::Cidr, List(item)) => **item == String,
            // Objects in a list have nothing to be known by but their place.
            (Self::Unordered, List(item)) => item.is_single(),
            _ => false,
        }
    }
}

impl Attribute {
    /// An attribute of that type, with nothing more said about it.
    #[must_use]
    pub fn new(r#type: AttributeType, presence: Presence) -> Self {
        Self {
            compare: !matches!(presence, Presence::Computed),
            r#type,
            presence,
            replace: false,
            scope: false,
            json: String::new(),
            wire: Wire::Typed,
            from: String::new(),
            normalise: Vec::new(),
            sensitive: false,
            write_only: false,
            local: false,
            block: false,
            bounds: Bounds::default(),
            deprecated: None,
            formerly: Vec::new(),
            description: String::new(),
        }
    }

    /// Whether the vendor sets it.
    #[must_use]
    pub fn is_computed(&self) -> bool {
        matches!(self.presence, Presence::Computed)
    }

    /// Whether it is sent to the vendor.
    #[must_use]
    pub fn is_sent(&self) -> bool {
        !self.is_computed() && !self.local
    }

    /// What stands for a value that was left out.
    #[must_use]
    pub fn default_value(&self) -> Option<&Value> {
        match &self.presence {
            Presence::Optional { default } => default.as_ref(),
            Presence::Required | Presence::Computed => None,
        }
    }
}

/// Reads the attributes of an object; `depth` is how many objects it is in.
pub(super) fn load(mut section: Section, depth: usize) -> Result<BTreeMap<String, Attribute>, LoadError> {
    let mut found: BTreeMap<String, Attribute> = BTreeMap::new();
    for name in section.keys() {
        if !kind::is_identifier(&name, 64) || depth == 0 && RESERVED.contains(&name.as_str()) {
            return Err(section.error(
                &name,
                "cannot be an attribute's name: use lowercase letters, digits and `_`, and none that Terraform or wanwright use",
            ));
        }
        let attribute = attribute(section.section(&name)?, &name, depth)?;
        // Two attributes in one place would overwrite each other in the request.
        let clash = found.iter().find(|(_, other)| overlap(&other.json, &attribute.json));
        if let Some((other, _)) = clash {
            return Err(section.error(&name, format!("has the same place in the JSON as `{other}`")));
        }
        found.insert(name, attribute);
    }
    let versions: Vec<String> =
        found.iter().filter(|(_, attribute)| attribute.write_only).map(|(name, _)| name.clone()).collect();
    for name in versions {
        let version = format!("{name}_version");
        if found.contains_key(&version) {
            let message = format!("is the name of the version of the write-only `{name}`: rename it");
            return Err(section.error(&version, message));
        }
        found.insert(version, version_of(&name));
    }
    section.finish()?;
    Ok(found)
}

/// The attribute that says when a write-only one has changed.
fn version_of(name: &str) -> Attribute {
    Attribute {
        local: true,
        compare: false,
        description: format!("Another number says that `{name}` has changed and is to be sent again."),
        ..Attribute::new(AttributeType::Number, Presence::Optional { default: None })
    }
}

fn attribute(mut section: Section, name: &str, depth: usize) -> Result<Attribute, LoadError> {
    let r#type = attribute_type(&mut section, depth)?;
    let computed = section.optional("computed")?.unwrap_or(false);
    let replace = section.optional("replace")?.unwrap_or(false);
    let write_only = section.optional("write_only")?.unwrap_or(false);
    let from: Option<String> = section.optional("from")?;
    let presence = presence(&mut section, &r#type, computed, replace || from.is_some())?;
    let attribute = Attribute {
        compare: section.optional("compare")?.unwrap_or(!computed && !write_only),
        sensitive: section.optional("sensitive")?.unwrap_or(write_only),
        description: section.optional("description")?.unwrap_or_default(),
        json: pointer::writable(&mut section, "json")?.unwrap_or_else(|| format!("/{name}")),
        scope: section.optional("scope")?.unwrap_or(false),
        wire: section.optional("wire")?.unwrap_or_default(),
        normalise: section.optional("normalise")?.unwrap_or_default(),
        from: from.unwrap_or_else(|| name.to_owned()),
        bounds: Bounds::load(&mut section, &r#type)?,
        block: section.optional("block")?.unwrap_or(false),
        deprecated: section.optional("deprecated")?,
        formerly: section.optional("formerly")?.unwrap_or_default(),
        local: false,
        write_only,
        r#type,
        presence,
        replace,
    };
    check(&section, &attribute, depth)?;
    section.finish()?;
    Ok(attribute)
}

fn attribute_type(section: &mut Section, depth: usize) -> Result<AttributeType, LoadError> {
    let text: String = section.required("type")?;
    let fields = section.optional_section("fields")?;
    let has_fields = fields.is_some();
    if has_fields && depth >= DEEPEST {
        return Err(section.error("fields", format!("stand in more than {DEEPEST} objects")));
    }
    let fields = fields.map(|fields| load(fields, depth + 1)).transpose()?.unwrap_or_default();
    let wrong = "is no type: write string, number, bool, object, or a list(…) or map(…) of one";
    let found = AttributeType::parse(&text, &Arc::new(fields)).ok_or_else(|| section.error("type", wrong))?;
    match (found.fields(), has_fields) {
        (Some(fields), _) if fields.is_empty() => {
            Err(section.error("fields", "are missing: say what the object has"))
        }
        (None, true) => Err(section.error("fields", format!("mean nothing for a {found}: remove them"))),
        _ => Ok(found),
    }
}

fn presence(
    section: &mut Section,
    r#type: &AttributeType,
    computed: bool,
    ours: bool,
) -> Result<Presence, LoadError> {
    let required = section.optional("required")?.unwrap_or(false);
    let default: Option<Value> = section.optional("default")?;
    if let Some(default) = &default
        && !r#type.accepts(default)
    {
        return Err(section.error("default", format!("is no {type}")));
    }
    match (required, computed, default) {
        (true, false, None) => Ok(Presence::Required),
        (false, true, None) if !ours => Ok(Presence::Computed),
        (false, false, default) => Ok(Presence::Optional { default }),
        _ => Err(section.error(
            "",
            "is one of `required`, optional (perhaps with `default`) or `computed`; \
             a computed attribute has neither `replace` nor `from`",
        )),
    }
}

fn check(section: &Section, attribute: &Attribute, depth: usize) -> Result<(), LoadError> {
    let kind = &attribute.r#type;
    if attribute.from.split('.').any(str::is_empty) {
        return Err(section.error("from", "is no dotted path: write one like `settings.vlan`"));
    }
    if attribute.scope
        && (!attribute.replace || attribute.presence != Presence::Required || depth > 0 || !kind.is_single())
    {
        let message =
            "is part of the object's address: make it a single value, `required` with `replace = true`";
        return Err(section.error("scope", message));
    }
    if attribute.wire == Wire::Text && !kind.is_single() {
        return Err(section.error("wire", format!("is for single values: remove it, a {kind} is none")));
    }
    if let Some(normal) = attribute.normalise.iter().find(|normal| !normal.fits(kind)) {
        let word = format!("{normal:?}").to_lowercase();
        let message = format!("has \"{word}\", which means nothing for a {kind}: remove it");
        return Err(section.error("normalise", message));
    }
    if attribute.normalise.contains(&Normal::Default) && attribute.default_value().is_none() {
        return Err(section.error("normalise", "has \"default\", but there is none: add `default`"));
    }
    check_write_only(section, attribute)?;
    check_block(section, attribute)?;
    let refused = attribute.default_value().and_then(|default| attribute.bounds.refuse(default, false));
    refused.map_or(Ok(()), |message| Err(section.error("default", message)))
}

fn check_write_only(section: &Section, attribute: &Attribute) -> Result<(), LoadError> {
    let plain = !attribute.is_computed()
        && attribute.default_value().is_none()
        && !attribute.replace
        && !attribute.compare
        && attribute.sensitive
        && attribute.r#type.fields().is_none();
    if attribute.write_only && !plain {
        let message = "is for a value that is sent and never read again: it has no `computed`, `default`, `replace`, \
                       `compare` or `sensitive = false`, and holds no objects";
        return Err(section.error("write_only", message));
    }
    Ok(())
}

fn check_block(section: &Section, attribute: &Attribute) -> Result<(), LoadError> {
    if !attribute.block {
        let inner = attribute.r#type.fields().and_then(|fields| fields.iter().find(|(_, field)| field.block));
        return inner.map_or(Ok(()), |(name, _)| {
            let message = "is a block in something that is none: make both blocks, or none";
            Err(section.error(&format!("fields.{name}.block"), message))
        });
    }
    let is_object = match &attribute.r#type {
        AttributeType::Object(_) => true,
        AttributeType::List(item) => matches!(**item, AttributeType::Object(_)),
        _ => false,
    };
    // Terraform knows of a block only whether it is there: nobody can fill one in.
    let written = !attribute.is_computed() && attribute.default_value().is_none();
    if is_object && written && !attribute.sensitive && attribute.deprecated.is_none() {
        return Ok(());
    }
    let message = "is for an `object` or `list(object)` that is neither computed nor sensitive nor deprecated and has no \
                   default: remove it";
    Err(section.error("block", message))
}

fn overlap(left: &str, right: &str) -> bool {
    let (short, long) = if left.len() <= right.len() { (left, right) } else { (right, left) };
    long.strip_prefix(short).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
