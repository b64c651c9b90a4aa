//! Commands of the campaign.

use anyhow::Result;
use futures::stream::{self, StreamExt, TryStreamExt};
use serde_json::{Value, json};
use wanwright_nats::Nats;
use wanwright_schemas::CommandId;
use wanwright_schemas::control::{ControlRequest, Scope};
use wanwright_schemas::services;

use crate::bench::ask::ask;
use crate::endpoints::PERSON;
use crate::{pause, send};

/// How many commands are under way at once, of as many customers.
const AT_ONCE: usize = 64;

/// The name of the nth customer.
pub fn customer(number: u32) -> String {
    format!("fleet-{number:03}")
}

/// Sends one command and insists on its being accepted.
pub async fn accepted(nats: &Nats, kind: &str, verb: &str, object: &str, body: &Value) -> Result<()> {
    let subject = send::subject(PERSON, kind, verb, object)?;
    let outcome = ask(nats, &subject, CommandId::mint(), body.to_string().into_bytes()).await?;
    match outcome.refusal() {
        Some(refusal) => anyhow::bail!("{kind} {verb} {object}: {refusal}"),
        None => Ok(()),
    }
}

/// Has a customer's orders wait, or go on.
pub async fn hold(nats: &Nats, customer: &str, paused: bool) -> Result<()> {
    let scope = Scope::parse("customer", customer).map_err(|refusal| anyhow::anyhow!("{refusal}"))?;
    let request = ControlRequest { reason: "its orders gather".to_owned(), until: None };
    match pause::said(nats, services::control(&PERSON.parse()?, &scope, paused), &request).await? {
        Ok(_) => Ok(()),
        Err(refused) => anyhow::bail!("{customer} is not held back: {refused:?}"),
    }
}

/// Creates a customer's site.
pub async fn site(nats: &Nats, customer: &str) -> Result<()> {
    let body = json!({ "vendor": "simwan", "lan": ["10.0.0.0/24"] });
    accepted(nats, "site", "create", &format!("{customer}/site-01"), &body).await
}

/// Creates devices of a customer, one after the other. Their vlan is 2.
pub async fn devices(nats: &Nats, customer: &str, devices: u32) -> Result<()> {
    for number in 0..devices {
        let serial = format!("{}-{number:05}", customer.to_uppercase());
        let body = json!({
            "site": "site-01", "serial": serial, "model": "edge-100", "settings": { "vlan": 2 },
        });
        accepted(nats, "device", "create", &device(customer, number), &body).await?;
    }
    Ok(())
}

/// A device as commands name it.
pub fn device(customer: &str, number: u32) -> String {
    format!("{customer}/device-{number:05}")
}

/// Changes a device's vlan.
pub async fn vlan(nats: &Nats, device: &str, vlan: u32) -> Result<()> {
    accepted(nats, "device", "change", device, &json!({ "settings": { "vlan": vlan } })).await
}

/// Does something for each customer, many beside each other.
pub async fn each<F>(customers: u32, act: impl Fn(String) -> F) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    stream::iter(0..customers)
        .map(|number| act(customer(number)))
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<()>>()
        .await
        .map(drop)
}
