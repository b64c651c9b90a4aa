//! What runs of a dead process left in their folders: what matters of them is in the state and the spool, and a state that
//! Terraform could not hand over is taken in here.

use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::fs;
use wanwright_nats::Fence;

use super::bounded;
use super::keeper::Keeper;
use super::state::MAX_STATE;
use super::store::{Mark, StoreError};

/// The most that is read of what a run was told, in bytes.
const MOST_TOLD: u64 = 16 << 20;

/// The folder of runs in that of their executor.
pub(super) const RUNS: &str = "runs";

/// What Terraform leaves in its folder when the state backend did not take its last write.
pub(super) const ERRORED: &str = "errored.tfstate";

/// The same when nobody can read it; it stays for a person.
const UNREADABLE: &str = "unreadable.tfstate";

/// What a run was told.
pub(super) const VARIABLES: &str = "variables.json";

/// Which version of the state a run had seen last: what Terraform left was made from that.
const SEEN: &str = "seen.json";

/// What a run's state was made from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Seen {
    /// The version that the run had seen; none: there was none.
    pub(super) version: Option<Mark>,
    /// The lease that it had of the stack.
    pub(super) fence: Option<Fence>,
}

impl Seen {
    /// Reads what was noted. Older executors noted the version alone.
    pub(super) fn read(noted: &[u8]) -> Option<Self> {
        let version = || serde_json::from_slice(noted).map(|version| Self { version, fence: None });
        serde_json::from_slice(noted).or_else(|_| version()).ok()
    }
}

/// Notes what a run has seen. Where that fails, what the run may leave is set aside.
pub(super) fn note_seen(folder: &Path, seen: Seen) {
    let file = folder.join(SEEN);
    let noted = serde_json::to_vec(&seen).map_err(std::io::Error::from);
    if let Err(error) = noted.and_then(|noted| std::fs::write(&file, noted)) {
        let _ = std::fs::remove_file(&file);
        tracing::warn!(file = %file.display(), %error, "it is not noted which state a run has seen");
    }
}

/// Whether an executor's folder has a state that nobody has taken in.
pub(super) fn is_any(folder: &Path) -> bool {
    let runs = std::fs::read_dir(folder.join(RUNS)).into_iter().flatten().flatten();
    runs.into_iter().any(|run| run.path().join(ERRORED).exists())
}

/// Removes the folders of runs that are no more, when what they left is taken in.
pub(super) async fn clear(keeper: &Keeper, runs: &Path) -> Result<(), StoreError> {
    let failed = || StoreError::spool("reading the folders of runs");
    let mut left = fs::read_dir(runs).await.map_err(failed())?;
    while let Some(entry) = left.next_entry().await.map_err(failed())? {
        let dir = entry.path();
        if fs::try_exists(dir.join(UNREADABLE)).await.unwrap_or(true) {
            continue;
        }
        match adopt(keeper, &dir).await {
            Ok(()) => {
                let _ = fs::remove_dir_all(&dir).await;
            }
            Err(StoreError::NoState(what)) => {
                tracing::error!(dir = %dir.display(), what, "a run's folder is kept: its state cannot be read");
                fs::rename(dir.join(ERRORED), dir.join(UNREADABLE))
                    .await
                    .map_err(StoreError::spool("setting aside what a run left"))?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Takes in what Terraform left in a run's folder. It may stand only behind the version that the run had seen, and behind no
/// lock under a later lease: another executor may have gone on from that version meanwhile.
async fn adopt(keeper: &Keeper, dir: &Path) -> Result<(), StoreError> {
    let Some(body) = errored(&dir.join(ERRORED)).await? else { return Ok(()) };
    let order = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let read = async |name: &str| bounded::read(&dir.join(name), MOST_TOLD, "what a run was told").await.ok();
    let variables: Value =
        read(VARIABLES).await.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    let stack = variables.pointer("/site/uid").and_then(Value::as_str);
    let stack = stack.ok_or_else(|| StoreError::NoState("its folder names no site".to_owned()))?;
    let seen = read(SEEN).await.and_then(|noted| Seen::read(&noted));
    match keeper.adopt(stack, &order, body, seen).await {
        // It was set aside.
        Ok(()) | Err(StoreError::Conflict { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The state that Terraform could not hand over, if there is one.
pub(super) async fn errored(file: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match bounded::read(file, MAX_STATE as u64, "a state").await {
        Ok(body) => Ok(Some(body)),
        Err(error) => match error.kind() {
            ErrorKind::NotFound => Ok(None),
            ErrorKind::FileTooLarge | ErrorKind::InvalidInput => Err(StoreError::NoState(error.to_string())),
            _ => Err(StoreError::spool("reading what a run left")(error)),
        },
    }
}
