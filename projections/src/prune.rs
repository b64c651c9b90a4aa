//! Records of doing are kept for a while, like the streams they come from. What was decided is kept for ever.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sqlx::{PgConnection, PgPool};

use crate::error::Error;

/// How many rows one statement deletes at most, so that none holds its locks for long.
const AT_ONCE: i64 = 5_000;

/// How long rows folded from streams with an age limit are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// `operations` and `run_log`. An operation that has not ended is kept.
    pub runs: Duration,
    /// `outcomes`.
    pub outcomes: Duration,
    /// `dead_letters`.
    pub dead_letters: Duration,
}

impl Default for Keep {
    /// 30 days, 30 days, 90 days.
    fn default() -> Self {
        let day = Duration::from_secs(24 * 60 * 60);
        Self { runs: 30 * day, outcomes: 30 * day, dead_letters: 90 * day }
    }
}

impl Keep {
    /// From when on outcomes are kept.
    pub(crate) fn outcomes_since(self, now: Timestamp) -> Timestamp {
        let age = SignedDuration::try_from(self.outcomes).unwrap_or(SignedDuration::MAX);
        now.checked_sub(age).unwrap_or(Timestamp::MIN)
    }
}

/// From when on every outcome has to be there: nobody has pruned it yet, by Postgres' clock when the transaction began.
pub(crate) async fn unpruned_since(connection: &mut PgConnection) -> Result<String, Error> {
    let sql = "SELECT (now() - make_interval(secs => $1) + interval '1 hour')::text";
    let age = Keep::default().outcomes.as_secs_f64();
    Ok(sqlx::query_scalar(sql).bind(age).fetch_one(connection).await?)
}

/// Deletes what is older, and answers how many rows that were.
pub async fn prune(pool: &PgPool, keep: Keep) -> Result<u64, Error> {
    let ended = "updated_at < now() - make_interval(secs => $1) \
                 AND state IN ('succeeded', 'failed', 'superseded', 'withdrawn', 'cancelled')";
    let old = "time < now() - make_interval(secs => $1)";
    let tables = [
        ("run_log", old, keep.runs),
        ("operations", ended, keep.runs),
        ("outcomes", old, keep.outcomes),
        ("dead_letters", old, keep.dead_letters),
    ];
    let mut gone = 0;
    for (table, condition, age) in tables {
        let sql = format!(
            "DELETE FROM public.{table} WHERE ctid = ANY (ARRAY(SELECT ctid FROM public.{table} WHERE {condition} LIMIT $2))"
        );
        loop {
            let done = sqlx::query(&sql).bind(age.as_secs_f64()).bind(AT_ONCE).execute(pool).await?;
            gone += done.rows_affected();
            if done.rows_affected() == 0 {
                break;
            }
        }
    }
    Ok(gone)
}
