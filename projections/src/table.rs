//! Rows of a table in memory, and the few statements that load and save them.
//!
//! A row is a serde type whose fields are the table's columns. It crosses to Postgres as JSON, one array for many rows,
//! where `json_populate_recordset` gives every field its column's type: one statement per table and batch, and no second
//! list of columns to keep right. Columns are named, so a table may have newer ones that this version does not know.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::PgConnection;

use crate::error::Error;

/// A row of a table.
pub trait Table: Serialize + DeserializeOwned + Clone + Send + Sync {
    /// The primary key: its fields are the key columns, or `sequence` and the like.
    type Key: Serialize + Ord + Clone + Send + Sync;
    /// The table.
    const NAME: &'static str;
    /// The key columns.
    const KEY: &'static [&'static str];
    /// On which condition a row takes the place of the one with its key, in SQL over `stored` and `excluded`.
    const REPLACES: &'static str = "true";
    /// The row's key.
    fn key(&self) -> Self::Key;
}

#[derive(Debug, Clone)]
struct Slot<T> {
    row: Option<T>,
    stored: bool,
    changed: bool,
}

/// The rows of one table that a batch touches.
#[derive(Debug, Clone)]
pub struct Slots<T: Table> {
    slots: BTreeMap<T::Key, Slot<T>>,
}

impl<T: Table> Default for Slots<T> {
    fn default() -> Self {
        Self { slots: BTreeMap::new() }
    }
}

impl<T: Table> Slots<T> {
    /// The row with this key.
    pub fn get(&self, key: &T::Key) -> Option<&T> {
        self.slots.get(key).and_then(|slot| slot.row.as_ref())
    }

    /// The row with this key, to be changed.
    pub fn get_mut(&mut self, key: &T::Key) -> Option<&mut T> {
        let slot = self.slots.get_mut(key)?;
        slot.changed |= slot.row.is_some();
        slot.row.as_mut()
    }

    /// Puts a row in the place of the one with its key, if there is one.
    pub fn put(&mut self, row: T) {
        let slot = self.slots.entry(row.key()).or_insert(Slot { row: None, stored: false, changed: true });
        slot.changed = true;
        slot.row = Some(row);
    }

    /// Takes the row away.
    pub fn remove(&mut self, key: &T::Key) {
        if let Some(slot) = self.slots.get_mut(key) {
            slot.changed |= slot.row.is_some();
            slot.row = None;
        }
    }

    /// Every row there is.
    pub fn rows(&self) -> impl Iterator<Item = &T> {
        self.slots.values().filter_map(|slot| slot.row.as_ref())
    }

    /// Loads the rows with these keys.
    pub(crate) async fn load<'k>(
        &mut self,
        connection: &mut PgConnection,
        schema: &str,
        keys: impl IntoIterator<Item = &'k T::Key>,
    ) -> Result<(), Error>
    where
        T::Key: 'k,
    {
        let keys: Vec<&T::Key> = keys.into_iter().filter(|key| !self.slots.contains_key(*key)).collect();
        if keys.is_empty() {
            return Ok(());
        }
        let sql = format!("SELECT t.row FROM {}", by_keys::<T>(schema));
        let found: Vec<String> =
            sqlx::query_scalar(&sql).bind(json::<T>(&keys)?).fetch_all(connection).await?;
        for text in found {
            let row: T = parse(T::NAME, &text)?;
            self.slots.insert(row.key(), Slot { row: Some(row), stored: true, changed: false });
        }
        Ok(())
    }

    /// Saves what was changed.
    pub(crate) async fn save(&self, connection: &mut PgConnection, schema: &str) -> Result<(), Error> {
        let changed = self.slots.iter().filter(|(_, slot)| slot.changed);
        let mut gone = Vec::new();
        let mut rows = Vec::new();
        for (key, slot) in changed {
            match &slot.row {
                Some(row) => rows.push(row),
                None if slot.stored => gone.push(key),
                None => {}
            }
        }
        if !gone.is_empty() {
            let (name, found) = (T::NAME, by_keys::<T>(schema));
            let sql =
                format!("DELETE FROM {schema}.{name} WHERE ctid = ANY (ARRAY(SELECT t.place FROM {found}))");
            sqlx::query(&sql).bind(json::<T>(&gone)?).execute(&mut *connection).await?;
        }
        write(connection, schema, &rows).await
    }
}

/// The rows `t` with the keys in `$1`. Each is looked up in the index: for a plain join Postgres, which does not know how many
/// keys come, reads a table of some ten thousand rows whole for every batch.
fn by_keys<T: Table>(schema: &str) -> String {
    let name = T::NAME;
    let same: Vec<String> = T::KEY.iter().map(|column| format!("r.\"{column}\" = k.\"{column}\"")).collect();
    let same = same.join(" AND ");
    format!(
        "json_populate_recordset(NULL::{schema}.{name}, $1::json) k \
         CROSS JOIN LATERAL (SELECT r.ctid AS place, row_to_json(r)::text AS row FROM {schema}.{name} r WHERE {same} LIMIT 1) t"
    )
}

/// Writes rows, in the place of those with the same keys where they replace them.
pub(crate) async fn write<T: Table>(
    connection: &mut PgConnection,
    schema: &str,
    rows: &[&T],
) -> Result<(), Error> {
    let Some(first) = rows.first() else { return Ok(()) };
    let row = |source| Error::Row { table: T::NAME, source };
    let serde_json::Value::Object(first) = serde_json::to_value(first).map_err(row)? else { return Ok(()) };
    let columns: Vec<String> = first.keys().map(|column| format!("\"{column}\"")).collect();
    let updates: Vec<String> = first
        .keys()
        .filter(|column| !T::KEY.contains(&column.as_str()))
        .map(|column| format!("\"{column}\" = excluded.\"{column}\""))
        .collect();
    let key: Vec<String> = T::KEY.iter().map(|column| format!("\"{column}\"")).collect();
    let sql = format!(
        "INSERT INTO {schema}.{name} AS stored ({columns}) \
         SELECT {columns} FROM json_populate_recordset(NULL::{schema}.{name}, $1::json) \
         ON CONFLICT ({key}) DO UPDATE SET {updates} WHERE {replaces}",
        name = T::NAME,
        columns = columns.join(", "),
        key = key.join(", "),
        updates = updates.join(", "),
        replaces = T::REPLACES
    );
    sqlx::query(&sql).bind(json::<T>(rows)?).execute(connection).await?;
    Ok(())
}

fn json<T: Table>(rows: &(impl Serialize + ?Sized)) -> Result<String, Error> {
    serde_json::to_string(rows).map(without_nul).map_err(|source| Error::Row { table: T::NAME, source })
}

pub(crate) fn parse<T: DeserializeOwned>(table: &'static str, text: &str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|source| Error::Row { table, source })
}

/// Postgres keeps no U+0000 in a text, JSON does: a customer who writes one must not stop a whole partition.
fn without_nul(json: String) -> String {
    if !json.contains("\\u0000") {
        return json;
    }
    let mut clean = String::with_capacity(json.len());
    let mut rest = json.as_str();
    while let Some(at) = rest.find('\\') {
        clean.push_str(&rest[..at]);
        // What follows a backslash is one of serde_json's escapes: `u` and four digits, or one ASCII character.
        let length = if rest[at + 1..].starts_with('u') { 6 } else { 2 };
        let escape = &rest[at..at + length];
        clean.push_str(if escape == "\\u0000" { "\\ufffd" } else { escape });
        rest = &rest[at + length..];
    }
    clean.push_str(rest);
    clean
}

/// The same value without U+0000 in its texts.
pub(crate) fn clean<T: Serialize + DeserializeOwned>(value: T) -> Result<T, serde_json::Error> {
    let json = serde_json::to_string(&value)?;
    if json.contains("\\u0000") { serde_json::from_str(&without_nul(json)) } else { Ok(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nul_becomes_the_replacement_character_and_nothing_else_changes() {
        let nasty = "a\0b\\u0000c\\\0\"\n\u{1}ü";
        let json = serde_json::to_string(nasty).expect("JSON");
        let back: String = serde_json::from_str(&without_nul(json)).expect("JSON");
        assert_eq!(back, nasty.replace('\0', "\u{fffd}"));
        assert_eq!(without_nul("\"\\\\u0000\"".into()), "\"\\\\u0000\"");
    }
}
