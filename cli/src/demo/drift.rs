//! Two changes at the vendor behind wanwright's back, and the look that finds them.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sqlx::Row;

use crate::endpoints::PERSON;
use crate::output::{self, line, note};
use crate::stack::Stack;
use crate::{drift, get};

/// What is changed: kind, customer and id, the vendor's field, its new value.
const CHANGES: [(&str, &str, &str, &str, &str); 2] = [
    ("site", "acme", "oslo-01", "location", "\"Bergen\""),
    ("device", "globex", "lyon-ap-03", "vlan", "999"),
];

/// Longest wait for the looks.
const LIMIT: Duration = Duration::from_secs(180);

/// Changes one site and one device at the vendor, has everything looked at, and prints status and drift from Postgres.
/// Answers whether both were found.
pub async fn cause_and_find(stack: &Stack) -> Result<bool> {
    for (kind, customer, id, field, value) in CHANGES {
        let name = format!("{customer}.{id}");
        back_door(stack, kind, &name, &json!({ field: serde_json::from_str::<Value>(value)? })).await?;
        note(format!(
            "  behind wanwright's back: {kind} {customer}/{id} now has {field} = {value} at the vendor"
        ));
    }
    let customers = drift::everybody(&stack.pool).await?;
    drift::check(&stack.nats, &stack.pool, PERSON, &customers, LIMIT).await?;
    line("");
    line(status(stack).await?);
    let reports = drift::open_reports(&stack.pool, &customers).await?;
    line("");
    line(get::drift_table(&reports));
    line("");
    let found = |kind: &str, customer: &str, id: &str, field: &str| {
        reports.iter().any(|report| {
            let is = |key: &str, text: &str| report.get(key).and_then(Value::as_str) == Some(text);
            let fields = report.get("fields").and_then(Value::as_array);
            is("kind", kind)
                && is("customer", customer)
                && is("id", id)
                && fields.is_some_and(|fields| {
                    fields.iter().any(|drift| drift.get("field") == Some(&json!(field)))
                })
        })
    };
    let both = CHANGES.iter().all(|(kind, customer, id, field, _)| found(kind, customer, id, field));
    note(if both { "Both drifts were found." } else { "Not every drift was found." });
    Ok(both)
}

/// Changes an object at the simulated vendor without a call of ours.
async fn back_door(stack: &Stack, kind: &str, name: &str, patch: &Value) -> Result<()> {
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?;
    let (base, token) = (&stack.endpoints.simulator, &stack.endpoints.simulator_admin_token);
    let listed =
        client.get(format!("{base}/_sim/objects/{kind}")).query(&[("name", name)]).bearer_auth(token);
    let listed: Value = listed.send().await?.error_for_status()?.json().await?;
    let id = listed.pointer("/items/0/id").and_then(Value::as_str);
    let id = id.with_context(|| format!("the vendor has no {kind} named {name}"))?;
    let patched = client.patch(format!("{base}/_sim/objects/{kind}/{id}")).bearer_auth(token).json(patch);
    patched.send().await?.error_for_status()?;
    Ok(())
}

/// How the fleet is: a line per customer and kind.
async fn status(stack: &Stack) -> Result<String> {
    let rows = sqlx::query(
        "SELECT customer, kind, count(*) AS objects, count(*) FILTER (WHERE health = 'Healthy') AS healthy,
                count(*) FILTER (WHERE sync = 'Synced') AS synced, count(*) FILTER (WHERE reason = 'Drifted') AS drifted
         FROM status GROUP BY customer, kind ORDER BY customer, kind DESC",
    )
    .fetch_all(&stack.pool)
    .await?;
    let mut cells = Vec::new();
    for row in rows {
        let count = |column: &str| row.try_get::<i64, _>(column).map(|count| count.to_string());
        cells.push(vec![
            row.try_get("customer")?,
            row.try_get("kind")?,
            count("objects")?,
            count("healthy")?,
            count("synced")?,
            count("drifted")?,
        ]);
    }
    Ok(output::table(&["customer", "kind", "objects", "healthy", "synced", "drifted"], cells))
}
