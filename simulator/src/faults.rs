use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::jobs::{Beginning, Begun, Job};

/// What shall go wrong, the body of `PUT /_sim/faults`. It replaces all faults; a field left out is at its default: no fault.
///
/// Rates are probabilities from 0 to 1, drawn from one seeded sequence, a fixed number of draws per call: the same
/// calls in the same order meet the same faults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Where the random sequence starts; setting faults starts it again.
    pub seed: u64,
    /// Milliseconds every accepted call waits before anything is done.
    pub latency_ms: u64,
    /// Up to this many milliseconds more.
    pub jitter_ms: u64,
    /// Milliseconds between what was done, on disk, and its answer.
    pub answer_delay_ms: u64,
    /// Rate of 503, with nothing done.
    pub error_rate: f64,
    /// Rate of calls that change something and then lose their connection without an answer.
    pub accepted_but_answer_lost: f64,
    /// Rate of answers of which only a part arrives.
    pub cut_mid_response: f64,
    /// For this many seconds from now every call is answered 429, within the limit or not. Not a violation by the caller.
    pub storm_seconds: u64,
    /// Every call of the API has its connection closed, nothing done or spent. The back door stays open.
    pub down: bool,
    /// More latency for some paths; all that fit add up.
    pub delays: Vec<Delay>,
    /// Calls to refuse; the first rule that fits answers.
    pub refuse: Vec<Refuse>,
    /// Changes of some kinds are carried out by jobs.
    pub jobs: Option<Jobs>,
}

/// Changes that are answered with 202 and `{"job": {"id": …}}`, and looked at under `/v1/jobs/<id>`, which answers
/// `{"job": {"id", "state", "object", "message"}}` with the states `running`, `succeeded` and `failed`.
///
/// What a job does is done, and on disk, before the 202; one that fails has done nothing. Jobs are kept in memory: a
/// simulator that is started again knows none of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Jobs {
    /// The kinds.
    pub kinds: Vec<String>,
    /// How many looks at a job are answered as if there were none, before it is known.
    pub unknown: u32,
    /// How many looks find a job still running.
    pub looks: u32,
    /// Rate of jobs that fail.
    pub failure_rate: f64,
    /// What a failed one says.
    pub message: String,
}

impl Default for Jobs {
    fn default() -> Self {
        Self {
            kinds: vec!["device".into()],
            unknown: 0,
            looks: 2,
            failure_rate: 0.0,
            message: "the job failed by a rule of the test".into(),
        }
    }
}

/// More latency for the paths that begin so.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delay {
    /// Beginning of the path, such as `/v1/devices`.
    pub path_prefix: String,
    /// Milliseconds.
    pub ms: u64,
}

/// Calls to refuse, with nothing done. A condition left out fits every call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Refuse {
    /// HTTP method, such as `POST`.
    pub method: Option<String>,
    /// Beginning of the path.
    pub path_prefix: Option<String>,
    /// Name of the object: in the body of a create, else of the object the path names.
    pub name: Option<String>,
    /// How many more calls to refuse; `None` is every one.
    pub times: Option<u32>,
    /// HTTP status of the answer, 400 to 599.
    pub status: u16,
    /// `error.code` of the answer.
    pub code: String,
    /// `error.message` of the answer.
    pub message: String,
}

impl Default for Refuse {
    fn default() -> Self {
        Self {
            method: None,
            path_prefix: None,
            name: None,
            times: None,
            status: 422,
            code: "refused".into(),
            message: "refused by a rule of the test".into(),
        }
    }
}

impl Faults {
    pub(crate) fn check(&self) -> Result<(), String> {
        let rates = [
            ("error_rate", self.error_rate),
            ("accepted_but_answer_lost", self.accepted_but_answer_lost),
            ("cut_mid_response", self.cut_mid_response),
            ("jobs.failure_rate", self.jobs.as_ref().map_or(0.0, |jobs| jobs.failure_rate)),
        ];
        if let Some((name, _)) = rates.iter().find(|(_, rate)| !(0.0..=1.0).contains(rate)) {
            return Err(format!("{name} must be from 0 to 1"));
        }
        match self.refuse.iter().find(|rule| !(400..=599).contains(&rule.status)) {
            Some(rule) => Err(format!("refuse.status must be from 400 to 599, not {}", rule.status)),
            None => Ok(()),
        }
    }
}

/// What shall happen to one call.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) down: bool,
    /// Seconds the storm still lasts.
    pub(crate) storm: Option<u64>,
    pub(crate) delay: Duration,
    pub(crate) answer_delay: Duration,
    pub(crate) error: bool,
    pub(crate) lose_change: bool,
    pub(crate) cut: bool,
}

/// The faults in force, and where their random sequence is.
#[derive(Debug)]
pub(crate) struct Trouble {
    faults: Faults,
    storm_until_us: u64,
    random: u64,
    /// The jobs there are, whatever the faults are by now.
    pub(crate) jobs: Begun,
}

impl Trouble {
    pub(crate) fn new(faults: Faults, now_us: u64) -> Self {
        Self {
            storm_until_us: now_us.saturating_add(faults.storm_seconds.saturating_mul(1_000_000)),
            random: faults.seed,
            faults,
            jobs: Begun::default(),
        }
    }

    pub(crate) fn faults(&self) -> &Faults {
        &self.faults
    }

    pub(crate) fn plan(&mut self, path: &str, now_us: u64) -> Plan {
        // Always four draws: one rate must not move what another one meets.
        let (error, lost, cut, jitter) = (self.draw(), self.draw(), self.draw(), self.draw());
        let faults = &self.faults;
        let delays = faults.delays.iter().filter(|delay| path.starts_with(&delay.path_prefix));
        let extra = delays.fold(0u64, |sum, delay| sum.saturating_add(delay.ms));
        let jitter = (faults.jitter_ms as f64 * jitter) as u64;
        let storm = self.storm_until_us.saturating_sub(now_us);
        Plan {
            down: faults.down,
            storm: (storm > 0).then(|| storm.div_ceil(1_000_000)),
            delay: Duration::from_millis(faults.latency_ms.saturating_add(jitter).saturating_add(extra)),
            answer_delay: Duration::from_millis(faults.answer_delay_ms),
            error: error < faults.error_rate,
            lose_change: lost < faults.accepted_but_answer_lost,
            cut: cut < faults.cut_mid_response,
        }
    }

    /// The rule that refuses this call, with one of its times spent.
    pub(crate) fn refuse(&mut self, method: &str, path: &str, name: Option<&str>) -> Option<Refuse> {
        let rule = self.faults.refuse.iter_mut().find(|rule| {
            rule.times != Some(0)
                && rule.method.as_deref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(method))
                && rule.path_prefix.as_deref().is_none_or(|prefix| path.starts_with(prefix))
                && (rule.name.is_none() || rule.name.as_deref() == name)
        })?;
        rule.times = rule.times.map(|times| times - 1);
        Some(rule.clone())
    }

    /// The rule that refuses the object of this name among many.
    pub(crate) fn refuse_named(&mut self, method: &str, path: &str, name: &str) -> Option<Refuse> {
        let is_named = self.faults.refuse.iter().any(|rule| rule.name.as_deref() == Some(name));
        is_named.then(|| self.refuse(method, path, Some(name))).flatten()
    }

    /// Begins a job for a change of this kind that came to `object`, if such changes are jobs now.
    pub(crate) fn begin_job(&mut self, kind: &str, object: Option<String>) -> Option<Beginning> {
        let jobs = self.faults.jobs.clone().filter(|jobs| jobs.kinds.iter().any(|own| own == kind))?;
        let failed = self.draw() < jobs.failure_rate;
        let message = failed.then_some(jobs.message);
        let id = self.jobs.begin(Job {
            unknown: jobs.unknown,
            looks: jobs.looks,
            object: object.filter(|_| !failed),
            message,
            results: None,
        });
        Some(Beginning { id, failed })
    }

    /// The next of a SplitMix64 sequence, from 0 up to but not including 1.
    fn draw(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.random;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        (bits >> 11) as f64 / (1u64 << 53) as f64
    }
}
