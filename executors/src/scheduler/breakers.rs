//! Watching whether vendors may be called at all, account by account. While a breaker is open, nothing begins that would only fail.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::News;
use crate::gateway::{AccountKey, Admission, Gateway, Standing};

/// How often a breaker is looked at that is open: its end is a time and no news.
const LOOK: Duration = Duration::from_secs(1);

/// Whether nothing may begin at a vendor that stands so.
pub(super) fn is_closed(admission: &Admission, now: Timestamp) -> bool {
    match admission {
        Admission::HeldBack { until, .. } => *until > now,
        Admission::Away => true,
        // What begins now waits at the gateway until it is admitted.
        Admission::Open | Admission::Blocked { .. } | Admission::Trial { .. } => false,
    }
}

/// Tells when any account is closed and opened, until told to stop.
pub(super) async fn keep_all(gateway: Gateway, tell: mpsc::Sender<News>, stop: CancellationToken) {
    let (mut watched, mut watchers) = (BTreeSet::new(), JoinSet::new());
    let (_, mut opened) = gateway.standings();
    opened.mark_changed();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Some(ended) = watchers.join_next() => {
                // Its budget was closed, because nobody used it, and may have been opened again since.
                if let Ok(account) = ended {
                    watched.remove(&account);
                    opened.mark_changed();
                }
            }
            changed = opened.changed() => {
                if changed.is_err() {
                    return stop.cancelled().await;
                }
                for (account, standing) in gateway.standings().0 {
                    if standing.has_changed().is_ok() && watched.insert(account.clone()) {
                        watchers.spawn(keep(account, standing, tell.clone(), stop.clone()));
                    }
                }
            }
        }
    }
}

/// Tells when an account is closed and opened, until told to stop or until its budget is closed.
async fn keep(
    account: AccountKey,
    mut standing: watch::Receiver<Standing>,
    tell: mpsc::Sender<News>,
    stop: CancellationToken,
) -> AccountKey {
    let mut told = false;
    loop {
        let closed = is_closed(&standing.borrow_and_update().admission, Timestamp::now());
        if closed != told {
            told = closed;
            let AccountKey { vendor, budget } = &account;
            tracing::info!(%vendor, budget, closed, "an account is held back, or called again");
            if tell.send(News::Closed(account.clone(), closed)).await.is_err() {
                return account;
            }
        }
        tokio::select! {
            () = stop.cancelled() => return account,
            () = tokio::time::sleep(LOOK), if closed => {}
            changed = standing.changed() => if changed.is_err() {
                if closed {
                    // Nobody listens any more when the process stops.
                    let _ = tell.send(News::Closed(account.clone(), false)).await;
                }
                return account;
            }
        }
    }
}
