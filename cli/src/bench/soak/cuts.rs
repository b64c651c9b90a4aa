//! What goes wrong between the roles and their servers during a soak: one trouble after the other, from a seed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use fastrand::Rng;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::proxy::{Direction, Proxy, Way};
use crate::bench::victims;
use crate::output::note;

/// Longest trouble.
const LONGEST: Duration = Duration::from_secs(30);

/// Longest time without any.
const LONGEST_PEACE: Duration = Duration::from_secs(8);

/// Slowest way.
const SLOWEST: Duration = Duration::from_millis(1500);

/// Which server is behind a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Server {
    Nats,
    Postgres,
}

/// One trouble.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Trouble {
    server: Server,
    /// None: all connections are cut, and can be made again at once.
    way: Option<Way>,
    lasts: Duration,
    peace: Duration,
}

impl Trouble {
    /// The next one. Most are short: of what takes long only the beginning is interesting, and the end.
    fn next(random: &mut Rng) -> Self {
        let server = if random.u32(..5) < 3 { Server::Nats } else { Server::Postgres };
        let way = match random.u32(..8) {
            0 | 1 => None,
            2 => Some(Way::Closed),
            3 | 4 => Some(Way::Swallows(Direction::ToServer)),
            5 | 6 => Some(Way::Swallows(Direction::ToClient)),
            _ => Some(Way::Slow(SLOWEST.mul_f64(random.f64()))),
        };
        let lasts = way.map_or(Duration::ZERO, |_| LONGEST.mul_f64(random.f64().powi(3)));
        Self { server, way, lasts, peace: LONGEST_PEACE.mul_f64(random.f64()) }
    }

    fn name(&self) -> String {
        let what = match self.way {
            None => "cut",
            Some(Way::Open) => "open",
            Some(Way::Closed) => "closed",
            Some(Way::Swallows(Direction::ToServer)) => "swallows what is sent to it",
            Some(Way::Swallows(Direction::ToClient)) => "swallows what it answers",
            Some(Way::Slow(_)) => "slow",
        };
        format!("{:?}, {what}", self.server).to_lowercase()
    }
}

/// The proxies before both servers of an installation.
pub struct Between {
    nats: Proxy,
    postgres: Proxy,
}

impl Between {
    /// Starts them. They outlive the installation's processes, and find its servers wherever those are.
    pub async fn start(home: &Path) -> Result<Self> {
        let local = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let (of_nats, of_postgres) = (home.to_owned(), home.to_owned());
        Ok(Self {
            nats: Proxy::start(move || victims::nats_port(&of_nats).map(local)).await?,
            postgres: Proxy::start(move || victims::postgres_port(&of_postgres).map(local)).await?,
        })
    }

    /// Where the roles find NATS.
    pub fn nats(&self) -> SocketAddr {
        self.nats.address()
    }

    /// Where the roles find Postgres.
    pub fn postgres(&self) -> SocketAddr {
        self.postgres.address()
    }

    /// Lets the connections to Postgres down for a while: ends them, or swallows what goes in one direction.
    pub async fn cut_postgres_off(&self, lasts: Duration, how: usize) {
        let way =
            [Way::Closed, Way::Swallows(Direction::ToServer), Way::Swallows(Direction::ToClient)][how % 3];
        self.postgres.set(way);
        tokio::time::sleep(lasts).await;
        self.postgres.set(Way::Open);
    }

    /// Has everything pass from now on.
    pub fn open(&self) {
        self.nats.set(Way::Open);
        self.postgres.set(Way::Open);
    }

    /// Makes trouble until told to stop, and leaves the ways open. Answers how often which trouble there was.
    pub async fn trouble(&self, seed: u64, stop: CancellationToken) -> BTreeMap<String, u32> {
        let mut random = Rng::with_seed(seed ^ 0x0c07_ca81_e5a1_1d0e);
        let mut had: BTreeMap<String, u32> = BTreeMap::new();
        while !stop.is_cancelled() {
            let trouble = Trouble::next(&mut random);
            let proxy = match trouble.server {
                Server::Nats => &self.nats,
                Server::Postgres => &self.postgres,
            };
            note(format!("  {} for {:.1} s", trouble.name(), trouble.lasts.as_secs_f64()));
            *had.entry(trouble.name()).or_default() += 1;
            match trouble.way {
                None => proxy.cut(),
                Some(way) => {
                    proxy.set(way);
                    wait(&stop, trouble.lasts).await;
                    proxy.set(Way::Open);
                }
            }
            wait(&stop, trouble.peace).await;
        }
        had
    }

    /// What went through, for the report.
    pub fn passed(&self) -> Value {
        json!({ "nats": self.nats.passed(), "postgres": self.postgres.passed() })
    }
}

async fn wait(stop: &CancellationToken, time: Duration) {
    let _ = stop.run_until_cancelled(tokio::time::sleep(time)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_plan_with_every_trouble_in_it() {
        let plan = |seed| {
            let mut random = Rng::with_seed(seed);
            (0..200).map(|_| Trouble::next(&mut random)).collect::<Vec<_>>()
        };
        assert_eq!(plan(1), plan(1));
        assert_ne!(plan(1), plan(2));
        let names: std::collections::BTreeSet<String> = plan(1).iter().map(Trouble::name).collect();
        assert_eq!(names.len(), 10, "{names:?}");
        assert!(plan(1).iter().all(|trouble| trouble.lasts <= LONGEST));
        assert!(plan(1).iter().any(|trouble| trouble.lasts > LONGEST / 2));
    }
}
