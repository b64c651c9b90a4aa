//! The work: each customer's stack is made, changed and destroyed, one apply after the other; each command is sent under
//! its id until it has an outcome, and each apply waited for until the tables say that it is there.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;
use async_nats::HeaderMap;
use fastrand::Rng;
use serde_json::{Value, json};
use tokio::time::Instant;
use wanwright_nats::accounts::Role;
use wanwright_schemas::CommandId;
use wanwright_schemas::headers;
use wanwright_schemas::reason::Reason;
use wanwright_schemas::subjects::PARTITIONS;

use super::Plan;
use crate::bench::load::Reach;
use crate::endpoints::{Login, PERSON};
use crate::send;

/// Pause before asking again.
const PAUSE: Duration = Duration::from_millis(150);

/// Longest time for one apply, kills included: an order that failed often waits two minutes for its next try.
const SETTLE: Duration = Duration::from_secs(300);

/// Most tunnels of a stack.
const MOST_TUNNELS: usize = 4;

/// What a stack should be at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Whose it is.
    pub customer: String,
    /// Its site.
    pub site: String,
    /// Its tunnels; nothing when the site is gone.
    pub tunnels: Option<BTreeSet<String>>,
}

/// One customer.
pub struct Worker {
    reach: Reach,
    plan: Arc<Plan>,
    customer: String,
    random: Rng,
    sites: u32,
    tunnels: u32,
    connection: Option<(wanwright_nats::Nats, sqlx::PgPool)>,
    done: Vec<Wanted>,
}

/// What is done to a stack.
type Commands = Vec<(&'static str, &'static str, String, Value)>;

impl Worker {
    /// The customer of this number.
    pub fn new(reach: Reach, plan: Arc<Plan>, number: u32, seed: u64) -> Self {
        let random = Rng::with_seed(seed.wrapping_add(u64::from(number) << 32));
        let customer = format!("kills-{number}");
        Self { reach, plan, customer, random, sites: 0, tunnels: 0, connection: None, done: Vec::new() }
    }

    /// Works until so many applies were begun in all, and answers what should be there.
    pub async fn run(mut self) -> Result<Vec<Wanted>> {
        let mut present: Option<Wanted> = None;
        while !self.plan.is_ending() {
            self.plan.begun.fetch_add(1, Ordering::Relaxed);
            let (commands, wanted) = self.next(present.take());
            for (kind, verb, object, body) in commands {
                self.send(kind, verb, &object, &body).await?;
            }
            self.settle(&wanted).await?;
            self.plan.settled.fetch_add(1, Ordering::Relaxed);
            if wanted.tunnels.is_some() {
                present = Some(wanted);
            } else {
                self.done.push(wanted);
            }
        }
        self.done.extend(present);
        Ok(self.done)
    }

    /// The next apply: what is sent for it, and what there should be then.
    fn next(&mut self, present: Option<Wanted>) -> (Commands, Wanted) {
        let Some(mut wanted) = present else { return self.create() };
        let tunnels = wanted.tunnels.get_or_insert_default();
        match self.random.u32(..10) {
            0..2 => {
                let site = wanted.site.clone();
                wanted.tunnels = None;
                (vec![("site", "decommission", site, json!({ "cascade": true }))], wanted)
            }
            2..4 if tunnels.len() < MOST_TUNNELS => {
                let site = wanted.site.clone();
                let command = self.tunnel(&site, tunnels);
                (vec![command], wanted)
            }
            4..6 if !tunnels.is_empty() => {
                let gone = self.random.choice(tunnels.iter().cloned()).unwrap_or_default();
                tunnels.remove(&gone);
                (vec![("tunnel", "decommission", gone, json!({}))], wanted)
            }
            6..8 if !tunnels.is_empty() => {
                let mtu = self.random.u32(600..1500);
                let change = |tunnel: &String| {
                    ("tunnel", "change", tunnel.clone(), json!({ "settings": { "mtu": mtu } }))
                };
                (tunnels.iter().map(change).collect(), wanted)
            }
            _ => {
                let location = format!("place {}", self.random.u32(..));
                let body = json!({ "settings": { "location": location } });
                (vec![("site", "change", wanted.site.clone(), body)], wanted)
            }
        }
    }

    fn create(&mut self) -> (Commands, Wanted) {
        self.sites += 1;
        let site = format!("site-{:03}", self.sites);
        let body = json!({ "vendor": "simwan", "lan": [format!("10.{}.0.0/24", self.sites % 256)] });
        let mut commands: Commands = vec![("site", "create", site.clone(), body)];
        let mut tunnels = BTreeSet::new();
        for _ in 0..self.random.usize(..=MOST_TUNNELS) {
            commands.push(self.tunnel(&site, &mut tunnels));
        }
        (commands, Wanted { customer: self.customer.clone(), site, tunnels: Some(tunnels) })
    }

    fn tunnel(
        &mut self,
        site: &str,
        tunnels: &mut BTreeSet<String>,
    ) -> (&'static str, &'static str, String, Value) {
        self.tunnels += 1;
        let (block, place) = (self.tunnels / 64, self.tunnels % 64 * 4);
        let body = json!({
            "site": site, "peer": { "hub": "hub-eu" }, "inside": format!("169.254.{block}.{place}/30"),
        });
        let tunnel = format!("tunnel-{:04}", self.tunnels);
        tunnels.insert(tunnel.clone());
        ("tunnel", "create", tunnel, body)
    }

    async fn connected(&mut self) -> Result<&(wanwright_nats::Nats, sqlx::PgPool)> {
        if self.connection.is_none() {
            let endpoints = self.reach.endpoints()?;
            let access = endpoints.access(Login::Role(Role::Admin))?;
            let nats = wanwright_nats::connect(access, "wanwright-soak", PARTITIONS).await?;
            let options = sqlx::postgres::PgPoolOptions::new().max_connections(1);
            let pool = options.acquire_timeout(Duration::from_secs(2)).connect(&endpoints.postgres).await?;
            self.connection = Some((nats, pool));
        }
        self.connection.as_ref().ok_or_else(|| anyhow::anyhow!("there is no connection"))
    }

    /// Sends a command until it is accepted. A refusal is what nobody may get here.
    async fn send(&mut self, kind: &str, verb: &str, object: &str, body: &Value) -> Result<()> {
        let subject = send::subject(PERSON, kind, verb, &format!("{}/{object}", self.customer))?;
        let mut head = HeaderMap::new();
        head.insert(headers::COMMAND_ID, CommandId::mint().to_string().as_str());
        let deadline = Instant::now() + SETTLE;
        loop {
            let asked = match self.connected().await {
                Ok((nats, _)) => {
                    send::request(nats, &subject, head.clone(), body.to_string().into_bytes()).await
                }
                Err(error) => Err(error),
            };
            match asked {
                Ok(outcome) => match outcome.refusal() {
                    None => return Ok(()),
                    Some(refusal) if refusal.code == Reason::Unavailable => {}
                    Some(refusal) => anyhow::bail!("{kind} {verb} {object}: {refusal}"),
                },
                Err(_) => self.connection = None,
            }
            anyhow::ensure!(Instant::now() < deadline, "{kind} {verb} {object} had no outcome in time");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Waits until the tables say that a stack is as it should be.
    async fn settle(&mut self, wanted: &Wanted) -> Result<()> {
        let deadline = Instant::now() + SETTLE;
        let mut last = String::new();
        while Instant::now() < deadline {
            match self.unsettled(wanted).await {
                Ok(0) => return Ok(()),
                Ok(waiting) => last = format!("{waiting} objects are not as they should be"),
                Err(error) => {
                    last = error.to_string();
                    self.connection = None;
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        anyhow::bail!("{}/{} did not settle: {last}", wanted.customer, wanted.site)
    }

    async fn unsettled(&mut self, wanted: &Wanted) -> Result<i64> {
        const SQL: &str = "
            SELECT count(*) FILTER (WHERE health <> 'Healthy' OR sync <> 'Synced'
                                       OR observed_generation IS DISTINCT FROM generation)
                   + abs(count(*) - $3)
            FROM status WHERE customer = $1 AND kind <> 'device' AND (id = $2 OR kind = 'tunnel')";
        let there = wanted.tunnels.as_ref().map_or(0, |tunnels| 1 + tunnels.len());
        let (_, pool) = self.connected().await?;
        let asked = sqlx::query_scalar(SQL).bind(&wanted.customer).bind(&wanted.site);
        Ok(asked.bind(i64::try_from(there)?).fetch_one(pool).await?)
    }
}
