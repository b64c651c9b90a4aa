//! The folder that a run works in.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio::fs;

use super::error::{TerraformError, io};
use super::left::{ERRORED, VARIABLES};
use super::template::Ready;

/// Makes a folder that nobody else may look into.
pub(super) async fn private(dir: &Path) -> Result<(), TerraformError> {
    fs::create_dir_all(dir).await.map_err(io("making", dir))?;
    fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).await.map_err(io("closing", dir))
}

/// The folder of a run. It is removed when this is dropped, unless there is a state in it that nobody has taken in: the
/// next start does.
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    /// Makes it, with a template's files and the values for them.
    pub(super) async fn make(dir: PathBuf, ready: &Ready, variables: &Value) -> Result<Self, TerraformError> {
        let folder = Self(dir);
        private(&folder.0).await?;
        for name in &ready.names {
            let to = folder.0.join(name);
            fs::copy(ready.files.join(name), &to).await.map_err(io("copying a template to", &to))?;
        }
        let file = folder.0.join(VARIABLES);
        fs::write(&file, variables.to_string()).await.map_err(io("writing", &file))?;
        Ok(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.0.join(ERRORED).exists() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}
