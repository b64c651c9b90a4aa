//! Templates: initialised once per content and Terraform version, then shared by every run, never written again.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::fs;
use tokio::sync::Mutex;
use wanwright_supervisor::ChildSpec;
use wanwright_vendors::TerraformTemplate;

use super::engine::TerraformError;
use super::process::{Surroundings, Terraform, output};
use super::state::StateSession;

/// A template that is ready: its files, and the data folder that `init` made.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) files: PathBuf,
    pub(super) data: PathBuf,
    pub(super) names: Vec<String>,
}

/// The templates that are ready, by digest.
#[derive(Debug)]
pub(super) struct Templates {
    dir: PathBuf,
    ready: Mutex<HashMap<String, Arc<Ready>>>,
}

fn io(doing: &str, path: &Path) -> impl FnOnce(std::io::Error) -> TerraformError {
    let doing = format!("{doing} {}", path.display());
    move |source| TerraformError::Io { doing, source }
}

impl Templates {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir, ready: Mutex::new(HashMap::new()) }
    }

    /// The template, initialised by whoever needs it first.
    pub(super) async fn get(
        &self,
        terraform: &Terraform,
        template: &TerraformTemplate,
        state: &StateSession,
    ) -> Result<Arc<Ready>, TerraformError> {
        let mut ready = self.ready.lock().await;
        if let Some(found) = ready.get(&template.digest) {
            return Ok(Arc::clone(found));
        }
        let made = Arc::new(self.make(terraform, template, state).await?);
        ready.insert(template.digest.clone(), Arc::clone(&made));
        Ok(made)
    }

    async fn make(
        &self,
        terraform: &Terraform,
        template: &TerraformTemplate,
        state: &StateSession,
    ) -> Result<Ready, TerraformError> {
        let name = format!("{}-{}", &template.digest[..16.min(template.digest.len())], terraform.version);
        let finished = self.dir.join(&name);
        let ready = Ready {
            files: finished.join("files"),
            data: finished.join("data"),
            names: template.files.clone(),
        };
        if fs::try_exists(&finished).await.unwrap_or_default() {
            return Ok(ready);
        }
        // Made beside and renamed, so that a template that is there is whole.
        let making = self.dir.join(format!(".{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&making).await;
        let (files, data) = (making.join("files"), making.join("data"));
        for dir in [&files, &data] {
            fs::create_dir_all(dir).await.map_err(io("making", dir))?;
        }
        for file in &template.files {
            let to = files.join(file);
            fs::copy(template.dir.join(file), &to).await.map_err(io("copying a template to", &to))?;
        }
        init(terraform, &files, &data, state).await?;
        match fs::rename(&making, &finished).await {
            Ok(()) => Ok(ready),
            // Another executor was faster; its result is the same.
            Err(_) if fs::try_exists(&finished).await.unwrap_or_default() => {
                let _ = fs::remove_dir_all(&making).await;
                Ok(ready)
            }
            Err(error) => Err(io("renaming", &making)(error)),
        }
    }
}

/// Runs `init`, which asks the state backend whether there is a state but calls no provider.
async fn init(
    terraform: &Terraform,
    files: &Path,
    data: &Path,
    state: &StateSession,
) -> Result<(), TerraformError> {
    let nobody = wanwright_provider::reattach_providers(&data.join("none"), std::process::id());
    let spec: ChildSpec = terraform
        .spec(&Surroundings { cwd: files, data, provider: None, ports: vec![state.port()] })
        .env("TF_REATTACH_PROVIDERS", nobody)
        .envs(state.env())
        .args(["init", "-input=false", "-no-color"]);
    let (status, text) = output(spec).await?;
    if status.success() { Ok(()) } else { Err(TerraformError::Init(text)) }
}
