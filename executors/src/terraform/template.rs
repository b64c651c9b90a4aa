//! Templates: initialised once per content and Terraform version, then shared by every run, never written again.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::fs;
use tokio::sync::OnceCell;
use wanwright_supervisor::ChildSpec;
use wanwright_vendors::TerraformTemplate;

use super::bounded::{self, LAST_WORDS};
use super::error::{TerraformError, io};
use super::foreign::{Package, package};
use super::messages::Secrets;
use super::process::{Surroundings, Terraform, output};
use super::state::StateSession;

/// Terraform's own settings for an `init` that installs providers.
const INSTALLATION: &str = "installation.tfrc";

/// Where a template's foreign providers are, in its folder.
const PLUGINS: &str = "plugins";

/// A template that is ready: its files, and the data folder that `init` made.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) files: PathBuf,
    pub(super) data: PathBuf,
    pub(super) names: Vec<String>,
    /// The providers that it uses and that are not ours.
    pub(super) packages: Vec<Package>,
}

/// The templates that are ready, by digest.
#[derive(Debug)]
pub(super) struct Templates {
    dir: PathBuf,
    mirror: PathBuf,
    /// Each with its own lock: whoever needs one that is ready does not wait for another one.
    ready: Mutex<HashMap<String, Arc<OnceCell<Arc<Ready>>>>>,
}

impl Templates {
    /// Templates in this folder, whose providers come from a filesystem mirror.
    pub(super) fn new(dir: PathBuf, mirror: PathBuf) -> Self {
        Self { dir, mirror, ready: Mutex::new(HashMap::new()) }
    }

    /// The template, initialised by whoever needs it first.
    pub(super) async fn get(
        &self,
        terraform: &Terraform,
        template: &TerraformTemplate,
        state: &StateSession,
    ) -> Result<Arc<Ready>, TerraformError> {
        let cell = {
            let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(ready.entry(template.digest.clone()).or_default())
        };
        let make = || async { self.make(terraform, template, state).await.map(Arc::new) };
        cell.get_or_try_init(make).await.map(Arc::clone)
    }

    /// Initialises a template with foreign providers, and takes them over.
    async fn install(
        &self,
        terraform: &Terraform,
        template: &TerraformTemplate,
        state: &StateSession,
        making: &Path,
    ) -> Result<(), TerraformError> {
        let (files, data) = (making.join("files"), making.join("data"));
        let mirror = std::path::absolute(&self.mirror).map_err(io("finding", &self.mirror))?;
        let (providers, taken) = (template.providers.clone(), making.join(PLUGINS));
        let to = taken.clone();
        blocking(move || providers.iter().try_for_each(|provider| package::take(&mirror, provider, &to)))
            .await?;
        init(terraform, &files, &data, state, Some(&taken)).await?;
        // It has installed links, which nobody needs who is told where a provider listens.
        let links = data.join("providers");
        fs::remove_dir_all(&links).await.map_err(io("removing", &links))
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
            packages: {
                let taken = finished.join(PLUGINS);
                let packages = template.providers.iter().map(|provider| Package::among(provider, &taken));
                packages.collect::<Result<_, _>>()?
            },
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
        // What was read with the digest, and not what the folder says by now.
        for (file, content) in template.contents.iter() {
            let to = files.join(file);
            fs::write(&to, content).await.map_err(io("writing a template to", &to))?;
        }
        if template.providers.is_empty() {
            init(terraform, &files, &data, state, None).await?;
        } else {
            self.install(terraform, template, state, &making).await?;
        }
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

/// Reads and copies large files elsewhere than where calls are answered.
async fn blocking(
    work: impl FnOnce() -> Result<(), TerraformError> + Send + 'static,
) -> Result<(), TerraformError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| TerraformError::Provider(error.into()))?
}

/// Runs `init`, which asks the state backend whether there is a state but calls no provider. With foreign providers it
/// compares them with its lock file and links to them, from nowhere but this mirror; its lock file stays as it is.
async fn init(
    terraform: &Terraform,
    files: &Path,
    data: &Path,
    state: &StateSession,
    mirror: Option<&Path>,
) -> Result<(), TerraformError> {
    let words = files.with_file_name(LAST_WORDS);
    let nobody = wanwright_provider::reattach_providers(&data.join("none"), std::process::id());
    let mut spec: ChildSpec = terraform
        .spec(&Surroundings { cwd: files, data, provider: None, ports: vec![state.port()], mirror })
        .env("TF_REATTACH_PROVIDERS", nobody)
        .envs(state.env())
        .log(&words)
        .args(["init", "-input=false", "-no-color"]);
    if let Some(mirror) = mirror {
        let settings = files.join(INSTALLATION);
        let path = serde_json::Value::from(mirror.display().to_string());
        let text = format!("provider_installation {{\n  filesystem_mirror {{\n    path = {path}\n  }}\n}}\n");
        fs::write(&settings, text).await.map_err(io("writing", &settings))?;
        spec = spec.env("TF_CLI_CONFIG_FILE", settings).arg("-lockfile=readonly");
    }
    let (status, text) = output(spec).await?;
    let said = bounded::last_words(&words).await;
    if status.success() {
        return Ok(());
    }
    let secrets = Secrets::new([state.token()]);
    Err(TerraformError::Init(secrets.taken_out(format!("{}\n{said}", text.trim()))))
}
