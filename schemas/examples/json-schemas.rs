//! Writes `schemas/json/` and the list of what is there.
#![expect(clippy::print_stdout, reason = "a program that says what it did")]

use std::path::Path;

use wanwright_schemas::json;

fn main() -> std::io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = root.join("json");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir(&folder)?;
    for (name, text) in json::files() {
        std::fs::write(folder.join(format!("{name}.json")), text)?;
        println!("{name}");
    }
    std::fs::write(root.join("src/published.rs"), json::index())
}
