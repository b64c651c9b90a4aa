//! `budget_records`: the record that all executors share about a vendor account.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::message::micros;
use crate::table::Table;

/// How long after it took a call an executor counts as one that does, in microseconds.
const ACTIVE: i64 = 2_000_000;

/// The key of a record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct BudgetKey {
    /// The vendor.
    pub vendor: String,
    /// The account.
    pub account: String,
}

/// A limit as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LimitRow {
    /// Its name in the vendor's folder, with an operation behind it where each has its own.
    pub name: String,
    /// Calls a second.
    pub per_second: f64,
    /// Calls at once after a pause.
    pub burst: i64,
    /// When the next call has room.
    pub free_at: Timestamp,
    /// Until when the vendor wants to be left alone.
    pub blocked_until: Option<Timestamp>,
}

/// A row of `budget_records`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BudgetRow {
    /// The vendor.
    pub vendor: String,
    /// The account.
    pub account: String,
    /// The limits as far as anybody has called within them.
    pub limits: Vec<LimitRow>,
    /// Until when the vendor wants to be left alone.
    pub blocked_until: Option<Timestamp>,
    /// Since when calls are held back.
    pub breaker_since: Option<Timestamp>,
    /// When a call is tried again.
    pub breaker_until: Option<Timestamp>,
    /// What failed last.
    pub breaker_reason: Option<String>,
    /// How many executors took calls.
    pub processes: u64,
    /// When it was written.
    pub updated_at: Timestamp,
    /// The sequence in KV_budgets.
    pub sequence: u64,
}

impl Table for BudgetRow {
    type Key = BudgetKey;
    const NAME: &'static str = "budget_records";
    const KEY: &'static [&'static str] = &["vendor", "account"];
    fn key(&self) -> BudgetKey {
        BudgetKey { vendor: self.vendor.clone(), account: self.account.clone() }
    }
}

/// A row of the view `vendor_budgets`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VendorBudget {
    /// The vendor.
    pub vendor: String,
    /// The account.
    pub account: String,
    /// The limits as far as anybody has called within them.
    pub limits: Vec<LimitRow>,
    /// How many calls were made in the last minute.
    pub used_last_minute: u64,
    /// Orders that wait for their turn.
    pub waiting: u64,
    /// Orders that run, those among them whose executor died.
    pub running: u64,
    /// Orders that wait for their next try.
    pub retrying: u64,
    /// Until when the vendor wants to be left alone.
    pub blocked_until: Option<Timestamp>,
    /// `closed`: calls are made; `open`: they are held back; `trying`: one is tried.
    pub breaker: String,
    /// Since when calls are held back.
    pub breaker_since: Option<Timestamp>,
    /// When a call is tried again.
    pub breaker_until: Option<Timestamp>,
    /// What failed last.
    pub breaker_reason: Option<String>,
    /// Whether the vendor is paused.
    pub paused: bool,
    /// By whom.
    pub paused_by: Option<String>,
    /// Why.
    pub pause_reason: Option<String>,
    /// Until when.
    pub paused_until: Option<Timestamp>,
    /// How many executors took calls when the record was written; none while there is no record.
    pub processes: Option<u64>,
    /// When the record was written.
    pub updated_at: Option<Timestamp>,
}

/// The record as executors write it, as far as it is shown. Times are in microseconds since 1970.
#[derive(Debug, Deserialize)]
struct Record {
    #[serde(default)]
    limits: BTreeMap<String, Level>,
    #[serde(default)]
    takers: BTreeMap<String, i64>,
    breaker: Option<Open>,
}

#[derive(Debug, Deserialize)]
struct Level {
    due: i64,
    interval: i64,
    burst: i64,
    blocked: Option<i64>,
}

#[derive(Debug, Deserialize)]
struct Open {
    since: i64,
    until: i64,
    #[serde(default)]
    reason: String,
}

fn time(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MAX)
}

impl Level {
    fn row(&self, name: &str) -> LimitRow {
        // The k-th call of a burst has room an interval before the next one of an even pace.
        let ahead = self.interval.saturating_mul(self.burst.saturating_sub(1));
        let free = self.due.saturating_sub(ahead).max(self.blocked.unwrap_or(i64::MIN));
        #[expect(clippy::cast_precision_loss, reason = "what is shown needs no more digits")]
        let per_second = if self.interval > 0 { 1e6 / self.interval as f64 } else { 0.0 };
        LimitRow {
            name: name.to_owned(),
            per_second: (per_second * 1000.0).round() / 1000.0,
            burst: self.burst,
            free_at: time(free),
            blocked_until: self.blocked.map(time),
        }
    }
}

impl BudgetRow {
    /// The row of a record; none for one that this version cannot read, whose row then stays as it was.
    pub fn of(key: BudgetKey, record: &[u8], at: Timestamp, sequence: u64) -> Option<Self> {
        let record: Record = serde_json::from_slice(record).ok()?;
        let limits: Vec<LimitRow> = record.limits.iter().map(|(name, level)| level.row(name)).collect();
        let now = at.as_microsecond();
        let takes = |taken: &&i64| **taken > now.saturating_sub(ACTIVE);
        let breaker = record.breaker.as_ref();
        Some(Self {
            vendor: key.vendor,
            account: key.account,
            blocked_until: limits.iter().filter_map(|limit| limit.blocked_until).max(),
            limits,
            breaker_since: breaker.map(|open| time(open.since)),
            breaker_until: breaker.map(|open| time(open.until)),
            breaker_reason: breaker.map(|open| open.reason.clone()),
            processes: record.takers.values().filter(takes).count().try_into().unwrap_or_default(),
            updated_at: micros(at),
            sequence,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_shown_in_times_and_calls_a_second() {
        let record = br#"{"v":1,"limits":{"all":{"due":3000000,"interval":20000,"burst":25,"blocked":5000000}},
            "takers":{"one":2500000,"two":100},"breaker":{"since":1000000,"until":9000000,"reason":"503","times":1}}"#;
        let key = BudgetKey { vendor: "simwan".to_owned(), account: "default".to_owned() };
        let row = BudgetRow::of(key.clone(), record, time(3_000_000), 7).expect("a record");
        assert_eq!((row.limits[0].per_second, row.limits[0].free_at), (50.0, time(5_000_000)));
        assert_eq!((row.blocked_until, row.breaker_until), (Some(time(5_000_000)), Some(time(9_000_000))));
        assert_eq!((row.processes, row.breaker_reason.as_deref()), (1, Some("503")));
        assert_eq!(BudgetRow::of(key, b"clock", time(0), 8), None);
    }
}
