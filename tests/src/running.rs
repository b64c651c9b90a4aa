//! A wanwright that runs in a home.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use wanwright_nats::accounts::{Authority, Role};
use wanwright_nats::{Access, Nats};
use wanwright_schemas::subjects::PARTITIONS;
use wanwright_supervisor::Child;

use crate::{Customer, Home, Process, Processes, Program, Rows, Said, Vendor, level};

/// Where everything is, as `up` writes it down.
#[derive(Debug, Clone, Deserialize)]
pub struct Endpoints {
    /// The process that started everything.
    pub pid: u32,
    /// NATS, without login.
    pub nats: String,
    /// The folder of keys and credentials.
    pub keys: PathBuf,
    /// Postgres, with login.
    pub postgres: String,
    /// The simulated vendor.
    pub simulator: String,
    /// The token of its back door.
    pub simulator_admin_token: String,
}

/// A running wanwright. It dies with this and with this process.
#[derive(Debug)]
pub struct Running {
    /// Its folder.
    pub home: Arc<Home>,
    /// The program.
    pub program: Program,
    /// Where everything is.
    pub endpoints: Endpoints,
    child: Child,
}

impl Running {
    /// Starts `up` in a home and waits until everything is there.
    pub async fn up(program: &Program, home: &Arc<Home>) -> Result<Self> {
        let child = Self::launch(program, home, &["up"])?;
        Self::ready(program, home, child).await
    }

    /// Starts a mode that starts everything; what it says goes to `said.log`.
    pub fn launch(program: &Program, home: &Home, args: &[&str]) -> Result<Child> {
        Ok(program.spec(home, args).log(home.join("said.log")).spawn()?)
    }

    /// Waits until what was launched is there.
    pub async fn ready(program: &Program, home: &Arc<Home>, child: Child) -> Result<Self> {
        let file = home.join("endpoints.json");
        let look = async || {
            if let Some(status) = child.try_wait() {
                // Not an error of looking: it will not come any more.
                return Ok(Some(Err(format!("it ended with {status}"))));
            }
            let endpoints: Endpoints = serde_json::from_slice(&std::fs::read(&file)?)?;
            // The file of an earlier start may still be there.
            Ok((endpoints.pid == child.id()).then_some(Ok(endpoints)))
        };
        let found = level::reach("wanwright has started", level::LONG, look).await;
        match found.with_context(|| format!("it said: {}", home.read("said.log")))?.0 {
            Ok(endpoints) => Ok(Self { home: Arc::clone(home), program: program.clone(), endpoints, child }),
            Err(why) => bail!("wanwright did not start: {why}; it said: {}", home.read("said.log")),
        }
    }

    /// A NATS client that may do everything, and so stands for any actor.
    pub async fn nats(&self) -> Result<Nats> {
        let keys = Authority::open(&self.endpoints.keys, PARTITIONS)?;
        let nats = self.nats_as(keys.role(Role::Admin)).await?;
        Ok(nats.with_servers_partitions().await?)
    }

    /// A NATS client with a credentials file.
    pub async fn nats_as(&self, creds: PathBuf) -> Result<Nats> {
        let access = Access::with_creds(&self.endpoints.nats, creds);
        Ok(wanwright_nats::connect(access, "wanwright-tests", PARTITIONS).await?)
    }

    /// A customer of a test's own.
    pub async fn customer(&self, name: &str) -> Result<Customer> {
        Customer::new(self.nats().await?, name)
    }

    /// The tables.
    pub async fn rows(&self) -> Result<Rows> {
        Rows::open(&self.endpoints.postgres).await
    }

    /// The vendor's back door.
    pub fn vendor(&self) -> Result<Vendor> {
        Vendor::new(&self.endpoints.simulator, &self.endpoints.simulator_admin_token)
    }

    /// Calls the program in the same home.
    pub async fn call(&self, args: &[&str]) -> Result<Said> {
        self.program.call(&self.home, args).await
    }

    /// The process itself, to be waited for.
    pub fn child(&self) -> &Child {
        &self.child
    }

    /// Gives the process itself away; whoever drops it ends it.
    pub fn into_child(self) -> Child {
        self.child
    }

    /// Everybody below it.
    pub fn family(&self) -> Vec<Process> {
        Processes::below(self.child.id())
    }

    /// The process of a role: `commands`, `dispatcher`, `executors`, `projections`, `simulator`, `nats-server` or
    /// `postgres`.
    pub fn role(&self, name: &str) -> Option<Process> {
        let own = self.child.id();
        Processes::below(own).into_iter().find(|process| {
            let mut words = process.command.split(' ');
            let program = PathBuf::from(words.next().unwrap_or_default());
            let program = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let mode = words.next().unwrap_or_default();
            let role = words.next().unwrap_or_default();
            process.is_child_of(own)
                && match name {
                    "nats-server" | "postgres" => program == name,
                    "simulator" => mode == name,
                    _ => mode == "serve" && role == name,
                }
        })
    }

    /// Waits until a role is there as another process than `before`.
    pub async fn comes_back(&self, name: &str, before: &Process) -> Result<Duration> {
        level::until(&format!("{name} is started again"), level::LONG, async || {
            Ok(self.role(name).is_some_and(|now| now != *before))
        })
        .await
    }
}
