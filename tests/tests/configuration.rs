//! Every configuration file in the repository can be read.

use std::path::{Path, PathBuf};
use std::process::Command;

fn committed() -> Vec<PathBuf> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root).output();
    let named = listed.ok().filter(|output| output.status.success()).map(|output| output.stdout);
    // Without git, in an unpacked archive, there is no list; the files that matter most are known by name.
    let named = named.filter(|named| !named.is_empty()).unwrap_or_else(|| {
        b"Cargo.toml\0rust-toolchain.toml\0rustfmt.toml\0clippy.toml\0vendors/simwan/vendor.toml".to_vec()
    });
    let names = String::from_utf8(named).expect("names are UTF-8");
    names
        .split('\0')
        .filter(|name| !name.is_empty())
        .map(|name| root.join(name))
        .filter(|path| path.is_file())
        .collect()
}

#[test]
fn toml_and_json_files_are_what_they_say() {
    let mut read = 0;
    for path in committed() {
        let wrong = match path.extension().and_then(|end| end.to_str()) {
            Some("toml" | "lock") => text(&path).parse::<toml::Table>().err().map(|error| error.to_string()),
            Some("json") => {
                serde_json::from_str::<serde_json::Value>(&text(&path)).err().map(|error| error.to_string())
            }
            _ => continue,
        };
        assert!(wrong.is_none(), "{}: {wrong:?}", path.display());
        read += 1;
    }
    assert!(read >= 5, "only {read} files were looked at");
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
