//! A copy of the committed folder of the simulated vendor, to be changed.

use std::fs;
use std::path::Path;

/// A directory with a copy of `simwan`.
pub fn copied() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    into(&Path::new(env!("CARGO_MANIFEST_DIR")).join("simwan"), &dir.path().join("simwan"));
    dir
}

/// Copies a folder with everything in it.
pub fn into(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            into(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("a file");
        }
    }
}
