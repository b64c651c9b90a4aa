//! The program under test, called as a person would.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use wanwright_supervisor::{Child, ChildSpec};

use crate::Home;

/// What a call said and how it ended.
#[derive(Debug, Clone)]
pub struct Said {
    /// Its exit code; 256 when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    /// How long it took.
    pub took: Duration,
}

/// The program.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    vendors: PathBuf,
    path_variable: Option<std::ffi::OsString>,
    more: Vec<(String, String)>,
}

impl Program {
    /// The program at this path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let vendors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vendors");
        Self { path: path.into(), vendors, path_variable: std::env::var_os("PATH"), more: Vec::new() }
    }

    /// With another `PATH`.
    #[must_use]
    pub fn with_path(mut self, path: &Path) -> Self {
        self.path_variable = Some(path.into());
        self
    }

    /// With another variable.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.more.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The vendors' folders it is given.
    pub fn vendors(&self) -> &Path {
        &self.vendors
    }

    /// How it is started in a home: everything it takes from its environment is said here.
    pub fn spec(&self, home: &Home, args: &[&str]) -> ChildSpec {
        let kept = ["HOME", "USER"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        let mut spec = ChildSpec::new(&self.path)
            .args(args)
            .envs(kept)
            .envs(pip())
            .env("TMPDIR", home.join("tmp"))
            .env("WANWRIGHT_HOME", home.path())
            .env("WANWRIGHT_VENDORS", &self.vendors)
            .env("WANWRIGHT_LOG", "info")
            .env("RUST_BACKTRACE", "1")
            .cwd(home.path());
        if let Some(path) = &self.path_variable {
            spec = spec.env("PATH", path);
        }
        for (name, value) in &self.more {
            spec = spec.env(name, value);
        }
        spec
    }

    /// Calls it and waits for its end.
    pub async fn call(&self, home: &Home, args: &[&str]) -> Result<Said> {
        self.call_within(home, args, Duration::from_secs(120)).await
    }

    /// The same with another limit.
    pub async fn call_within(&self, home: &Home, args: &[&str], limit: Duration) -> Result<Said> {
        let log = home.join(&format!("tmp/call-{}", uuid::Uuid::now_v7().simple()));
        let began = Instant::now();
        let mut child = self.spec(home, args).log(&log).piped().spawn()?;
        let end = async { Ok::<_, anyhow::Error>((rest(&mut child).await?, child.wait().await)) };
        let ended = tokio::time::timeout(limit, end).await;
        let err = std::fs::read_to_string(&log).unwrap_or_default();
        let _ = std::fs::remove_file(&log);
        let Ok(ended) = ended else {
            bail!("`wanwright {}` took longer than {limit:?}; it said: {err}", args.join(" "));
        };
        let (out, status) = ended.with_context(|| format!("calling wanwright {}", args.join(" ")))?;
        Ok(Said { code: status.code().unwrap_or(256), out, err, took: began.elapsed() })
    }
}

impl Said {
    /// Fails unless it ended with this code.
    pub fn code(self, wanted: i32) -> Result<Self> {
        anyhow::ensure!(
            self.code == wanted,
            "exit code {} instead of {wanted}\nout: {}\nerr: {}",
            self.code,
            self.out,
            self.err
        );
        Ok(self)
    }
}

async fn rest(child: &mut Child) -> Result<String> {
    let mut lines = child.lines()?;
    let mut all = String::new();
    while let Some(line) = lines.next().await? {
        all.push_str(&line);
        all.push('\n');
    }
    Ok(all)
}

/// What pip needs where packages come from somewhere else than PyPI.
fn pip() -> impl Iterator<Item = (std::ffi::OsString, std::ffi::OsString)> {
    let wanted = |name: &std::ffi::OsString| {
        let name = name.to_string_lossy();
        ["PIP_", "PYENV_", "SSL_CERT", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
    };
    std::env::vars_os().filter(move |(name, _)| wanted(name))
}
