//! What a process counts of the commands it handled, by kind.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use wanwright_schemas::ids::Kind;
use wanwright_schemas::reason::Refusal;

/// Longest text of a last error, in characters.
const LONGEST: usize = 200;

/// The counts of every endpoint since the process began.
#[derive(Debug, Default)]
pub(in crate::service) struct Counts {
    kinds: [Count; Kind::ALL.len()],
    explained: Count,
}

#[derive(Debug, Default)]
struct Count {
    requests: AtomicU64,
    errors: AtomicU64,
    nanos: AtomicU64,
    last_error: Mutex<String>,
}

impl Counts {
    /// Notes a command that was handled, by either door.
    pub(in crate::service) fn note(&self, kind: Kind, took: Duration, refusal: Option<&Refusal>) {
        self.of(kind).note(took, refusal);
    }

    pub(super) fn note_explained(&self, took: Duration, refusal: Option<&Refusal>) {
        self.explained.note(took, refusal);
    }

    /// The counts of an endpoint as NATS services say them. Durations are in nanoseconds.
    pub(super) fn stats(&self, name: &str) -> Value {
        let count = Kind::parse(name).map_or(&self.explained, |kind| self.of(kind));
        let [requests, errors, nanos] =
            [&count.requests, &count.errors, &count.nanos].map(|count| count.load(Ordering::Relaxed));
        json!({
            "num_requests": requests,
            "num_errors": errors,
            "last_error": *count.last_error.lock().unwrap_or_else(PoisonError::into_inner),
            "processing_time": nanos,
            "average_processing_time": nanos.checked_div(requests).unwrap_or_default(),
        })
    }

    fn of(&self, kind: Kind) -> &Count {
        let [customer, site, tunnel, device] = &self.kinds;
        match kind {
            Kind::Customer => customer,
            Kind::Site => site,
            Kind::Tunnel => tunnel,
            Kind::Device => device,
        }
    }
}

impl Count {
    fn note(&self, took: Duration, refusal: Option<&Refusal>) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        if let Some(refusal) = refusal {
            self.errors.fetch_add(1, Ordering::Relaxed);
            let text: String =
                format!("{}:{}", refusal.code.number(), refusal.message).chars().take(LONGEST).collect();
            *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = text;
        }
    }
}
