//! Templates for the vendors' own Terraform providers, held against what those providers document.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use hcl_edit::expr::Expression;
use hcl_edit::structure::Body;
use serde_json::Value;
use wanwright_vendors::{ForeignProvider, Vendor};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cato")
}

/// A copy of a vendor's folder, to be changed.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if from.is_dir() { copy(&from, &to) } else { assert!(fs::copy(from, to).is_ok()) }
    }
}

fn facts() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/facts/cato-provider.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// What an object or a block sets, against the attributes that there are.
fn held(place: &str, set: &[(String, &Expression)], known: &Value, wrong: &mut Vec<String>) {
    for (name, value) in set {
        let Some(fact) = known.get(name) else {
            wrong.push(format!("{place}.{name} is not there"));
            continue;
        };
        if fact["presence"] == "computed" {
            wrong.push(format!("{place}.{name} is the provider's to set"));
        }
        let is_object = matches!(value, Expression::Object(_));
        if is_object != (fact["type"] == "object") {
            wrong.push(format!("{place}.{name} is a {}", fact["type"]));
        }
        if let Expression::Object(object) = value {
            let fields: Vec<(String, &Expression)> = object
                .iter()
                .map(|(key, value)| (key.as_ident().unwrap().to_string(), value.expr()))
                .collect();
            held(&format!("{place}.{name}"), &fields, &fact["fields"], wrong);
        }
    }
    let given: BTreeSet<&str> = set.iter().map(|(name, _)| name.as_str()).collect();
    for (name, fact) in known.as_object().unwrap() {
        if fact["presence"] == "required" && !given.contains(name.as_str()) {
            wrong.push(format!("{place}.{name} is required"));
        }
    }
}

fn attributes(body: &Body) -> Vec<(String, &Expression)> {
    body.attributes().map(|attribute| (attribute.key.to_string(), &attribute.value)).collect()
}

/// What is wrong with a template.
fn wrong(text: &str) -> Vec<String> {
    let (facts, body) = (facts(), hcl_edit::parser::parse_body(text).unwrap());
    let mut wrong = Vec::new();
    for block in body.get_blocks("provider") {
        held("provider", &attributes(&block.body), &facts["provider"], &mut wrong);
    }
    let mut resources = 0;
    for block in body.get_blocks("resource") {
        let kind = block.labels[0].as_str();
        match facts["resources"].get(kind) {
            Some(known) => held(kind, &attributes(&block.body), known, &mut wrong),
            None => wrong.push(format!("{kind} is no resource")),
        }
        resources += 1;
    }
    assert!(resources > 0);
    for part in text.split("cato_socket_site.site.").skip(1) {
        let name: String = part.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        if facts["resources"]["cato_socket_site"].get(&name).is_none() {
            wrong.push(format!("an output reads {name}, which is not there"));
        }
    }
    wrong
}

#[test]
fn catos_template_uses_what_the_provider_has_and_sets_what_it_needs() {
    let text = fs::read_to_string(folder().join("terraform-official/main.tf")).unwrap();
    assert_eq!(wrong(&text), [""; 0]);
    // The check has teeth.
    for (from, to, says) in [
        ("native_network_range =", "network_range =", "network_range is not there"),
        ("    local_ip =", "    gateway =", "gateway is the provider's to set"),
        ("    timezone     =", "    # timezone =", "site_location.timezone is required"),
        ("account_id = var.site.settings.account_id", "", "provider.account_id is required"),
        ("cato_socket_site.site.id", "cato_socket_site.site.site_id", "an output reads site_id"),
        ("\"cato_socket_site\" \"site\"", "\"cato_site\" \"site\"", "cato_site is no resource"),
    ] {
        assert!(text.contains(from), "{from}");
        let found = wrong(&text.replace(from, to));
        assert!(found.iter().any(|wrong| wrong.contains(says)), "{says}: {found:?}");
    }
}

#[test]
fn the_folder_says_which_template_is_used_and_both_are_read() {
    let own = Vendor::load(&folder()).unwrap().terraform.unwrap();
    assert!(own.dir.ends_with("terraform") && own.outputs["site"].resource == "wanwright_cato_site.site");
    let dir = tempfile::tempdir().unwrap();
    let copied = dir.path().join("cato");
    copy(&folder(), &copied);
    let toml = fs::read_to_string(copied.join("vendor.toml")).unwrap();
    let says = |template: &str| {
        fs::write(copied.join("vendor.toml"), toml.replace("template = \"own\"", template)).unwrap();
        Vendor::load(&copied)
    };
    assert!(says("template = \"both\"").unwrap_err().to_string().contains("is \"own\" or \"official\""));
    fs::write(copied.join("terraform-official/more.tf"), "module \"m\" {}\n").unwrap();
    let error = says("template = \"own\"").unwrap_err().to_string();
    assert!(error.contains("terraform-official/more.tf") && error.contains("modules"), "{error}");
    fs::remove_file(copied.join("terraform-official/more.tf")).unwrap();
    // A provider that is not ours runs only as the one that the lock file knows, and told where the vendor is.
    let official = copied.join("terraform-official");
    let unlocked = says("template = \"official\"").unwrap_err().to_string();
    assert!(unlocked.contains("terraform providers lock"), "{unlocked}");
    let lock = "provider \"registry.terraform.io/catonetworks/cato\" {\n  version = \"0.0.96\"\n  hashes = [\n    \"h1:AAAA\",\n  ]\n}\n";
    fs::write(official.join(".terraform.lock.hcl"), lock).unwrap();
    let official = says("template = \"official\"").unwrap().terraform.unwrap();
    assert!(official.dir.ends_with("terraform-official"));
    assert_eq!(official.outputs["site"].resource, "cato_socket_site.site");
    assert_ne!(official.digest, own.digest);
    fs::remove_dir_all(copied.join("terraform-official")).unwrap();
    assert!(
        says("template = \"official\"").unwrap_err().to_string().contains("add terraform-official/main.tf")
    );
}

#[test]
fn whichever_template_is_used_has_its_own_versions_providers_and_locks() {
    let dir = tempfile::tempdir().unwrap();
    let copied = dir.path().join("cato");
    copy(&folder(), &copied);
    let lock = |part: &str, version: &str| {
        let text = format!(
            "provider \"registry.terraform.io/catonetworks/cato\" {{\n  version = \"{version}\"\n  hashes = [\n    \"h1:AAAA\",\n  ]\n}}\n"
        );
        fs::write(copied.join(part).join(".terraform.lock.hcl"), text).unwrap();
    };
    copy(&copied.join("terraform-official"), &copied.join("terraform-official@2"));
    lock("terraform-official", "0.0.96");
    lock("terraform-official@2", "0.0.97");
    let toml = fs::read_to_string(copied.join("vendor.toml")).unwrap();
    let uses = |template: &str| {
        let text = toml.replace("template = \"own\"", &format!("template = \"{template}\""));
        fs::write(copied.join("vendor.toml"), text).unwrap();
        Vendor::load(&copied)
    };
    let versions = |vendor: &Vendor| -> Vec<(u32, Vec<String>)> {
        let locked = |providers: &[ForeignProvider]| providers.iter().map(|of| of.version.clone()).collect();
        vendor.templates().map(|template| (template.version, locked(&template.providers))).collect()
    };
    let (first, second) = (vec!["0.0.96".to_owned()], vec!["0.0.97".to_owned()]);
    assert_eq!(versions(&uses("official").unwrap()), [(1, first), (2, second)]);
    assert_eq!(versions(&uses("own").unwrap()), [(1, vec![])], "the other one's versions are not its own");

    // Its own lock, and none beside it.
    fs::remove_file(copied.join("terraform-official@2/.terraform.lock.hcl")).unwrap();
    let error = uses("official").unwrap_err().to_string();
    assert!(error.contains("terraform-official@2/.terraform.lock.hcl"), "{error}");
    // A version that is not used is read as well.
    fs::write(copied.join("terraform-official@2/more.tf"), "module \"m\" {}\n").unwrap();
    let error = uses("own").unwrap_err().to_string();
    assert!(error.contains("terraform-official@2/more.tf") && error.contains("modules"), "{error}");
    fs::remove_dir_all(copied.join("terraform-official@2")).unwrap();
    copy(&copied.join("terraform-official"), &copied.join("terraform-official@x"));
    let error = uses("own").unwrap_err().to_string();
    assert!(error.contains("they are terraform-official@2"), "{error}");
}
