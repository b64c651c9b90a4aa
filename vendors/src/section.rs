//! Reading a TOML table field by field, so that an error can name the field and no key goes unread.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::error::LoadError;
use crate::suggest;

/// One table of one file. Every field that is asked for is taken out; [`Section::finish`] refuses what is left.
#[derive(Debug)]
pub(crate) struct Section {
    file: PathBuf,
    path: String,
    table: Table,
    asked: Vec<String>,
}

impl Section {
    /// The top level of a file.
    pub(crate) fn parse(file: &Path, text: &[u8]) -> Result<Self, LoadError> {
        let syntax = |message: String| LoadError::Syntax { file: file.to_owned(), message };
        let text = std::str::from_utf8(text).map_err(|_| syntax("is not UTF-8 text".to_owned()))?;
        let table = text.parse::<Table>().map_err(|error| syntax(error.to_string()))?;
        Ok(Self { file: file.to_owned(), path: String::new(), table, asked: Vec::new() })
    }

    /// What it says but for these fields, whatever the comments in the file, in one form for the same content.
    pub(crate) fn without(mut self, fields: &[&str]) -> Result<String, LoadError> {
        fields.iter().for_each(|field| drop(self.table.remove(*field)));
        serde_json::to_string(&self.table).map_err(|error| self.error("", error.to_string()))
    }

    /// A field that may be absent.
    pub(crate) fn optional<T: DeserializeOwned>(&mut self, key: &str) -> Result<Option<T>, LoadError> {
        match self.take(key) {
            None => Ok(None),
            Some(value) => value
                .try_into()
                .map(Some)
                .map_err(|error: toml::de::Error| self.error(key, error.message().to_owned())),
        }
    }

    /// A field that has to be there.
    pub(crate) fn required<T: DeserializeOwned>(&mut self, key: &str) -> Result<T, LoadError> {
        match self.optional(key)? {
            Some(value) => Ok(value),
            None => Err(self.missing(key)),
        }
    }

    /// A sub-table that may be absent.
    pub(crate) fn optional_section(&mut self, key: &str) -> Result<Option<Self>, LoadError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Table(table)) => {
                Ok(Some(Self { file: self.file.clone(), path: self.at(key), table, asked: Vec::new() }))
            }
            Some(other) => {
                Err(self
                    .error(key, format!("is a {}: write a table, `[{}]`", other.type_str(), self.at(key))))
            }
        }
    }

    /// A list of tables, `[[name]]`; none if it is absent.
    pub(crate) fn sections(&mut self, key: &str) -> Result<Vec<Self>, LoadError> {
        let items = match self.take(key) {
            None => Vec::new(),
            Some(Value::Array(items)) => items,
            Some(_) => return Err(self.error(key, format!("is no list: write `[[{}]]`", self.at(key)))),
        };
        let section =
            |(index, item)| match item {
                Value::Table(table) => {
                    let path = format!("{}[{index}]", self.at(key));
                    Ok(Self { file: self.file.clone(), path, table, asked: Vec::new() })
                }
                _ => Err(self
                    .error(key, format!("holds something else than tables: write `[[{}]]`", self.at(key)))),
            };
        items.into_iter().enumerate().map(section).collect()
    }

    /// A sub-table that has to be there.
    pub(crate) fn section(&mut self, key: &str) -> Result<Self, LoadError> {
        match self.optional_section(key)? {
            Some(section) => Ok(section),
            None => Err(self.missing(key)),
        }
    }

    /// A sub-table that may be absent, which is the same as an empty one.
    pub(crate) fn section_or_empty(&mut self, key: &str) -> Result<Self, LoadError> {
        let empty =
            Self { file: self.file.clone(), path: self.at(key), table: Table::new(), asked: Vec::new() };
        Ok(self.optional_section(key)?.unwrap_or(empty))
    }

    /// The keys not yet taken, for a table whose keys are names of the author's choosing.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.table.keys().cloned().collect()
    }

    /// An error about a field of this table; an empty key is the table itself.
    pub(crate) fn error(&self, key: &str, message: impl Into<String>) -> LoadError {
        LoadError::Field { file: self.file.clone(), field: self.at(key), message: message.into() }
    }

    /// Refuses keys nobody asked for.
    pub(crate) fn finish(self) -> Result<(), LoadError> {
        match self.table.keys().next() {
            None => Ok(()),
            Some(key) => {
                let known: Vec<&str> = self.asked.iter().map(String::as_str).collect();
                Err(self.error(key, format!("is not known: {}", suggest::advice(key, &known))))
            }
        }
    }

    fn missing(&self, key: &str) -> LoadError {
        self.error(key, "is missing: add it (see vendors/README.md)")
    }

    fn take(&mut self, key: &str) -> Option<Value> {
        self.asked.push(key.to_owned());
        self.table.remove(key)
    }

    fn at(&self, key: &str) -> String {
        match (self.path.is_empty(), key.is_empty()) {
            (true, _) => key.to_owned(),
            (false, true) => self.path.clone(),
            (false, false) => format!("{}.{key}", self.path),
        }
    }
}
