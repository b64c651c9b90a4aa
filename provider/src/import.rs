//! Import by the vendor's id or by name.

use std::collections::BTreeMap;

use serde_json::Map;
use wanwright_vendors::{AttributeType, RemoteObject, ResourceClient};

use crate::diagnostic::Diagnostic;
use crate::resource::{ID, ResourceType};

/// Attribute by which objects are found.
pub(crate) const NAME: &str = "name";

/// The object that an import names: by its id alone, or by `name=oslo`, `id=7`, or with what its address has besides,
/// `account=acme,name=oslo`.
pub(crate) async fn import(
    client: ResourceClient,
    resource: &ResourceType,
    text: &str,
) -> Result<RemoteObject, Diagnostic> {
    let parts = parts(resource, text);
    let mut address = Map::new();
    for (name, attribute) in resource.api.attributes.iter().filter(|(_, attribute)| attribute.scope) {
        let Some(text) = parts.get(name.as_str()) else {
            return Err(Diagnostic::invalid(format!("`{text}` does not say `{name}`"), how(resource)));
        };
        let wrong = || Diagnostic::invalid(format!("`{text}` is no {}", attribute.r#type), how(resource));
        let value = match attribute.r#type {
            AttributeType::String => (*text).into(),
            _ => serde_json::from_str(text).map_err(|_| wrong())?,
        };
        address.insert(name.clone(), value);
    }
    let client = client.within(&address);
    let found = match (parts.get(ID), parts.get(NAME)) {
        (Some(id), None) => client.read(id).await,
        (None, Some(name)) if resource.api.finds_by_name() => client.find_by_name(name).await,
        _ => return Err(Diagnostic::invalid(format!("`{text}` names no object"), how(resource))),
    };
    let found = found.map_err(|error| Diagnostic::of(&error, resource, "importing"))?;
    found.ok_or_else(|| {
        let summary = format!("VendorRefused: the vendor has no {} `{text}`", resource.api.kind);
        Diagnostic::error(summary, how(resource))
    })
}

/// `key=value` pairs with commas between them, as far as the keys are known; all of a text without any is the id.
fn parts<'t>(resource: &ResourceType, text: &'t str) -> BTreeMap<&'t str, &'t str> {
    let known = |part: &'t str| {
        let (key, value) = part.split_once('=')?;
        let scope = resource.api.attributes.get(key).is_some_and(|attribute| attribute.scope);
        (key == ID || key == NAME || scope).then_some((key, value))
    };
    let mut found = BTreeMap::new();
    let (mut rest, mut first) = (text, true);
    while let Some((key, value)) = known(rest) {
        // A comma ends a value only if another key follows: names may have commas.
        let ends = value.match_indices(',').map(|(at, _)| at).find(|at| known(&value[at + 1..]).is_some());
        let (value, after) = ends.map_or((value, ""), |at| (&value[..at], &value[at + 1..]));
        found.insert(key, value);
        (rest, first) = (after, false);
    }
    if first {
        found.insert(ID, text);
    }
    found
}

pub(crate) fn how(resource: &ResourceType) -> String {
    let scopes = resource.api.attributes.iter().filter(|(_, attribute)| attribute.scope);
    let address: String = scopes.map(|(name, _)| format!("{name}=…,")).collect();
    let by_name =
        if resource.api.finds_by_name() { format!(" or `{address}name=…`") } else { String::new() };
    let by_id = if address.is_empty() { "the vendor's id".to_owned() } else { format!("`{address}id=…`") };
    format!("Import {} by {by_id}{by_name}.", resource.type_name)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use wanwright_vendors::Catalogue;

    use super::*;
    use crate::resource::resource_types;

    #[test]
    fn an_import_names_an_id_or_a_name_and_the_address() {
        let vendors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vendors");
        let types = resource_types(&Catalogue::load(vendors).unwrap());
        let of = |kind: &str, text: &'static str| parts(&types[kind], text).into_iter().collect::<Vec<_>>();
        assert_eq!(of("wanwright_simwan_site", "o-1"), [("id", "o-1")]);
        assert_eq!(of("wanwright_simwan_site", "a=b,name=c"), [("id", "a=b,name=c")]);
        assert_eq!(of("wanwright_simwan_site", "name=Oslo, id=7"), [("name", "Oslo, id=7")]);
        assert_eq!(
            of("wanwright_cato_site", "account_id=7,name=a,b=c"),
            [("account_id", "7"), ("name", "a,b=c")]
        );
        assert!(how(&types["wanwright_cato_site"]).contains("`account_id=…,id=…` or `account_id=…,name=…`"));
    }
}
