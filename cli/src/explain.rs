//! `wanwright explain`: what a vendor offers, from its folder.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use wanwright_commands::explain::{self, KindExplained, VendorExplained};
use wanwright_schemas::ids::Kind;
use wanwright_schemas::reason::Refusal;
use wanwright_vendors::{Catalogue, FieldExplained, SchemaVersion};

use crate::cli::{ExplainArgs, OutcomeFormat};
use crate::exit::{Exit, Usage};
use crate::output;

/// Explains.
pub fn run(args: &ExplainArgs) -> Result<Exit> {
    let dir = &args.vendors.vendors;
    let vendors =
        Catalogue::load(dir).with_context(|| format!("reading the vendors in {}", dir.display()))?;
    let json = args.output == OutcomeFormat::Json;
    let usage = |refusal: Refusal| anyhow::Error::new(Usage(refusal.message));
    let Some(name) = &args.vendor else {
        let all = explain::vendors(&vendors);
        output::line(if json { serde_json::to_string(&all)? } else { all.iter().map(of_vendor).collect() });
        return Ok(Exit::Done);
    };
    let vendor = explain::named(&vendors, name).map_err(usage)?;
    let Some(what) = &args.what else {
        let said = explain::vendor(vendor);
        output::line(if json { serde_json::to_string(&said)? } else { of_vendor(&said) });
        return Ok(Exit::Done);
    };
    let (kind, field) =
        what.split_once('.').map_or((what.as_str(), None), |(kind, field)| (kind, Some(field)));
    let kind = Kind::parse(kind)
        .ok_or_else(|| Usage(format!("there is no kind `{kind}`; use customer, site, tunnel or device")))?;
    let version: Option<SchemaVersion> = match &args.schema {
        None => None,
        Some(text) => Some(text.parse().map_err(|error| Usage(format!("--version: {error}")))?),
    };
    let mut said = explain::kind(vendor, kind, version).map_err(usage)?;
    if let Some(field) = field {
        said.fields = below(&said, field)?;
    }
    output::line(match (json, field) {
        (true, _) => serde_json::to_string(&said)?,
        (false, None) => of_kind(&said),
        (false, Some(_)) => head(&said) + &of_fields(&said.fields),
    });
    Ok(Exit::Done)
}

/// A field and what is below it. A field of the settings may be named without them.
fn below(said: &KindExplained, field: &str) -> Result<Vec<FieldExplained>> {
    let settings = format!("settings.{field}");
    for wanted in [field, settings.as_str()] {
        let inside = |path: &str| {
            path.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        let mut found: Vec<_> = said.fields.iter().filter(|field| inside(&field.path)).cloned().collect();
        for field in &mut found {
            // A rule may stand at the place around the field it is about.
            let named = |around: &&FieldExplained| field.path.starts_with(&format!("{}.", around.path));
            let around = said.fields.iter().filter(named);
            let about = around.flat_map(|around| around.rules.iter().map(move |rule| (&around.path, rule)));
            let rules = about.filter(|(path, rule)| {
                rule.field.as_ref().is_some_and(|name| field.path == format!("{path}.{name}"))
            });
            let rules: Vec<_> = rules.map(|(_, rule)| rule.clone()).collect();
            field.rules.extend(rules);
        }
        if !found.is_empty() {
            return Ok(found);
        }
    }
    let known: Vec<&str> = said.fields.iter().map(|field| field.path.as_str()).collect();
    let known = if known.is_empty() { "no fields".to_owned() } else { known.join(", ") };
    Err(Usage(format!("a {} of {} has no field `{field}`; it has {known}", said.kind, said.vendor)).into())
}

fn of_vendor(said: &VendorExplained) -> String {
    let mut text = format!("VENDOR   {} ({})\nDIGEST   {}\n", said.vendor, said.title, said.digest);
    let list = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let _ = writeln!(text, "MODELS   {}\nHUBS     {}\n", list(&said.models), list(&said.hubs));
    let rows = said.kinds.iter().map(|kind| {
        let served: Vec<String> = kind.served.iter().map(ToString::to_string).collect();
        let stored = kind.stored.map_or_else(|| "-".to_owned(), |stored| stored.to_string());
        let served = if served.is_empty() { "-".to_owned() } else { served.join(" ") };
        vec![kind.kind.to_string(), stored, served, kind.verbs.join(" ")]
    });
    text + &output::table(&["kind", "stored", "served", "verbs"], rows.collect()) + "\n"
}

fn head(said: &KindExplained) -> String {
    let mut text = format!("VENDOR   {}\nKIND     {}\n", said.vendor, said.kind);
    for version in &said.versions {
        let shown = if Some(version.version) == said.version { "shown" } else { "" };
        let stored = if version.stored { "stored" } else { "" };
        let served = if version.served { "served" } else { "retired" };
        let marks: Vec<&str> = [served, stored, shown].into_iter().filter(|mark| !mark.is_empty()).collect();
        let _ = writeln!(text, "VERSION  {} ({})  {}", version.version, marks.join(", "), version.digest);
        if let Some(change) = &version.change {
            let _ = writeln!(text, "         {change}");
        }
    }
    text
}

fn of_kind(said: &KindExplained) -> String {
    let mut text = head(said);
    if !said.fields.is_empty() {
        text += &of_fields(&said.fields);
    }
    text += "\nVERBS\n";
    for verb in &said.verbs {
        let _ = writeln!(text, "  {}\n      {}", verb.verb, verb.example);
    }
    text.trim_end().to_owned()
}

fn of_fields(fields: &[FieldExplained]) -> String {
    let mut text = "\nFIELDS\n".to_owned();
    for field in fields {
        let need = if field.required { "  required" } else { "" };
        let default = field.default.as_ref().map(|value| format!("  default {value}")).unwrap_or_default();
        let _ = writeln!(text, "  {} <{}>{need}{default}", field.path, field.kind);
        if let Some(description) = &field.description {
            let _ = writeln!(text, "      {description}");
        }
        if field.allowed != "an object" {
            let _ = writeln!(text, "      {}", field.allowed);
        }
        for rule in &field.rules {
            let at = rule.field.as_ref().map(|field| format!("{field}: ")).unwrap_or_default();
            let change = if rule.change { " (when it is changed)" } else { "" };
            let _ = writeln!(text, "      rule: {at}{}{change}\n            {}", rule.message, rule.rule);
        }
    }
    text.trim_end().to_owned() + "\n"
}
