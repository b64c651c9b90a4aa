//! The load of a soak: changes of devices and tunnels, each sent under its id until it has an outcome.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use async_nats::HeaderMap;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use wanwright_nats::accounts::Role;
use wanwright_schemas::ids::CommandId;
use wanwright_schemas::reason::Reason;
use wanwright_schemas::subjects::{CommandSubject, PARTITIONS};
use wanwright_schemas::{Refusal, headers};

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
    /// Devices with fresh names, as the vendor names them, and whether they were decommissioned.
    pub devices: BTreeMap<String, bool>,
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
pub async fn run(mut caller: Caller, seed: u64, stop: CancellationToken) -> Result<()> {
    let mut random = fastrand::Rng::with_seed(seed);
    let subjects = subjects();
    while !stop.is_cancelled() {
        let of = &subjects[random.usize(..subjects.len())];
        let value = random.u32(of.range.clone());
        let body = json!({ "settings": { of.field: value } });
        match caller.bring(of.kind, "change", &of.object, &body).await? {
            Brought::Accepted => {
                let name = of.object.replace('/', ".");
                caller.accepted.lock().await.values.insert((of.kind, name, of.field), value);
            }
            // The fleet is not there yet.
            Brought::Refused(_) => {}
            Brought::Abandoned => return Ok(()),
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// What became of a command.
pub enum Brought {
    /// It was accepted.
    Accepted,
    /// It was refused, and why.
    Refused(Refusal),
    /// Nobody wants to know any more.
    Abandoned,
}

/// Somebody who sends commands, and what of his was accepted.
pub struct Caller {
    reach: Reach,
    /// What was accepted.
    pub accepted: Arc<Mutex<Accepted>>,
    abandon: CancellationToken,
    connection: Option<wanwright_nats::Nats>,
}

impl Caller {
    /// One who gives up when told to.
    pub fn new(reach: Reach, accepted: Arc<Mutex<Accepted>>, abandon: CancellationToken) -> Self {
        Self { reach, accepted, abandon, connection: None }
    }

    /// Sends a command under its id until it has an outcome.
    pub async fn bring(&mut self, kind: &str, verb: &str, object: &str, body: &Value) -> Result<Brought> {
        let subject = send::subject("demo", kind, verb, object)?;
        let (id, body) = (CommandId::mint(), body.to_string());
        loop {
            if self.abandon.is_cancelled() {
                return Ok(Brought::Abandoned);
            }
            match self.ask(&subject, id, &body).await {
                Ok(Some(Answer::Accepted { recorded })) => {
                    if recorded {
                        let command = (subject.customer.to_string(), id);
                        self.accepted.lock().await.commands.push(command);
                    }
                    return Ok(Brought::Accepted);
                }
                Ok(Some(Answer::Refused(refusal))) => return Ok(Brought::Refused(refusal)),
                Ok(None) | Err(_) => {
                    self.accepted.lock().await.asked_again += 1;
                    self.connection = None;
                    tokio::time::sleep(PAUSE * 5).await;
                }
            }
        }
    }

    /// Asks once. `None`: nobody is there to ask.
    async fn ask(&mut self, subject: &CommandSubject, id: CommandId, body: &str) -> Result<Option<Answer>> {
        if self.connection.is_none() {
            let Ok(endpoints) = self.reach.endpoints() else { return Ok(None) };
            let access = endpoints.access(Login::Role(Role::Admin))?;
            self.connection = Some(wanwright_nats::connect(access, "wanwright-soak", PARTITIONS).await?);
        }
        let Some(nats) = &self.connection else { return Ok(None) };
        let mut head = HeaderMap::new();
        head.insert(headers::COMMAND_ID, id.to_string().as_str());
        let outcome = send::request(nats, subject, head, body.as_bytes().to_vec()).await?;
        match outcome.refusal() {
            // A change to the value that is there already is accepted and records nothing.
            None => Ok(Some(Answer::Accepted { recorded: outcome.position().is_some() })),
            Some(refusal) if refusal.code == Reason::Unavailable => Ok(None),
            Some(refusal) => Ok(Some(Answer::Refused(refusal.clone()))),
        }
    }
}

/// An outcome, as far as it matters here.
enum Answer {
    Accepted { recorded: bool },
    Refused(Refusal),
}
