//! Taking back what was asked for and not begun.
//!
//! The object gets another generation, with the specification of the one that was applied last: generations never go back,
//! so that nobody takes one thing for another. Where nothing was tried since, the vendor has just that, and nothing is to
//! be done. Where something was, nobody knows what the vendor has, and the new generation is carried out like any other.
//! An object that was never applied is gone, or is taken down where its making was tried.
//!
//! Whether an executor has taken the change up is no matter of the history: whoever asks for a decision finds that out, and
//! keeps executors away from the target until it is recorded (`service/cancelling.rs`).

use wanwright_schemas::command::{Ask, Command, CommandBody};
use wanwright_schemas::event::Change;
use wanwright_schemas::order::Target;
use wanwright_schemas::reason::{Reason, Refusal};
use wanwright_schemas::remarks::RevertBody;
use wanwright_vendors::Vendor;

use crate::customer::Customer;
use crate::decide::Circumstances;
use crate::holds;
use crate::object::Object;
use crate::settings::{self, Specified};

/// How far the order about a target is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Standing {
    /// Nobody has begun it.
    #[default]
    Waiting,
    /// A try has ended, or died, without success.
    Tried,
    /// An executor has taken it up.
    Running,
}

/// The target whose order a `cancel` is about; none for any other command, and where the object is not there.
pub fn target_of(state: &Customer, command: &Command) -> Option<Target> {
    match &command.body {
        CommandBody::Site(id, Ask::Cancel) => Some(Target::Site(id.clone())),
        CommandBody::Tunnel(id, Ask::Cancel) => Some(Target::Site(state.tunnels.get(id)?.spec.site.clone())),
        CommandBody::Device(id, Ask::Cancel) => Some(Target::Device(id.clone())),
        _ => None,
    }
}

/// The generation that the object would have again; none where it was never applied.
pub(crate) fn former<S>(object: &Object<S>) -> Option<RevertBody> {
    let to_generation = object.observed.as_ref()?.generation;
    Some(RevertBody { to_generation })
}

/// The object whose change can be taken back.
pub(crate) fn cancellable<'a, S>(
    object: Option<&'a Object<S>>,
    name: &str,
    facts: Circumstances<'_>,
) -> Result<&'a Object<S>, Refusal> {
    let object = holds::present(object, name)?;
    if let Some(failure) = &object.failure {
        let message = format!("the change of {name} has failed: {}", failure.message);
        return Err(Refusal::new(Reason::NothingToCancel, message));
    }
    let observed = object.observed.as_ref().map(|observed| observed.generation);
    if !object.leaving && observed == Some(object.generation) {
        let message =
            format!("the vendor has generation {} of {name}, which is what is wanted", object.generation);
        return Err(Refusal::new(Reason::NothingToCancel, message));
    }
    if facts.standing == Standing::Running {
        let message = format!("an executor has taken up the change of {name}");
        return Err(Refusal::new(Reason::OrderRunning, message));
    }
    Ok(object)
}

/// The object as it was applied last, in another generation.
pub(crate) fn restored<S: Specified>(
    object: &Object<S>,
    spec: S,
    former: &RevertBody,
    vendor: &Vendor,
    facts: Circumstances<'_>,
) -> Vec<Change<S>> {
    let generation = object.generation + 1;
    let (schema, restored) = (settings::reference::<S>(vendor), Some(former.to_generation));
    vec![
        Change::Changed { generation, spec, schema, reverted_to: restored },
        Change::Cancelled { generation, restored, tried: is_tried(object, facts) },
    ]
}

/// The end of an object that the vendor never had.
pub(crate) fn never_applied<S>(
    object: &Object<S>,
    name: &str,
    facts: Circumstances<'_>,
) -> Result<Vec<Change<S>>, Refusal> {
    if object.protected {
        return Err(Refusal::new(Reason::Protected, format!("{name} is protected, and would be gone")));
    }
    let generation = object.generation + 1;
    let tried = is_tried(object, facts);
    let going = tried.then_some(Change::DecommissionRequested { generation });
    Ok(going.into_iter().chain([Change::Cancelled { generation, restored: None, tried }]).collect())
}

fn is_tried<S>(object: &Object<S>, facts: Circumstances<'_>) -> bool {
    object.tried || facts.standing == Standing::Tried
}
