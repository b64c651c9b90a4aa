//! Objects as the protocol carries them, and schemas of attributes that are texts.

use std::collections::BTreeMap;

use rmpv::Value;
use wanwright_provider::proto::tfplugin6 as tf;

/// The attributes of an object.
pub(crate) type Fields = BTreeMap<String, Value>;

/// Reads an object; none for null.
pub(crate) fn unpacked(value: Option<&tf::DynamicValue>) -> Option<Fields> {
    match rmpv::decode::read_value(&mut value?.msgpack.as_slice()).ok()? {
        Value::Map(fields) => Some(
            fields.into_iter().filter_map(|(key, value)| Some((key.as_str()?.to_owned(), value))).collect(),
        ),
        _ => None,
    }
}

/// Writes an object, or null.
pub(crate) fn packed(fields: Option<&Fields>) -> tf::DynamicValue {
    let pair = |(key, value): (&String, &Value)| (Value::from(key.as_str()), value.clone());
    let value = fields.map_or(Value::Nil, |fields| Value::Map(fields.iter().map(pair).collect()));
    let mut msgpack = Vec::new();
    // Writing to a Vec does not fail.
    let _ = rmpv::encode::write_value(&mut msgpack, &value);
    tf::DynamicValue { msgpack, ..Default::default() }
}

/// A text in an object; empty where it is none.
pub(crate) fn text(fields: &Fields, name: &str) -> String {
    fields.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// A schema of attributes that are texts.
pub(crate) fn block(required: &[&str], optional: &[&str], computed: &[&str]) -> tf::Schema {
    let attribute = |name: &&str| tf::schema::Attribute {
        name: (*name).to_owned(),
        r#type: b"\"string\"".to_vec(),
        required: required.contains(name),
        optional: optional.contains(name),
        computed: computed.contains(name),
        ..Default::default()
    };
    let mut attributes: Vec<_> = required.iter().chain(optional).chain(computed).map(attribute).collect();
    attributes.sort_by(|one, other| one.name.cmp(&other.name));
    let block = tf::schema::Block { attributes, ..Default::default() };
    tf::Schema { version: 0, block: Some(block) }
}
