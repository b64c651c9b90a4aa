//! The command service under measurement, as a process of its own.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use wanwright_supervisor::{Child, ChildSpec};

/// A command service.
pub struct CommandService(Child);

impl CommandService {
    /// Starts it and waits until it is ready.
    pub async fn start(nats_url: &str, home: &Path, vendors: &Path) -> Result<Self> {
        let mut child = ChildSpec::new(std::env::current_exe()?)
            .args(["serve", "commands", "--home"])
            .arg(home)
            .arg("--vendors")
            .arg(vendors)
            .env("WANWRIGHT_NATS", nats_url)
            .log(home.join("commands.log"))
            .piped()
            .spawn()?;
        let mut lines = child.lines()?;
        let first = lines.next().await?;
        anyhow::ensure!(first.as_deref() == Some("ready"), "the command service did not start");
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next().await {} });
        Ok(Self(child))
    }

    /// Its process.
    pub fn process(&self) -> u32 {
        self.0.id()
    }

    /// Kills it where it stands.
    pub async fn kill(self) {
        self.0.kill().await;
    }

    /// Stops it.
    pub async fn stop(self) {
        self.0.stop(Duration::from_secs(10)).await;
    }
}
