//! Takes a folder away when this process is gone, however it went.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

/// The folder comes over standard input, so that no command line names it: the tests look for those who do. What still
/// writes into the folder has a moment to end.
const SCRIPT: &str = r#"
trap '' INT TERM HUP QUIT
read -r folder
read -r never
for try in 1 2 3 4 5; do rm -rf "$folder" && exit; sleep 1; done
"#;

/// A shell that waits for our end.
#[derive(Debug)]
pub(crate) struct Janitor(Child);

impl Janitor {
    pub(crate) fn of(folder: &Path) -> Result<Self> {
        let mut shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting the janitor")?;
        let inbox = shell.stdin.as_mut().context("the janitor has no standard input")?;
        writeln!(inbox, "{}", folder.display())?;
        Ok(Self(shell))
    }

    /// Has the folder taken away now.
    pub(crate) fn now(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }

    /// Leaves the folder where it is.
    pub(crate) fn dismiss(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
