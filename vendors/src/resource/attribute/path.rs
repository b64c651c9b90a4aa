//! Where in an object's attributes something is.

use std::fmt;

/// A place in the attributes of an object: `mtu`, `bgp.asn`, `routes[1].metric`, `labels["a.b"]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttributePath(pub Vec<PathStep>);

/// One step of an [`AttributePath`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathStep {
    /// To an attribute, or to a field of an object.
    Attribute(String),
    /// To an item of a list, from 0.
    Index(usize),
    /// To what a map has under a key.
    Key(String),
}

impl AttributePath {
    /// An attribute.
    #[must_use]
    pub fn of(attribute: &str) -> Self {
        Self(vec![PathStep::Attribute(attribute.to_owned())])
    }

    /// One step further.
    #[must_use]
    pub fn then(&self, step: PathStep) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }

    /// To a field of an object.
    #[must_use]
    pub fn field(&self, name: &str) -> Self {
        self.then(PathStep::Attribute(name.to_owned()))
    }

    /// Reads what [`fmt::Display`] writes; `None` if the text is no path.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (mut steps, mut rest) = (Vec::new(), text);
        while !rest.is_empty() {
            if let Some(inner) = rest.strip_prefix('[') {
                let (step, after) = bracket(inner)?;
                steps.push(step);
                rest = after;
                continue;
            }
            let name = match (rest.strip_prefix('.'), steps.is_empty()) {
                (Some(name), false) => name,
                (None, true) => rest,
                _ => return None,
            };
            let end = name.find(['.', '[']).unwrap_or(name.len());
            if end == 0 {
                return None;
            }
            steps.push(PathStep::Attribute(name[..end].to_owned()));
            rest = &name[end..];
        }
        (!steps.is_empty()).then_some(Self(steps))
    }

    /// The attribute at its beginning.
    #[must_use]
    pub fn attribute(&self) -> Option<&str> {
        match self.0.first() {
            Some(PathStep::Attribute(name)) => Some(name),
            _ => None,
        }
    }
}

/// What stands in a bracket, and the text behind it.
fn bracket(inner: &str) -> Option<(PathStep, &str)> {
    if !inner.starts_with('"') {
        let (index, after) = inner.split_once(']')?;
        return Some((PathStep::Index(index.parse().ok()?), after));
    }
    let mut keys = serde_json::Deserializer::from_str(inner).into_iter::<String>();
    let key = keys.next()?.ok()?;
    let after = inner.get(keys.byte_offset()..)?.strip_prefix(']')?;
    Some((PathStep::Key(key), after))
}

impl fmt::Display for AttributePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                PathStep::Attribute(name) if at == 0 => f.write_str(name)?,
                PathStep::Attribute(name) => write!(f, ".{name}")?,
                PathStep::Index(index) => write!(f, "[{index}]")?,
                PathStep::Key(key) => write!(f, "[{}]", serde_json::Value::from(key.as_str()))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_as_they_are_written() {
        for text in ["mtu", "bgp.asn", "routes[1].metric", r#"labels["a.b\"]"]"#, r#"peers["x"].dns[0]"#] {
            assert_eq!(AttributePath::parse(text).unwrap().to_string(), text);
        }
        for wrong in ["", ".a", "a.", "a..b", "a[x]", "a[", "a[\"b]", "a[1", "a[\"b\"x]"] {
            assert_eq!(AttributePath::parse(wrong), None, "{wrong}");
        }
    }
}
