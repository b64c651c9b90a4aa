//! One reader: a read model and a stream.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::PgConnection;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use wanwright_nats::{StoredMessage, inventory, stream_info};
use wanwright_schemas::subjects;

use crate::checkpoint::{self, Cursor};
use crate::error::{Error, Stop};
use crate::events::{EventRows, Touched};
use crate::message::{EventMessage, micros};
use crate::prune::Keep;
use crate::readiness::{ReaderState, Readiness};
use crate::run::{Config, ReadModel};
use crate::tail::Tail;
use crate::{audit, buckets, live, overview, records};

/// The first pause while Postgres or NATS is away.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);

/// A reader of one stream for one read model.
#[derive(Debug)]
pub(crate) struct Reader {
    pub config: Config,
    pub model: ReadModel,
    pub stream: String,
    readiness: watch::Sender<Readiness>,
    /// The stream's last sequence as seen at the start: what readiness waits for.
    pub target: Option<u64>,
    /// Whether anything came of the last try.
    pub progress: bool,
    /// Whether the last try ended at something that must not be read over.
    pub stopped: bool,
}

/// What a batch came to.
pub(crate) struct Folded {
    /// How many messages were folded; the one behind them stopped the reader.
    pub folded: usize,
    pub touched: Touched,
    pub stop: Option<Stop>,
}

impl Reader {
    pub fn new(
        config: Config,
        model: ReadModel,
        stream: String,
        readiness: watch::Sender<Readiness>,
    ) -> Self {
        Self { config, model, stream, readiness, target: None, progress: false, stopped: false }
    }

    /// Reads until told to stop, whatever comes between.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut backoff = FIRST_BACKOFF;
        let mut said = String::new();
        loop {
            self.progress = false;
            let Err(error) = self.follow(&shutdown).await else { return };
            self.stopped = matches!(error, Error::Stop(_));
            if self.progress {
                backoff = FIRST_BACKOFF;
                said.clear();
            }
            let pause = self.note(&error, &mut said, backoff).await;
            backoff = (backoff * 2).min(self.config.max_backoff);
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Tells everybody about an error once, and answers how long to wait.
    async fn note(&self, error: &Error, said: &mut String, backoff: Duration) -> Duration {
        let text = error.chain();
        let (model, stream) = (self.model.name(), &self.stream);
        if let Error::Moved { .. } = error {
            tracing::info!(model, stream, "{text}");
            return FIRST_BACKOFF;
        }
        let stopped = self.stopped;
        if *said != text {
            if stopped {
                tracing::error!(model, stream, "reader stopped: {text}");
            } else {
                tracing::warn!(model, stream, "reader waits: {text}");
            }
            said.clone_from(&text);
        }
        if checkpoint::failed(&self.config.pool, self.model, stream, stopped, &text).await.is_err() {
            said.clear(); // Postgres is away: say it again when it can be written down.
        }
        self.is(if stopped { ReaderState::Stopped(text) } else { ReaderState::Waiting(text) });
        if stopped { self.config.recheck } else { backoff }
    }

    async fn follow(&mut self, shutdown: &CancellationToken) -> Result<(), Error> {
        if self.model == ReadModel::Audit {
            return audit::follow(self, shutdown).await;
        }
        self.has_what_was_seen().await?;
        let js = self.config.nats.js.clone();
        let info = stream_info(&js, &self.stream).await?;
        let target = *self.target.get_or_insert(info.last);
        let at = checkpoint::open(&self.config.pool, self.model, &info, self.config.nats.partitions).await?;
        let mut tail = Tail::open(&js, &self.stream, at.clone(), self.model.contiguous()).await?;
        let mut committed = at;
        // A reader that had stopped has opened before: it goes on when what it stopped at has been read, not earlier.
        if !self.stopped {
            self.report(committed.sequence, target, false);
        }
        if committed.sequence == info.last && !self.model.contiguous() {
            checkpoint::seen(&self.config.pool, self.model, &info).await?;
        }
        loop {
            let batch = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                batch = tail.next(self.config.batch, self.config.idle) => batch?,
            };
            if batch.is_empty() {
                self.look(&committed, target).await?;
                continue;
            }
            self.apply(&batch, &mut committed).await?;
            self.progress = true;
            self.report(committed.sequence, target, false);
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = tokio::time::sleep(self.model.rest()) => {}
            }
        }
    }

    /// Whether a stream of events has what the command services saw of it. What came over a connection is folded only
    /// when the stream was compared over the same one.
    pub async fn has_what_was_seen(&self) -> Result<(), Error> {
        Ok(inventory::compare(&self.config.nats, &self.stream, None).await?)
    }

    /// Nothing came for a while: is the stream still the one that was read?
    pub async fn look(&mut self, committed: &Cursor, target: u64) -> Result<(), Error> {
        self.has_what_was_seen().await?;
        let info = stream_info(&self.config.nats.js, &self.stream).await?;
        let mut connection = self.config.pool.acquire().await?;
        if let Some(row) = checkpoint::load(&mut connection, self.model, &self.stream).await? {
            if row.sequence != committed.sequence {
                return Err(self.moved(committed, row.sequence));
            }
            checkpoint::check(&row, &info)?;
        } else {
            return Err(self.moved(committed, 0));
        }
        drop(connection);
        checkpoint::seen(&self.config.pool, self.model, &info).await?;
        self.progress = true;
        // In a stream that deletes, the last sequence may belong to a message that is gone.
        self.report(committed.sequence, target, !self.model.contiguous());
        Ok(())
    }

    /// Writes a batch. Rows that Postgres refuses are narrowed down to the message they come from.
    async fn apply(&self, batch: &[StoredMessage], committed: &mut Cursor) -> Result<(), Error> {
        self.has_what_was_seen().await?;
        let mut parts = vec![batch];
        while let Some(part) = parts.pop() {
            match self.commit(part, committed).await {
                Err(error) if error.refuses_data() => match (part, error) {
                    ([message], Error::Postgres(source)) => {
                        let stop =
                            Stop::Refused { stream: self.stream.clone(), sequence: message.sequence, source };
                        return Err(stop.into());
                    }
                    (_, _) => {
                        let (first, second) = part.split_at(part.len() / 2);
                        parts.extend([second, first]);
                    }
                },
                done => done?,
            }
        }
        Ok(())
    }

    async fn commit(&self, batch: &[StoredMessage], committed: &mut Cursor) -> Result<(), Error> {
        let mut transaction = self.config.pool.begin().await?;
        let row = checkpoint::lock(&mut transaction, self.model, &self.stream).await?;
        if let Some(row) = &row {
            checkpoint::counts(self.model, row, self.config.nats.partitions)?;
        }
        let found = row.map_or(0, |row| row.sequence);
        if found != committed.sequence {
            return Err(self.moved(committed, found));
        }
        let Folded { folded, touched, stop } = self.fold(&mut transaction, batch).await?;
        if let Some(last) = batch[..folded].last() {
            let to = Cursor {
                sequence: last.sequence,
                digest: Some(wanwright_schemas::Digest::of(&last.payload)),
                time: Some(micros(last.time)),
            };
            checkpoint::advance(&mut transaction, self.model, &self.stream, &to).await?;
            transaction.commit().await?;
            *committed = to;
            live::publish(&self.config.nats.client, &touched).await;
        }
        stop.map_or(Ok(()), |stop| Err(stop.into()))
    }

    async fn fold(&self, connection: &mut PgConnection, batch: &[StoredMessage]) -> Result<Folded, Error> {
        match self.model {
            ReadModel::Events => {
                let partitions = self.config.nats.partitions;
                fold_events(connection, "public", batch, self.config.keep, partitions).await
            }
            ReadModel::Overview => {
                let current = current(batch, self.config.nats.partitions);
                let (messages, stop) = readable(current.iter().copied(), EventMessage::read);
                overview::apply(&self.config.pool, &messages).await?;
                let folded = done(batch, &current, messages.len());
                Ok(Folded { folded, touched: Touched::new(), stop })
            }
            ReadModel::Operations => {
                let (runs, stop) = readable(batch, records::read_run);
                let touched = records::apply_runs(connection, &runs).await?;
                Ok(Folded { folded: runs.len(), touched, stop })
            }
            ReadModel::Outcomes => {
                let (rows, stop) = readable(batch, records::read_verdict);
                let folded = rows.len();
                Ok(Folded { folded, touched: records::apply_verdicts(connection, rows).await?, stop })
            }
            ReadModel::DeadLetters => {
                let touched = records::apply_dead(connection, batch).await?;
                Ok(Folded { folded: batch.len(), touched, stop: None })
            }
            ReadModel::Controls => {
                buckets::apply_controls(connection, batch).await?;
                Ok(Folded { folded: batch.len(), touched: Touched::new(), stop: None })
            }
            ReadModel::Rollouts => {
                buckets::apply_rollouts(connection, batch).await?;
                Ok(Folded { folded: batch.len(), touched: Touched::new(), stop: None })
            }
            ReadModel::Budgets => {
                buckets::apply_budgets(connection, batch).await?;
                Ok(Folded { folded: batch.len(), touched: Touched::new(), stop: None })
            }
            // It has a way of its own: see `audit::follow`.
            ReadModel::Audit => Ok(Folded { folded: 0, touched: Touched::new(), stop: None }),
        }
    }

    pub fn moved(&self, committed: &Cursor, found: u64) -> Error {
        Error::Moved { stream: self.stream.clone(), expected: committed.sequence, found }
    }

    pub fn report(&self, sequence: u64, target: u64, idle: bool) {
        self.is(if sequence >= target || idle {
            ReaderState::CaughtUp
        } else {
            ReaderState::CatchingUp { sequence, target }
        });
    }

    fn is(&self, state: ReaderState) {
        let name = format!("{} {}", self.model.name(), self.stream);
        self.readiness.send_if_modified(|readiness| {
            let before = readiness.readers.insert(name, state.clone());
            before.as_ref() != Some(&state)
        });
    }
}

/// The messages of a batch that belong where they are; customers that have moved left the others behind.
fn current(batch: &[StoredMessage], partitions: u16) -> Vec<&StoredMessage> {
    batch.iter().filter(|message| subjects::is_current(&message.subject, partitions)).collect()
}

/// How many messages of a batch are done when so many of its current ones are: what is skipped has been read.
fn done(batch: &[StoredMessage], current: &[&StoredMessage], folded: usize) -> usize {
    let next = current.get(folded).map_or(u64::MAX, |next| next.sequence);
    batch.iter().take_while(|message| message.sequence < next).count()
}

/// Reads messages up to the first that cannot be read.
fn readable<'a, T>(
    batch: impl IntoIterator<Item = &'a StoredMessage>,
    read: impl Fn(&StoredMessage) -> Result<T, Stop>,
) -> (Vec<T>, Option<Stop>) {
    let mut messages = Vec::new();
    for message in batch {
        match read(message) {
            Ok(message) => messages.push(message),
            Err(stop) => return (messages, Some(stop)),
        }
    }
    (messages, None)
}

/// Folds messages of EVENTS-* into the tables of a schema, up to the first that does not fit.
pub(crate) async fn fold_events(
    connection: &mut PgConnection,
    schema: &str,
    batch: &[StoredMessage],
    keep: Keep,
    partitions: u16,
) -> Result<Folded, Error> {
    let current = current(batch, partitions);
    let (messages, mut stop) = readable(current.iter().copied(), EventMessage::read);
    let mut rows = EventRows::load(connection, schema, &messages).await?;
    rows.outcomes_since = keep.outcomes_since(Timestamp::now());
    let mut folded = 0;
    for message in &messages {
        if let Err(found) = rows.fold(message) {
            stop = Some(found);
            break;
        }
        folded += 1;
    }
    rows.save(connection, schema).await?;
    Ok(Folded { folded: done(batch, &current, folded), touched: rows.touched, stop })
}
