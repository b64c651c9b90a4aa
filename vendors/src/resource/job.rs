//! `[job]`: work that the vendor goes on with after its answer, and how it is followed.

use std::time::Duration;

use super::operation::{IdPlace, Operation, Role, Shared};
use crate::error::LoadError;
use crate::pointer;
use crate::section::Section;

/// How the vendor's jobs are followed.
#[derive(Clone, Debug, PartialEq)]
pub struct JobApi {
    /// The statuses of an answer that begins a job.
    pub statuses: Vec<u16>,
    /// Where that answer has the job's id.
    pub id: IdPlace,
    /// The call that asks how the job stands.
    pub operation: Operation,
    /// JSON pointer to how it stands.
    pub state: String,
    /// States in which it goes on.
    pub running: Vec<String>,
    /// States in which it has done its work.
    pub succeeded: Vec<String>,
    /// States in which it has failed.
    pub failed: Vec<String>,
    /// JSON pointer to what went wrong.
    pub message: Option<String>,
    /// JSON pointer to the id of the object that it made.
    pub object_id: Option<String>,
    /// Time between two looks.
    pub interval: Duration,
    /// Longest time that one run follows it; the next run goes on.
    pub limit: Duration,
    /// Longest time that all runs together follow it.
    pub give_up: Duration,
}

/// How long jobs are followed altogether, where the folder does not say.
const GIVE_UP_SECONDS: u64 = 86_400;

/// Notes of jobs are kept for 30 days.
const LONGEST: Duration = Duration::from_secs(28 * 86_400);

pub(super) fn load(shared: &Shared<'_>, mut section: Section) -> Result<JobApi, LoadError> {
    let required = |section: &mut Section, key: &str| {
        pointer::reading(section, key)?.ok_or_else(|| section.error(key, "is missing: add it"))
    };
    let id = match shared.id_place(&mut section, "id")? {
        Some(IdPlace::Named(_)) => {
            return Err(section.error("id", "is in the answer: write a JSON pointer or `header:Location`"));
        }
        Some(id) => id,
        None => return Err(section.error("id", "is missing: add it (see vendors/README.md)")),
    };
    let seconds = |section: &mut Section, key: &str, usual: u64| {
        section.optional::<f64>(key).and_then(|given| {
            Duration::try_from_secs_f64(given.unwrap_or(usual as f64))
                .map_err(|_| section.error(key, "is no time: write seconds"))
        })
    };
    let job = JobApi {
        operation: shared.operation(&mut section, Role::Job)?,
        statuses: section.optional("statuses")?.unwrap_or_else(|| vec![202]),
        id,
        state: required(&mut section, "state")?,
        running: section.required("running")?,
        succeeded: section.required("succeeded")?,
        failed: section.required("failed")?,
        message: pointer::reading(&mut section, "message")?,
        object_id: pointer::reading(&mut section, "object_id")?,
        interval: seconds(&mut section, "interval_seconds", 2)?,
        limit: seconds(&mut section, "limit_seconds", 600)?,
        give_up: seconds(&mut section, "give_up_seconds", GIVE_UP_SECONDS)?,
    };
    if job.give_up < job.limit {
        let message = "is shorter than `limit_seconds`, the time of one run: make it longer";
        return Err(section.error("give_up_seconds", message));
    }
    if job.give_up > LONGEST {
        let message = "is longer than a job is remembered: write 2419200 (28 days) at most";
        return Err(section.error("give_up_seconds", message));
    }
    if !job.operation.names("job") {
        return Err(section.error("path", "does not say which job: add `{job}` to it, or to what is sent"));
    }
    if job.statuses.is_empty() || job.statuses.iter().any(|status| !(200..300).contains(status)) {
        return Err(section.error("statuses", "are success statuses: write some like `[202]`"));
    }
    for (key, states) in [("succeeded", &job.succeeded), ("failed", &job.failed)] {
        let twice = states
            .iter()
            .find(|state| job.running.contains(state) || (key == "failed" && job.succeeded.contains(state)));
        if states.is_empty() {
            return Err(section.error(key, "names no state: a job has to end"));
        }
        if let Some(state) = twice {
            return Err(section
                .error(key, format!("names `{state}`, which is named elsewhere: a state means one thing")));
        }
    }
    section.finish()?;
    Ok(job)
}
