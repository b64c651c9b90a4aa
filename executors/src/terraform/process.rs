//! Terraform as a process: a clean environment, a fixed argument list, a process group of its own.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use wanwright_supervisor::{ChildSpec, Signal};

use super::engine::TerraformError;

/// The Terraform (or OpenTofu) that is used.
#[derive(Debug, Clone)]
pub(super) struct Terraform {
    pub(super) program: PathBuf,
    pub(super) version: String,
}

impl Terraform {
    /// Terraform in a folder, with nothing of our environment.
    pub(super) fn spec(&self, cwd: &Path, data: &Path) -> ChildSpec {
        ChildSpec::new(&self.program)
            .cwd(cwd)
            .env("HOME", cwd)
            .env("TMPDIR", cwd)
            .env("TF_DATA_DIR", data)
            .env("TF_CLI_CONFIG_FILE", "/dev/null")
            .env("TF_IN_AUTOMATION", "1")
            .env("CHECKPOINT_DISABLE", "1")
            // Terraform lives for a second: not collecting garbage in it saves a quarter of its time.
            .env("GOGC", "off")
            .env("GOMEMLIMIT", "192MiB")
            .stop_signal(Signal::INT)
            .process_group()
            .piped()
    }
}

/// Longest a command may take that only prepares or prints.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs a command to its end and answers what it printed.
pub(super) async fn output(spec: ChildSpec) -> Result<(ExitStatus, String), TerraformError> {
    tokio::time::timeout(LIMIT, to_its_end(spec)).await.unwrap_or(Err(TerraformError::Slow(LIMIT)))
}

async fn to_its_end(spec: ChildSpec) -> Result<(ExitStatus, String), TerraformError> {
    let mut child = spec.spawn().map_err(TerraformError::Process)?;
    let mut lines = child.lines().map_err(TerraformError::Process)?;
    let mut text = String::new();
    while let Some(line) = lines
        .next()
        .await
        .map_err(|source| TerraformError::Io { doing: "reading what Terraform prints".to_owned(), source })?
    {
        text.push_str(&line);
        text.push('\n');
    }
    Ok((child.wait().await, text))
}
