//! Taking back that a vendor is to be left alone, for a person who knows that it was said in error.
//!
//! A vendor, or something between, that says `Retry-After: 3600` is believed for an hour. Here that is taken out of the
//! records that all processes share, by compare-and-set as they write them; whoever waits goes on at the limits' own pace,
//! and is told again by the vendor where it meant what it said.

use jiff::Timestamp;
use wanwright_nats::budgets::{Budgets, Written};
use wanwright_nats::{Nats, NatsError};
use wanwright_schemas::VendorId;

use super::record::{RECORD_VERSION, Record};
use super::{OF_THE_ADDRESS, record_key};

/// How often a record is written that processes write at the same moment.
const TRIES: u32 = 64;

/// A limit that is not left alone any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unblocked {
    /// The account of the record.
    pub account: String,
    /// The limit.
    pub limit: String,
    /// Until when it was to be left alone.
    pub until: Timestamp,
}

/// Has calls go on at a vendor that is to be left alone: of one account, or of all.
///
/// # Errors
/// [`NatsError`], when the records cannot be read or written.
pub async fn unblock(
    nats: &Nats,
    vendor: &VendorId,
    account: Option<&str>,
) -> Result<Vec<Unblocked>, NatsError> {
    let budgets = Budgets::open(nats).await?;
    let of_vendor = record_key(vendor.as_str(), "");
    let mut unblocked = Vec::new();
    for key in budgets.keys().await? {
        let Some(of) = key.strip_prefix(&of_vendor) else { continue };
        // What all accounts of an address share names the account behind the limit.
        let is_meant = |limit: &str| match account {
            None => true,
            Some(account) if of == OF_THE_ADDRESS => {
                limit.split('/').next().is_some_and(|limit| limit.ends_with(&format!("@{account}")))
            }
            Some(account) => of == account,
        };
        for (limit, until) in of_record(&budgets, &key, is_meant).await? {
            let until = Timestamp::from_microsecond(until).unwrap_or(Timestamp::MAX);
            unblocked.push(Unblocked { account: of.to_owned(), limit, until });
        }
    }
    Ok(unblocked)
}

async fn of_record(
    budgets: &Budgets,
    key: &str,
    is_meant: impl Fn(&str) -> bool,
) -> Result<Vec<(String, i64)>, NatsError> {
    let doing = || format!("taking back what the budget {key} is left alone for");
    for _ in 0..TRIES {
        let Some(stored) = budgets.get(key).await?.filter(|stored| !stored.value.is_empty()) else {
            return Ok(Vec::new());
        };
        let record = serde_json::from_slice::<Record>(&stored.value).map_err(NatsError::failed(doing()))?;
        let Some(mut record) = Some(record).filter(|record| record.v <= RECORD_VERSION) else {
            return Err(NatsError::failed(doing())("it is of a later version"));
        };
        let taken_back = record.unblock(budgets.time().await?.server, &is_meant);
        if taken_back.is_empty() {
            return Ok(taken_back);
        }
        let value = serde_json::to_vec(&record).map_err(NatsError::failed(doing()))?;
        if let Written::Stored(_) = budgets.put(key, value.into(), stored.revision).await? {
            return Ok(taken_back);
        }
    }
    Err(NatsError::failed(doing())("others write it all the time"))
}
