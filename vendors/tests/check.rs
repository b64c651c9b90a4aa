//! Every committed folder passes its check, and a folder with something wrong says where and what to do.
#![cfg(feature = "check")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod copy;

use std::fs;
use std::path::Path;

use wanwright_vendors::check::{Checked, Level, check};

#[tokio::test]
async fn every_committed_folder_plays_its_examples() {
    let vendors = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut played = 0;
    for folder in fs::read_dir(vendors).unwrap().map(|entry| entry.unwrap().path()) {
        if !folder.join("vendor.toml").is_file() {
            continue;
        }
        let checked = check(&folder).await;
        assert_eq!(checked.problems, [], "{}", folder.display());
        assert!(checked.examples >= 10, "{} has {} examples", folder.display(), checked.examples);
        played += 1;
    }
    assert!(played >= 1);
}

/// The check of a copy of simwan in which one file is changed.
async fn changed(file: &str, from: &str, to: &str) -> Checked {
    let dir = copy::copied();
    let path = dir.path().join("simwan").join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{file} has no {from:?}");
    fs::write(&path, text.replacen(from, to, 1)).unwrap();
    check(&dir.path().join("simwan")).await
}

#[tokio::test]
async fn what_is_wrong_is_named_by_file_and_key() {
    for (file, from, to, at, key, says) in [
        ("vendor.toml", "burst = 50", "brust = 50", "vendor.toml", "budget.burst", "is missing"),
        (
            "api/device.toml",
            "settings.vlan",
            "settings.vlna",
            "api/device.toml",
            "attributes.vlan.from",
            "no setting `vlna`",
        ),
        (
            "api/device.toml",
            "inputs.site_id",
            "site",
            "api/device.toml",
            "attributes.site_id.from",
            "an order does not have",
        ),
        (
            "examples/device-update.json",
            "\"vlan\": 8\n        }",
            "\"vlan\": 9\n        }",
            "device-update.json",
            "exchanges[0].request.body",
            "the client sends",
        ),
        (
            "examples/device-read.json",
            "\"GET\"",
            "\"PUT\"",
            "device-read.json",
            "exchanges[0].request.method",
            "is recorded as PUT",
        ),
        (
            "examples/device-update.json",
            "\"dv-000001\",\n      \"attributes\"",
            "\"dv-000002\",\n      \"attributes\"",
            "device-update.json",
            "result",
            "and it is",
        ),
        (
            "examples/device-busy.json",
            "\"VendorBusy\"",
            "\"Network\"",
            "device-busy.json",
            "result",
            "VendorBusy",
        ),
        (
            "examples/device-find.json",
            "\"name\": \"acme",
            "\"nmae\": \"acme",
            "device-find.json",
            "",
            "unknown field `nmae`",
        ),
        (
            "examples/device-list.json",
            "          \"vlan\": 7,\n          \"firmware\"",
            "          \"firmware\"",
            "api/device.toml",
            "list.fresh_seconds",
            "a list has no `vlan`",
        ),
        (
            "examples/device-busy.json",
            "\"kind\": \"device\"",
            "\"kind\": \"cat\"",
            "device-busy.json",
            "kind",
            "no api/cat.toml",
        ),
    ] {
        let checked = changed(file, from, to).await;
        assert!(!checked.is_well(), "{file}: {from} -> {to}");
        let problem = &checked.problems[0];
        assert!(problem.file.ends_with(Path::new(at).file_name().unwrap()), "{problem:?}");
        assert_eq!(
            (problem.level, problem.key.as_deref().unwrap_or_default()),
            (Level::Error, key),
            "{problem:?}"
        );
        assert!(problem.message.contains(says), "{problem:?}");
    }
}

#[tokio::test]
async fn what_may_be_forgotten_is_a_warning() {
    for (file, from, to, says) in [
        ("vendor.toml", "http://127.0.0.1:9000", "http://vendor.example", "write https://"),
        (
            "api/device.toml",
            "[attributes.hostname]\ntype = \"string\"\ndefault = \"\"\nfrom = \"settings.system_name\"",
            "",
            "`settings.system_name`, so that setting has no effect",
        ),
        (
            "api/site.toml",
            "idempotency_header = \"Idempotency-Key\"\n",
            "[job]\nid = \"/job\"\npath = \"/v1/jobs/{job}\"\nstate = \"/state\"\nrunning = [\"a\"]\nsucceeded = [\"b\"]\nfailed = \
             [\"c\"]\n",
            "while the job runs nothing has the name yet",
        ),
        (
            "examples/site-delete.json",
            "\"operation\": \"delete\"",
            "\"operation\": \"read\"",
            "no example for delete of a site",
        ),
    ] {
        let checked = changed(file, from, to).await;
        assert!(checked.problems.iter().any(|problem| problem.message.contains(says)), "{says}: {checked:?}");
    }
}
