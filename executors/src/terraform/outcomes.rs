//! What the end of a run means for its order.

use wanwright_schemas::reason::Reason;
use wanwright_vendors::ClientError;

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

/// Whether the vendor refused each thing that failed, or a person has to look before it is asked for again.
pub(super) fn is_refused(said: &Said) -> bool {
    let refused =
        |problem: &Problem| matches!(problem.class, Some(Reason::VendorRefused | Reason::OutcomeUnknown));
    !said.problems.is_empty() && said.problems.iter().all(refused)
}
