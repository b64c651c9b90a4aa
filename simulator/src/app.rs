//! What all calls share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use tokio::sync::watch;

use crate::bucket::{Bucket, Fill};
use crate::clock::Clock;
use crate::config::Limit;
use crate::faults::Trouble;
use crate::journal::{Journal, Ticket};
use crate::vendor::Vendor;
use crate::world::{Effect, World};

#[derive(Debug)]
pub(crate) struct App {
    pub(crate) vendor: Vendor,
    pub(crate) limit: Limit,
    pub(crate) bucket: Bucket,
    pub(crate) clock: Clock,
    pub(crate) token: Token,
    pub(crate) admin_token: Token,
    pub(crate) journal: Journal,
    pub(crate) state: Mutex<State>,
    /// True when the simulator stops.
    pub(crate) stop: watch::Receiver<bool>,
}

/// What changes. The order in which this lock is taken is the order of the journal.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) world: World,
    pub(crate) trouble: Trouble,
    /// Creates that have no answer yet, by kind and name.
    creating: BTreeMap<(String, String), u32>,
}

/// A bearer token, not shown by `Debug`.
pub(crate) struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    pub(crate) fn new(token: &str) -> Self {
        Self(format!("Bearer {token}"))
    }

    pub(crate) fn is_in(&self, headers: &HeaderMap) -> bool {
        headers.get(AUTHORIZATION).is_some_and(|value| value.as_bytes() == self.0.as_bytes())
    }
}

impl State {
    pub(crate) fn new(world: World, trouble: Trouble) -> Self {
        Self { world, trouble, creating: BTreeMap::new() }
    }
}

impl App {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes changes and hands them to the journal; an answer that tells of them waits for the ticket.
    pub(crate) fn commit(&self, state: &mut State, effects: &[Effect]) -> Ticket {
        effects.iter().for_each(|effect| state.world.apply(effect));
        self.journal.append(effects)
    }

    /// The same, where the first `applied` of the changes are made already.
    pub(crate) fn commit_rest(&self, state: &mut State, effects: &[Effect], applied: usize) -> Ticket {
        effects.iter().skip(applied).for_each(|effect| state.world.apply(effect));
        self.journal.append(effects)
    }

    /// Makes changes that the answer to this call will tell of later.
    pub(crate) fn commit_unwaited(&self, state: &mut State, effects: &[Effect]) {
        effects.iter().for_each(|effect| state.world.apply(effect));
        self.journal.append_unwaited(effects);
    }

    /// What the bucket holds.
    pub(crate) fn fill(&self, world: &World, now_us: u64) -> Fill {
        let fill = world.fill.unwrap_or_else(|| self.bucket.full(now_us));
        self.bucket.at(fill, now_us)
    }

    /// Waits; false when the simulator stops first.
    pub(crate) async fn pause(&self, time: Duration) -> bool {
        if time.is_zero() {
            return true;
        }
        let mut stop = self.stop.clone();
        tokio::select! {
            () = tokio::time::sleep(time) => true,
            _ = stop.wait_for(|stop| *stop) => false,
        }
    }
}

/// A create that has no answer yet.
#[derive(Debug)]
pub(crate) struct Creating {
    app: Arc<App>,
    what: (String, String),
}

impl Creating {
    /// Notes the create; also says whether another one of the same kind and name has no answer yet.
    pub(crate) fn begin(app: &Arc<App>, state: &mut State, kind: &str, name: &str) -> (Self, bool) {
        let what = (kind.to_owned(), name.to_owned());
        let count = state.creating.entry(what.clone()).or_default();
        *count += 1;
        let concurrent = *count > 1;
        (Self { app: Arc::clone(app), what }, concurrent)
    }
}

impl Drop for Creating {
    fn drop(&mut self) {
        let mut state = self.app.lock();
        if let Some(count) = state.creating.get_mut(&self.what) {
            *count -= 1;
            if *count == 0 {
                state.creating.remove(&self.what);
            }
        }
    }
}
