//! `wanwright nats repartition`: the customers spread over another number of partitions.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;
use sqlx::PgPool;
use wanwright_nats::Nats;
use wanwright_nats::accounts::{Authority, Role};
use wanwright_nats::repartition::{self, Plan, Progress, Report};
use wanwright_projections::{Rebuilt, folded_otherwise, rebuild_all};
use wanwright_schemas::subjects::PARTITIONS;

use crate::accounts;
use crate::cli::{Connection, OutcomeFormat, RepartitionArgs};
use crate::endpoints::Login;
use crate::exit::Exit;
use crate::get::print_rebuilt;
use crate::output::{line, note};
use crate::stack::Offline;

/// How often progress is told.
const TELL: Duration = Duration::from_secs(1);

/// What was done, for programs.
#[derive(Serialize)]
struct Summary<'a> {
    #[serde(flatten)]
    report: &'a Report,
    /// None where no Postgres was named.
    rebuilt: Option<&'a [Rebuilt]>,
}

/// Changes the count, or says what that would move.
pub async fn run(connection: &Connection, args: RepartitionArgs) -> Result<Exit> {
    if connection.nats.is_none()
        && let Some(servers) = Offline::start(&connection.home.home).await?
    {
        note("the system of this home is stopped: its servers run for this alone");
        let keys = (servers.keys.clone(), servers.url());
        let done = change(&servers.nats, Some(&servers.pool), Some(keys), args).await;
        servers.stop().await;
        return done;
    }
    let nats = connection.nats_unasked(Login::Role(Role::Admin), "wanwright-repartition").await?;
    let pool = if connection.has_postgres() { Some(connection.postgres(6).await?) } else { None };
    change(&nats, pool.as_ref(), keys(connection), args).await
}

/// The keys of this home and where its server is, if there are any: roles may read as many streams as there are.
fn keys(connection: &Connection) -> Option<(Authority, String)> {
    let keys = Authority::open(&connection.home.home.join("keys"), PARTITIONS).ok()?;
    Some((keys, connection.access(Login::Role(Role::Admin)).ok()?.url))
}

async fn change(
    nats: &Nats,
    pool: Option<&PgPool>,
    keys: Option<(Authority, String)>,
    args: RepartitionArgs,
) -> Result<Exit> {
    let to = args.partitions;
    if args.dry_run {
        let plan = repartition::plan(nats, to).await?;
        match args.output {
            OutcomeFormat::Json => line(serde_json::to_string(&plan)?),
            OutcomeFormat::Text => line(sentence(&plan)),
        }
        return Ok(Exit::Done);
    }
    let teller = Teller::default();
    let holder = format!("wanwright-{}", std::process::id());
    let report = repartition::run(nats, to, &holder, &|progress| teller.tell(progress)).await?;
    let has_keys = keys.is_some();
    if let Some((keys, url)) = keys {
        accounts::recounted(keys, &url, to).await?;
    }
    let rebuilt = match pool {
        Some(pool) => Some(read_models(pool, &nats.with_partitions(to)).await?),
        None => None,
    };
    match args.output {
        OutcomeFormat::Json => {
            line(serde_json::to_string(&Summary { report: &report, rebuilt: rebuilt.as_deref() })?);
        }
        OutcomeFormat::Text => print(&report, rebuilt.as_deref()),
    }
    if !has_keys {
        note(
            "no keys are here: run this once more where they are kept, so that roles may read the new streams",
        );
    }
    if pool.is_none() {
        note(
            "no Postgres was named: run `wanwright rebuild --all` before the projections start; they refuse until then",
        );
    }
    Ok(Exit::Done)
}

/// Folds the read models again, unless that was done for this count.
async fn read_models(pool: &PgPool, nats: &Nats) -> Result<Vec<Rebuilt>> {
    if folded_otherwise(pool, nats.partitions).await?.is_none() {
        return Ok(Vec::new());
    }
    note("folding the read models again");
    Ok(rebuild_all(pool, nats).await?)
}

fn sentence(plan: &Plan) -> String {
    let Plan { from, to, customers, moving, messages, present, .. } = plan;
    format!(
        "{from} partitions become {to}: {moving} of {customers} customers move, with {messages} messages, of which \
         {present} are there already"
    )
}

fn print(report: &Report, rebuilt: Option<&[Rebuilt]>) {
    let Report { plan, copied, verdicts, damaged } = report;
    if plan.from == plan.to && !plan.begun {
        line(format!("there are {} partitions already", plan.to));
    } else {
        line(sentence(plan));
        line(format!(
            "{} streams created; copied {copied} messages and {verdicts} verdicts",
            plan.streams.len()
        ));
    }
    for customer in damaged {
        line(format!("the history of {customer} is damaged; it was moved as it is"));
    }
    rebuilt.unwrap_or_default().iter().for_each(print_rebuilt);
}

/// Tells progress now and then.
#[derive(Default)]
struct Teller {
    last: Mutex<Option<Instant>>,
}

impl Teller {
    fn tell(&self, progress: Progress) {
        let Ok(mut last) = self.last.lock() else { return };
        let Progress { what, done, of } = progress;
        if done < of && last.is_some_and(|last| last.elapsed() < TELL) {
            return;
        }
        *last = Some(Instant::now());
        note(format!("{what}: {done} of {of}"));
    }
}
