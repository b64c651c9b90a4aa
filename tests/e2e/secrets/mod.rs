//! Secrets of vendors and tunnels are nowhere but at the gateway, whatever vendors answer.

mod clear;
mod memory;
mod search;
mod vendors;
mod writing;

use std::io::Write;
use std::path::Path;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use wanwright_tests::{Rows, Running, Timing, level};

use crate::support::{home, program};
use clear::Opened;
use search::{Canary, Found, Onlooker, search};
use vendors::{Quoting, copy, director, proxy};
use writing::writings;

const TOKEN: &str = "Zq1-Api+Token/9f==";
const CLIENT_SECRET: &str = "Zq2\"Client/Secret+7e";
const ACCESS_TOKEN: &str = "Zq3-Access=Token+4c";
const PROXY_PASSWORD: &str = "Zq4-Proxy/Pass+2b";
const KEY: &str = "Zq5 Pre\"Shared\\Key/1d";
const OTHERS_KEY: &str = "Zq6-Somebody-Elses-Key";
const TYPED_KEY: &str = "Zq7-Typed-By-Mistake";

fn canaries() -> Vec<Canary> {
    [
        ("the API token", TOKEN),
        ("the client secret", CLIENT_SECRET),
        ("the access token", ACCESS_TOKEN),
        ("the proxy's password", PROXY_PASSWORD),
        ("the pre-shared key", KEY),
        ("the vendor's other key", OTHERS_KEY),
        ("the key that was typed", TYPED_KEY),
    ]
    .map(|(name, secret)| Canary::new(name, secret))
    .into()
}

/// The vendors' folders and their secrets, all of it outside of the home.
fn folders(dir: &Path, quoting: &str, director: &str, proxy: &str) -> Result<()> {
    let from = program().vendors().to_owned();
    let write = |name: &str, text: &str| {
        std::fs::write(dir.join(name), text).map(|()| format!("file = \"{}\"", dir.join(name).display()))
    };
    std::fs::create_dir_all(dir.join("keys/acme"))?;
    std::fs::create_dir_all(dir.join("keys/planned"))?;
    for customer in ["acme", "planned"] {
        std::fs::write(dir.join("keys").join(customer).join("oslo"), KEY)?;
    }
    let (token, login) = (write("token", TOKEN)?, write("proxy", &format!("wan:{PROXY_PASSWORD}"))?);
    let client =
        json!({"client_id": "c", "client_secret": CLIENT_SECRET, "username": "u", "password": "Zq2"});
    let client = write("client", &client.to_string())?;
    let keys = format!("dir = \"{}\"", dir.join("keys").display());
    copy(&from.join("simwan"), &dir.join("vendors/simwan"), &|text| text)?;
    copy(&from.join("simwan"), &dir.join("vendors/quoting"), &|text| {
        text.replace("simwan", "quoting")
            .replace("http://127.0.0.1:9000", quoting)
            .replace("env = \"WANWRIGHT_SIMWAN_TOKEN\"", &token)
            .replace("env = \"WANWRIGHT_SIMWAN_SECRETS\"", &keys)
    })?;
    copy(&from.join("versa"), &dir.join("vendors/versa"), &|text| {
        text.replace("https://director.example.net:9183", director)
            .replace("env = \"WANWRIGHT_VERSA_LOGIN\"", &client)
            .replace("\n[engines]", &format!("\n[proxy_login]\n{login}\n[engines]"))
            .replace("name = \"versa\"\n", &format!("name = \"versa\"\nproxy = \"{proxy}\"\n"))
    })
}

/// Looks through the memory of the roles that must never hold a secret. Executors hold them by design, and the search
/// has to find some there. What a person types into a command, the server and the command service have seen.
fn in_memory(running: &Running) -> Result<String> {
    let typed = |canary: &Canary| canary.name() == "the key that was typed";
    let executors = running.role("executors").context("the executors")?;
    let all = canaries();
    let found = match memory::search(executors.pid, &all) {
        Ok(found) => found,
        Err(error) => {
            let loudly = format!(
                "NOT LOOKED THROUGH: memory ({error:#}); it takes root, or the right to trace processes"
            );
            eprintln!("{loudly}");
            return Ok(loudly);
        }
    };
    for held in ["the API token", "the pre-shared key"] {
        ensure!(found.hits.contains(&held), "the search finds {:?} in executors, and not {held}", found.hits);
    }
    let mut megabytes = 0;
    for name in ["commands", "dispatcher", "projections", "nats-server"] {
        let role = running.role(name).with_context(|| format!("the process of {name}"))?;
        let sees_commands = matches!(name, "commands" | "nats-server");
        let wanted: Vec<Canary> =
            canaries().into_iter().filter(|canary| !(sees_commands && typed(canary))).collect();
        let found = memory::search(role.pid, &wanted).with_context(|| format!("the memory of {name}"))?;
        ensure!(found.hits.is_empty(), "{:?} in the memory of {name}", found.hits);
        megabytes += found.bytes / 1_000_000;
    }
    Ok(format!("{megabytes} MB of memory of four roles without a secret"))
}

/// Looks through what is kept sealed or packed: states and their second copies, plan files, snapshots. What stands for the
/// key and what a person planted are there, so the search sees what there is to see.
async fn in_clear(running: &Running, rows: &Rows, files: &[Opened], timing: &Timing) -> Result<()> {
    let (states, snapshots) = (clear::states(running).await?, clear::snapshots(running, rows).await?);
    let mut found = Found::default();
    for opened in [files, &states, &snapshots] {
        found.opened(&canaries(), opened);
    }
    timing.say(format_args!(
        "{} plan files, {} states, {} snapshots in clear, {} bytes",
        files.len(),
        states.len(),
        snapshots.len(),
        found.bytes
    ));
    ensure!(found.hits.is_empty(), "{:#?}", found.hits);
    let copies = states.iter().filter(|state| state.place.ends_with("--copy")).count();
    ensure!(files.len() >= 2 && copies >= 2 && states.len() >= 2 * copies, "hardly anything was opened");
    for file in files {
        ensure!(file.has(clear::PLACEHOLDER), "nothing stands for the key in {}", file.place);
    }
    let keyed = states.iter().filter(|state| state.has(clear::PLACEHOLDER));
    ensure!(keyed.filter(|state| state.place.ends_with("--copy")).count() >= 2, "no copy names the key");
    let planted = [Canary::new("what was planted", clear::PLANTED)];
    for (what, opened, wanted) in
        [("plan", files, files.len()), ("state", &states, 2), ("the snapshot", &snapshots, 1)]
    {
        let mut found = Found::default();
        found.opened(&planted, opened);
        let there = found.hits.iter().filter(|hit| hit.contains(&format!(" in {what}"))).count();
        ensure!(there >= wanted, "the search does not see what is in a {what}: {:?}", found.hits);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn they_are_in_no_stream_table_log_state_or_file() -> Result<()> {
    let timing = Timing::of("secrets");
    let dir = tempfile::tempdir()?;
    let quoting = Quoting::start(TOKEN).await?;
    let (director, directed) = director(ACCESS_TOKEN).await?;
    let (proxy, led) = proxy(&format!("wan:{PROXY_PASSWORD}")).await?;
    folders(dir.path(), &quoting.url, &director, &proxy)?;
    let at = dir.path().join("vendors").display().to_string();
    let program = program().with("WANWRIGHT_VENDORS", &at).with("WANWRIGHT_LOG", "trace");
    let onlooker = Onlooker::start(canaries());
    let running = Running::up(&program, &home()?).await?;
    let behind: Value = serde_json::from_str(&running.home.read("simulator/tokens.json")).unwrap_or_default();
    let behind = behind["token"].as_str().context("the simulated vendor's token")?.to_owned();
    let _ = quoting.behind.set((running.endpoints.simulator.clone(), behind));
    let (customer, rows, vendor) =
        (running.customer("acme").await?, running.rows().await?, running.vendor()?);

    let tunnel = |psk: &str| json!({"site": "oslo", "peer": {"hub": "hub-eu"}, "inside": "169.254.0.0/30", "settings": {"psk": psk}});
    let site = json!({"vendor": "quoting", "lan": ["10.1.0.0/24"]});
    customer.send("site.oslo.create", &site).await?.accepted()?;
    let typed = customer.send("tunnel.t1.create", &tunnel(TYPED_KEY)).await?.refused("InvalidValue")?;
    ensure!(!format!("{typed:?}").contains(TYPED_KEY), "{typed:?}");
    customer.send("tunnel.t1.create", &tunnel("secret:oslo")).await?.accepted()?;
    let device = json!({"site": "oslo", "serial": "SN-Q-1", "model": "edge-100"});
    customer.send("device.d1.create", &device).await?.accepted()?;
    rows.healthy("acme", 3, level::LONG).await?;
    let kept = vendor.object("tunnel", "acme.t1").await?.context("the tunnel")?;
    ensure!(kept["psk"] == KEY, "the vendor has another key: {kept:?}");
    let none = running.call(&["drift", "acme"]).await?.code(0)?;
    ensure!(none.out.trim() == "no drift", "{}", none.out);

    let files = clear::planned(&running, OTHERS_KEY).await?;

    // Calls that fail quote everything they carried.
    customer.send("tunnel.t1.change", &json!({"settings": {"mtu": 1300}})).await?.accepted()?;
    quoting.quotes(500).await?;
    rows.healthy("acme", 3, level::LONG).await?;
    for (status, vlan) in [(401, 7), (500, 8), (422, 9), (422, 10), (422, 11)] {
        customer.send("device.d1.change", &json!({"settings": {"vlan": vlan}})).await?.accepted()?;
        quoting.quotes(status).await?;
    }
    customer.send("tunnel.t1.change", &json!({"settings": {"mtu": 1200}})).await?.accepted()?;
    quoting.quotes(422).await?;
    let failed = "SELECT count(*) FROM timeline WHERE type IN ('TunnelFailed', 'SiteFailed', 'DeviceFailed')";
    level::until("what is refused fails", level::LONG, async || Ok(rows.number(failed).await? > 0)).await?;
    // Somebody at the vendor has changed the key.
    vendor.drift("tunnel", "acme.t1", &json!({"psk": OTHERS_KEY})).await?;
    let well =
        "SELECT count(*) FROM status WHERE customer = 'acme' AND health = 'Healthy' AND sync = 'Synced'";
    level::until("what failed is tried again", level::LONG, async || {
        for object in ["tunnel.t1", "site.oslo", "device.d1"] {
            // What has not failed needs none; what is still tried may fail later.
            let _ = customer.send(&format!("{object}.retry"), &json!({})).await?;
        }
        Ok(rows.number(well).await? == 3)
    })
    .await?;
    let kept = vendor.object("tunnel", "acme.t1").await?.context("the tunnel")?;
    ensure!(kept["psk"] == KEY, "a changed key is no difference: {kept:?}");
    vendor.drift("tunnel", "acme.t1", &json!({"psk": OTHERS_KEY})).await?;
    let seen = running.call(&["drift", "acme", "-o", "json"]).await?.code(1)?;
    ensure!(seen.out.contains("secret:oslo") && seen.out.contains("psk"), "{}", seen.out);
    // A secret that is not there fails its own order.
    let other = json!({"vendor": "quoting", "lan": ["10.2.0.0/24"]});
    customer.send("site.rome.create", &other).await?.accepted()?;
    let mut missing = tunnel("secret:nowhere");
    missing["site"] = "rome".into();
    missing["inside"] = "169.254.0.4/30".into();
    customer.send("tunnel.t2.create", &missing).await?.accepted()?;
    let reason = "SELECT count(*) FROM operations WHERE error_code = 'SecretMissing'";
    rows.reach("the missing secret is named", reason, 1, level::LONG).await?;

    let settings = json!({"organization": "o", "template": "t"});
    let bern = json!({"vendor": "versa", "lan": ["10.3.0.0/24"], "settings": settings});
    customer.send("site.bern.create", &bern).await?.accepted()?;
    level::until("the Director quotes", level::LONG, async || Ok(directed.load(Ordering::SeqCst) > 1))
        .await?;
    ensure!(led.load(Ordering::SeqCst) > 0, "the proxy led nobody");
    customer.send("device.d1.decommission", &json!({})).await?.accepted()?;
    let gone = "SELECT count(*) FROM timeline WHERE type = 'DeviceRemoved'";
    rows.reach("the device is gone", gone, 1, level::LONG).await?;

    // The log of each run, as it is printed. The rows and the stream that it comes from are searched below.
    let orders = rows.texts("SELECT order_id::text FROM operations WHERE attempts > 0").await?;
    ensure!(!orders.is_empty(), "nothing ran");
    let mut printed = String::new();
    for order in &orders {
        printed.push_str(&running.call(&["log", order, "--json"]).await?.code(0)?.out);
    }
    let (resources, failures) =
        (printed.matches("\"resource\":").count(), printed.matches("VendorRefused").count());
    ensure!(resources > 0 && failures > 0, "the logs tell of no resource, or of no failure: {printed}");
    let told: Vec<_> =
        canaries().iter().filter(|canary| canary.is_in(printed.as_bytes())).map(Canary::name).collect();
    ensure!(told.is_empty(), "{told:?} in what `log` prints");
    // The way through the gateway is a right to call the vendor.
    let paths = "SELECT count(*) FROM run_log WHERE message ~ '/r/[0-9a-f]{32}' OR message ~ 'Basic [A-Za-z0-9+/=]{20}'";
    ensure!(rows.number(paths).await? == 0, "{:?}", rows.texts(&paths.replace("count(*)", "message")).await?);

    in_clear(&running, &rows, &files, &timing).await?;

    let looked = in_memory(&running)?;
    timing.say(format_args!("{looked}"));

    let (in_processes, processes) = onlooker.end()?;
    ensure!(in_processes.is_empty(), "{in_processes:#?}");
    let found = search(&running, &canaries()).await?;
    timing.say(format_args!(
        "{} messages, {} rows, {} files and {processes} processes, {} MB, without one of {} secrets",
        found.messages,
        found.rows,
        found.files,
        found.bytes / 1_000_000,
        canaries().len()
    ));
    ensure!(found.hits.is_empty(), "{:#?}", found.hits);
    ensure!(
        found.messages > 20 && found.rows > 20 && found.files > 50 && processes > 10,
        "there was hardly anything to look through"
    );

    // The same search finds what is there.
    let onlooker = Onlooker::start(canaries());
    let given = std::process::Command::new("/bin/sleep").arg("1").env("KEY", KEY).status()?;
    ensure!(given.success() && onlooker.end()?.0.contains("the pre-shared key in process sleep"));
    let nats = running.nats().await?;
    let percent = "Zq1%2DApi%2BToken%2F9f%3D%3D";
    nats.js.get_key_value("attempts").await?.put("canary", percent.into()).await?;
    sqlx::query("CREATE TABLE planted AS SELECT $1 AS text")
        .bind(KEY.replace('\\', "\\\\").replace('"', "\\\""))
        .execute(&rows.pool)
        .await?;
    let [.., escaped] = writings(ACCESS_TOKEN);
    std::fs::write(running.home.join("logs/planted.log"), format!("at {escaped}."))?;
    let reversed: String = PROXY_PASSWORD.chars().rev().collect();
    std::fs::write(running.home.join("logs/reversed.log"), reversed)?;
    let (front, back) = CLIENT_SECRET.split_at(CLIENT_SECRET.len() / 2);
    std::fs::write(running.home.join("logs/split.log"), format!("{front}\n and then {back}"))?;
    let mut packed = GzEncoder::new(b"before".to_vec(), Compression::best());
    packed.write_all(format!("its key: {OTHERS_KEY}").as_bytes())?;
    std::fs::write(running.home.join("logs/packed.log"), packed.finish()?)?;
    let found = search(&running, &canaries()).await?.hits;
    for planted in [
        "the proxy's password in ",
        "the client secret in ",
        "the vendor's other key in ",
        "the API token in stream KV_attempts",
        "the pre-shared key in table public.planted",
        "the access token in ",
    ] {
        ensure!(found.iter().any(|hit| hit.starts_with(planted)), "{planted}: {found:?}");
    }
    Ok(())
}
