//! What a customer's history knows of a stack's state.

use anyhow::{Context, Result};
use cqrs_es::EventStore;
use sqlx::PgPool;
use wanwright_commands::service::CustomerStore;
use wanwright_nats::Nats;
use wanwright_schemas::CustomerId;
use wanwright_schemas::report::StateMark;

/// The newest version that was reported of a stack. None where none was, or where no site in the tables has the stack.
pub(super) async fn known(pool: &PgPool, nats: &Nats, stack: &str) -> Result<Option<StateMark>> {
    let sql = "SELECT customer FROM sites WHERE uid::text = $1";
    let customer: Option<String> =
        sqlx::query_scalar(sql).bind(stack).fetch_optional(pool).await.context("reading the sites")?;
    let Some(customer) = customer else { return Ok(None) };
    let customer: CustomerId = customer.parse().context("reading the sites")?;
    let store = CustomerStore::alone(nats.clone(), 0);
    let loaded = store.load_aggregate(customer.as_str()).await;
    let loaded = loaded.with_context(|| format!("reading the history of {customer}"))?;
    let mut sites = loaded.head.state.sites.values();
    Ok(sites.find(|site| site.uid.to_string() == stack).and_then(|site| site.state))
}
