//! Going back to an earlier generation.
//!
//! A state keeps the present specification only, so whoever asks for a decision looks the former one up in the customer's
//! history, and hands it over with the other circumstances. The event that follows has it in full: a replay looks nothing
//! up. It is judged like any other wish, by the rules of today. Whom to talk to is no matter of a generation, so a contact
//! stays what it is.

use wanwright_schemas::ObjectRef;
use wanwright_schemas::command::{Ask, Command, CommandBody};
use wanwright_schemas::event::{Change, Event};
use wanwright_schemas::ids::CommandId;
use wanwright_schemas::reason::{Reason, Refusal};
use wanwright_schemas::remarks::RevertBody;
use wanwright_vendors::Vendor;

use crate::cancel;
use crate::customer::Customer;
use crate::decide::Circumstances;
use crate::holds;
use crate::object::Object;
use crate::settings::{self, Specified};

/// What a history says about the generation that a `revert` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Former {
    /// The object never had a specification in that generation.
    Never,
    /// An object had it that had this name before, and is gone.
    OfAnother,
    /// The event that made the generation.
    Made(Box<Event>),
}

/// Looks for the generation that a `revert` names, in a history that is passed to it from its beginning.
#[derive(Debug)]
pub struct Search {
    object: ObjectRef,
    uid: CommandId,
    generation: u64,
    /// Whether a generation in which the object was to be taken down counts, with the specification it had before: an
    /// executor may say that it applied that.
    with_ends: bool,
    /// Whose events are passing: the object's, or a namesake's.
    passing: Option<CommandId>,
    /// The event that gave it the specification it has at this point.
    specified: Option<Box<Event>>,
    found: Former,
}

impl Search {
    /// None when the command asks for nothing of that kind, or its object is not there.
    pub fn of(state: &Customer, command: &Command) -> Option<Self> {
        let (uid, generation, with_ends) = match &command.body {
            CommandBody::Site(id, ask) => sought(state.sites.get(id)?, ask)?,
            CommandBody::Tunnel(id, ask) => sought(state.tunnels.get(id)?, ask)?,
            CommandBody::Device(id, ask) => sought(state.devices.get(id)?, ask)?,
            _ => return None,
        };
        let object = command.object();
        Some(Self {
            object,
            uid,
            generation,
            with_ends,
            passing: None,
            specified: None,
            found: Former::Never,
        })
    }

    /// Takes the next event; `by` is the command that decided it.
    pub fn pass(&mut self, by: CommandId, event: &Event) {
        if event.object() != self.object {
            return;
        }
        let with_ends = self.with_ends;
        let (generation, made) = match event {
            Event::Site(_, change) => (generation_of(change, with_ends), made(change)),
            Event::Tunnel(_, change) => (generation_of(change, with_ends), made(change)),
            Event::Device(_, change) => (generation_of(change, with_ends), made(change)),
            Event::Customer(..) => return,
        };
        if made == Made::Object {
            self.passing = Some(by);
        }
        if made != Made::NoSpecification {
            self.specified = Some(Box::new(event.clone()));
        }
        if generation != Some(self.generation) {
            return;
        }
        match &self.specified {
            Some(specified) if self.passing == Some(self.uid) => self.found = Former::Made(specified.clone()),
            _ => self.found = Former::OfAnother,
        }
    }

    /// What was found.
    pub fn found(self) -> Former {
        self.found
    }
}

/// The object and the generation that a `revert` names, or that a `cancel` goes back to, and whether it may be one in which
/// the object was to be taken down.
fn sought<S>(object: &Object<S>, ask: &Ask<S>) -> Option<(CommandId, u64, bool)> {
    let (body, with_ends) = match ask {
        Ask::Revert(body) => (body.clone(), false),
        Ask::Cancel => (cancel::former(object)?, true),
        _ => return None,
    };
    Some((object.uid, body.to_generation, with_ends))
}

/// What a change made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Made {
    /// The object, with its first specification.
    Object,
    /// Another specification.
    Specification,
    /// Nothing of that kind.
    NoSpecification,
}

fn made<S>(change: &Change<S>) -> Made {
    match change {
        Change::Created { .. } => Made::Object,
        Change::Changed { .. } => Made::Specification,
        _ => Made::NoSpecification,
    }
}

/// The generation that a change made in which the object had a specification. One that brought another version of the
/// template has the specification of the one before.
fn generation_of<S>(change: &Change<S>, with_ends: bool) -> Option<u64> {
    match change {
        Change::DecommissionRequested { generation } => with_ends.then_some(*generation),
        Change::Created { generation, .. }
        | Change::Changed { generation, .. }
        | Change::TemplateAssigned { generation, .. } => Some(*generation),
        _ => None,
    }
}

/// The object that is to be what it was: one that stays, or whose end was rejected. `rejected`: as a plan of its stack.
pub(crate) fn revertible<'a, S>(
    object: Option<&'a Object<S>>,
    name: &str,
    body: &RevertBody,
    rejected: bool,
) -> Result<&'a Object<S>, Refusal> {
    let object = holds::present(object, name)?;
    if object.leaving && !object.is_rejected() && !rejected {
        return Err(Refusal::new(Reason::BeingRemoved, format!("{name} is being decommissioned")));
    }
    if object.generation == body.to_generation {
        let message = format!("{name} has generation {} now", object.generation);
        return Err(Refusal::new(Reason::PresentGeneration, message).field("to_generation"));
    }
    Ok(object)
}

/// The specification that an object had, with its settings in the vendor's stored version.
pub(crate) fn former<S: Specified>(
    object: &Object<S>,
    name: &str,
    body: &RevertBody,
    vendor: &Vendor,
    facts: Circumstances<'_>,
) -> Result<S, Refusal> {
    let generation = body.to_generation;
    let refused = |code, message: String| Err(Refusal::new(code, message).field("to_generation"));
    let made = match facts.former {
        Some(Former::Made(event)) => S::change_in(event),
        Some(Former::OfAnother) => {
            let message = format!("generation {generation} was one of an earlier {name}, which is gone");
            return refused(Reason::FormerObject, message);
        }
        Some(Former::Never) | None => None,
    };
    let (Some(Change::Created { spec, schema, .. }) | Some(Change::Changed { spec, schema, .. })) = made
    else {
        let message = format!("{name} never had a specification in generation {generation}");
        return refused(Reason::UnknownGeneration, message);
    };
    let then = Object { spec: spec.clone(), schema: schema.clone(), ..object.clone() };
    let Some(mut spec) = settings::as_stored(&then, vendor) else {
        let message = format!(
            "the settings of generation {generation} of {name} are in a version which {} does not have now",
            vendor.title
        );
        return refused(Reason::UnknownSchemaVersion, message);
    };
    spec.set_contact(object.spec.contact().cloned());
    Ok(spec)
}

/// Circumstances in which a former specification is judged: it is in the stored version, whatever its sender speaks.
pub(crate) fn as_stored(facts: Circumstances<'_>) -> Circumstances<'_> {
    Circumstances { schema: None, ..facts }
}

/// The change back, unless the object is like that already.
pub(crate) fn reverted<S: Specified>(
    object: &Object<S>,
    spec: S,
    body: &RevertBody,
    vendor: &Vendor,
) -> Vec<Change<S>> {
    if !object.leaving && settings::as_stored(object, vendor).is_some_and(|present| present == spec) {
        return Vec::new();
    }
    let (generation, schema) = (object.generation + 1, settings::reference::<S>(vendor));
    vec![Change::Changed { generation, spec, schema, reverted_to: Some(body.to_generation) }]
}
