//! What is written down of the changes that a provider is asked for: the resource's type, what is done to it, ids. Never
//! values.

use prost::Message as _;
use uuid::Uuid;
use wanwright_nats::{Nats, NatsError};
use wanwright_provider::proto::tfplugin6::diagnostic::Severity;
use wanwright_provider::proto::tfplugin6::{Diagnostic, apply_resource_change, plan_resource_change};
use wanwright_schemas::effect::Phase;
use wanwright_schemas::run::RunEvent;

use super::plugin::Answer;
use super::wire;
use crate::gateway::Share;
use crate::gateway::journal::{self, CREATE, Change};
use crate::records::Records;

/// The records and the journal of one run.
#[derive(Debug, Clone)]
pub(super) struct Recorder {
    pub(super) nats: Nats,
    pub(super) records: Records,
    pub(super) run: Share,
}

fn has_error(diagnostics: &[Diagnostic]) -> bool {
    diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error as i32)
}

fn action(prior: bool, planned: bool) -> &'static str {
    match (prior, planned) {
        (false, true) => "create",
        (true, false) => "delete",
        (true, true) => "update",
        (false, false) => "nothing",
    }
}

/// `<type>` or `<type>/<id>`.
fn named(kind: &str, id: Option<&str>) -> String {
    id.map_or_else(|| kind.to_owned(), |id| format!("{kind}/{id}"))
}

impl Recorder {
    /// Notes what a provider would do. Nothing has been asked of the vendor, so the run's own records are enough.
    pub(super) async fn planned(&self, request: &[u8], answer: &Answer) {
        let Ok(request) = plan_resource_change::Request::decode(request) else { return };
        let Some(Ok(response)) = answer.message().map(plan_resource_change::Response::decode) else { return };
        let (prior, planned) = (request.prior_state.as_ref(), response.planned_state.as_ref());
        if has_error(&response.diagnostics) || prior == planned {
            return;
        }
        let action = match action(wire::is_there(prior), wire::is_there(planned)) {
            "nothing" => return,
            "update" if !response.requires_replace.is_empty() => "replace",
            action => action,
        };
        let what = named(&request.type_name, wire::id(prior).as_deref());
        let message = format!("the provider plans to {action} {what}");
        self.records.add(RunEvent::Log { level: "info".to_owned(), message, resource: None }).await;
    }

    /// Notes, so that nothing loses it, that a provider is about to be asked for a change.
    pub(super) async fn before(&self, request: &[u8]) -> Result<Asked, NatsError> {
        let request = apply_resource_change::Request::decode(request).unwrap_or_default();
        let (prior, planned) = (request.prior_state.as_ref(), request.planned_state.as_ref());
        let id = wire::id(prior).or_else(|| wire::id(planned));
        let change = Change {
            call: Uuid::new_v4(),
            method: action(wire::is_there(prior), wire::is_there(planned)).to_owned(),
            path: named(&request.type_name, id.as_deref()),
            key: None,
        };
        journal::write(&self.nats, self.records.context(), &change, Phase::Before).await?;
        if change.method == CREATE {
            self.run.asks_for_create();
        }
        Ok(Asked { change, id })
    }

    /// Notes what it answered. What came with an error may be done in part, so it counts as unknown.
    pub(super) async fn after(&self, asked: &Asked, answer: Option<&Answer>) {
        let response = answer.and_then(Answer::message);
        let response = response.and_then(|message| apply_resource_change::Response::decode(message).ok());
        let done = response.as_ref().is_some_and(|response| !has_error(&response.diagnostics));
        let new = response.as_ref().and_then(|response| wire::id(response.new_state.as_ref()));
        let phase = Phase::After { status: if done { 200 } else { 0 }, id: new.or_else(|| asked.id.clone()) };
        if !done {
            self.run.left_unanswered();
        }
        if let Err(error) = journal::write(&self.nats, self.records.context(), &asked.change, phase).await {
            self.run.left_unanswered();
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the journal does not know what a provider answered"
            );
        }
    }
}

/// A change that was asked for.
pub(super) struct Asked {
    change: Change,
    id: Option<String>,
}
