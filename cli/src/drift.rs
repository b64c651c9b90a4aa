//! `wanwright drift`: has the vendors looked at, waits for the findings, prints the report.

use std::time::Duration;

use anyhow::Result;
use async_nats::HeaderMap;
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::time::Instant;
use wanwright_nats::Nats;
use wanwright_projections::WaitError;
use wanwright_projections::read::{self, Filter, Page};
use wanwright_schemas::CustomerId;
use wanwright_schemas::headers;
use wanwright_schemas::ids::CommandId;
use wanwright_schemas::reason::Reason;

use crate::cli::{DriftArgs, RowFormat};
use crate::endpoints::Login;
use crate::exit::{Exit, TimedOut, Usage};
use crate::{get, output, send};

/// Checks and prints drift.
pub async fn run(args: DriftArgs) -> Result<Exit> {
    let pool = args.connection.postgres(2).await?;
    let customers = match &args.customers[..] {
        [] => everybody(&pool).await?,
        named => named
            .iter()
            .map(|text| text.parse().map_err(|error| Usage(format!("{error}")).into()))
            .collect::<Result<Vec<CustomerId>>>()?,
    };
    let actor = args.connection.actor(None)?;
    // Before the tables are asked: whoever may not look at a customer is not told whether there is one of that name.
    for customer in customers.iter().filter(|_| !args.known) {
        let subject = send::subject(&actor, "customer", "check-drift", customer.as_str())?;
        args.connection.may_publish(Login::Person, &subject.request())?;
    }
    let known = everybody(&pool).await?;
    if let Some(unknown) = customers.iter().find(|customer| !known.contains(customer)) {
        anyhow::bail!("there is no customer {unknown}; see `wanwright get customers`");
    }
    if !args.known {
        let nats = args.connection.nats_unasked(Login::Person, "wanwright-drift").await?;
        check(&nats, &pool, &actor, &customers, Duration::from_secs(args.timeout)).await?;
    }
    let reports = open_reports(&pool, &customers).await?;
    match args.output {
        RowFormat::Table if reports.is_empty() => output::line("no drift"),
        RowFormat::Table => output::line(get::drift_table(&reports)),
        RowFormat::Json => output::line(json!({ "items": reports, "next": null })),
        RowFormat::Jsonl => reports.iter().for_each(output::line),
        RowFormat::Name => reports.iter().for_each(|report| {
            let text = |key: &str| report.get(key).and_then(Value::as_str).unwrap_or_default();
            output::line(format!("{}/{}/{}", text("kind"), text("customer"), text("id")));
        }),
    }
    Ok(if reports.is_empty() { Exit::Done } else { Exit::Different })
}

/// Every customer there is.
pub async fn everybody(pool: &PgPool) -> Result<Vec<CustomerId>> {
    let mut customers = Vec::new();
    let mut page = Page { after: None, limit: read::MOST };
    loop {
        let listed = read::customers(pool, &Filter::default(), &page).await?;
        customers.extend(listed.rows.into_iter().map(|row| row.customer));
        match listed.next {
            Some(next) => page.after = Some(next),
            None => return Ok(customers),
        }
    }
}

/// Asks for a look at everything these customers have, and waits until every look has been answered.
pub async fn check(
    nats: &Nats,
    pool: &PgPool,
    actor: &str,
    customers: &[CustomerId],
    limit: Duration,
) -> Result<()> {
    let deadline = Instant::now() + limit;
    for customer in customers {
        let subject = send::subject(actor, "customer", "check-drift", customer.as_str())?;
        let mut head = HeaderMap::new();
        head.insert(headers::COMMAND_ID, CommandId::mint().to_string().as_str());
        let outcome = send::request(nats, &subject, head, Vec::new()).await?;
        match outcome.refusal() {
            Some(refusal) if refusal.code == Reason::NothingToCheck => {}
            Some(refusal) => anyhow::bail!("customer {customer}: {refusal}"),
            None => {
                if let Some(position) = outcome.position() {
                    let waited = wanwright_projections::wait_for(pool, position, limit).await;
                    waited.map_err(|error| match error {
                        WaitError::Late { .. } => TimedOut(
                            "the tables do not show the check yet; see `wanwright get projections`".into(),
                        )
                        .into(),
                        other => anyhow::Error::new(other),
                    })?;
                }
            }
        }
    }
    let names: Vec<String> = customers.iter().map(ToString::to_string).collect();
    loop {
        let waiting: i64 = sqlx::query_scalar(
            "SELECT (SELECT count(*) FROM sites WHERE customer = ANY($1) AND checking IS NOT NULL)
                  + (SELECT count(*) FROM devices WHERE customer = ANY($1) AND checking IS NOT NULL)",
        )
        .bind(&names)
        .fetch_one(pool)
        .await?;
        if waiting == 0 {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let what =
                format!("{waiting} objects have not been looked at yet; see `wanwright get operations`");
            return Err(TimedOut(what).into());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The drift that nobody has mended yet.
pub async fn open_reports(pool: &PgPool, customers: &[CustomerId]) -> Result<Vec<Value>> {
    let mut reports = Vec::new();
    for customer in customers {
        let mut page = Page { after: None, limit: read::MOST };
        let filter = Filter { customer: Some(customer.clone()), attention: true, ..Filter::default() };
        loop {
            let listed = read::drift(pool, &filter, &page).await?;
            for report in &listed.rows {
                reports.push(serde_json::to_value(report)?);
            }
            match listed.next {
                Some(next) => page.after = Some(next),
                None => break,
            }
        }
    }
    Ok(reports)
}
