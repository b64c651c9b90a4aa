//! Whether every customer has the key that its personal data was sealed with.
//!
//! A key that is destroyed because its customer was erased looks like one that a damage took, but for the history, which
//! says so. Customers who ever had a key are never fewer.

use cqrs_es::EventStore;
use serde::{Deserialize, Serialize};
use serde_json::json;
use wanwright_nats::{Keys, Nats, NatsError};
use wanwright_schemas::CustomerId;

use super::super::store::CustomerStore;
use super::record::Record;

/// How much memory the states of customers may take meanwhile, in bytes: none is needed twice.
const CACHE_BYTES: u64 = 1 << 20;

/// How many customers a report lists.
const LISTED: usize = 1000;

/// What is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Customers {
    v: u8,
    /// How many customers have, or had, a key.
    keyed: usize,
}

/// Looks whether there are fewer customers with keys, and reports it.
///
/// # Errors
/// [`NatsError`], when the server cannot be asked.
pub(in super::super) async fn count_keys(nats: &Nats, keys: &Keys, record: &Record) -> Result<(), NatsError> {
    let said = record.read::<Customers>(nats).await?.1.known();
    let keyed = keys.customers().await.map_err(NatsError::failed("counting the keys"))?;
    let now = Customers { v: super::VERSION, keyed };
    let fewer = said.map_or(0, |said| said.keyed.saturating_sub(keyed));
    if fewer > 0 {
        let why = format!("KEYS: {fewer} customers had a key of their personal data that is not there");
        super::report(nats, "keys", &why, &json!({ "customers": fewer })).await?;
    }
    if said != Some(now) {
        record.write(nats, &now).await?;
    }
    Ok(())
}

/// Reads every customer's key, and reports those that are gone though no event ended them.
///
/// # Errors
/// [`NatsError`], when the server cannot be asked.
pub(in super::super) async fn read_keys(nats: &Nats, keys: &Keys) -> Result<(), NatsError> {
    let unreadable = keys.unreadable().await.map_err(NatsError::failed("reading the keys"))?;
    let mut gone: Vec<CustomerId> = Vec::new();
    let store = CustomerStore::alone(nats.clone(), CACHE_BYTES);
    for (customer, key) in unreadable {
        let is_erased = match (store.load_aggregate(customer.as_str()).await, key) {
            (Ok(loaded), Some(key)) => loaded.head.state.erased.contains(&key),
            // Where the history is damaged as well nobody can say that it was ended.
            _ => false,
        };
        if !is_erased {
            gone.push(customer);
        }
    }
    if gone.is_empty() {
        return Ok(());
    }
    let lost = gone.len();
    let why = format!("KEYS: the keys of {lost} customers' personal data are gone, and no event says why");
    super::report(nats, "keys", &why, &json!({ "customers": &gone[..lost.min(LISTED)] })).await
}
