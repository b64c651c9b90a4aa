//! Typing a rule against its schema, and bounding what it costs.
//!
//! Whatever has no type here is no rule: maps, messages, bytes, unsigned numbers, null, time, patterns and every function
//! not named below. So a rule is a pure function of the settings, and its longest run is known before it ever runs.

use std::collections::BTreeSet;

use cel::common::ast::{CallExpr, ComprehensionExpr, Expr, IdedExpr, LiteralValue, SelectExpr};

use crate::schema::{Node, Shape, UNBOUNDED};
use crate::suggest;

/// What a part of a rule is, and how large it may be.
#[derive(Clone)]
enum Type<'a> {
    Bool,
    Int,
    Double,
    /// With its most characters.
    Text(u64),
    /// With its most items.
    List(Box<Type<'a>>, u64),
    /// The empty list, whose items could be anything.
    Nothing,
    Object(&'a Node),
}

/// A type, with the most steps it takes to find the value.
type Typed<'a> = (Type<'a>, u64);

/// What typing finds out about a rule.
pub(super) struct Checked {
    /// Most steps one evaluation takes.
    pub(super) cost: u64,
    /// Whether it looks at `oldSelf`.
    pub(super) transition: bool,
    /// The fields of the place that it reads; nothing when it reads the place as a whole.
    pub(super) reads: Option<BTreeSet<String>>,
}

/// Checks that a rule is true or false.
pub(super) fn check(expression: &IdedExpr, node: &Node) -> Result<Checked, String> {
    let mut present = BTreeSet::new();
    tested(expression, &mut present);
    let own = Type::of(node);
    let mut scope = Scope {
        variables: vec![("self".to_owned(), own.clone()), ("oldSelf".to_owned(), own.clone())],
        present,
        old: false,
        reads: Some(BTreeSet::new()),
    };
    let (answer, cost) = scope.infer(expression)?;
    if !matches!(answer, Type::Bool) {
        return Err(format!("is {}, and not true or false", answer.name()));
    }
    // What is read is turned into values of the language first.
    let copied = match (&scope.reads, &node.shape) {
        (Some(reads), Shape::Object { properties, .. }) => {
            let read = reads.iter().filter_map(|name| properties.get(name));
            read.map(|node| Type::of(node).weight()).fold(1, u64::saturating_add)
        }
        _ => own.weight(),
    };
    Ok(Checked { cost: cost.saturating_add(copied), transition: scope.old, reads: scope.reads })
}

/// The paths whose presence a rule tests.
fn tested(expression: &IdedExpr, found: &mut BTreeSet<String>) {
    match &expression.expr {
        Expr::Select(select) => {
            if select.test
                && let Some(path) = path(&select.operand)
            {
                found.insert(format!("{path}.{}", select.field));
            }
            tested(&select.operand, found);
        }
        Expr::Call(call) => {
            call.args.iter().chain(call.target.as_deref()).for_each(|part| tested(part, found))
        }
        Expr::List(list) => list.elements.iter().for_each(|part| tested(part, found)),
        Expr::Comprehension(fold) => {
            for part in [&fold.iter_range, &fold.loop_step] {
                tested(part, found);
            }
        }
        _ => {}
    }
}

fn path(expression: &IdedExpr) -> Option<String> {
    match &expression.expr {
        Expr::Ident(name) => Some(name.clone()),
        Expr::Select(select) if !select.test => Some(format!("{}.{}", path(&select.operand)?, select.field)),
        _ => None,
    }
}

struct Scope<'a> {
    variables: Vec<(String, Type<'a>)>,
    present: BTreeSet<String>,
    old: bool,
    reads: Option<BTreeSet<String>>,
}

impl<'a> Scope<'a> {
    fn infer(&mut self, expression: &IdedExpr) -> Result<Typed<'a>, String> {
        match &expression.expr {
            Expr::Literal(LiteralValue::Boolean(_)) => Ok((Type::Bool, 1)),
            Expr::Literal(LiteralValue::Int(_)) => Ok((Type::Int, 1)),
            Expr::Literal(LiteralValue::Double(_)) => Ok((Type::Double, 1)),
            Expr::Literal(LiteralValue::String(text)) => {
                Ok((Type::Text(text.inner().chars().count() as u64), 1))
            }
            Expr::Ident(name) => self.variable(name),
            Expr::Select(select) => self.select(select),
            Expr::List(list) => self.list(&list.elements),
            Expr::Call(call) => self.call(call),
            Expr::Comprehension(fold) => self.fold(fold),
            _ => Err(
                "uses what no rule may: null, bytes, unsigned numbers, maps and messages have no place here"
                    .to_owned(),
            ),
        }
    }

    fn variable(&mut self, name: &str) -> Result<Typed<'a>, String> {
        if matches!(name, "self" | "oldSelf") {
            self.reads = None;
        }
        self.known(name)
    }

    fn known(&mut self, name: &str) -> Result<Typed<'a>, String> {
        self.old |= name == "oldSelf";
        match self.variables.iter().rev().find(|(known, _)| known == name) {
            Some((_, kind)) => Ok((kind.clone(), 1)),
            None => Err(format!("there is no `{name}`: a rule knows `self` and `oldSelf`")),
        }
    }

    fn select(&mut self, select: &SelectExpr) -> Result<Typed<'a>, String> {
        let (of, cost) = match &select.operand.expr {
            Expr::Ident(name) if matches!(name.as_str(), "self" | "oldSelf") => {
                self.reads.as_mut().map(|reads| reads.insert(select.field.clone()));
                self.known(name)?
            }
            _ => self.infer(&select.operand)?,
        };
        let Type::Object(node) = of else {
            return Err(format!("`{}` is asked of {}, which has no fields", select.field, of.name()));
        };
        let Shape::Object { properties, required } = &node.shape else {
            return Err("a place without fields".to_owned());
        };
        let Some(found) = properties.get(&select.field) else {
            let known: Vec<&str> = properties.keys().map(String::as_str).collect();
            return Err(format!(
                "there is no field `{}`: {}",
                select.field,
                suggest::advice(&select.field, &known)
            ));
        };
        let cost = cost.saturating_add(1);
        if select.test {
            return Ok((Type::Bool, cost));
        }
        let path = path(&select.operand).map(|path| format!("{path}.{}", select.field));
        let always = found.default.is_some() || required.contains(&select.field);
        if !always && !path.as_ref().is_some_and(|path| self.present.contains(path)) {
            let path = path.unwrap_or_else(|| select.field.clone());
            return Err(format!("`{path}` may be absent: test it with has({path}), or give it a default"));
        }
        Ok((Type::of(found), cost))
    }

    fn list(&mut self, elements: &[IdedExpr]) -> Result<Typed<'a>, String> {
        let mut items = Type::Nothing;
        let mut cost = 1_u64;
        for element in elements {
            let (found, more) = self.infer(element)?;
            cost = cost.saturating_add(more).saturating_add(found.weight());
            items = items.joined(&found).ok_or("a list holds values of one type")?;
        }
        Ok(match items {
            Type::Nothing => (Type::Nothing, cost),
            items => (Type::List(Box::new(items), elements.len() as u64), cost),
        })
    }

    fn call(&mut self, call: &CallExpr) -> Result<Typed<'a>, String> {
        use Type::{Bool, Double, Int, List, Text};
        let mut types = Vec::new();
        let mut cost = 1_u64;
        for part in call.target.as_deref().into_iter().chain(&call.args) {
            let (found, more) = self.infer(part)?;
            cost = cost.saturating_add(more);
            types.push(found);
        }
        let wrong = || {
            let given = types.iter().map(Type::name).collect::<Vec<_>>().join(" and ");
            format!("{} does not take {given}", shown(&call.func_name))
        };
        let compared = types.iter().map(Type::weight).min().unwrap_or(1);
        let all = types.iter().map(Type::weight).fold(0, u64::saturating_add);
        let (answer, more) = match (call.func_name.as_str(), types.as_slice()) {
            ("_&&_" | "_||_", [Bool, Bool]) | ("!_" | "@not_strictly_false", [Bool]) => (Bool, 0),
            ("_?_:_", [Bool, left, right]) => (left.joined(right).ok_or_else(wrong)?, 0),
            ("_==_" | "_!=_", [left, right]) if left.comparable(right) => (Bool, compared),
            ("_<_" | "_<=_" | "_>_" | "_>=_", [Int | Double, Int | Double]) => (Bool, 0),
            ("_<_" | "_<=_" | "_>_" | "_>=_", [Text(_), Text(_)]) => (Bool, compared),
            ("_+_" | "_-_" | "_*_" | "_/_" | "_%_", [Int, Int]) | ("-_", [Int]) => (Int, 0),
            ("_+_" | "_-_" | "_*_" | "_/_", [Double, Double]) | ("-_", [Double]) => (Double, 0),
            ("_+_", [Text(left), Text(right)]) => (Text(left.saturating_add(*right)), all),
            ("@in", [item, List(items, most)]) if item.comparable(items) => {
                (Bool, most.saturating_mul(items.weight().min(item.weight())))
            }
            ("@in", [_, Type::Nothing]) => (Bool, 0),
            ("_[_]", [List(items, _), Int]) => ((**items).clone(), items.weight()),
            ("size", [Text(_)]) => (Int, all),
            ("size", [List(..) | Type::Nothing]) => (Int, 0),
            ("startsWith" | "endsWith" | "contains", [Text(_), Text(_)]) if call.target.is_some() => {
                (Bool, all)
            }
            ("int", [Int | Double | Text(_)]) => (Int, all),
            ("double", [Int | Double | Text(_)]) => (Double, all),
            ("string", [Int | Double | Bool]) => (Text(32), 1),
            (name, _) if FUNCTIONS.contains(&name) || name.contains('_') || name == "@in" => {
                return Err(wrong());
            }
            (name, _) => {
                return Err(format!("there is no function `{name}`; there are {}", FUNCTIONS.join(", ")));
            }
        };
        Ok((answer, cost.saturating_add(more)))
    }

    /// `all`, `exists`, `exists_one`, `filter` and `map`, as the parser unfolds them.
    fn fold(&mut self, fold: &ComprehensionExpr) -> Result<Typed<'a>, String> {
        if fold.iter_var2.is_some() || self.variables.iter().any(|(known, _)| *known == fold.iter_var) {
            return Err(format!("`{}` has another meaning already: choose another name", fold.iter_var));
        }
        let (range, before) = self.infer(&fold.iter_range)?;
        let (items, most) = match range {
            Type::List(items, most) => (*items, most),
            Type::Nothing => (Type::Bool, 0),
            other => return Err(format!("only a list can be gone through, not {}", other.name())),
        };
        let (start, _) = self.infer(&fold.accu_init)?;
        let weight = items.weight();
        self.variables.push((fold.iter_var.clone(), items));
        let step = match start {
            Type::Nothing => self.gathered(&fold.loop_step, &fold.accu_var, most),
            start => self.accumulated(fold, start),
        };
        self.variables.pop();
        let (answer, step) = step?;
        let cost = step.saturating_add(weight).saturating_add(4).saturating_mul(most);
        Ok((answer, before.saturating_add(cost).saturating_add(2)))
    }

    fn accumulated(&mut self, fold: &ComprehensionExpr, start: Type<'a>) -> Result<Typed<'a>, String> {
        self.variables.push((fold.accu_var.clone(), start));
        let typed = self.infer(&fold.loop_step).and_then(|(_, step)| {
            let (answer, _) = self.infer(&fold.result)?;
            Ok((answer, step))
        });
        self.variables.pop();
        typed
    }

    /// The list that `map` and `filter` gather: its items are what each step appends.
    fn gathered(&mut self, step: &IdedExpr, accu: &str, most: u64) -> Result<Typed<'a>, String> {
        let odd = || "only the forms all, exists, exists_one, filter and map go through a list".to_owned();
        let Expr::Call(call) = &step.expr else { return Err(odd()) };
        match (call.func_name.as_str(), call.args.as_slice()) {
            ("_?_:_", [condition, then, _]) => {
                let (Type::Bool, cost) = self.infer(condition)? else {
                    return Err("the condition of a filter is true or false".to_owned());
                };
                let (list, more) = self.gathered(then, accu, most)?;
                Ok((list, cost.saturating_add(more)))
            }
            ("_+_", [before, item]) => match (&before.expr, &item.expr) {
                (Expr::Ident(name), Expr::List(list)) if name == accu && list.elements.len() == 1 => {
                    let (item, cost) = self.infer(&list.elements[0])?;
                    let weight = item.weight();
                    Ok((Type::List(Box::new(item), most), cost.saturating_add(weight)))
                }
                _ => Err(odd()),
            },
            _ => Err(odd()),
        }
    }
}

/// The functions a rule may call, beside the operators.
const FUNCTIONS: &[&str] = &["size", "startsWith", "endsWith", "contains", "int", "double", "string"];

/// An operator as it is written.
fn shown(name: &str) -> String {
    let written = name.trim_start_matches('@').replace("_", " ");
    format!("`{}`", written.trim())
}

impl<'a> Type<'a> {
    fn of(node: &'a Node) -> Self {
        match &node.shape {
            Shape::Object { .. } => Self::Object(node),
            Shape::Array { items, most, .. } => {
                Self::List(Box::new(Self::of(items)), most.unwrap_or(UNBOUNDED))
            }
            Shape::String { longest, .. } => Self::Text(longest.unwrap_or(UNBOUNDED)),
            Shape::Integer { .. } => Self::Int,
            Shape::Number { .. } => Self::Double,
            Shape::Boolean => Self::Bool,
        }
    }

    /// How many steps it takes to copy or compare a value.
    fn weight(&self) -> u64 {
        match self {
            Self::Bool | Self::Int | Self::Double | Self::Nothing => 1,
            Self::Text(longest) => 1 + longest / 64,
            Self::List(items, most) => most.saturating_mul(items.weight()).saturating_add(1),
            Self::Object(node) => match &node.shape {
                Shape::Object { properties, .. } => {
                    properties.values().map(|node| Self::of(node).weight()).fold(1, u64::saturating_add)
                }
                _ => 1,
            },
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Bool => "true or false",
            Self::Int => "a whole number",
            Self::Double => "a number",
            Self::Text(_) => "a text",
            Self::List(..) | Self::Nothing => "a list",
            Self::Object(_) => "an object",
        }
    }

    /// Whether `==` can ever be true.
    fn comparable(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Int | Self::Double, Self::Int | Self::Double)
            | (Self::Bool, Self::Bool)
            | (Self::Text(_), Self::Text(_))
            | (Self::Object(_), Self::Object(_))
            | (Self::Nothing, Self::List(..))
            | (Self::List(..), Self::Nothing) => true,
            (Self::List(left, _), Self::List(right, _)) => left.comparable(right),
            _ => false,
        }
    }

    /// The type of what may be either.
    fn joined(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Nothing, some) | (some, Self::Nothing) => Some(some.clone()),
            (Self::Bool, Self::Bool) => Some(Self::Bool),
            (Self::Int, Self::Int) => Some(Self::Int),
            (Self::Double, Self::Double) => Some(Self::Double),
            (Self::Text(left), Self::Text(right)) => Some(Self::Text(*left.max(right))),
            (Self::List(left, most), Self::List(right, more)) => {
                Some(Self::List(Box::new(left.joined(right)?), *most.max(more)))
            }
            (Self::Object(left), Self::Object(right)) if std::ptr::eq(*left, *right) => {
                Some(Self::Object(left))
            }
            _ => None,
        }
    }
}
