//! The back door of the simulated vendor: what really arrived there, and when.

use std::time::Duration;

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde_json::Value;
use wanwright_simulator::{Call, Calls, Faults, Objects, Stats, Violation, Violations};

use crate::endpoints::Endpoints;

/// The judge of the vendor's side.
#[derive(Debug, Clone)]
pub struct BackDoor {
    client: reqwest::Client,
    base: String,
    token: String,
}

impl BackDoor {
    /// The one of a running system.
    pub fn new(endpoints: &Endpoints) -> Result<Self> {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).build()?;
        let (base, token) = (endpoints.simulator.clone(), endpoints.simulator_admin_token.clone());
        Ok(Self { client, base, token })
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T> {
        let url = format!("{}/_sim/{path}", self.base);
        let asked = self.client.get(url).query(query).bearer_auth(&self.token).send().await;
        let answer = asked.and_then(reqwest::Response::error_for_status);
        answer.with_context(|| format!("asking the simulator for {path}"))?.json().await.map_err(Into::into)
    }

    /// What it counts.
    pub async fn stats(&self) -> Result<Stats> {
        self.get("stats", &[]).await
    }

    /// The calls above its limit.
    pub async fn violations(&self) -> Result<Vec<Violation>> {
        let found: Violations = self.get("violations", &[]).await?;
        Ok(found.violations)
    }

    /// The number of its last call.
    pub async fn last_call(&self) -> Result<u64> {
        let calls: Calls = self.get("calls", &[("after", &u64::MAX.to_string())]).await?;
        Ok(calls.last)
    }

    /// All objects of a kind.
    pub async fn objects(&self, kind: &str) -> Result<Vec<serde_json::Map<String, Value>>> {
        let found: Objects = self.get(&format!("objects/{kind}"), &[]).await?;
        Ok(found.items)
    }

    /// A field of the object of a kind and name.
    pub async fn field(&self, kind: &str, name: &str, field: &str) -> Result<Option<Value>> {
        let found: Objects = self.get(&format!("objects/{kind}"), &[("name", name)]).await?;
        Ok(found.items.first().and_then(|object| object.get(field)).cloned())
    }

    /// Sets what goes wrong from now on, instead of what did before.
    pub async fn faults(&self, faults: &Faults) -> Result<()> {
        let url = format!("{}/_sim/faults", self.base);
        let put = self.client.put(url).bearer_auth(&self.token).json(faults).send().await;
        put.and_then(reqwest::Response::error_for_status).context("setting faults at the simulator")?;
        Ok(())
    }
}

/// The calls of a stretch of time, fetched while they happen: the vendor keeps the latest ones only.
#[derive(Debug)]
pub struct Listener {
    door: BackDoor,
    after: u64,
    calls: Vec<Call>,
}

impl Listener {
    /// Listens from now on.
    pub async fn begin(door: &BackDoor) -> Result<Self> {
        Ok(Self { door: door.clone(), after: door.last_call().await?, calls: Vec::new() })
    }

    /// Fetches what came since; at least once a minute.
    pub async fn listen(&mut self) -> Result<()> {
        let after = self.after.to_string();
        let came: Calls = self.door.get("calls", &[("after", &after)]).await?;
        if let Some(first) = came.calls.first() {
            anyhow::ensure!(
                first.seq == self.after + 1,
                "the simulator forgot calls before they were fetched"
            );
        }
        self.after = came.last;
        self.calls.extend(came.calls);
        Ok(())
    }

    /// What came so far.
    pub fn calls(&self) -> &[Call] {
        &self.calls
    }
}
