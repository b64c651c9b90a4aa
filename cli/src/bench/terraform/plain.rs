//! Loops of Terraform without wanwright around it, with the same template, provider and vendor.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::Instant;
use wanwright_supervisor::ChildSpec;

use super::ours::TUNNELS;
use super::{Measured, per_minute, relay, tree};
use crate::bench::figures;
use crate::stack::Stack;

/// What a loop does for each stack, in a folder of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loop {
    /// What people do: `terraform init` and `terraform apply`, with Terraform's own `pg` backend.
    Plain,
    /// The least that there is: `terraform apply` alone, its state in a file, without collecting garbage. Nothing that runs
    /// this Terraform for each stack can be faster.
    Alone,
}

impl Loop {
    /// The name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain loop (init, apply, pg backend)",
            Self::Alone => "ceiling (apply alone, state in a file)",
        }
    }

    /// The first part of the names of its stacks.
    fn word(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Alone => "alone",
        }
    }
}

/// A provider that was started before and serves one loop. It ends with its standard input, so with this.
struct Provider {
    reattach: String,
    process: Child,
}

/// What all loops share.
struct Loops {
    what: Loop,
    terraform: PathBuf,
    folder: PathBuf,
    postgres: String,
    next: AtomicU32,
    applies: u32,
    done: AtomicU32,
    locked: AtomicU32,
    failed: AtomicU32,
    peak_kib: std::sync::atomic::AtomicU64,
}

/// Makes so many stacks in loops beside each other.
pub async fn applies(stack: &Stack, what: Loop, at_once: usize, applies: u32) -> Result<Measured> {
    let folder = stack.home().join(what.word());
    let tokens: Value = serde_json::from_slice(&std::fs::read(stack.home().join("simulator/tokens.json"))?)?;
    let token = tokens["token"].as_str().context("the vendor's token")?.to_owned();
    let vendor = stack.endpoints.simulator.trim_start_matches("http://").parse()?;
    let relay = relay::start(vendor, token).await?;
    let mut providers = Vec::new();
    for number in 0..at_once {
        providers.push(Provider::start(stack.home(), number, &format!("http://{relay}")).await?);
    }
    let separator = if stack.endpoints.postgres.contains('?') { '&' } else { '?' };
    let loops = Loops {
        what,
        terraform: wanwright_supervisor::find_terraform().await?.path,
        folder,
        postgres: format!("{}{separator}sslmode=disable", stack.endpoints.postgres),
        next: AtomicU32::new(0),
        applies,
        done: AtomicU32::new(0),
        locked: AtomicU32::new(0),
        failed: AtomicU32::new(0),
        peak_kib: std::sync::atomic::AtomicU64::new(0),
    };
    let (cpu, began) = (tree::cpu_by_name(), Instant::now());
    let vendors = stack.home().join("vendors");
    futures::future::try_join_all(providers.iter().map(|provider| loops.run(provider, &vendors))).await?;
    let (seconds, after) = (began.elapsed().as_secs_f64(), tree::cpu_by_name());
    let count = |counter: &AtomicU32| counter.load(Ordering::Relaxed);
    let done = count(&loops.done);
    let resident: f64 = providers.iter().filter_map(Provider::resident_mb).sum();
    let taken: f64 = after.values().sum::<f64>() - cpu.values().sum::<f64>();
    #[expect(clippy::cast_precision_loss, reason = "megabytes")]
    let peak = loops.peak_kib.load(Ordering::Relaxed) as f64 / 1024.0 + resident / at_once as f64;
    Ok(Measured {
        name: what.name().to_owned(),
        at_once,
        applies: done,
        per_minute: per_minute(done, seconds),
        cpu_millis_each: figures::rate(taken * 1000.0 / f64::from(done.max(1))),
        peak_mb_each: figures::rate(peak),
        lock_failures: count(&loops.locked),
        other_failures: count(&loops.failed),
        more: Map::new(),
    })
}

impl Provider {
    async fn start(home: &Path, number: usize, vendor: &str) -> Result<Self> {
        let sockets = home.join("loop-sockets");
        let mut process = Command::new(std::env::current_exe()?)
            .arg("provider")
            .arg("--socket")
            .arg(sockets.join(format!("{number}")))
            .arg("--vendors")
            .arg(home.join("vendors"))
            .args(["--gateway-url", vendor])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let out = process.stdout.take().context("a provider's output")?;
        let line = BufReader::new(out).lines().next_line().await?.context("a provider did not start")?;
        let reattach = line.trim_start_matches("TF_REATTACH_PROVIDERS='").trim_end_matches('\'');
        Ok(Self { reattach: reattach.to_owned(), process })
    }

    #[expect(clippy::cast_precision_loss, reason = "megabytes")]
    fn resident_mb(&self) -> Option<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()?)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
        Some(kib as f64 / 1024.0)
    }
}

impl Loops {
    /// One loop: the next stack, until there is none.
    async fn run(&self, provider: &Provider, vendors: &Path) -> Result<()> {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.applies {
                return Ok(());
            }
            self.stack(number, provider, vendors).await?;
        }
    }

    async fn stack(&self, number: u32, provider: &Provider, vendors: &Path) -> Result<()> {
        let dir = self.folder.join(number.to_string());
        std::fs::create_dir_all(&dir)?;
        let template = std::fs::read_to_string(vendors.join("simwan/terraform/main.tf"))?;
        anyhow::ensure!(template.contains("backend \"http\" {}"), "the template has another backend");
        let backend = if self.what == Loop::Plain { "backend \"pg\" {}" } else { "" };
        std::fs::write(dir.join("main.tf"), template.replace("backend \"http\" {}", backend))?;
        let variables = variables(self.what.word(), number);
        std::fs::write(dir.join("terraform.tfvars.json"), variables.to_string())?;
        let init = match self.what {
            Loop::Plain => {
                self.terraform(&dir, number, provider, &["init", "-input=false", "-no-color"]).await?
            }
            Loop::Alone => Ok(()),
        };
        let apply = ["apply", "-input=false", "-auto-approve", "-no-color"];
        let said = match init {
            Ok(()) => self.terraform(&dir, number, provider, &apply).await?,
            Err(said) => Err(said),
        };
        match said {
            Ok(()) => self.done.fetch_add(1, Ordering::Relaxed),
            Err(said) if said.to_lowercase().contains("lock") => self.locked.fetch_add(1, Ordering::Relaxed),
            Err(said) => {
                tracing::warn!(number, said, "a loop of Terraform failed");
                self.failed.fetch_add(1, Ordering::Relaxed)
            }
        };
        Ok(())
    }

    /// Runs a command to its end; inside, what it said when it failed.
    async fn terraform(
        &self,
        dir: &Path,
        number: u32,
        provider: &Provider,
        args: &[&str],
    ) -> Result<Result<(), String>> {
        let log = dir.join("errors");
        let garbage = if self.what == Loop::Alone { "off" } else { "100" };
        let mut child = ChildSpec::new(&self.terraform)
            .args(args)
            .env("GOGC", garbage)
            .cwd(dir)
            .env("HOME", dir)
            .env("TF_IN_AUTOMATION", "1")
            .env("CHECKPOINT_DISABLE", "1")
            .env("TF_CLI_CONFIG_FILE", "/dev/null")
            .env("PG_CONN_STR", &self.postgres)
            .env("PG_SCHEMA_NAME", format!("plain_{number}"))
            .env("TF_REATTACH_PROVIDERS", &provider.reattach)
            .process_group()
            .piped()
            .log(&log)
            .spawn()?;
        let mut lines = child.lines()?;
        let mut said = String::new();
        while let Some(line) = lines.next().await? {
            said.push_str(&line);
            said.push('\n');
            // The last things it says come after the most was done.
            if line.contains("Creation complete") || line.starts_with("Apply complete") {
                self.peak_kib.fetch_max(child.peak_kib().unwrap_or_default(), Ordering::Relaxed);
            }
        }
        if child.wait().await.success() {
            return Ok(Ok(()));
        }
        Ok(Err(format!("{said}{}", std::fs::read_to_string(&log).unwrap_or_default())))
    }
}

/// What one stack is to be.
fn variables(word: &str, number: u32) -> Value {
    let tunnel = |tunnel: u32| {
        let name = format!("{word}.{number}-t{tunnel}");
        let of = json!({
            "name": name, "uid": format!("{word}-{number}-{tunnel}"), "peer_address": "198.51.100.1",
            "inside": format!("169.254.{}.{}/30", number % 256, tunnel * 4),
            "local_asn": 64_512, "peer_asn": 64_513, "settings": { "mtu": 1400 },
        });
        (format!("t{tunnel}"), of)
    };
    json!({
        "site": {
            "name": format!("{word}.{number}"), "uid": format!("{word}-{number}"),
            "lan": ["10.0.0.0/24"], "settings": { "location": "" },
        },
        "tunnels": (0..TUNNELS).map(tunnel).collect::<Map<_, _>>(),
    })
}
