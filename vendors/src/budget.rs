//! How many calls a vendor takes, as data: several limits at once, and what "slow down" looks like.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::LoadError;
use crate::pointer;
use crate::section::Section;

/// How differently long two calls may take to the vendor, unless its folder says so.
const JITTER: Duration = Duration::from_millis(100);

/// The name of the limit that `per_second` and `burst` beside no name are.
const PLAIN: &str = "calls";

/// How many calls a vendor takes. A call needs room in every limit that counts it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// The limits, in the order of their names.
    pub limits: Vec<RateLimit>,
    /// What else than 429 asks to slow down.
    pub busy: Vec<BusyAnswer>,
    /// Largest difference between the ways of two calls to the vendor: what left evenly may arrive so much bunched.
    pub jitter: Duration,
}

impl Budget {
    /// Whether a limit counts calls by the address that they come from, and so those of all accounts together.
    #[must_use]
    pub fn counts_by_address(&self) -> bool {
        self.limits.iter().any(|limit| limit.scope == Scope::Address)
    }
}

/// One limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimit {
    /// Its name: lowercase letters, digits and hyphens.
    pub name: String,
    /// Calls in each window, sustained.
    pub calls: NonZeroU32,
    /// The window.
    pub window: Duration,
    /// Calls at once from a full token bucket. Without one the vendor counts: never more than `calls` in any stretch of
    /// time as long as the window.
    pub burst: Option<NonZeroU32>,
    /// Whose calls are counted together.
    pub scope: Scope,
    /// Which calls are counted.
    pub counts: Counted,
    /// Whether each GraphQL operation has such a limit of its own.
    pub each_operation: bool,
}

/// Whose calls are counted together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Those made with one credential.
    #[default]
    Account,
    /// Those that come from one address.
    Address,
}

/// Which calls a limit counts: those that fit every list that is not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// HTTP methods.
    pub methods: Vec<String>,
    /// Paths below the base URL; `*` stands for any text.
    pub paths: Vec<String>,
    /// Names of GraphQL operations or of any of their fields; `*` stands for any text.
    pub operations: Vec<String>,
}

/// An answer that asks to slow down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BusyAnswer {
    /// Its name, for people.
    pub name: String,
    /// The status it comes with; any, if there is none.
    pub status: Option<u16>,
    /// JSON pointer into the body, and texts of which one is in the value there; `*` is every element of a list.
    pub pointer: Option<String>,
    /// Compared without regard to case. Empty with no pointer.
    pub contains: Vec<String>,
    /// The limit that is full; all that count the call, if there is none.
    pub limit: Option<String>,
    /// How long to leave the vendor alone if the answer does not say.
    pub pause: Duration,
}

/// When calls to a vendor's account are held back because they only fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breaker {
    /// So many failures in a row open it: no answer, a 5xx that does not say when to come again, or a
    /// credential that is not accepted.
    pub failures: NonZeroU32,
    /// How long it is open the first time; each next time twice as long.
    pub pause: Duration,
    /// The longest that it is open before a call is tried.
    pub longest: Duration,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            failures: NonZeroU32::MIN.saturating_add(9),
            pause: Duration::from_secs(5),
            longest: Duration::from_secs(30),
        }
    }
}

/// Reads `[budget]`.
pub(crate) fn budget(top: &mut Section) -> Result<Budget, LoadError> {
    let mut section = top.section("budget")?;
    let mut limits = Vec::new();
    let plain: Option<NonZeroU32> = section.optional("per_second")?;
    if let Some(calls) = plain {
        let burst = Some(section.required("burst")?);
        limits.push(RateLimit { burst, ..all(PLAIN.to_owned(), calls, Duration::from_secs(1)) });
    }
    if let Some(mut named) = section.optional_section("limits")? {
        for name in named.keys() {
            if name == PLAIN && plain.is_some() {
                return Err(named.error(&name, "is the name of `per_second` above: choose another"));
            }
            limits.push(limit(&mut named, name)?);
        }
        named.finish()?;
    }
    if limits.is_empty() {
        return Err(
            section.error("per_second", "is missing: add it with `burst`, or `[budget.limits.<name>]`")
        );
    }
    let mut busy = Vec::new();
    if let Some(mut named) = section.optional_section("busy")? {
        for name in named.keys() {
            busy.push(busy_answer(&mut named, name, &limits)?);
        }
        named.finish()?;
    }
    let jitter: Option<u32> = section.optional("jitter_ms")?;
    section.finish()?;
    let jitter = jitter.map_or(JITTER, |millis| Duration::from_millis(millis.into()));
    Ok(Budget { limits, busy, jitter })
}

fn all(name: String, calls: NonZeroU32, window: Duration) -> RateLimit {
    let (scope, counts) = (Scope::Account, Counted::default());
    RateLimit { name, calls, window, burst: None, scope, counts, each_operation: false }
}

fn limit(named: &mut Section, name: String) -> Result<RateLimit, LoadError> {
    let token = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > 32 || !name.chars().all(token) {
        return Err(
            named.error(&name, "is no limit's name: use lowercase letters, digits and hyphens, at most 32")
        );
    }
    let mut section = named.section(&name)?;
    let mut rates = Vec::new();
    for (key, seconds) in [("per_second", 1), ("per_minute", 60), ("per_hour", 3600)] {
        let calls: Option<NonZeroU32> = section.optional(key)?;
        rates.extend(calls.map(|calls| (calls, Duration::from_secs(seconds))));
    }
    let &[(calls, window)] = &rates[..] else {
        return Err(section.error("", "needs exactly one of `per_second`, `per_minute` and `per_hour`"));
    };
    let limit = RateLimit {
        burst: section.optional("burst")?,
        scope: section.optional("scope")?.unwrap_or_default(),
        counts: Counted {
            methods: section.optional("methods")?.unwrap_or_default(),
            paths: section.optional("paths")?.unwrap_or_default(),
            operations: section.optional("operations")?.unwrap_or_default(),
        },
        each_operation: section.optional("each_operation")?.unwrap_or_default(),
        ..all(name, calls, window)
    };
    if limit.counts.methods.iter().any(|method| !method.chars().all(|c| c.is_ascii_uppercase())) {
        return Err(section.error("methods", "HTTP methods are written in capitals, like \"GET\""));
    }
    if limit.counts.paths.iter().any(|path| !path.starts_with(['/', '*'])) {
        return Err(section.error("paths", "a path starts with `/` or `*`"));
    }
    section.finish()?;
    Ok(limit)
}

fn busy_answer(named: &mut Section, name: String, limits: &[RateLimit]) -> Result<BusyAnswer, LoadError> {
    let mut section = named.section(&name)?;
    let pause: Option<u32> = section.optional("pause_seconds")?;
    let answer = BusyAnswer {
        name,
        status: section.optional("status")?,
        pointer: section.optional("pointer")?,
        contains: section.optional("contains")?.unwrap_or_default(),
        limit: section.optional("limit")?,
        pause: Duration::from_secs(pause.unwrap_or(1).into()),
    };
    if answer.pointer.as_ref().is_some_and(|pointer| !pointer::is_readable(pointer)) {
        return Err(section.error("pointer", "is no JSON pointer: write one like `/errors/*/message`"));
    }
    if answer.pointer.is_some() == answer.contains.is_empty() {
        return Err(
            section.error("contains", "is what the text at `pointer` has in it: write both or neither")
        );
    }
    if answer.pointer.is_none() && answer.status.is_none() {
        return Err(section.error("", "needs `status`, or `pointer` and `contains`"));
    }
    if let Some(limit) = &answer.limit
        && !limits.iter().any(|known| known.name == *limit)
    {
        return Err(section.error("limit", format!("`{limit}` is none of the limits above")));
    }
    section.finish()?;
    Ok(answer)
}

/// Reads `[breaker]`.
pub(crate) fn breaker(top: &mut Section) -> Result<Breaker, LoadError> {
    let usual = Breaker::default();
    let Some(mut section) = top.optional_section("breaker")? else {
        return Ok(usual);
    };
    let failures = section.optional("failures")?.unwrap_or(usual.failures);
    let mut seconds = |key: &str, usual: Duration| -> Result<Duration, LoadError> {
        let seconds: Option<NonZeroU32> = section.optional(key)?;
        Ok(seconds.map_or(usual, |seconds| Duration::from_secs(seconds.get().into())))
    };
    let breaker = Breaker {
        failures,
        pause: seconds("open_seconds", usual.pause)?,
        longest: seconds("longest_open_seconds", usual.longest)?,
    };
    if breaker.longest < breaker.pause {
        return Err(section.error("longest_open_seconds", "is shorter than `open_seconds`"));
    }
    section.finish()?;
    Ok(breaker)
}
