//! The simulated vendor: an HTTP API over sites, tunnels and devices that judges what wanwright does to a vendor.
//!
//! Which resources exist, and their attributes, is read from a vendor folder (`api/*.toml` and `simulator.toml`).
//! Everything it has answered survives `kill -9`: each answer waits until what it says is on disk.
//! Tests look behind the scenes, and cause trouble, through the back door under `/_sim/`.
//!
//! ```no_run
//! # async fn example() -> Result<(), wanwright_simulator::Error> {
//! use wanwright_simulator::{Config, Simulator};
//! let listen = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
//! let running = Simulator::start(Config::new(listen, "data", "vendors/simwan", "secret", "admin")).await?;
//! let _base_url = running.url();
//! running.stop().await
//! # }
//! ```

mod app;
mod backdoor;
mod bucket;
mod bulk;
mod call;
mod check;
mod clock;
mod config;
mod connection;
mod error;
mod faults;
mod index;
mod jobs;
mod journal;
mod load;
mod operate;
mod reply;
mod report;
mod server;
mod vendor;
mod world;

pub use config::{Config, Limit};
pub use error::Error;
pub use faults::{Delay, Faults, Jobs, Refuse};
pub use report::{
    Call, Calls, Counters, Fate, Health, KindStats, Level, Objects, Stats, Totals, Violation, Violations,
};
pub use server::{Running, Simulator};
