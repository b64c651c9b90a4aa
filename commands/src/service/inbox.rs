//! The door for those who publish and forget: `wan.cmd.…`, kept in the stream COMMANDS until it is handled.
//!
//! Each partition has a consumer, which is made anew whenever somebody takes the partition. That puts everything unhandled back to the beginning of the queue, so a
//! customer's commands keep their order over a crash; a kept consumer would redeliver the ones in flight last.

use std::sync::OnceLock;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::jetstream::stream::{ConsumerErrorKind, RawMessageErrorKind};
use async_nats::jetstream::{self, consumer};
use bytes::Bytes;
use futures::stream::FuturesUnordered;
use futures::{StreamExt, TryStreamExt};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wanwright_nats::topology::COMMANDS;
use wanwright_nats::{Nats, NatsError, stream_info};
use wanwright_schemas::Refusal;
use wanwright_schemas::ids::{CommandId, CustomerId};
use wanwright_schemas::subjects::{self, CommandSubject};

use super::Lanes;
use super::delivery::{Delivery, bury};
use super::door::{self, Answer, Asked, Headers};
use super::inventory::{Book, Handled, Written};
use super::unreadable;
use super::waiting::{Admitted, Parked, Place, Turn, Waiting};

/// The names that the consumer of a partition may have: where the files of one are damaged, the server neither has a
/// consumer of that name nor makes one.
fn consumer_names(partition: u16) -> [String; 2] {
    [format!("commands-{partition}"), format!("commands-{partition}-other")]
}

/// A command waits in its lane at most as long as its predecessors take; nothing is delivered again before that.
const ACK_WAIT: Duration = Duration::from_secs(30 * 60);

/// How far a partition looks ahead: how many commands are delivered and not handled yet. Most of them are known by their
/// places only; it is as many as some customers together may have in the inbox.
const AHEAD: i64 = 65_536;

/// How many commands are fetched at once for one customer.
const AT_ONCE: usize = 8;

/// What acknowledges a message.
const ACK: &str = "+ACK";

/// How long what is handled may take to be written down when the service stops.
const REST: Duration = Duration::from_secs(2);

/// How often is looked whether the connection is still the same when nothing comes.
const LOOK: Duration = Duration::from_secs(1);

/// How many commands are looked for at once that are not delivered.
const LOOKED_FOR: usize = 256;

/// How long to wait before the inbox is opened again after the connection was lost.
const PAUSE: Duration = Duration::from_millis(500);

pub(super) type Inbox = consumer::Consumer<consumer::pull::Config>;

fn failed<E: Into<Box<dyn std::error::Error + Send + Sync>>>(error: E) -> NatsError {
    NatsError::Failed { doing: "opening the inbox".to_owned(), source: error.into() }
}

pub(super) async fn open(nats: &Nats, partition: u16) -> Result<Inbox, NatsError> {
    let stream = nats.js.get_stream_no_info(COMMANDS).await.map_err(failed)?;
    let names = consumer_names(partition);
    for name in &names {
        // At most one of them is there.
        let _ = stream.delete_consumer(name).await;
    }
    let config = |name: String| consumer::pull::Config {
        durable_name: Some(name),
        filter_subjects: subjects::inbox_of_partition(partition),
        ack_policy: consumer::AckPolicy::Explicit,
        ack_wait: ACK_WAIT,
        max_ack_pending: AHEAD,
        ..Default::default()
    };
    let [usual, other] = names.map(config);
    match stream.create_consumer(usual).await {
        Err(error) if matches!(error.kind(), ConsumerErrorKind::JetStream(_)) => {
            tracing::warn!(partition, %error, "the inbox has no consumer of the usual name");
            stream.create_consumer(other).await.map_err(failed)
        }
        opened => opened.map_err(failed),
    }
}

pub(super) async fn serve(
    inbox: Inbox,
    partition: u16,
    nats: Nats,
    lanes: Lanes,
    stop: CancellationToken,
) -> &'static str {
    let mut inbox = Some(inbox);
    let mut buried = Vec::new();
    while !stop.is_cancelled() {
        let result = match inbox.take() {
            Some(inbox) => Ok(inbox),
            None => open(&nats, partition).await,
        };
        let mut last = 0;
        let drained = match result {
            Ok(inbox) => drain(inbox, partition, &nats, &lanes, &stop, &buried, &mut last).await,
            Err(error) => Err(error),
        };
        let Err(error) = drained else { break };
        tracing::warn!(error = &error as &dyn std::error::Error, "the inbox is away; opening it again");
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(PAUSE) => {}
        }
        // What it broke over may be a command that nobody can read.
        match unreadable::bury_next(&nats, partition, last).await {
            Ok(some) => buried.extend(some),
            Err(error) => {
                let error = wanwright_nats::chain(&error);
                tracing::warn!(partition, error, "whether the inbox can be read cannot be told now");
            }
        }
    }
    "the inbox"
}

/// An inbox that is open.
struct Open<'a> {
    nats: &'a Nats,
    lanes: &'a Lanes,
    /// What is still in the lanes when the inbox is opened again comes again, in order.
    opened: CancellationToken,
    done: mpsc::UnboundedSender<Handled>,
    waiting: Waiting,
    book: Book,
    /// What was delivered before it was known whether something is lost.
    held: Vec<(Read, jetstream::Message, Place)>,
}

/// Hands commands to the lanes until told to stop, but for those that were buried. Notes which one came last.
///
/// # Errors
/// [`NatsError`], when the inbox breaks.
async fn drain(
    mut inbox: Inbox,
    partition: u16,
    nats: &Nats,
    lanes: &Lanes,
    stop: &CancellationToken,
    buried: &[u64],
    last: &mut u64,
) -> Result<(), NatsError> {
    let connects = || nats.client.statistics().connects.load(Ordering::Relaxed);
    let connected = connects();
    // Asked before anything is delivered: what the stream says then is what the last record is compared with.
    let stream = stream_info(&nats.js, COMMANDS).await?;
    let pending = inbox.info().await.map_err(failed)?.num_pending;
    let book = Book::open(nats, partition, &stream, pending, buried).await?;
    let mut messages = inbox.messages().await.map_err(failed)?;
    let (waiting, mut free) = Waiting::new();
    let (done, mut handled) = mpsc::unbounded_channel();
    let opened = CancellationToken::new();
    let _ended = opened.clone().drop_guard();
    let mut open = Open { nats, lanes, opened, done, waiting, book, held: Vec::new() };
    let mut fetches = FuturesUnordered::new();
    let mut writing = FuturesUnordered::new();
    let mut look = tokio::time::interval(LOOK);
    let (mut is_looked_at, mut is_quiet) = (true, false);
    loop {
        if !is_looked_at {
            // What was on its way is lost, and would be delivered behind what is not.
            return Err(failed("the connection was lost meanwhile"));
        }
        let due = open.book.due().filter(|_| writing.is_empty());
        tokio::select! {
            // Whoever is still far behind is reached before more is fetched of those who have much; the server itself
            // stops when it is far enough ahead.
            biased;
            () = stop.cancelled() => break,
            message = messages.next() => {
                is_quiet = false;
                *last = open.take(message).await?.max(*last);
                is_looked_at = connected == connects();
            }
            _ = look.tick() => {
                is_looked_at = connected == connects();
                if std::mem::replace(&mut is_quiet, true) {
                    open.await_no_more().await?;
                }
            }
            Some(written) = writing.next() => open.written(written?).await,
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                while let Ok(handled) = handled.try_recv() {
                    open.book.handled(handled);
                }
                let draft = open.book.draft();
                writing.push(draft.write(nats, open.book.place()));
            }
            Some(handled) = handled.recv() => open.book.handled(handled),
            Some((customer, sequence)) = free.recv() => open.waiting.free(&customer, sequence),
            Some(fetched) = fetches.next() => open.fetched(fetched?).await?,
        }
        if !open.book.is_checked() {
            continue;
        }
        for (read, message, place) in std::mem::take(&mut open.held) {
            open.hand(read, message, place);
        }
        while let Some(turn) = open.waiting.turn() {
            fetches.push(fetch(nats, turn));
        }
    }
    // What is handled and not written down comes again, as a repeat; so there should be little of it.
    let rest = async {
        while let Some(written) = writing.next().await {
            open.written(written?).await;
        }
        while let Ok(handled) = handled.try_recv() {
            open.book.handled(handled);
        }
        if open.book.due().is_some() {
            let draft = open.book.draft();
            let written = draft.write(nats, open.book.place()).await?;
            open.written(written).await;
        }
        Ok::<_, NatsError>(())
    };
    match tokio::time::timeout(REST, rest).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            let error = wanwright_nats::chain(&error);
            tracing::warn!(partition, error, "some handled commands stay in the inbox; they will be repeats");
        }
        Err(_) => tracing::warn!(partition, "some handled commands stay in the inbox; they will be repeats"),
    }
    Ok(())
}

type Delivered = Option<Result<jetstream::Message, consumer::pull::MessagesError>>;

/// What was fetched of a customer, in its order.
type Fetched = (CustomerId, Vec<(u64, Found, Place)>);

/// A command that was delivered before, asked for again.
enum Found {
    Message(Box<jetstream::Message>),
    /// It is gone from the inbox, though nobody handled it.
    Gone,
    /// It could not be read, which is reported.
    Buried,
}

impl Open<'_> {
    /// Takes what is delivered: to its lane, or to its place among what waits. Answers its sequence.
    async fn take(&mut self, delivered: Delivered) -> Result<u64, NatsError> {
        let message = match delivered {
            Some(message) => message.map_err(failed)?,
            None => return Err(failed("the inbox ended")),
        };
        let (sequence, pending) = {
            let info = message.info().map_err(failed)?;
            (info.stream_sequence, info.pending)
        };
        let read = match read(&message) {
            Ok(read) => read,
            Err(refusal) => return bury(self.nats, &message, &refusal).await.map(|()| sequence),
        };
        let reply = message.reply.as_deref().unwrap_or_default();
        let admitted = self.waiting.admit(&read.subject.customer, sequence, reply, message.payload.len());
        if !matches!(admitted, Admitted::Known) {
            self.book.delivered(sequence, read.received_millis, pending);
        }
        if let Admitted::Now(place) = admitted {
            self.held.push((read, message, place));
        }
        Ok(sequence)
    }

    /// Looks for what should have been delivered and is not, though nothing is delivered any more: the server may go on
    /// counting what it cannot deliver.
    async fn await_no_more(&mut self) -> Result<(), NatsError> {
        let stream = self.nats.js.get_stream_no_info(COMMANDS).await.map_err(failed)?;
        let mut missing = Vec::new();
        for sequence in self.book.awaited(LOOKED_FOR) {
            match stream.get_raw_message(sequence).await {
                Ok(_) => {}
                Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => missing.push(sequence),
                // One that is there and cannot be read ends the connection when it is delivered.
                Err(error) => return Err(failed(error)),
            }
        }
        if !missing.is_empty() {
            self.book.are_missing(&missing);
        }
        Ok(())
    }

    /// Hands what was fetched of a customer to its lane.
    async fn fetched(&mut self, (customer, commands): Fetched) -> Result<(), NatsError> {
        for (sequence, found, place) in commands {
            let message = match found {
                Found::Message(message) => *message,
                Found::Gone => {
                    self.book.is_gone(sequence);
                    continue;
                }
                Found::Buried => {
                    self.book.is_buried(sequence);
                    continue;
                }
            };
            match read(&message) {
                // Not before what is gone is reported.
                Ok(read) => self.held.push((read, message, place)),
                Err(refusal) => bury(self.nats, &message, &refusal).await?,
            }
        }
        self.waiting.fetched(&customer);
        Ok(())
    }

    fn hand(&self, read: Read, message: jetstream::Message, place: Place) {
        let Read { subject, headers, body, received_millis } = read;
        let delivery = Delivery::new(message, self.opened.clone(), self.done.clone(), place);
        let answer = Answer::Inbox(Box::new(delivery));
        self.lanes.hand(Asked {
            subject,
            headers,
            body,
            received_millis,
            room: None,
            answer,
            previews: OnceLock::new(),
        });
    }

    /// Removes from the inbox what is handled and written down.
    async fn written(&mut self, written: Written) {
        self.book.written(written.sequence, &written.reported);
        for handled in written.handled {
            let reply = String::from(handled.reply);
            if let Err(error) = self.nats.client.publish(reply, ACK.into()).await {
                tracing::warn!(%error, "a handled command could not be removed from the inbox; it will be a repeat");
            }
        }
    }
}

/// Fetches what was parked of a customer, in its order.
async fn fetch(nats: &Nats, turn: Turn) -> Result<Fetched, NatsError> {
    let fetches = turn.parked.into_iter().map(|(parked, place)| async move {
        let sequence = parked.sequence;
        Ok::<_, NatsError>((sequence, fetch_one(nats, parked).await?, place))
    });
    Ok((turn.customer, futures::stream::iter(fetches).buffered(AT_ONCE).try_collect().await?))
}

/// A command as it was delivered.
async fn fetch_one(nats: &Nats, parked: Parked) -> Result<Found, NatsError> {
    // The leader has it: a replica may be behind what was delivered.
    let stream = nats.js.get_stream_no_info(COMMANDS).await.map_err(failed)?;
    match stream.get_raw_message(parked.sequence).await {
        Ok(stored) => {
            let message = async_nats::Message {
                subject: stored.subject,
                reply: Some(String::from(parked.reply).into()),
                length: stored.payload.len(),
                payload: stored.payload,
                headers: Some(stored.headers),
                status: None,
                description: None,
            };
            Ok(Found::Message(Box::new(jetstream::Message { message, context: nats.js.clone() })))
        }
        Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(Found::Gone),
        Err(error) => match unreadable::bury_one(nats, parked.sequence, error).await? {
            true => Ok(Found::Buried),
            false => Ok(Found::Gone),
        },
    }
}

/// What a message says.
struct Read {
    subject: CommandSubject,
    headers: Headers,
    body: Bytes,
    /// When it was stored.
    received_millis: u64,
}

fn read(message: &jetstream::Message) -> Result<Read, Refusal> {
    let (sequence, received_millis) = match message.info() {
        Ok(info) => {
            let millis = info.published.unix_timestamp_nanos() / 1_000_000;
            (info.stream_sequence, u64::try_from(millis).unwrap_or_default())
        }
        Err(_) => (0, 0),
    };
    let place = || CommandId::of_message(received_millis, sequence);
    let (subject, headers, body) =
        door::read(&message.subject, message.headers.as_ref(), &message.payload, place)?;
    door::refuse_dry_run(&headers)?;
    Ok(Read { subject, headers, body, received_millis })
}
