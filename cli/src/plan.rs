//! Plans, as people read them.

use anyhow::Result;
use wanwright_projections::models::{PlanRow, PlanState};
use wanwright_projections::read::{self, Filter, Page};
use wanwright_schemas::Actor;
use wanwright_schemas::outcome::WouldPlan;
use wanwright_schemas::plan::{PlanAction, PlanChange, PlanCounts, PlanField};

use crate::cli::{PlanArgs, PlanCommand, PlanShowArgs, RowFormat};
use crate::exit::{Exit, Usage};
use crate::output;

/// Most plans of a stack that are looked through for one with a hash.
const MOST: u32 = 1_000;

/// `wanwright plan`.
pub async fn run(args: PlanArgs) -> Result<Exit> {
    match args.what {
        PlanCommand::Show(args) => show(args).await,
    }
}

async fn show(args: PlanShowArgs) -> Result<Exit> {
    let name = || Usage(format!("`{}`: name the site as CUSTOMER/SITE", args.site));
    let (customer, site) = args.site.split_once('/').ok_or_else(name)?;
    let customer = customer.parse().map_err(|_| name())?;
    let pool = args.connection.postgres(1).await?;
    let filter = Filter { customer: Some(customer), id: Some(site.to_owned()), ..Filter::default() };
    let limit = if args.hash.is_some() { MOST } else { 1 };
    let rows = read::plans(&pool, &filter, &Page { after: None, limit }).await?.rows;
    let wanted = |row: &PlanRow| args.hash.as_ref().is_none_or(|hash| row.hash.to_string() == *hash);
    let Some(row) = rows.into_iter().find(wanted) else {
        output::note(format!("there is no such plan of {}", args.site));
        return Ok(Exit::Different);
    };
    match args.output {
        RowFormat::Json | RowFormat::Jsonl => output::line(serde_json::to_string(&row)?),
        RowFormat::Name => output::line(row.hash),
        RowFormat::Table => print(&row),
    }
    Ok(Exit::Done)
}

fn print(row: &PlanRow) {
    let PlanRow { customer, site, generation, hash, .. } = row;
    let (create, update, delete, replace) = (row.creates, row.updates, row.deletes, row.replaces);
    output::line(format!("plan of site {customer}/{site}, generation {generation}  {hash}"));
    output::line(format!("  {}", summary(PlanCounts { create, update, delete, replace })));
    output::line(format!("  {}", standing(row)));
    output::line(format!("  made {:.0}, valid until {:.0}", row.planned_at, row.expires_at));
    lines(&row.changes, row.left_out).iter().for_each(|line| output::line(format!("  {line}")));
    if row.state == PlanState::Waiting {
        let body = format!("{{\"generation\":{generation},\"plan\":\"{hash}\"}}");
        output::line(format!("to approve it: wanwright send site approve {customer}/{site} '{body}'"));
    }
}

/// How a plan stands, in a sentence.
fn standing(row: &PlanRow) -> String {
    let because =
        row.because.as_deref().map(|because| format!(": {}", printable(because))).unwrap_or_default();
    let by = listed(&row.approved_by);
    match row.state {
        PlanState::Waiting => {
            let needed = row.approvals.as_ref().map_or(1, |approvals| approvals.by);
            let group = row.approvals.as_ref().and_then(|approvals| approvals.group.as_ref());
            let whose = group.map(|group| format!(" of the group {group}")).unwrap_or_default();
            let given = row.approved_by.len();
            format!("waits for approvals: {given} of {needed}{whose}; not by {}", listed(&row.requested_by))
        }
        PlanState::Approved => format!("approved by {by}"),
        PlanState::Free => "needs no approval".to_owned(),
        PlanState::Rejected => format!("rejected{because}"),
        PlanState::Applied if row.approved_by.is_empty() => "applied".to_owned(),
        PlanState::Applied => format!("applied, as approved by {by}"),
        PlanState::Stale => format!("stale{because}"),
        PlanState::Void => "void: something else is asked for, or a newer plan was made".to_owned(),
    }
}

fn listed(actors: &[Actor]) -> String {
    if actors.is_empty() {
        return "nobody".to_owned();
    }
    actors.iter().map(Actor::as_str).collect::<Vec<_>>().join(", ")
}

/// Prints what Terraform would do, from an answer to a dry run.
pub fn print_preview(would: &WouldPlan) {
    match (&would.plan, &would.trouble) {
        (Some(plan), _) => {
            output::line(format!("  plan of {}: {}", would.target, summary(plan.counts)));
            lines(&plan.changes, plan.left_out).iter().for_each(|line| output::line(format!("    {line}")));
        }
        (None, Some(trouble)) => {
            output::line(format!("  no plan of {}: {}: {}", would.target, trouble.code, trouble.message));
        }
        (None, None) => {}
    }
}

/// How many resources a plan would change, in words.
fn summary(counts: PlanCounts) -> String {
    let PlanCounts { create, update, delete, replace } = counts;
    if counts.is_empty() {
        return "nothing to change".to_owned();
    }
    format!("{create} to create, {update} to update, {delete} to delete, {replace} to replace")
}

/// What a plan would change, a line for each resource and each field.
fn lines(changes: &[PlanChange], left_out: u64) -> Vec<String> {
    let mut lines = Vec::new();
    for change in changes {
        let sign = match change.action {
            PlanAction::Create => "+",
            PlanAction::Update => "~",
            PlanAction::Delete => "-",
            PlanAction::Replace => "-/+",
        };
        lines.push(format!("{sign} {}", printable(&change.address)));
        lines.extend(change.fields.iter().map(|field| format!("      {}", of_field(field))));
    }
    if left_out > 0 {
        lines.push(format!("  and {left_out} more fields"));
    }
    lines
}

fn of_field(field: &PlanField) -> String {
    let name = printable(&field.field);
    if field.sensitive {
        return format!("{name}  (sensitive)");
    }
    if field.too_long {
        return format!("{name}  (too long to be shown)");
    }
    let after = if field.known_after { "(known after apply)".to_owned() } else { field.after.to_string() };
    if field.before.is_null() {
        return format!("{name} = {}", printable(&after));
    }
    format!("{name}: {} -> {}", printable(&field.before.to_string()), printable(&after))
}

/// What a vendor or a template says must not move the cursor.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}
