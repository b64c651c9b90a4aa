//! The arrows between the crates point one way, and the pure half stays pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// What each crate may depend on; what it may use in its tests besides stands behind the `|`. Anything else fails.
const ARROWS: &[(&str, &str)] = &[
    // Its own tests and nothing else need its JSON Schemas made anew.
    ("schemas", "| schemas"),
    ("vendors", ""),
    ("supervisor", ""),
    ("simulator", ""),
    ("nats", "schemas | supervisor"),
    ("commands", "schemas vendors nats | supervisor"),
    ("provider", "vendors | simulator supervisor"),
    ("executors", "schemas vendors nats commands provider supervisor | simulator"),
    ("projections", "schemas nats | supervisor"),
    ("tests", "schemas nats simulator supervisor vendors commands executors projections provider"),
    ("cli", "schemas vendors supervisor simulator nats commands provider executors projections | tests"),
];

/// What decides touches nothing.
const IMPURE: &[&str] = &["tokio", "async-nats", "sqlx", "reqwest", "cqrs-es", "hyper", "mio", "socket2"];

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn cargo(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO")).args(args).current_dir(root()).output().expect("cargo runs");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo speaks UTF-8")
}

/// The name of a crate of ours without the common prefix.
fn short(name: &str) -> Option<&str> {
    if name == "wanwright" { Some("cli") } else { name.strip_prefix("wanwright-") }
}

fn metadata() -> Value {
    let text = cargo(&["metadata", "--no-deps", "--format-version", "1", "--offline"]);
    serde_json::from_str(&text).expect("metadata is JSON")
}

#[test]
fn arrows_point_one_way() {
    let allowed: BTreeMap<&str, (BTreeSet<&str>, BTreeSet<&str>)> = ARROWS
        .iter()
        .map(|(from, to)| {
            let (always, in_tests) = to.split_once('|').unwrap_or((to, ""));
            let always: BTreeSet<&str> = always.split_whitespace().collect();
            let in_tests = always.iter().copied().chain(in_tests.split_whitespace()).collect();
            (*from, (always, in_tests))
        })
        .collect();
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages");
    assert_eq!(packages.len(), ARROWS.len(), "a crate has no line in the list of arrows");
    for package in packages {
        let from = package["name"].as_str().and_then(short).expect("a crate of ours");
        let (always, in_tests) = allowed.get(from).unwrap_or_else(|| panic!("{from} has no line"));
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let Some(to) = dependency["name"].as_str().and_then(short) else { continue };
            let allowed = if dependency["kind"] == "dev" { in_tests } else { always };
            assert!(allowed.contains(to), "{from} -> {to} ({}) is not an arrow", dependency["kind"]);
            let pure = dependency["uses_default_features"] == false;
            if from == "executors" && to == "commands" {
                assert!(
                    pure && dependency["features"] == serde_json::json!([]),
                    "executors may use the pure half only"
                );
            }
            if from == "commands" && to == "nats" && dependency["kind"].is_null() {
                assert_eq!(dependency["optional"], true, "commands needs nats for its service only");
            }
        }
    }
}

#[test]
fn nobody_depends_on_the_command_line() {
    for package in metadata()["packages"].as_array().expect("packages") {
        let names = package["dependencies"].as_array().into_iter().flatten();
        assert!(
            names.map(|dependency| &dependency["name"]).all(|name| name != "wanwright"),
            "{}",
            package["name"]
        );
    }
}

#[test]
fn what_decides_touches_nothing() {
    let args = [
        "-p",
        "wanwright-commands",
        "--no-default-features",
        "-e",
        "normal",
        "--prefix",
        "none",
        "--offline",
    ];
    let tree = cargo(&[&["tree"], &args[..]].concat());
    let crates: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(crates.contains("wanwright-schemas") && crates.contains("wanwright-vendors"), "{tree}");
    for impure in IMPURE {
        assert!(!crates.contains(impure), "the pure half of commands depends on {impure}");
    }
}
