//! Changing how many partitions the customers are spread over, while no role runs.
//!
//! Every history of a customer that moves is copied to its new subject; what is there already must be a prefix of it,
//! byte for byte. So it can be killed and run again, and going back finds what was left there. Nothing is ever removed
//! from a stream of events. From the first write to the last a mark in the metadata of COMMANDS keeps every role from
//! starting, and one last write says the new count and takes the mark away.

mod gate;
mod histories;
mod verdicts;

use std::time::Duration;

use futures::TryStreamExt;
use serde::Serialize;
use wanwright_schemas::{CustomerId, subjects};

use crate::connect::Nats;
use crate::error::NatsError;
use crate::lease::{Lease, Leases};
use crate::partitions::{self, Change, MOST};
use crate::topology::{
    COMMANDS, OUTCOMES, PARTITION_LEASE_TIME, PARTITIONS_KEY, SNAPSHOTS, VERDICTS, existing, replicas,
    streams,
};
use gate::Gate;
use histories::Histories;

/// The lease that keeps a second one away.
const LEASE: &str = "repartition";

/// How long to wait for the lease of one that was killed.
const PATIENCE: Duration = Duration::from_secs(PARTITION_LEASE_TIME.as_secs() + 1);

/// Why the count was not changed, or not wholly.
#[derive(Debug, thiserror::Error)]
pub enum RepartitionError {
    /// NATS did not do its part; run it again.
    #[error(transparent)]
    Nats(#[from] NatsError),
    /// The count is none.
    #[error("there can be 1 to {MOST} partitions, not {0}")]
    Count(u16),
    /// There is nothing to change.
    #[error("there are no streams yet: `wanwright nats apply --partitions {0}` makes them")]
    NoStreams(u16),
    /// Another change has begun.
    #[error(
        "a change from {from} to {to} partitions is not finished: finish it with `wanwright nats repartition {to}`, or \
         go back with `wanwright nats repartition {from}`"
    )]
    Unfinished {
        /// The count before.
        from: u16,
        /// The count afterwards.
        to: u16,
    },
    /// Another process is at it.
    #[error("{0} changes the partition count already")]
    Busy(String),
    /// A command service runs.
    #[error(
        "partition {partition} is held by {holder}: stop all roles first; a command service that was killed lets go after \
         {} s",
        PARTITION_LEASE_TIME.as_secs()
    )]
    Held {
        /// The partition.
        partition: u16,
        /// The command service.
        holder: String,
    },
    /// Another role runs.
    #[error("{stream} is being read by {reader}: stop all roles first")]
    Reading {
        /// The stream.
        stream: String,
        /// The consumer.
        reader: String,
    },
    /// The inbox is not empty.
    #[error(
        "the inbox holds {0} commands: start the command services once more, wait until it is empty, and stop them"
    )]
    Inbox(u64),
    /// Commands wait for the count that was begun.
    #[error(
        "the inbox holds commands for the new partitions already, so there is no way back: finish the change"
    )]
    NoWayBack,
    /// The new place of a history holds something else.
    #[error(
        "{stream} message {sequence} is not a part of the history of {customer}; somebody else has written it, and a \
         person has to look at it"
    )]
    Foreign {
        /// The stream.
        stream: String,
        /// The message.
        sequence: u64,
        /// The customer.
        customer: CustomerId,
    },
    /// A verdict is at its new place already, with another content.
    #[error("{0} is there already, and is another one")]
    ForeignVerdict(String),
    /// Not all of a history was read, or more than all.
    #[error("{found} of the {expected} messages under {subject} were found; run it again")]
    Incomplete {
        /// The subject.
        subject: String,
        /// How many there should be.
        expected: u64,
        /// How many there were.
        found: u64,
    },
    /// Somebody writes into the new place of a history.
    #[error("somebody else writes under {0}")]
    Raced(String),
    /// The lease ran out.
    #[error("the lease was lost, because NATS could not be reached in time; run it again")]
    LeaseLost,
}

/// What a change moves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The count now.
    pub from: u16,
    /// The count afterwards.
    pub to: u16,
    /// Whether the change has begun already.
    pub begun: bool,
    /// How many customers there are.
    pub customers: u64,
    /// How many of them move.
    pub moving: u64,
    /// How many messages their histories have.
    pub messages: u64,
    /// How many of those are at their new place already.
    pub present: u64,
    /// The streams that are to be created.
    pub streams: Vec<String>,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// What was to be done.
    #[serde(flatten)]
    pub plan: Plan,
    /// How many messages of histories were copied.
    pub copied: u64,
    /// How many verdicts were copied.
    pub verdicts: u64,
    /// Customers whose chain is broken. They were moved as they are, and their commands are refused as before.
    pub damaged: Vec<CustomerId>,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub what: &'static str,
    /// How many are done.
    pub done: u64,
    /// Of how many.
    pub of: u64,
}

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

    async fn nobody_works(&self) -> Result<(), RepartitionError> {
        let leases = Leases::of_partitions(&self.nats, "").await?;
        for partition in 0..self.change.from.max(self.change.to) {
            if let Some(holder) = leases.holder(&partition.to_string()).await? {
                return Err(RepartitionError::Held { partition, holder });
            }
        }
        for partition in 0..self.change.from {
            let name = subjects::events_stream(partition);
            if let Some(reader) = self.reader(&name).await? {
                return Err(RepartitionError::Reading { stream: name, reader });
            }
        }
        if Gate::read(&self.nats, self.change).await?.is_untouched() {
            self.inbox_is_empty().await?;
        }
        Ok(())
    }

    /// A consumer that somebody waits at.
    async fn reader(&self, name: &str) -> Result<Option<String>, NatsError> {
        let doing = format!("asking who reads {name}");
        let stream = self.nats.js.get_stream_no_info(name).await.map_err(NatsError::failed(doing.clone()))?;
        let mut consumers = stream.consumers();
        while let Some(consumer) = consumers.try_next().await.map_err(NatsError::failed(doing.clone()))? {
            if consumer.num_waiting > 0 {
                return Ok(Some(consumer.name));
            }
        }
        Ok(None)
    }

    async fn inbox_is_empty(&self) -> Result<(), RepartitionError> {
        let inbox = self.nats.js.get_stream(COMMANDS).await;
        let inbox = inbox.map_err(NatsError::failed("asking about the inbox"))?;
        match inbox.cached_info().state.messages {
            0 => Ok(()),
            messages => Err(RepartitionError::Inbox(messages)),
        }
    }

    async fn create(&self, missing: &[String]) -> Result<(), NatsError> {
        let replicas = replicas(&self.nats).await?.unwrap_or(1);
        for config in streams(self.change.to, replicas) {
            if missing.contains(&config.name) {
                let doing = format!("creating stream {}", config.name);
                self.nats.js.create_stream(config).await.map_err(NatsError::failed(doing))?;
            }
        }
        Ok(())
    }

    /// Empties a stream that is made again: it names places in the streams of events.
    async fn empty(&self, name: &str) -> Result<(), NatsError> {
        let doing = format!("emptying {name}");
        let stream = self.nats.js.get_stream_no_info(name).await.map_err(NatsError::failed(doing.clone()))?;
        stream.purge().await.map(drop).map_err(NatsError::failed(doing))
    }

    /// Writes the count into every stream but COMMANDS, also those that hold no current history any more.
    async fn count_everywhere(&self) -> Result<(), NatsError> {
        let doing = "listing the streams";
        let to = self.change.to.to_string();
        let mut listed = self.nats.js.streams();
        let mut differing = Vec::new();
        while let Some(info) = listed.try_next().await.map_err(NatsError::failed(doing))? {
            let says = info.config.metadata.get(PARTITIONS_KEY);
            if info.config.name != COMMANDS && says.is_some_and(|says| *says != to) {
                differing.push(info.config);
            }
        }
        for mut config in differing {
            let doing = format!("writing the partition count of {}", config.name);
            config.metadata.insert(PARTITIONS_KEY.to_owned(), to.clone());
            self.nats.js.update_stream(config).await.map_err(NatsError::failed(doing))?;
        }
        Ok(())
    }
}
