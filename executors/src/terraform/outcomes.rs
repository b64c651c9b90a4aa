//! What the end of a run means for its order.

use serde_json::Value;
use wanwright_schemas::order::Order;
use wanwright_schemas::reason::Reason;
use wanwright_vendors::ClientError;

use super::findings::Stack;
use super::messages::{Problem, Said};
use crate::engine::{self, Outcome, Run};

/// An order that this engine cannot carry out.
pub(super) fn internal(message: &str) -> Outcome {
    Outcome::Passing { code: Reason::Internal, message: message.to_owned(), ours: false }
}

/// What Terraform does not know could not be removed.
pub(super) fn not_cleared(run: &Run<'_>, error: &ClientError) -> Outcome {
    let (code, message) = (engine::reason_of(error), format!("removing what a dead run left: {error}"));
    if error.is_passing() {
        // Between here and the gateway there is nothing of the vendor's.
        let ours = matches!(error, ClientError::Network { .. });
        return Outcome::Passing { code, message, ours };
    }
    Outcome::Done(engine::failed(run.order, code, &message))
}

/// The first problem that may pass stands for the run.
pub(super) fn passing(said: &Said) -> Outcome {
    let worst = said.problems.iter().find(|problem| problem.class != Some(Reason::VendorRefused));
    match worst.or(said.problems.first()) {
        Some(problem) => Outcome::Passing {
            code: problem.class.unwrap_or(Reason::Internal),
            message: match &problem.address {
                Some(address) => format!("{address}: {}", problem.message),
                None => problem.message.clone(),
            },
            ours: false,
        },
        None => Outcome::Passing {
            code: Reason::Internal,
            message: match said.last_words.as_str() {
                "" => "Terraform ended without saying why".to_owned(),
                words => format!("Terraform ended without saying why; the last it said was: {words}"),
            },
            ours: true,
        },
    }
}

/// Whether the vendor refused each thing that failed, or a person has to look at one of them before anything is asked for
/// again.
pub(super) fn is_final(said: &Said) -> bool {
    let refused =
        |problem: &Problem| matches!(problem.class, Some(Reason::VendorRefused | Reason::OutcomeUnknown));
    !said.problems.is_empty() && (said.problems.iter().all(refused) || is_unknown(said))
}

fn is_unknown(said: &Said) -> bool {
    said.problems.iter().any(|problem| problem.class == Some(Reason::OutcomeUnknown))
}

/// What a run comes to that no other try changes, by what it said and the state it left.
pub(super) fn finally(order: &Order, stack: &Stack<'_>, said: &Said, state: &Value) -> Outcome {
    if let Some(findings) = stack.partly(said, state, &order.intent) {
        return Outcome::Done(findings);
    }
    if is_unknown(said) {
        let messages: Vec<&str> = said.problems.iter().map(|problem| problem.message.as_str()).collect();
        return Outcome::Done(engine::failed(order, Reason::OutcomeUnknown, &messages.join("; ")));
    }
    match said.problems.first() {
        // What was refused before there was a plan is refused the next time as well, whichever object it is of.
        Some(first) if !said.is_planned() => {
            Outcome::Done(engine::failed(order, Reason::VendorRefused, &first.message))
        }
        _ => passing(said),
    }
}
