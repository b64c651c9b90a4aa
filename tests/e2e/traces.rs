//! A trace goes through: from a command over its order to what the executor reports.

use anyhow::{Result, ensure};
use async_nats::HeaderMap;
use serde_json::json;
use wanwright_nats::{History, load_subject, topology};
use wanwright_schemas::Envelope;
use wanwright_tests::{Timing, level, mint};

use crate::support::shared;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[tokio::test(flavor = "multi_thread")]
async fn what_an_executor_reports_belongs_to_the_trace_of_the_command() -> Result<()> {
    let _timing = Timing::of("a trace, from the command to the report");
    let customer = shared().await?.customer("traced").await?;
    let mut head = HeaderMap::new();
    head.insert("Wan-Command-Id", mint().as_str());
    head.insert("traceparent", PARENT);
    head.insert("tracestate", "rojo=1");
    let body = json!({ "vendor": "simwan", "lan": ["10.1.0.0/24"] }).to_string().into_bytes();
    customer.ask_raw("wan.do.traced.demo.site.oslo.create", head, body).await?.accepted()?;
    let history = History::new(customer.nats.clone());
    let (messages, _) = level::reach("the site is applied", level::LONG, async || {
        let messages = history.load(&customer.name.parse()?, 0).await?;
        let last = messages.last().map(|last| Envelope::decode(&last.payload)).transpose()?;
        let is_applied = last.is_some_and(|last| last.events.iter().any(|e| e.type_name() == "SiteApplied"));
        Ok(is_applied.then_some(messages))
    })
    .await?;
    ensure!(messages.len() == 2, "created and applied, not {}", messages.len());
    let records = load_subject(&customer.nats, topology::RUNS, "wan.run.traced.>", 0).await?;
    ensure!(!records.is_empty(), "nothing is written of the run");
    for message in messages.iter().chain(&records) {
        let header = |name: &str| message.headers.get(name).map(|value| value.as_str());
        ensure!(header("traceparent") == Some(PARENT), "{}: {:?}", message.subject, message.headers);
        ensure!(header("tracestate") == Some("rojo=1"), "{}: {:?}", message.subject, message.headers);
    }
    Ok(())
}
