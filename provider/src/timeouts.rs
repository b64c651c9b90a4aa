//! The block `timeouts`: how long Terraform waits for the vendor's jobs, and tries again while the vendor is busy.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use wanwright_vendors::{Attribute, AttributeType, ClientError, Patience, Presence};

use crate::cty::Value;
use crate::resource::{State, TIMEOUTS};

/// What may be limited.
const OPERATIONS: [&str; 4] = ["create", "read", "update", "delete"];

/// The wait before the first repetition when the vendor does not say; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The longest wait when the vendor does not say.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The block as an attribute.
pub(crate) fn attribute() -> Attribute {
    let field = |operation: &str| Attribute {
        local: true,
        description: format!(
            "How long a {operation} may take, as in `90s` or `1h30m`. While there is time, jobs of the vendor are followed, and \
             what it has no time for is tried again."
        ),
        ..Attribute::new(AttributeType::String, Presence::Optional { default: None })
    };
    let fields: BTreeMap<_, _> = OPERATIONS.map(|name| (name.to_owned(), field(name))).into();
    Attribute {
        local: true,
        block: true,
        description: "How long to wait for the vendor.".to_owned(),
        ..Attribute::new(AttributeType::Object(Arc::new(fields)), Presence::Optional { default: None })
    }
}

/// The limits in a configuration, by operation, as far as they are known.
pub(crate) fn written(config: &State) -> impl Iterator<Item = (&'static str, &str)> {
    let block = config.get(TIMEOUTS);
    OPERATIONS.into_iter().filter_map(|operation| Some((operation, block.at(operation).as_str()?)))
}

/// Reads a duration as Go writes it, `1h30m`, `1.5s`, `250ms`; `None` if the text is none or nothing is left of it.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let (mut total, mut rest) = (0.0, text);
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let after = &rest[number..];
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let seconds = match &after[..unit] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total += rest[..number].parse::<f64>().ok()? * seconds;
        rest = &after[unit..];
    }
    Duration::try_from_secs_f64(total).ok().filter(|duration| !duration.is_zero())
}

/// How long one operation of one object may take, and whether anybody still waits for it.
#[derive(Clone, Debug)]
pub(crate) struct Limit {
    until: Option<Instant>,
    stopped: watch::Receiver<bool>,
}

impl Limit {
    /// The limit that a state or configuration sets to an operation.
    pub(crate) fn of(state: Option<&State>, operation: &str, stopped: watch::Receiver<bool>) -> Self {
        let text = state.and_then(|state| match state.get(TIMEOUTS).at(operation) {
            Value::String(text) => duration(text),
            _ => None,
        });
        Self { until: text.map(|limit| Instant::now() + limit), stopped }
    }

    /// The same for the client.
    pub(crate) fn patience(&self) -> Patience {
        Patience { until: self.until, stopped: self.stopped.clone() }
    }

    /// Repeats a call that can be repeated while the vendor is busy and there is time. Without a limit of its own it is
    /// done once: whoever runs Terraform says when to try again.
    pub(crate) async fn repeat<T, E, F: Future<Output = Result<T, E>>>(
        &self,
        call: impl Fn() -> F,
        source: impl Fn(&E) -> &ClientError,
    ) -> Result<T, E> {
        let mut usual = FIRST_WAIT;
        loop {
            let error = match call().await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let ClientError::Busy { retry_after, .. } = source(&error) else { return Err(error) };
            let wait = retry_after.unwrap_or(usual);
            usual = (usual * 2).min(LONGEST_WAIT);
            let in_time = self.until.is_some_and(|until| Instant::now() + wait < until);
            if !in_time || !self.wait(wait).await {
                return Err(error);
            }
        }
    }

    /// Waits; false if Terraform was told to stop.
    async fn wait(&self, time: Duration) -> bool {
        let mut stopped = self.stopped.clone();
        tokio::select! {
            () = sleep(time) => true,
            Ok(_) = stopped.wait_for(|stopped| *stopped) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_terraform_people_write_them() {
        for (text, milliseconds) in [("90s", 90_000), ("1h30m", 5_400_000), ("1.5s", 1500), ("250ms", 250)] {
            assert_eq!(duration(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        for wrong in ["", "90", "s", "1x", "-1s", "0s", "1e3s", "1..2s", "1s1"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }
}
