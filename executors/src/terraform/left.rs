//! What runs of a dead process left in their folders: what matters of them is in the state and the spool, and a state that
//! Terraform could not hand over is taken in here.

use std::path::Path;

use serde_json::Value;
use tokio::fs;

use super::keeper::Keeper;
use super::store::StoreError;

/// The folder of runs in that of their executor.
pub(super) const RUNS: &str = "runs";

/// What Terraform leaves in its folder when the state backend did not take its last write.
pub(super) const ERRORED: &str = "errored.tfstate";

/// The same when nobody can read it; it stays for a person.
const UNREADABLE: &str = "unreadable.tfstate";

/// What a run was told.
pub(super) const VARIABLES: &str = "variables.json";

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

async fn adopt(keeper: &Keeper, dir: &Path) -> Result<(), StoreError> {
    let Ok(body) = fs::read(dir.join(ERRORED)).await else { return Ok(()) };
    let order = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let variables: Value = fs::read(dir.join(VARIABLES))
        .await
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default();
    let stack = variables.pointer("/site/uid").and_then(Value::as_str);
    let stack = stack.ok_or_else(|| StoreError::NoState("its folder names no site".to_owned()))?;
    match keeper.adopt(stack, &order, body, None).await {
        // It was set aside.
        Ok(()) | Err(StoreError::Conflict { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}
