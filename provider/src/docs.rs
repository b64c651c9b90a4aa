//! The documentation of the provider, as registries lay it out.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use wanwright_vendors::Catalogue;

use crate::data::data_sources;
use crate::import;
use crate::proto::tfplugin6::schema::{Attribute, Block, NestedBlock, nested_block, object};
use crate::resource::resource_types;
use crate::schema::schema;
use crate::service::provider_attributes;

/// Every page by its path below `docs`, in Markdown: `index.md`, `resources/simwan_site.md`, `data-sources/simwan_sites.md`.
#[must_use]
pub fn docs(catalogue: &Catalogue) -> BTreeMap<String, String> {
    let mut pages = BTreeMap::new();
    let provider = schema(&provider_attributes(), "What the vendor folders describe.", false);
    pages.insert("index.md".to_owned(), page("wanwright Provider", &provider.block.unwrap_or_default(), ""));
    let resources = resource_types(catalogue);
    let short = |name: &str| name.strip_prefix("wanwright_").unwrap_or(name).to_owned();
    for (name, resource) in &resources {
        let import = format!("\n## Import\n\n{}\n", import::how(resource));
        let text = page(&format!("{name} (Resource)"), &resource.schema().block.unwrap_or_default(), &import);
        pages.insert(format!("resources/{}.md", short(name)), text);
    }
    for (name, source) in &data_sources(&resources) {
        let text = page(&format!("{name} (Data Source)"), &source.schema().block.unwrap_or_default(), "");
        pages.insert(format!("data-sources/{}.md", short(name)), text);
    }
    pages
}

fn page(title: &str, block: &Block, more: &str) -> String {
    let mut text = format!("# {title}\n\n{}\n\n## Schema\n", block.description);
    fields(&block.attributes, &block.block_types, "", &mut text);
    text.push_str(more);
    text
}

/// The attributes of an object and, after them, the objects in it.
fn fields(attributes: &[Attribute], blocks: &[NestedBlock], place: &str, text: &mut String) {
    let group = |attribute: &Attribute| match (attribute.required, attribute.optional) {
        (true, _) => "Required",
        (false, true) => "Optional",
        (false, false) => "Read-only",
    };
    for title in ["Required", "Optional", "Read-only"] {
        let belong = attributes.iter().filter(|attribute| group(attribute) == title);
        let lines: Vec<String> = belong.map(line).collect();
        if !lines.is_empty() {
            // Writing to a String does not fail.
            let _ = write!(text, "\n{title}:\n\n{}\n", lines.join("\n"));
        }
    }
    let of = |block: &NestedBlock| {
        let many = block.nesting() == nested_block::NestingMode::List;
        format!("- `{}` ({})", block.type_name, if many { "blocks" } else { "block" })
    };
    if !blocks.is_empty() {
        let _ = write!(text, "\nBlocks:\n\n{}\n", blocks.iter().map(of).collect::<Vec<_>>().join("\n"));
    }
    for attribute in attributes {
        if let Some(nested) = &attribute.nested_type {
            let place = format!("{place}{}", attribute.name);
            let _ = write!(text, "\n### `{place}`\n");
            fields(&nested.attributes, &[], &format!("{place}."), text);
        }
    }
    for nested in blocks {
        let place = format!("{place}{}", nested.type_name);
        let Some(block) = &nested.block else { continue };
        let _ = write!(text, "\n### `{place}`\n\n{}\n", block.description);
        fields(&block.attributes, &block.block_types, &format!("{place}."), text);
    }
}

fn line(attribute: &Attribute) -> String {
    let kind = match &attribute.nested_type {
        Some(nested) => match nested.nesting() {
            object::NestingMode::List => "list of objects".to_owned(),
            object::NestingMode::Map => "map of objects".to_owned(),
            _ => "object".to_owned(),
        },
        None => String::from_utf8_lossy(&attribute.r#type).replace('"', ""),
    };
    let words = [
        (attribute.sensitive, ", sensitive"),
        (attribute.write_only, ", write-only"),
        (attribute.deprecated, ", deprecated"),
    ];
    let words: String = words.iter().filter(|(is, _)| *is).map(|(_, word)| *word).collect();
    format!("- `{}` ({kind}{words}) {}", attribute.name, attribute.description).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_resource_and_data_source_has_a_page() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vendors");
        let pages = docs(&Catalogue::load(folder).unwrap());
        let names: Vec<&str> = pages.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "data-sources/shapes_gadget.md",
                "data-sources/shapes_gadgets.md",
                "index.md",
                "resources/shapes_gadget.md"
            ]
        );
        let page = &pages["resources/shapes_gadget.md"];
        for part in [
            "# wanwright_shapes_gadget (Resource)\n\nA gadget has every shape there is.\n",
            "- `secret` (string, sensitive, write-only)\n",
            "- `peers` (map of objects)\n",
            "### `bgp.neighbors`\n\nRequired:\n\n- `address` (string)\n",
            "- `mode` (string) How it runs. Default: `\"auto\"`.\n",
            "### `rule.match`",
            "Import wanwright_shapes_gadget by the vendor's id or `name=…`.",
        ] {
            assert!(page.contains(part), "{part}: {page}");
        }
    }
}
