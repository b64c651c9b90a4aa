//! How many durable commands one customer may have in the inbox. The inbox belongs to all: a customer that fills it would
//! shut the door for everybody else.
//!
//! What waits is counted by the server. As long as the whole inbox holds no more than one customer may have, nobody can
//! be above it, so usually one cheap question a second does for all customers.

use std::collections::HashMap;
use std::time::Duration;

use futures::TryStreamExt;
use tokio::time::Instant;
use wanwright_nats::topology::COMMANDS;
use wanwright_nats::{Nats, NatsError};
use wanwright_schemas::reason::{Reason, Refusal};
use wanwright_schemas::{CustomerId, subjects};

/// How long a count is believed. What was let through since is added to it.
const FRESH: Duration = Duration::from_secs(1);

/// How many customers' counts are kept before the old ones are looked through.
const KEPT: usize = 1024;

/// What was counted, and how many were let through since then.
#[derive(Debug, Clone, Copy)]
struct Counted {
    at: Instant,
    waiting: u64,
}

impl Counted {
    fn is_fresh(&self) -> bool {
        self.at.elapsed() < FRESH
    }
}

/// Lets durable commands through, as many as their customers may have in the inbox.
///
/// What is on its way into the inbox while it is counted is missed, as is what other processes let through meanwhile: the
/// bound may be passed by as many as that, once a second, and the next count shows them.
pub(super) struct Quota {
    nats: Nats,
    most: u64,
    all: Option<Counted>,
    of: HashMap<CustomerId, Counted>,
}

impl Quota {
    pub(super) fn new(nats: Nats, most: u64) -> Self {
        Self { nats, most, all: None, of: HashMap::new() }
    }

    /// Lets one more command of a customer through.
    ///
    /// # Errors
    /// The refusal, when the customer has as many in the inbox as it may have.
    pub(super) async fn take(&mut self, customer: &CustomerId) -> Result<(), Refusal> {
        match self.is_full(customer).await {
            Ok(false) => Ok(()),
            Ok(true) => {
                let why = format!("customer {customer} has {} durable commands in the inbox", self.most);
                Err(Refusal::new(Reason::TooManyWaiting, why))
            }
            // The command itself will be told whether the inbox is there; to refuse it for want of a count helps nobody.
            Err(error) => {
                let error = wanwright_nats::chain(&error);
                tracing::warn!(%customer, error, "what a customer has in the inbox cannot be counted now");
                Ok(())
            }
        }
    }

    async fn is_full(&mut self, customer: &CustomerId) -> Result<bool, NatsError> {
        let all = match self.all.filter(Counted::is_fresh) {
            Some(counted) => counted,
            None => Counted { at: Instant::now(), waiting: all(&self.nats).await? },
        };
        self.all = Some(Counted { waiting: all.waiting + 1, ..all });
        if all.waiting < self.most {
            return Ok(false);
        }
        let of = match self.of.get(customer).filter(|counted| counted.is_fresh()) {
            Some(counted) => *counted,
            None => Counted { at: Instant::now(), waiting: waiting(&self.nats, customer).await? },
        };
        let is_full = of.waiting >= self.most;
        self.keep(customer, Counted { waiting: of.waiting + u64::from(!is_full), ..of });
        Ok(is_full)
    }

    fn keep(&mut self, customer: &CustomerId, counted: Counted) {
        if self.of.len() >= KEPT {
            self.of.retain(|_, counted| counted.is_fresh());
        }
        self.of.insert(customer.clone(), counted);
    }
}

fn failed<E: Into<Box<dyn std::error::Error + Send + Sync>>>(error: E) -> NatsError {
    NatsError::failed("counting what is in the inbox")(error)
}

/// How many commands are in the inbox.
async fn all(nats: &Nats) -> Result<u64, NatsError> {
    let inbox = nats.js.get_stream(COMMANDS).await.map_err(failed)?;
    Ok(inbox.cached_info().state.messages)
}

/// How many commands of a customer are in the inbox: stored, and not decided.
async fn waiting(nats: &Nats, customer: &CustomerId) -> Result<u64, NatsError> {
    let inbox = nats.js.get_stream_no_info(COMMANDS).await.map_err(failed)?;
    let mut subjects = inbox.info_with_subjects(subjects::inbox_of(customer)).await.map_err(failed)?;
    let mut waiting = 0;
    while let Some((_, count)) = subjects.try_next().await.map_err(failed)? {
        waiting += count as u64;
    }
    Ok(waiting)
}
