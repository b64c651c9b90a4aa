//! What can go wrong while streams become rows.

use jiff::Timestamp;
use wanwright_nats::NatsError;
use wanwright_nats::evidence::Unproven;
use wanwright_schemas::envelope::{Digest, UnreadableEnvelope};

/// Why a reader stopped. It is never skipped over: somebody mends the stream or rebuilds, then the reader goes on.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// Sequences are missing in a stream that must have them all.
    #[error("{stream} has a gap: message {expected} is missing, the next one is {found}")]
    Gap {
        /// The stream.
        stream: String,
        /// The sequence that should come next.
        expected: u64,
        /// The sequence that came.
        found: u64,
    },
    /// The stream ends before the checkpoint.
    #[error("{stream} went back: its last message is {last}, but {checkpoint} had been read")]
    Regression {
        /// The stream.
        stream: String,
        /// The checkpoint.
        checkpoint: u64,
        /// The stream's last sequence.
        last: u64,
    },
    /// The stream was deleted and made anew.
    #[error(
        "{stream} is another stream of the same name: created {found}, but the one created {expected} had been read"
    )]
    Incarnation {
        /// The stream.
        stream: String,
        /// When the stream that was read had been created.
        expected: Timestamp,
        /// When this one was.
        found: Timestamp,
    },
    /// The customers are spread over another number of partitions than when the rows were folded.
    #[error(
        "the rows of {stream} were folded with {rows} partitions, now there are {now}; fold them again with \
         `wanwright rebuild --all`"
    )]
    Partitions {
        /// The stream.
        stream: String,
        /// The count that the rows were folded with.
        rows: u16,
        /// The count now.
        now: u16,
    },
    /// The message at the checkpoint is not the one that was read.
    #[error(
        "{stream} message {sequence} is not the one that had been read: its digest is {found}, it was {expected}"
    )]
    Rewritten {
        /// The stream.
        stream: String,
        /// The checkpoint.
        sequence: u64,
        /// The digest it had.
        expected: Digest,
        /// The digest it has.
        found: Digest,
    },
    /// The stream is not the one that a signed head vouches for.
    #[error(
        "{stream} is not what was signed on {time}: message {sequence} or one before it was changed, added or lost"
    )]
    Vouched {
        /// The stream.
        stream: String,
        /// The message up to which the head vouches.
        sequence: u64,
        /// When it was signed.
        time: Timestamp,
    },
    /// The stream lost what the command services saw of it.
    #[error(transparent)]
    Lost(Unproven),
    /// A head bears the name of our key and not its signature.
    #[error("the head of {stream} at {sequence} is forged: its signature is not that of key {key}")]
    Forged {
        /// The stream.
        stream: String,
        /// The message up to which it would vouch.
        sequence: u64,
        /// The key.
        key: String,
    },
    /// A message before the checkpoint is missing.
    #[error("{stream} has {messages} messages from {first} to {last}: some are missing")]
    Hole {
        /// The stream.
        stream: String,
        /// The first message it has.
        first: u64,
        /// Its last one.
        last: u64,
        /// How many it has.
        messages: u64,
    },
    /// The message does not continue its customer's history.
    #[error(
        "{stream} message {sequence} does not continue the history of {customer}: it names {}, the last message is {}",
        none(found),
        none(expected)
    )]
    Chain {
        /// The stream.
        stream: String,
        /// The message.
        sequence: u64,
        /// The customer.
        customer: String,
        /// The digest of the customer's last message.
        expected: Option<Digest>,
        /// What the message names as its predecessor.
        found: Option<Digest>,
    },
    /// The customer's history is in another stream.
    #[error("{stream} message {sequence} is about {customer}, whose history is in {home}")]
    OtherStream {
        /// The stream.
        stream: String,
        /// The message.
        sequence: u64,
        /// The customer.
        customer: String,
        /// The stream with the customer's history.
        home: String,
    },
    /// The subject is not one this stream may hold.
    #[error("{stream} message {sequence} has the subject `{subject}`, which does not belong there")]
    Subject {
        /// The stream.
        stream: String,
        /// The message.
        sequence: u64,
        /// Its subject.
        subject: String,
    },
    /// An envelope or one of its events cannot be read.
    #[error("{stream} message {sequence} cannot be read")]
    Unreadable {
        /// The stream.
        stream: String,
        /// The message.
        sequence: u64,
        /// Why.
        #[source]
        source: UnreadableEnvelope,
    },
    /// A message is there and no client can read it.
    #[error("{stream} is damaged")]
    Damaged {
        /// The stream.
        stream: String,
        /// Which message.
        #[source]
        source: NatsError,
    },
    /// A record cannot be read.
    #[error("{stream} message {sequence} is not a record of version {version} or below")]
    Record {
        /// The stream.
        stream: String,
        /// The message.
        sequence: u64,
        /// The newest version this code reads.
        version: u64,
        /// Why, where it is no JSON of that shape.
        #[source]
        source: Option<serde_json::Error>,
    },
    /// Postgres does not take the rows, and would not the next time either.
    #[error("Postgres refuses the rows of {stream} message {sequence}")]
    Refused {
        /// The stream.
        stream: String,
        /// The message.
        sequence: u64,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
}

fn none(digest: &Option<Digest>) -> String {
    digest.map_or_else(|| "none".to_owned(), |digest| digest.to_string())
}

/// What can go wrong while streams become rows, and while rows are read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The reader stopped; trying again changes nothing.
    #[error(transparent)]
    Stop(Box<Stop>),
    /// Postgres is away or failed.
    #[error("Postgres failed")]
    Postgres(#[from] sqlx::Error),
    /// The migrations failed.
    #[error("the migrations failed")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// NATS is away or failed.
    #[error("NATS failed")]
    Nats(#[from] NatsError),
    /// A document could not be stored or read.
    #[error("the overview of {customer} failed")]
    Overview {
        /// The customer.
        customer: String,
        /// Why.
        #[source]
        source: cqrs_es::persist::PersistenceError,
    },
    /// A row in Postgres is not one this code knows.
    #[error("a row of {table} cannot be read or written")]
    Row {
        /// The table.
        table: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// Another process moved the checkpoint: read it again.
    #[error("another process moved the checkpoint of {stream} from {expected} to {found}")]
    Moved {
        /// The stream.
        stream: String,
        /// Where this reader had left it.
        expected: u64,
        /// Where it is.
        found: u64,
    },
    /// The folder with signed heads cannot be read or written.
    #[error("the signed heads failed")]
    Folder(#[from] wanwright_nats::evidence::folder::FolderError),
    /// Another rebuild or verification of the stream is under way.
    #[error("{stream} is being rebuilt or verified already")]
    Busy {
        /// The stream.
        stream: String,
    },
}

impl From<Stop> for Error {
    fn from(stop: Stop) -> Self {
        Self::Stop(Box::new(stop))
    }
}

impl From<Unproven> for Error {
    fn from(unproven: Unproven) -> Self {
        match unproven {
            Unproven::Nats(error) => error.into(),
            unproven => Stop::Lost(unproven).into(),
        }
    }
}

impl Error {
    /// The error and its causes in one line.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }

    /// The reason Postgres gave, when it refuses the data itself: the same rows would be refused again.
    pub(crate) fn refuses_data(&self) -> bool {
        let Self::Postgres(sqlx::Error::Database(error)) = self else { return false };
        // Class 22 is data exceptions, 23 violated constraints, 54 limits (a row too large, an index entry too long).
        error.code().is_some_and(|code| ["22", "23", "54"].iter().any(|class| code.starts_with(class)))
    }
}
