//! The load of a soak: changes of devices and tunnels, each sent under its id until it has an outcome.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use async_nats::HeaderMap;
use serde_json::json;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use wanwright_nats::accounts::Role;
use wanwright_schemas::headers;
use wanwright_schemas::ids::CommandId;
use wanwright_schemas::subjects::{CommandSubject, PARTITIONS};

use crate::endpoints::{Endpoints, Login};
use crate::send;

/// Pause between two changes.
const PAUSE: Duration = Duration::from_millis(60);

/// An object whose one field is changed again and again.
#[derive(Debug, Clone)]
struct Subject {
    kind: &'static str,
    object: String,
    field: &'static str,
    range: std::ops::Range<u32>,
}

/// What was accepted.
#[derive(Debug, Default)]
pub struct Accepted {
    /// Every accepted command, with its customer.
    pub commands: Vec<(String, CommandId)>,
    /// The last accepted value of each object: (kind, name at the vendor, field) to value.
    pub values: BTreeMap<(&'static str, String, &'static str), u32>,
    /// How many requests went without an answer and were sent again.
    pub asked_again: u64,
}

/// How the load reaches the system.
#[derive(Debug, Clone)]
pub struct Reach {
    /// The system's folder.
    pub home: PathBuf,
    /// Where NATS is reached, if something stands before it.
    pub nats: Option<SocketAddr>,
}

impl Reach {
    /// Where everything is, seen from here.
    pub fn endpoints(&self) -> Result<Endpoints> {
        let mut endpoints = Endpoints::read(&self.home)?;
        if let Some(nats) = self.nats {
            endpoints.nats = format!("nats://{nats}");
        }
        Ok(endpoints)
    }
}

/// What may be changed in the demo's fleet.
fn subjects() -> Vec<Subject> {
    let device =
        |object: &str| Subject { kind: "device", object: object.to_owned(), field: "vlan", range: 2..1002 };
    let tunnel =
        |object: &str| Subject { kind: "tunnel", object: object.to_owned(), field: "mtu", range: 600..1500 };
    let mut subjects = Vec::new();
    for (customer, city) in [("acme", "oslo"), ("globex", "milan"), ("initech", "denver")] {
        subjects.extend((1..=8).map(|n| device(&format!("{customer}/{city}-ap-{n:02}"))));
        subjects.push(tunnel(&format!("{customer}/{city}-01-eu")));
        subjects.push(tunnel(&format!("{customer}/{city}-01-us")));
    }
    subjects
}

/// Changes things until told to stop; every change that was begun is brought to its outcome.
pub async fn run(
    reach: Reach,
    seed: u64,
    accepted: Arc<Mutex<Accepted>>,
    stop: CancellationToken,
    abandon: CancellationToken,
) -> Result<()> {
    let mut random = fastrand::Rng::with_seed(seed);
    let subjects = subjects();
    let mut connection: Option<wanwright_nats::Nats> = None;
    while !stop.is_cancelled() {
        let of = &subjects[random.usize(..subjects.len())];
        let value = random.u32(of.range.clone());
        let subject = send::subject("demo", of.kind, "change", &of.object)?;
        let id = CommandId::mint();
        let body = json!({ "settings": { of.field: value } }).to_string();
        loop {
            if abandon.is_cancelled() {
                return Ok(());
            }
            match ask(&reach, &mut connection, &subject, id, &body).await {
                Ok(Some(Answer::Accepted { recorded })) => {
                    let mut accepted = accepted.lock().await;
                    let name = of.object.replace('/', ".");
                    accepted.values.insert((of.kind, name, of.field), value);
                    if recorded {
                        accepted.commands.push((subject.customer.to_string(), id));
                    }
                    break;
                }
                // The fleet is not there yet.
                Ok(Some(Answer::Refused)) => break,
                Ok(None) | Err(_) => {
                    accepted.lock().await.asked_again += 1;
                    connection = None;
                    tokio::time::sleep(PAUSE * 5).await;
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// An outcome, as far as it matters here.
enum Answer {
    Accepted { recorded: bool },
    Refused,
}

/// Asks once. `None`: nobody is there to ask.
async fn ask(
    reach: &Reach,
    connection: &mut Option<wanwright_nats::Nats>,
    subject: &CommandSubject,
    id: CommandId,
    body: &str,
) -> Result<Option<Answer>> {
    if connection.is_none() {
        let Ok(endpoints) = reach.endpoints() else { return Ok(None) };
        *connection = Some(
            wanwright_nats::connect(
                endpoints.access(Login::Role(Role::Admin))?,
                "wanwright-soak",
                PARTITIONS,
            )
            .await?,
        );
    }
    let Some(nats) = connection else { return Ok(None) };
    let mut head = HeaderMap::new();
    head.insert(headers::COMMAND_ID, id.to_string().as_str());
    let outcome = send::request(nats, subject, head, body.as_bytes().to_vec()).await?;
    match outcome.refusal() {
        // A change to the value that is there already is accepted and records nothing.
        None => Ok(Some(Answer::Accepted { recorded: outcome.position().is_some() })),
        Some(refusal) if refusal.code == wanwright_schemas::reason::Reason::Unavailable => Ok(None),
        Some(_) => Ok(Some(Answer::Refused)),
    }
}
