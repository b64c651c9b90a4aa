//! Which limits count a call.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use wanwright_vendors::{Budget, RateLimit, Scope};

use super::graphql::{self, Operation};
use super::pace::Pace;

/// Longest name of an operation that a limit of its own is kept under.
const LONGEST_NAME: usize = 48;

/// Longest time for which slots are gathered, in microseconds.
const GATHERING: i64 = 100_000;

/// So many calls have to wait before their slots are gathered: a person's call, or a run's one after the other, leaves when
/// it may.
const BACKLOG: i64 = 4;

/// The limits that count a call, by their names in the record. Calls of one class take each other's slots.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::gateway) struct Class(Arc<[String]>);

impl Class {
    pub(in crate::gateway) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

/// A vendor's limits with their paces.
#[derive(Debug, Clone)]
pub(in crate::gateway) struct Limits {
    budget: Budget,
    paces: HashMap<String, Pace>,
    /// What stands for our address in the names of limits.
    address: String,
    /// The account whose limits these are, where the record has those of others as well.
    account: Option<String>,
    looks_inside: bool,
}

/// The limit's name in its vendor's folder.
pub(in crate::gateway) fn limit_name(name: &str) -> &str {
    name.split(['/', '@']).next().unwrap_or(name)
}

impl Limits {
    /// The limits as calls of one account are counted. Its name is part of theirs where others are in the same record.
    pub(in crate::gateway) fn new(budget: &Budget, address: &str, account: Option<&str>) -> Self {
        let pace = |limit: &RateLimit| (limit.name.clone(), Pace::of(limit, budget.jitter));
        Self {
            paces: budget.limits.iter().map(pace).collect(),
            looks_inside: budget
                .limits
                .iter()
                .any(|limit| limit.each_operation || !limit.counts.operations.is_empty()),
            budget: budget.clone(),
            address: address.to_owned(),
            account: account.map(str::to_owned),
        }
    }

    /// No limits at all: those that count the calls are in another record.
    pub(in crate::gateway) fn none(budget: &Budget) -> Self {
        let budget = Budget { limits: Vec::new(), ..budget.clone() };
        Self::new(&budget, "", None)
    }

    /// The pace of a limit of the record; none, if the vendor has no such limit any more.
    pub(in crate::gateway) fn pace(&self, name: &str) -> Option<&Pace> {
        self.paces.get(limit_name(name))
    }

    /// The limits of a class with their paces.
    pub(in crate::gateway) fn of<'a>(
        &'a self,
        class: &'a Class,
    ) -> impl Iterator<Item = (&'a str, &'a Pace)> {
        class.names().filter_map(|name| Some((name, self.pace(name)?)))
    }

    /// The limits of the folder.
    pub(in crate::gateway) fn all(&self) -> &[RateLimit] {
        &self.budget.limits
    }

    /// How late a slot of this class may be used.
    pub(in crate::gateway) fn grace(&self, class: &Class) -> i64 {
        self.of(class).map(|(_, pace)| pace.grace).min().unwrap_or(i64::MAX / 4)
    }

    /// For how long slots of this class are gathered, in microseconds, while so many calls wait for them. It is within what
    /// they may be late, and nothing where those who wait would wait no longer than that.
    pub(in crate::gateway) fn gathering(&self, class: &Class, waiting: usize) -> i64 {
        let Some(interval) = self.of(class).map(|(_, pace)| pace.interval).max() else { return 0 };
        let longest = GATHERING.min(self.grace(class) / 2);
        let waiting = i64::try_from(waiting).unwrap_or(i64::MAX);
        let is_backlog = waiting >= BACKLOG && waiting.saturating_mul(interval) > longest;
        if is_backlog { longest } else { 0 }
    }

    /// The limits that count a call.
    pub(in crate::gateway) fn class(&self, method: &Method, path: &str, body: &[u8]) -> Class {
        let operations = if self.looks_inside { graphql::operations(body) } else { Some(Vec::new()) };
        let counting =
            self.budget.limits.iter().filter(|limit| counts(limit, method, path, operations.as_deref()));
        Class(counting.flat_map(|limit| self.names(limit, operations.as_deref())).collect())
    }

    /// A limit's name in the record, without an operation.
    fn base(&self, limit: &RateLimit) -> String {
        match (limit.scope, &self.account) {
            (Scope::Account, None) => limit.name.clone(),
            (Scope::Account, Some(account)) => format!("{}@{account}", limit.name),
            (Scope::Address, _) => format!("{}@{}", limit.name, self.address),
        }
    }

    /// Whether a limit of the record counts calls of this account.
    pub(in crate::gateway) fn is_ours(&self, name: &str) -> bool {
        let base = name.split('/').next().unwrap_or(name);
        self.budget.limits.iter().any(|limit| self.base(limit) == base)
    }

    /// The names of the limits that count every call.
    pub(in crate::gateway) fn whole(&self) -> Vec<String> {
        let whole = self.budget.limits.iter().filter(|limit| counts_all(limit));
        whole.map(|limit| self.base(limit)).collect()
    }

    fn names(&self, limit: &RateLimit, operations: Option<&[Operation]>) -> Vec<String> {
        let base = self.base(limit);
        if !limit.each_operation {
            return vec![base];
        }
        // What the vendor counts are the fields, whatever the caller calls its operation.
        let fields = operations.unwrap_or_default().iter().flat_map(|operation| &operation.fields);
        let mut names: Vec<String> = fields.map(|field| format!("{base}/{}", token(field))).collect();
        if names.is_empty() {
            names.push(format!("{base}/other"));
        }
        names.sort_unstable();
        names.dedup();
        names
    }

    /// What the answer says about slowing down: for how long, and the limits concerned. `wish` is its `Retry-After`.
    pub(in crate::gateway) fn busy(
        &self,
        class: &Class,
        status: u16,
        wish: Option<Duration>,
        body: &[u8],
    ) -> Option<(Duration, Vec<String>)> {
        let rule = self.budget.busy.iter().find(|rule| {
            rule.status.is_none_or(|wanted| wanted == status)
                && rule.pointer.as_ref().is_none_or(|pointer| says(body, pointer, &rule.contains))
        });
        let concerned = |limit: Option<&str>| -> Vec<String> {
            let of_limit = |name: &&str| limit.is_none_or(|limit| limit_name(name) == limit);
            let named: Vec<String> = class.names().filter(of_limit).map(str::to_owned).collect();
            // A limit that does not count this call by our reckoning: then we reckon wrongly, and all are left alone.
            if named.is_empty() { class.names().map(str::to_owned).collect() } else { named }
        };
        match (rule, status) {
            (Some(rule), _) => Some((wish.unwrap_or(rule.pause), concerned(rule.limit.as_deref()))),
            (None, 429) => Some((wish.unwrap_or(Duration::from_secs(1)), concerned(None))),
            // Who says when is busy, and not broken.
            (None, 503) => wish.filter(|wish| !wish.is_zero()).map(|wish| (wish, concerned(None))),
            (None, _) => None,
        }
    }
}

/// Whether a limit counts every call, and all of them together.
pub(in crate::gateway) fn counts_all(limit: &RateLimit) -> bool {
    let counted = &limit.counts;
    let lists = [&counted.methods, &counted.paths, &counted.operations];
    lists.iter().all(|list| list.is_empty()) && !limit.each_operation
}

/// An operation that cannot be read counts as every operation.
fn counts(limit: &RateLimit, method: &Method, path: &str, operations: Option<&[Operation]>) -> bool {
    let counted = &limit.counts;
    let named = |operation: &Operation| {
        let mut names = operation.name.iter().chain(&operation.fields).chain(&operation.within);
        names.any(|name| counted.operations.iter().any(|pattern| fits(pattern, name)))
    };
    (counted.methods.is_empty() || counted.methods.iter().any(|wanted| wanted == method.as_str()))
        && (counted.paths.is_empty() || counted.paths.iter().any(|pattern| fits(pattern, path)))
        && (counted.operations.is_empty() || operations.is_none_or(|all| all.iter().any(named)))
}

/// Whether a text fits a pattern in which `*` stands for any text.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut left) = text.strip_prefix(first) else {
        return false;
    };
    let Some((middle, last)) = rest.rsplit_once('*') else {
        return left.ends_with(rest);
    };
    for part in middle.split('*') {
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    left.ends_with(last)
}

fn token(name: &str) -> String {
    name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(LONGEST_NAME).collect()
}

/// Whether the body has, where the pointer says, a text with one of these in it.
fn says(body: &[u8], pointer: &str, texts: &[String]) -> bool {
    fn found(value: &serde_json::Value, parts: &[&str], texts: &[String]) -> bool {
        match (parts.split_first(), value) {
            (None, serde_json::Value::String(text)) => {
                let text = text.to_lowercase();
                texts.iter().any(|wanted| text.contains(&wanted.to_lowercase()))
            }
            (None, other) => {
                let text = other.to_string();
                texts.contains(&text)
            }
            (Some((&"*", rest)), serde_json::Value::Array(items)) => {
                items.iter().any(|item| found(item, rest, texts))
            }
            (Some((part, rest)), other) => other.get(part).is_some_and(|inner| found(inner, rest, texts)),
        }
    }
    let Ok(value) = serde_json::from_slice(body) else {
        return false;
    };
    let parts: Vec<&str> = pointer.split('/').skip(1).collect();
    found(&value, &parts, texts)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;

    fn limits(text: &str) -> Limits {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("testwan");
        std::fs::create_dir_all(&folder).unwrap();
        let rest = "name = \"testwan\"\ntitle = \"T\"\nbase_url = \"http://127.0.0.1:9\"\n[credential]\nenv = \"NONE\"\n\
                    header = \"Authorization\"\n[engines]\n[limits]\ntunnels_per_site = 1\n";
        std::fs::write(folder.join("vendor.toml"), format!("{rest}{text}")).unwrap();
        let vendor = wanwright_vendors::Vendor::load(Path::new(&folder)).unwrap();
        Limits::new(&vendor.budget, "here", None)
    }

    fn names(class: &Class) -> Vec<&str> {
        class.names().collect()
    }

    #[test]
    fn a_call_is_counted_by_method_path_and_operation() {
        let limits = limits(
            "[budget]\nper_second = 50\nburst = 50\n\
             [budget.limits.writes]\nper_minute = 10\nmethods = [\"POST\", \"PUT\"]\npaths = [\"/v1/*\"]\n\
             [budget.limits.from-here]\nper_second = 5\nscope = \"address\"\n\
             [budget.limits.query]\nper_minute = 120\npaths = [\"/graphql\"]\neach_operation = true\n\
             [budget.limits.publish]\nper_hour = 20\noperations = [\"*publish*\", \"Publish*\"]\n",
        );
        let class = |method, path, body: &str| limits.class(&method, path, body.as_bytes());
        assert_eq!(names(&class(Method::GET, "/v1/sites", "")), ["calls", "from-here@here"]);
        assert_eq!(names(&class(Method::POST, "/v1/sites", "{}")), ["calls", "from-here@here", "writes"]);
        let query =
            r#"{"query":"query Any($a: ID!) { one: entityLookup(id: $a) { id } accountSnapshot { id } }"}"#;
        let counted = class(Method::POST, "/graphql", query);
        let both = ["query/accountSnapshot", "query/entityLookup"];
        assert_eq!(names(&counted), [&["calls", "from-here@here"][..], &both[..]].concat());
        let publish = r#"{"query":"mutation PublishPolicy { policy { publish } }"}"#;
        let counted = class(Method::POST, "/graphql", publish);
        assert_eq!(names(&counted), ["calls", "from-here@here", "publish", "query/policy"]);
        let unreadable = class(Method::POST, "/graphql", r#"{"query":"{ never closed"}"#);
        assert_eq!(names(&unreadable), ["calls", "from-here@here", "publish", "query/other"]);
    }

    #[test]
    fn an_answer_that_asks_to_slow_down_names_its_limit() {
        let limits = limits(
            "[budget]\nper_second = 50\nburst = 50\n\
             [budget.limits.query]\nper_minute = 120\neach_operation = true\n\
             [budget.busy.hidden]\nstatus = 200\npointer = \"/errors/*/message\"\ncontains = [\"rate limit\"]\n\
             limit = \"query\"\npause_seconds = 7\n",
        );
        let class = limits.class(&Method::POST, "/", br#"{"query":"{ sites { id } }"}"#);
        let busy = limits.busy(
            &class,
            200,
            None,
            br#"{"data":null,"errors":[{"message":"API Rate Limit exceeded"}]}"#,
        );
        assert_eq!(busy, Some((Duration::from_secs(7), vec!["query/sites".to_owned()])));
        assert_eq!(limits.busy(&class, 200, None, br#"{"errors":[{"message":"no such site"}]}"#), None);
        let all = vec!["calls".to_owned(), "query/sites".to_owned()];
        let seconds = |seconds| Some((Duration::from_secs(seconds), all.clone()));
        let wish = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(limits.busy(&class, 429, None, b""), seconds(1));
        assert_eq!(limits.busy(&class, 429, wish(9), b""), seconds(9));
        assert_eq!(limits.busy(&class, 503, wish(9), b""), seconds(9));
        assert_eq!(limits.busy(&class, 503, wish(0), b""), None, "as if it had said nothing");
        assert_eq!(limits.busy(&class, 503, None, b""), None);
        assert_eq!(limits.busy(&class, 500, wish(9), b""), None);
    }

    #[test]
    fn every_document_of_cato_is_counted_as_its_limits_are_documented() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vendors/cato");
        let vendor = wanwright_vendors::Vendor::load(&folder).unwrap();
        let limits = Limits::new(&vendor.budget, "here", None);
        let class = |text: &str| {
            let body = serde_json::json!({ "query": text, "variables": {} }).to_string();
            limits.class(&Method::POST, "/api/v1/graphql2", body.as_bytes())
        };
        let mut counted = BTreeMap::new();
        for entry in std::fs::read_dir(folder.join("api")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "graphql") {
                let text = std::fs::read_to_string(&path).unwrap();
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                counted.insert(name, class(&text));
            }
        }
        let lookup = &["entity-lookup", "entity-lookup-long", "query/entityLookup"][..];
        let wanted = [
            ("site.add.graphql", &["query/site"][..]),
            ("site.details.graphql", &["query/site"]),
            ("site.lookup.graphql", lookup),
            ("site.remove.graphql", &["query/site"]),
            ("site.update.graphql", &["query/site"]),
        ];
        let counted: Vec<_> = counted.iter().map(|(file, class)| (file.as_str(), names(class))).collect();
        assert_eq!(counted, wanted.map(|(file, names)| (file, names.to_vec())));
        // This folder publishes nothing; a provider of Cato's may, whatever it calls its operation.
        let publish =
            "policy(accountId: 7) { internetFirewall { publishPolicyRevision(input: {}) { status } } }";
        for text in [
            format!("mutation PolicyInternetFirewallPublishPolicyRevision {{ {publish} }}"),
            format!("mutation Release {{ {publish} }}"),
            format!("mutation {{ {publish} }}"),
        ] {
            assert_eq!(names(&class(&text)), ["publish", "publish-long", "query/policy"], "{text}");
        }
    }

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text) in
            [("/a/*/c", "/a/b/c"), ("*", ""), ("*b*", "abc"), ("a*b*c", "a-b-b-c"), ("ab", "ab")]
        {
            assert!(fits(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in
            [("/a/*/c", "/a/c"), ("a*a", "a"), ("a*b*c", "acb"), ("ab", "abc"), ("*b*b", "ab")]
        {
            assert!(!fits(pattern, text), "{pattern} {text}");
        }
    }
}
