//! The folds of buckets: of each key the newest record counts, and a key that was taken away has no row.

use sqlx::PgConnection;
use wanwright_nats::StoredMessage;
use wanwright_schemas::control::{Control, Scope};
use wanwright_schemas::rollout::Rollout;

use crate::error::Error;
use crate::models::budgets::BudgetKey;
use crate::models::controls::ControlKey;
use crate::models::rollouts::RolloutKey;
use crate::models::{BudgetRow, ControlRow, RolloutRow};
use crate::table::{Slots, Table};

/// What a message of a bucket says about its key.
enum Word<T> {
    Is(T),
    Gone,
}

/// The two parts of a key: `$KV.<bucket>.<first>.<second>`.
fn parts(message: &StoredMessage) -> Option<(String, String)> {
    let key = message.subject.strip_prefix("$KV.")?.split_once('.')?.1;
    let (first, second) = key.split_once('.')?;
    Some((first.to_owned(), second.to_owned()))
}

fn is_gone(message: &StoredMessage) -> bool {
    message.headers.get("KV-Operation").is_some() || message.payload.is_empty()
}

async fn apply<T: Table>(connection: &mut PgConnection, words: Vec<(T::Key, Word<T>)>) -> Result<(), Error> {
    let mut slots: Slots<T> = Slots::default();
    slots.load(connection, "public", words.iter().map(|(key, _)| key)).await?;
    for (key, word) in words {
        match word {
            Word::Is(row) => slots.put(row),
            Word::Gone => slots.remove(&key),
        }
    }
    slots.save(connection, "public").await
}

/// Folds records of KV_controls into `controls`.
pub(crate) async fn apply_controls(
    connection: &mut PgConnection,
    messages: &[StoredMessage],
) -> Result<(), Error> {
    let word = |message: &StoredMessage| {
        let (scope, name) = parts(message)?;
        Scope::parse(&scope, &name).ok()?;
        let key = ControlKey { scope, name };
        if is_gone(message) {
            return Some((key, Word::Gone));
        }
        let control: Control = serde_json::from_slice(&message.payload).ok()?;
        Some((key, Word::Is(ControlRow::of(control, message.sequence))))
    };
    apply(connection, messages.iter().filter_map(word).collect()).await
}

/// Folds records of KV_rollouts into `rollouts`.
pub(crate) async fn apply_rollouts(
    connection: &mut PgConnection,
    messages: &[StoredMessage],
) -> Result<(), Error> {
    let word = |message: &StoredMessage| {
        let vendor = message.subject.strip_prefix("$KV.")?.split_once('.')?.1;
        let key = RolloutKey { vendor: vendor.to_owned() };
        if is_gone(message) {
            return Some((key, Word::Gone));
        }
        let rollout: Rollout = serde_json::from_slice(&message.payload).ok()?;
        Some((key, Word::Is(RolloutRow::of(rollout, message.sequence))))
    };
    apply(connection, messages.iter().filter_map(word).collect()).await
}

/// Folds records of KV_budgets into `budget_records`.
pub(crate) async fn apply_budgets(
    connection: &mut PgConnection,
    messages: &[StoredMessage],
) -> Result<(), Error> {
    let word = |message: &StoredMessage| {
        let (vendor, account) = parts(message)?;
        let key = BudgetKey { vendor, account };
        if is_gone(message) {
            return Some((key, Word::Gone));
        }
        let row = BudgetRow::of(key.clone(), &message.payload, message.time, message.sequence)?;
        Some((key, Word::Is(row)))
    };
    apply(connection, messages.iter().filter_map(word).collect()).await
}
