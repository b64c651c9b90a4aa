//! How a vendor's budget stands, for whoever schedules, shows or waits.

use std::time::Duration;

use jiff::Timestamp;

use super::breaker::Gate;
use super::class::{Limits, counts_all, limit_name};
use super::clock::Now;
use super::desk::Counts;
use super::record::Record;

/// Whether a vendor's account may be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// Calls are made as the limits have room.
    Open,
    /// The vendor wants to be left alone until then, by the NATS server's clock.
    Blocked {
        /// Until when.
        until: Timestamp,
        /// The limit that is full.
        limit: String,
    },
    /// The breaker is open: calls are refused at once until then.
    HeldBack {
        /// Until when.
        until: Timestamp,
        /// What failed last.
        reason: String,
    },
    /// The breaker's time is over: one call is tried, all others are refused until its outcome is known.
    Trial {
        /// What failed last.
        reason: String,
    },
    /// The shared record cannot be reached, or not read by this version: nothing is handed out.
    Away,
}

/// How one limit stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitStanding {
    /// Its name in the record: the folder's, with an address or an operation behind it where each has its own.
    pub name: String,
    /// Whether it counts every call of the account.
    pub counts_all: bool,
    /// Time between calls at the pace that is kept.
    pub interval: Duration,
    /// Calls at once after a pause.
    pub burst: u32,
    /// From when the next call has room, by the NATS server's clock.
    pub free: Timestamp,
    /// Until when the vendor wants to be left alone, if it does.
    pub blocked: Option<Timestamp>,
}

/// How a vendor account's budget stands, as this process knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Whether it may be called.
    pub admission: Admission,
    /// Since when the breaker is open, while it is.
    pub open_since: Option<Timestamp>,
    /// When the breaker was closed last.
    pub closed: Option<Timestamp>,
    /// Its limits, as far as any process has called within them.
    pub limits: Vec<LimitStanding>,
    /// Calls of this process that wait for a slot.
    pub waiting: usize,
    /// How many processes take slots.
    pub processes: usize,
    /// The server's time when this was written down, and by how much it may be wrong.
    pub now: Option<(Timestamp, Duration)>,
    /// What this process counted since its start.
    pub counts: Counts,
}

impl Standing {
    /// What is known before anything is.
    pub(super) fn unknown() -> Self {
        Self {
            admission: Admission::Away,
            open_since: None,
            closed: None,
            limits: Vec::new(),
            waiting: 0,
            processes: 0,
            now: None,
            counts: Counts::default(),
        }
    }

    pub(super) fn of(record: &Record, limits: &Limits, now: Now, waiting: usize, counts: Counts) -> Self {
        let limits: Vec<_> = record
            .limits
            .iter()
            .filter_map(|(name, level)| {
                let limit = limits.all().iter().find(|limit| limit.name == limit_name(name))?;
                Some(LimitStanding {
                    name: name.clone(),
                    counts_all: counts_all(limit),
                    interval: Duration::from_micros(u64::try_from(level.interval).unwrap_or_default()),
                    burst: u32::try_from(level.burst).unwrap_or_default(),
                    free: time(level.free()),
                    blocked: level.blocked.filter(|until| *until > now.latest).map(time),
                })
            })
            .collect();
        Self {
            admission: admission(record, &limits, now),
            open_since: record.breaker.as_ref().map(|open| time(open.since)),
            closed: record.closed.map(time),
            limits,
            waiting,
            processes: record.takers.values().filter(|at| **at > now.earliest - 2_000_000).count(),
            now: Some((
                time(now.earliest),
                Duration::from_micros(u64::try_from(now.error()).unwrap_or_default()),
            )),
            counts,
        }
    }

    /// That of an account whose limits are in the record of the address. Who waits there and who takes slots there is of all
    /// accounts.
    pub(super) fn of_both(own: &Self, address: &Self, limits: &Limits) -> Self {
        let ours = address.limits.iter().filter(|limit| limits.is_ours(&limit.name));
        let ours: Vec<_> = ours.cloned().collect();
        let admission = match (&own.admission, &address.admission) {
            (Admission::Open | Admission::Blocked { .. }, Admission::Away) => Admission::Away,
            (Admission::Open | Admission::Blocked { .. }, _) => blocked(&ours),
            (closed, _) => closed.clone(),
        };
        Self {
            admission,
            limits: ours,
            waiting: own.waiting + address.waiting,
            processes: address.processes,
            now: address.now,
            ..own.clone()
        }
    }

    /// Until when calls are held back and why, in the times of the record.
    pub(super) fn held_back(&self) -> Option<(i64, String)> {
        match &self.admission {
            Admission::HeldBack { until, reason } => Some((until.as_microsecond(), reason.clone())),
            _ => None,
        }
    }

    /// Operations at the NATS server since the start of this process, records it was told of left out.
    pub fn operations(&self) -> u64 {
        self.counts.writes + self.counts.reads
    }
}

fn admission(record: &Record, limits: &[LimitStanding], now: Now) -> Admission {
    if let Some(open) = &record.breaker {
        return match open.gate(now.earliest) {
            Gate::Trial | Gate::Closed => Admission::Trial { reason: open.reason.clone() },
            Gate::Open(until) => Admission::HeldBack { until: time(until), reason: open.reason.clone() },
        };
    }
    blocked(limits)
}

/// Whether the vendor wants to be left alone.
fn blocked(limits: &[LimitStanding]) -> Admission {
    let blocked = limits.iter().filter(|limit| limit.counts_all);
    let blocked = blocked.filter_map(|limit| Some((limit.blocked?, limit))).max_by_key(|(until, _)| *until);
    blocked.map_or(Admission::Open, |(until, limit)| Admission::Blocked { until, limit: limit.name.clone() })
}

/// A time of the record.
pub(in crate::gateway) fn time(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MAX)
}
