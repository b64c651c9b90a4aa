//! What is kept sealed or packed, opened: a search in what is sealed finds nothing whatever is in it.

use std::collections::BTreeSet;
use std::io::Read;

use anyhow::{Context, Result, ensure};
use flate2::read::{DeflateDecoder, GzDecoder};
use serde_json::{Value, json};
use wanwright_commands::STATE_VERSION;
use wanwright_nats::keys::state_key_file;
use wanwright_nats::{PlanFiles, PlanPlace, Snapshots, StateKeys, load_subject};
use wanwright_tests::{Rows, Running, level};

use crate::plans::{approve_plan, events};

/// What the settings of a planned site say: it belongs into states and plans, so a search that looks into them finds it.
pub const PLANTED: &str = "Zq8-Planted-In-The-Settings";

/// What stands for the pre-shared key wherever the key is not.
pub const PLACEHOLDER: &str = "secret:oslo";

/// Commands after which a customer's state is certainly frozen.
const FROZEN: usize = 70;

/// Most bytes that are taken out of anything packed.
const MOST: u64 = 64 << 20;

/// Something that was kept, as its owner reads it.
pub struct Opened {
    pub place: String,
    pub text: Vec<u8>,
}

impl Opened {
    pub fn has(&self, what: &str) -> bool {
        self.text.windows(what.len()).any(|part| part == what.as_bytes())
    }
}

/// A customer whose stack waits for approvals: a plan that makes it, which is applied, and one that changes it after
/// somebody put another key in at the vendor. Answers the files of both.
pub async fn planned(running: &Running, others_key: &str) -> Result<Vec<Opened>> {
    let (customer, rows, nats) =
        (running.customer("planned").await?, running.rows().await?, running.nats().await?);
    let policy = json!({ "policy": { "site": "plan" } });
    customer.send("customer.planned.change", &policy).await?.accepted()?;
    let site = json!({ "vendor": "quoting", "lan": ["10.1.0.0/24"], "settings": { "location": PLANTED } });
    customer.send("site.oslo.create", &site).await?.accepted()?;
    let tunnel = json!({ "site": "oslo", "peer": { "hub": "hub-eu" }, "inside": "169.254.0.0/30",
        "settings": { "psk": PLACEHOLDER } });
    customer.send("tunnel.t1.create", &tunnel).await?.accepted()?;
    let waiting = "SELECT count(*) FROM plans WHERE customer = 'planned' AND state = 'waiting'";
    rows.reach("both are planned", &format!("{waiting} AND creates = 2"), 1, level::LONG).await?;
    let mut files = plan_files(running, &nats).await?;
    let plan = events(&customer, "SitePlanned").await?.pop().context("a plan")?;
    approve_plan(&customer, &plan).await?.accepted()?;
    rows.healthy("planned", 2, level::LONG).await?;
    running.vendor()?.drift("tunnel", "planned.t1", &json!({ "psk": others_key })).await?;
    customer.send("tunnel.t1.change", &json!({ "settings": { "mtu": 1300 } })).await?.accepted()?;
    rows.reach("the change is planned", &format!("{waiting} AND updates = 1"), 1, level::LONG).await?;
    files.extend(plan_files(running, &nats).await?);
    // A history so long is frozen.
    for turn in 0..FROZEN {
        let groups = json!({ "groups": { "night": [format!("person-{turn}")] } });
        customer.send("customer.planned.change", &groups).await?.accepted()?;
    }
    let frozen = async || Ok(!snapshots(running, &rows).await?.is_empty());
    level::until("the customer is frozen", level::LONG, frozen).await?;
    Ok(files)
}

/// Every plan file there is, unpacked.
async fn plan_files(running: &Running, nats: &wanwright_nats::Nats) -> Result<Vec<Opened>> {
    let keys = StateKeys::new(state_key_file(running.home.path()));
    let (plans, mut opened, mut seen) = (PlanFiles::new(nats.clone(), keys), Vec::new(), BTreeSet::new());
    for message in load_subject(nats, "PLANS", "wan.plan.>", 0).await? {
        let head = |name: &str| Some(message.headers.get(name)?.as_str().to_owned());
        let Some(hash) = head("Wan-Plan-Hash").filter(|hash| seen.insert(hash.clone())) else { continue };
        let stack = message.subject.trim_start_matches("wan.plan.").to_owned();
        let place = PlanPlace {
            hash: serde_json::from_value(json!(hash))?,
            serial: head("Wan-Plan-Serial").context("no serial")?.parse()?,
            lineage: head("Wan-Plan-Lineage").context("no lineage")?,
            stack: stack.clone(),
        };
        let file = plans.get(&place).await?;
        let packed = Opened { place: String::new(), text: file };
        ensure!(!packed.has(PLACEHOLDER), "a plan file is not packed: a search of the file would do");
        let text = unzipped(&packed.text)?;
        opened.push(Opened { place: format!("plan {hash} of stack {stack}"), text });
    }
    ensure!(!opened.is_empty(), "no plan file is kept");
    Ok(opened)
}

/// Every version of every stack's state, and the second copy of its newest, as `wanwright state pull` prints them.
pub async fn states(running: &Running) -> Result<Vec<Opened>> {
    let read = async |args: &[&str]| -> Result<Value> {
        let said = running.call(&[&["state"], args, &["-o", "json"]].concat()).await?.code(0)?;
        Ok(serde_json::from_str(&said.out)?)
    };
    let mut opened = Vec::new();
    for listed in read(&["list"]).await?["items"].as_array().context("no stacks")? {
        let stack = listed["stack"].as_str().context("a stack")?;
        let versions = read(&["history", stack]).await?;
        let versions = versions["items"].as_array().context("no versions")?;
        let serials = versions.iter().filter_map(|version| version["serial"].as_i64());
        let mut asked: Vec<Vec<String>> =
            serials.map(|serial| vec!["--serial".to_owned(), serial.to_string()]).collect();
        ensure!(!asked.is_empty(), "{stack} has no versions");
        asked.push(vec!["--copy".to_owned()]);
        for which in asked {
            let args: Vec<&str> =
                ["state", "pull", stack].into_iter().chain(which.iter().map(String::as_str)).collect();
            let text = running.call(&args).await?.code(0)?.out.into_bytes();
            opened.push(Opened { place: format!("state {stack} {}", which.join(" ")), text });
        }
    }
    Ok(opened)
}

/// Every customer's frozen state, unpacked.
pub async fn snapshots(running: &Running, rows: &Rows) -> Result<Vec<Opened>> {
    let snapshots = Snapshots::new(running.nats().await?);
    let mut opened = Vec::new();
    for customer in rows.texts("SELECT customer FROM customers").await? {
        if let Some(snapshot) = snapshots.get(&customer.parse()?, STATE_VERSION).await? {
            let text = snapshot.state.to_vec();
            opened.push(Opened { place: format!("the snapshot of {customer}"), text });
        }
    }
    Ok(opened)
}

/// What the gzip streams hold that begin anywhere in a text.
pub fn gunzipped(text: &[u8]) -> Vec<Vec<u8>> {
    let begin = text.windows(3).enumerate().filter(|(_, bytes)| bytes == b"\x1f\x8b\x08");
    let unpacked = begin.map(|(at, _)| {
        let mut unpacked = Vec::new();
        // One that breaks off holds what came before.
        let _ = GzDecoder::new(&text[at..]).take(MOST).read_to_end(&mut unpacked);
        unpacked
    });
    unpacked.filter(|unpacked| !unpacked.is_empty()).collect()
}

/// The files of a zip archive, one behind the other.
fn unzipped(zip: &[u8]) -> Result<Vec<u8>> {
    let number = |at: usize, bytes: usize| -> Result<usize> {
        let bytes = zip.get(at..at + bytes).context("the archive is cut off")?;
        Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    };
    let (entry, end) = (b"PK\x01\x02", b"PK\x05\x06");
    let end = zip.windows(4).rposition(|bytes| bytes == end).context("it is no archive")?;
    let (files, mut at, mut texts) = (number(end + 10, 2)?, number(end + 16, 4)?, Vec::new());
    for _ in 0..files {
        ensure!(zip.get(at..at + 4) == Some(entry.as_slice()), "the archive's directory is damaged");
        let (method, packed, begin) = (number(at + 10, 2)?, number(at + 20, 4)?, number(at + 42, 4)?);
        let data = begin + 30 + number(begin + 26, 2)? + number(begin + 28, 2)?;
        let data = zip.get(data..data + packed).context("the archive is cut off")?;
        match method {
            0 => texts.extend_from_slice(data),
            8 => {
                DeflateDecoder::new(data).take(MOST).read_to_end(&mut texts)?;
            }
            other => anyhow::bail!("a file is packed by method {other}"),
        }
        at += 46 + number(at + 28, 2)? + number(at + 30, 2)? + number(at + 32, 2)?;
    }
    Ok(texts)
}
