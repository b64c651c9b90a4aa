//! The peer: the same aggregate on postgres-es.

use std::sync::Arc;

use anyhow::Result;
use cqrs_es::persist::GenericQuery;
use cqrs_es::{Aggregate, EventEnvelope, Query, View};
use postgres_es::PostgresViewRepository;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use tokio::time::Instant;
use wanwright_commands::Customer;
use wanwright_commands::service::Judged;
use wanwright_schemas::Command;
use wanwright_schemas::ObjectRef;
use wanwright_schemas::ids::{CommandId, Kind, ObjectId};
use wanwright_vendors::Catalogue;

use super::Servers;
use super::work::{Measured, Plan, command, spread};

/// The tables that postgres-es wants.
const TABLES: &str = "
    CREATE SCHEMA IF NOT EXISTS peer;
    CREATE TABLE IF NOT EXISTS peer.events (
        aggregate_type text NOT NULL, aggregate_id text NOT NULL, sequence bigint NOT NULL, event_type text NOT NULL,
        event_version text NOT NULL, payload json NOT NULL, metadata json NOT NULL,
        PRIMARY KEY (aggregate_type, aggregate_id, sequence));
    CREATE TABLE IF NOT EXISTS peer.customers (
        view_id text PRIMARY KEY, version bigint NOT NULL, payload json NOT NULL);";

/// A view that is the aggregate itself.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Whole(Customer);

impl View<Customer> for Whole {
    fn update(&mut self, event: &EventEnvelope<Customer>) {
        self.0.apply(event.payload.clone());
    }
}

/// The same commands on postgres-es, with or without a view that is written with the events.
pub async fn postgres_es(servers: &Servers, plan: Plan, round: u32, view: bool) -> Result<Measured> {
    let connections = u32::try_from(plan.at_once)?.min(60);
    let pool = sqlx::postgres::PgPoolOptions::new()
        .max_connections(connections)
        .after_connect(|connection, _| {
            Box::pin(async move {
                sqlx::Executor::execute(connection, "SET search_path TO peer").await?;
                Ok(())
            })
        })
        .connect(&servers.postgres_url)
        .await?;
    sqlx::raw_sql(TABLES).execute(&pool).await?;
    let cqrs = Arc::new(framework(&pool, servers, view)?);
    let name = if view { "f postgres-es with a view" } else { "e postgres-es" };
    let measured = spread(name, plan, |number| {
        let cqrs = Arc::clone(&cqrs);
        async move {
            let customer = format!("peer-{round}-{view}-{number}");
            let mut latencies = Vec::new();
            for index in 0..plan.each() {
                let judged = judged(index)?;
                let began = Instant::now();
                cqrs.execute(&customer, judged).await?;
                latencies.push(began.elapsed());
            }
            Ok(latencies)
        }
    })
    .await?;
    pool.close().await;
    Ok(measured)
}

fn framework(pool: &PgPool, servers: &Servers, view: bool) -> Result<postgres_es::PostgresCqrs<Customer>> {
    let mut queries: Vec<Box<dyn Query<Customer>>> = Vec::new();
    if view {
        let repository = Arc::new(PostgresViewRepository::<Whole, Customer>::new("customers", pool.clone()));
        queries.push(Box::new(GenericQuery::new(repository)));
    }
    let vendors = Arc::new(Catalogue::load(&servers.vendors)?);
    Ok(postgres_es::postgres_cqrs(pool.clone(), queries, vendors))
}

fn judged(index: u32) -> Result<Judged> {
    let (verb, body) = command(index);
    let id: ObjectId = "oslo-01".parse()?;
    let object = ObjectRef::new(Kind::Site, id)?;
    let command = Command::parse("acme".parse()?, "bench".parse()?, &object, verb, body.as_bytes())?;
    // No freeze is in force, whenever that was.
    let received = Default::default();
    Ok(Judged {
        id: CommandId::mint(),
        expected_generation: None,
        schema: None,
        received,
        key: None,
        former: None,
        standing: wanwright_commands::cancel::Standing::Waiting,
        command,
    })
}
