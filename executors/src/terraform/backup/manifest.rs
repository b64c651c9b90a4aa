//! The manifest: what a backup holds.

use std::io;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::fs;
use wanwright_schemas::envelope::Digest;

use super::files::Writer;
use super::{BackupError, FENCES, FORMAT, SCHEMA, STATES};

/// Its file.
pub(super) const NAME: &str = "manifest.json";

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupManifest {
    /// The version of the files.
    pub format: u32,
    /// When it was finished.
    pub time: Timestamp,
    /// The newest migration that its rows fit.
    pub schema: u32,
    /// How many stacks it has states of.
    pub stacks: u64,
    /// The ids of the keys that seal them. The keys are not in it.
    pub keys: Vec<String>,
    /// The files: the versions of the states, and the leases they were locked under.
    pub files: Vec<BackupFile>,
}

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupFile {
    /// Its name.
    pub name: String,
    /// How many rows it has.
    pub rows: u64,
    /// Its length.
    pub bytes: u64,
    /// The SHA-256 of what is in it.
    pub digest: Digest,
}

/// The manifest as it is written: with its own digest.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    manifest: BackupManifest,
    digest: Digest,
}

impl BackupManifest {
    /// How many versions of states there are.
    pub fn versions(&self) -> u64 {
        self.files.iter().filter(|file| file.name == STATES.file).map(|file| file.rows).sum()
    }

    /// The length of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    fn text(&self) -> serde_json::Result<Vec<u8>> {
        let digest = Digest::of(&serde_json::to_vec(self)?);
        let mut text = serde_json::to_vec_pretty(&Signed { manifest: self.clone(), digest })?;
        text.push(b'\n');
        Ok(text)
    }

    pub(super) async fn write(&self, mut writer: Writer) -> Result<(), BackupError> {
        let text = self.text().map_err(io::Error::other);
        let text = text.map_err(BackupError::io("writing", Path::new(NAME)))?;
        writer.write(&text).await?;
        writer.finish().await.map(drop)
    }

    /// Reads a manifest. There is one text for each: what reads the same and is written in another way is none.
    pub(super) async fn read(dir: &Path) -> Result<Self, BackupError> {
        let path = dir.join(NAME);
        let text = match fs::read(&path).await {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(BackupError::None { dir: dir.to_owned() });
            }
            Err(error) => return Err(BackupError::io("reading", &path)(error)),
        };
        let damaged = |why: &str| BackupError::damaged(&path, why);
        let value: Value = serde_json::from_slice(&text).map_err(|_| damaged("it is no JSON"))?;
        let number = |name: &str| value.pointer(&format!("/manifest/{name}")).and_then(Value::as_u64);
        // Only a later wanwright knows what else is in it.
        if number("format") > Some(FORMAT.into()) || number("schema") > Some(SCHEMA.into()) {
            return Err(BackupError::Later { dir: dir.to_owned() });
        }
        let read: Result<Signed, _> = serde_json::from_value(value);
        let Signed { manifest, .. } = read.map_err(|_| damaged("it is no manifest"))?;
        if manifest.text().ok().as_ref() != Some(&text) {
            return Err(damaged("it is not what was written"));
        }
        let names: Vec<&str> = manifest.files.iter().map(|file| file.name.as_str()).collect();
        if names != [STATES.file, FENCES.file] {
            return Err(damaged("it names other files than a backup has"));
        }
        Ok(manifest)
    }
}
