//! Users of each kind, made and cut off at the command line: each does its part and no other.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use wanwright_supervisor::Child;
use wanwright_tests::{Process, Rows, Running, Said, Signal, Timing, level};

use crate::support::own;

const VLAN: &str = r#"{"settings":{"vlan":7}}"#;

/// A person, or an executor, with a login of its own.
struct User<'a> {
    running: &'a Running,
    name: &'a str,
    creds: String,
}

impl<'a> User<'a> {
    async fn of(running: &'a Running, name: &'a str, kind: &str) -> Result<Self> {
        let creds = running.home.join(&format!("{name}.creds")).display().to_string();
        running.call(&["nats", "user", "add", name, "--kind", kind, "--out", &creds]).await?.code(0)?;
        Ok(Self { running, name, creds })
    }

    async fn call(&self, words: &[&str]) -> Result<Said> {
        let login = ["--nats", &self.running.endpoints.nats, "--creds", &self.creds];
        self.running.call(&[words, &login[..]].concat()).await
    }

    /// What this user may not do is refused by the server.
    async fn has_no_right(&self, words: &[&str]) -> Result<()> {
        let said = self.call(words).await?.code(2)?;
        ensure!(said.err.contains("has no right to publish"), "{words:?}: {}", said.err);
        Ok(())
    }

    async fn revoke(&self) -> Result<()> {
        self.running.call(&["nats", "user", "revoke", self.name]).await?.code(0).map(drop)
    }
}

/// An executor as one that was started, but with this login.
fn executor(user: &User, like: &Process) -> Result<Child> {
    let (running, creds) = (user.running, user.creds.as_str());
    let environment = std::fs::read_to_string(format!("/proc/{}/environ", like.pid))?;
    let own = environment.split('\0').filter_map(|word| word.split_once('='));
    let own = own.filter(|(name, _)| name.starts_with("WANWRIGHT_") && !name.starts_with("WANWRIGHT_NATS"));
    let words = ["serve", "executors", "--nats", &running.endpoints.nats, "--creds", creds];
    let spec = running.program.spec(&running.home, &words).envs(own);
    Ok(spec.log(running.home.join("robot.log")).piped().spawn()?)
}

async fn done(rows: &Rows, changes: i64) -> Result<()> {
    let done = "SELECT count(*) FROM operations WHERE customer = 'users' AND kind = 'device' AND state = 'succeeded'";
    rows.reach("the device is as it should be", done, changes, level::LONG).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_user_does_its_part_and_no_other_until_it_is_cut_off() -> Result<()> {
    let timing = Timing::of("users of each kind");
    let running = own().await?;
    let (customer, rows) = (running.customer("users").await?, running.rows().await?);
    customer.site("oslo", 1, 0, 1).await?;
    rows.healthy("users", 2, level::LONG).await?;
    done(&rows, 1).await?;
    let device = rows.texts("SELECT id FROM devices WHERE customer = 'users'").await?.remove(0);
    let device = format!("users/{device}");
    let olga = User::of(&running, "olga", "operator").await?;
    let anna = User::of(&running, "anna", "approver").await?;
    let rita = User::of(&running, "rita", "reader").await?;
    let robot = User::of(&running, "robot", "executor").await?;

    let policy = ["send", "customer", "change", "users", r#"{"policy":{"device":"approve"}}"#];
    let change = ["send", "device", "change", &device, VLAN];
    let approve = ["send", "device", "approve", &device, r#"{"generation":2}"#];
    for user in [&anna, &rita, &robot] {
        user.has_no_right(&change).await?;
    }
    rita.has_no_right(&approve).await?;
    robot.has_no_right(&approve).await?;
    olga.call(&policy).await?.code(0)?;
    olga.call(&change).await?.code(0)?;
    let own = olga.call(&approve).await?.code(3)?;
    ensure!(own.out.contains("OwnChange"), "{}", own.out);
    let read = rita.call(&["replay", "users", "--raw"]).await?.code(0)?;
    ensure!(read.out.contains("DeviceChanged") && read.out.contains(r#""actor":"olga""#), "{}", read.out);

    // Nobody but the executor with the user's login is there, and it does the work.
    let executors = running.role("executors").context("there are no executors")?;
    running.child().signal(Signal::STOP);
    let mut worker = executor(&robot, &executors)?;
    executors.signal(Signal::KILL);
    let ready = worker.lines()?.next().await?;
    ensure!(ready.as_deref() == Some("ready"), "{ready:?}: {}", running.home.read("robot.log"));
    anna.call(&approve).await?.code(0)?;
    done(&rows, 2).await.with_context(|| running.home.read("robot.log"))?;

    // Cut off it does nothing more, although there is work.
    robot.revoke().await?;
    let is_out =
        async || Ok(running.home.read("robot.log").to_lowercase().contains("authorization violation"));
    let took = level::until("the executor is cut off", level::LONG, is_out).await?;
    timing.say(format_args!("the executor is cut off after {took:.1?}"));
    let made = running.vendor()?.made().await?;
    let other = json!({ "site": "oslo", "serial": "SN-USERS-9", "model": "edge-100" });
    customer.send("device.d9.create", &other).await?.accepted()?;
    anna.call(&["send", "device", "approve", "users/d9", r#"{"generation":1}"#]).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    ensure!(running.vendor()?.made().await? == made, "it works on");
    worker.kill().await;

    for user in [&olga, &anna, &rita] {
        user.revoke().await?;
        let out = user.call(&["replay", "users"]).await?.code(5)?;
        ensure!(out.err.to_lowercase().contains("authorization violation"), "{}: {}", user.name, out.err);
    }
    running.child().signal(Signal::CONT);
    running.comes_back("executors", &executors).await?;
    done(&rows, 3).await
}
