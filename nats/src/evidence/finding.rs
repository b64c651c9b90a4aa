//! What an audit finds.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Something that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Finding {
    /// Messages are not there, or cannot be read.
    #[error("messages {from} to {to} are missing")]
    Missing {
        /// The first of them.
        from: u64,
        /// The last of them.
        to: u64,
    },
    /// The message that follows it in its customer's history follows another one.
    #[error("message {sequence} was changed: message {by}, which follows it, names another digest")]
    Changed {
        /// The message.
        sequence: u64,
        /// The next one of the same customer.
        by: u64,
    },
    /// It is there twice, or its customer's history goes past it.
    #[error("message {sequence} was inserted")]
    Inserted {
        /// The message.
        sequence: u64,
    },
    /// It stands behind a later one.
    #[error("message {sequence} stands behind message {behind}")]
    Reordered {
        /// The message.
        sequence: u64,
        /// The one before it.
        behind: u64,
    },
    /// It names a predecessor that its customer's history does not have.
    #[error("message {sequence} does not begin a history, and the one before it is not there")]
    Orphaned {
        /// The message.
        sequence: u64,
    },
    /// It is no message of this stream.
    #[error("message {sequence} does not belong here: {why}")]
    Foreign {
        /// The message.
        sequence: u64,
        /// Why.
        why: String,
    },
    /// What stands between two heads is not what was signed.
    #[error("messages {from} to {to} are not what was signed on {time:.0}")]
    Rewritten {
        /// The first message that may be another one.
        from: u64,
        /// The last.
        to: u64,
        /// When they were signed.
        time: Timestamp,
    },
    /// Less is there than was signed.
    #[error("it ends at {last}, and {sequence} messages were signed on {time:.0}")]
    Truncated {
        /// The last message.
        last: u64,
        /// What was signed.
        sequence: u64,
        /// When.
        time: Timestamp,
    },
    /// A head without a good signature.
    #[error("the head at {sequence} is forged: its signature is not that of key {key}")]
    Forged {
        /// The message it would vouch for.
        sequence: u64,
        /// The key that counts.
        key: String,
    },
    /// A file of an export is not as it was written.
    #[error("{file}: {why}")]
    File {
        /// The file.
        file: String,
        /// What is wrong.
        why: String,
    },
}
