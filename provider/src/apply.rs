//! Does what was planned, at the vendor. Each function answers the state afterwards, whatever went wrong.

use serde_json::Value as Json;
use wanwright_vendors::{CreateError, RemoteObject, ResourceClient};

use crate::cty::Value;
use crate::diagnostic::Diagnostic;
use crate::resource::{KEY, ResourceType, State};

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
    fn done(resource: &ResourceType, object: &RemoteObject, planned: &State) -> Self {
        Self {
            state: Some(resource.state_of(object, Some(planned))),
            diagnostics: surprises(resource, object, planned),
        }
    }
}

/// Creates the planned object.
pub(crate) async fn create(client: &ResourceClient, resource: &ResourceType, planned: &State) -> Applied {
    let key = planned.get(KEY).as_str();
    match client.create(&planned.sent(&resource.api), key).await {
        Ok(created) => Applied::done(resource, &created.object, planned),
        Err(CreateError { known, source }) => {
            let diagnostic = Diagnostic::of(&source, resource, "creating");
            let is_repeatable = resource.api.takes_key() && key.is_some();
            match known {
                // In the state it would count as not whole, and Terraform would replace it: a live object would go for
                // nothing but a lost answer.
                Some(object) if is_repeatable && source.is_passing() => {
                    let note = format!(
                        "An earlier create had made {}: applying again with the same idempotency key takes it over.",
                        object.id
                    );
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
                    diagnostic.note(if is_repeatable {
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

/// Changes an object, if anything the vendor is sent differs.
pub(crate) async fn update(
    client: &ResourceClient,
    resource: &ResourceType,
    prior: &State,
    planned: &State,
) -> Applied {
    let Some(id) = prior.id() else {
        return Applied::failed(Some(prior), no_id(resource));
    };
    if !differs(resource, prior, planned) {
        return Applied { state: Some(planned.clone()), diagnostics: Vec::new() };
    }
    match client.update(id, &planned.sent(&resource.api)).await {
        Ok(object) => Applied::done(resource, &object, planned),
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
pub(crate) async fn delete(client: &ResourceClient, resource: &ResourceType, prior: &State) -> Applied {
    let Some(id) = prior.id() else {
        return Applied::failed(Some(prior), no_id(resource));
    };
    match client.delete(id).await {
        Ok(_) => Applied { state: None, diagnostics: Vec::new() },
        Err(error) => Applied::failed(Some(prior), Diagnostic::of(&error, resource, "deleting")),
    }
}

fn differs(resource: &ResourceType, prior: &State, planned: &State) -> bool {
    let sent = resource.api.attributes.iter().filter(|(_, attribute)| !attribute.is_computed());
    let mut sent = sent;
    sent.any(|(name, attribute)| !planned.get(name).same(attribute, prior.get(name)))
}

fn surprises(resource: &ResourceType, object: &RemoteObject, planned: &State) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (name, attribute) in &resource.api.attributes {
        let observed = Value::from_json(object.attributes.get(name).unwrap_or(&Json::Null));
        let planned = planned.get(name);
        let counts = attribute.compare && !attribute.is_computed();
        if counts && !planned.same(attribute, &observed) {
            let detail = "The vendor took the change and keeps another value than the one it was sent.";
            found.push(Diagnostic::unexpected(format!("the vendor changed `{name}`"), detail).at(name));
        }
    }
    found
}

fn no_id(resource: &ResourceType) -> Diagnostic {
    Diagnostic::unexpected(format!("the state of a {} has no id", resource.type_name), "")
}
