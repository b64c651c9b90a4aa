//! The API engine: carries a device's order out with the vendor's HTTP API, as the vendor's folder describes it.

mod resumed;

use std::sync::Arc;

use serde_json::{Map, Value};
use wanwright_nats::NatsError;
use wanwright_schemas::CommandId;
use wanwright_schemas::order::{Desired, DesiredDevice, Intent};
use wanwright_schemas::reason::Reason;
use wanwright_schemas::report::{DriftField, Finding, Outputs};
use wanwright_vendors::{
    BulkAnswer, BulkChange, ClientError, CreateError, Deleted, JobNote, JobNotes, JobOf, RemoteObject,
    ResourceClient,
};

use super::notes::{Doing, Notes};
use super::together::One;
use super::{Outcome, Run, of_device, reason_of, with_inputs};
use resumed::Resumed;

/// The code of a create whose key belongs to another object.
const OTHER_VALUES: &str = "created_with_other_values";

/// Why an order could not be carried out.
enum Trouble {
    Client(ClientError),
    /// The order has failed, and the note of what was begun stays.
    Kept(Reason, String),
    /// Something of ours is away.
    Ours(NatsError),
}

impl Trouble {
    /// A create may have had its effect, and nothing can tell.
    fn unknown(why: String) -> Self {
        Self::Kept(Reason::OutcomeUnknown, why)
    }
}

impl From<ClientError> for Trouble {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

impl From<NatsError> for Trouble {
    fn from(error: NatsError) -> Self {
        Self::Ours(error)
    }
}

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
        Err(Trouble::Client(error)) => failed(run, device, &error),
        Err(Trouble::Kept(code, message)) => {
            let failed = Finding::Failed { generation: device.generation, code, message };
            Outcome::Done(of_device(run.order, failed))
        }
        Err(Trouble::Ours(error)) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "a run waits for its notes");
            Outcome::Passing { code: Reason::Internal, message: error.to_string(), ours: true }
        }
    };
    super::ended(run, outcome).await
}

fn failed(run: &Run<'_>, device: &DesiredDevice, error: &ClientError) -> Outcome {
    let (code, message) = (reason_of(error), error.to_string());
    // A look that the vendor refuses says nothing about the device.
    if error.is_passing() || !run.order.changes() {
        // Between here and the gateway there is nothing of the vendor's. A job that goes on is nobody's failure.
        let ours = matches!(error, ClientError::Network { .. } | ClientError::Pending { .. });
        return Outcome::Passing { code, message, ours };
    }
    let failed = Finding::Failed { generation: device.generation, code, message };
    Outcome::Done(of_device(run.order, failed))
}

async fn attempt(run: &Run<'_>, device: &DesiredDevice) -> Result<Finding, Trouble> {
    let client = super::client(run, "device")?;
    let client = client.ok_or_else(|| {
        ClientError::configuration(format!("vendor {} has no api/device.toml", run.vendor.name))
    })?;
    let desired = run.order.desired_json().map_err(|error| ClientError::configuration(error.to_string()))?;
    let attributes = client.api().desired_attributes(&desired);
    let client = client.within(&attributes);
    if run.order.plan.is_some() || matches!(run.order.intent, Intent::Plan { .. }) {
        return Err(ClientError::configuration("calls to a vendor cannot be planned").into());
    }
    if let Intent::Observe { check } = run.order.intent {
        return Ok(observe(run, &client, device, &attributes, check).await?);
    }
    let notes = Notes::of(run.log.nats, run.order, device.uid, client.api()).await?;
    let work = match &notes {
        Some(notes) => {
            Work { run, device, client: client.noting(Arc::new(notes.clone())), notes: Some(notes) }
        }
        None => Work { run, device, client, notes: None },
    };
    let finding = work.carry_out(&attributes).await;
    if let Some(notes) = &notes
        && is_over(&finding)
    {
        notes.clear().await?;
    }
    finding
}

/// Whether nothing that was begun may still go on.
fn is_over(finding: &Result<Finding, Trouble>) -> bool {
    match finding {
        Ok(_) => true,
        Err(Trouble::Client(error)) => !error.is_passing(),
        Err(Trouble::Kept(..) | Trouble::Ours(_)) => false,
    }
}

async fn observe(
    run: &Run<'_>,
    client: &ResourceClient,
    device: &DesiredDevice,
    attributes: &Map<String, Value>,
    check: CommandId,
) -> Result<Finding, ClientError> {
    if let Some(listed) = run.scans.take(&run.order.id) {
        let is_fresh = listed.is_fresh();
        run.gateway.records().add_all(listed.calls).await;
        let differs = !client.api().differences(attributes, &listed.object.attributes).is_empty();
        if is_fresh && !differs {
            return Ok(Finding::InSync { check });
        }
        let why = if is_fresh { "shows it differently" } else { "was read too long ago" };
        run.log.line("info", format!("the vendor's list {why}; it is read alone")).await;
    }
    let observed = match known(device) {
        Some(id) => client.read(id).await?,
        None if client.api().finds_by_name() => client.find_by_name(&device.name).await?,
        None => None,
    };
    let id = known(device).unwrap_or_default();
    let fields = differences(client, attributes, id, observed.as_ref());
    Ok(if fields.is_empty() { Finding::InSync { check } } else { Finding::Drifted { check, fields } })
}

/// A change of one device.
struct Work<'a> {
    run: &'a Run<'a>,
    device: &'a DesiredDevice,
    client: ResourceClient,
    notes: Option<&'a Notes>,
}

impl Work<'_> {
    async fn carry_out(&self, attributes: &Map<String, Value>) -> Result<Finding, Trouble> {
        let Self { run, device, client, .. } = self;
        let Resumed { id, ended } = self.resume().await?;
        let known = id.or_else(|| known(device).map(str::to_owned));
        if matches!(run.order.intent, Intent::Remove) {
            self.remove(known.as_deref(), ended.as_ref()).await?;
            return Ok(Finding::Removed);
        }
        let object = self.apply(attributes, known, ended.as_ref()).await?;
        let outputs = with_inputs(outputs(client, &object), device.inputs.clone());
        Ok(Finding::Applied { generation: device.generation, outputs })
    }

    /// Brings the device to what is wanted and answers it as the vendor has it then.
    async fn apply(
        &self,
        attributes: &Map<String, Value>,
        known: Option<String>,
        ended: Option<&JobNote>,
    ) -> Result<RemoteObject, Trouble> {
        let Self { run, device, client, .. } = self;
        // With an idempotency key a second create finds what the first one made; without one it has to be looked for. So it
        // has where a job made it: a second create might begin a second job.
        let unsure = run.observe_first || ended.is_some() || !client.api().takes_key();
        let id = match known {
            Some(id) => Some(id),
            None if unsure && client.api().finds_by_name() => find(run, client, device).await?,
            None => None,
        };
        let updated = match (id, ended) {
            (Some(id), Some(job)) => self.brought(job, &id, attributes).await?,
            (Some(id), None) => self.update(&id, attributes).await?,
            (None, _) => None,
        };
        let object = match updated {
            Some(object) => object,
            None => self.create(attributes).await?,
        };
        as_asked(client, attributes, &object)?;
        Ok(object)
    }

    async fn create(&self, attributes: &Map<String, Value>) -> Result<RemoteObject, Trouble> {
        let Self { run, device, client, .. } = self;
        let blind = self.notes.filter(|_| !client.api().finds_lost_create());
        if let Some(notes) = blind {
            notes.put(Doing::Create { object: None }).await?;
        }
        let key = device.uid.to_string();
        if blind.is_none()
            && let Some(object) = self.create_together(attributes, &key).await?
        {
            return Ok(object);
        }
        let mut created = client.create(attributes, Some(&key)).await;
        if let Err(CreateError { source: ClientError::Refused { code: Some(code), .. }, .. }) = &created
            && code == OTHER_VALUES
        {
            // The key's object is one that a dead run made with other inputs, and which cannot be changed into this one.
            super::delete_by_name(run, client, &device.name).await?;
            created = client.create(attributes, Some(&key)).await;
        }
        match created {
            Ok(created) => {
                if created.adopted {
                    let found = format!("an earlier run had made {}; it is adopted", created.object.id);
                    run.log.line("info", found).await;
                }
                Ok(created.object)
            }
            Err(error) => Err(self.not_created(error, blind).await?),
        }
    }

    /// Makes a change together with others; none where it is to be made alone.
    async fn together(
        &self,
        change: BulkChange,
        id: Option<&str>,
        attributes: &Map<String, Value>,
        key: Option<&str>,
    ) -> Option<Result<BulkAnswer, ClientError>> {
        let notes = self.notes.map(|notes| Arc::new(notes.clone()) as Arc<dyn JobNotes>);
        let one = One { change, id, attributes, key: key.map(str::to_owned), notes };
        self.run.together.change(self.run, &self.client, one).await
    }

    /// Creates the device together with others. None where it is to be created alone: then a create under the same key,
    /// or a look for its name, finds what there is.
    async fn create_together(
        &self,
        attributes: &Map<String, Value>,
        key: &str,
    ) -> Result<Option<RemoteObject>, Trouble> {
        let Self { run, device, client, .. } = self;
        let keyed = client.api().takes_key();
        let object = match self.together(BulkChange::Create, None, attributes, Some(key)).await {
            None => return Ok(None),
            // The key's object has been deleted: a single create goes on to the next key.
            Some(Err(error)) if keyed && error.status() == Some(410) => return Ok(None),
            Some(answer) => self.shown(answer?).await?,
        };
        let object = match object {
            Some(object) => Some(object),
            None if client.api().finds_by_name() => client.find_by_name(&device.name).await?,
            None => None,
        };
        let Some(object) = object else {
            if keyed {
                return Ok(None);
            }
            run.log.line("warn", "what was made in a call for many is not there right after").await;
            return Err(
                ClientError::Unexpected { status: None, message: "the object was not found".into() }.into()
            );
        };
        let is_asked = client.api().differences(attributes, &object.attributes).is_empty();
        // An earlier run had made it with other values: a single create under its key adopts it.
        Ok(if is_asked || !keyed { Some(object) } else { None })
    }

    /// The object that an answer is about, read where the answer does not show it.
    async fn shown(&self, answer: BulkAnswer) -> Result<Option<RemoteObject>, ClientError> {
        match (answer.object, answer.id) {
            (Some(object), _) => Ok(Some(object)),
            (None, Some(id)) => self.client.read(&id).await,
            (None, None) => Ok(None),
        }
    }

    /// Changes the device; `None` if it has to be created, because it is gone or has to be another one.
    async fn update(
        &self,
        id: &str,
        attributes: &Map<String, Value>,
    ) -> Result<Option<RemoteObject>, ClientError> {
        let Self { run, client, .. } = self;
        let updated = match self.together(BulkChange::Update, Some(id), attributes, None).await {
            None => client.update(id, attributes).await,
            Some(Err(error)) => Err(error),
            Some(Ok(answer)) => match self.shown(answer).await? {
                Some(object) => Ok(object),
                None => return Ok(None),
            },
        };
        let present = match updated {
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
        self.unless_replaced(id, attributes, present).await
    }

    /// The object, unless something differs that cannot be changed: then it is deleted, to be created anew.
    async fn unless_replaced(
        &self,
        id: &str,
        attributes: &Map<String, Value>,
        present: RemoteObject,
    ) -> Result<Option<RemoteObject>, ClientError> {
        let Self { run, client, .. } = self;
        let Some(field) = replaced_by(client, attributes, &present) else { return Ok(Some(present)) };
        run.log
            .line("warn", format!("`{field}` of {id} cannot be changed; it is deleted and created anew"))
            .await;
        client.delete(id).await?;
        Ok(None)
    }

    /// Deletes the device. One that a dead run created anew has another id than the known one, and is found by its name.
    async fn remove(&self, known: Option<&str>, ended: Option<&JobNote>) -> Result<(), ClientError> {
        let Self { run, device, client, .. } = self;
        let deleted = match (ended, known) {
            (Some(job), _) if self.has_deleted(job).await? => Deleted::Now,
            (_, Some(id)) => self.delete(id).await?,
            (_, None) => Deleted::Before,
        };
        if deleted == Deleted::Before || run.observe_first {
            super::delete_by_name(run, client, &device.name).await?;
        }
        Ok(())
    }

    async fn delete(&self, id: &str) -> Result<Deleted, ClientError> {
        match self.together(BulkChange::Delete, Some(id), &Map::new(), None).await {
            None => self.client.delete(id).await,
            Some(Ok(_)) => Ok(Deleted::Now),
            Some(Err(error)) if error.is_not_found() => Ok(Deleted::Before),
            Some(Err(error)) => Err(error),
        }
    }

    /// What a create that failed comes to, where it cannot be found again.
    async fn not_created(&self, error: CreateError, blind: Option<&Notes>) -> Result<Trouble, Trouble> {
        let CreateError { known, source } = error;
        let Some(notes) = blind else { return Ok(source.into()) };
        let noted = notes.get().await?.map(|note| note.doing);
        if let Some(object) = known {
            // The next run follows what publishes it.
            let is_publishing = matches!(&noted, Some(Doing::Job(JobNote { change: JobOf::Publish, .. })));
            if !(is_publishing && source.is_passing()) {
                notes.put(Doing::Create { object: Some(object.id) }).await?;
            }
            return Ok(match source.is_passing() {
                true => source.into(),
                false => Trouble::Kept(reason_of(&source), source.to_string()),
            });
        }
        // The next run follows a job to its end, and looks for what it made. One that has failed is noted no more.
        if source.is_passing() && matches!(noted, Some(Doing::Job(_)) | None) {
            return Ok(source.into());
        }
        if source.may_have_happened() {
            return Ok(Trouble::unknown(source.to_string()));
        }
        notes.clear().await?;
        Ok(source.into())
    }
}

/// The id that the vendor gave the device, as far as it was reported.
fn known(device: &DesiredDevice) -> Option<&str> {
    device.known.get("id")?.as_str()
}

/// The id of the device at the vendor, found by its name because a run may have died before it reported.
async fn find(
    run: &Run<'_>,
    client: &ResourceClient,
    device: &DesiredDevice,
) -> Result<Option<String>, ClientError> {
    let found = client.find_by_name(&device.name).await?;
    if let Some(found) = &found {
        run.log.line("info", format!("found {} at the vendor as {}", device.name, found.id)).await;
    }
    Ok(found.map(|found| found.id))
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
    names.find(|name| api.replaces(name))
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
        gone: false,
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
