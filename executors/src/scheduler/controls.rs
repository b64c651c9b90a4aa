//! What is paused: watched for the table's orders, looked up for what is asked beside it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use wanwright_nats::{Controls, Follower, NatsError, chain, controls};
use wanwright_schemas::control::{Control, Scope};
use wanwright_schemas::{Reason, Refusal};

use super::holds::Holds;
use super::{BATCH, News};
use crate::gateway::RunContext;

/// Longest wait for news. A pause that ends by itself is seen at its end.
const WAIT: Duration = Duration::from_secs(5);

/// Refuses what would call a vendor that is paused, or for a customer who is.
///
/// # Errors
/// The refusal, which names the pause and how it ends; also when nobody can say whether there is one.
pub(crate) async fn unpaused(controls: &Controls, context: &RunContext) -> Result<(), Refusal> {
    let pause = controls.pause(&context.vendor, &context.customer).await;
    let pause = pause.map_err(|error| Refusal::new(Reason::PreviewUnavailable, chain(&error)))?;
    let Some(Control { scope, until, .. }) = pause else { return Ok(()) };
    let end = until.map(|until| format!(" until {until:.0}")).unwrap_or_default();
    let message = format!("{scope} is paused{end}; `wanwright resume {scope}` ends that");
    Err(Refusal::new(Reason::Paused, message))
}

/// A watch of the controls.
pub(super) struct Watch {
    known: BTreeMap<Scope, Control>,
    follower: Follower,
}

impl Watch {
    /// Reads what is paused now.
    ///
    /// # Errors
    /// [`NatsError`], when the controls cannot be read.
    pub(super) async fn open(controls: &Controls) -> Result<Self, NatsError> {
        let (all, last) = controls.all().await?;
        let known = all.into_iter().map(|control| (control.scope.clone(), control)).collect();
        Ok(Self { known, follower: controls.follow(last).await? })
    }

    /// What is paused now.
    pub(super) fn holds(&self) -> Holds {
        let paused = self.known.values().filter(|control| control.paused);
        Holds::of(paused.map(|control| (control.scope.clone(), control.until)), Timestamp::now())
    }

    /// Tells what is paused whenever that is no more what [`Watch::holds`] said at first, until told to stop.
    pub(super) async fn keep(mut self, tell: mpsc::Sender<News>, stop: CancellationToken) {
        let mut told = self.holds();
        loop {
            let left = told.ends().map(|end| Duration::try_from(end - Timestamp::now()).unwrap_or_default());
            let wait = left.map_or(WAIT, |left| left.clamp(Duration::from_millis(10), WAIT));
            let batch = tokio::select! {
                () = stop.cancelled() => return,
                batch = self.follower.next_batch(BATCH, wait) => batch,
            };
            match batch {
                Ok(batch) => {
                    let said = batch.iter().filter_map(controls::read);
                    self.known.extend(said.map(|control| (control.scope.clone(), control)));
                }
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "watching what is paused again");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
            let holds = self.holds();
            if holds != told {
                told = holds.clone();
                if tell.send(News::Holds(holds)).await.is_err() {
                    return;
                }
            }
        }
    }
}
