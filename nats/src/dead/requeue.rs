//! Sending a dead letter back to where it came from.

use async_nats::HeaderMap;
use jiff::Timestamp;
use wanwright_schemas::ids::EXECUTOR;
use wanwright_schemas::subjects::CommandSubject;
use wanwright_schemas::{CommandId, Envelope, Reason, headers, subjects};

use crate::connect::Nats;
use crate::error::NatsError;
use crate::follow::StoredMessage;
use crate::history::History;
use crate::load::load_page;
use crate::publish::publish;
use crate::table::OrderTable;

/// How long ids of commands are remembered, in milliseconds: an older one is refused anyway.
const WINDOW: u64 = 24 * 60 * 60 * 1000;

/// How many messages of a history one look is about, and how many bytes of them.
const PAGE: usize = 256;
const PAGE_BYTES: usize = 4 << 20;

/// Where a letter went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Back {
    /// Into the inbox, as the command that it was.
    Inbox(CommandId),
    /// Its order may be issued again: the dispatcher writes this row anew where the target still has to change.
    Table(String),
}

/// Why a letter cannot be sent back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Kept {
    /// What a person is called is in no letter.
    #[error(
        "the letter does not have the command's `contact`, which is kept in no letter; have its sender send it again"
    )]
    LeftOut,
    /// The letter holds the beginning only.
    #[error("the letter has only the first {kept} of {bytes} bytes; have its sender send it again")]
    Cut {
        /// How many bytes there are.
        kept: usize,
        /// How many there were.
        bytes: usize,
    },
    /// It is no command that could be read.
    #[error(
        "no command's id could be read from it ({0}), so it would come back at once; have its sender send it right"
    )]
    NoCommand(String),
    /// Its id is not remembered any more.
    #[error(
        "command {0} is older than the 24 hours in which ids are remembered; have its sender send it under a new id"
    )]
    TooOld(CommandId),
    /// Its object has gone on without it.
    #[error("command {by} about the same object was accepted after it, on {at:.0}")]
    Overtaken {
        /// The newest later command.
        by: CommandId,
        /// When that was recorded.
        at: Timestamp,
    },
    /// The object has been told.
    #[error(
        "its object is recorded as failed; send it back with: wanwright send {kind} retry {customer}/{id}"
    )]
    Failed {
        /// The kind of the object.
        kind: String,
        /// Whose it is.
        customer: String,
        /// The object.
        id: String,
    },
    /// Something else is in its place.
    #[error("a newer order of the target waits or runs; there is nothing to send back")]
    Replaced,
    /// Nothing keeps the order from being issued.
    #[error("nothing holds its order back: the dispatcher issues one whenever the target has to change")]
    Free,
    /// This version does not know such letters.
    #[error("a letter of the kind `{0}` cannot be sent back")]
    Unknown(String),
}

impl Kept {
    /// The stable code, where there is one.
    pub fn code(&self) -> Option<Reason> {
        match self {
            Self::TooOld(_) => Some(Reason::CommandTooOld),
            Self::Overtaken { .. } => Some(Reason::Overtaken),
            Self::LeftOut
            | Self::Cut { .. }
            | Self::NoCommand(_)
            | Self::Failed { .. }
            | Self::Replaced
            | Self::Free
            | Self::Unknown(_) => None,
        }
    }
}

fn header<'a>(letter: &'a StoredMessage, name: &str) -> Option<&'a str> {
    letter.headers.get(name).map(|value| value.as_str())
}

/// Sends a letter back. It stays; whoever calls notes what became of it ([`super::settle`]). A command that later ones about
/// the same object have overtaken goes back only if that is meant: `anyway`.
///
/// # Errors
/// [`NatsError`], when the server does not do its part; [`Kept`] inside, when the letter cannot be sent back.
pub async fn requeue(
    nats: &Nats,
    letter: &StoredMessage,
    anyway: bool,
) -> Result<Result<Back, Kept>, NatsError> {
    match letter.subject.split('.').nth(2) {
        Some("command") => command(nats, letter, anyway).await,
        Some("order" | "report") => order(nats, letter).await,
        other => Ok(Err(Kept::Unknown(other.unwrap_or_default().to_owned()))),
    }
}

async fn command(nats: &Nats, letter: &StoredMessage, anyway: bool) -> Result<Result<Back, Kept>, NatsError> {
    let (subject, command) = match sendable(letter, Timestamp::now()) {
        Ok(sendable) => sendable,
        Err(kept) => return Ok(Err(kept)),
    };
    if !anyway && let Some(overtaken) = overtaken(nats, letter, &subject, command).await? {
        return Ok(Err(overtaken));
    }
    let mut head = HeaderMap::new();
    for (name, values) in letter.headers.iter() {
        // What the letter says about itself is no part of the command, and what means something to a stream never was.
        let name: &str = name.as_ref();
        if !name.starts_with("Wan-Dead-") && !name.starts_with("Nats-") {
            for value in values {
                head.append(name, value.as_str());
            }
        }
    }
    publish(&nats.js, subject, head, letter.payload.clone()).await?;
    Ok(Ok(Back::Inbox(command)))
}

/// What says that a later command about the same object was accepted, if one was. What executors report is none: it says
/// how the object is, and not how it should be.
async fn overtaken(
    nats: &Nats,
    letter: &StoredMessage,
    subject: &str,
    command: CommandId,
) -> Result<Option<Kept>, NatsError> {
    // What the subject does not name well is refused when it is decided.
    let Ok(CommandSubject { customer, object, .. }) = CommandSubject::parse(subject) else { return Ok(None) };
    let stream = History::new(nats.clone()).position(&customer, 0).stream;
    let history = subjects::events(&customer, nats.partitions);
    let (mut after, mut newest) = (0, None);
    loop {
        let (page, more) = load_page(nats, &stream, &history, after, PAGE, PAGE_BYTES).await?;
        let Some(last) = page.last() else { return Ok(newest) };
        after = last.sequence;
        for message in &page {
            let doing = || format!("reading {history} at {}", message.sequence);
            let read = Envelope::decode(&message.payload);
            let Envelope { command: by, actor, events, .. } = read.map_err(NatsError::failed(doing()))?;
            let about = || events.iter().any(|event| event.object() == object);
            if actor.as_str() != EXECUTOR && is_later((by, message.time), (command, letter.time)) && about() {
                newest = Some(Kept::Overtaken { by, at: message.time });
            }
        }
        if !more {
            return Ok(newest);
        }
    }
}

/// Whether a command that was recorded at a time is later than one that became a letter at another: by when both were minted,
/// and where an id does not tell, if it was recorded after the other had become a letter.
fn is_later((accepted, recorded): (CommandId, Timestamp), (command, buried): (CommandId, Timestamp)) -> bool {
    if accepted.is_foreign() || command.is_foreign() {
        return accepted != command && recorded > buried;
    }
    accepted.uuid() > command.uuid()
}

/// The subject and the id under which a command can be sent again.
fn sendable(letter: &StoredMessage, now: Timestamp) -> Result<(String, CommandId), Kept> {
    if header(letter, headers::DEAD_LEFT_OUT).is_some() {
        return Err(Kept::LeftOut);
    }
    let bytes = header(letter, headers::DEAD_SIZE).and_then(|size| size.parse().ok());
    if let Some(bytes) = bytes.filter(|bytes| *bytes != letter.payload.len()) {
        return Err(Kept::Cut { kept: letter.payload.len(), bytes });
    }
    let why = || Kept::NoCommand(header(letter, headers::DEAD_REASON).unwrap_or("unknown").to_owned());
    let subject = header(letter, headers::DEAD_SUBJECT).filter(|subject| subject.starts_with("wan.cmd."));
    let id = header(letter, headers::COMMAND_ID).and_then(|id| id.parse::<CommandId>().ok());
    let (subject, id) = subject.zip(id).ok_or_else(why)?;
    let now = u64::try_from(now.as_millisecond()).unwrap_or_default();
    if !id.is_foreign() && id.unix_millis().saturating_add(WINDOW) < now {
        return Err(Kept::TooOld(id));
    }
    Ok((subject.to_owned(), id))
}

async fn order(nats: &Nats, letter: &StoredMessage) -> Result<Result<Back, Kept>, NatsError> {
    let Some(row) = header(letter, headers::DEAD_ROW) else {
        return Ok(Err(Kept::Unknown("order without a row".to_owned())));
    };
    let reason = header(letter, headers::DEAD_REASON).unwrap_or_default();
    let parts = subjects::parts_of_order(row);
    if let Some((_, customer, false, kind, id)) = parts
        && [Reason::RunDied, Reason::UnknownVendor].iter().any(|told| told.code() == reason)
    {
        let (kind, customer, id) = (kind.to_string(), customer.to_string(), id.to_owned());
        return Ok(Err(Kept::Failed { kind, customer, id }));
    }
    let table = OrderTable::new(nats.clone());
    let present = table.get(row).await?;
    let Some(present) = present.filter(|present| present.is_done()) else {
        return Ok(Err(Kept::Replaced));
    };
    let dead = present.headers.get(headers::DEAD_ORDER).map(|id| id.as_str().to_owned());
    if dead.is_none() || dead.as_deref() != header(letter, headers::DEAD_ORDER) {
        return Ok(Err(Kept::Free));
    }
    // Without its mark the row is like any that is done. Only the dispatcher knows whether the order is still wanted.
    let mut head = present.headers.clone();
    head = head.iter().fold(HeaderMap::new(), |mut kept, (name, values)| {
        let plain: &str = name.as_ref();
        if plain == headers::AFTER_GENERATION {
            values.iter().for_each(|value| kept.append(plain, value.as_str()));
        }
        kept
    });
    if table.end(row, present.sequence, head).await? {
        Ok(Ok(Back::Table(row.to_owned())))
    } else {
        Ok(Err(Kept::Replaced))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(headers: &[(&str, &str)], body: &'static str) -> StoredMessage {
        let mut head = HeaderMap::new();
        headers.iter().for_each(|(name, value)| head.insert(*name, *value));
        StoredMessage {
            stream: "DEAD".to_owned(),
            sequence: 1,
            subject: "wan.dead.command.HistoryDamaged".to_owned(),
            time: Timestamp::UNIX_EPOCH,
            headers: head,
            payload: body.into(),
        }
    }

    #[test]
    fn a_command_is_sent_back_whole_and_in_time_or_not_at_all() {
        let id = CommandId::mint();
        let text = id.to_string();
        let minted =
            Timestamp::from_millisecond(id.unix_millis().try_into().expect("a time")).expect("a time");
        let subject = (headers::DEAD_SUBJECT, "wan.cmd.acme.demo.site.oslo.retry");
        let (size, named) = ((headers::DEAD_SIZE, "2"), (headers::COMMAND_ID, text.as_str()));
        let try_ = |given: &[(&str, &str)], hours: i64| {
            sendable(&letter(given, "{}"), minted + jiff::SignedDuration::from_hours(hours))
        };
        assert_eq!(try_(&[subject, size, named], 23), Ok((subject.1.to_owned(), id)));
        assert_eq!(try_(&[subject, size, named], 25), Err(Kept::TooOld(id)));
        assert_eq!(
            try_(&[subject, (headers::DEAD_SIZE, "9"), named], 0),
            Err(Kept::Cut { kept: 2, bytes: 9 })
        );
        assert_eq!(try_(&[subject, size, named, (headers::DEAD_LEFT_OUT, "contact")], 0), Err(Kept::LeftOut));
        let broken = (headers::DEAD_REASON, "BadSubject");
        assert_eq!(try_(&[subject, size, broken], 0), Err(Kept::NoCommand("BadSubject".to_owned())));
        assert!(try_(&[(headers::DEAD_SUBJECT, "wan.evt.1.acme"), size, named], 0).is_err());
    }

    #[test]
    fn later_is_what_was_minted_later_or_recorded_behind_the_letter() {
        let first = CommandId::mint();
        let second = CommandId::mint();
        let [before, buried, after] = [1, 2, 3].map(|s| Timestamp::from_second(s).expect("a time"));
        assert!(is_later((second, before), (first, buried)), "decided beside the inbox");
        assert!(!is_later((first, after), (second, buried)), "it was sent back itself");
        assert!(!is_later((first, after), (first, buried)), "it is the command itself");
        let foreign = CommandId::foreign(&"demo".parse().expect("an actor"), "there", "1");
        assert!(is_later((foreign, after), (first, buried)) && !is_later((foreign, before), (first, buried)));
        assert!(
            is_later((second, after), (foreign, buried)) && !is_later((second, before), (foreign, buried))
        );
        assert!(!is_later((foreign, after), (foreign, buried)));
    }
}
