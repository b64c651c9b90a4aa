//! What the server's configuration says about accounts, and how it reads subjects.

use std::path::Path;

/// Whether a subject falls under a pattern with `*` and `>`, as the server reads them.
pub fn matches(pattern: &str, subject: &str) -> bool {
    let (mut wanted, mut tokens) = (pattern.split('.'), subject.split('.'));
    loop {
        match (wanted.next(), tokens.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some(want), Some(token)) if want == "*" || want == token => {}
            _ => return false,
        }
    }
}

/// The part of the configuration that names the operator and where accounts are kept. `known` is handed to the server
/// at its start: public key and claims.
pub(super) fn configuration(
    operator: &str,
    system: &str,
    accounts: &Path,
    known: &[(String, String)],
) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let known: String = known.iter().map(|(key, claims)| format!("  {key}: {}\n", quoted(claims))).collect();
    format!(
        "operator: {}\nsystem_account: {system}\n\
         resolver: {{ type: full, dir: {}, allow_delete: true, interval: \"2m\" }}\nresolver_preload {{\n{known}}}\n",
        quoted(operator),
        quoted(&accounts.to_string_lossy()),
    )
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_as_on_the_server() {
        assert!(matches("wan.do.*.>", "wan.do.acme.anna"));
        assert!(!matches("wan.do.*.>", "wan.do.acme"));
        assert!(!matches("wan.do.acme", "wan.do.acme.anna"));
        assert!(matches("a.b", "a.b"));
    }
}
