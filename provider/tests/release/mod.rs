//! A release, installed by a real Terraform from a mirror and started by it.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use crate::support::{self, Shared, oslo, vendor, vendors};
use rustix::process::{Pid, test_kill_process};
use serde_json::json;
use tokio::process::Command;
use wanwright_provider::package::{folder_hash, platform, sha256};
use wanwright_provider::release::{Release, ReleaseArgs, release};

const VERSION: &str = "1.2.3";

fn released(dir: &Path) -> Release {
    let args = ReleaseArgs {
        to: dir.join("release"),
        vendors: vendors(),
        address: "registry.terraform.io/wanwright/wanwright".parse().unwrap(),
        version: VERSION.to_owned(),
        program: Some(env!("CARGO_BIN_EXE_terraform-provider-wanwright").into()),
    };
    release(&args).unwrap()
}

/// A folder in which somebody uses the provider, as they would any other.
struct User {
    dir: tempfile::TempDir,
    vendor: String,
    world: Shared,
}

impl User {
    async fn new() -> Self {
        let (world, vendor) = vendor().await;
        let dir = tempfile::tempdir().unwrap();
        let template = std::fs::read_to_string(support::main_tf()).unwrap();
        let pinned = format!("{{ source = \"wanwright/wanwright\", version = \"{VERSION}\" }}");
        let template = template
            .replace("{ source = \"wanwright/wanwright\" }", &pinned)
            .replace("backend \"http\" {}", "");
        assert!(template.contains(VERSION) && !template.contains("http"), "the template has changed");
        std::fs::write(dir.path().join("main.tf"), template).unwrap();
        std::fs::write(dir.path().join("v.tfvars.json"), oslo().to_string()).unwrap();
        Self { dir, vendor, world }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn mirror(&self, mirror: &Path) {
        let text = format!(
            "provider_installation {{\n  filesystem_mirror {{\n    path = \"{}\"\n  }}\n}}\n",
            mirror.display()
        );
        std::fs::write(self.path("cli.tfrc"), text).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("terraform");
        command
            .args(args)
            .current_dir(self.dir.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.dir.path())
            .env("TMPDIR", self.dir.path())
            .env("TF_CLI_CONFIG_FILE", self.path("cli.tfrc"))
            .env("CHECKPOINT_DISABLE", "1")
            .env("WANWRIGHT_GATEWAY_URL", &self.vendor)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    async fn terraform(&self, args: &[&str]) -> Output {
        let output = self.command(args).output().await.unwrap();
        eprintln!("{}{}", text(&output.stdout), text(&output.stderr));
        output
    }

    async fn works(&self, args: &[&str]) -> Output {
        let output = self.terraform(args).await;
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        output
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const VARS: &str = "-var-file=v.tfvars.json";

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_installed_from_a_mirror_checked_and_used() {
    let user = User::new().await;
    let release = released(user.dir.path());
    let [h1, _] = &release.hashes;
    for mirror in [&release.unpacked, &release.packed] {
        let _ = std::fs::remove_dir_all(user.path(".terraform"));
        user.mirror(mirror);
        user.works(&["init", "-input=false", "-no-color"]).await;
        let lock = std::fs::read_to_string(user.path(".terraform.lock.hcl")).unwrap();
        assert!(lock.contains(h1), "Terraform computes another hash than we do: {h1} {lock}");

        user.works(&["apply", "-auto-approve", "-input=false", "-no-color", VARS]).await;
        assert_eq!(user.world.lock().unwrap().objects.len(), 2);
        let plan = user.terraform(&["plan", "-detailed-exitcode", "-input=false", "-no-color", VARS]).await;
        assert_eq!(plan.status.code(), Some(0), "a plan after an apply has nothing in it");
        user.works(&["destroy", "-auto-approve", "-input=false", "-no-color", VARS]).await;
        assert_eq!(user.world.lock().unwrap().objects.len(), 0);
    }

    // One byte of the program is another one: whoever has it in a lock file does not get it.
    let folder = release.unpacked.join("registry.terraform.io/wanwright/wanwright/1.2.3").join(platform());
    let program = folder.join("terraform-provider-wanwright_v1.2.3");
    let file = std::fs::File::options().read(true).write(true).open(&program).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 4096).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 4096).unwrap();
    assert_ne!(&folder_hash(&folder).unwrap(), h1);
    std::fs::remove_dir_all(user.path(".terraform")).unwrap();
    user.mirror(&release.unpacked);
    let init = user.terraform(&["init", "-input=false", "-no-color"]).await;
    assert_eq!(init.status.code(), Some(1));
    let said: Vec<String> = text(&init.stderr).split_whitespace().map(str::to_owned).collect();
    assert!(said.join(" ").contains("doesn't match any of the checksums"), "{said:?}");
}

#[test]
fn a_release_has_what_a_registry_asks_for_and_is_the_same_twice() {
    let dir = tempfile::tempdir().unwrap();
    let release = released(dir.path());
    let archive = format!("terraform-provider-wanwright_1.2.3_{}.zip", platform());
    let manifest = "terraform-provider-wanwright_1.2.3_manifest.json";
    let sums =
        std::fs::read_to_string(release.registry.join("terraform-provider-wanwright_1.2.3_SHA256SUMS"));
    let sum = |name: &str| format!("{}  {name}\n", sha256(&release.registry.join(name)).unwrap());
    assert_eq!(sums.unwrap(), sum(&archive) + &sum(manifest));
    let text = std::fs::read(release.registry.join(manifest)).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(manifest, json!({"version": 1, "metadata": {"protocol_versions": ["6.0"]}}));
    let again = tempfile::tempdir().unwrap();
    assert_eq!(released(again.path()).hashes, release.hashes);

    // A signature of the release before would not fit, and is no file of a release.
    let signature = release.registry.join("terraform-provider-wanwright_1.2.3_SHA256SUMS.sig");
    std::fs::write(&signature, "a signature").unwrap();
    let listed =
        || std::fs::read_to_string(release.registry.join("terraform-provider-wanwright_1.2.3_SHA256SUMS"));
    let before = listed().unwrap();
    released(dir.path());
    assert!(!signature.exists());
    assert_eq!(listed().unwrap(), before);
}

#[tokio::test]
async fn started_by_hand_or_by_a_host_that_speaks_otherwise_it_says_so() {
    let program = env!("CARGO_BIN_EXE_terraform-provider-wanwright");
    let by_hand = Command::new(program).env_clear().output().await.unwrap();
    assert!(!by_hand.status.success());
    assert!(text(&by_hand.stderr).contains("Usage:"), "{by_hand:?}");
    let older = Command::new(program)
        .env_clear()
        .env(wanwright_provider::plugin::COOKIE_NAME, wanwright_provider::plugin::COOKIE_VALUE)
        .env("PLUGIN_PROTOCOL_VERSIONS", "5")
        .output()
        .await
        .unwrap();
    assert!(!older.status.success());
    assert!(text(&older.stderr).contains("speaks the plugin protocols 5"), "{older:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_whose_terraform_is_killed_ends_by_itself() {
    let user = User::new().await;
    let release = released(user.dir.path());
    user.mirror(&release.unpacked);
    user.works(&["init", "-input=false", "-no-color"]).await;
    // The vendor's answers wait for this.
    let held = support::world::hold(&user.world);
    let mut terraform = user
        .command(&["apply", "-auto-approve", "-input=false", "-no-color", VARS])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pid = until("Terraform has a provider", || child_of(terraform.id().unwrap())).await;
    until("the vendor was asked", || (held.waiting() > 0).then_some(())).await;
    terraform.kill().await.unwrap();
    until("the provider is gone", || test_kill_process(pid).is_err().then_some(())).await;
}

fn child_of(pid: u32) -> Option<Pid> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let children =
        tasks.flatten().filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let child: i32 = children.collect::<String>().split_whitespace().next()?.parse().ok()?;
    Pid::from_raw(child)
}

async fn until<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    let reached = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), reached).await.expect(what)
}
