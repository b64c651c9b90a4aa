//! How a try ends: it is reported and its version of the row marked as done, or it waits for the next one.

use async_nats::HeaderMap;
use jiff::Timestamp;
use wanwright_nats::{NatsError, timer};
use wanwright_schemas::headers;
use wanwright_schemas::order::{Intent, Order};
use wanwright_schemas::reason::Reason;
use wanwright_schemas::report::{Finding, ObjectFinding, Report, StateMark};
use wanwright_schemas::run::RunEvent;
use wanwright_vendors::Engine;

use super::attempts::Attempt;
use super::attend::{Attendant, Next};
use super::backoff;
use crate::engine::Measure;
use crate::gateway::journal;
use crate::records::Records;
use crate::reporting;

/// A row at work.
pub(super) struct Work<'a> {
    pub(super) row: &'a str,
    /// The version of the row that is carried out.
    pub(super) sequence: u64,
    pub(super) order: &'a Order,
    /// What carries it out; none where its vendor has no folder, or the folder nothing for its kind.
    pub(super) engine: Option<Engine>,
    pub(super) records: &'a Records,
    pub(super) attempt: &'a Attempt,
    /// What it takes.
    pub(super) measure: &'a Measure,
}

/// What a run that ended leaves behind.
pub(super) struct Ran {
    /// How it ended, where none of its objects failed.
    pub(super) ending: RunEvent,
    /// Whether it asked for a change whose answer is not in the journal.
    pub(super) has_unanswered: bool,
    /// The newest version of the stack's Terraform state that is stored.
    pub(super) state: Option<StateMark>,
}

/// Why a try has to be made again.
pub(super) struct Trouble {
    pub(super) code: Reason,
    pub(super) message: String,
    /// Whether it was ours and not the vendor's.
    pub(super) ours: bool,
}

impl Attendant {
    /// Reports what there is to report, then marks the very version of the row as done that was carried out.
    pub(super) async fn finish(
        &self,
        work: &Work<'_>,
        findings: Vec<ObjectFinding>,
        ran: Ran,
    ) -> Result<Next, NatsError> {
        let nats = &self.config.nats;
        let context = work.records.context();
        let failure = failure_among(&findings);
        let is_undone = |found: &ObjectFinding| matches!(found.finding, Finding::PlanStale { .. });
        // Who only planned, or did not begin a plan, has not seen to what a run before left.
        let only_planned = matches!(work.order.intent, Intent::Plan { .. }) || findings.iter().any(is_undone);
        let unsettled = match only_planned {
            true => work.attempt.unsure || work.attempt.unsettled,
            false => failure.is_some() && (work.attempt.unsettled || ran.has_unanswered),
        };
        let failed = if only_planned { work.attempt.failed } else { failure.is_some() };
        let ending = failure.unwrap_or(ran.ending);
        let gone = matches!(work.order.intent, Intent::Remove)
            && findings.iter().all(|found| matches!(found.finding, Finding::Removed));
        let report = Report { order: work.order.id, findings, state: ran.state };
        if !report.findings.is_empty()
            && let Err(unreported) =
                reporting::report(nats, work.order, &report, context.trace.as_ref()).await
        {
            let refused = work.attempt.refused + 1;
            if refused >= self.config.patience.refusals {
                work.records.store().await;
                return self.bury_report(work, unreported).await;
            }
            // The state still wants the order, so the order stays.
            let refusal = unreported.refusal;
            tracing::error!(order = %work.order.id, %refusal, "a report was refused; the order is tried again");
            let message = format!("the report was refused: {refusal}");
            let attempt = Attempt { refused, ..work.attempt.clone() };
            let work = Work { attempt: &attempt, ..*work };
            return self
                .later(&work, attempt.failures, Trouble { code: refusal.code, message, ours: true })
                .await;
        }
        work.records.add(ending.measured(work.measure.usage())).await;
        // A run with Terraform has one of few slots, for which others wait.
        if work.engine != Some(Engine::Terraform) {
            self.closing.together().await;
        }
        work.records.store().await;
        if gone {
            journal::forget(nats, context).await?;
        }
        let mut head = HeaderMap::new();
        if !only_planned {
            head.insert(headers::AFTER_GENERATION, work.order.generation().to_string().as_str());
        }
        head.insert(headers::ENDED_ROW, work.sequence.to_string().as_str());
        let is_noted = unsettled || failed;
        if is_noted {
            // Before the row says that this version of it ended, which is all that is known of one without a note.
            self.attempts.put(work.row, &work.attempt.left(unsettled, failed)).await?;
        }
        let ended = self.table.end(work.row, work.sequence, head).await?;
        if !ended && !is_noted {
            // What was written meanwhile begins behind this generation.
            self.attempts.put(work.row, &work.attempt.done()).await?;
        }
        Ok(Next::Finished)
    }

    /// Has the row wait for its next try, by a timer.
    pub(super) async fn later(
        &self,
        work: &Work<'_>,
        failures: u32,
        trouble: Trouble,
    ) -> Result<Next, NatsError> {
        let Trouble { code, message, ours } = trouble;
        let wait = backoff::wait(work.order.id, work.attempt.number, ours);
        // Timers fire at full seconds.
        let at = Timestamp::from_second((Timestamp::now() + wait).as_second() + 1).unwrap_or(Timestamp::MAX);
        // The timer first: one that fires for a row that does not wait does no harm, a row without one waits for ever.
        self.set_timer(work.row, work.order, at).await?;
        self.attempts.put(work.row, &work.attempt.waiting(at, failures)).await?;
        let usage = Some(work.measure.usage());
        let retrying = RunEvent::Retrying { attempt: work.attempt.number, code, message, at, usage };
        work.records.add(retrying).await;
        work.records.store().await;
        Ok(Next::Later)
    }

    pub(super) async fn set_timer(&self, row: &str, order: &Order, at: Timestamp) -> Result<(), NatsError> {
        let look = if order.is_look() { "look" } else { "change" };
        let target = order.target();
        let name =
            format!("retry.{}.{}.{look}.{}.{}", order.vendor, order.customer, target.kind(), target.id());
        timer::set(&self.config.nats.js, &name, at, row.to_owned()).await
    }
}

/// The failure to record for an order, if one of its objects failed for good.
fn failure_among(findings: &[ObjectFinding]) -> Option<RunEvent> {
    findings.iter().find_map(|found| match &found.finding {
        Finding::Failed { code, message, .. } => {
            Some(RunEvent::failed(*code, format!("{}: {message}", found.object)))
        }
        _ => None,
    })
}
