//! The provider alone: the program that Terraform installs and starts, and that makes a release of itself.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use wanwright_provider::{ProviderArgs, plugin, release, run};

#[derive(Parser)]
#[command(version, about = "A Terraform provider whose resources are what the vendor folders describe")]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Serves on a Unix socket, for a Terraform that is told where (`TF_REATTACH_PROVIDERS`).
    Serve(ProviderArgs),
    /// Writes what a registry and a mirror have of this program.
    Release(release::ReleaseArgs),
}

#[tokio::main]
async fn main() -> ExitCode {
    match work().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = error.to_string();
            let mut cause = error.source();
            while let Some(error) = cause {
                text = format!("{text}: {error}");
                cause = error.source();
            }
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

async fn work() -> Result<(), Box<dyn std::error::Error>> {
    if plugin::is_asked_for() {
        return Ok(plugin::serve_plugin().await?);
    }
    match Cli::parse().what {
        What::Serve(args) => Ok(run(args).await?),
        What::Release(args) => Ok(release::run(&args)?),
    }
}
