//! The API engine: carries a device's order out with the vendor's HTTP API, as the vendor's folder describes it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use wanwright_schemas::order::{Desired, DesiredDevice, Intent};
use wanwright_schemas::reason::Reason;
use wanwright_schemas::report::{DriftField, Finding, Outputs};
use wanwright_vendors::{ClientError, ClientOptions, RemoteObject, ResourceClient, VendorHttp};

use super::{Outcome, Run, of_device, reason_of, with_inputs};

/// Longer than the gateway lets a call wait and a vendor answer, so that it is the gateway that gives up first.
const CALL_TIMEOUT: Duration = Duration::from_secs(120);

/// Runs an order about a device.
pub async fn run(run: &Run<'_>) -> Outcome {
    let Desired::Device(device) = &run.order.desired else {
        return Outcome::Passing {
            code: Reason::Internal,
            message: "the API engine carries out devices only".into(),
            ours: true,
        };
    };
    match attempt(run, device).await {
        Ok(finding) => Outcome::Done(of_device(run.order, finding)),
        Err(error) if error.is_passing() => {
            Outcome::Passing { code: reason_of(&error), message: error.to_string(), ours: false }
        }
        Err(error) => {
            let (code, message) = (reason_of(&error), error.to_string());
            let generation = device.generation;
            match run.order.intent {
                // A look that the vendor refuses says nothing about the device.
                Intent::Observe { .. } => Outcome::Passing { code, message, ours: false },
                _ => Outcome::Done(of_device(run.order, Finding::Failed { generation, code, message })),
            }
        }
    }
}

async fn attempt(run: &Run<'_>, device: &DesiredDevice) -> Result<Finding, ClientError> {
    let configuration = |message: String| ClientError::Configuration { message };
    let api = run.vendor.api.get("device");
    let api =
        api.ok_or_else(|| configuration(format!("vendor {} has no api/device.toml", run.vendor.name)))?;
    let http = VendorHttp::new(&ClientOptions {
        base_url: run.base_url.to_owned(),
        connect_timeout: Duration::from_secs(5),
        call_timeout: CALL_TIMEOUT,
        headers: Vec::new(),
    })?;
    let client = ResourceClient::new(http, Arc::clone(api));
    let desired = serde_json::to_value(device).map_err(|error| configuration(error.to_string()))?;
    let attributes = api.desired_attributes(&desired);
    match run.order.intent {
        Intent::Apply => {
            let object = apply(run, &client, device, &attributes).await?;
            let outputs = with_inputs(outputs(&client, &object), device.inputs.clone());
            Ok(Finding::Applied { generation: device.generation, outputs })
        }
        Intent::Remove => {
            if let Some(id) = find(run, &client, device).await? {
                client.delete(&id).await?;
            }
            Ok(Finding::Removed)
        }
        Intent::Observe { check } => {
            let Some(id) = known(device) else { return Ok(Finding::InSync { check }) };
            let observed = client.read(id).await?;
            let fields = differences(&client, &attributes, id, observed.as_ref());
            Ok(if fields.is_empty() { Finding::InSync { check } } else { Finding::Drifted { check, fields } })
        }
    }
}

/// The id that the vendor gave the device, as far as it was reported.
fn known(device: &DesiredDevice) -> Option<&str> {
    device.known.get("id")?.as_str()
}

/// The id of the device at the vendor: reported, or found by its name because a run may have died before it reported.
async fn find(
    run: &Run<'_>,
    client: &ResourceClient,
    device: &DesiredDevice,
) -> Result<Option<String>, ClientError> {
    if let Some(id) = known(device) {
        return Ok(Some(id.to_owned()));
    }
    let found = client.find_by_name(&device.name).await?;
    if let Some(found) = &found {
        run.log.line("info", format!("found {} at the vendor as {}", device.name, found.id)).await;
    }
    Ok(found.map(|found| found.id))
}

async fn apply(
    run: &Run<'_>,
    client: &ResourceClient,
    device: &DesiredDevice,
    attributes: &Map<String, Value>,
) -> Result<RemoteObject, ClientError> {
    // With an idempotency key a second create finds what the first one made; without one it has to be looked for.
    let unsure = run.observe_first || client.api().idempotency_header.is_none();
    let id = match known(device) {
        Some(id) => Some(id.to_owned()),
        None if unsure => find(run, client, device).await?,
        None => None,
    };
    if let Some(id) = id {
        match client.update(&id, attributes).await {
            Err(error) if error.is_not_found() => {
                run.log.line("warn", format!("{id} is gone at the vendor; creating it again")).await;
            }
            updated => return updated,
        }
    }
    let created = client.create(attributes, Some(&device.uid.to_string())).await;
    let created = created.map_err(|error| error.source)?;
    if created.adopted {
        run.log.line("info", format!("an earlier run had made {}; it is adopted", created.object.id)).await;
    }
    Ok(created.object)
}

/// What others may need of the device: its id and whatever the vendor computes.
fn outputs(client: &ResourceClient, object: &RemoteObject) -> Outputs {
    let computed = client.api().attributes.iter().filter(|(_, attribute)| attribute.is_computed());
    let mut outputs: Outputs = computed
        .filter_map(|(name, _)| {
            Some((name.clone(), object.attributes.get(name).filter(|value| !value.is_null())?.clone()))
        })
        .collect();
    outputs.insert("id".to_owned(), Value::String(object.id.clone()));
    outputs
}

fn differences(
    client: &ResourceClient,
    desired: &Map<String, Value>,
    id: &str,
    observed: Option<&RemoteObject>,
) -> Vec<DriftField> {
    let Some(observed) = observed else {
        return vec![DriftField { field: "id".to_owned(), desired: id.into(), observed: Value::Null }];
    };
    let differences = client.api().differences(desired, &observed.attributes);
    let fields = differences.into_iter().map(|difference| DriftField {
        field: difference.attribute,
        desired: difference.desired,
        observed: difference.observed,
    });
    fields.collect()
}
