//! The provider of a run: served in this process, on a socket of its own, towards the run's own gateway path.
//!
//! In this process because it is our code and its end is ours: an executor that is killed leaves no provider behind that
//! goes on creating things.

use std::path::{Path, PathBuf};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use wanwright_provider::{Listening, ServeOptions};
use wanwright_vendors::Catalogue;

use super::engine::TerraformError;

/// How long a socket's name is.
pub(super) const SOCKET_NAME: usize = 16;

/// A provider that serves one run. It ends when this is dropped.
pub(super) struct Provider {
    /// The value of `TF_REATTACH_PROVIDERS`.
    pub(super) reattach: String,
    /// Its socket.
    pub(super) socket: PathBuf,
    stop: CancellationToken,
    _serving: JoinHandle<()>,
}

impl Provider {
    pub(super) async fn start(
        vendors: &Catalogue,
        sockets: &Path,
        base_url: &str,
    ) -> Result<Self, TerraformError> {
        let socket: PathBuf = sockets.join(&uuid::Uuid::new_v4().simple().to_string()[..SOCKET_NAME]);
        let options = ServeOptions::new(socket.clone(), "", Some(base_url.to_owned()));
        let listening = Listening::start_with(vendors, &options)
            .await
            .map_err(|error| TerraformError::Provider(error.into()))?;
        let reattach = listening.reattach_providers();
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let serving = tokio::spawn(async move {
            if let Err(error) = listening.serve(stopped).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "a run's provider ended");
            }
        });
        Ok(Self { reattach, socket, stop, _serving: serving })
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
