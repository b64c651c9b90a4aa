//! What all rules of a schema together may cost.

use super::Rule;
use crate::schema::{Node, SchemaError, Shape, UNBOUNDED};

/// Most steps the rules of one schema may take for one command. A step takes about 0.1 microseconds.
pub(super) const BUDGET: u64 = 200_000;

/// Refuses a schema whose rules could take longer than a command may.
pub(in crate::schema) fn within_budget(root: &Node) -> Result<(), SchemaError> {
    let mut dearest = None;
    let total = visit(root, "", 1, &mut dearest);
    match dearest {
        Some((cost, path, rule)) if total > BUDGET => Err(SchemaError {
            path,
            message: format!(
                "the rules may take {total} steps, more than {BUDGET}, of which `{rule}` takes {cost}: give the \
                 lists and texts it reads a smaller maxItems and maxLength, or nest less"
            ),
        }),
        _ => Ok(()),
    }
}

type Dearest = Option<(u64, String, String)>;

fn visit(node: &Node, path: &str, times: u64, dearest: &mut Dearest) -> u64 {
    let mut total = 0_u64;
    for Rule { cost, source, .. } in &node.rules {
        let cost = cost.saturating_mul(times);
        total = total.saturating_add(cost);
        if dearest.as_ref().is_none_or(|(most, ..)| cost > *most) {
            *dearest = Some((cost, super::super::parse::join(path, super::KEY), source.clone()));
        }
    }
    let below = match &node.shape {
        Shape::Object { properties, .. } => properties
            .iter()
            .map(|(name, node)| {
                let at = super::super::parse::join(path, &format!("properties.{name}"));
                visit(node, &at, times, dearest)
            })
            .fold(0, u64::saturating_add),
        Shape::Array { items, most, .. } => {
            let times = times.saturating_mul(most.unwrap_or(UNBOUNDED));
            visit(items, &super::super::parse::join(path, "items"), times, dearest)
        }
        _ => 0,
    };
    total.saturating_add(below)
}
