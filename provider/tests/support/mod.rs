//! A real Terraform, the provider, and what both talk to.

pub mod world;

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};
use tokio::process::Command;
use wanwright_provider::{Listening, ServeOptions};

pub use world::Shared;

/// A vendor with a state store, and where it is.
pub async fn vendor() -> (Shared, String) {
    let world = Shared::default();
    let url = world::serve(world.clone()).await;
    (world, url)
}

/// One stack, the way wanwright runs it: an initialised template that is only read, and a private folder for the run.
pub struct Stack {
    pub world: Shared,
    pub dir: tempfile::TempDir,
    url: String,
    reattach: String,
}

impl Stack {
    pub async fn new() -> Self {
        let (world, url) = vendor().await;
        Self::with(world, url.clone(), url).await
    }

    /// A stack whose vendor is somewhere else than its state.
    pub async fn with(world: Shared, url: String, gateway: String) -> Self {
        let template = std::fs::read_to_string(main_tf()).unwrap();
        Self::of(world, (url, gateway), &vendors(), ("main.tf", &template)).await
    }

    /// A stack of other vendors and another template.
    pub async fn of(
        world: Shared,
        (url, gateway): (String, String),
        vendors: &Path,
        (file, template): (&str, &str),
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = ServeOptions::new(dir.path().join("socket/p"), vendors, Some(gateway));
        let listening = Listening::start(&options).await.unwrap();
        let reattach = listening.reattach_providers();
        tokio::spawn(listening.serve(std::future::pending()));
        let stack = Self { world, dir, url, reattach };
        for folder in ["template", "run"] {
            std::fs::create_dir(stack.path(folder)).unwrap();
            std::fs::write(stack.path(folder).join(file), template).unwrap();
        }
        let init = stack.terraform_in("template", &["init", "-input=false", "-no-color"]).await;
        assert_eq!(init.status.code(), Some(0), "{init:?}");
        read_only(&stack.path("data"));
        stack
    }

    pub fn url(&self) -> String {
        self.url.clone()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs Terraform in a folder with nothing in its environment but what is needed.
    pub async fn terraform_in(&self, folder: &str, args: &[&str]) -> Output {
        let state = format!("{}/state/{folder}", self.url);
        Command::new("terraform")
            .args(args)
            .current_dir(self.path(folder))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.dir.path())
            .env("TF_CLI_CONFIG_FILE", "/dev/null")
            .env("CHECKPOINT_DISABLE", "1")
            .env("TF_DATA_DIR", self.path("data"))
            .env("TF_REATTACH_PROVIDERS", &self.reattach)
            .env("TF_HTTP_ADDRESS", &state)
            .env("TF_HTTP_LOCK_ADDRESS", &state)
            .env("TF_HTTP_UNLOCK_ADDRESS", &state)
            .output()
            .await
            .unwrap()
    }

    /// Runs a Terraform command with these variables, in the run's folder: exit code and messages.
    pub async fn run(&self, command: &[&str], variables: &Value) -> (i32, Vec<Value>) {
        let file = self.path("run/variables.json");
        std::fs::write(&file, variables.to_string()).unwrap();
        let file = format!("-var-file={}", file.display());
        let mut args = vec![command[0], "-input=false", &file];
        args.extend(&command[1..]);
        let output = self.terraform_in("run", &args).await;
        let text = String::from_utf8(output.stdout).unwrap();
        let messages = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        eprintln!("{text}{}", String::from_utf8_lossy(&output.stderr));
        (output.status.code().unwrap(), messages)
    }

    /// Applies and expects it to work: how many were added, changed and removed.
    pub async fn apply(&self, variables: &Value) -> [u64; 3] {
        let (code, messages) = self.run(&["apply", "-json", "-auto-approve"], variables).await;
        assert_eq!(code, 0, "{messages:#?}");
        let summary = messages.iter().rfind(|message| message["type"] == "change_summary").unwrap();
        ["add", "change", "remove"].map(|key| summary["changes"][key].as_u64().unwrap())
    }

    /// The state of the run's folder.
    pub fn state(&self) -> Value {
        let world = self.world.lock().unwrap();
        world.states.get("/state/run").map_or(Value::Null, |state| serde_json::from_slice(state).unwrap())
    }
}

/// The errors among Terraform's messages.
pub fn errors(messages: &[Value]) -> Vec<&Value> {
    let diagnostics = messages.iter().filter(|message| message["@level"] == "error");
    diagnostics.map(|message| &message["diagnostic"]).collect()
}

pub fn vendors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../vendors")
}

pub fn main_tf() -> PathBuf {
    vendors().join("simwan/terraform/main.tf")
}

/// A site with one tunnel.
pub fn oslo() -> Value {
    json!({
        "site": { "name": "oslo", "uid": "uid-site", "lan": ["10.7.0.0/24"], "settings": { "location": "" } },
        "tunnels": { "t1": {
            "name": "oslo-hub", "uid": "uid-t1", "inside": "169.254.7.0/30", "peer_address": "198.51.100.1",
            "local_asn": 65001, "peer_asn": 65002, "settings": { "mtu": 1400 },
        } },
    })
}

fn read_only(dir: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o400)).unwrap();
    }
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o500)).unwrap();
}
