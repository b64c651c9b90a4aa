//! The API engine: carries a device's order out with the vendor's HTTP API, as the vendor's folder describes it.

use serde_json::{Map, Value};
use wanwright_schemas::order::{Desired, DesiredDevice, Intent};
use wanwright_schemas::reason::Reason;
use wanwright_schemas::report::{DriftField, Finding, Outputs};
use wanwright_vendors::{ClientError, Deleted, RemoteObject, ResourceClient};

use super::{Outcome, Run, of_device, reason_of, with_inputs};

/// The code of a create whose key belongs to another object.
const OTHER_VALUES: &str = "created_with_other_values";

/// Runs an order about a device.
pub async fn run(run: &Run<'_>) -> Outcome {
    let Desired::Device(device) = &run.order.desired else {
        return Outcome::Passing {
            code: Reason::Internal,
            message: "the API engine carries out devices only".into(),
            ours: false,
        };
    };
    let outcome = match attempt(run, device).await {
        Ok(finding) => Outcome::Done(of_device(run.order, finding)),
        Err(error) => failed(run, device, &error),
    };
    super::ended(run, outcome).await
}

fn failed(run: &Run<'_>, device: &DesiredDevice, error: &ClientError) -> Outcome {
    let (code, message) = (reason_of(error), error.to_string());
    // A look that the vendor refuses says nothing about the device.
    if error.is_passing() || !run.order.changes() {
        // Between here and the gateway there is nothing of the vendor's.
        let ours = matches!(error, ClientError::Network { .. });
        return Outcome::Passing { code, message, ours };
    }
    let failed = Finding::Failed { generation: device.generation, code, message };
    Outcome::Done(of_device(run.order, failed))
}

async fn attempt(run: &Run<'_>, device: &DesiredDevice) -> Result<Finding, ClientError> {
    let configuration = |message: String| ClientError::Configuration { message };
    let client = super::client(run, "device")?;
    let client =
        client.ok_or_else(|| configuration(format!("vendor {} has no api/device.toml", run.vendor.name)))?;
    let desired = run.order.desired_json().map_err(|error| configuration(error.to_string()))?;
    let attributes = client.api().desired_attributes(&desired);
    match run.order.intent {
        Intent::Apply => {
            let object = apply(run, &client, device, &attributes).await?;
            let outputs = with_inputs(outputs(&client, &object), device.inputs.clone());
            Ok(Finding::Applied { generation: device.generation, outputs })
        }
        Intent::Remove => {
            remove(run, &client, device).await?;
            Ok(Finding::Removed)
        }
        Intent::Observe { check } => {
            let observed = match known(device) {
                Some(id) => client.read(id).await?,
                None => client.find_by_name(&device.name).await?,
            };
            let id = known(device).unwrap_or_default();
            let fields = differences(&client, &attributes, id, observed.as_ref());
            Ok(if fields.is_empty() { Finding::InSync { check } } else { Finding::Drifted { check, fields } })
        }
    }
}

/// Deletes the device. One that a dead run created anew has another id than the known one, and is found by its name.
async fn remove(run: &Run<'_>, client: &ResourceClient, device: &DesiredDevice) -> Result<(), ClientError> {
    let deleted = match known(device) {
        Some(id) => client.delete(id).await?,
        None => Deleted::Before,
    };
    if deleted == Deleted::Before || run.observe_first {
        super::delete_by_name(run, client, &device.name).await?;
    }
    Ok(())
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

/// Brings the device to what is wanted and answers it as the vendor has it then.
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
    let updated = match id {
        Some(id) => update(run, client, &id, attributes).await?,
        None => None,
    };
    let object = match updated {
        Some(object) => object,
        None => create(run, client, device, attributes).await?,
    };
    as_asked(client, attributes, &object)?;
    Ok(object)
}

/// Changes the device; `None` if it has to be created, because it is gone or has to be another one.
async fn update(
    run: &Run<'_>,
    client: &ResourceClient,
    id: &str,
    attributes: &Map<String, Value>,
) -> Result<Option<RemoteObject>, ClientError> {
    let present = match client.update(id, attributes).await {
        Ok(object) => object,
        Err(error) if error.is_not_found() => {
            run.log.line("warn", format!("{id} is gone at the vendor; creating it again")).await;
            return Ok(None);
        }
        // Perhaps it refused what cannot be changed.
        Err(refused @ ClientError::Refused { .. }) => match client.read(id).await? {
            Some(present) if replaced_by(client, attributes, &present).is_some() => present,
            Some(_) => return Err(refused),
            None => return Ok(None),
        },
        Err(error) => return Err(error),
    };
    let Some(field) = replaced_by(client, attributes, &present) else { return Ok(Some(present)) };
    run.log
        .line("warn", format!("`{field}` of {id} cannot be changed; it is deleted and created anew"))
        .await;
    client.delete(id).await?;
    Ok(None)
}

async fn create(
    run: &Run<'_>,
    client: &ResourceClient,
    device: &DesiredDevice,
    attributes: &Map<String, Value>,
) -> Result<RemoteObject, ClientError> {
    let key = device.uid.to_string();
    let created = match client.create(attributes, Some(&key)).await.map_err(|error| error.source) {
        // The key's object is one that a dead run made with other inputs, and which cannot be changed into this one.
        Err(ClientError::Refused { code: Some(code), .. }) if code == OTHER_VALUES => {
            super::delete_by_name(run, client, &device.name).await?;
            client.create(attributes, Some(&key)).await.map_err(|error| error.source)?
        }
        created => created?,
    };
    if created.adopted {
        run.log.line("info", format!("an earlier run had made {}; it is adopted", created.object.id)).await;
    }
    Ok(created.object)
}

/// The first attribute that differs and makes the device another one.
fn replaced_by(
    client: &ResourceClient,
    desired: &Map<String, Value>,
    present: &RemoteObject,
) -> Option<String> {
    let api = client.api();
    let differences = api.differences(desired, &present.attributes).into_iter();
    let mut names = differences.map(|difference| difference.attribute);
    names.find(|name| api.attributes.get(name).is_some_and(|attribute| attribute.replace))
}

/// Fails if the vendor took a change and has something else than what it was sent.
fn as_asked(
    client: &ResourceClient,
    desired: &Map<String, Value>,
    object: &RemoteObject,
) -> Result<(), ClientError> {
    let differences = client.api().differences(desired, &object.attributes);
    let Some(first) = differences.into_iter().next() else { return Ok(()) };
    Err(ClientError::Refused {
        status: 200,
        code: Some("ignored".to_owned()),
        message: format!(
            "it took the change and has `{}` {} instead of {}",
            first.attribute, first.observed, first.desired
        ),
        field: Some(first.attribute),
    })
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
