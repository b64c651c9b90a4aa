//! Terraform states that an executor has on its disk and Postgres does not have: with that disk they would be lost.

use sqlx::PgPool;
use uuid::Uuid;
use wanwright_executors::terraform::{self, WaitingState};
use wanwright_nats::Nats;

use super::Findings;

/// Says which states wait for Postgres, and where.
pub(super) async fn look(nats: &Nats, postgres: Option<&str>, findings: &mut Findings) {
    let waiting = match terraform::waiting_states(nats).await {
        Ok(waiting) => waiting,
        Err(error) => return findings.bad("Terraform states", error),
    };
    let pool = match postgres {
        Some(url) if !waiting.is_empty() => super::postgres(url).await.ok(),
        _ => None,
    };
    let mut found = 0;
    for state in &waiting {
        // The note may have outlived the wait.
        if !is_in_postgres(pool.as_ref(), state).await {
            found += 1;
            say(state, &name(pool.as_ref(), state).await, findings);
        }
    }
    if found == 0 {
        findings.good("no Terraform state waits on an executor's disk");
    }
}

fn say(state: &WaitingState, name: &str, findings: &mut Findings) {
    let WaitingState { serial, host, folder, since, .. } = state;
    let (what, folder) = (format!("Terraform state of {name}"), folder.display());
    if *host == terraform::host() && state.file().exists() {
        let how = format!(
            "serial {serial} waits for Postgres in {folder} since {since}; the executor of that folder or of one beside it \
             brings it there"
        );
        return findings.later(&what, &how);
    }
    let how = format!(
        "serial {serial} is in {folder} on {host} since {since}, and nowhere else; start an executor there with --work \
         {folder}. If it is lost, the next run goes on from the version before it and finds by key or by name what is at \
         the vendor"
    );
    findings.bad(&what, how);
}

async fn is_in_postgres(pool: Option<&PgPool>, state: &WaitingState) -> bool {
    let Some(pool) = pool else { return false };
    let there = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM terraform.states WHERE stack = $1 AND lineage = $2 AND serial >= $3)",
    );
    let there = there.bind(&state.stack).bind(&state.lineage).bind(state.serial);
    there.fetch_one(pool).await.unwrap_or(false)
}

/// The site, if its run is in the tables.
async fn name(pool: Option<&PgPool>, state: &WaitingState) -> String {
    let stack = format!("stack {}", state.stack);
    let (Some(pool), Ok(order)) = (pool, state.order.parse::<Uuid>()) else { return stack };
    let row: Result<Option<(String, String)>, _> =
        sqlx::query_as("SELECT customer, id FROM operations WHERE order_id = $1")
            .bind(order)
            .fetch_optional(pool)
            .await;
    match row {
        Ok(Some((customer, id))) => format!("site {customer}/{id}"),
        _ => stack,
    }
}
