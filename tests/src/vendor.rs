//! The back door of the simulated vendor: what really happened there.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use wanwright_simulator::{Calls, Counters, Objects, Stats, Violations};

/// The judge.
#[derive(Debug, Clone)]
pub struct Vendor {
    client: reqwest::Client,
    base: String,
    token: String,
}

impl Vendor {
    /// The one at this address.
    pub fn new(base: &str, token: &str) -> Result<Self> {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?;
        Ok(Self { client, base: base.to_owned(), token: token.to_owned() })
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Vec<u8>> {
        let mut request =
            self.client.request(method, format!("{}/_sim/{path}", self.base)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer =
            request.send().await?.error_for_status().with_context(|| format!("asking for {path}"))?;
        Ok(answer.bytes().await?.to_vec())
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        Ok(serde_json::from_slice(&self.ask(Method::GET, path, None).await?)?)
    }

    /// Everything it counts.
    pub async fn stats(&self) -> Result<Stats> {
        self.get("stats").await
    }

    /// What happened to the objects of one name.
    pub async fn counters(&self, kind: &str, name: &str) -> Result<Counters> {
        let stats = self.stats().await?;
        Ok(stats.kinds.get(kind).and_then(|kind| kind.names.get(name)).copied().unwrap_or_default())
    }

    /// Calls after a number, and the number of the last one.
    pub async fn calls(&self, after: u64) -> Result<Calls> {
        self.get(&format!("calls?after={after}")).await
    }

    /// The object of a name.
    pub async fn object(&self, kind: &str, name: &str) -> Result<Option<Map<String, Value>>> {
        let found: Objects = self.get(&format!("objects/{kind}?name={name}")).await?;
        Ok(found.items.into_iter().next())
    }

    async fn id(&self, kind: &str, name: &str) -> Result<String> {
        let object = self.object(kind, name).await?.with_context(|| format!("no {kind} named {name}"))?;
        Ok(object.get("id").and_then(Value::as_str).context("an object has no id")?.to_owned())
    }

    /// Changes an object behind everybody's back.
    pub async fn drift(&self, kind: &str, name: &str, change: &Value) -> Result<()> {
        let path = format!("objects/{kind}/{}", self.id(kind, name).await?);
        self.ask(Method::PATCH, &path, Some(change)).await.map(drop)
    }

    /// Deletes an object behind everybody's back.
    pub async fn delete(&self, kind: &str, name: &str) -> Result<()> {
        let path = format!("objects/{kind}/{}", self.id(kind, name).await?);
        self.ask(Method::DELETE, &path, None).await.map(drop)
    }

    /// Sets what shall go wrong; `json!({})` ends it.
    pub async fn faults(&self, faults: &Value) -> Result<()> {
        self.ask(Method::PUT, "faults", Some(faults)).await.map(drop)
    }

    /// Nothing goes wrong any more.
    pub async fn heal(&self) -> Result<()> {
        self.faults(&json!({})).await
    }

    /// Fails unless every object whose name begins so was made exactly once, there are that many, and no call was above
    /// the limit.
    pub async fn judge(&self, prefix: &str, objects: usize) -> Result<()> {
        let stats = self.stats().await?;
        let mut seen = 0;
        for (kind, of_kind) in &stats.kinds {
            for (name, counters) in of_kind.names.iter().filter(|(name, _)| name.starts_with(prefix)) {
                ensure!(counters.creations == 1, "{kind} {name} was made {} times", counters.creations);
                ensure!(counters.deletions == 0, "{kind} {name} was deleted");
                seen += 1;
            }
        }
        ensure!(seen == objects, "the vendor has {seen} objects of {prefix}*, not {objects}");
        let above: Violations = self.get("violations").await?;
        ensure!(above.violations.is_empty(), "calls above the limit: {:?}", above.violations);
        Ok(())
    }

    /// How many objects were made so far.
    pub async fn made(&self) -> Result<u64> {
        Ok(self.stats().await?.kinds.values().map(|kind| kind.totals.creations).sum())
    }
}
