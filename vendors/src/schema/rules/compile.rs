//! From text to a rule.

use std::sync::Arc;
use std::thread;

use cel::common::ast::{Expr, IdedExpr};
use cel::parser::{Expression, Parser};
use serde_json::{Map, Value};

use super::{Rule, typed};
use crate::schema::parse::error;
use crate::schema::{Node, SchemaError};
use crate::suggest;

/// The keyword of a place's rules.
pub(in crate::schema) const KEY: &str = "x-validations";

/// Longest rule, in bytes.
const LONGEST: usize = 1024;

/// Most rules of one place.
const MOST: usize = 16;

/// Deepest nesting of a rule; it bounds the recursion of typing and evaluating.
const DEEPEST: u16 = 32;

/// The parser's stack: it recurses several times for each bracket.
const STACK: usize = 16 << 20;

/// Reads the rules of a place that has been read otherwise.
pub(in crate::schema) fn read(
    node: &Node,
    fields: &Map<String, Value>,
    path: &str,
    in_list: bool,
) -> Result<Vec<Rule>, SchemaError> {
    let rules = match fields.get(KEY) {
        None => return Ok(Vec::new()),
        Some(Value::Array(rules)) if rules.len() <= MOST => rules,
        Some(_) => return Err(error(path, KEY, format!("is not a list of at most {MOST} rules"))),
    };
    rules
        .iter()
        .enumerate()
        .map(|(index, rule)| one(node, rule, path, &format!("{KEY}[{index}]"), in_list))
        .collect()
}

fn one(node: &Node, json: &Value, path: &str, key: &str, in_list: bool) -> Result<Rule, SchemaError> {
    const KNOWN: &[&str] = &["rule", "message", "field"];
    let Value::Object(fields) = json else {
        return Err(error(path, key, "is not an object: write { \"rule\": …, \"message\": … }"));
    };
    if let Some(unknown) = fields.keys().find(|key| !KNOWN.contains(&key.as_str())) {
        let at = format!("{key}.{unknown}");
        return Err(error(path, &at, format!("is not known: {}", suggest::advice(unknown, KNOWN))));
    }
    let text = |name: &str| match fields.get(name) {
        None => Ok(None),
        Some(Value::String(text)) if !text.trim().is_empty() && text.len() <= LONGEST => {
            Ok(Some(text.clone()))
        }
        Some(_) => {
            Err(error(path, &format!("{key}.{name}"), format!("is not a text of 1 to {LONGEST} bytes")))
        }
    };
    let needed = |name: &str| {
        text(name)?.ok_or_else(|| {
            error(path, &format!("{key}.{name}"), "is missing: a rule has both rule and message")
        })
    };
    let (source, message, field) = (needed("rule")?, needed("message")?, text("field")?);
    if let Some(field) = &field
        && node.at(field).is_none()
    {
        let message = format!("names `{field}`, which is no property here");
        return Err(error(path, &format!("{key}.field"), message));
    }
    let at = |why: String| error(path, &format!("{key}.rule"), format!("`{source}`: {why}"));
    let expression = parsed(&source).map_err(at)?;
    let typed::Checked { cost, transition, reads } = typed::check(&expression, node).map_err(at)?;
    if transition && in_list {
        return Err(at("the items of a list have no identity, so `oldSelf` has no meaning here".to_owned()));
    }
    Ok(Rule { source, message, field, transition, reads, cost, expression: Arc::new(expression) })
}

/// Parses on a stack of its own: where this is called from there may be little left.
fn parsed(source: &str) -> Result<Expression, String> {
    let parse = move || {
        let expression = Parser::new().max_recursion_depth(DEEPEST).parse(source).map_err(|errors| {
            let first = errors.errors.first().map_or_else(|| errors.to_string(), |error| error.msg.clone());
            format!("does not parse: {}", super::super::check::clipped(&first, 200))
        })?;
        // A long sum is flat to the parser and deep to whoever evaluates it.
        match depth(&expression) {
            depth if depth > usize::from(DEEPEST) => {
                Err(format!("is nested {depth} deep, more than {DEEPEST}"))
            }
            _ => Ok(expression),
        }
    };
    thread::scope(|scope| {
        let spawned = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, parse);
        let thread = spawned.map_err(|error| format!("could not be compiled: {error}"))?;
        thread.join().unwrap_or_else(|_| Err("does not parse".to_owned()))
    })
}

fn depth(expression: &IdedExpr) -> usize {
    let deepest = |below: &[&IdedExpr]| below.iter().map(|below| depth(below)).max().unwrap_or(0);
    1 + match &expression.expr {
        Expr::Call(call) => deepest(&call.args.iter().chain(call.target.as_deref()).collect::<Vec<_>>()),
        Expr::Select(select) => depth(&select.operand),
        Expr::List(list) => deepest(&list.elements.iter().collect::<Vec<_>>()),
        Expr::Comprehension(fold) => {
            deepest(&[&fold.iter_range, &fold.accu_init, &fold.loop_cond, &fold.loop_step, &fold.result])
        }
        // Whatever else there is, no rule may have.
        _ => 0,
    }
}
