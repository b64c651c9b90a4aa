//! Stacks whose provider is not ours, as the whole system runs them: killed in the middle, and exchanged between a plan and
//! what would have been its apply.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use wanwright_provider::release::{Release, ReleaseArgs, release};
use wanwright_tests::{Home, Processes, Running, Signal, Timing, level};

use crate::plans::{approve_plan, events, opened, plan};
use crate::support::{copy, home, program};

const ADDRESS: &str = "registry.terraform.io/other/other";
const VERSION: &str = "1.2.3";

/// Everything that an executor started is gone that soon after it.
const GONE: Duration = Duration::from_secs(5);

/// Our provider as a program, which the template takes for another one.
fn provider() -> Result<PathBuf> {
    let mut cargo = Command::new(env!("CARGO"));
    // What Cargo tells a test about its own crate would have build scripts run again, here and then there.
    for (name, _) in std::env::vars_os() {
        let about = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"];
        if about.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            cargo.env_remove(name);
        }
    }
    let name = "terraform-provider-wanwright";
    let args =
        ["build", "--offline", "--quiet", "--message-format=json", "-p", "wanwright-provider", "--bin", name];
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let output = cargo.args(args).current_dir(root).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = output.stdout.split(|byte| *byte == b'\n');
    let messages = lines.filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    let program = messages.filter_map(|message| Some(message["executable"].as_str()?.to_owned())).next_back();
    Ok(program.context("no program was built")?.into())
}

/// A package of it with these vendors' folders, which make it another one.
fn released(to: &Path, vendors: &Path) -> Result<Release> {
    Ok(release(&ReleaseArgs {
        to: to.to_owned(),
        vendors: vendors.to_owned(),
        address: ADDRESS.parse()?,
        version: VERSION.to_owned(),
        program: Some(provider()?),
    })?)
}

/// Puts a package into the mirror and its hash into the template's lock file.
fn put(home: &Path, release: &Release) -> Result<()> {
    let mirror = home.join("providers");
    if mirror.exists() {
        std::fs::rename(&mirror, home.join("providers-before"))?;
    }
    copy(&release.packed, &mirror)?;
    let lock = format!(
        "provider \"{ADDRESS}\" {{\n  version = \"{VERSION}\"\n  hashes = [\n    \"{}\",\n  ]\n}}\n",
        release.hashes[0]
    );
    // At once: who reads the folder finds the one or the other.
    let file = home.join("own-vendors/simwan/terraform/.terraform.lock.hcl");
    std::fs::write(home.join("lock"), lock)?;
    Ok(std::fs::rename(home.join("lock"), file)?)
}

/// A home whose mirror has the foreign provider, and the vendors' folders whose stacks are made by it.
pub fn prepared() -> Result<(Arc<Home>, PathBuf)> {
    let home = home()?;
    let vendors = home.join("own-vendors");
    copy(program().vendors(), &vendors)?;
    let terraform = vendors.join("simwan/terraform");
    let mut main = std::fs::read_to_string(terraform.join("main.tf"))?;
    let source = format!("other = {{ source = \"other/other\", version = \"{VERSION}\" }}");
    for (ours, others) in [
        ("wanwright = { source = \"wanwright/wanwright\" }", source.as_str()),
        (
            "\"wanwright_simwan_site\" \"site\" {\n",
            "\"wanwright_simwan_site\" \"site\" {\n  provider = other\n",
        ),
        (
            "\"wanwright_simwan_tunnel\" \"tunnel\" {\n",
            "\"wanwright_simwan_tunnel\" \"tunnel\" {\n  provider = other\n",
        ),
    ] {
        ensure!(main.contains(ours), "the template has changed: {main}");
        main = main.replace(ours, others);
    }
    std::fs::write(terraform.join("main.tf"), main)?;
    std::fs::write(
        terraform.join("providers.toml"),
        "[other]\nbase_url = \"base_url\"\nprocesses = 2\nreuse = true\nadopts = true\n",
    )?;
    put(home.path(), &released(&home.join("r"), program().vendors())?)?;
    Ok((home, vendors))
}

/// A system of a test's own whose stacks are made by the foreign provider.
async fn own() -> Result<Running> {
    let (home, vendors) = prepared()?;
    let program = program().with("WANWRIGHT_VENDORS", &vendors.to_string_lossy());
    Running::up(&program, &Arc::clone(&home)).await
}

/// Fails unless the stack's state and the vendor say the same of every object. Answers how many there are.
async fn compared(running: &Running, stack: &str) -> Result<usize> {
    let state: Value = serde_json::from_str(&running.call(&["state", "pull", stack]).await?.code(0)?.out)?;
    let mut compared = 0;
    for resource in state["resources"].as_array().into_iter().flatten() {
        let kind = resource["type"].as_str().unwrap_or_default();
        let kind = kind.strip_prefix("wanwright_simwan_").context("a type of the vendor's")?;
        for instance in resource["instances"].as_array().into_iter().flatten() {
            let attributes = instance["attributes"].as_object().context("attributes")?;
            let name = attributes["name"].as_str().context("a name")?;
            let object =
                running.vendor()?.object(kind, name).await?.with_context(|| format!("no {kind} {name}"))?;
            let ours = ["idempotency_key", "timeouts"];
            for (field, value) in attributes.iter().filter(|(field, _)| !ours.contains(&field.as_str())) {
                let there = object.get(field).unwrap_or(&Value::Null);
                ensure!(
                    there == value,
                    "{kind} {name}: {field} is {value} in the state and {there} at the vendor"
                );
            }
            compared += 1;
        }
    }
    Ok(compared)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_that_is_killed_while_a_foreign_provider_applies_leaves_one_object_of_each_and_no_process()
-> Result<()> {
    let timing = Timing::of("kill -9 around a foreign provider");
    let running = own().await?;
    let (customer, rows) = (running.customer("acme").await?, running.rows().await?);
    // An object is made two seconds before anybody hears of it.
    running.vendor()?.faults(&json!({ "answer_delay_ms": 2000 })).await?;
    customer.site("oslo", 1, 1, 0).await?;
    // While the site is made, and again while its tunnel is.
    for objects in 1..=2 {
        let begun = async || Ok(running.vendor()?.made().await? >= objects);
        level::until("the vendor has begun", level::LONG, begun).await?;
        let executors = running.role("executors").context("no executors")?;
        let family = Processes::below(executors.pid);
        let of = |name: &str| family.iter().filter(|process| process.command.contains(name)).count();
        timing.say(format_args!(
            "killed with {objects} made: {} provider, {} Terraform",
            of("terraform-provider-other"),
            of("-json")
        ));
        ensure!(of("terraform-provider-other") >= 1 && of("-json") >= 1, "nothing applies: {family:?}");
        executors.signal(Signal::KILL);
        let gone = async || Ok(family.iter().all(|process| !process.is_alive()));
        level::until("nothing of it is left", GONE, gone).await.with_context(|| format!("{family:?}"))?;
        running.comes_back("executors", &executors).await?;
    }
    running.vendor()?.heal().await?;
    rows.healthy("acme", 2, level::LONG).await?;
    running.vendor()?.judge("acme.", 2).await?;
    ensure!(compared(&running, "acme/oslo").await? == 2, "the state has both");
    // What is there is as wanted: a look finds nothing, and another kill of nobody at work leaves nobody.
    let executors = running.role("executors").context("no executors")?;
    let family = Processes::below(executors.pid);
    executors.signal(Signal::KILL);
    level::until("nothing of it is left", GONE, async || {
        Ok(family.iter().all(|process| !process.is_alive()))
    })
    .await?;
    running.comes_back("executors", &executors).await?;
    ensure!(running.home.panics().is_empty(), "{:?}", running.home.panics());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_of_another_package_than_the_present_one_is_made_anew_and_waits_again() -> Result<()> {
    let timing = Timing::of("another package");
    let running = own().await?;
    let (customer, rows, nats) =
        (running.customer("acme").await?, running.rows().await?, running.nats().await?);
    customer.send("customer.acme.change", &json!({ "policy": { "site": "plan" } })).await?.accepted()?;
    customer.site("oslo", 1, 0, 0).await?;
    let old = plan(&customer, 1).await?;
    timing.say("planned");

    // It is approved, and not begun before its provider is another one.
    let moves = ["pause", "vendor", "simwan", "--reason", "its provider is exchanged"];
    running.call(&moves).await?.code(0)?;
    approve_plan(&customer, &old).await?.accepted()?;
    let vendors = running.home.join("another");
    copy(program().vendors(), &vendors)?;
    std::fs::write(vendors.join("simwan/README.md"), "Another edition.\n")?;
    let another = released(&running.home.join("r2"), &vendors)?;
    put(running.home.path(), &another)?;
    let taken = async || {
        let explained = running.call(&["doctor"]).await?.out;
        Ok(explained.contains("judges with the vendor folders as they are here"))
    };
    level::until("the folder is read again", level::LONG, taken).await?;
    // One that certainly knows the present folder, and nothing of the package before.
    let executors = running.role("executors").context("no executors")?;
    executors.signal(Signal::KILL);
    running.comes_back("executors", &executors).await?;
    running.call(&["resume", "vendor", "simwan", "--reason", "it is"]).await?.code(0)?;

    let next = plan(&customer, 2).await?;
    ensure!(next["plan"]["template"] != old["plan"]["template"], "{next}");
    ensure!(running.vendor()?.made().await? == 0, "something was made that nobody approved");
    timing.say("planned anew");
    approve_plan(&customer, &old).await?.refused("PlanMismatch")?;
    approve_plan(&customer, &next).await?.accepted()?;
    rows.healthy("acme", 1, level::LONG).await?;
    let hash = next["plan"]["hash"].as_str().unwrap_or_default();
    ensure!(opened(&nats, "acme").await? == [hash], "another plan was applied");
    ensure!(events(&customer, "SitePlanApplied").await?.len() == 1);
    running.vendor()?.judge("acme.", 1).await?;
    ensure!(compared(&running, "acme/oslo").await? == 1);
    Ok(())
}
