//! Waiting for a level, with a limit.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Long enough for anything that works, on a machine that does much else.
pub const LONG: Duration = Duration::from_secs(90);

/// How often is looked.
const PAUSE: Duration = Duration::from_millis(20);

/// Waits until `look` answers something, and answers how long that took with it. An error of `look` is not the end: what
/// is looked at may be down. The last one is part of the failure.
pub async fn reach<T>(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<(T, Duration)> {
    let began = Instant::now();
    loop {
        let last = match look().await {
            Ok(Some(found)) => return Ok((found, began.elapsed())),
            Ok(None) => String::new(),
            Err(error) => format!("; looking failed: {error:#}"),
        };
        if began.elapsed() >= limit {
            bail!("not within {limit:?}: {what}{last}");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The same for a plain yes or no.
pub async fn until(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> Result<bool>,
) -> Result<Duration> {
    let reached = reach(what, limit, async || Ok(look().await?.then_some(()))).await?;
    Ok(reached.1)
}
