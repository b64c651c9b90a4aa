//! Terraform's schemas, from attributes.

use wanwright_vendors::{Attribute, AttributeType, Presence};

use crate::proto::tfplugin6::schema::{
    Attribute as Described, Block, NestedBlock, Object, nested_block, object,
};
use crate::proto::tfplugin6::{Schema, StringKind};
use crate::wire::Attributes;

/// A schema of these attributes.
pub(crate) fn schema(attributes: &Attributes, description: &str, deprecated: bool) -> Schema {
    Schema { version: 0, block: Some(block(attributes, description, deprecated)) }
}

fn block(attributes: &Attributes, description: &str, deprecated: bool) -> Block {
    let (blocks, plain): (Vec<_>, Vec<_>) = attributes.iter().partition(|(_, attribute)| attribute.block);
    Block {
        version: 0,
        attributes: plain.into_iter().map(|(name, attribute)| described(name, attribute)).collect(),
        block_types: blocks.into_iter().map(|(name, attribute)| nested(name, attribute)).collect(),
        description: description.to_owned(),
        description_kind: StringKind::Plain.into(),
        deprecated,
    }
}

fn nested(name: &str, attribute: &Attribute) -> NestedBlock {
    use nested_block::NestingMode;
    let list = matches!(attribute.r#type, AttributeType::List(_));
    let required = i64::from(attribute.presence == Presence::Required);
    let count = |items: Option<u64>| items.and_then(|items| i64::try_from(items).ok()).unwrap_or(0);
    let fields = attribute.r#type.fields().map(|fields| block(fields, &in_words(attribute), false));
    NestedBlock {
        type_name: name.to_owned(),
        block: fields,
        nesting: if list { NestingMode::List } else { NestingMode::Single }.into(),
        min_items: if list { required.max(count(attribute.bounds.min_items)) } else { required },
        max_items: if list { count(attribute.bounds.max_items) } else { required },
    }
}

fn described(name: &str, attribute: &Attribute) -> Described {
    let (required, optional, computed) = match &attribute.presence {
        Presence::Required => (true, false, false),
        // Terraform lets a provider fill in only what it calls computed too.
        Presence::Optional { default } => (false, true, default.is_some()),
        Presence::Computed => (false, false, true),
    };
    let nested_type = nesting(&attribute.r#type);
    Described {
        name: name.to_owned(),
        r#type: if nested_type.is_some() { Vec::new() } else { type_text(&attribute.r#type).into_bytes() },
        nested_type,
        description: in_words(attribute),
        description_kind: StringKind::Plain.into(),
        required,
        optional,
        computed,
        sensitive: attribute.sensitive,
        deprecated: attribute.deprecated.is_some(),
        write_only: attribute.write_only,
    }
}

fn nesting(kind: &AttributeType) -> Option<Object> {
    use object::NestingMode;
    let fields = kind.fields()?;
    let mode = match kind {
        AttributeType::List(_) => NestingMode::List,
        AttributeType::Map(_) => NestingMode::Map,
        _ => NestingMode::Single,
    };
    let attributes = fields.iter().map(|(name, field)| described(name, field)).collect();
    Some(Object { attributes, nesting: mode.into() })
}

/// A type in Terraform's JSON notation.
fn type_text(kind: &AttributeType) -> String {
    match kind {
        AttributeType::String => "\"string\"".to_owned(),
        AttributeType::Number => "\"number\"".to_owned(),
        AttributeType::Bool => "\"bool\"".to_owned(),
        AttributeType::List(item) => format!("[\"list\",{}]", type_text(item)),
        AttributeType::Map(item) => format!("[\"map\",{}]", type_text(item)),
        // Objects are nested attributes and never come here.
        AttributeType::Object(_) => "\"dynamic\"".to_owned(),
    }
}

/// What people are told of an attribute.
fn in_words(attribute: &Attribute) -> String {
    let mut words = Vec::new();
    words.extend((!attribute.description.is_empty()).then(|| attribute.description.clone()));
    let bounds = attribute.bounds.in_words();
    words.extend((!bounds.is_empty()).then(|| format!("Allowed: {bounds}.")));
    let default = attribute.default_value().filter(|default| !default.is_null());
    words.extend(default.map(|default| format!("Default: `{default}`.")));
    words.extend(attribute.replace.then(|| "Changing it replaces the object.".to_owned()));
    words.extend(attribute.deprecated.as_ref().map(|instead| format!("Deprecated: {instead}")));
    words.join(" ")
}
