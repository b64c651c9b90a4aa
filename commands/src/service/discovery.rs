//! Discovery: who asks `$SRV.PING`, `$SRV.INFO` or `$SRV.STATS` learns of the service as of any NATS service (ADR-32), and
//! who asks `wan.explain` learns what the vendors offer.
//!
//! The doors for commands are opened elsewhere, so this is not the client library's service but the same protocol: every
//! process answers for itself.

mod counts;

use std::sync::Arc;

use async_nats::{HeaderMap, Message, Subscriber};
use futures::StreamExt;
use futures::stream::select_all;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wanwright_nats::{Nats, NatsError};
use wanwright_schemas::ids::Kind;
use wanwright_schemas::reason::{Reason, Refusal};
use wanwright_schemas::{headers, subjects};
use wanwright_vendors::{KindSchemas, SchemaVersion, Vendors};

pub(super) use counts::Counts;

use super::cache::Cache;
use super::requests;
use crate::explain;

/// The service's name, by which it is found.
pub const NAME: &str = "wanwright-commands";

/// What a process can be asked about itself.
const QUESTIONS: [&str; 3] = ["PING", "INFO", "STATS"];

/// The queue group: one process answers each question about the vendors.
const QUEUE: &str = "commands";

/// The name of the endpoint that explains.
const EXPLAIN: &str = "explain";

pub(super) struct Discovery {
    nats: Nats,
    vendors: Vendors,
    counts: Arc<Counts>,
    cache: Cache,
    id: String,
    started: Timestamp,
    asked: Vec<Subscriber>,
}

impl Discovery {
    /// Subscribes; `id` tells this process from others.
    pub(super) async fn open(
        nats: &Nats,
        vendors: Vendors,
        (counts, cache): (Arc<Counts>, Cache),
        id: String,
    ) -> Result<Self, NatsError> {
        const DOING: &str = "subscribing to discovery";
        let mut asked = Vec::new();
        for question in QUESTIONS {
            for subject in [
                format!("$SRV.{question}"),
                format!("$SRV.{question}.{NAME}"),
                format!("$SRV.{question}.{NAME}.{id}"),
            ] {
                asked.push(nats.client.subscribe(subject).await.map_err(NatsError::failed(DOING))?);
            }
        }
        for subject in [subjects::EXPLAIN, subjects::EXPLAIN_ALL] {
            let opened = nats.client.queue_subscribe(subject, QUEUE.to_owned()).await;
            asked.push(opened.map_err(NatsError::failed(DOING))?);
        }
        nats.subscribed().await?;
        let started = Timestamp::now();
        Ok(Self { nats: nats.clone(), vendors, counts, cache, id, started, asked })
    }

    /// Answers until told to stop.
    pub(super) async fn serve(mut self, stop: CancellationToken) -> &'static str {
        let mut asked = select_all(std::mem::take(&mut self.asked));
        loop {
            let message = tokio::select! {
                () = stop.cancelled() => break,
                message = asked.next() => message,
            };
            let Some(message) = message else { break };
            self.answer(message).await;
        }
        "discovery"
    }

    async fn answer(&self, message: Message) {
        let Some(to) = message.reply.clone().filter(|to| requests::is_answered(to)) else { return };
        let began = Instant::now();
        let answer = match message.subject.strip_prefix("$SRV.") {
            Some(question) => Ok(self.about_itself(question.split('.').next().unwrap_or_default())),
            None => explained(&self.vendors, &message),
        };
        let mut head = HeaderMap::new();
        let body = match &answer {
            Ok(body) => body.to_string(),
            Err(refusal) => {
                let sentence: String = refusal.message.chars().filter(|c| !c.is_control()).collect();
                head.insert(headers::SERVICE_ERROR, sentence.as_str());
                head.insert(headers::SERVICE_ERROR_CODE, refusal.code.number().to_string().as_str());
                json!({ "refused": refusal }).to_string()
            }
        };
        if !message.subject.starts_with("$SRV.") {
            self.counts.note_explained(began.elapsed(), answer.as_ref().err());
        }
        if let Err(error) = self.nats.client.publish_with_headers(to, head, body.into()).await {
            tracing::warn!(%error, "a question about the service could not be answered");
        }
    }

    fn about_itself(&self, question: &str) -> Value {
        let mut answer = json!({
            "name": NAME,
            "id": self.id,
            "version": env!("CARGO_PKG_VERSION"),
            "metadata": { "docs": "wanwright explain", "explain": subjects::EXPLAIN },
            "type": format!("io.nats.micro.v1.{}_response", question.to_lowercase()),
        });
        match question {
            "INFO" => {
                answer["description"] = json!("Decides commands about sites, tunnels and devices.");
                answer["endpoints"] = self.endpoints(|name| json!({ "metadata": self.metadata(name) }));
            }
            "STATS" => {
                answer["started"] = json!(self.started);
                answer["endpoints"] = self.endpoints(|name| self.stats(name));
            }
            _ => {}
        }
        answer
    }

    /// Every endpoint, with what is to be said of it.
    fn endpoints(&self, says: impl Fn(&str) -> Value) -> Value {
        let kinds = Kind::ALL.map(|kind| (kind.as_str(), subjects::commands_about(kind)));
        let explain = [(EXPLAIN, subjects::EXPLAIN_ALL.to_owned())];
        let all = kinds.into_iter().chain(explain).map(|(name, subject)| {
            let mut endpoint = json!({ "name": name, "subject": subject, "queue_group": QUEUE });
            if let (Value::Object(endpoint), Value::Object(says)) = (&mut endpoint, says(name)) {
                endpoint.extend(says);
            }
            endpoint
        });
        all.collect()
    }

    /// The counts of an endpoint. States are kept by customer, so the endpoint of that name tells how much room they take.
    fn stats(&self, name: &str) -> Value {
        let mut stats = self.counts.stats(name);
        if name == Kind::Customer.as_str() {
            stats["data"] = json!({ "cache": self.cache.stats() });
        }
        stats
    }

    /// What the protocol allows to say of an endpoint: texts.
    fn metadata(&self, name: &str) -> Value {
        let Some(kind) = Kind::parse(name) else {
            return json!({ "docs": "wan.explain, wan.explain.<vendor>, wan.explain.<vendor>.<kind>" });
        };
        let vendors = self.vendors.snapshot();
        let said = |schemas: &KindSchemas| {
            let served: Vec<String> = schemas.served().map(|version| version.to_string()).collect();
            format!("{} (stored {})", served.join(" "), schemas.stored())
        };
        let versions: Vec<String> = vendors
            .iter()
            .filter_map(|vendor| Some(format!("{}: {}", vendor.name, said(vendor.schemas.get(name)?))))
            .collect();
        let verbs: Vec<&str> = explain::public_verbs(kind).collect();
        json!({
            "verbs": verbs.join(","),
            "schema": format!("{}.<vendor>.{kind}", subjects::EXPLAIN),
            "versions": versions.join("; "),
            "docs": format!("wanwright explain <vendor> {kind}"),
        })
    }
}

/// Answers a question about the vendors.
fn explained(live: &Vendors, message: &Message) -> Result<Value, Refusal> {
    let vendors = live.snapshot();
    let tokens: Vec<&str> = message.subject.split('.').skip(2).collect();
    let said = match tokens[..] {
        [] => {
            let offered = explain::vendors(&vendors);
            return Ok(json!({ "vendors": offered, "problem": live.problem() }));
        }
        [vendor] => serde_json::to_value(explain::vendor(explain::named(&vendors, vendor)?)),
        [vendor, kind] => {
            let kind = Kind::parse(kind).ok_or_else(|| {
                let shown: String = kind.chars().take(80).collect();
                Refusal::new(Reason::UnknownKind, format!("there is no kind `{shown}`"))
            })?;
            let vendor = explain::named(&vendors, vendor)?;
            serde_json::to_value(explain::kind(vendor, kind, version(message)?)?)
        }
        _ => {
            let what = "ask wan.explain, wan.explain.<vendor> or wan.explain.<vendor>.<kind>";
            return Err(Refusal::new(Reason::BadSubject, what));
        }
    };
    said.map_err(|error| Refusal::new(Reason::Internal, error.to_string()))
}

fn version(message: &Message) -> Result<Option<SchemaVersion>, Refusal> {
    let header = message.headers.as_ref().and_then(|headers| headers.get(headers::SCHEMA));
    let bad = |error: wanwright_vendors::InvalidVersion| {
        Refusal::new(Reason::BadHeader, format!("{}: {error}", headers::SCHEMA)).field(headers::SCHEMA)
    };
    header.map(|text| text.as_str().trim().parse().map_err(bad)).transpose()
}

#[cfg(test)]
mod tests {
    use async_nats::HeaderValue;
    use proptest::prelude::*;
    use wanwright_vendors::Catalogue;

    use super::*;

    fn vendors() -> &'static Vendors {
        static VENDORS: std::sync::OnceLock<Vendors> = std::sync::OnceLock::new();
        VENDORS.get_or_init(|| {
            Arc::new(Catalogue::load(concat!(env!("CARGO_MANIFEST_DIR"), "/../vendors")).unwrap()).into()
        })
    }

    fn token() -> impl Strategy<Value = String> {
        let known = prop::sample::select(vec!["simwan", "site", "tunnel", "device", "customer", "*", ""]);
        prop_oneof![4 => known.prop_map(str::to_owned), 1 => any::<String>()]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whoever asks about the vendors is told, or told by name why not.
        #[test]
        fn hostile_questions(
            tokens in prop::collection::vec(token(), 0..4),
            version in prop_oneof![Just("v1".to_owned()), "v[0-9]{0,12}", any::<String>()],
        ) {
            let subject = tokens.iter().fold(subjects::EXPLAIN.to_owned(), |all, token| format!("{all}.{token}"));
            let mut head = HeaderMap::new();
            if let Ok(version) = version.parse::<HeaderValue>() {
                head.insert(headers::SCHEMA, version);
            }
            let (reply, payload, headers) = (None, Default::default(), Some(head));
            let message = Message {
                subject: subject.into(), reply, payload, headers, status: None, description: None, length: 0,
            };
            match explained(vendors(), &message) {
                Ok(said) => prop_assert!(said.is_object(), "{said}"),
                Err(refusal) => {
                    prop_assert!(refusal.code != Reason::Internal && !refusal.message.is_empty(), "{refusal}");
                    prop_assert!(refusal.message.len() < 4096, "{refusal}");
                }
            }
        }
    }
}
