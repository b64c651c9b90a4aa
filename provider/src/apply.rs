//! Does what was planned, at the vendor. Each function answers the state afterwards, whatever went wrong.

use serde_json::{Map, Value as Json};
use wanwright_vendors::{AttributePath, ClientError, CreateError, Created, RemoteObject, ResourceClient};

use crate::diagnostic::Diagnostic;
use crate::plan::plan;
use crate::resource::{KEY, ResourceType, State};
use crate::serve::{CreateEnd, Creates, Doubt};
use crate::timeouts::Limit;

/// The code of a job that ended without having made anything.
const JOB_FAILED: &str = "job_failed";

/// The state after a change (none: there is no object) and what went wrong.
#[derive(Debug)]
pub(crate) struct Applied {
    pub(crate) state: Option<State>,
    pub(crate) diagnostics: Vec<Diagnostic>,
}

impl Applied {
    fn failed(state: Option<&State>, diagnostic: Diagnostic) -> Self {
        Self { state: state.cloned(), diagnostics: vec![diagnostic] }
    }

    /// The object as the vendor has it, with an error for each attribute that is not as planned.
    fn done(
        resource: &ResourceType,
        object: &RemoteObject,
        planned: &State,
        sent: &Map<String, Json>,
    ) -> Self {
        Self {
            state: Some(resource.state_of(object, Some(planned))),
            diagnostics: surprises(resource, object, sent),
        }
    }
}

/// What a create has to know of those before it, and who is told of it.
pub(crate) struct Others<'a> {
    pub(crate) doubt: &'a Doubt,
    pub(crate) creates: Option<&'a dyn Creates>,
}

/// Creates the planned object.
pub(crate) async fn create(
    client: &ResourceClient,
    resource: &ResourceType,
    (planned, config): (&State, Option<&State>),
    limit: &Limit,
    Others { doubt, creates }: Others<'_>,
) -> Applied {
    let key = planned.get(KEY).as_str();
    let sent = resource.sent(planned, config);
    let is_keyed = resource.api.takes_key() && key.is_some();
    let is_found_again = is_keyed || resource.api.finds_lost_create_by_name();
    let creates = creates.filter(|_| !is_found_again);
    let create = || told(creates, resource, client.create(&sent, key));
    let is_looked_for = doubt.is_any() && !is_keyed && resource.api.finds_by_name();
    let is_in_doubt = !is_found_again && doubt.is_about(&resource.type_name);
    if is_in_doubt && !is_looked_for {
        return Applied::failed(None, unknown(resource));
    }
    let created = if is_keyed {
        limit.repeat(create, |error| &error.source).await
    } else if is_looked_for {
        match limit.repeat(|| client.take_over(&sent), |error| &error.source).await {
            Ok(Some(found)) => Ok(found),
            // That it is not there says nothing: the vendor may still be making it.
            Ok(None) if is_in_doubt => return Applied::failed(None, unknown(resource)),
            Ok(None) => create().await,
            Err(error) => Err(error),
        }
    } else {
        // What was busy may have been a call after the one that made the object, so a repetition could make two.
        create().await
    };
    let is_repeatable = is_keyed || is_looked_for;
    match created {
        Ok(created) => Applied::done(resource, &created.object, planned, &sent),
        Err(CreateError { known, source }) => {
            let diagnostic = Diagnostic::of(&source, resource, "creating");
            match known {
                // In the state it would count as not whole, and Terraform would replace it: a live object would go for
                // nothing but a lost answer.
                Some(object) if is_repeatable && source.is_passing() => {
                    let note =
                        format!("An earlier create had made {}: applying again takes it over.", object.id);
                    Applied::failed(None, diagnostic.note(&note))
                }
                Some(object) => {
                    let note = format!(
                        "An earlier create had made {}; it is in the state as it is, and marked as not whole.",
                        object.id
                    );
                    let state = resource.state_of(&object, Some(planned));
                    Applied::failed(Some(&state), diagnostic.note(&note))
                }
                None if source.may_have_happened() => Applied::failed(
                    None,
                    diagnostic.note(if is_keyed {
                        "It may exist: applying again with the same idempotency key takes it over."
                    } else {
                        "It may exist: look at the vendor before applying again."
                    }),
                ),
                None => Applied::failed(None, diagnostic),
            }
        }
    }
}

/// Makes a create, and tells of it before and after.
async fn told(
    creates: Option<&dyn Creates>,
    resource: &ResourceType,
    create: impl Future<Output = Result<Created, CreateError>>,
) -> Result<Created, CreateError> {
    let Some(creates) = creates else { return create.await };
    let begun = creates.begun(&resource.type_name).await;
    let created = create.await;
    creates.ended(&begun, &resource.type_name, &end(&created)).await;
    created
}

fn end(created: &Result<Created, CreateError>) -> CreateEnd {
    match created {
        Ok(created) => CreateEnd::Made { id: created.object.id.clone(), whole: true },
        Err(CreateError { known: Some(object), .. }) => {
            CreateEnd::Made { id: object.id.clone(), whole: false }
        }
        Err(CreateError { source: ClientError::Refused { code: Some(code), .. }, .. })
            if code == JOB_FAILED =>
        {
            CreateEnd::Nothing
        }
        // What failed may have been a call after the one that made the object.
        Err(_) => CreateEnd::Unknown,
    }
}

/// Changes an object, if anything the vendor is sent differs.
pub(crate) async fn update(
    client: &ResourceClient,
    resource: &ResourceType,
    (prior, planned): (&State, &State),
    config: Option<&State>,
    limit: &Limit,
) -> Applied {
    let Some(id) = prior.id() else {
        return Applied::failed(Some(prior), no_id(resource));
    };
    // A plan that left something open was made for a change.
    let changes = config.is_none_or(|config| plan(resource, Some(prior), config).calls_vendor);
    if !changes && planned.is_whole() {
        return Applied { state: Some(planned.clone()), diagnostics: Vec::new() };
    }
    let sent = resource.sent(planned, config);
    match limit.repeat(|| client.update(id, &sent), |error| error).await {
        Ok(object) => Applied::done(resource, &object, planned, &sent),
        Err(error) => {
            let diagnostic = Diagnostic::of(&error, resource, "changing");
            let diagnostic = if error.is_not_found() {
                diagnostic.note("It is gone at the vendor: planning again will create it.")
            } else {
                diagnostic
            };
            Applied::failed(Some(prior), diagnostic)
        }
    }
}

/// Deletes an object; one that is gone already is no error.
pub(crate) async fn delete(
    client: &ResourceClient,
    resource: &ResourceType,
    prior: &State,
    limit: &Limit,
) -> Applied {
    let Some(id) = prior.id() else {
        return Applied::failed(Some(prior), no_id(resource));
    };
    match limit.repeat(|| client.delete(id), |error| error).await {
        Ok(_) => Applied { state: None, diagnostics: Vec::new() },
        Err(error) => Applied::failed(Some(prior), Diagnostic::of(&error, resource, "deleting")),
    }
}

/// An error for each place that is not as it was sent.
fn surprises(resource: &ResourceType, object: &RemoteObject, sent: &Map<String, Json>) -> Vec<Diagnostic> {
    let differences = resource.api.differences(sent, &object.attributes).into_iter();
    let surprise = |difference: wanwright_vendors::FieldDifference| {
        let detail = "The vendor took the change and keeps another value than the one it was sent.";
        let at = difference.attribute;
        let found = Diagnostic::unexpected(format!("the vendor changed `{at}`"), detail);
        match AttributePath::parse(&at) {
            Some(path) => found.at_path(path),
            None => found,
        }
    };
    differences.map(surprise).collect()
}

/// A create that might be the second one of the same object.
fn unknown(resource: &ResourceType) -> Diagnostic {
    let summary =
        format!("OutcomeUnknown: an earlier run asked for a {} and got no answer", resource.type_name);
    let why = match resource.api.finds_by_name() {
        true => "makes it in a job, so that it may still come although it is not there by its name",
        false => "has no way to look for it by name",
    };
    let detail = format!(
        "The vendor takes no idempotency key for it and {why}: nothing was asked for. Look at the vendor before it is \
         created again."
    );
    Diagnostic::error(summary, detail)
}

fn no_id(resource: &ResourceType) -> Diagnostic {
    Diagnostic::unexpected(format!("the state of a {} has no id", resource.type_name), "")
}
