//! Whether a stream can be the one that was vouched for. This costs two questions to the server, so it can be asked
//! before anything is decided.

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::stream::RawMessageErrorKind;
use futures::TryStreamExt;
use jiff::Timestamp;

use super::fold::leaf;
use super::folder::{Folder, FolderError};
use super::head::SignedHead;
use super::key::PublicKey;
use crate::connect::Nats;
use crate::error::NatsError;
use crate::follow::{StoredMessage, StreamInfo};
use crate::inventory;

/// Why a stream is not the one that was vouched for.
#[derive(Debug, thiserror::Error)]
pub enum Unproven {
    /// Messages are missing in a stream that keeps all.
    #[error("{stream} has {messages} messages from {first} to {last}: some are missing")]
    Hole {
        /// The stream.
        stream: String,
        /// The first message it still has.
        first: u64,
        /// Its last one.
        last: u64,
        /// How many it has.
        messages: u64,
    },
    /// The stream ends before what is vouched for.
    #[error("{stream} ends at {last}, but message {sequence} was vouched for on {time}")]
    Shorter {
        /// The stream.
        stream: String,
        /// Where it ends.
        last: u64,
        /// What is vouched for.
        sequence: u64,
        /// When.
        time: Timestamp,
    },
    /// The message that is vouched for is another one.
    #[error("{stream} message {sequence} is missing or not the one that was vouched for on {time}")]
    Other {
        /// The stream.
        stream: String,
        /// The message.
        sequence: u64,
        /// When.
        time: Timestamp,
    },
    /// The stream lost what was seen of it, and whose that was cannot be told.
    #[error(
        "{stream} lost messages that were seen: {why}; `wanwright dead list` shows what is known of it, and once that is \
         restored or given up an administrator says `wanwright nats accept`"
    )]
    Lost {
        /// The stream.
        stream: String,
        /// What shows that.
        why: String,
    },
    /// Messages of a customer are there and cannot be read.
    #[error("{stream} has {stored} messages under {subject}, and {read} of them can be read")]
    Unreadable {
        /// The stream.
        stream: String,
        /// The customer's subject.
        subject: String,
        /// How many there are.
        stored: u64,
        /// How many can be read.
        read: u64,
    },
    /// A head is not signed with the key.
    #[error("the head of {stream} at {sequence} is not signed with the key {key}")]
    Forged {
        /// The stream.
        stream: String,
        /// The message.
        sequence: u64,
        /// The key.
        key: String,
    },
    /// The heads cannot be read.
    #[error("the evidence of a stream cannot be read")]
    Folder(#[from] FolderError),
    /// The server cannot be asked.
    #[error(transparent)]
    Nats(#[from] NatsError),
}

/// Where evidence is kept, and whose signature counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The folder with the heads.
    pub folder: Folder,
    /// The key; without one signatures are not looked at.
    pub key: Option<PublicKey>,
}

/// Whether a stream that keeps every message from 1 on still has them all, as far as the server knows.
///
/// # Errors
/// [`Unproven::Hole`].
pub fn is_whole(info: &StreamInfo) -> Result<(), Unproven> {
    let starts = info.last == 0 || info.first == 1;
    if starts && info.messages == info.last {
        return Ok(());
    }
    let stream = info.name.clone();
    Err(Unproven::Hole { stream, first: info.first, last: info.last, messages: info.messages })
}

impl Evidence {
    /// The newest head of a stream, if its signature is good.
    ///
    /// # Errors
    /// [`Unproven::Folder`] and [`Unproven::Forged`].
    pub fn newest(&self, stream: &str) -> Result<Option<SignedHead>, Unproven> {
        let Some(head) = self.folder.newest(stream)? else { return Ok(None) };
        match &self.key {
            Some(key) if head.stream != stream || !head.is_signed_by(key) => {
                Err(Unproven::Forged { stream: stream.to_owned(), sequence: head.sequence, key: key.id() })
            }
            _ => Ok(Some(head)),
        }
    }
}

/// What a stream says about a customer's history, once it has been compared with the evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// When the stream was created.
    pub incarnation: Timestamp,
    /// How many messages the history has at least.
    pub messages: u64,
    stream: String,
    subject: String,
}

impl Proven {
    /// Whether a history of which so many messages were read lacks some: the server keeps count of messages that it
    /// cannot read any more.
    ///
    /// # Errors
    /// [`Unproven::Unreadable`].
    pub fn is_read_by(&self, read: u64) -> Result<(), Unproven> {
        if read >= self.messages {
            return Ok(());
        }
        let (stream, subject) = (self.stream.clone(), self.subject.clone());
        Err(Unproven::Unreadable { stream, subject, stored: self.messages, read })
    }
}

/// Asks the leader about a stream and a customer's subject in it, and compares that with the evidence, if there is any:
/// nothing may be missing in the stream, and it goes through the newest head and through what was seen of it.
///
/// # Errors
/// [`Unproven`].
pub async fn prove(
    nats: &Nats,
    evidence: Option<&Evidence>,
    stream: &str,
    subject: &str,
) -> Result<Proven, Unproven> {
    let head = evidence.map(|evidence| evidence.newest(stream)).transpose()?.flatten();
    let doing = format!("asking about {subject} in {stream}");
    let handle = nats.js.get_stream_no_info(stream).await.map_err(NatsError::failed(doing.clone()))?;
    // At once: whoever decides waits for both.
    let vouched = async {
        match &head {
            Some(head) => message(nats, stream, head.sequence).await,
            None => Ok(None),
        }
    };
    let (found, vouched) = tokio::join!(handle.info_with_subjects(subject), vouched);
    let mut found = found.map_err(NatsError::failed(doing.clone()))?;
    let info = StreamInfo::of(&found.info);
    is_whole(&info)?;
    if let Some(head) = head {
        is_there(head, info.last, vouched?)?;
    }
    let leader = found.info.cluster.as_ref().and_then(|cluster| cluster.leader.as_deref());
    inventory::compare(nats, stream, Some(leader.unwrap_or_default())).await?;
    let mut messages = 0;
    while let Some((_, count)) = found.try_next().await.map_err(NatsError::failed(doing.clone()))? {
        messages += count as u64;
    }
    Ok(Proven {
        incarnation: info.incarnation,
        messages,
        stream: stream.to_owned(),
        subject: subject.to_owned(),
    })
}

/// Whether the message that a stream has where a head says is the one that it vouches for.
fn is_there(head: SignedHead, last: u64, found: Option<StoredMessage>) -> Result<(), Unproven> {
    let SignedHead { stream, sequence, time, .. } = head;
    if last < sequence {
        return Err(Unproven::Shorter { stream, last, sequence, time });
    }
    match found {
        Some(found) if leaf(&found) == head.leaf => Ok(()),
        _ => Err(Unproven::Other { stream, sequence, time }),
    }
}

/// A message as the stream's leader has it; none where it is not there or cannot be read.
///
/// # Errors
/// [`NatsError`], when the server cannot be asked.
pub async fn message(nats: &Nats, stream: &str, sequence: u64) -> Result<Option<StoredMessage>, NatsError> {
    let doing = format!("reading {stream} at {sequence}");
    let handle = nats.js.get_stream_no_info(stream).await.map_err(NatsError::failed(doing.clone()))?;
    match handle.get_raw_message(sequence).await {
        Ok(found) => Ok(Some(StoredMessage::read(stream, found))),
        Err(error) => match error.kind() {
            RawMessageErrorKind::NoMessageFound => Ok(None),
            RawMessageErrorKind::JetStream(cause) if is_unreadable(cause.error_code()) => Ok(None),
            _ => Err(NatsError::failed(doing)(error)),
        },
    }
}

/// What the server answers when a message is not there, and when it is there and its checksum is wrong.
fn is_unreadable(code: ErrorCode) -> bool {
    code == ErrorCode::NO_MESSAGE_FOUND || code == ErrorCode::STREAM_STORE_FAILED
}
