//! The scenes of the campaign, each with what it has to show.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::time::Instant;
use wanwright_simulator::Call;

use super::sender::{self, customer};
use crate::bench::backdoor::{BackDoor, Listener};
use crate::bench::figures;
use crate::bench::usage::{self, Usage};
use crate::cli::FleetArgs;
use crate::output::note;
use crate::stack::Stack;

/// Part of the budget that has to be used while there is work, in thousandths.
const USED: f64 = 0.98;

/// Changes for a call, where many go in one.
const PER_CALL: f64 = 5.0;

/// Most seconds with few calls that are reported.
const MOST_SECONDS: usize = 12;

/// Processor time of the executors for a change.
const CPU_MILLIS: f64 = 1.0;

/// How much more memory the executors may have than when a quarter of the changes were made: a part of it, and so many MiB
/// for each process, which is what an allocator keeps back.
const GROWTH: (f64, f64) = (1.15, 8.0);

/// How long a single change may take behind whatever others want.
const SINGLE: Duration = Duration::from_secs(2);

/// Edits of one device within a second.
const EDITS: u32 = 100;

/// Calls that many edits of one device may cost.
const WRITES: usize = 3;

/// How long the tables may take to have what has happened.
const RECORDED: Duration = Duration::from_secs(20);

/// Single changes behind a queue, one after the other.
const SINGLES: u32 = 5;

/// How often the vendor is asked how far it is.
pub(super) const POLL: Duration = Duration::from_millis(250);

/// How often the vendor is asked whether a change has arrived: the error of that figure.
const CLOSE_POLL: Duration = Duration::from_millis(10);

/// The campaign on a running system.
pub struct Scenes<'a> {
    pub(super) args: &'a FleetArgs,
    pub(super) stack: &'a Stack,
    pub(super) door: BackDoor,
}

impl<'a> Scenes<'a> {
    /// On this system.
    pub fn new(args: &'a FleetArgs, stack: &'a Stack) -> Result<Self> {
        Ok(Self { args, stack, door: BackDoor::new(&stack.endpoints)? })
    }

    /// A site of each customer, through Terraform; not measured.
    pub async fn sites(&mut self) -> Result<()> {
        let nats = &self.stack.nats;
        sender::each(self.args.customers, |name| async move { sender::site(nats, &name).await }).await?;
        sender::site(nats, "bulk").await?;
        self.made("site", u64::from(self.args.customers) + 1, self.limit(self.args.customers * 8)).await
    }

    /// Many customers create their devices at once.
    pub async fn throughput(&mut self) -> Result<Value> {
        let (nats, each) = (&self.stack.nats, self.args.changes / self.args.customers);
        let changes = each * self.args.customers;
        let before = usage::by_role(self.stack.home());
        let made_before = self.made_devices().await?;
        let mut listener = Listener::begin(&self.door).await?;
        let began = Instant::now();
        let send =
            sender::each(self.args.customers, |name| async move { sender::devices(nats, &name, each).await });
        let mut resident = Vec::new();
        let watch = async {
            loop {
                tokio::time::sleep(POLL).await;
                listener.listen().await?;
                let done = self.made_devices().await? - made_before;
                if done * 4 > u64::from(changes) * resident.len() as u64 {
                    resident.push(executors(self.stack).resident_mb);
                    note(format!("  {done} of {changes} devices after {} s", began.elapsed().as_secs()));
                }
                if done >= u64::from(changes) {
                    return anyhow::Ok(());
                }
                anyhow::ensure!(
                    began.elapsed() < self.limit(changes),
                    "{done} of {changes} devices were made in time"
                );
            }
        };
        let accepted = async {
            send.await?;
            Ok(began.elapsed())
        };
        let (accepted, ()) = tokio::try_join!(accepted, watch)?;
        resident.push(executors(self.stack).resident_mb);
        let flat = is_flat(&resident, executors(self.stack).processes);
        let after = usage::by_role(self.stack.home());
        let used = self.used(listener.calls()).await?;
        let cpu = |role: &str| {
            let of = |usage: &std::collections::BTreeMap<String, Usage>| {
                usage.get(role).map_or(0.0, |usage| usage.cpu_seconds)
            };
            (of(&after) - of(&before)) * 1000.0 / f64::from(changes)
        };
        let millis: serde_json::Map<String, Value> =
            after.keys().map(|role| (role.clone(), json!(figures::millis(cpu(role))))).collect();
        listener.listen().await?;
        let calls = listener.calls().len();
        #[expect(clippy::cast_precision_loss, reason = "counts of thousands")]
        let per_call = f64::from(changes) / calls.max(1) as f64;
        // With many changes in a call the budget is not what holds them up.
        let saves = if self.args.many { per_call >= PER_CALL } else { used >= USED };
        Ok(json!({
            "changes": changes,
            "accepted_in_seconds": figures::seconds(accepted.as_secs_f64()),
            "vendor_calls": calls,
            "changes_per_call": figures::ratio(per_call, 1.0),
            "budget_used": figures::ratio(used, 1.0),
            "least_calls_in_a_second": self.least(listener.calls()).await?,
            "executors_resident_mb": resident,
            "memory_flat": flat,
            "cpu_millis_per_change": millis,
            "good": saves && flat && cpu("executors") <= CPU_MILLIS,
        }))
    }

    /// One device is edited again and again.
    pub async fn edits(&mut self) -> Result<Value> {
        let device = sender::device(&customer(0), 0);
        let mut listener = Listener::begin(&self.door).await?;
        let began = Instant::now();
        for edit in 1..=EDITS {
            sender::vlan(&self.stack.nats, &device, 100 + edit).await?;
            tokio::time::sleep_until(began + Duration::from_secs(1) * edit / EDITS).await;
        }
        let sent = began.elapsed();
        let last = self.arrived(&device, 100 + EDITS, self.limit(0)).await?;
        // A further write, of what was superseded, would come right behind.
        tokio::time::sleep(SINGLE).await;
        listener.listen().await?;
        let writes = listener.calls().iter().filter(|call| call.method != "GET").count();
        let others = EDITS.saturating_sub(u32::try_from(writes)?);
        let superseded = self.superseded(&device, others).await?;
        let is_last = self.door.field("device", &name(&device), "vlan").await? == Some(json!(100 + EDITS));
        Ok(json!({
            "edits": EDITS,
            "sent_in_seconds": figures::seconds(sent.as_secs_f64()),
            "vendor_writes": writes,
            "last_edit_wins": is_last,
            "superseded": superseded,
            "last_edit_there_after_seconds": figures::seconds(last.as_secs_f64()),
            "good": writes <= WRITES && is_last && superseded >= others,
        }))
    }

    /// How many generations of a device are recorded as superseded, as soon as the tables have what has happened.
    async fn superseded(&self, device: &str, at_least: u32) -> Result<u32> {
        let (customer, id) = device.split_once('/').context("a device of a customer")?;
        let began = Instant::now();
        loop {
            let superseded: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM superseded_generations WHERE customer = $1 AND kind = 'device' AND id = $2",
            )
            .bind(customer)
            .bind(id)
            .fetch_one(&self.stack.pool)
            .await?;
            let superseded = u32::try_from(superseded)?;
            if superseded >= at_least || began.elapsed() >= RECORDED {
                return Ok(superseded);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Single changes while another customer wants thousands. They wait until all of them are there: sent one after the
    /// other they might be carried out as fast as they come.
    pub async fn behind_bulk(&mut self) -> Result<Value> {
        let (nats, bulk) = (self.stack.nats.clone(), self.args.bulk);
        sender::hold(&nats, "bulk", true).await?;
        sender::devices(&nats, "bulk", bulk).await?;
        self.queued("bulk", bulk).await?;
        sender::hold(&nats, "bulk", false).await?;
        let began = Instant::now();
        while self.there("device", "bulk.").await? == 0 {
            anyhow::ensure!(began.elapsed() < self.limit(0), "the bulk did not begin in time");
            tokio::time::sleep(POLL).await;
        }
        let mut singles = self.singles(3000).await?;
        let waiting = u64::from(bulk).saturating_sub(self.there("device", "bulk.").await?);
        singles["still_waiting_of_the_bulk"] = json!(waiting);
        if waiting == 0 {
            singles["good"] = json!(false);
        }
        Ok(singles)
    }

    /// Waits until so many orders for a customer's devices wait.
    async fn queued(&self, customer: &str, orders: u32) -> Result<()> {
        let sql =
            "SELECT count(*) FROM operations WHERE customer = $1 AND kind = 'device' AND state = 'waiting'";
        let began = Instant::now();
        loop {
            let waiting: i64 = sqlx::query_scalar(sql).bind(customer).fetch_one(&self.stack.pool).await?;
            if waiting >= i64::from(orders) {
                return Ok(());
            }
            anyhow::ensure!(
                began.elapsed() < self.limit(orders),
                "{waiting} of {orders} orders of {customer} waited in time"
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// Calls that the vendor counted above its limit.
    pub async fn above_limit(&self) -> Result<u64> {
        Ok(self.door.stats().await?.totals.above_limit)
    }

    pub(super) async fn singles(&self, value: u32) -> Result<Value> {
        let (mut taken, mut before) = (Vec::new(), Vec::new());
        for number in 1..=SINGLES {
            let device = sender::device(&customer(number), 0);
            let id = self.door.field("device", &name(&device), "id").await?;
            let id = id.as_ref().and_then(Value::as_str).context("the vendor has no such device")?.to_owned();
            let mut listener = Listener::begin(&self.door).await?;
            let began = Instant::now();
            sender::vlan(&self.stack.nats, &device, value + number).await?;
            self.arrived(&device, value + number, self.limit(1000)).await?;
            taken.push(began.elapsed());
            listener.listen().await?;
            let ours = |call: &&Call| call.method != "GET" && call.path.ends_with(&id);
            let last = listener.calls().iter().find(ours).context("the vendor forgot the change's call")?.seq;
            let others = listener.calls().iter().filter(|call| call.seq < last && !call.path.ends_with(&id));
            before.push(others.count());
        }
        let longest = taken.iter().max().copied().unwrap_or_default();
        let taken: Vec<f64> = taken.iter().map(|time| figures::seconds(time.as_secs_f64())).collect();
        Ok(json!({ "seconds": taken, "others_calls_before": before, "good": longest <= SINGLE }))
    }

    /// Waits until the vendor has this vlan for a device, and says how long that took.
    async fn arrived(&self, device: &str, vlan: u32, limit: Duration) -> Result<Duration> {
        let began = Instant::now();
        while self.door.field("device", &name(device), "vlan").await? != Some(json!(vlan)) {
            anyhow::ensure!(
                began.elapsed() < limit,
                "vlan {vlan} of {device} did not reach the vendor in time"
            );
            tokio::time::sleep(CLOSE_POLL).await;
        }
        Ok(began.elapsed())
    }

    /// Waits until so many objects of a kind were made.
    async fn made(&self, kind: &str, number: u64, limit: Duration) -> Result<()> {
        let began = Instant::now();
        loop {
            let there = self.door.stats().await?.kinds.get(kind).map_or(0, |kind| kind.objects);
            if there >= number {
                return Ok(());
            }
            anyhow::ensure!(began.elapsed() < limit, "{there} of {number} {kind}s were made in time");
            tokio::time::sleep(POLL).await;
        }
    }

    /// How many devices were ever made.
    async fn made_devices(&self) -> Result<u64> {
        Ok(self.door.stats().await?.kinds.get("device").map_or(0, |kind| kind.totals.creations))
    }

    /// How many objects there are whose name begins so.
    async fn there(&self, kind: &str, prefix: &str) -> Result<u64> {
        let stats = self.door.stats().await?;
        let names = stats.kinds.get(kind).map(|kind| &kind.names).context("the vendor has no such kind")?;
        Ok(names.iter().filter(|(name, counters)| name.starts_with(prefix) && counters.creations > 0).count()
            as u64)
    }

    /// The part of the vendor's rate that was used from the first to the last of these calls.
    async fn used(&self, calls: &[Call]) -> Result<f64> {
        let rate = self.door.stats().await?.bucket.limit.per_second;
        let (first, last) = calls
            .iter()
            .fold((u64::MAX, 0), |(first, last), call| (first.min(call.at_ms), last.max(call.at_ms)));
        anyhow::ensure!(last > first, "there were no calls to measure");
        #[expect(clippy::cast_precision_loss, reason = "counts of thousands")]
        let (calls, seconds) = (calls.len().saturating_sub(1) as f64, (last - first) as f64 / 1000.0);
        Ok(calls / seconds / rate)
    }

    /// The seconds in which the fewest calls came, as far as they used less than nine tenths of the rate: which second it
    /// was, and how many came.
    async fn least(&self, calls: &[Call]) -> Result<Vec<(u64, u32)>> {
        let rate = self.door.stats().await?.bucket.limit.per_second;
        let first = calls.iter().map(|call| call.at_ms).min().unwrap_or_default();
        let last = calls.iter().map(|call| call.at_ms).max().unwrap_or_default();
        let mut seconds: BTreeMap<u64, u32> = (0..=(last - first) / 1000).map(|second| (second, 0)).collect();
        for call in calls {
            *seconds.entry((call.at_ms - first) / 1000).or_default() += 1;
        }
        let mut few: Vec<(u64, u32)> =
            seconds.into_iter().filter(|(_, calls)| f64::from(*calls) < rate * 0.9).collect();
        few.sort_by_key(|(second, calls)| (*calls, *second));
        few.truncate(MOST_SECONDS);
        Ok(few)
    }

    /// Longer than so many calls take at half the vendor's budget.
    pub(super) fn limit(&self, calls: u32) -> Duration {
        Duration::from_secs(120) + Duration::from_millis(40) * calls
    }
}

/// A device as the vendor names it.
fn name(device: &str) -> String {
    device.replace('/', ".")
}

fn executors(stack: &Stack) -> Usage {
    usage::by_role(stack.home()).get("executors").copied().unwrap_or_default()
}

/// Whether memory stays what it is: a sample at the first change and at each quarter, the last one at the end.
fn is_flat(resident: &[u64], processes: u32) -> bool {
    let (Some(early), Some(last)) = (resident.get(1), resident.last()) else { return false };
    #[expect(clippy::cast_precision_loss, reason = "mebibytes")]
    let (early, last) = (*early as f64, *last as f64);
    let (part, each) = GROWTH;
    last <= early * part + each * f64::from(processes)
}

#[cfg(test)]
mod tests {
    use super::is_flat;

    #[test]
    fn memory_is_flat_that_stays_what_it_was_once_there_was_work() {
        assert!(is_flat(&[40, 90, 92, 91, 95], 1), "what the work needs at once is no growth");
        assert!(!is_flat(&[40, 90, 110, 130, 150], 1));
        assert!(!is_flat(&[40], 1), "one sample tells nothing");
        assert!(is_flat(&[40, 90, 110, 115, 120], 4), "each process keeps something back");
    }
}
