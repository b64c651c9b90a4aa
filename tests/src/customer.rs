//! A customer who sends commands as any NATS client would.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use async_nats::HeaderMap;
use serde_json::{Value, json};
use uuid::Uuid;
use wanwright_nats::Nats;
use wanwright_nats::publish::publish;

/// What a command was answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer(pub Value);

/// A new command id.
pub fn mint() -> String {
    Uuid::now_v7().to_string()
}

/// A command id minted that many seconds from now.
pub fn mint_at(seconds: i64) -> Result<String> {
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let millis = u64::try_from(now + seconds * 1000)?;
    let id = uuid::Builder::from_unix_timestamp_millis(millis, &[7; 10]).into_uuid();
    Ok(id.to_string())
}

impl Answer {
    /// A field of the outcome.
    pub fn get(&self, pointer: &str) -> Option<&Value> {
        self.0.pointer(pointer)
    }

    /// The refusal's code, if it is one.
    pub fn code(&self) -> Option<&str> {
        self.get("/code")?.as_str()
    }

    /// Whether it says that it is the first outcome, said again.
    pub fn repeated(&self) -> bool {
        self.get("/repeated") == Some(&json!(true))
    }

    /// Where its events are, as text.
    pub fn position(&self) -> Option<String> {
        let position = self.get("/position")?;
        Some(format!("{}/{}", position.get("stream")?.as_str()?, position.get("sequence")?.as_u64()?))
    }

    /// Fails unless it was accepted.
    pub fn accepted(self) -> Result<Self> {
        ensure!(self.get("/status") == Some(&json!("accepted")), "not accepted: {}", self.0);
        Ok(self)
    }

    /// Fails unless it was refused with this code, in a way that a person can act on.
    pub fn refused(self, code: &str) -> Result<Self> {
        ensure!(self.code() == Some(code), "not refused with {code}: {}", self.0);
        let says =
            |pointer: &str| self.get(pointer).and_then(Value::as_str).is_some_and(|text| text.len() > 5);
        ensure!(says("/message") && says("/next"), "says too little: {}", self.0);
        ensure!(self.get("/number").is_some_and(Value::is_number), "has no number: {}", self.0);
        Ok(self)
    }
}

/// A customer.
#[derive(Debug, Clone)]
pub struct Customer {
    /// Its name.
    pub name: String,
    /// Its connection.
    pub nats: Nats,
}

impl Customer {
    /// A customer with this name.
    pub fn new(nats: Nats, name: &str) -> Result<Self> {
        Ok(Self { name: name.to_owned(), nats })
    }

    /// The tail of a command's subject: `demo.site.oslo.create` for `site`, `oslo`, `create`.
    fn subject(&self, door: &str, tail: &str) -> String {
        format!("wan.{door}.{}.demo.{tail}", self.name)
    }

    /// Asks and waits for the outcome. `tail` is `<kind>.<id>.<verb>`.
    pub async fn ask(&self, id: &str, tail: &str, body: &Value) -> Result<Answer> {
        let mut head = HeaderMap::new();
        head.insert("Wan-Command-Id", id);
        self.ask_raw(&self.subject("do", tail), head, body.to_string().into_bytes()).await
    }

    /// The same with a new id.
    pub async fn send(&self, tail: &str, body: &Value) -> Result<Answer> {
        self.ask(&mint(), tail, body).await
    }

    /// Asks on any subject, with any headers and any body.
    pub async fn ask_raw(&self, subject: &str, head: HeaderMap, body: Vec<u8>) -> Result<Answer> {
        let asked = self.nats.client.request_with_headers(subject.to_owned(), head, body.into());
        let reply = tokio::time::timeout(Duration::from_secs(20), asked).await?.context("asking")?;
        Ok(Answer(serde_json::from_slice(&reply.payload).context("the answer is no JSON")?))
    }

    /// Publishes into the durable inbox. Answers the place in it.
    pub async fn publish(&self, id: Option<&str>, tail: &str, body: &Value) -> Result<u64> {
        let mut head = HeaderMap::new();
        if let Some(id) = id {
            head.insert("Wan-Command-Id", id);
        }
        let body = body.to_string().into_bytes();
        Ok(publish(&self.nats.js, self.subject("cmd", tail), head, body.into()).await?)
    }

    /// The outcome of a command in the stream of outcomes, if it is there. What came through the inbox is there before it
    /// leaves it; a request is answered without waiting for that.
    pub async fn outcome(&self, id: &str) -> Result<Option<Answer>> {
        let stream = self.nats.js.get_stream_no_info("OUTCOMES").await?;
        let subject = format!("wan.out.{}.{id}", self.name);
        match stream.direct_get_last_for_subject(subject).await {
            Ok(message) => Ok(Some(Answer(serde_json::from_slice(&message.payload)?))),
            Err(error) if error.kind() == async_nats::jetstream::stream::DirectGetErrorKind::NotFound => {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The envelopes of its history.
    pub async fn history(&self) -> Result<Vec<Value>> {
        let history = wanwright_nats::History::new(self.nats.clone());
        let messages = history.load(&self.name.parse()?, 0).await?;
        messages.iter().map(|message| Ok(serde_json::from_slice(&message.payload)?)).collect()
    }

    /// Creates a site with that many tunnels to hubs and devices. `net` keeps its addresses apart from those of the
    /// customer's other sites.
    pub async fn site(&self, site: &str, net: u8, tunnels: u8, devices: u8) -> Result<i64> {
        for (tail, body) in self.fleet(site, net, tunnels, devices) {
            self.send(&tail, &body).await?.accepted().with_context(|| tail.clone())?;
        }
        Ok(1 + i64::from(tunnels) + i64::from(devices))
    }

    /// The commands for that.
    pub fn fleet(&self, site: &str, net: u8, tunnels: u8, devices: u8) -> Vec<(String, Value)> {
        let lan = format!("10.{net}.0.0/24");
        let mut commands = vec![(format!("site.{site}.create"), json!({ "vendor": "simwan", "lan": [lan] }))];
        for n in 0..tunnels {
            let inside = format!("169.254.{net}.{}/30", n * 4);
            let body = json!({ "site": site, "peer": { "hub": "hub-eu" }, "inside": inside });
            commands.push((format!("tunnel.{site}-t{n}.create"), body));
        }
        for n in 0..devices {
            let serial = format!("SN-{}-{}-{n}", self.name, site).to_uppercase();
            let body =
                json!({ "site": site, "serial": serial, "model": "edge-100", "settings": { "vlan": 10 } });
            commands.push((format!("device.{site}-d{n}.create"), body));
        }
        commands
    }
}
