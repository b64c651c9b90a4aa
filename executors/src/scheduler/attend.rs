//! Attending to one row of the table: lease, newest order, run, report, that very version marked as done.

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wanwright_nats::{Held, Leases, NatsError, OrderTable, TableRow, trace};
use wanwright_schemas::effect::Effect;
use wanwright_schemas::headers;
use wanwright_schemas::order::Order;
use wanwright_schemas::plan::Stale;
use wanwright_schemas::reason::Reason;
use wanwright_schemas::run::{Generations, RunEvent, Wait};
use wanwright_vendors::Engine;

use super::attempts::{Attempt, Attempts, Phase};
use super::board::Ended;
use super::closing::Closing;
use super::ending::{Ran, Trouble, Work};
use super::{Config, News, breakers};
use crate::deaths::{self, Died};
use crate::engine::{self, Begun, Log, Measure, Outcome, Run, Scans, Stored, Together};
use crate::gateway::{Admission, Admitted, NoLane, RunContext, journal};
use crate::records::{self, Records};

/// How long a row waits whose target somebody else is at: a look and a change of the same target share its lease, and one
/// who wants a change does not wait for seconds behind a look that takes a call.
const BUSY: Duration = Duration::from_millis(200);

/// How long a row waits that met trouble with NATS.
pub(super) const TROUBLE: Duration = Duration::from_secs(2);

/// How far the server's clock may be ahead of ours: a timer that fired is believed.
const SKEW: Duration = Duration::from_secs(1);

/// A row that was read so lately is not read again before its run begins.
const FRESH: Duration = Duration::from_millis(50);

/// How long a run waits at the gateway before that is written down.
const SAY_WAITING: Duration = Duration::from_secs(1);

pub(super) struct Attendant {
    pub(super) leases: Leases,
    pub(super) table: OrderTable,
    pub(super) attempts: Attempts,
    pub(super) config: Config,
    pub(super) scans: Scans,
    pub(super) together: Together,
    pub(super) closing: Closing,
}

/// What to do with a row after its run.
pub(super) enum Next {
    /// It is worked off.
    Finished,
    /// It waits until then; a NATS timer has been set.
    Later,
    /// Somebody else is at its target.
    Busy,
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
        let pause = match self.try_attend(row, lease, stop).await {
            Ok(Next::Finished) => return Ended::Finished,
            Ok(Next::Later) => return Ended::Parked,
            Ok(Next::Busy) => BUSY,
            Ok(Next::Soon) => TROUBLE,
            Err(error) => {
                tracing::warn!(row, error = &error as &dyn std::error::Error, "an order waits a moment");
                TROUBLE
            }
        };
        wake(row.to_owned(), pause, tell.clone(), stop.clone());
        Ended::Parked
    }

    async fn try_attend(&self, row: &str, lease: &str, stop: &CancellationToken) -> Result<Next, NatsError> {
        let Some(lease) = self.leases.take(lease).await? else { return Ok(Next::Busy) };
        let next = tokio::select! {
            // A process that stood still finds both at once: the run goes on, and the lease is somebody else's.
            biased;
            () = lease.lost() => {
                // Somebody else may be at the target by now: nothing more is done or noted. The try that never ended
                // tells whoever comes next.
                tracing::warn!(row, "the lease was lost; the run is abandoned");
                return Ok(Next::Soon);
            }
            next = self.work(row, stop, lease.held()) => next,
        };
        lease.release_untold().await?;
        next
    }

    /// Works a row off; its target is leased.
    async fn work(&self, row: &str, stop: &CancellationToken, held: Held) -> Result<Next, NatsError> {
        let measure = Measure::begin();
        let (newest, last) = tokio::join!(self.table.get(row), self.attempts.get(row));
        let newest = newest?;
        let last = last?.filter(|(last, _)| newest.as_ref().is_none_or(|newest| !last.has_ended(newest)));
        let (last, noted) = last.unzip();
        let Some(newest) = newest.filter(|newest| !newest.is_done()) else {
            if last.is_some() {
                self.attempts.clear(row).await?;
            }
            return Ok(Next::Finished);
        };
        let order: Order = match serde_json::from_slice(&newest.payload) {
            Ok(order) => order,
            Err(error) => return self.bury_unreadable(row, &newest, &error).await,
        };
        if let Some(Attempt { order: same, phase: Phase::Waiting { not_before }, .. }) = &last
            && *same == order.id
            && *not_before > Timestamp::now() + SKEW
        {
            // Its timer may have been lost with whoever set it; setting it again changes nothing.
            self.set_timer(row, &order, *not_before).await?;
            return Ok(Next::Later);
        }
        let context = records::context_of(&order, trace::read(&newest.headers));
        let records = Records::new(self.config.nats.clone(), context.clone());
        if let Some((last, noted)) = last.as_ref().zip(noted)
            && let Some(died) = last.died_at(noted)
        {
            self.note_death(&records, last, &died).await?;
        }
        let attempt = Attempt::begin(last.as_ref(), &order, newest.sequence, &self.config.executor);
        let patience = self.config.patience;
        let vendors = self.config.vendors.snapshot();
        let vendor = vendors.get(order.vendor.as_str());
        let engine = vendor.and_then(|vendor| vendor.engine(order.target().kind().as_str()));
        let work = Work {
            row,
            sequence: newest.sequence,
            order: &order,
            engine,
            records: &records,
            attempt: &attempt,
            measure: &measure,
        };
        let Some(vendor) = vendor else {
            let message = format!("there is no folder for vendor {}", order.vendor);
            let waited = Timestamp::now().duration_since(newest.time);
            if Duration::try_from(waited).unwrap_or_default() < patience.no_vendor {
                let trouble = Trouble { code: Reason::UnknownVendor, message, ours: true };
                return self.later(&work, attempt.failures, trouble).await;
            }
            return self.bury(&work, &newest, (Reason::UnknownVendor, message)).await;
        };
        if attempt.deaths >= patience.deaths {
            let message = format!("its run ended the executor {} times in a row", attempt.deaths);
            return self.bury(&work, &newest, (Reason::RunDied, message)).await;
        }
        if let Err(none) = self.config.gateway.reaches(&context) {
            return self.no_lane(&work, none).await;
        }
        let asked = Instant::now();
        let Some(admitted) = self.admit(&context, &order).await else { return Ok(Next::Soon) };
        let terraform = engine == Some(Engine::Terraform);
        let core = if terraform { self.config.terraform.core(stop).await } else { None };
        if terraform && core.is_none() {
            return Ok(Next::Soon);
        }
        measure.waited(asked);
        if asked.elapsed() > FRESH
            && self.table.get(row).await?.is_none_or(|now| now.sequence != newest.sequence)
        {
            // The newest version is the one that runs. The board has heard of it, or is about to.
            return Ok(Next::Finished);
        }
        self.attempts.put(row, &attempt.noted(&order)).await?;
        let started = RunEvent::Started {
            attempt: attempt.number,
            executor: self.config.executor.clone(),
            replaced: replaced(&order, &newest, last.as_ref()),
        };
        match terraform {
            true => records.add(started).await,
            false => records.begin(started),
        }
        let (began, begun, stored) = (Instant::now(), Begun::default(), Stored::default());
        let opened = self.config.gateway.open_with(records.clone(), context.clone());
        let run = Run {
            order: &order,
            vendor,
            gateway: &opened,
            observe_first: attempt.unsure,
            scans: &self.scans,
            together: &self.together,
            attempt: attempt.number,
            unsettled: attempt.unsettled,
            held: Some(held),
            log: Log::new(&self.config.nats, &opened),
            measure: &measure,
            begun: &begun,
            stored: &stored,
        };
        // Whoever was cut off over a plan may have applied a part of it.
        let outcome = match attempt.interrupted(&order) {
            Some(plan) => engine::stale(&order, plan, Stale::Interrupted),
            None => tokio::select! {
                outcome = self.carry_out(&run, engine, stop) => outcome,
                never = records.keep_storing() => match never {},
            },
        };
        let (calls, has_unanswered) = (opened.calls(), opened.has_unanswered());
        if matches!(outcome, Outcome::Done(_)) {
            self.config.gateway.learn(&opened, &order.intent);
        }
        // Who reports needs none.
        drop((core, opened, admitted));
        let attempt = Attempt { begun: attempt.begun || begun.is_set(), ..attempt.clone() };
        let work = Work { attempt: &attempt, ..work };
        match outcome {
            Outcome::Done(findings) => {
                let ending = RunEvent::Succeeded { calls, millis: millis(began.elapsed()), usage: None };
                self.finish(&work, findings, Ran { ending, has_unanswered, state: stored.get() }).await
            }
            Outcome::Passing { code, message, ours } => {
                // What fails because the vendor is down says nothing about the order.
                let ours = ours || (is_about_vendor(code) && self.is_closed(&context));
                let failures = attempt.failures + u32::from(!ours);
                if failures < patience.failures {
                    return self.later(&work, failures, Trouble { code, message, ours }).await;
                }
                let message = format!("{message} (failed {failures} times)");
                // A look that fails says nothing about the object, so there is nothing to report.
                let findings =
                    if !order.is_look() { engine::failed(&order, code, &message) } else { Vec::new() };
                let ending = RunEvent::failed(code, message);
                self.finish(&work, findings, Ran { ending, has_unanswered, state: stored.get() }).await
            }
        }
    }

    /// There is no way to the vendor with the order's account: for good where that was refused, else until it is there.
    async fn no_lane(&self, work: &Work<'_>, none: NoLane) -> Result<Next, NatsError> {
        let (code, message) = (none.refusal().code, none.refusal().message.clone());
        match none {
            NoLane::Away(_) => {
                self.later(work, work.attempt.failures, Trouble { code, message, ours: true }).await
            }
            NoLane::Refused(_) => {
                // A look that cannot be made says nothing about the object, so there is nothing to report.
                let order = work.order;
                let findings =
                    if !order.is_look() { engine::failed(order, code, &message) } else { Vec::new() };
                let ending = RunEvent::failed(code, message);
                self.finish(work, findings, Ran { ending, has_unanswered: false, state: None }).await
            }
        }
    }

    /// Waits until the run's calls can be served in time. Where that takes a while, it is said why.
    async fn admit(&self, context: &RunContext, order: &Order) -> Option<Admitted> {
        let gateway = &self.config.gateway;
        let admitted = gateway.admit(context, gateway.expected(context, &order.intent));
        tokio::pin!(admitted);
        if let Ok(admitted) = tokio::time::timeout(SAY_WAITING, &mut admitted).await {
            return admitted;
        }
        let why = match gateway.admits(context) {
            Some(Admission::HeldBack { .. } | Admission::Trial { .. } | Admission::Away) => Wait::Breaker,
            Some(Admission::Open | Admission::Blocked { .. }) | None => Wait::Budget,
        };
        records::write(&self.config.nats, context, RunEvent::Waiting { why }).await;
        admitted.await
    }

    fn is_closed(&self, context: &RunContext) -> bool {
        let admission = self.config.gateway.admits(context);
        admission.is_some_and(|admission| breakers::is_closed(&admission, Timestamp::now()))
    }

    /// Notes that a run died, with what the effect journal says it did and may have done: what it had recorded itself last
    /// may be lost.
    async fn note_death(&self, records: &Records, last: &Attempt, died: &Died) -> Result<(), NatsError> {
        deaths::note(&self.config.nats, records.context(), died).await?;
        let effects = journal::of_target(&self.config.nats, records.context()).await?;
        let line = |level: &str, message: String| RunEvent::log(level, message);
        for (effect, status) in last.began.iter().flat_map(|began| journal::answered(&effects, *began)) {
            let Effect { method, path, .. } = effect;
            let message = format!("before it died, {method} {path} was answered with {status}");
            records.add(line("info", message)).await;
        }
        for effect in journal::open(effects) {
            let key = effect.key.map(|key| format!(" under the key {key}")).unwrap_or_default();
            let message =
                format!("unknown: {} {}{key} was asked for and never answered", effect.method, effect.path);
            records.add(line("warn", message)).await;
        }
        records.store().await;
        Ok(())
    }

    async fn carry_out(&self, run: &Run<'_>, engine: Option<Engine>, stop: &CancellationToken) -> Outcome {
        match engine {
            Some(Engine::Api) => {
                let began = Instant::now();
                let outcome = engine::api::run(run).await;
                run.measure.ran(began);
                outcome
            }
            Some(Engine::Terraform) => self.config.terraform.run(run, stop).await,
            None => {
                let kind = run.order.target().kind();
                let message = format!("vendor {} names no engine for a {kind}", run.vendor.name);
                Outcome::Done(engine::failed(run.order, Reason::Internal, &message))
            }
        }
    }
}

/// Whether a failure is about the vendor as a whole and not about what was asked of it.
fn is_about_vendor(code: Reason) -> bool {
    matches!(code, Reason::Network | Reason::VendorBusy)
}

/// Brings a row back after a moment.
pub(super) fn wake(row: String, pause: Duration, tell: mpsc::Sender<News>, stop: CancellationToken) {
    tokio::spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(pause) => drop(tell.send(News::Due(row)).await),
        }
    });
}

/// The generations that an order takes the place of: those behind the newest one that was brought or tried before. The
/// dispatcher says in the row which one that was when it wrote it; what began since is known from the last try.
fn replaced(order: &Order, row: &TableRow, last: Option<&Attempt>) -> Option<Generations> {
    if !order.changes() {
        return None;
    }
    let said = row.headers.get(headers::AFTER_GENERATION)?.as_str().parse::<u64>().ok()?;
    let begun = last.filter(|last| last.order != order.id).map_or(0, |last| last.generation);
    Generations::between(said.max(begun), order.generation())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
