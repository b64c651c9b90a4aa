//! Terraform as a process: a clean environment, a fixed argument list, a process group of its own.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use wanwright_schemas::run::ProcessUsage;
use wanwright_supervisor::{Child, ChildSpec, Confinement, Signal, Usage};

use super::error::TerraformError;

/// The Terraform (or OpenTofu) that is used.
#[derive(Debug, Clone)]
pub(super) struct Terraform {
    pub(super) program: PathBuf,
    pub(super) version: String,
}

/// What Terraform gets to see of this machine; it and everything that it starts is confined to that.
#[derive(Debug)]
pub(super) struct Surroundings<'a> {
    /// Its folder, which it may change.
    pub(super) cwd: &'a Path,
    /// Where `init` puts, and everybody else finds, providers and modules.
    pub(super) data: &'a Path,
    /// The socket of a provider that is served by somebody else.
    pub(super) provider: Option<&'a Path>,
    /// The ports of the state backend and the gateway.
    pub(super) ports: Vec<u16>,
    /// The mirror that `init` installs providers from.
    pub(super) mirror: Option<&'a Path>,
}

impl Surroundings<'_> {
    fn confinement(&self, program: &Path) -> Confinement {
        let program = std::fs::canonicalize(program).unwrap_or_else(|_| program.to_owned());
        let confinement = Confinement::default().run(program).write("/dev/null").write(self.cwd);
        let confinement = match self.provider {
            // Only `init` comes without one, and fills the folder that the others share.
            Some(socket) => confinement.run(self.data).talk(socket),
            None => confinement.write(self.data),
        };
        let confinement = self.mirror.into_iter().fold(confinement, Confinement::read);
        self.ports.iter().copied().fold(confinement, Confinement::connect)
    }
}

impl Terraform {
    /// Terraform in a folder, with nothing of our environment.
    pub(super) fn spec(&self, surroundings: &Surroundings<'_>) -> ChildSpec {
        let Surroundings { cwd, data, .. } = surroundings;
        ChildSpec::new(&self.program)
            .confined(surroundings.confinement(&self.program))
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

/// What a process took that has ended. `peak_kib` is the most memory that was seen while it ran: what the kernel says
/// afterwards counts from the fork, so it is at least what this process had resident, and stands in only where nothing was
/// seen.
pub(super) fn took(child: &Child, peak_kib: Option<u64>) -> ProcessUsage {
    let Usage { cpu, max_resident_kib } = child.usage().unwrap_or_default();
    let cpu_millis = u64::try_from(cpu.as_millis()).unwrap_or(u64::MAX);
    ProcessUsage { cpu_millis, peak_kib: peak_kib.unwrap_or(max_resident_kib) }
}

/// The most that is read of what a command prints, in bytes: it may be what strangers wrote.
const MOST: usize = 128 << 20;

/// Runs a command to its end and answers what it printed.
pub(super) async fn output(spec: ChildSpec) -> Result<(ExitStatus, String), TerraformError> {
    tokio::time::timeout(LIMIT, to_its_end(spec)).await.unwrap_or(Err(TerraformError::Slow(LIMIT)))
}

async fn to_its_end(spec: ChildSpec) -> Result<(ExitStatus, String), TerraformError> {
    let mut child = spec.spawn().map_err(TerraformError::Process)?;
    let mut lines = child.lines().map_err(TerraformError::Process)?;
    let mut text = String::new();
    let unread = |source| TerraformError::Io { doing: "reading what Terraform prints".to_owned(), source };
    while let Some(line) = lines.next().await.map_err(unread)? {
        if text.len() + line.len() > MOST {
            return Err(unread(std::io::Error::other("it is more than 128 MiB")));
        }
        text.push_str(&line);
        text.push('\n');
    }
    Ok((child.wait().await, text))
}
