//! Attending to one row of the table: lease, newest order, run, report, that very version marked as done.

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wanwright_nats::{Leases, NatsError, OrderTable, timer, trace};
use wanwright_schemas::order::{Intent, Order};
use wanwright_schemas::reason::Reason;
use wanwright_schemas::report::{Finding, ObjectFinding};
use wanwright_schemas::run::RunEvent;
use wanwright_vendors::{Engine, Vendor};

use super::attempts::{Attempt, Attempts, Phase};
use super::board::Ended;
use super::{Config, News, backoff};
use crate::engine::{self, Log, Outcome, Run, Scans};
use crate::gateway::{RunContext, journal};
use crate::{records, reporting};

/// How long a row waits whose target somebody else is at, or that met trouble with NATS.
const BUSY: Duration = Duration::from_secs(2);

/// How far the server's clock may be ahead of ours: a timer that fired is believed.
const SKEW: Duration = Duration::from_secs(1);

pub(super) struct Attendant {
    pub(super) leases: Leases,
    pub(super) table: OrderTable,
    pub(super) attempts: Attempts,
    pub(super) config: Config,
    pub(super) scans: Scans,
}

/// What to do with a row after its run.
enum Next {
    /// It is worked off.
    Finished,
    /// It waits until then; a NATS timer has been set.
    Later,
    /// It waits a moment; nobody has set a timer.
    Soon,
}

impl Attendant {
    /// Attends to a row and says how its run ended.
    pub(super) async fn attend(
        &self,
        row: &str,
        lease: &str,
        stop: &CancellationToken,
        tell: &mpsc::Sender<News>,
    ) -> Ended {
        match self.try_attend(row, lease, stop).await {
            Ok(Next::Finished) => return Ended::Finished,
            Ok(Next::Later) => return Ended::Parked,
            Ok(Next::Soon) => {}
            Err(error) => {
                tracing::warn!(row, error = &error as &dyn std::error::Error, "an order waits a moment");
            }
        }
        let (row, tell, stop) = (row.to_owned(), tell.clone(), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(BUSY) => drop(tell.send(News::Due(row)).await),
            }
        });
        Ended::Parked
    }

    async fn try_attend(&self, row: &str, lease: &str, stop: &CancellationToken) -> Result<Next, NatsError> {
        let Some(lease) = self.leases.take(lease).await? else { return Ok(Next::Soon) };
        let next = tokio::select! {
            next = self.work(row, stop) => next,
            () = lease.lost() => {
                // Somebody else may be at the target by now: nothing more is done or noted. The try that never ended
                // tells whoever comes next.
                tracing::warn!(row, "the lease was lost; the run is abandoned");
                return Ok(Next::Soon);
            }
        };
        lease.release().await?;
        next
    }

    /// Works a row off; its target is leased.
    async fn work(&self, row: &str, stop: &CancellationToken) -> Result<Next, NatsError> {
        let Some(newest) = self.table.get(row).await?.filter(|newest| !newest.is_done()) else {
            self.attempts.clear(row).await?;
            return Ok(Next::Finished);
        };
        let order: Order = match serde_json::from_slice(&newest.payload) {
            Ok(order) => order,
            Err(error) => {
                tracing::error!(row, %error, "a row of the table is no order; it is left alone");
                return Ok(Next::Finished);
            }
        };
        let last = self.attempts.get(row).await?;
        if let Some(Attempt { order: same, phase: Phase::Waiting { not_before }, .. }) = &last
            && *same == order.id
            && *not_before > Timestamp::now() + SKEW
        {
            // Its timer may have been lost with whoever set it; setting it again changes nothing.
            self.set_timer(row, &order, *not_before).await?;
            return Ok(Next::Later);
        }
        let vendors = self.config.vendors.snapshot();
        let Some(vendor) = vendors.get(order.vendor.as_str()) else {
            tracing::error!(row, vendor = %order.vendor, "no folder for this vendor: the order waits");
            return Ok(Next::Soon);
        };
        let context = records::context_of(&order, trace::read(&newest.headers));
        if let Some((number, executor)) = last.as_ref().and_then(|last| Some((last.number, last.died()?))) {
            self.note_death(&context, number, executor.to_owned()).await?;
        }
        let attempt = Attempt::begin(last.as_ref(), order.id, &self.config.executor);
        self.attempts.put(row, &attempt).await?;
        let started = RunEvent::Started { attempt: attempt.number, executor: self.config.executor.clone() };
        records::write(&self.config.nats, &context, started).await;
        let began = Instant::now();
        let opened = self.config.gateway.open(context.clone());
        let run = Run {
            order: &order,
            vendor,
            gateway: &opened,
            observe_first: attempt.unsure,
            scans: &self.scans,
            attempt: attempt.number,
            log: Log::new(&self.config.nats, &context),
        };
        let outcome = self.carry_out(&run, vendor, stop).await;
        let calls = opened.calls();
        drop(opened);
        let work =
            Work { row, sequence: newest.sequence, order: &order, context: &context, attempt: &attempt };
        match outcome {
            Outcome::Done(findings) => {
                self.finish(&work, findings, RunEvent::Succeeded { calls, millis: millis(began.elapsed()) })
                    .await
            }
            Outcome::Passing { code, message, ours } => {
                let failures = attempt.failures + u32::from(!ours);
                if failures < backoff::MAX_FAILURES {
                    return self.later(&work, failures, ours, code, message).await;
                }
                let message = format!("{message} (failed {failures} times)");
                // A look that fails says nothing about the object, so there is nothing to report.
                let findings =
                    if order.changes() { engine::failed(&order, code, &message) } else { Vec::new() };
                self.finish(&work, findings, RunEvent::Failed { code, message }).await
            }
        }
    }

    /// Notes that a run died, with what the effect journal says it may have done.
    async fn note_death(
        &self,
        context: &RunContext,
        attempt: u32,
        executor: String,
    ) -> Result<(), NatsError> {
        let nats = &self.config.nats;
        records::write(nats, context, RunEvent::Unknown { attempt, executor }).await;
        for effect in journal::unanswered(nats, context).await? {
            let key = effect.key.map(|key| format!(" under the key {key}")).unwrap_or_default();
            let what =
                format!("unknown: {} {}{key} was asked for and never answered", effect.method, effect.path);
            Log::new(nats, context).line("warn", what).await;
        }
        Ok(())
    }

    async fn carry_out(&self, run: &Run<'_>, vendor: &Vendor, stop: &CancellationToken) -> Outcome {
        let kind = run.order.target().kind();
        match vendor.engine(kind.as_str()) {
            Some(Engine::Api) => engine::api::run(run).await,
            Some(Engine::Terraform) => self.config.terraform.run(run, stop).await,
            None => {
                let message = format!("vendor {} names no engine for a {kind}", vendor.name);
                Outcome::Done(engine::failed(run.order, Reason::Internal, &message))
            }
        }
    }

    /// Reports what there is to report, then removes the very version of the row that was carried out.
    async fn finish(
        &self,
        work: &Work<'_>,
        findings: Vec<ObjectFinding>,
        succeeded: RunEvent,
    ) -> Result<Next, NatsError> {
        let nats = &self.config.nats;
        let ending = failure_among(&findings).unwrap_or(succeeded);
        let gone = matches!(work.order.intent, Intent::Remove)
            && findings.iter().all(|found| matches!(found.finding, Finding::Removed));
        if !findings.is_empty()
            && let Err(refusal) =
                reporting::report(nats, work.order, findings, work.context.trace.as_ref()).await
        {
            // The state still wants the order, so the order stays.
            tracing::error!(order = %work.order.id, %refusal, "a report was refused; the order is tried again");
            let message = format!("the report was refused: {refusal}");
            return self.later(work, work.attempt.failures, true, refusal.code, message).await;
        }
        records::write(nats, work.context, ending).await;
        if gone {
            journal::forget(nats, work.context).await?;
        }
        self.table.done(work.row, work.sequence).await?;
        self.attempts.clear(work.row).await?;
        Ok(Next::Finished)
    }

    async fn later(
        &self,
        work: &Work<'_>,
        failures: u32,
        ours: bool,
        code: Reason,
        message: String,
    ) -> Result<Next, NatsError> {
        let wait = backoff::wait(work.order.id, work.attempt.number, ours);
        // Timers fire at full seconds.
        let at = Timestamp::from_second((Timestamp::now() + wait).as_second() + 1).unwrap_or(Timestamp::MAX);
        // The timer first: one that fires for a row that does not wait does no harm, a row without one waits for ever.
        self.set_timer(work.row, work.order, at).await?;
        self.attempts.put(work.row, &work.attempt.waiting(at, failures)).await?;
        let retrying = RunEvent::Retrying { attempt: work.attempt.number, code, message, at };
        records::write(&self.config.nats, work.context, retrying).await;
        Ok(Next::Later)
    }

    async fn set_timer(&self, row: &str, order: &Order, at: Timestamp) -> Result<(), NatsError> {
        let look = if order.changes() { "change" } else { "look" };
        let target = order.target();
        let name =
            format!("retry.{}.{}.{look}.{}.{}", order.vendor, order.customer, target.kind(), target.id());
        timer::set(&self.config.nats.js, &name, at, row.to_owned()).await
    }
}

/// A row at work.
struct Work<'a> {
    row: &'a str,
    /// The version of the row that is carried out.
    sequence: u64,
    order: &'a Order,
    context: &'a RunContext,
    attempt: &'a Attempt,
}

/// The failure to record for an order, if one of its objects failed for good.
fn failure_among(findings: &[ObjectFinding]) -> Option<RunEvent> {
    findings.iter().find_map(|found| match &found.finding {
        Finding::Failed { code, message, .. } => {
            Some(RunEvent::Failed { code: *code, message: format!("{}: {message}", found.object) })
        }
        _ => None,
    })
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
