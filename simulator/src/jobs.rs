//! Jobs: changes that are answered before their caller is told what came of them.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::reply::{Refusal, Reply};

/// Where jobs are looked at.
const PATH: &str = "/v1/jobs/";

/// One job.
#[derive(Debug)]
pub(crate) struct Job {
    /// How many more looks find nothing.
    pub(crate) unknown: u32,
    /// How many more looks find it running.
    pub(crate) looks: u32,
    /// The object it was about; `None` if it failed.
    pub(crate) object: Option<String>,
    /// What went wrong, if it failed.
    pub(crate) message: Option<String>,
    /// What became of each object, if it was about many.
    pub(crate) results: Option<Value>,
}

/// A job that has just begun.
#[derive(Debug)]
pub(crate) struct Beginning {
    pub(crate) id: String,
    /// Whether it will have done nothing.
    pub(crate) failed: bool,
}

impl Beginning {
    pub(crate) fn reply(&self) -> Reply {
        Reply::new(StatusCode::ACCEPTED, &json!({ "job": { "id": self.id } }))
    }
}

/// The jobs that have begun.
#[derive(Debug, Default)]
pub(crate) struct Begun {
    jobs: BTreeMap<String, Job>,
    last: u64,
}

impl Begun {
    pub(crate) fn begin(&mut self, job: Job) -> String {
        self.last += 1;
        let id = format!("jb-{:06}", self.last);
        self.jobs.insert(id.clone(), job);
        id
    }

    /// Notes what became of the objects of a job about many.
    pub(crate) fn tell(&mut self, id: &str, results: Value) {
        if let Some(job) = self.jobs.get_mut(id) {
            job.results = Some(results);
        }
    }

    /// The answer to a look at a job; `None` if the path is none of a job.
    pub(crate) fn look(&mut self, path: &str) -> Option<Reply> {
        let id = path.strip_prefix(PATH)?;
        let none = || Some(Refusal::not_found(format!("there is no job {id}")).reply());
        let Some(job) = self.jobs.get_mut(id) else { return none() };
        if job.unknown > 0 {
            job.unknown -= 1;
            return none();
        }
        let running = job.looks > 0;
        job.looks = job.looks.saturating_sub(1);
        let (state, object, message) = match &job.message {
            _ if running => ("running", &None, Value::Null),
            Some(message) => ("failed", &None, json!(message)),
            None => ("succeeded", &job.object, Value::Null),
        };
        let mut body = json!({ "job": { "id": id, "state": state, "object": object, "message": message } });
        if let Some(results) = job.results.as_ref().filter(|_| !running) {
            body["job"]["results"] = results.clone();
        }
        Some(Reply::new(StatusCode::OK, &body))
    }
}
