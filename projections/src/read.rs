//! The typed way to query the tables, for the command line and the dashboard.
//!
//! Lists are paged by key: a page starts behind the cursor of the one before, so that page 1,000 costs what page 1 does.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use wanwright_schemas::{CommandId, CustomerId, Kind, OrderId, VendorId};

use crate::checkpoint::StatusRow;
use crate::error::Error;
use crate::models::{
    CustomerRow, DeadLetterRow, DeviceRow, DriftReportRow, Health, HeldChange, OperationRow, OperationState,
    OutcomeRow, PlanRow, QueueRow, RolloutCustomer, RolloutRow, RunLogRow, SiteRow, Sync, TimelineRow,
    TunnelRow, VendorBudget,
};
use crate::table::parse;

/// The most rows of one page.
pub const MOST: u32 = 1_000;

/// What a list is narrowed to. What is none narrows nothing; what a table does not have is not asked of it.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// One customer.
    pub customer: Option<CustomerId>,
    /// One object.
    pub id: Option<String>,
    /// One kind of object (drift, timeline, operations).
    pub kind: Option<Kind>,
    /// One site (tunnels, devices).
    pub site: Option<String>,
    /// One vendor.
    pub vendor: Option<String>,
    /// One health (sites, tunnels, devices).
    pub health: Option<Health>,
    /// One sync state (sites, tunnels, devices).
    pub sync: Option<Sync>,
    /// One state (operations).
    pub state: Option<OperationState>,
    /// Only what a person should look at: neither healthy nor synced; open; not ended; refused.
    pub attention: bool,
}

/// Which part of a list.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The cursor of the page before; none for the first.
    pub after: Option<Cursor>,
    /// How many rows; 0 means 100.
    pub limit: u32,
}

/// The place behind a page: its last row's key. Opaque to callers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(Vec<String>);

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Listed<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// The cursor for the next page; none when this is the last.
    pub next: Option<Cursor>,
}

/// How a table is listed: its name, the key it is ordered by with each column's type, and the way.
struct List {
    table: &'static str,
    key: &'static [(&'static str, &'static str)],
    descending: bool,
}

const OBJECT: &[(&str, &str)] = &[("customer", "text"), ("id", "text")];
const OUTCOME: &[(&str, &str)] = &[("time", "timestamptz"), ("command", "uuid")];

/// Conditions with their values, all of them text that Postgres casts.
#[derive(Default)]
struct Where {
    conditions: Vec<String>,
    values: Vec<String>,
}

impl Where {
    fn equals(&mut self, column: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.values.push(value.to_string());
            self.conditions.push(format!("t.{column} = ${}", self.values.len()));
        }
    }

    fn when(&mut self, holds: bool, condition: &str) {
        if holds {
            self.conditions.push(condition.to_owned());
        }
    }

    fn behind(&mut self, list: &List, cursor: &Cursor) {
        // A cursor of another list has another number of parts: it is no place in this one.
        if cursor.0.len() != list.key.len() {
            return;
        }
        let columns: Vec<String> = list.key.iter().map(|(name, _)| format!("t.{name}")).collect();
        let places: Vec<String> = list
            .key
            .iter()
            .zip(&cursor.0)
            .map(|((_, kind), value)| {
                self.values.push(value.clone());
                format!("${}::{kind}", self.values.len())
            })
            .collect();
        let than = if list.descending { "<" } else { ">" };
        self.conditions.push(format!("({}) {than} ({})", columns.join(", "), places.join(", ")));
    }
}

async fn list<T: DeserializeOwned>(
    pool: &PgPool,
    list: &List,
    mut filter: Where,
    page: &Page,
) -> Result<Listed<T>, Error> {
    if let Some(cursor) = &page.after {
        filter.behind(list, cursor);
    }
    let limit = if page.limit == 0 { 100 } else { page.limit.min(MOST) } as usize;
    let way = if list.descending { " DESC" } else { "" };
    let order: Vec<String> = list.key.iter().map(|(name, _)| format!("t.{name}{way}")).collect();
    let key: Vec<String> = list.key.iter().map(|(name, _)| format!("t.{name}::text")).collect();
    let conditions =
        if filter.conditions.is_empty() { "true".to_owned() } else { filter.conditions.join(" AND ") };
    let sql = format!(
        "SELECT row_to_json(t)::text, ARRAY[{}] FROM public.{} t WHERE {conditions} ORDER BY {} LIMIT {}",
        key.join(", "),
        list.table,
        order.join(", "),
        limit + 1
    );
    let mut query = sqlx::query_as::<_, (String, Vec<String>)>(&sql);
    for value in filter.values {
        query = query.bind(value);
    }
    let mut found = query.fetch_all(pool).await?;
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(|(_, key)| Cursor(key.clone()));
    let rows = found.iter().map(|(text, _)| parse(list.table, text)).collect::<Result<_, _>>()?;
    Ok(Listed { rows, next })
}

fn of_object(filter: &Filter) -> Where {
    let mut conditions = Where::default();
    conditions.equals("customer", filter.customer.as_ref());
    conditions.equals("id", filter.id.as_ref());
    conditions.equals("vendor", filter.vendor.as_ref());
    conditions.equals("health", filter.health.map(Health::as_str));
    conditions.equals("sync", filter.sync.map(Sync::as_str));
    conditions.when(filter.attention, "(t.health <> 'Healthy' OR t.sync <> 'Synced')");
    conditions
}

/// Customers by name. `attention`: with something degraded.
pub async fn customers(pool: &PgPool, filter: &Filter, page: &Page) -> Result<Listed<CustomerRow>, Error> {
    let mut conditions = Where::default();
    conditions.equals("customer", filter.customer.as_ref());
    conditions.when(filter.attention, "t.sites_degraded + t.tunnels_degraded + t.devices_degraded > 0");
    let by = List { table: "customers", key: &[("customer", "text")], descending: false };
    list(pool, &by, conditions, page).await
}

/// Sites by customer and name.
pub async fn sites(pool: &PgPool, filter: &Filter, page: &Page) -> Result<Listed<SiteRow>, Error> {
    let by = List { table: "sites", key: OBJECT, descending: false };
    list(pool, &by, of_object(filter), page).await
}

/// Tunnels by customer and name.
pub async fn tunnels(pool: &PgPool, filter: &Filter, page: &Page) -> Result<Listed<TunnelRow>, Error> {
    let mut conditions = of_object(filter);
    conditions.equals("site", filter.site.as_ref());
    let by = List { table: "tunnels", key: OBJECT, descending: false };
    list(pool, &by, conditions, page).await
}

/// Devices by customer and name.
pub async fn devices(pool: &PgPool, filter: &Filter, page: &Page) -> Result<Listed<DeviceRow>, Error> {
    let mut conditions = of_object(filter);
    conditions.equals("site", filter.site.as_ref());
    let by = List { table: "devices", key: OBJECT, descending: false };
    list(pool, &by, conditions, page).await
}

/// Operations, the newest first, with what they wait for now. `attention`: not ended, or failed.
pub async fn operations(pool: &PgPool, filter: &Filter, page: &Page) -> Result<Listed<OperationRow>, Error> {
    let mut conditions = Where::default();
    conditions.equals("customer", filter.customer.as_ref());
    conditions.equals("kind", filter.kind);
    conditions.equals("id", filter.id.as_ref());
    conditions.equals("vendor", filter.vendor.as_ref());
    conditions.equals("state", filter.state.map(OperationState::as_str));
    conditions.when(filter.attention, "t.state NOT IN ('succeeded', 'superseded', 'withdrawn', 'cancelled')");
    let key = &[("queued_at", "timestamptz"), ("order_id", "uuid")];
    list(pool, &List { table: "operations_now", key, descending: true }, conditions, page).await
}

/// The calls and log lines of an order, the oldest first.
pub async fn run_log(
    pool: &PgPool,
    customer: &CustomerId,
    order: OrderId,
    page: &Page,
) -> Result<Listed<RunLogRow>, Error> {
    let mut conditions = Where::default();
    conditions.equals("customer", Some(customer));
    conditions.when(true, &format!("t.order_id = '{order}'::uuid"));
    let by = List { table: "run_log", key: &[("sequence", "bigint")], descending: false };
    list(pool, &by, conditions, page).await
}

/// Drift reports, the newest first. `attention`: open.
pub async fn drift(pool: &PgPool, filter: &Filter, page: &Page) -> Result<Listed<DriftReportRow>, Error> {
    let mut conditions = Where::default();
    conditions.equals("customer", filter.customer.as_ref());
    conditions.equals("kind", filter.kind);
    conditions.equals("id", filter.id.as_ref());
    conditions.when(filter.attention, "t.resolved_at IS NULL");
    let key = &[("found_at", "timestamptz"), ("kind", "text"), ("id", "text"), ("check_command", "uuid")];
    list(pool, &List { table: "drift_reports", key, descending: true }, conditions, page).await
}

/// Plans, the newest first. `attention`: those that wait for approvals, and are not out of date.
pub async fn plans(pool: &PgPool, filter: &Filter, page: &Page) -> Result<Listed<PlanRow>, Error> {
    let mut conditions = Where::default();
    conditions.equals("customer", filter.customer.as_ref());
    conditions.equals("site", filter.id.as_ref());
    conditions.when(filter.attention, "t.state = 'waiting' AND t.expires_at > now()");
    let key = &[("planned_at", "timestamptz"), ("site", "text"), ("order_id", "uuid")];
    list(pool, &List { table: "plans", key, descending: true }, conditions, page).await
}

/// A customer's events, the newest first.
pub async fn timeline(
    pool: &PgPool,
    customer: &CustomerId,
    filter: &Filter,
    page: &Page,
) -> Result<Listed<TimelineRow>, Error> {
    let mut conditions = Where::default();
    conditions.equals("customer", Some(customer));
    conditions.equals("kind", filter.kind);
    conditions.equals("id", filter.id.as_ref());
    let key = &[("sequence", "bigint"), ("index", "integer")];
    list(pool, &List { table: "timeline", key, descending: true }, conditions, page).await
}

/// Outcomes, the newest first. `attention`: refused.
pub async fn outcomes(pool: &PgPool, filter: &Filter, page: &Page) -> Result<Listed<OutcomeRow>, Error> {
    let mut conditions = Where::default();
    conditions.equals("customer", filter.customer.as_ref());
    conditions.equals("kind", filter.kind);
    conditions.equals("id", filter.id.as_ref());
    conditions.when(filter.attention, "t.status = 'refused'");
    let by = List { table: "outcomes", key: OUTCOME, descending: true };
    list(pool, &by, conditions, page).await
}

/// The outcome of a command; none while it is not known.
pub async fn outcome(
    pool: &PgPool,
    customer: &CustomerId,
    command: CommandId,
) -> Result<Option<OutcomeRow>, Error> {
    let mut conditions = Where::default();
    conditions.equals("customer", Some(customer));
    conditions.when(true, &format!("t.command = '{command}'::uuid"));
    let by = List { table: "outcomes", key: OUTCOME, descending: true };
    Ok(list(pool, &by, conditions, &Page::default()).await?.rows.pop())
}

/// Vendor accounts with their limits and what waits for them, by name.
pub async fn vendor_budgets(pool: &PgPool) -> Result<Vec<VendorBudget>, Error> {
    let sql = "SELECT row_to_json(b)::text FROM public.vendor_budgets b ORDER BY vendor, account";
    let rows: Vec<String> = sqlx::query_scalar(sql).fetch_all(pool).await?;
    rows.iter().map(|text| parse("vendor_budgets", text)).collect()
}

/// The newest rollout of each vendor's template, by vendor.
pub async fn rollouts(pool: &PgPool) -> Result<Vec<RolloutRow>, Error> {
    let sql = "SELECT row_to_json(r)::text FROM public.rollouts r ORDER BY vendor";
    let rows: Vec<String> = sqlx::query_scalar(sql).fetch_all(pool).await?;
    rows.iter().map(|text| parse("rollouts", text)).collect()
}

/// How far the newest rollout of a vendor's template is with each customer, by customer.
pub async fn rollout_customers(pool: &PgPool, vendor: &VendorId) -> Result<Vec<RolloutCustomer>, Error> {
    let sql =
        "SELECT row_to_json(r)::text FROM public.rollout_customers r WHERE vendor = $1 ORDER BY customer";
    let rows: Vec<String> = sqlx::query_scalar(sql).bind(vendor.as_str()).fetch_all(pool).await?;
    rows.iter().map(|text| parse("rollout_customers", text)).collect()
}

/// Changes that wait for something before there is an order for them, by customer.
pub async fn held(pool: &PgPool, filter: &Filter, page: &Page) -> Result<Listed<HeldChange>, Error> {
    let mut conditions = Where::default();
    conditions.equals("customer", filter.customer.as_ref());
    conditions.equals("kind", filter.kind);
    conditions.equals("id", filter.id.as_ref());
    conditions.equals("vendor", filter.vendor.as_ref());
    let key = &[("customer", "text"), ("kind", "text"), ("id", "text")];
    list(pool, &List { table: "held_changes", key, descending: false }, conditions, page).await
}

/// What has not ended of each customer at each vendor, counted, by customer and vendor.
pub async fn queue(pool: &PgPool, filter: &Filter, page: &Page) -> Result<Listed<QueueRow>, Error> {
    let mut conditions = Where::default();
    conditions.equals("customer", filter.customer.as_ref());
    conditions.equals("vendor", filter.vendor.as_ref());
    let key = &[("customer", "text"), ("vendor", "text")];
    list(pool, &List { table: "queue", key, descending: false }, conditions, page).await
}

/// Dead letters, the newest first. `attention`: nothing was done about them yet.
pub async fn dead_letters(
    pool: &PgPool,
    filter: &Filter,
    page: &Page,
) -> Result<Listed<DeadLetterRow>, Error> {
    let mut conditions = Where::default();
    conditions.equals("customer", filter.customer.as_ref());
    conditions.equals("vendor", filter.vendor.as_ref());
    conditions.when(filter.attention, "t.settled IS NULL");
    let by = List { table: "dead_letters", key: &[("sequence", "bigint")], descending: true };
    list(pool, &by, conditions, page).await
}

/// How far each reader is.
pub async fn projection_status(pool: &PgPool) -> Result<Vec<StatusRow>, Error> {
    let sql = "SELECT row_to_json(s)::text FROM public.projection_status s ORDER BY read_model, stream";
    let rows: Vec<String> = sqlx::query_scalar(sql).fetch_all(pool).await?;
    rows.iter().map(|text| parse("projection_status", text)).collect()
}
