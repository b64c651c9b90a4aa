//! The providers of a run: ours, served in this process on a socket of its own towards the run's own gateway path, and the
//! foreign ones that its template names, each behind a proxy.
//!
//! Ours is in this process because it is our code and its end is ours: an executor that is killed leaves no provider behind
//! that goes on creating things.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use wanwright_nats::Nats;
use wanwright_provider::{Doubt, Listening, ServeOptions};
use wanwright_vendors::{Catalogue, VendorHttp};

use super::creates::OwnCreates;
use super::error::TerraformError;
use super::foreign::{Pool, Proxy, Purpose};
use super::template::Ready;
use crate::gateway::Opened;

/// How long the path of a socket is below the folder of all sockets: a run's or a process's folder, and in it what a
/// provider calls its socket (`plugin` and a number of up to ten digits).
pub(super) const SOCKET_NAME: usize = FOLDER_NAME + "/".len() + "plugin".len() + 16;

/// How long the name of a run's folder is.
const FOLDER_NAME: usize = 12;

/// Providers that serve one run. They end, or are given back, when this is dropped.
pub(super) struct Provider {
    /// The value of `TF_REATTACH_PROVIDERS`.
    pub(super) reattach: String,
    /// The folder with their sockets.
    pub(super) socket: PathBuf,
    foreign: Vec<Proxy>,
    stop: CancellationToken,
    _serving: JoinHandle<()>,
}

/// Where the providers of all runs come from.
pub(super) struct Source<'a> {
    /// The vendor alone: Terraform reads the description of every kind that it is offered.
    pub(super) vendor: &'a Catalogue,
    pub(super) sockets: &'a Path,
    pub(super) pool: &'a Pool,
    pub(super) nats: &'a Nats,
}

impl Provider {
    pub(super) async fn start(
        source: &Source<'_>,
        run: &Opened,
        ready: &Ready,
        doubt: Doubt,
    ) -> Result<Self, TerraformError> {
        let folder = source.sockets.join(&uuid::Uuid::new_v4().simple().to_string()[..FOLDER_NAME]);
        let made = std::fs::DirBuilder::new().mode(0o700).create(&folder);
        made.map_err(|source| TerraformError::Io { doing: format!("making {}", folder.display()), source })?;
        let (mut known, listening) = ours(source, &folder, run, doubt).await?;
        let mut foreign = Vec::new();
        let gateway = url::Url::parse(run.base_url()).ok().and_then(|url| url.port()).unwrap_or_default();
        if !ready.packages.is_empty() {
            run.of_strangers();
        }
        for (number, package) in ready.packages.iter().enumerate() {
            let lease = source.pool.lease(package, gateway).await?;
            let socket = folder.join(number.to_string());
            let purpose = Purpose {
                base_url: format!("{}{}", run.base_url(), package.settings.path),
                attribute: package.settings.base_url.clone(),
                nats: source.nats.clone(),
                records: run.records().clone(),
                run: run.share(),
            };
            foreign.push(Proxy::start(lease, &socket, purpose)?);
            known.insert(package.settings.address.clone(), reattach(&socket));
        }
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let serving = tokio::spawn(async move {
            if let Err(error) = listening.serve(stopped).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "a run's provider ended");
            }
        });
        let reattach = Value::Object(known).to_string();
        Ok(Self { reattach, socket: folder, foreign, stop, _serving: serving })
    }

    /// Whether a foreign provider failed for a reason that is ours: its process ended, or the journal was away.
    pub(super) fn troubled(&self) -> bool {
        self.foreign.iter().any(Proxy::troubled)
    }
}

/// Ours: how Terraform finds it, and the socket that it is served on.
async fn ours(
    source: &Source<'_>,
    folder: &Path,
    run: &Opened,
    doubt: Doubt,
) -> Result<(Map<String, Value>, Listening), TerraformError> {
    let unusable = |error: Box<dyn std::error::Error + Send + Sync>| TerraformError::Provider(error);
    // It calls from this process, which nothing confines: a template may not send it anywhere else.
    let through =
        VendorHttp::carried(run.base_url(), run.carrier()).map_err(|error| unusable(error.into()))?;
    let options = ServeOptions {
        through: Some(through),
        doubt,
        creates: Some(Arc::new(OwnCreates::of(source.nats, run))),
        ..ServeOptions::new(folder.join("p"), "", Some(run.base_url().to_owned()))
    };
    let listening =
        Listening::start_with(source.vendor, &options).await.map_err(|error| unusable(error.into()))?;
    let known = serde_json::from_str(&listening.reattach_providers());
    let known = known.map_err(|error| TerraformError::Unreadable("where a provider listens", error))?;
    Ok((known, listening))
}

/// A provider on a socket, in the words of `TF_REATTACH_PROVIDERS`.
fn reattach(socket: &Path) -> Value {
    json!({
        "Protocol": "grpc",
        "ProtocolVersion": wanwright_provider::plugin::PROTOCOL,
        "Pid": std::process::id(),
        "Test": true,
        "Addr": { "Network": "unix", "String": socket.display().to_string() },
    })
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.stop.cancel();
        // Connections that are open need no path; the next start of the executor clears what is left.
        let _ = std::fs::remove_dir_all(&self.socket);
    }
}
