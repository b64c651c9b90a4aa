//! `wanwright get`: rows of the read models, for people and for programs.

use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sqlx::PgPool;
use wanwright_nats::accounts::Role;
use wanwright_projections::Rebuilt;
use wanwright_projections::models::OutcomeRow;
use wanwright_projections::read::{self, Cursor, Filter, Listed, Page};
use wanwright_schemas::Kind;
use wanwright_schemas::subjects::events_stream;

use crate::cli::{GetArgs, RebuildArgs, RowFormat, Rows};
use crate::endpoints::Login;
use crate::exit::{Exit, Usage};
use crate::output;
use crate::reveal::Reveal;

/// A column of a table: its head and the JSON pointers of what it shows.
type Column = (&'static str, &'static str);

const CUSTOMERS: &[Column] = &[
    ("customer", "/customer"),
    ("sites", "/sites"),
    ("healthy", "/sites_healthy"),
    ("tunnels", "/tunnels"),
    ("healthy", "/tunnels_healthy"),
    ("devices", "/devices"),
    ("healthy", "/devices_healthy"),
    ("suspended", "/suspend_reason"),
    ("freezes", "/freezes"),
    ("changed", "/updated_at"),
];
const SITES: &[Column] = &[
    ("customer", "/customer"),
    ("site", "/id"),
    ("vendor", "/vendor"),
    ("health", "/health"),
    ("sync", "/sync"),
    ("gen", "/generation"),
    ("observed", "/observed_generation"),
    ("approval", "/approval/state"),
    ("waits until", "/postponement/until"),
    ("protected", "/protected"),
    ("lan", "/lan"),
    ("problem", "/failure_message"),
];
const TUNNELS: &[Column] = &[
    ("customer", "/customer"),
    ("tunnel", "/id"),
    ("site", "/spec/site"),
    ("health", "/health"),
    ("sync", "/sync"),
    ("gen", "/generation"),
    ("observed", "/observed_generation"),
    ("approval", "/approval/state"),
    ("waits until", "/postponement/until"),
    ("protected", "/protected"),
    ("inside", "/spec/inside"),
    ("problem", "/failure_message"),
];
const DEVICES: &[Column] = &[
    ("customer", "/customer"),
    ("device", "/id"),
    ("site", "/spec/site"),
    ("model", "/spec/model"),
    ("serial", "/spec/serial"),
    ("health", "/health"),
    ("sync", "/sync"),
    ("gen", "/generation"),
    ("observed", "/observed_generation"),
    ("approval", "/approval/state"),
    ("waits until", "/postponement/until"),
    ("protected", "/protected"),
    ("problem", "/failure_message"),
];
/// What `--reveal` shows besides.
const CONTACT: [Column; 4] = [
    ("name", "/contact/name"),
    ("email", "/contact/email"),
    ("phone", "/contact/phone"),
    ("note", "/contact/note"),
];
const OPERATIONS: &[Column] = &[
    ("customer", "/customer"),
    ("kind", "/kind"),
    ("id", "/id"),
    ("intent", "/intent"),
    ("gen", "/generation"),
    ("state", "/state"),
    ("instead of", "/replaced_from"),
    ("why waiting", "/waiting_for"),
    ("next", "/next_at"),
    ("tries", "/attempts"),
    ("resources", "/resources_total"),
    ("calls", "/calls"),
    ("cpu ms", "/cpu_millis"),
    ("MB", "/peak_kib"),
    ("problem", "/error_message"),
];
const HELD: &[Column] = &[
    ("customer", "/customer"),
    ("kind", "/kind"),
    ("id", "/id"),
    ("gen", "/generation"),
    ("why waiting", "/waiting_for"),
    ("until", "/next_at"),
    ("because", "/waiting_because"),
];
const BUDGETS: &[Column] = &[
    ("vendor", "/vendor"),
    ("account", "/account"),
    ("limits", "/limits"),
    ("last minute", "/used_last_minute"),
    ("waiting", "/waiting"),
    ("running", "/running"),
    ("retrying", "/retrying"),
    ("blocked until", "/blocked_until"),
    ("breaker", "/breaker"),
    ("paused", "/pause_reason"),
];
const QUEUE: &[Column] = &[
    ("customer", "/customer"),
    ("vendor", "/vendor"),
    ("waiting", "/waiting"),
    ("running", "/running"),
    ("retrying", "/retrying"),
    ("unknown", "/unknown"),
    ("why waiting", "/waiting_for"),
    ("retrying after", "/retrying_after"),
    ("oldest", "/oldest_at"),
    ("next", "/next_at"),
];
const ROLLOUTS: &[Column] = &[
    ("vendor", "/vendor"),
    ("rollout", "/number"),
    ("from", "/from_version"),
    ("to", "/to_version"),
    ("state", "/state"),
    ("wave", "/wave"),
    ("of", "/waves"),
    ("stacks", "/stacks"),
    ("waiting", "/waiting"),
    ("progressing", "/progressing"),
    ("applied", "/applied"),
    ("failed", "/failed"),
    ("held", "/held"),
    ("taken back", "/taken_back"),
    ("by", "/actor"),
    ("why", "/why"),
];
const ROLLOUT_CUSTOMERS: &[Column] = &[
    ("vendor", "/vendor"),
    ("rollout", "/number"),
    ("customer", "/customer"),
    ("stacks", "/stacks"),
    ("waiting", "/waiting"),
    ("progressing", "/progressing"),
    ("applied", "/applied"),
    ("failed", "/failed"),
    ("held", "/held"),
    ("taken back", "/taken_back"),
];
const DEAD: &[Column] = &[
    ("letter", "/sequence"),
    ("time", "/time"),
    ("customer", "/customer"),
    ("vendor", "/vendor"),
    ("what", "/what"),
    ("reason", "/reason"),
    ("message", "/message"),
    ("settled", "/settled"),
    ("by", "/settled_by"),
];
const TIMELINE: &[Column] = &[
    ("time", "/time"),
    ("customer", "/customer"),
    ("kind", "/kind"),
    ("id", "/id"),
    ("actor", "/actor"),
    ("what", "/summary"),
];
const OUTCOMES: &[Column] = &[
    ("time", "/time"),
    ("customer", "/customer"),
    ("kind", "/kind"),
    ("id", "/id"),
    ("command", "/command"),
    ("status", "/status"),
    ("code", "/code"),
    ("message", "/message"),
];
const PROJECTIONS: &[Column] = &[
    ("read model", "/read_model"),
    ("stream", "/stream"),
    ("state", "/state"),
    ("sequence", "/sequence"),
    ("last", "/stream_last"),
    ("problem", "/last_error"),
];

const PLANS: &[Column] = &[
    ("customer", "/customer"),
    ("site", "/site"),
    ("generation", "/generation"),
    ("state", "/state"),
    ("create", "/creates"),
    ("update", "/updates"),
    ("delete", "/deletes"),
    ("replace", "/replaces"),
    ("approved by", "/approved_by"),
    ("planned", "/planned_at"),
    ("expires", "/expires_at"),
    ("hash", "/hash"),
];

/// Shows rows.
pub async fn run(args: GetArgs) -> Result<Exit> {
    let pool = args.connection.postgres(1).await?;
    if let (Rows::Customers, Some(id)) = (args.rows, &args.id) {
        return overview(&pool, id).await;
    }
    let filter = filter(&args)?;
    let after = args.after.as_deref().map(serde_json::from_str::<Cursor>).transpose();
    let after = after
        .map_err(|_| Usage("--after takes the `next` of an earlier answer, as it was printed".to_owned()))?;
    let page = Page { after, limit: args.limit };
    let (columns, mut listed) = match args.rows {
        Rows::Customers => (CUSTOMERS, values(read::customers(&pool, &filter, &page).await?)?),
        Rows::Sites => (SITES, values(read::sites(&pool, &filter, &page).await?)?),
        Rows::Tunnels => (TUNNELS, values(read::tunnels(&pool, &filter, &page).await?)?),
        Rows::Devices => (DEVICES, values(read::devices(&pool, &filter, &page).await?)?),
        Rows::Operations => (OPERATIONS, values(read::operations(&pool, &filter, &page).await?)?),
        Rows::Held => (HELD, values(read::held(&pool, &filter, &page).await?)?),
        Rows::Timeline => {
            let of = filter
                .customer
                .clone()
                .ok_or_else(|| Usage("a timeline is a customer's: add -c CUSTOMER".to_owned()))?;
            (TIMELINE, values(read::timeline(&pool, &of, &filter, &page).await?)?)
        }
        Rows::Outcomes => (OUTCOMES, values(outcomes(&pool, &args, &filter, &page).await?)?),
        Rows::Projections => {
            let rows = read::projection_status(&pool).await?;
            (PROJECTIONS, values(Listed { rows, next: None })?)
        }
        Rows::Budgets => {
            let rows = read::vendor_budgets(&pool).await?;
            (BUDGETS, values(Listed { rows, next: None })?)
        }
        Rows::Rollouts => match &args.id {
            None => (ROLLOUTS, values(Listed { rows: read::rollouts(&pool).await?, next: None })?),
            Some(vendor) => {
                let vendor = vendor.parse().map_err(|error| Usage(format!("{vendor}: {error}")))?;
                let rows = read::rollout_customers(&pool, &vendor).await?;
                (ROLLOUT_CUSTOMERS, values(Listed { rows, next: None })?)
            }
        },
        Rows::Queue => (QUEUE, values(read::queue(&pool, &filter, &page).await?)?),
        Rows::Dead => (DEAD, values(read::dead_letters(&pool, &filter, &page).await?)?),
        Rows::Plans => (PLANS, values(read::plans(&pool, &filter, &page).await?)?),
        Rows::Drift => {
            let listed = values(read::drift(&pool, &filter, &page).await?)?;
            if args.output == RowFormat::Table {
                output::line(drift_table(&listed.rows));
                return Ok(Exit::Done);
            }
            (CUSTOMERS, listed)
        }
    };
    let mut columns = columns.to_vec();
    if args.reveal {
        reveal(&args, &mut listed).await?;
        columns.extend(CONTACT);
    }
    print(&columns, &listed, args.output, args.rows)?;
    Ok(Exit::Done)
}

/// Puts what contacts say into the rows.
async fn reveal(args: &GetArgs, listed: &mut Listed<Value>) -> Result<()> {
    let kind = if args.rows == Rows::Sites { Kind::Site } else { Kind::Device };
    let nats = args.connection.nats(Login::Role(Role::Reader), "wanwright-get").await?;
    let mut reveal = Reveal::new(args.master_key.keys(nats, &args.connection.home));
    for row in &mut listed.rows {
        reveal.row(kind, row).await?;
    }
    Ok(())
}

/// Outcomes, or the one of a command.
async fn outcomes(pool: &PgPool, args: &GetArgs, filter: &Filter, page: &Page) -> Result<Listed<OutcomeRow>> {
    let Some(id) = &args.id else { return Ok(read::outcomes(pool, filter, page).await?) };
    let command = id.parse().map_err(|error| Usage(format!("{error}")))?;
    let of = filter.customer.clone();
    let of = of.ok_or_else(|| Usage("an outcome is a customer's: add -c CUSTOMER".to_owned()))?;
    let rows = read::outcome(pool, &of, command).await?.into_iter().collect();
    Ok(Listed { rows, next: None })
}

fn filter(args: &GetArgs) -> Result<Filter> {
    let objects = matches!(args.rows, Rows::Sites | Rows::Tunnels | Rows::Devices);
    if args.health.is_some() && !objects {
        return Err(Usage("--health is for sites, tunnels and devices".to_owned()).into());
    }
    let at_vendors = matches!(args.rows, Rows::Operations | Rows::Held | Rows::Queue | Rows::Dead) || objects;
    if args.vendor.is_some() && !at_vendors {
        let what = "--vendor is for sites, tunnels, devices, operations, held, queue and dead";
        return Err(Usage(what.to_owned()).into());
    }
    if args.state.is_some() && args.rows != Rows::Operations {
        return Err(Usage("--state is for operations".to_owned()).into());
    }
    if args.reveal && !matches!(args.rows, Rows::Sites | Rows::Devices) {
        return Err(Usage("--reveal is for sites and devices".to_owned()).into());
    }
    if args.limit == 0 {
        return Err(Usage("--limit must be at least 1".to_owned()).into());
    }
    Ok(Filter {
        customer: args
            .customer
            .as_deref()
            .map(str::parse)
            .transpose()
            .map_err(|error| Usage(format!("{error}")))?,
        id: args.id.clone(),
        vendor: args.vendor.clone(),
        health: args.health.as_deref().map(|text| word("--health", text)).transpose()?,
        state: args.state.as_deref().map(|text| word("--state", text)).transpose()?,
        ..Filter::default()
    })
}

/// A word of a closed list, as its type reads it.
fn word<T: DeserializeOwned>(option: &str, text: &str) -> Result<T> {
    serde_json::from_value(Value::from(text))
        .map_err(|error| Usage(format!("{option} {text}: {error}")).into())
}

/// The one-document view of a customer.
async fn overview(pool: &PgPool, id: &str) -> Result<Exit> {
    let customer = id.parse().map_err(|error| Usage(format!("{error}")))?;
    match wanwright_projections::customer_overview(pool, &customer).await? {
        Some(overview) => {
            output::line(serde_json::to_string_pretty(&overview)?);
            Ok(Exit::Done)
        }
        None => {
            output::note(format!("there is no customer {id}"));
            Ok(Exit::Different)
        }
    }
}

fn values<T: Serialize>(listed: Listed<T>) -> Result<Listed<Value>> {
    let rows =
        listed.rows.iter().map(serde_json::to_value).collect::<Result<_, _>>().context("reading rows")?;
    Ok(Listed { rows, next: listed.next })
}

fn print(columns: &[Column], listed: &Listed<Value>, format: RowFormat, rows: Rows) -> Result<()> {
    match format {
        RowFormat::Json => output::line(json!({ "items": listed.rows, "next": listed.next })),
        RowFormat::Jsonl => listed.rows.iter().for_each(output::line),
        RowFormat::Name => listed.rows.iter().for_each(|row| output::line(name(row, rows))),
        RowFormat::Table => {
            let head: Vec<&str> = columns.iter().map(|(head, _)| *head).collect();
            let cells =
                |row: &Value| columns.iter().map(|(_, pointer)| cell(shown(row, pointer).as_ref())).collect();
            output::line(output::table(&head, listed.rows.iter().map(cells).collect()));
            if let Some(next) = &listed.next {
                output::note(format!("there is more: --after '{}'", serde_json::to_string(next)?));
            }
        }
    }
    Ok(())
}

fn name(row: &Value, rows: Rows) -> String {
    let text = |key: &str| row.get(key).and_then(Value::as_str).unwrap_or_default();
    match rows {
        Rows::Customers => format!("customer/{}", text("customer")),
        Rows::Sites => format!("site/{}/{}", text("customer"), text("id")),
        Rows::Tunnels => format!("tunnel/{}/{}", text("customer"), text("id")),
        Rows::Devices => format!("device/{}/{}", text("customer"), text("id")),
        Rows::Operations => format!("operation/{}", text("order_id")),
        Rows::Outcomes => format!("outcome/{}", text("command")),
        Rows::Budgets => format!("budget/{}/{}", text("vendor"), text("account")),
        Rows::Rollouts => format!("rollout/{}/{}", text("vendor"), cell(row.get("number"))),
        Rows::Queue => format!("queue/{}/{}", text("customer"), text("vendor")),
        Rows::Dead => format!("dead/{}", cell(row.get("sequence"))),
        Rows::Plans => format!("plan/{}/{}/{}", text("customer"), text("site"), text("hash")),
        Rows::Projections => format!("{}/{}", text("read_model"), text("stream")),
        Rows::Drift | Rows::Held | Rows::Timeline => {
            format!("{}/{}/{}", text("kind"), text("customer"), text("id"))
        }
    }
}

/// What a column shows of a row: a freeze is its name, and a line in a table is long enough.
fn shown(row: &Value, pointer: &str) -> Option<Value> {
    let value = row.pointer(pointer)?;
    match value {
        Value::Array(items) if pointer == "/freezes" => {
            Some(items.iter().filter_map(|freeze| freeze.get("name").cloned()).collect())
        }
        Value::Array(items) if pointer == "/limits" => {
            let limit =
                |item: &Value| format!("{} {}/s", cell(item.get("name")), cell(item.get("per_second")));
            Some(Value::from(items.iter().map(limit).collect::<Vec<_>>()))
        }
        Value::Object(counts) if pointer == "/waiting_for" || pointer == "/retrying_after" => {
            let count = |(what, orders): (&String, &Value)| format!("{what} {orders}");
            Some(Value::from(counts.iter().map(count).collect::<Vec<_>>()))
        }
        Value::Number(total) if pointer == "/resources_total" => {
            Some(Value::from(format!("{}/{total}", cell(row.get("resources_done")))))
        }
        Value::Number(kib) if pointer == "/peak_kib" => {
            kib.as_u64().map(|kib| Value::from(kib.div_ceil(1024)))
        }
        Value::Number(from) if pointer == "/replaced_from" => {
            Some(Value::from(format!("{from}-{}", cell(row.get("replaced_to")))))
        }
        _ => Some(value.clone()),
    }
}

/// A value for people: times to the second. Control characters are left out: a vendor's text must not steer a terminal.
pub fn cell(value: Option<&Value>) -> String {
    let text = match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => output::time(text).unwrap_or_else(|| text.clone()),
        Some(Value::Array(items)) => items.iter().map(|item| cell(Some(item))).collect::<Vec<_>>().join(" "),
        Some(other) => other.to_string(),
    };
    text.chars().filter(|c| !c.is_control()).collect()
}

/// Drift reports as a table: a line per field.
pub fn drift_table(reports: &[Value]) -> String {
    let mut rows = Vec::new();
    for report in reports {
        for field in report.get("fields").and_then(Value::as_array).into_iter().flatten() {
            let get = |pointer: &str| cell(report.pointer(pointer));
            let gone =
                field.get("observed").is_some_and(Value::is_null) && field.get("field") == Some(&json!("id"));
            rows.push(vec![
                get("/customer"),
                get("/kind"),
                get("/id"),
                if gone { "(whole object)".to_owned() } else { cell(field.get("field")) },
                cell(field.get("desired")),
                if gone { "gone".to_owned() } else { cell(field.get("observed")) },
                get("/found_at"),
                if report.get("resolved_at").is_some_and(|at| !at.is_null()) {
                    get("/resolution")
                } else {
                    "open".to_owned()
                },
            ]);
        }
    }
    output::table(&["customer", "kind", "id", "field", "desired", "observed", "found", "state"], rows)
}

/// Prints what a rebuild did.
pub fn print_rebuilt(rebuilt: &Rebuilt) {
    let Rebuilt { stream, sequence, written, deleted } = rebuilt;
    output::line(format!("{stream}: rebuilt up to {sequence}, {written} rows mended, {deleted} removed"));
}

/// Builds the event read models anew from the streams, or compares them.
pub async fn rebuild(args: RebuildArgs) -> Result<Exit> {
    let nats = args.connection.nats(Login::Role(Role::Projections), "wanwright-rebuild").await?;
    let pool = args.connection.postgres(6).await?;
    if args.all {
        wanwright_projections::rebuild_all(&pool, &nats).await?.iter().for_each(print_rebuilt);
        return Ok(Exit::Done);
    }
    let mut different = 0;
    for partition in 0..nats.partitions {
        let stream = events_stream(partition);
        if args.verify {
            let verified = wanwright_projections::verify(&pool, &nats, &stream).await?;
            output::line(format!(
                "{stream}: {} customers compared at {}",
                verified.customers, verified.sequence
            ));
            for (customer, tables) in &verified.different {
                let tables = tables.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
                output::line(format!("  {customer} differs in {tables}"));
            }
            different += verified.different.len();
        } else {
            print_rebuilt(&wanwright_projections::rebuild(&pool, &nats, &stream).await?);
        }
    }
    Ok(if different == 0 { Exit::Done } else { Exit::Different })
}
