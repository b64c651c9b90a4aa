//! What can go wrong between wanwright and NATS.

use std::error::Error as StdError;

type Cause = Box<dyn StdError + Send + Sync>;

/// A failed operation on NATS: what was being done, and why it failed.
#[derive(Debug, thiserror::Error)]
pub enum NatsError {
    /// No connection could be made.
    #[error("cannot connect to NATS at {url}; is nats-server running there?")]
    Connect {
        /// Where, without credentials.
        url: String,
        /// Why.
        #[source]
        source: Cause,
    },
    /// A request failed; it may be tried again.
    #[error("NATS: {doing} failed")]
    Failed {
        /// What was being done.
        doing: String,
        /// Why.
        #[source]
        source: Cause,
    },
    /// A stored message is not what it must be.
    #[error("NATS: {doing}: {what}")]
    Malformed {
        /// What was being done.
        doing: String,
        /// What is wrong.
        what: String,
    },
    /// The partition count is being changed, or the change was interrupted.
    #[error(
        "a change from {from} to {to} partitions is not finished; finish it with `wanwright nats repartition {to}`"
    )]
    Repartitioning {
        /// The count before.
        from: u16,
        /// The count afterwards.
        to: u16,
    },
    /// The partition count has changed since this process asked for it.
    #[error("customers are spread over {found} partitions now, this process knows {known}; start it again")]
    OtherPartitions {
        /// What the process works with.
        known: u16,
        /// What the server says.
        found: u16,
    },
    /// The streams on the server are not the ones this program was built for.
    #[error("the streams on the server differ from the ones wanwright needs:\n{0}")]
    Topology(String),
    /// There are too few servers.
    #[error(
        "there are no {wanted} servers to keep {wanted} replicas of a stream: that takes a cluster of at least {wanted} \
         nats-servers that run; nats/README.md says how to make one"
    )]
    Replicas {
        /// How many replicas there should be.
        wanted: usize,
        /// What the server said.
        #[source]
        source: Cause,
    },
    /// Servers that keep a stream have not all of it.
    #[error("the servers have not everything yet; they go on by themselves:\n{0}")]
    Behind(String),
    /// Replicas are damaged, and too few others have everything.
    #[error(
        "{whole} servers have all of {stream}, and a repair takes two: see `wanwright audit verify --live` for what is left, \
         and restore the stream where a history lacks something"
    )]
    TooFewWhole {
        /// The stream.
        stream: String,
        /// How many servers have everything.
        whole: usize,
    },
}

impl NatsError {
    /// Says what was being done when something failed.
    pub fn failed<E: Into<Cause>>(doing: impl Into<String>) -> impl FnOnce(E) -> Self {
        let doing = doing.into();
        move |source| Self::Failed { doing, source: source.into() }
    }

    pub(crate) fn malformed(doing: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Malformed { doing: doing.into(), what: what.into() }
    }
}

/// An error with its causes, in one line, for places that hold text: outcomes, records, logs.
pub fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
