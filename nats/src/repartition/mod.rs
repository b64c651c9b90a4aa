//! Changing how many partitions the customers are spread over, while no role runs.
//!
//! Every history of a customer that moves is copied to its new subject; what is there already must be a prefix of it,
//! byte for byte. So it can be killed and run again, and going back finds what was left there. Nothing is ever removed
//! from a stream of events. From the first write to the last a mark in the metadata of COMMANDS keeps every role from
//! starting, and one last write says the new count and takes the mark away.

mod error;
mod gate;
mod histories;
mod idle;
mod report;
mod streams;
mod verdicts;

use std::time::Duration;

use wanwright_schemas::subjects;

use crate::connect::Nats;
use crate::lease::{Lease, Leases};
use crate::partitions::{self, Change, MOST};
use crate::topology::{OUTCOMES, PARTITION_LEASE_TIME, SNAPSHOTS, existing};
use gate::Gate;
use histories::Histories;

pub use error::RepartitionError;
pub use report::{Plan, Progress, Report};

/// The lease that keeps a second one away.
const LEASE: &str = "repartition";

/// How long to wait for the lease of one that was killed.
const PATIENCE: Duration = Duration::from_secs(PARTITION_LEASE_TIME.as_secs() + 1);

/// A change of the count.
struct Work<'a> {
    nats: Nats,
    change: Change,
    /// Whether an earlier run has set the mark.
    begun: bool,
    tell: &'a (dyn Fn(Progress) + Sync),
}

/// Says what a change to this count would move, and whether what is at the new places fits. Writes nothing.
///
/// # Errors
/// [`RepartitionError`]; the roles may run.
pub async fn plan(nats: &Nats, to: u16) -> Result<Plan, RepartitionError> {
    let work = Work::open(nats, to, &|_| ()).await?;
    let histories = work.histories().await?;
    histories.check().await?;
    work.planned(&histories).await
}

/// Changes the count. `holder` names this process to others.
///
/// # Errors
/// [`RepartitionError`]. What is refused before anything was written leaves everything as it was; after that the mark
/// stays, and running it again goes on.
pub async fn run(
    nats: &Nats,
    to: u16,
    holder: &str,
    tell: &(dyn Fn(Progress) + Sync),
) -> Result<Report, RepartitionError> {
    let lease = take_lease(nats, holder).await?;
    let done = tokio::select! {
        done = async { Work::open(nats, to, tell).await?.run().await } => done,
        () = lease.lost() => Err(RepartitionError::LeaseLost),
    };
    if lease.is_held() {
        lease.release().await?;
    }
    done
}

async fn take_lease(nats: &Nats, holder: &str) -> Result<Lease, RepartitionError> {
    let leases = Leases::of_partitions(nats, holder).await?;
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(lease) = leases.take(LEASE).await? {
            return Ok(lease);
        }
        if tokio::time::Instant::now() >= end {
            return Err(RepartitionError::Busy(leases.holder(LEASE).await?.unwrap_or_default()));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

impl<'a> Work<'a> {
    async fn open(
        nats: &Nats,
        to: u16,
        tell: &'a (dyn Fn(Progress) + Sync),
    ) -> Result<Self, RepartitionError> {
        if !(1..=MOST).contains(&to) {
            return Err(RepartitionError::Count(to));
        }
        let found = partitions::ask(nats).await?.ok_or(RepartitionError::NoStreams(to))?;
        // Going back ends a change too: under the old count every history is still whole.
        match found.change {
            Some(Change { from, to: other }) if ![from, other].contains(&to) => {
                Err(RepartitionError::Unfinished { from, to: other })
            }
            _ => {
                let change = Change { from: found.count, to };
                Ok(Self { nats: nats.clone(), change, begun: found.change.is_some(), tell })
            }
        }
    }

    async fn histories(&self) -> Result<Histories<'_>, RepartitionError> {
        Histories::list(&self.nats, self.change, self.tell).await
    }

    async fn planned(&self, histories: &Histories<'_>) -> Result<Plan, RepartitionError> {
        let Change { from, to } = self.change;
        let mut missing = Vec::new();
        for partition in 0..to {
            let name = subjects::events_stream(partition);
            if existing(&self.nats, &name).await?.is_none() {
                missing.push(name);
            }
        }
        Ok(Plan {
            from,
            to,
            begun: self.begun,
            customers: histories.customers,
            moving: histories.moves.len() as u64,
            messages: histories.moves.iter().map(|history| history.messages).sum(),
            present: histories.moves.iter().map(|history| history.present).sum(),
            streams: missing,
        })
    }

    async fn run(&self) -> Result<Report, RepartitionError> {
        let first = self.histories().await?;
        let plan = self.planned(&first).await?;
        if self.change.from == self.change.to && !self.begun {
            return Ok(Report { plan, copied: 0, verdicts: 0, damaged: Vec::new() });
        }
        if !self.begun {
            self.nobody_works().await?;
            // Before anything is written: what does not fit must not leave the mark behind.
            first.check().await?;
        }
        self.close_and_open().await?;
        self.create(&plan.streams).await?;
        // Nobody appends any more, so this is what has to be there in the end.
        let histories = self.histories().await?;
        let copied = histories.copy().await?;
        self.histories().await?.all_there()?;
        let verdicts = verdicts::copy(&self.nats, self.change, self.tell).await?;
        for name in [SNAPSHOTS, OUTCOMES] {
            self.empty(name).await?;
        }
        self.count_everywhere().await?;
        Gate::read(&self.nats, self.change).await?.finish().await?;
        Ok(Report { plan, copied: copied.messages, verdicts, damaged: copied.damaged })
    }

    /// Sets the mark, makes sure that nobody works, and lets commands be stored by the new count.
    async fn close_and_open(&self) -> Result<(), RepartitionError> {
        let gate = Gate::read(&self.nats, self.change).await?;
        if gate.is_open() {
            return Ok(());
        }
        gate.close().await?;
        // A role that started before the mark was there holds its lease or reads by now; one that comes later sees it.
        let free = async {
            self.nobody_works().await?;
            self.inbox_is_empty().await
        };
        if let Err(error) = free.await {
            gate.restore().await?;
            return Err(match error {
                RepartitionError::Inbox(_) if !gate.stores_by(self.change.from) => {
                    RepartitionError::NoWayBack
                }
                error => error,
            });
        }
        Ok(gate.open().await?)
    }
}
