//! The folds of RUNS, VERDICTS and DEAD: records that a stream keeps for a while.

use std::collections::BTreeSet;

use sqlx::PgConnection;
use wanwright_nats::{StoredMessage, dead};
use wanwright_schemas::run::{self, MOST_RECORDS, RUN_BATCH_VERSION, RunRecord};
use wanwright_schemas::{CustomerId, Kind, ObjectRef, Outcome, subjects};

use crate::error::{Error, Stop};
use crate::events::Touched;
use crate::message::micros;
use crate::models::dead_letters::DeadLetterKey;
use crate::models::operations::OperationKey;
use crate::models::{DeadLetterRow, OperationRow, OutcomeRow, RunLogRow};
use crate::table::{self, Slots};

/// Reads a record that starts with its version.
fn read<T: serde::de::DeserializeOwned>(message: &StoredMessage, version: u64) -> Result<T, Stop> {
    read_with(message, version, |body| serde_json::from_slice(body))
}

fn read_with<T>(
    message: &StoredMessage,
    version: u64,
    read: impl Fn(&[u8]) -> Result<T, serde_json::Error>,
) -> Result<T, Stop> {
    #[derive(serde::Deserialize)]
    struct Versioned {
        v: u64,
    }
    let stop =
        |source| Stop::Record { stream: message.stream.clone(), sequence: message.sequence, version, source };
    let found: Versioned = serde_json::from_slice(&message.payload).map_err(|error| stop(Some(error)))?;
    if found.v > version {
        return Err(stop(None));
    }
    read(&message.payload).map_err(|error| stop(Some(error)))
}

/// The records of a message of RUNS.
pub(crate) struct Run {
    sequence: u64,
    records: Vec<RunRecord>,
}

impl Run {
    /// The records, each with its place among all lines: later messages have later places.
    fn places(&self) -> impl Iterator<Item = (u64, &RunRecord)> {
        let first = self.sequence * MOST_RECORDS as u64;
        (first..).zip(&self.records)
    }
}

/// The records of a message of RUNS.
pub(crate) fn read_run(message: &StoredMessage) -> Result<Run, Stop> {
    let records = read_with(message, RUN_BATCH_VERSION, run::read)?;
    Ok(Run { sequence: message.sequence, records })
}

/// Folds records of RUNS into `operations` and `run_log`.
pub(crate) async fn apply_runs(connection: &mut PgConnection, runs: &[Run]) -> Result<Touched, Error> {
    let mut operations: Slots<OperationRow> = Slots::default();
    let key = |record: &RunRecord| OperationKey { customer: record.customer.clone(), order_id: record.order };
    let keys: BTreeSet<OperationKey> = runs.iter().flat_map(|run| &run.records).map(key).collect();
    operations.load(connection, "public", &keys).await?;
    let mut touched = Touched::new();
    let records = || runs.iter().flat_map(|run| run.records.iter().map(|record| (run.sequence, record)));
    for (sequence, record) in records() {
        let row = OperationRow::after(operations.get(&key(record)), record, sequence);
        operations.put(row);
        let object = match &record.target {
            wanwright_schemas::Target::Site(id) => ObjectRef::Site(id.clone()),
            wanwright_schemas::Target::Device(id) => ObjectRef::Device(id.clone()),
        };
        touched.insert((record.customer.clone(), object));
    }
    operations.save(connection, "public").await?;
    let lines: Vec<RunLogRow> =
        runs.iter().flat_map(Run::places).map(|(place, record)| RunLogRow::of(record, place)).collect();
    table::write(connection, "public", &lines.iter().collect::<Vec<_>>()).await?;
    Ok(touched)
}

/// An outcome that no event tells; its subject says whose it is.
pub(crate) fn read_verdict(message: &StoredMessage) -> Result<OutcomeRow, Stop> {
    let Some((customer, command)) = subjects::command_of_verdict(&message.subject) else {
        return Err(Stop::Subject {
            stream: message.stream.clone(),
            sequence: message.sequence,
            subject: message.subject.clone(),
        });
    };
    let outcome: Outcome = read(message, Outcome::VERSION)?;
    let place = (message.stream.clone(), message.sequence);
    Ok(OutcomeRow::of_verdict(customer, command, outcome, micros(message.time), place))
}

/// Writes outcomes that no event tells. The last one of a key wins, as two in one statement would be refused.
pub(crate) async fn apply_verdicts(
    connection: &mut PgConnection,
    rows: Vec<OutcomeRow>,
) -> Result<Touched, Error> {
    let mut slots = Slots::default();
    let mut touched = Touched::new();
    for row in rows {
        touched.extend(object_of(&row));
        slots.put(row);
    }
    slots.save(connection, "public").await?;
    Ok(touched)
}

fn object_of(row: &OutcomeRow) -> Option<(CustomerId, ObjectRef)> {
    let (kind, id): (Kind, &String) = (row.kind?, row.id.as_ref()?);
    let object = ObjectRef::new(kind, id.parse().ok()?).ok()?;
    Some((row.customer.clone(), object))
}

/// Writes dead letters, and what was done about them. A note about a letter that is not there any more says nothing.
pub(crate) async fn apply_dead(
    connection: &mut PgConnection,
    messages: &[StoredMessage],
) -> Result<Touched, Error> {
    let mut letters: Slots<DeadLetterRow> = Slots::default();
    let notes = messages.iter().filter_map(dead::settled).map(|note| DeadLetterKey { sequence: note.letter });
    let notes: BTreeSet<DeadLetterKey> = notes.collect();
    letters.load(connection, "public", &notes).await?;
    let mut touched = Touched::new();
    for message in messages {
        let customer = match dead::settled(message) {
            Some(note) => letters.get_mut(&DeadLetterKey { sequence: note.letter }).and_then(|letter| {
                letter.settle(&note);
                letter.customer.clone()
            }),
            None if dead::is_letter(message) => {
                let letter = DeadLetterRow::of(message);
                let customer = letter.customer.clone();
                letters.put(letter);
                customer
            }
            None => None,
        };
        touched.extend(customer.map(|customer| (customer.clone(), ObjectRef::Customer(customer))));
    }
    letters.save(connection, "public").await?;
    Ok(touched)
}
