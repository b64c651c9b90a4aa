//! Watching whether vendors may be called at all. While a breaker is open, nothing begins that would only fail.

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use wanwright_schemas::VendorId;

use super::News;
use crate::gateway::{Admission, Standing};

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

/// Tells when a vendor is closed and opened, until told to stop.
pub(super) async fn keep(
    vendor: VendorId,
    mut standing: watch::Receiver<Standing>,
    tell: mpsc::Sender<News>,
    stop: CancellationToken,
) {
    let mut told = false;
    loop {
        let closed = is_closed(&standing.borrow_and_update().admission, Timestamp::now());
        if closed != told {
            told = closed;
            tracing::info!(%vendor, closed, "a vendor is held back, or called again");
            if tell.send(News::Closed(vendor.clone(), closed)).await.is_err() {
                return;
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK), if closed => {}
            changed = standing.changed() => if changed.is_err() {
                // The gateway has ended, and the process with it.
                return stop.cancelled().await;
            }
        }
    }
}
