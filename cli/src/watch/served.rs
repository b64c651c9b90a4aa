//! Watching as a customer, who reaches no stream: the service of histories is asked for what is new, when it is said that
//! rows changed and every few moments besides, because that is said to whoever happens to listen.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::{FutureExt, StreamExt};
use tokio::time::MissedTickBehavior;
use wanwright_schemas::envelope::{Digest, Envelope};
use wanwright_schemas::services::{self, HistoryMessage, HistoryRequest, MAX_PAGE};
use wanwright_schemas::{Actor, CustomerId};

use crate::cli::Connection;
use crate::exit::{Exit, Problem};
use crate::history::Asked;
use crate::output;
use crate::serve::stop_token;

/// How long a decision may stay untold that no changed row told of.
const LOOK: Duration = Duration::from_secs(2);

/// How long it is waited for more of what came at once.
const BATCH: Duration = Duration::from_millis(200);

/// Where a watcher is in the history.
#[derive(Default)]
struct Place {
    sequence: u64,
    digest: Option<Digest>,
}

/// Prints decisions until interrupted.
pub async fn run(connection: &Connection, customer: CustomerId, actor: &Actor) -> Result<Exit> {
    let stop = stop_token()?;
    let asked = Asked::connect(connection, customer.clone(), actor, "wanwright-watch").await?;
    let mut changed = asked.nats().client.subscribe(services::live_of(&customer)).await?;
    let newest = asked.page(&HistoryRequest { after: 0, limit: 1, newest: true }).await?;
    let mut place = newest.messages.last().map(Place::of).unwrap_or_default();
    output::note("watching decisions and what came of them, without the detail of runs; Ctrl-C ends it");
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_away = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(Exit::Interrupted),
            _ = look.tick() => {}
            Some(_) = changed.next() => {}
        }
        // A batch of rows is said row by row; one look is enough for all of them.
        if stop.run_until_cancelled(tokio::time::sleep(BATCH)).await.is_none() {
            return Ok(Exit::Interrupted);
        }
        while let Some(Some(_)) = changed.next().now_or_never() {}
        let told = stop.run_until_cancelled(told(&asked, &customer, &mut place)).await;
        let Some(told) = told else { return Ok(Exit::Interrupted) };
        match told {
            Ok(()) => is_away = false,
            Err(error) if error.is::<Problem>() => {
                if !is_away {
                    output::note(format!("{error}; it is asked again until it answers"));
                }
                is_away = true;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Prints what is behind a place, and moves the place there.
async fn told(asked: &Asked, customer: &CustomerId, place: &mut Place) -> Result<()> {
    loop {
        let request = HistoryRequest { after: place.sequence, limit: MAX_PAGE, newest: false };
        let page = asked.page(&request).await?;
        for message in &page.messages {
            let envelope = place.pass(message)?;
            super::told(customer.as_str(), &envelope).into_iter().for_each(output::line);
        }
        if page.next.is_none() {
            return Ok(());
        }
    }
}

impl Place {
    fn of(message: &HistoryMessage) -> Self {
        let digest = Digest::of(message.envelope.get().as_bytes());
        Self { sequence: message.sequence, digest: Some(digest) }
    }

    /// Reads the next message, which must follow the one before it.
    fn pass(&mut self, message: &HistoryMessage) -> Result<Envelope> {
        let envelope = Envelope::decode(message.envelope.get().as_bytes())?;
        ensure!(
            message.sequence > self.sequence && envelope.prev == self.digest,
            "the message at {} does not follow the one at {}: the history is not what it was",
            message.sequence,
            self.sequence
        );
        *self = Self::of(message);
        Ok(envelope)
    }
}
