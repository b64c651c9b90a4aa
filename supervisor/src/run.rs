//! Programs that run to their end: `--version`, pip, initdb.

use std::time::Duration;

use crate::log::Log;
use crate::{ChildSpec, Error, Result};

/// Runs a program that is quick and writes a little to standard output; `None` when it fails or takes over ten seconds.
pub(crate) async fn output(spec: ChildSpec) -> Option<String> {
    let mut child = spec.process_group().piped().spawn().ok()?;
    let lines = child.lines().ok()?;
    let both = async { (lines.rest().await, child.wait().await) };
    match tokio::time::timeout(Duration::from_secs(10), both).await {
        Ok((Ok(output), status)) if status.success() => Some(output),
        _ => None,
    }
}

/// Runs a program that writes to a log; its end is part of the error.
pub(crate) async fn to_end(
    what: &str,
    spec: ChildSpec,
    log: &std::path::Path,
    limit: Duration,
) -> Result<Log> {
    let log = Log::from_here(log);
    let child = spec.process_group().log(&log.path).spawn()?;
    match tokio::time::timeout(limit, child.wait()).await {
        Ok(status) if status.success() => Ok(log),
        Ok(status) => Err(Error::Ended { what: what.to_owned(), status, tail: log.tail(), log: log.path }),
        Err(_) => {
            child.kill().await;
            Err(Error::TooSlow { what: what.to_owned(), limit, tail: log.tail(), log: log.path })
        }
    }
}
