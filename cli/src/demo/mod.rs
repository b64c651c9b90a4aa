//! `wanwright demo` and `wanwright up`: a living system on this machine.

mod drift;
pub mod fleet;
mod hints;
mod progress;
mod tenants;

use std::time::Duration;

use anyhow::Result;
use tokio_util::sync::CancellationToken;

use crate::cli::{DemoArgs, UpArgs};
use crate::exit::Exit;
use crate::output::note;
use crate::serve::stop_token;
use crate::stack::Stack;

/// Starts everything and waits to be stopped.
pub async fn up(args: UpArgs) -> Result<Exit> {
    let (stop, failed) = (stop_token()?, CancellationToken::new());
    note(format!(
        "wanwright {}: starting everything on this machine. Not for production.",
        env!("CARGO_PKG_VERSION")
    ));
    let stack = tokio::select! {
        () = stop.cancelled() => return Ok(Exit::Interrupted),
        stack = Stack::start(&args, failed.clone()) => stack?,
    };
    hints::print(&stack, None);
    Ok(stay(stack, stop, failed).await)
}

/// Starts everything, brings the example fleet up, finds two drifts, and stays.
pub async fn run(args: DemoArgs) -> Result<Exit> {
    let (stop, failed) = (stop_token()?, CancellationToken::new());
    note(format!(
        "wanwright {} demo: everything on this machine, nothing leaves it. Not for production.",
        env!("CARGO_PKG_VERSION")
    ));
    let stack = tokio::select! {
        () = stop.cancelled() => return Ok(Exit::Interrupted),
        stack = Stack::start(&args.up, failed.clone()) => stack?,
    };
    let shown = tokio::select! {
        () = stop.cancelled() => {
            stack.stop().await;
            return Ok(Exit::Interrupted);
        }
        () = failed.cancelled() => Err(anyhow::anyhow!("a part of the system does not stay alive")),
        shown = show(&stack, Duration::from_secs(args.timeout)) => shown,
    };
    match shown {
        Ok(found) if !args.once => {
            hints::print(&stack, Some(found));
            Ok(stay(stack, stop, failed).await)
        }
        Ok(found) => {
            stack.stop().await;
            Ok(if found { Exit::Done } else { Exit::Different })
        }
        Err(error) => {
            stack.stop().await;
            Err(error)
        }
    }
}

/// Brings the fleet up and drifts it. Answers whether both drifts were found.
async fn show(stack: &Stack, limit: Duration) -> Result<bool> {
    let fleet = fleet::read()?;
    tenants::make(stack, &fleet).await?;
    fleet::send(stack.home(), &stack.nats, &fleet).await?;
    progress::converge(stack, &fleet, limit).await?;
    drift::cause_and_find(stack).await
}

async fn stay(stack: Stack, stop: CancellationToken, failed: CancellationToken) -> Exit {
    let exit = tokio::select! {
        () = stop.cancelled() => Exit::Done,
        () = failed.cancelled() => Exit::Different,
    };
    note("stopping");
    stack.stop().await;
    exit
}
