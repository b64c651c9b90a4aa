//! Exit codes that mean something.

use std::process::ExitCode;

/// How a mode ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done, or nothing to do.
    Done,
    /// There is a difference, or the work failed.
    Different,
    /// Refused by a rule.
    Refused,
    /// Interrupted.
    Interrupted,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(match exit {
            Exit::Done => 0,
            Exit::Different => 1,
            Exit::Refused => 3,
            Exit::Interrupted => 130,
        })
    }
}

/// A problem that has an exit code of its own.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// Wrong usage that clap could not see.
    #[error("{0}")]
    Usage(String),
    /// NATS or Postgres could not be reached.
    #[error("{0}")]
    Unreachable(String),
    /// Time ran out and the thing is still pending.
    #[error("{0}")]
    TimedOut(String),
}

pub use Problem::{TimedOut, Unreachable, Usage};

/// The exit code of an error: 2 wrong usage, 5 unreachable, 8 time ran out, 1 anything else.
pub fn of_error(error: &anyhow::Error) -> ExitCode {
    let cannot_reach = error.chain().any(|cause| {
        matches!(cause.downcast_ref(), Some(wanwright_nats::NatsError::Connect { .. }))
            || matches!(cause.downcast_ref(), Some(sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut))
    });
    ExitCode::from(match error.downcast_ref() {
        Some(Usage(_)) => 2,
        Some(Unreachable(_)) => 5,
        Some(TimedOut(_)) => 8,
        None if cannot_reach => 5,
        None => 1,
    })
}
