//! Every committed vendor folder loads, and a folder that is wrong says where and what to do.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod copy;

use std::fs;
use std::path::Path;

use copy::copied;
use serde_json::json;
use wanwright_vendors::{Catalogue, Engine, LoadError, SchemaVersion, Vendor};

fn committed() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A copy of vendors/simwan in which one file is changed.
fn changed(file: &str, from: &str, to: &str) -> LoadError {
    let dir = copied();
    let path = dir.path().join("simwan").join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{file} has no {from:?}");
    fs::write(&path, text.replace(from, to)).unwrap();
    Catalogue::load(dir.path()).unwrap_err()
}

#[test]
fn every_committed_folder_loads() {
    let catalogue = Catalogue::load(committed()).unwrap();
    assert!(catalogue.names().any(|name| name == "simwan"));
    assert_eq!(catalogue.iter().count(), catalogue.names().count());
    assert!(catalogue.get("no-such-vendor").is_none());
}

#[test]
fn simwan_is_what_its_files_say() {
    let vendor = Vendor::load(&committed().join("simwan")).unwrap();
    assert_eq!(vendor.engine("site"), Some(Engine::Terraform));
    assert_eq!(vendor.engine("tunnel"), Some(Engine::Terraform), "it is in the site's stack");
    assert_eq!(vendor.engine("device"), Some(Engine::Api));
    assert_eq!(vendor.engine("cat"), None);
    assert_eq!(vendor.limits.tunnels_per_site, 4);
    assert!(vendor.models.iter().any(|model| model == "edge-200"));
    assert!(vendor.hubs.contains_key("hub-eu"));
    assert_eq!(vendor.api["device"].attributes["vlan"].from, "settings.vlan");
    let template = vendor.terraform.as_ref().unwrap();
    assert_eq!(template.files, ["main.tf"]);
    assert_eq!(template.outputs["tunnel"].output, "tunnels");
    let (v1, v2) = (SchemaVersion::FIRST, "v2".parse().unwrap());
    let device = &vendor.schemas["device"];
    assert_eq!(device.stored(), v2);
    assert_eq!(device.served().collect::<Vec<_>>(), [v1, v2]);
    let settings = device.read(v1, &json!({"hostname": "edge"}), None).unwrap();
    assert_eq!(settings, json!({"system_name": "edge", "vlan": 1}));
}

#[test]
fn the_digest_is_over_what_counts() {
    let dir = copied();
    let folder = dir.path().join("simwan");
    let before = Vendor::load(&folder).unwrap();
    fs::create_dir(folder.join("terraform/.terraform")).unwrap();
    fs::write(folder.join("README.md"), "about").unwrap();
    let same = Vendor::load(&folder).unwrap();
    assert_eq!(before.digest, same.digest);
    fs::write(folder.join("terraform/more.tf"), "").unwrap();
    fs::write(folder.join("terraform/.terraform.lock.hcl"), "").unwrap();
    let after = Vendor::load(&folder).unwrap();
    assert_eq!(after.terraform.as_ref().unwrap().files, [".terraform.lock.hcl", "main.tf", "more.tf"]);
    assert_ne!(before.digest, after.digest);
    assert_ne!(before.terraform.unwrap().digest, after.terraform.unwrap().digest);
}

#[test]
fn an_unknown_key_names_file_and_key_and_what_was_meant() {
    let error = changed("vendor.toml", "burst = 50", "burst = 50\nbrust = 1").to_string();
    assert!(error.contains("vendor.toml: `budget.brust`"), "{error}");
    assert!(error.contains("did you mean `burst`?"), "{error}");
    let error = changed("api/site.toml", "cursor = \"cursor\"", "cursors = \"x\"").to_string();
    assert!(error.contains("api/site.toml: `list.cursors`"), "{error}");
    let error = changed("terraform/outputs.toml", "output = \"site\"", "output = \"site\"\nx = 1");
    assert!(error.to_string().contains("outputs.toml: `site.x`"), "{error}");
    let error = changed("schemas/device.v1.json", "\"maxLength\"", "\"maxLenght\"").to_string();
    assert!(error.contains("`properties.hostname.maxLenght`"), "{error}");
    assert!(error.contains("did you mean `maxLength`?"), "{error}");
}

#[test]
fn a_budget_is_one_limit_or_several() {
    let vendor = |budget: &str| {
        let dir = copied();
        let path = dir.path().join("simwan/vendor.toml");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("[budget]\nper_second = 50\nburst = 50\n", budget)).unwrap();
        Vendor::load(&dir.path().join("simwan"))
    };
    let plain = vendor("[budget]\nper_second = 50\nburst = 50\n").unwrap().budget;
    let [limit] = &plain.limits[..] else { panic!("{plain:?}") };
    assert_eq!((limit.calls.get(), limit.window.as_secs(), limit.burst.map(u32::from)), (50, 1, Some(50)));
    let several = "[budget]\nper_second = 5\nburst = 5\njitter_ms = 250\n\
                   [budget.limits.publish]\nper_hour = 20\noperations = [\"*Publish*\"]\n\
                   [budget.limits.query]\nper_minute = 120\neach_operation = true\nscope = \"address\"\n\
                   [budget.busy.hidden]\npointer = \"/errors/*/message\"\ncontains = [\"rate limit\"]\n\
                   limit = \"query\"\n[breaker]\nfailures = 3\n";
    let loaded = vendor(several).unwrap();
    let names: Vec<_> = loaded.budget.limits.iter().map(|limit| limit.name.as_str()).collect();
    assert_eq!(names, ["calls", "publish", "query"]);
    assert_eq!((loaded.budget.jitter.as_millis(), loaded.breaker.failures.get()), (250, 3));
    for (wrong, field) in [
        ("[budget]\n", "`budget.per_second`"),
        ("[budget]\nper_second = 1\n", "`budget.burst`"),
        ("[budget.limits.a]\nburst = 1\n", "`budget.limits.a`"),
        ("[budget.limits.a]\nper_hour = 1\nper_minute = 1\n", "`budget.limits.a`"),
        ("[budget.limits.\"a/b\"]\nper_hour = 1\n", "`budget.limits.a/b`"),
        ("[budget.limits.a]\nper_hour = 1\nmethods = [\"get\"]\n", "`budget.limits.a.methods`"),
        ("[budget.limits.a]\nper_hour = 1\npaths = [\"v1\"]\n", "`budget.limits.a.paths`"),
        ("[budget.limits.a]\nper_hour = 1\npath = [\"/v1\"]\n", "`budget.limits.a.path`"),
        (
            "[budget]\nper_second = 1\nburst = 1\n[budget.limits.calls]\nper_hour = 1\n",
            "`budget.limits.calls`",
        ),
        (
            "[budget]\nper_second = 1\nburst = 1\n[budget.busy.a]\nlimit = \"b\"\nstatus = 200\n",
            "`budget.busy.a.limit`",
        ),
        (
            "[budget]\nper_second = 1\nburst = 1\n[budget.busy.a]\npointer = \"/a\"\n",
            "`budget.busy.a.contains`",
        ),
        (
            "[budget]\nper_second = 1\nburst = 1\n[breaker]\nopen_seconds = 90\n",
            "`breaker.longest_open_seconds`",
        ),
        ("[budget]\nper_second = 1\nburst = 1\n[answers]\naddresses = [\"next\"]\n", "`answers.addresses`"),
    ] {
        let error = vendor(wrong).unwrap_err().to_string();
        assert!(error.contains(field), "{wrong}: {error}");
    }
}

#[test]
fn a_wrong_value_names_its_field() {
    for (file, from, to, field) in [
        ("vendor.toml", "name = \"simwan\"", "name = \"other\"", "`name`"),
        ("vendor.toml", "per_second = 50", "per_second = 0", "`budget.per_second`"),
        ("vendor.toml", "device = \"api\"", "cat = \"api\"", "`engines.cat`"),
        ("vendor.toml", "device = \"api\"", "device = \"ansible\"", "`engines`"),
        ("vendor.toml", "198.51.100.1", "hub", "`hubs`"),
        ("vendor.toml", "env = \"WANWRIGHT_SIMWAN_TOKEN\"", "", "`credential`"),
        ("vendor.toml", "http://127", "127", "`base_url`"),
        ("schemas/device.v2.json", "self.vlan < 1002", "self.vlna < 1002", "`x-validations[0].rule`"),
        ("schemas/device.v1-v2.json", "\"hostname\"", "\"hostnam\"", "`moved.hostnam`"),
        ("schemas/device.v1-v2.json", "\"system_name\"", "\"sysname\"", "`moved.sysname`"),
        ("schemas/device.v1-v2.json", "\"moved\"", "\"move\"", "`.`"),
        ("schemas/device.v1-v2.json", "\"hostname\": \"system_name\"", "", "`dropped`"),
        ("api/site.toml", "item = \"/v1/sites/{id}\"", "item = \"/v1/sites\"", "`item`"),
        ("api/site.toml", "update_method = \"PUT\"", "update_method = \"POST\"", "`update_method`"),
        ("api/site.toml", "default = \"\"", "default = 1", "`attributes.location.default`"),
        ("api/site.toml", "[attributes.lan]", "[attributes.count]", "`attributes.count`"),
        (
            "api/site.toml",
            "[attributes.status]",
            "[attributes.state]\njson = \"/name/x\"",
            "`attributes.state`",
        ),
        ("api/device.toml", "type = \"number\"", "type = \"integer\"", "`attributes.vlan.type`"),
        ("api/device.toml", "computed = true", "computed = true\nreplace = true", "`attributes.firmware`"),
        ("terraform/outputs.toml", "wanwright_simwan_site.site", "site", "`site.resource`"),
    ] {
        let error = changed(file, from, to);
        assert!(matches!(error, LoadError::Field { .. }), "{error}");
        assert!(error.to_string().contains(field), "{error}");
        assert!(error.path().ends_with(file), "{error}");
    }
}

#[test]
fn a_folder_that_is_not_whole_is_refused() {
    for (remove, says) in [
        ("api/device.toml", "add api/device.toml"),
        ("terraform/main.tf", "a stack has main.tf and outputs.toml"),
        ("terraform/outputs.toml", "a stack has main.tf and outputs.toml"),
    ] {
        let dir = copied();
        fs::remove_file(dir.path().join("simwan").join(remove)).unwrap();
        let error = Catalogue::load(dir.path()).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    let dir = copied();
    fs::write(dir.path().join("simwan/api/notes.txt"), "").unwrap();
    assert!(Catalogue::load(dir.path()).unwrap_err().to_string().contains("<kind>.toml"));
    let dir = copied();
    fs::write(dir.path().join("simwan/schemas/site.v1.json"), "{").unwrap();
    assert!(matches!(Catalogue::load(dir.path()), Err(LoadError::Syntax { .. })));
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(Catalogue::load(empty.path()), Err(LoadError::Layout { .. })));
    assert!(matches!(Catalogue::load("/no/such/folder"), Err(LoadError::Read { .. })));
}

#[test]
fn accounts_secrets_and_tokens_are_references_that_are_whole() {
    let wrong = |added: &str, field: &str| {
        let text = format!("{}\n[budget]", added.trim_end());
        let error = changed("vendor.toml", "[budget]", &text);
        assert!(error.to_string().contains(&format!("`{field}`")), "{added}: {error}");
    };
    wrong("[accounts.acme]\nenv = \"A\"", "accounts.acme.customers");
    wrong("[accounts.acme]\nenv = \"A\"\ncustomers = []", "accounts.acme.customers");
    wrong("[accounts.acme]\ncustomers = [\"acme\"]", "accounts.acme");
    wrong("[accounts.acme]\nenv = \"A\"\ncustomers = [\"acme\"]\nbudget = \"A b\"", "accounts.acme.budget");
    wrong("[accounts.\"a.b\"]\nenv = \"A\"\ncustomers = [\"acme\"]", "accounts.a.b");
    wrong("[proxy_login]\nenv = \"A\"", "proxy_login");
    wrong("[credential.oauth]\npath = \"/token\"", "credential.oauth");
    wrong("[credential.oauth]\npath = \"token\"\nform = {}", "credential.oauth.path");
    let error = changed("vendor.toml", "env = \"WANWRIGHT_SIMWAN_SECRETS\"", "dir = \"/a\"\nenv = \"B\"");
    assert!(error.to_string().contains("`secrets`"), "{error}");
    let vendor = Vendor::load(&committed().join("simwan")).unwrap();
    assert_eq!(vendor.secrets.unwrap().fields, ["psk"], "what is sensitive is one");
}

#[test]
fn a_secrets_name_is_asked_for_and_what_stands_there_is_not_repeated() {
    let vendor = Vendor::load(&committed().join("simwan")).unwrap();
    let schema = &vendor.schemas["tunnel"];
    let read = |psk: serde_json::Value| schema.read(SchemaVersion::FIRST, &json!({"psk": psk}), None);
    assert_eq!(read(json!("secret:oslo-1")).unwrap(), json!({"mtu": 1400, "psk": "secret:oslo-1"}));
    for wrong in
        [json!("Pl41n-K3y"), json!("secret:../Pl41n"), json!(41_414_141), json!(["Pl41n"]), json!("secret:")]
    {
        let error = format!("{:?}", read(wrong).unwrap_err());
        assert!(
            error.contains("settings.psk") && !error.contains("Pl41n") && !error.contains("4141"),
            "{error}"
        );
    }
}
