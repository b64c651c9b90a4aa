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

/// Wrong usage that clap could not see.
#[derive(Debug)]
pub struct Usage(pub String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// NATS or Postgres could not be reached.
#[derive(Debug)]
pub struct Unreachable(pub String);

impl std::fmt::Display for Unreachable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unreachable {}

/// Time ran out and the thing is still pending.
#[derive(Debug)]
pub struct TimedOut(pub String);

impl std::fmt::Display for TimedOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TimedOut {}

/// The exit code of an error: 2 wrong usage, 5 unreachable, 8 time ran out, 1 anything else.
pub fn of_error(error: &anyhow::Error) -> ExitCode {
    let unreachable = error.is::<Unreachable>()
        || error.chain().any(|cause| {
            matches!(cause.downcast_ref(), Some(wanwright_nats::NatsError::Connect { .. }))
                || matches!(cause.downcast_ref(), Some(sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut))
        });
    ExitCode::from(match () {
        () if error.is::<Usage>() => 2,
        () if unreachable => 5,
        () if error.is::<TimedOut>() => 8,
        () => 1,
    })
}
