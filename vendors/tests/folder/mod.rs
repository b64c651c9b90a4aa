//! A vendor folder made for a test.

use std::fs;

use serde_json::Value;
use wanwright_vendors::{LoadError, Vendor};

const VENDOR: &str = r#"
name = "testwan"
title = "Test vendor"
base_url = "http://127.0.0.1:9"
models = []
[credential]
env = "NONE"
header = "Authorization"
[budget]
per_second = 1
burst = 1
[engines]
[limits]
tunnels_per_site = 1
"#;

/// A vendor with these files in `schemas` and this at the end of `vendor.toml`.
pub fn vendor(files: &[(&str, Value)], more: &str) -> Result<Vendor, LoadError> {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = dir.path().join("testwan");
    fs::create_dir_all(folder.join("schemas")).expect("a folder");
    fs::write(folder.join("vendor.toml"), format!("{VENDOR}\n{more}")).expect("a file");
    for (name, json) in files {
        fs::write(folder.join("schemas").join(name), json.to_string()).expect("a file");
    }
    Vendor::load(&folder)
}
