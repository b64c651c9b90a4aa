//! Verifying: fold a stream anew beside the live tables and compare both, customer by customer, by hash.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{PgConnection, PgPool, Row};
use wanwright_nats::Nats;

use crate::beside::Beside;
use crate::checkpoint;
use crate::error::{Error, Stop};
use crate::events::{TABLES, kept};
use crate::prune::unpruned_since;
use crate::run::ReadModel;

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Verified {
    /// The stream.
    pub stream: String,
    /// The message up to which tables and stream were compared.
    pub sequence: u64,
    /// How many customers were compared.
    pub customers: usize,
    /// The customers whose rows differ, with the tables they differ in.
    pub different: BTreeMap<String, BTreeSet<String>>,
}

/// Compares the live tables of one stream of events with the stream itself. It changes nothing and holds nobody up: the
/// live tables are read as they were at one moment. Outcomes are compared as far back as none has been pruned.
pub async fn verify(pool: &PgPool, nats: &Nats, stream: &str) -> Result<Verified, Error> {
    let mut beside = Beside::create(pool, nats, stream, None).await?;
    let result = compare(pool, &mut beside).await;
    let removed = beside.remove().await;
    let verified = result?;
    removed?;
    Ok(verified)
}

async fn compare(pool: &PgPool, beside: &mut Beside) -> Result<Verified, Error> {
    let stream = beside.info.name.clone();
    let mut live = pool.begin().await?;
    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY").execute(&mut *live).await?;
    let row = checkpoint::load(&mut live, ReadModel::Events, &stream).await?;
    let sequence = row.as_ref().map_or(0, |row| row.sequence);
    if let Some(row) = &row {
        checkpoint::counts(ReadModel::Events, row, beside.partitions())?;
        // The stream may have grown since it was asked: only what it can no longer lack counts.
        checkpoint::check(row, &beside.fresh_info().await?)?;
    }
    beside.fold_to(sequence).await?;
    if let (Some(expected), Some(found)) = (row.and_then(|row| row.digest), beside.at.digest)
        && expected != found
    {
        return Err(Stop::Rewritten { stream, sequence, expected, found }.into());
    }
    let since = unpruned_since(&mut live).await?;
    let mut different: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut customers = BTreeSet::new();
    for (table, _) in TABLES {
        let is = hashes(&mut live, "public", table, &stream, &since).await?;
        let mut other = pool.acquire().await?;
        let should = hashes(&mut other, &beside.schema, table, &stream, &since).await?;
        for customer in is.keys().chain(should.keys()) {
            if is.get(customer) != should.get(customer) {
                different.entry(customer.clone()).or_default().insert((*table).to_owned());
            }
        }
        customers.extend(should.into_keys());
    }
    live.rollback().await?;
    Ok(Verified { stream, sequence, customers: customers.len(), different })
}

/// One hash per customer over all its rows in a table.
async fn hashes(
    connection: &mut PgConnection,
    schema: &str,
    table: &str,
    stream: &str,
    since: &str,
) -> Result<BTreeMap<String, String>, Error> {
    let kept = kept(table, "t", since);
    let sql = format!(
        "SELECT customer, md5(string_agg(row_hash, '' ORDER BY row_hash)) AS hash
         FROM (SELECT customer, md5(t::text) AS row_hash FROM {schema}.{table} t WHERE stream = $1 AND {kept}) rows
         GROUP BY customer"
    );
    let rows = sqlx::query(&sql).bind(stream).fetch_all(connection).await?;
    rows.iter().map(|row| Ok((row.try_get("customer")?, row.try_get("hash")?))).collect()
}
