use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use axum::http::Method;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::bulk::{self, Bulk};
use crate::config::Limit;

/// The attribute every object is known by.
pub(crate) const NAME: &str = "name";

/// The vendor, as its folder describes it.
#[derive(Debug)]
pub(crate) struct Vendor {
    pub(crate) budget: Limit,
    pub(crate) page_size: usize,
    pub(crate) kinds: BTreeMap<String, Kind>,
}

/// One kind of object and its resource in the API.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) name: String,
    pub(crate) collection: String,
    /// What stands before and after the id in an item's path.
    pub(crate) item: (String, String),
    pub(crate) id_field: String,
    pub(crate) update: Method,
    pub(crate) idempotency_header: Option<String>,
    pub(crate) list: ListFields,
    /// By field name in JSON.
    pub(crate) attributes: BTreeMap<String, Attribute>,
    pub(crate) id_prefix: String,
    /// Most objects of one call for many; 0 where there are no such calls.
    pub(crate) bulk: usize,
    pub(crate) unique: Vec<String>,
    pub(crate) filters: Vec<String>,
    /// Attribute to the kind it names.
    pub(crate) references: BTreeMap<String, String>,
}

/// Fields of a list answer, and query parameters of its request.
#[derive(Debug)]
pub(crate) struct ListFields {
    pub(crate) items: String,
    pub(crate) next: String,
    pub(crate) cursor: String,
    pub(crate) name: String,
}

#[derive(Debug)]
pub(crate) struct Attribute {
    pub(crate) kind: Type,
    pub(crate) required: bool,
    pub(crate) replace: bool,
    pub(crate) default: Option<Value>,
    pub(crate) rule: Rule,
    pub(crate) computed: Option<Computed>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum Type {
    #[serde(rename = "string")]
    String,
    #[serde(rename = "number")]
    Number,
    #[serde(rename = "bool")]
    Bool,
    #[serde(rename = "list(string)")]
    List,
    #[serde(rename = "map(string)")]
    Map,
}

/// What a value must be beyond its type.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Rule {
    pub(crate) minimum: Option<i64>,
    pub(crate) maximum: Option<i64>,
    pub(crate) max_length: Option<usize>,
    pub(crate) format: Option<Format>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    Ipv4,
}

/// Where the vendor takes a value from that it sets itself.
#[derive(Clone, Debug)]
pub(crate) enum Computed {
    Value(Value),
    /// First address of each network and how many addresses can be given.
    Pool(Vec<(Ipv4Addr, u32)>),
}

impl Computed {
    /// The value for the object with this number, from 1.
    pub(crate) fn value(&self, number: u64) -> Value {
        let networks = match self {
            Self::Value(value) => return value.clone(),
            Self::Pool(networks) => networks,
        };
        let total: u64 = networks.iter().map(|(_, size)| u64::from(*size)).sum();
        let mut offset = number.saturating_sub(1) % total.max(1);
        for (first, size) in networks {
            if offset < u64::from(*size) {
                let address = Ipv4Addr::from_bits(first.to_bits() + offset as u32);
                return Value::String(address.to_string());
            }
            offset -= u64::from(*size);
        }
        Value::Null
    }
}

/// What a path means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Collection,
    /// The id, decoded.
    Item(String),
    /// Many objects of the kind.
    Bulk(Bulk),
}

impl Vendor {
    pub(crate) fn route(&self, path: &str) -> Option<(&Kind, Target)> {
        self.kinds.values().find_map(|kind| Some((kind, kind.target(path)?)))
    }

    /// The kinds that refer to a kind, with the attribute they do it by.
    pub(crate) fn referrers<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.kinds.values().flat_map(move |other| {
            let to_kind = other.references.iter().filter(move |(_, target)| *target == kind);
            to_kind.map(|(attribute, _)| (other.name.as_str(), attribute.as_str()))
        })
    }
}

impl Kind {
    fn target(&self, path: &str) -> Option<Target> {
        if path == self.collection {
            return Some(Target::Collection);
        }
        if let Some(many) = bulk::target(self, path) {
            return Some(many);
        }
        let id = path.strip_prefix(self.item.0.as_str())?.strip_suffix(self.item.1.as_str())?;
        (!id.is_empty() && !id.contains('/')).then(|| Target::Item(decode(id)))
    }

    /// The path of the object with this id.
    pub(crate) fn path(&self, id: &str) -> String {
        format!("{}{id}{}", self.item.0, self.item.1)
    }

    pub(crate) fn id(&self, number: u64) -> String {
        format!("{}{number:06}", self.id_prefix)
    }

    /// The number in an id; `None` when it is not an id of this kind, written as this kind writes them.
    pub(crate) fn number(&self, id: &str) -> Option<u64> {
        let number = id.strip_prefix(self.id_prefix.as_str())?.parse().ok()?;
        (self.id(number) == id).then_some(number)
    }

    /// The attributes that are looked up by value.
    pub(crate) fn indexed(&self) -> impl Iterator<Item = String> + '_ {
        let named = self.unique.iter().chain(&self.filters).chain(self.references.keys());
        named.cloned().chain([NAME.to_owned()])
    }

    /// The object a create makes: the checked fields with the id and the vendor's own values.
    pub(crate) fn complete(&self, mut fields: Map<String, Value>, number: u64) -> Map<String, Value> {
        for (attribute, about) in &self.attributes {
            if let Some(computed) = &about.computed {
                fields.insert(attribute.clone(), computed.value(number));
            }
        }
        fields.insert(self.id_field.clone(), Value::String(self.id(number)));
        fields
    }
}

/// Percent-decoding of one path segment; what is not a valid escape stays as it is.
fn decode(segment: &str) -> String {
    let bytes = segment.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = segment.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match escape.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_go_through_the_pool_in_order() {
        let pool = Computed::Pool(vec![
            (Ipv4Addr::new(203, 0, 113, 1), 254),
            (Ipv4Addr::new(198, 18, 0, 1), 131_070),
        ]);
        assert_eq!(pool.value(1), "203.0.113.1");
        assert_eq!(pool.value(254), "203.0.113.254");
        assert_eq!(pool.value(255), "198.18.0.1");
        assert_eq!(pool.value(254 + 131_070), "198.19.255.254");
        assert_eq!(pool.value(255 + 131_070), "203.0.113.1");
    }

    #[test]
    fn segments_are_decoded() {
        assert_eq!(decode("st%2D000001"), "st-000001");
        assert_eq!(decode("a%zz%4"), "a%zz%4");
    }
}
