//! Every invariant of the design has tests, and ARCHITECTURE.md names them.

use std::collections::BTreeMap;
use std::path::Path;

/// Their names are kept: people, documents and refusals use them.
const INVARIANTS: [&str; 13] = [
    "One customer, one boundary",
    "A command happens once",
    "Commands need only NATS",
    "Only the command service appends",
    "Replaying never acts",
    "Nothing is unknown silently",
    "Rows and checkpoint commit together",
    "The budget is never exceeded",
    "Fair",
    "Secrets stay out",
    "A tenant sees itself only",
    "A hole is never read over",
    "History is tamper-evident",
];

fn read(path: &str) -> String {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    std::fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The tests that the table names for each invariant, with their files.
fn table(text: &str) -> BTreeMap<&str, Vec<(&str, &str)>> {
    let section = text.split("\n## Invariants\n").nth(1).and_then(|rest| rest.split("\n## ").next());
    let rows = section.expect("a section of this name").lines().filter_map(|line| line.strip_prefix("| "));
    rows.filter_map(|row| row.split_once(" | "))
        .map(|(name, tests)| {
            let tests = tests.split("[`").skip(1).map(|link| {
                let (test, rest) = link.split_once("`](").expect("a link");
                (test, rest.split_once(')').expect("the end of a link").0)
            });
            (name, tests.collect())
        })
        .collect()
}

/// Whether a file has a test of this name that is not ignored.
fn has_test(file: &str, name: &str) -> bool {
    let lines: Vec<&str> = file.lines().map(str::trim).collect();
    let at = lines.iter().position(|line| {
        let line = line.strip_prefix("async ").unwrap_or(line);
        line.strip_prefix("fn ")
            .and_then(|rest| rest.strip_prefix(name))
            .is_some_and(|rest| rest.starts_with('('))
    });
    let Some(at) = at else { return false };
    let attributes = lines[..at].iter().rev().take_while(|line| line.starts_with('#')).collect::<Vec<_>>();
    let is_test =
        attributes.iter().any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"));
    is_test && !attributes.iter().any(|line| line.contains("ignore"))
}

#[test]
fn each_has_tests_that_are_there() {
    let text = read("ARCHITECTURE.md");
    let table = table(&text);
    for name in INVARIANTS {
        assert!(table.contains_key(name), "{name} has no tests");
        assert!(text.contains(&format!("- **{name}")), "{name} is not explained");
    }
    for (name, tests) in table {
        assert!(name == "invariant" || name.starts_with("---") || !tests.is_empty(), "{name} has no tests");
        for (test, path) in tests {
            assert!(has_test(&read(path), test), "{name}: {path} has no test {test}");
        }
    }
}
