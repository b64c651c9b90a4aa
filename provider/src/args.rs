//! The command line of `wanwright provider`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::serve::{ServeError, ServeOptions, serve_reattach};

/// Serves the Terraform provider on a Unix socket until standard input closes.
#[derive(Args, Clone, Debug)]
pub struct ProviderArgs {
    /// Socket to listen on, in a folder that only its owner can enter.
    #[arg(long, env = "WANWRIGHT_PROVIDER_SOCKET", value_name = "PATH")]
    pub socket: PathBuf,
    /// Folder with the vendor folders.
    #[arg(long, env = "WANWRIGHT_VENDORS", value_name = "DIR")]
    pub vendors: PathBuf,
    /// Base URL of every call to the vendor; a `base_url` in the provider block comes first.
    #[arg(long, env = "WANWRIGHT_GATEWAY_URL", value_name = "URL")]
    pub gateway_url: Option<String>,
    /// Longest time for one call, in seconds.
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    pub call_timeout: u64,
}

/// Does what the command line says.
///
/// # Errors
/// [`ServeError`].
pub async fn run(args: ProviderArgs) -> Result<(), ServeError> {
    let mut options = ServeOptions::new(args.socket, args.vendors, args.gateway_url);
    options.call_timeout = Duration::from_secs(args.call_timeout.max(1));
    serve_reattach(options).await
}
