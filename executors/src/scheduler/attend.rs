//! Attending to one row of the table: lease, newest order, run, report, removal of that very version.

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wanwright_nats::{Lease, Leases, NatsError, OrderTable, timer};
use wanwright_schemas::order::{Intent, Order};
use wanwright_schemas::reason::Reason;
use wanwright_schemas::report::{Finding, ObjectFinding};
use wanwright_schemas::run::RunEvent;
use wanwright_vendors::{Engine, Vendor};

use super::attempts::{Attempt, Attempts, Phase};
use super::board::Ended;
use super::{Config, News, backoff};
use crate::engine::{self, Log, Outcome, Run};
use crate::gateway::{RunContext, journal};
use crate::{records, reporting};

/// How long a row waits whose target somebody else is at, or that met trouble with NATS.
const BUSY: Duration = Duration::from_secs(2);

pub(super) struct Attendant {
    pub(super) leases: Leases,
    pub(super) table: OrderTable,
    pub(super) attempts: Attempts,
    pub(super) config: Config,
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
        stop: &CancellationToken,
        tell: &mpsc::Sender<News>,
    ) -> Ended {
        match self.try_attend(row, stop).await {
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

    async fn try_attend(&self, row: &str, stop: &CancellationToken) -> Result<Next, NatsError> {
        let Some(lease) = self.leases.take(&lease_of(row)).await? else { return Ok(Next::Soon) };
        let next = self.with_lease(row, &lease, stop).await;
        lease.release().await?;
        next
    }

    async fn with_lease(
        &self,
        row: &str,
        lease: &Lease,
        stop: &CancellationToken,
    ) -> Result<Next, NatsError> {
        let Some(newest) = self.table.get(row).await? else {
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
            && *not_before > Timestamp::now()
        {
            return Ok(Next::Later);
        }
        let Some(vendor) = self.config.vendors.get(order.vendor.as_str()) else {
            tracing::error!(row, vendor = %order.vendor, "no folder for this vendor: the order waits for a restart");
            return Ok(Next::Later);
        };
        let context = records::context_of(&order);
        let number = last.as_ref().filter(|last| last.order == order.id).map_or(1, Attempt::next);
        let died = last.as_ref().and_then(|last| Some((last.number, last.died()?.to_owned())));
        if let Some((attempt, executor)) = &died {
            self.note_death(&context, *attempt, executor.clone()).await?;
        }
        let executor = self.config.executor.clone();
        let running =
            Attempt { order: order.id, number, phase: Phase::Running { executor: executor.clone() } };
        self.attempts.put(row, &running).await?;
        let started = RunEvent::Started { attempt: number, executor };
        records::write(&self.config.nats, &context, started).await;
        let began = Instant::now();
        let opened = self.config.gateway.open(context.clone());
        let run = Run {
            order: &order,
            vendor,
            base_url: opened.base_url(),
            observe_first: died.is_some(),
            attempt: number,
            log: Log::new(&self.config.nats, &context),
        };
        let outcome = tokio::select! {
            outcome = self.carry_out(&run, vendor, stop) => outcome,
            () = lease.lost() => {
                // Somebody else may be at the target by now; what this run did is unknown until it is observed.
                tracing::warn!(row, "the lease was lost; the run is abandoned");
                return Ok(Next::Soon);
            }
        };
        match outcome {
            Outcome::Done(findings) => {
                let succeeded =
                    RunEvent::Succeeded { calls: opened.calls(), millis: millis(began.elapsed()) };
                self.finish(row, newest.sequence, &order, &context, findings, succeeded).await?;
                Ok(Next::Finished)
            }
            Outcome::Passing { code, message } if number < backoff::MAX_TRIES => {
                self.later(row, &order, &context, number, code, message).await?;
                Ok(Next::Later)
            }
            Outcome::Passing { code, message } => {
                let message = format!("{message} (tried {number} times)");
                // A look that fails says nothing about the object, so there is nothing to report.
                let findings =
                    if order.changes() { engine::failed(&order, code, &message) } else { Vec::new() };
                let failed = RunEvent::Failed { code, message };
                self.finish(row, newest.sequence, &order, &context, findings, failed).await?;
                Ok(Next::Finished)
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
        row: &str,
        sequence: u64,
        order: &Order,
        context: &RunContext,
        findings: Vec<ObjectFinding>,
        succeeded: RunEvent,
    ) -> Result<(), NatsError> {
        let mut ending = failure_among(&findings).unwrap_or(succeeded);
        let gone = matches!(order.intent, Intent::Remove)
            && findings.iter().all(|found| matches!(found.finding, Finding::Removed));
        if !findings.is_empty()
            && let Err(refusal) = reporting::report(&self.config.nats, order, findings).await
        {
            tracing::error!(order = %order.id, %refusal, "a report was refused");
            ending = RunEvent::Failed {
                code: refusal.code,
                message: format!("the report was refused: {refusal}"),
            };
        }
        records::write(&self.config.nats, context, ending).await;
        if gone {
            journal::forget(&self.config.nats, context).await?;
        }
        self.table.remove(row, sequence).await?;
        self.attempts.clear(row).await
    }

    async fn later(
        &self,
        row: &str,
        order: &Order,
        context: &RunContext,
        number: u32,
        code: Reason,
        message: String,
    ) -> Result<(), NatsError> {
        let wait = backoff::wait(order.id, number);
        // Timers fire at full seconds.
        let at = Timestamp::from_second((Timestamp::now() + wait).as_second() + 1).unwrap_or(Timestamp::MAX);
        let waiting = Attempt { order: order.id, number, phase: Phase::Waiting { not_before: at } };
        self.attempts.put(row, &waiting).await?;
        timer::set(
            &self.config.nats.js,
            &format!("retry.{}.{}", order.customer, order.id),
            at,
            row.to_owned(),
        )
        .await?;
        let retrying = RunEvent::Retrying { attempt: number, code, message, at };
        records::write(&self.config.nats, context, retrying).await;
        Ok(())
    }
}

/// Changing a target and looking at it share one lease: its row's name without the word that tells them apart.
fn lease_of(row: &str) -> String {
    row.replacen(".observe-", ".", 1)
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
