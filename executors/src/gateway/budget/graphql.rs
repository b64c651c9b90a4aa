//! What a GraphQL request asks for, as far as limits need it: the names of its operations and of their fields.

use serde_json::Value;

/// One operation of a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Operation {
    /// What the caller calls it.
    pub(super) name: Option<String>,
    /// The fields it begins with, by the vendor's names and not by aliases.
    pub(super) fields: Vec<String>,
    /// The names of what is selected within those, aliases and types among them.
    pub(super) within: Vec<String>,
}

/// The operations in a body. None if it is a request that cannot be read; empty if it is none.
pub(super) fn operations(body: &[u8]) -> Option<Vec<Operation>> {
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        return if body.is_empty() { Some(Vec::new()) } else { None };
    };
    let requests = match value {
        Value::Array(requests) => requests,
        request => vec![request],
    };
    let mut found = Vec::new();
    for request in &requests {
        let Some(text) = request.get("query") else { continue };
        found.extend(document(text.as_str()?)?);
        if let Some(Value::String(name)) = request.get("operationName") {
            found.push(Operation { name: Some(name.clone()), ..Operation::default() });
        }
    }
    Some(found)
}

/// Whether a body asks only: every operation in it is a query. What cannot be read may be anything.
pub(in crate::gateway) fn only_asks(body: &[u8]) -> bool {
    let requests = match serde_json::from_slice(body) {
        Ok(Value::Array(requests)) => requests,
        Ok(request) => vec![request],
        Err(_) => return false,
    };
    let asks = |request: &Value| {
        let text = request.get("query").and_then(Value::as_str);
        text.and_then(kinds)
            .is_some_and(|kinds| kinds.iter().all(|kind| ["query", "fragment"].contains(&&**kind)))
    };
    !requests.is_empty() && requests.iter().all(asks)
}

/// What each definition of a document begins with; a selection alone is a query.
fn kinds(text: &str) -> Option<Vec<String>> {
    let tokens = tokens(text)?;
    let (mut kinds, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        if tokens[at] == "{" {
            kinds.push("query".to_owned());
        } else {
            kinds.push(tokens[at].clone());
            at = skip_to_selection(&tokens, at)?;
        }
        at = selection(&tokens, at)?.1;
    }
    (!kinds.is_empty()).then_some(kinds)
}

/// All operations of a document. A fragment's fields count as an operation's: they may be one's first.
fn document(text: &str) -> Option<Vec<Operation>> {
    let tokens = tokens(text)?;
    let mut operations = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let mut operation = Operation::default();
        if tokens[at] != "{" {
            let name = tokens.get(at + 1).filter(|name| is_name(name));
            operation.name = name.filter(|_| tokens[at] != "fragment").cloned();
            at = skip_to_selection(&tokens, at)?;
        }
        let (fields, end) = selection(&tokens, at)?;
        (operation.fields, operation.within) = (fields.first, fields.within);
        operations.push(operation);
        at = end;
    }
    Some(operations)
}

/// The names of fields of a selection.
#[derive(Default)]
struct Fields {
    first: Vec<String>,
    within: Vec<String>,
}

/// The brace that opens the selection: the first one that is not within variables and their values.
fn skip_to_selection(tokens: &[String], mut at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    loop {
        match tokens.get(at)?.as_str() {
            "{" if depth == 0 => return Some(at),
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.checked_sub(1)?,
            _ => {}
        }
        at += 1;
    }
}

/// The fields of the selection whose brace is here, those within them, and where it ends.
fn selection(tokens: &[String], start: usize) -> Option<(Fields, usize)> {
    let (mut fields, mut depth, mut at) = (Fields::default(), 0_usize, start);
    // How deep the arguments began that we are in.
    let mut arguments = None;
    loop {
        let token = tokens.get(at)?.as_str();
        match token {
            "{" | "(" | "[" => {
                if token == "(" && arguments.is_none() {
                    arguments = Some(depth);
                }
                depth += 1;
            }
            "}" | ")" | "]" => {
                depth = depth.checked_sub(1)?;
                if arguments == Some(depth) {
                    arguments = None;
                }
            }
            // A directive, a variable, or a spread with its name: no field.
            "@" | "$" => at += 1,
            // What begins without a name of its own cannot be told from what it is within.
            "..." if depth == 1 && matches!(tokens.get(at + 1)?.as_str(), "{" | "on" | "@") => return None,
            "..." => at += usize::from(is_name(tokens.get(at + 1)?)),
            name if depth == 1 && is_name(name) => {
                if tokens.get(at + 1)? == ":" {
                    at += 2;
                }
                fields.first.push(tokens.get(at)?.clone());
            }
            name if depth > 1 && arguments.is_none() && is_name(name) => fields.within.push(name.to_owned()),
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some((fields, at));
        }
    }
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

/// Names and signs, without comments, texts, numbers and commas. None where a text does not end.
fn tokens(text: &str) -> Option<Vec<String>> {
    let (mut tokens, mut rest) = (Vec::new(), text);
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '#' => rest.find(['\n', '\r']).unwrap_or(rest.len()),
            '"' => text_length(rest)?,
            _ if rest.starts_with("...") => {
                tokens.push("...".to_owned());
                3
            }
            c if c.is_ascii_alphanumeric() || c == '_' => {
                let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let length = rest.find(|c| !word(c)).unwrap_or(rest.len());
                tokens.push(rest[..length].to_owned());
                length
            }
            '{' | '}' | '(' | ')' | '[' | ']' | ':' | '@' | '$' => {
                tokens.push(c.to_string());
                1
            }
            c => c.len_utf8(),
        };
        rest = &rest[length..];
    }
    Some(tokens)
}

fn text_length(rest: &str) -> Option<usize> {
    if let Some(block) = rest.strip_prefix("\"\"\"") {
        let mut from = 0;
        loop {
            let end = from + block[from..].find("\"\"\"")?;
            if !block[..end].ends_with('\\') {
                return Some(end + 6);
            }
            from = end + 3;
        }
    }
    let mut escaped = false;
    let inside = rest[1..].char_indices().find(|(_, c)| {
        let ends = *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        ends
    });
    inside.map(|(at, _)| at + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(query: &str) -> Option<Vec<String>> {
        let body = serde_json::json!({ "query": query }).to_string();
        Some(operations(body.as_bytes())?.into_iter().flat_map(|operation| operation.fields).collect())
    }

    #[test]
    fn only_queries_ask() {
        let asks = |text: &str| only_asks(serde_json::json!({ "query": text }).to_string().as_bytes());
        for text in [
            "{ sites { id } }",
            "query Q($a: [Int!] = [1]) { sites }",
            "fragment F on Site { id } query { a { ...F } }",
        ] {
            assert!(asks(text), "{text}");
        }
        for text in [
            "mutation { drop }",
            "query { a } mutation { drop }",
            "subscription { a }",
            "# query { a }\nmutation { drop }",
            "\"query\" mutation { drop }",
            "query { never",
            "",
        ] {
            assert!(!asks(text), "{text}");
        }
        for body in [
            "",
            "[]",
            "{}",
            "7",
            r#"{"id":"persisted"}"#,
            r#"[{"query":"{ a }"},{"query":"mutation { b }"}]"#,
        ] {
            assert!(!only_asks(body.as_bytes()), "{body}");
        }
    }

    #[test]
    fn fields_are_found_behind_aliases_arguments_and_texts() {
        for (query, wanted) in [
            ("{ sites { id } }", &["sites"][..]),
            (
                "query { a: sites(x: {y: [1, {z: \"} { \\\" b\"}]}) @skip(if: true) { id } hubs }",
                &["sites", "hubs"],
            ),
            ("# { no }\nmutation M($v: [In!] = [{a: {b: 1}}]) { policy { publish { id } } }", &["policy"]),
            ("{ ...F } fragment F on Query { devices { id } }", &["devices"]),
            ("{ note(text: \"\"\"a \\\"\"\" } { \"\"\") }", &["note"]),
        ] {
            assert_eq!(fields(query).unwrap(), wanted, "{query}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_apart_from_what_is_no_request() {
        for query in ["{", "query", "{ a(b: \"c) }", "} {", "{ ...", "{ ... { a } }", "{ ... on Q { a } }"] {
            assert_eq!(fields(query), None, "{query}");
        }
        assert_eq!(operations(b""), Some(vec![]));
        assert_eq!(operations(br#"{"name":"x"}"#), Some(vec![]));
        assert_eq!(operations(b"not json"), None);
    }
}
