//! Noting that a run died: once, by whoever finds it first.

use jiff::Timestamp;
use wanwright_nats::topology::RUNS;
use wanwright_nats::{Nats, NatsError, load_subject};
use wanwright_schemas::run::RunEvent;
use wanwright_schemas::subjects;

use crate::gateway::RunContext;
use crate::records;

/// A try that died.
#[derive(Debug)]
pub(crate) struct Died {
    /// Which one, from 1.
    pub(crate) attempt: u32,
    /// Who was at it.
    pub(crate) executor: String,
    /// When it was noted that it begins, by the server's clock.
    pub(crate) noted: Timestamp,
}

/// Writes down that a try died, unless that was done since it began. Whoever does so holds the lease of the target, so that
/// nobody is at it, and nobody else does so meanwhile.
///
/// # Errors
/// [`NatsError`], when what is written about the order cannot be read.
pub(crate) async fn note(nats: &Nats, context: &RunContext, died: &Died) -> Result<(), NatsError> {
    let Died { attempt, executor, noted } = died;
    let event = RunEvent::Unknown { attempt: *attempt, executor: executor.clone() };
    let subject = subjects::run(&context.customer, context.order, event.word());
    let written = load_subject(nats, RUNS, &subject, 0).await?;
    if written.last().is_none_or(|last| last.time < *noted) {
        tracing::warn!(order = %context.order, executor, attempt, "a run died; what it did is unknown until it is looked at");
        records::write(nats, context, event).await;
    }
    Ok(())
}
