//! The folder of one installation.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

use crate::janitor::Janitor;

/// A folder for one wanwright. It goes away with this, and with this process; `WANWRIGHT_TESTS_KEEP=1` keeps it.
#[derive(Debug)]
pub struct Home {
    path: PathBuf,
    janitor: Janitor,
}

impl Home {
    /// An empty folder that every user can enter, because Postgres may run as another one. Servers that have to be
    /// fetched are fetched once for all tests of this workspace.
    pub fn new(programs: &Path) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("wanwright-e2e-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        for dir in [&path, &path.join("tmp")] {
            std::fs::create_dir(dir).with_context(|| format!("making {}", dir.display()))?;
            std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755))?;
        }
        let path = path.canonicalize()?;
        std::fs::create_dir_all(programs)?;
        std::os::unix::fs::symlink(programs, path.join("cache"))?;
        let janitor = Janitor::of(&path)?;
        Ok(Self { path, janitor })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file or folder in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The text of a file in it; empty when there is none.
    pub fn read(&self, name: &str) -> String {
        let bytes = std::fs::read(self.join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Every log, by name.
    pub fn logs(&self) -> Vec<(String, String)> {
        let listed = std::fs::read_dir(self.join("logs")).into_iter().flatten().flatten();
        let names = listed.map(|entry| format!("logs/{}", entry.file_name().to_string_lossy()));
        names.chain(["said.log".to_owned()]).map(|name| (name.clone(), self.read(&name))).collect()
    }

    /// The logs that speak of a panic, with the line.
    pub fn panics(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (name, text) in self.logs() {
            found.extend(
                text.lines().filter(|line| line.contains("panicked")).map(|line| format!("{name}: {line}")),
            );
        }
        found
    }
}

impl Home {
    /// What the NATS server refused somebody, a line each. Nobody here asks for what he has no right to.
    pub fn violations(&self) -> Vec<String> {
        let text = self.read("nats/nats.log");
        text.lines().filter(|line| line.contains("Violation")).map(str::to_owned).collect()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if std::env::var_os("WANWRIGHT_TESTS_KEEP").is_some() {
            self.janitor.dismiss();
        } else {
            self.janitor.now();
        }
    }
}
