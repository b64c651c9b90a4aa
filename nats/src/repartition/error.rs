//! Why the count was not changed.

use wanwright_schemas::CustomerId;

use crate::error::NatsError;
use crate::partitions::MOST;
use crate::topology::PARTITION_LEASE_TIME;

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
