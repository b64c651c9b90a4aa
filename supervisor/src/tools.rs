//! Programs on this machine.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::run::output;
use crate::{ChildSpec, Error, Result, Version};

/// A program that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What it is: "nats-server", "postgres", "terraform", "tofu", "python3".
    pub program: &'static str,
    /// Where: the executable, or for Postgres the folder of its executables.
    pub path: PathBuf,
    /// Its version, as it prints it.
    pub version: String,
    /// How it was found.
    pub source: Source,
}

/// How a program was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Named by this environment variable.
    Variable(&'static str),
    /// On the `PATH`.
    Path,
    /// In the place where packages of the operating system put it.
    System,
    /// Fetched from PyPI into the cache folder.
    Wheel,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => write!(f, "named by {name}"),
            Self::Path => f.write_str("on the PATH"),
            Self::System => f.write_str("installed with the system"),
            Self::Wheel => f.write_str("fetched from PyPI"),
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} at {} ({})", self.program, self.version, self.path.display(), self.source)
    }
}

/// Executables of this name in the folders of `PATH`, in order.
pub(crate) fn on_path(name: &str) -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .filter(|file| is_executable(file))
        .collect()
}

/// The value of an environment variable that names a program or folder.
pub(crate) fn named_by(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn is_executable(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// A program asked for its version. `PATH` and `HOME` stay: what is on the `PATH` may be a script that picks a version.
pub(crate) fn asked(program: &Path, args: &[&str]) -> ChildSpec {
    let kept = ["PATH", "HOME"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    ChildSpec::new(program).args(args).envs(kept).cwd("/")
}

/// The version a program prints for `--version`, if it says there that it is `name`.
pub(crate) async fn version_of(program: &Path, name: &str) -> Option<Version> {
    let said = output(asked(program, &["--version"])).await?;
    said.contains(name).then(|| Version::find_in(&said)).flatten()
}

/// Terraform or OpenTofu: `WANWRIGHT_TERRAFORM`, else `terraform` or `tofu` on the `PATH`.
pub async fn find_terraform() -> Result<Found> {
    const VARIABLE: &str = "WANWRIGHT_TERRAFORM";
    if let Some(path) = named_by(VARIABLE) {
        let refused = || {
            Error::Unusable(format!(
                "{VARIABLE} names {}, which does not answer `version -json`",
                path.display()
            ))
        };
        let (program, version) = terraform_version(&path).await.ok_or_else(refused)?;
        return Ok(Found { program, path, version, source: Source::Variable(VARIABLE) });
    }
    let mut silent = Vec::new();
    for path in on_path("terraform").into_iter().chain(on_path("tofu")) {
        match terraform_version(&path).await {
            Some((program, version)) => return Ok(Found { program, path, version, source: Source::Path }),
            None => silent.push(format!("{} does not answer `version -json`", path.display())),
        }
    }
    Err(Error::Missing {
        wanted: "terraform or tofu".to_owned(),
        looked: looked(&silent, "neither is on the PATH"),
        advice: format!(
            "install one from https://developer.hashicorp.com/terraform/install or https://opentofu.org/docs/intro/install, \
             or set {VARIABLE} to its path"
        ),
    })
}

/// The environment is clean because `TF_CLI_CONFIG_FILE` or `TF_CLI_ARGS` may be set to what breaks even this command.
async fn terraform_version(path: &Path) -> Option<(&'static str, String)> {
    let spec = asked(path, &["version", "-json"]).env("CHECKPOINT_DISABLE", "1");
    let answer: serde_json::Value = serde_json::from_str(&output(spec).await?).ok()?;
    let program = if path.file_name().is_some_and(|name| name == "tofu") { "tofu" } else { "terraform" };
    Some((program, answer.get("terraform_version")?.as_str()?.to_owned()))
}

/// A Python 3 that has pip; both versions are in [`Found::version`].
pub async fn find_python() -> Result<Found> {
    let mut without = Vec::new();
    for path in on_path("python3") {
        // Its whole environment, as for pip itself: a virtual environment or a proxy may be set there.
        let ask = |args: &[&str]| output(ChildSpec::new(&path).args(args).envs(std::env::vars_os()).cwd("/"));
        let python = ask(&["--version"]).await.as_deref().and_then(Version::find_in);
        let pip = ask(&["-m", "pip", "--version"]).await.as_deref().and_then(Version::find_in);
        match (python, pip) {
            (Some(python), Some(pip)) => {
                let version = format!("{python} with pip {pip}");
                return Ok(Found { program: "python3", path, version, source: Source::Path });
            }
            (Some(_), None) => without.push(format!("{} has no pip", path.display())),
            (None, _) => without.push(format!("{} does not run", path.display())),
        }
    }
    Err(Error::Missing {
        wanted: "python3 with pip".to_owned(),
        looked: looked(&without, "python3 is not on the PATH"),
        advice: "install them (apt install python3-pip, dnf install python3-pip)".to_owned(),
    })
}

/// What was seen and refused, or `nothing`.
pub(crate) fn looked(refused: &[String], nothing: &str) -> String {
    if refused.is_empty() { nothing.to_owned() } else { refused.join("; ") }
}
