//! How work is spread and measured: customers beside each other, a customer's commands one after the other.

use std::future::Future;
use std::time::Duration;

use anyhow::Result;
use futures::stream::{self, StreamExt, TryStreamExt};
use serde::Serialize;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::bench::{figures, usage};

/// How much is done.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Commands altogether.
    pub commands: u32,
    /// Customers they are spread over.
    pub customers: u32,
    /// Customers at work at once.
    pub at_once: usize,
}

impl Plan {
    /// Commands of each customer.
    pub fn each(self) -> u32 {
        self.commands / self.customers.max(1)
    }
}

/// What a way of doing it came to.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    /// What was done.
    pub name: String,
    /// Commands a second.
    #[serde(serialize_with = "figures::write_rate")]
    pub per_second: f64,
    /// Middle latency in milliseconds.
    #[serde(serialize_with = "figures::write_millis")]
    pub p50: f64,
    /// The latency that one in a hundred exceeds, in milliseconds.
    #[serde(serialize_with = "figures::write_millis")]
    pub p99: f64,
    /// The longest latency, in milliseconds.
    #[serde(serialize_with = "figures::write_millis")]
    pub max: f64,
    /// The processor time of each command, where that was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
}

/// Processor time of one command, in microseconds, on average over all of a measurement. Unlike rates it does not depend on
/// what else the machine does.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Cpu {
    /// In the command service.
    #[serde(serialize_with = "figures::write_rate")]
    pub service: f64,
    /// In the nats-server.
    #[serde(serialize_with = "figures::write_rate")]
    pub server: f64,
    /// In whoever asks and measures.
    #[serde(serialize_with = "figures::write_rate")]
    pub asker: f64,
}

/// The processes whose time is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Processes {
    /// The command service.
    pub service: u32,
    /// The nats-server.
    pub server: u32,
}

impl Processes {
    /// The seconds that each of them has taken, in the order of [`Cpu`].
    fn seconds(self) -> [f64; 3] {
        let of = |pid: u32| {
            i32::try_from(pid).ok().and_then(usage::of_process).map_or(f64::NAN, |taken| taken.cpu_seconds)
        };
        [self.service, self.server, std::process::id()].map(of)
    }

    /// Measures with the processor time that these processes take meanwhile.
    pub async fn watched(
        self,
        commands: u32,
        measured: impl Future<Output = Result<Measured>>,
    ) -> Result<Measured> {
        let before = self.seconds();
        let measured = measured.await?;
        let after = self.seconds();
        let of_one = |process: usize| (after[process] - before[process]) * 1e6 / f64::from(commands);
        let [service, server, asker] = [0, 1, 2].map(of_one);
        Ok(Measured { cpu: Some(Cpu { service, server, asker }), ..measured })
    }
}

impl Measured {
    /// From the latencies of all commands and the time they took together.
    pub fn new(name: &str, mut latencies: Vec<Duration>, took: Duration) -> Self {
        latencies.sort_unstable();
        let at = |share: f64| {
            let last = latencies.len().saturating_sub(1);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "an index into a list of thousands"
            )]
            let index = (last as f64 * share) as usize;
            latencies.get(index).map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
        };
        #[expect(clippy::cast_precision_loss, reason = "a count of thousands")]
        let per_second = latencies.len() as f64 / took.as_secs_f64();
        Self { name: name.to_owned(), per_second, p50: at(0.5), p99: at(0.99), max: at(1.0), cpu: None }
    }
}

/// The verb and body of a customer's nth command: the first creates its site, the others change it, one event each.
pub fn command(index: u32) -> (&'static str, String) {
    let (verb, body) = match index {
        0 => (
            "create",
            json!({ "vendor": "simwan", "lan": ["10.0.0.0/24"], "settings": { "location": "Oslo" } }),
        ),
        n => ("change", json!({ "settings": { "location": format!("room {n}") } })),
    };
    (verb, body.to_string())
}

/// Does the work of every customer, and measures each command: `one` answers the latencies of a customer's commands.
pub async fn spread<F>(name: &str, plan: Plan, one: impl Fn(u32) -> F) -> Result<Measured>
where
    F: Future<Output = Result<Vec<Duration>>>,
{
    let began = Instant::now();
    let latencies: Vec<Vec<Duration>> =
        stream::iter(0..plan.customers).map(one).buffer_unordered(plan.at_once).try_collect().await?;
    Ok(Measured::new(name, latencies.concat(), began.elapsed()))
}

/// Does one thing after the other at a steady rate, whether or not earlier ones are done, and answers how long each took.
/// The numbers of the things begin with `from`.
pub async fn steady<F>(
    per_second: u32,
    time: Duration,
    from: u32,
    one: impl Fn(u32) -> F,
) -> Result<Vec<Duration>>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let total = per_second * u32::try_from(time.as_secs())?;
    let mut running = JoinSet::new();
    let began = Instant::now();
    for number in 0..total {
        tokio::time::sleep_until(began + time.mul_f64(f64::from(number) / f64::from(total))).await;
        let work = one(from + number);
        running.spawn(async move {
            let began = Instant::now();
            work.await?;
            anyhow::Ok(began.elapsed())
        });
    }
    let mut latencies = Vec::new();
    while let Some(done) = running.join_next().await {
        latencies.push(done??);
    }
    Ok(latencies)
}
