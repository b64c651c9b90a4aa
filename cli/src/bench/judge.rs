//! The verdict of a soak: what the histories, the tables and the vendor say, compared.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use sqlx::PgPool;
use tokio::time::Instant;
use wanwright_commands::Head;
use wanwright_nats::accounts::Role;
use wanwright_nats::{History, Nats};
use wanwright_schemas::ids::CommandId;
use wanwright_schemas::subjects::{PARTITIONS, events_stream};
use wanwright_simulator::{Stats, Totals};

use super::backdoor::BackDoor;
use super::load::Accepted;
use crate::drift;
use crate::endpoints::{Endpoints, Login};

/// What was found.
#[derive(Debug, Default, Serialize)]
pub struct Verdict {
    /// Accepted commands whose events are not in the history.
    pub lost_commands: Vec<String>,
    /// Commands whose events are there more than once.
    pub doubled_commands: Vec<String>,
    /// Objects that the vendor created more or less than once.
    pub creations_not_one: Vec<String>,
    /// Devices with fresh names that there are, each created once.
    pub fresh_devices: u32,
    /// Those that were created once and deleted once.
    pub devices_gone_again: u32,
    /// Devices with fresh names that are not there, or still are, as nobody asked for.
    pub wrong_devices: Vec<String>,
    /// Calls above the vendor's limit, but for those it heard late.
    pub calls_above_limit: u64,
    /// Calls above the limit at a vendor that had stood still, and heard at once what was sent to it meanwhile.
    pub calls_heard_late: u64,
    /// What the vendor counted altogether, the calls that met a storm among it.
    pub vendor_calls: Totals,
    /// Objects whose last accepted value is not what the vendor has.
    pub wrong_values: Vec<String>,
    /// Customers whose rows are not the fold of their events.
    pub rows_not_the_fold: Vec<String>,
    /// Orders that are said to go on though nothing does, or to have ended without a word of why.
    pub orders_without_an_end: Vec<String>,
}

/// The rows of `operations` that go on. That a later order took the place of one may be a record that died with whoever was
/// killed: then the later one tells.
pub const GOING_ON: &str = "operations o WHERE state IN ('waiting','running','retrying','unknown')
    AND NOT EXISTS (SELECT FROM operations l WHERE l.customer = o.customer AND l.kind = o.kind AND l.id = o.id
        AND l.queued_at > o.queued_at AND l.state = 'succeeded')";

/// How long the last orders have to end: a look that failed often waits two minutes for its next try.
const ENDING: Duration = Duration::from_secs(180);

/// How long a vendor that stood still takes to hear what was sent to it meanwhile, in milliseconds.
const HEARD: u64 = 1000;

/// Those that ended and do not say why, or when.
const UNEXPLAINED: &str =
    "operations o WHERE state IN ('succeeded','failed','superseded','withdrawn','cancelled')
    AND (finished_at IS NULL OR waiting_for IS NOT NULL
        OR state = 'failed' AND (error_code IS NULL OR error_message IS NULL)
        OR state = 'superseded' AND superseded_by IS NULL)";

impl Verdict {
    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.lost_commands.is_empty()
            && self.doubled_commands.is_empty()
            && self.creations_not_one.is_empty()
            && self.wrong_devices.is_empty()
            && self.calls_above_limit == 0
            && self.wrong_values.is_empty()
            && self.rows_not_the_fold.is_empty()
            && self.orders_without_an_end.is_empty()
    }
}

/// Judges a running system. `went_on`: when the vendor went on after it had been stopped, in milliseconds since 1970.
pub async fn judge(endpoints: &Endpoints, accepted: &Accepted, went_on: &[u64]) -> Result<Verdict> {
    let nats =
        wanwright_nats::connect(endpoints.access(Login::Role(Role::Admin))?, "wanwright-judge", PARTITIONS)
            .await?
            .with_servers_partitions()
            .await?;
    let pool = sqlx::postgres::PgPoolOptions::new().max_connections(6).connect(&endpoints.postgres).await?;
    let mut verdict = Verdict::default();
    histories(&nats, &drift::everybody(&pool).await?, accepted, &mut verdict).await?;
    vendor(endpoints, accepted, went_on, &mut verdict).await?;
    for partition in 0..nats.partitions {
        let verified = wanwright_projections::verify(&pool, &nats, &events_stream(partition)).await?;
        verdict.rows_not_the_fold.extend(verified.different.into_keys());
    }
    verdict.orders_without_an_end = without_an_end_at_last(&pool).await?;
    Ok(verdict)
}

/// The same once all have had their time: objects are as they should be before the last order says so.
pub async fn without_an_end_at_last(pool: &PgPool) -> Result<Vec<String>> {
    let deadline = Instant::now() + ENDING;
    loop {
        let orders = without_an_end(pool).await?;
        if orders.is_empty() || Instant::now() >= deadline {
            return Ok(orders);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// The orders that did not come to an end, or do not say which, each in a line.
async fn without_an_end(pool: &PgPool) -> Result<Vec<String>> {
    let all = format!(
        "SELECT format('%s %s/%s: order %s is %s since %s', o.customer, o.kind, o.id, o.order_id, o.state, o.updated_at)
         FROM {GOING_ON} UNION ALL
         SELECT format('%s %s/%s: order %s is %s without saying why', o.customer, o.kind, o.id, o.order_id, o.state)
         FROM {UNEXPLAINED} ORDER BY 1"
    );
    Ok(sqlx::query_scalar(&all).fetch_all(pool).await?)
}

async fn histories(
    nats: &Nats,
    customers: &[wanwright_schemas::CustomerId],
    accepted: &Accepted,
    verdict: &mut Verdict,
) -> Result<()> {
    let history = History::new(nats.clone());
    let mut seen: BTreeMap<CommandId, u32> = BTreeMap::new();
    for customer in customers {
        let mut head = Head::default();
        for message in history.load(customer, 0).await? {
            let envelope = head.fold(message.sequence, &message.payload)?;
            *seen.entry(envelope.command).or_default() += 1;
        }
    }
    let lost = accepted.commands.iter().filter(|(_, id)| !seen.contains_key(id));
    verdict.lost_commands = lost.map(|(customer, id)| format!("{customer} {id}")).collect();
    verdict.doubled_commands =
        seen.iter().filter(|(_, times)| **times > 1).map(|(id, _)| id.to_string()).collect();
    Ok(())
}

async fn vendor(
    endpoints: &Endpoints,
    accepted: &Accepted,
    went_on: &[u64],
    verdict: &mut Verdict,
) -> Result<()> {
    let door = BackDoor::new(endpoints)?;
    let stats = door.stats().await?;
    let violations = door.violations().await?;
    let late = violations.iter().filter(|call| is_late(call.at_ms, went_on)).count();
    verdict.calls_heard_late = u64::try_from(late)?;
    verdict.calls_above_limit = stats.totals.above_limit - verdict.calls_heard_late;
    verdict.vendor_calls = stats.totals;
    fresh_devices(&stats, accepted, verdict);
    for (kind, stats) in &stats.kinds {
        let is_fresh = |name: &String| kind == "device" && accepted.devices.contains_key(name);
        let wrong = stats.names.iter().filter(|(name, counters)| counters.creations != 1 && !is_fresh(name));
        verdict
            .creations_not_one
            .extend(wrong.map(|(name, counters)| format!("{kind} {name}: {} creations", counters.creations)));
    }
    for ((kind, name, field), value) in &accepted.values {
        let there = door.field(kind, name, field).await?.unwrap_or_default();
        if there != *value {
            verdict.wrong_values.push(format!("{kind} {name}: {field} is {there}, last accepted {value}"));
        }
    }
    Ok(())
}

/// Whether a vendor heard a call just after it went on.
fn is_late(at: u64, went_on: &[u64]) -> bool {
    went_on.iter().any(|from| (*from..from + HEARD).contains(&at))
}

/// What was created is there and was made once; what was decommissioned is not there, and was made once at most: it may
/// have been decommissioned before anybody came to making it.
fn fresh_devices(stats: &Stats, accepted: &Accepted, verdict: &mut Verdict) {
    let names = stats.kinds.get("device").map(|kind| &kind.names);
    for (name, decommissioned) in &accepted.devices {
        let counters = names.and_then(|names| names.get(name)).copied().unwrap_or_default();
        let (made, deleted) = (counters.creations, counters.deletions);
        match (*decommissioned, made, deleted) {
            (false, 1, 0) => verdict.fresh_devices += 1,
            (true, 1, 1) => verdict.devices_gone_again += 1,
            (true, 0, 0) => {}
            _ => verdict.wrong_devices.push(format!(
                "{name}: made {made} times, deleted {deleted} times, {}",
                if *decommissioned { "decommissioned" } else { "wanted" }
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use wanwright_simulator::Counters;

    use super::*;

    #[test]
    fn only_what_comes_just_after_a_stop_is_late() {
        let late = [99, 100, 1099, 1100, 5500].map(|at| is_late(at, &[100, 5000]));
        assert_eq!(late, [false, true, true, false, true]);
    }

    #[test]
    fn a_fresh_device_that_is_made_twice_or_left_behind_is_wrong() {
        let accepted = Accepted {
            devices: [("a", false), ("b", false), ("c", false), ("d", true), ("e", true), ("f", true)]
                .map(|(name, gone)| (name.to_owned(), gone))
                .into(),
            ..Accepted::default()
        };
        let counters =
            |creations: u64, deletions: u64| Counters { creations, deletions, ..Counters::default() };
        let mut stats = Stats::default();
        let device = stats.kinds.entry("device".to_owned()).or_default();
        for (name, creations, deletions) in [("a", 1, 0), ("b", 2, 0), ("d", 1, 1), ("e", 1, 0)] {
            device.names.insert(name.to_owned(), counters(creations, deletions));
        }
        let mut verdict = Verdict::default();
        fresh_devices(&stats, &accepted, &mut verdict);
        let wrong: Vec<&str> = verdict.wrong_devices.iter().map(|text| &text[..1]).collect();
        assert_eq!((verdict.fresh_devices, verdict.devices_gone_again, wrong), (1, 1, vec!["b", "c", "e"]));
        assert!(!verdict.is_good(), "{}", json!(verdict));
    }

    #[tokio::test]
    async fn an_order_that_goes_on_or_does_not_say_why_it_ended_is_found() {
        let dir = tempfile::tempdir().expect("a folder");
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(dir.path(), open).expect("a folder for the user of Postgres");
        let cache = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/tmp/programs");
        let options = wanwright_supervisor::PostgresOptions::new(dir.path().join("postgres"), cache);
        let postgres = wanwright_supervisor::Postgres::start(&options).await.expect("a Postgres");
        let pool = PgPool::connect(&postgres.url()).await.expect("a connection");
        wanwright_projections::migrate(&pool).await.expect("tables");
        // By minutes: the device, the state, when it ended and why.
        let rows = [
            (1, "a", "succeeded", true, None),
            (2, "b", "waiting", false, None),
            (3, "b", "succeeded", true, None),
            (4, "c", "waiting", false, None),
            (5, "d", "running", false, None),
            (6, "e", "failed", true, Some("VendorRefused")),
            (7, "f", "failed", true, None),
            (8, "g", "cancelled", false, None),
            (9, "h", "superseded", true, None),
            (10, "i", "unknown", false, None),
            (11, "j", "succeeded", true, None),
            (12, "j", "retrying", false, Some("Unavailable")),
            (13, "k", "withdrawn", true, None),
        ];
        for (minute, device, state, is_over, code) in rows {
            sqlx::query(
                "INSERT INTO operations (customer, order_id, vendor, kind, id, state, error_code, error_message, queued_at,
                     updated_at, finished_at, sequence)
                 SELECT 'acme', gen_random_uuid(), 'simwan', 'device', $2, $3, $5, $5, at, at, CASE WHEN $4 THEN at END, $1
                 FROM (SELECT now() + $1 * interval '1 minute' AS at) t",
            )
            .bind(minute)
            .bind(device)
            .bind(state)
            .bind(is_over)
            .bind(code)
            .execute(&pool)
            .await
            .expect("a row");
        }
        let found = without_an_end(&pool).await.expect("the rows");
        let found: Vec<&str> = found.iter().map(|line| &line["acme device/".len()..][..1]).collect();
        assert_eq!(found, ["c", "d", "f", "g", "h", "i", "j"]);
        postgres.stop(Duration::from_secs(10)).await;
    }
}
