//! Journal, state and vendor are brought together before a run changes anything: what an earlier run created and no state
//! has is taken into the state, or the run ends where nobody can say what there is.
//!
//! Our own provider does that itself, by idempotency key or by name ([`wanwright_provider::Doubt`]). Of what foreign ones
//! were asked for, the journal knows type and id.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use wanwright_nats::NatsError;
use wanwright_schemas::effect::Phase;
use wanwright_schemas::order::Intent;
use wanwright_schemas::reason::Reason;
use wanwright_schemas::report::Finding;
use wanwright_vendors::{ClientError, ResourceClient};

use super::carry_out::{PLAN, PLAN_FILE};
use super::engine::TerraformEngine;
use super::error::TerraformError;
use super::findings::Stack;
use super::outcomes::passing;
use super::process::output;
use super::runner::{Ended, Runner};
use crate::engine::{self, Notes, Outcome, Run};
use crate::gateway::journal::{self, CREATE, Change, Held, Kinds, Losses, Lost};

/// What is not known of the creates of earlier runs.
#[derive(Debug, Default)]
pub(super) struct Doubt {
    possible: bool,
    losses: Losses,
}

/// Why what was lost is not found again.
enum Trouble {
    /// Nobody can say, and a person has to look.
    Unknown(String),
    /// It cannot be said now.
    Passing(Outcome),
    /// Ours.
    Ours(TerraformError),
}

impl From<TerraformError> for Trouble {
    fn from(error: TerraformError) -> Self {
        Self::Ours(error)
    }
}

impl From<NatsError> for Trouble {
    fn from(error: NatsError) -> Self {
        Self::Ours(TerraformError::Journal(error))
    }
}

impl From<ClientError> for Trouble {
    fn from(error: ClientError) -> Self {
        if error.is_passing() {
            let ours = matches!(error, ClientError::Network { .. });
            let message = format!("looking for what an earlier run made: {error}");
            return Self::Passing(Outcome::Passing { code: engine::reason_of(&error), message, ours });
        }
        Self::Unknown(error.to_string())
    }
}

impl Doubt {
    /// What is in doubt for a run that begins with this state. A person who says `retry` about a stack whose outcome is not
    /// known has looked at the vendor: what was lost then, and nothing that was lost since, counts no more.
    ///
    /// Nothing is written down of that: the note says what it is about, and goes when the target is settled.
    pub(super) async fn of(run: &Run<'_>, stack: &Stack<'_>, state: &Value) -> Result<Self, TerraformError> {
        let plans = matches!(run.order.intent, Intent::Plan { .. });
        if !(run.observe_first || run.unsettled) || !(run.order.changes() || plans) {
            return Ok(Self::default());
        }
        // In a box: the future of a run is as deep as the compiler takes it.
        let mut losses = Box::pin(losses(run, stack, state)).await?;
        if losses.is_any() {
            let looked_at = Notes::looked_at(run.log.nats(), run.order, stack.site.uid).await;
            losses.leave_out(&looked_at.map_err(TerraformError::Journal)?);
            if !losses.is_any() {
                run.log.line("info", "a person has looked at what was in doubt").await;
            }
        }
        Ok(Self { possible: true, losses })
    }

    /// What our own provider has to know of it.
    pub(super) fn of_provider(&self, stack: &Stack<'_>) -> wanwright_provider::Doubt {
        let own = self.losses.own.iter().map(|lost| lost.kind.clone());
        let calls = self.losses.calls.iter().map(|lost| stack.own_type(&lost.kind));
        let types: BTreeSet<String> = own.chain(calls).collect();
        match (self.possible, types.is_empty()) {
            (false, _) => wanwright_provider::Doubt::None,
            (true, true) => wanwright_provider::Doubt::Possible,
            (true, false) => wanwright_provider::Doubt::Asked(types),
        }
    }

    /// Whether a foreign provider may have made what the state does not have.
    pub(super) fn is_any_lost(&self) -> bool {
        !self.losses.creates.is_empty()
    }
}

/// What the journal has of a stack that its state does not have, and that is not found again by itself.
async fn losses(run: &Run<'_>, stack: &Stack<'_>, state: &Value) -> Result<Losses, TerraformError> {
    let effects = journal::of_target(run.log.nats(), run.gateway.context()).await;
    let effects = effects.map_err(TerraformError::Journal)?;
    let mut losses = journal::lost(&effects, &held(state), stack);
    if stack.template.providers.iter().all(|provider| provider.adopts) {
        losses.creates.clear();
    }
    let is_found_again = |lost: &Lost| {
        let api = stack.vendor.api.get(lost.kind.as_str());
        api.is_some_and(|api| api.finds_lost_create_by_name())
    };
    losses.calls.retain(|lost| !is_found_again(lost));
    Ok(losses)
}

/// Notes, before it is told, that a person has to look, and at what: all that is lost by now. What is not noted is tried
/// again.
pub(super) async fn remember(
    run: &Run<'_>,
    stack: &Stack<'_>,
    outcome: &Outcome,
    engine: &TerraformEngine,
) -> Result<(), TerraformError> {
    let is_unknown =
        |finding: &Finding| matches!(finding, Finding::Failed { code: Reason::OutcomeUnknown, .. });
    match outcome {
        Outcome::Done(findings) if findings.iter().any(|found| is_unknown(&found.finding)) => {
            let state = engine.state(&stack.site.uid.to_string()).await?;
            let cases = losses(run, stack, &state).await?.cases();
            let noted = Notes::put_lost(run.log.nats(), run.order, stack.site.uid, cases).await;
            noted.map_err(TerraformError::Journal)
        }
        _ => Ok(()),
    }
}

impl Kinds for Stack<'_> {
    fn of_type(&self, r#type: &str) -> Option<&str> {
        let own = || self.vendor.api.keys().find(|kind| self.own_type(kind.as_str()) == r#type);
        self.kind_of(r#type).or_else(|| own().map(|kind| kind.as_str()))
    }

    fn made_by(&self, method: &str, path: &str) -> Vec<&str> {
        let apis = self.vendor.api.iter().filter(|(_, api)| api.create.is_call(method, path));
        apis.map(|(kind, _)| kind.as_str()).collect()
    }

    fn deleted_by(&self, method: &str, path: &str) -> Vec<&str> {
        let apis = self.vendor.api.iter().filter(|(_, api)| api.delete.is_call(method, path));
        apis.map(|(kind, _)| kind.as_str()).collect()
    }
}

fn held(state: &Value) -> Held {
    let mut held = Held::default();
    for resource in state.get("resources").and_then(Value::as_array).into_iter().flatten() {
        let kind = resource.get("type").and_then(Value::as_str).unwrap_or_default();
        for instance in resource.get("instances").and_then(Value::as_array).into_iter().flatten() {
            *held.kinds.entry(kind.to_owned()).or_default() += 1;
            let id = instance.pointer("/attributes/id").and_then(Value::as_str);
            held.ids.extend(id.map(|id| (kind.to_owned(), id.to_owned())));
        }
    }
    held
}

/// What a plan would do to the resources of one type.
#[derive(Debug, Default)]
struct Planned {
    /// Their provider.
    provider: String,
    /// Those that would be created.
    created: Vec<String>,
}

/// A plan by types, by Terraform's own account of it.
fn by_type(shown: &Value) -> BTreeMap<String, Planned> {
    let mut types: BTreeMap<String, Planned> = BTreeMap::new();
    for resource in shown.get("resource_changes").and_then(Value::as_array).into_iter().flatten() {
        let text = |name: &str| resource.get(name).and_then(Value::as_str).unwrap_or_default();
        if text("mode") != "managed" {
            continue;
        }
        let planned = types.entry(text("type").to_owned()).or_default();
        planned.provider = text("provider_name").to_owned();
        let actions = resource.pointer("/change/actions").and_then(Value::as_array);
        if actions.is_some_and(|actions| actions.iter().map(Value::as_str).eq([Some("create")])) {
            planned.created.push(text("address").to_owned());
        }
    }
    types
}

impl Runner<'_> {
    /// Takes what foreign providers made and no state has into the state. An outcome where that cannot be done: then nothing
    /// is changed.
    pub(super) async fn reconcile(
        &self,
        stack: &Stack<'_>,
        doubt: &Doubt,
    ) -> Result<Option<Outcome>, TerraformError> {
        if !doubt.is_any_lost() {
            return Ok(None);
        }
        match self.find_again(stack, &doubt.losses.creates).await {
            Ok(()) => Ok(None),
            Err(Trouble::Passing(outcome)) => Ok(Some(outcome)),
            Err(Trouble::Ours(error)) => Err(error),
            Err(Trouble::Unknown(why)) => {
                let message = format!("an earlier run may have made what the state does not have: {why}");
                Ok(Some(Outcome::Done(engine::failed(self.run.order, Reason::OutcomeUnknown, &message))))
            }
        }
    }

    async fn find_again(&self, stack: &Stack<'_>, lost: &[Lost]) -> Result<(), Trouble> {
        match self.terraform(&PLAN).await? {
            Ended::Well(_) => {}
            Ended::Badly(said) => return Err(Trouble::Passing(passing(&said))),
            cut => return Err(Trouble::Passing(cut.cut_short())),
        }
        let mut types = by_type(&self.show(PLAN_FILE).await?);
        let kinds: BTreeSet<&str> = lost.iter().map(|lost| lost.kind.as_str()).collect();
        for kind in kinds {
            let planned = types.remove(kind).unwrap_or_default();
            let adopts = |provider: &wanwright_vendors::ForeignProvider| {
                provider.address == planned.provider && provider.adopts
            };
            if stack.template.providers.iter().any(adopts) {
                continue;
            }
            let lost: Vec<&Lost> = lost.iter().filter(|lost| lost.kind == kind).collect();
            self.find_type(stack, kind, &lost, &planned.created).await?;
        }
        Ok(())
    }

    /// Finds what is lost of one type, of which the template would have these created.
    async fn find_type(
        &self,
        stack: &Stack<'_>,
        kind: &str,
        lost: &[&Lost],
        created: &[String],
    ) -> Result<(), Trouble> {
        if let Some(client) = self.client_of(stack, kind)? {
            return self.find_by_names(stack, &client, lost, created).await;
        }
        match (lost, created) {
            ([Lost { call, id: Some(id), .. }], [address]) => {
                self.take_in(address, id, Some(*call), kind).await
            }
            ([Lost { id: None, .. }], _) => Err(Trouble::Unknown(format!(
                "a {kind} was asked for and never answered, and no name finds it"
            ))),
            _ => {
                let ids: Vec<&str> = lost.iter().filter_map(|lost| lost.id.as_deref()).collect();
                Err(Trouble::Unknown(format!(
                    "{} {kind} ({}), of which {} would be created",
                    lost.len(),
                    ids.join(", "),
                    created.len()
                )))
            }
        }
    }

    /// What looks for objects of a type by name; none where the vendor's folder does not say how.
    fn client_of(&self, stack: &Stack<'_>, kind: &str) -> Result<Option<ResourceClient>, ClientError> {
        let Some(of) = stack.kind_of(kind) else { return Ok(None) };
        let client = engine::client(self.run, of)?;
        Ok(client.filter(|client| client.api().finds_by_name()))
    }

    /// Looks at the vendor for each object that would be created. What is there is taken in; what is not is surely not made.
    async fn find_by_names(
        &self,
        stack: &Stack<'_>,
        client: &ResourceClient,
        lost: &[&Lost],
        created: &[String],
    ) -> Result<(), Trouble> {
        let mut found = Vec::new();
        for address in created {
            let Some((name, desired)) = stack.desired_at(address) else {
                return Err(Trouble::Unknown(format!("{address} is no object that a name could find")));
            };
            let within = client.clone().within(&client.api().desired_attributes(&desired));
            if let Some(object) = within.find_by_name(&name).await? {
                found.push((address, object.id));
            }
        }
        for lost in lost.iter().filter(|lost| lost.id.is_some()) {
            let id = lost.id.as_deref().unwrap_or_default();
            let is_found = found.iter().any(|(_, found)| found == id);
            // A tunnel that is to go is looked for by its name before anything else is done.
            if !is_found && stack.leaving.is_empty() && client.read(id).await?.is_some() {
                let what = format!(
                    "the vendor has {}/{id}, which is none of those that would be created",
                    lost.kind
                );
                return Err(Trouble::Unknown(what));
            }
        }
        let mut nameless = lost.iter().filter(|lost| lost.id.is_none());
        for (address, id) in &found {
            let known = lost.iter().find(|lost| lost.id.as_deref() == Some(id));
            let call = known.or_else(|| nameless.next()).map(|lost| lost.call);
            let kind = address.split('.').next().unwrap_or_default();
            self.take_in(address, id, call, kind).await?;
        }
        for lost in nameless {
            self.answered(lost.call, &lost.kind, Phase::After { status: 404, id: None }).await?;
        }
        Ok(())
    }

    /// Takes an object of the vendor's into the state.
    async fn take_in(
        &self,
        address: &str,
        id: &str,
        call: Option<uuid::Uuid>,
        kind: &str,
    ) -> Result<(), Trouble> {
        // What begins like an option would be taken for one.
        if id.starts_with('-') {
            return Err(Trouble::Unknown(format!("{id} cannot be taken in as {address}")));
        }
        let args = ["import", "-input=false", "-no-color", "-var-file=variables.json", address, id];
        let (status, said) = output(self.spec().args(args)).await?;
        self.adopt().await?;
        if !status.success() {
            if self.is_troubled() {
                let message = format!("{id} cannot be taken in as {address} now");
                return Err(Trouble::Passing(Outcome::Passing {
                    code: Reason::Internal,
                    message,
                    ours: true,
                }));
            }
            let said = format!("{} {}", self.secrets.taken_out(said).trim(), self.last_words().await);
            return Err(Trouble::Unknown(format!("{id} cannot be taken in as {address}: {}", said.trim())));
        }
        let told = format!("an earlier run had made {address} as {id}; the state has it now");
        self.run.log.line("info", told).await;
        if let Some(call) = call {
            self.answered(call, kind, Phase::After { status: 200, id: Some(id.to_owned()) }).await?;
        }
        Ok(())
    }

    /// Writes down what came of a create that nobody had heard the answer of.
    async fn answered(&self, call: uuid::Uuid, kind: &str, phase: Phase) -> Result<(), NatsError> {
        let change = Change { call, method: CREATE.to_owned(), path: kind.to_owned(), key: None };
        journal::write(self.run.log.nats(), self.run.gateway.context(), &change, phase).await
    }
}
