//! Whether a server lacks messages that the others have. Nothing is refused because of it: it is noticed before that server
//! leads.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use wanwright_nats::replicas::{Damaged, damaged};
use wanwright_nats::{Nats, NatsError};

/// How often is looked.
const PAUSE: Duration = Duration::from_secs(60);

/// Looks again and again until told to stop.
pub(in super::super) async fn watch(nats: Nats, stop: CancellationToken) -> &'static str {
    let mut reported = Vec::new();
    let looking = async {
        loop {
            if let Err(error) = look(&nats, &mut reported).await {
                let error = wanwright_nats::chain(&error);
                tracing::debug!(error, "what each server has cannot be told now");
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    let _: Option<()> = stop.run_until_cancelled(looking).await;
    "the watch on the replicas"
}

/// Each damage is logged at every look, and is one dead letter as long as it lasts.
async fn look(nats: &Nats, reported: &mut Vec<(String, String)>) -> Result<(), NatsError> {
    let found = damaged(nats).await?;
    let name = |damaged: &Damaged| (damaged.server.clone(), damaged.stream.clone());
    reported.retain(|known| found.iter().any(|damaged| name(damaged) == *known));
    for damaged in found {
        let (name, why) = (name(&damaged), damaged.to_string());
        if reported.contains(&name) {
            tracing::error!(why, "storage is damaged");
        } else {
            super::report(nats, "replica", &why, &damaged).await?;
            reported.push(name);
        }
    }
    Ok(())
}
