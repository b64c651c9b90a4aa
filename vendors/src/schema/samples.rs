//! Values that show what a schema can say: what a conversion is tried on, and what an example is made of.

use serde_json::{Map, Value};

use super::{Node, Shape};

/// Longest text in a sample, in characters. Longer bounds than this one are not tried.
const LONGEST_TEXT: u64 = 4096;

/// One value with as little in it as may be, then variations of it in one place each: every choice, both ends of every
/// range, every field that may be absent, once there and once not.
pub(super) fn of(node: &Node) -> Vec<Value> {
    if let Some(choices) = &node.choices {
        return choices.clone();
    }
    if node.secret {
        return vec![Value::from("secret:a"), Value::from("secret:b-2")];
    }
    let mut found: Vec<Value> = node.default.iter().cloned().collect();
    match &node.shape {
        Shape::Object { properties, required } => objects(properties, required, &mut found),
        Shape::Array { items, fewest, most } => {
            let least = usize::try_from(*fewest).unwrap_or_default().min(64);
            let samples = of(items);
            found.push(Value::Array(samples.iter().take(1).cycle().take(least).cloned().collect()));
            if *most != Some(0) {
                found.extend(samples.iter().map(|sample| vec![sample.clone(); least.max(1)].into()));
            }
        }
        Shape::String { shortest, longest } => {
            let longest = longest.unwrap_or(shortest + 8);
            found.extend([*shortest, longest].map(|length| text(length.min(LONGEST_TEXT))));
        }
        Shape::Integer { minimum, maximum } => {
            let low = minimum.unwrap_or_else(|| maximum.unwrap_or(0).min(0));
            found.extend([low, maximum.unwrap_or(low.saturating_add(1000))].map(Value::from));
        }
        Shape::Number { minimum, maximum } => {
            let low = minimum.unwrap_or_else(|| maximum.unwrap_or(0.0).min(0.0));
            found.extend([low, maximum.unwrap_or(low + 1000.5)].map(Value::from));
        }
        Shape::Boolean => found.extend([false, true].map(Value::from)),
    }
    found.dedup();
    found
}

fn objects(
    properties: &std::collections::BTreeMap<String, Node>,
    required: &[String],
    found: &mut Vec<Value>,
) {
    let samples: Vec<(&String, Vec<Value>)> =
        properties.iter().map(|(name, node)| (name, of(node))).collect();
    let first = |name: &String, samples: &[Value]| Some((name.clone(), samples.first()?.clone()));
    let least: Map<String, Value> = samples
        .iter()
        .filter(|(name, _)| required.contains(name))
        .filter_map(|(name, samples)| first(name, samples))
        .collect();
    let whole: Map<String, Value> =
        samples.iter().filter_map(|(name, samples)| first(name, samples)).collect();
    found.extend([Value::Object(least.clone()), Value::Object(whole.clone())]);
    for (name, samples) in &samples {
        for base in [&least, &whole] {
            for sample in samples {
                let mut changed = base.clone();
                changed.insert((*name).clone(), sample.clone());
                found.push(Value::Object(changed));
            }
        }
        if !required.contains(name) {
            let mut without = whole.clone();
            without.remove(*name);
            found.push(Value::Object(without));
        }
    }
}

fn text(length: u64) -> Value {
    Value::String("x".repeat(usize::try_from(length).unwrap_or_default()))
}
