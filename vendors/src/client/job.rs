//! Following the vendor's jobs.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::time::{Instant, sleep};

use super::answer::{self, Answer};
use super::error::ClientError;
use super::{Patience, ResourceClient};
use crate::pointer::text_at;
use crate::resource::{JobApi, Operation, Scope};

/// How many looks at a job may fail in a row.
const MOST_TROUBLES: u32 = 3;

/// A job that the vendor has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobNote {
    /// What it was begun for.
    pub change: JobOf,
    /// Its id at the vendor.
    pub job: String,
    /// The object's id, as far as it is known already.
    pub object: Option<String>,
}

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobOf {
    /// It makes an object.
    Create,
    /// It changes one.
    Update,
    /// It gives effect to a create or a change that was stored before.
    Publish,
    /// It deletes one.
    Delete,
}

/// Where jobs are noted before they are followed, so that whoever comes after this process goes on with the same job.
pub trait JobNotes: fmt::Debug + Send + Sync {
    /// Notes a job that has begun. What cannot be noted is for the implementation to say: the job goes on anyhow.
    fn begun<'a>(&'a self, note: &'a JobNote) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

    /// Notes that a job has failed for a reason that passes: whoever comes next follows it no more, and begins another one.
    fn failed<'a>(&'a self, note: &'a JobNote) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
}

/// Why a job was not followed to a good end.
#[derive(Debug)]
pub(super) enum Unfollowed {
    /// It has ended, and failed.
    Failed(ClientError),
    /// It goes on, or nobody can say how it stands.
    Untold(ClientError),
}

impl Unfollowed {
    /// Whether the job has ended, and another one may do what it did not. What does not pass is reported first.
    pub(super) fn may_be_repeated(&self) -> bool {
        matches!(self, Self::Failed(error) if error.is_passing())
    }

    pub(super) fn into_error(self) -> ClientError {
        match self {
            Self::Failed(error) | Self::Untold(error) => error,
        }
    }
}

impl From<ClientError> for Unfollowed {
    fn from(error: ClientError) -> Self {
        Self::Untold(error)
    }
}

impl ResourceClient {
    /// The job that an answer begins; `None` if the answer is the end of the work.
    pub(super) fn job_begun(
        &self,
        operation: &Operation,
        answer: &Answer,
    ) -> Result<Option<(&JobApi, String)>, ClientError> {
        let Some(job) =
            self.api.job.as_ref().filter(|job| operation.job && job.statuses.contains(&answer.status))
        else {
            return Ok(None);
        };
        match self.id_at(&job.id, answer, &Map::new()) {
            Some(id) => Ok(Some((job, id))),
            None => Err(ClientError::unexpected("the answer begins a job and does not say which")),
        }
    }

    /// Notes a job and follows it to its end.
    pub(super) async fn carried_out(&self, note: &JobNote) -> Result<Option<String>, ClientError> {
        if let Some(notes) = &self.notes {
            notes.begun(note).await;
        }
        self.follow(note).await.map_err(|error| not_known(error, &note.job))
    }

    /// Follows a job to its end, and answers the id of its object as far as it is known then.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if it failed, with `gone` if the vendor does not know the job;
    /// [`ClientError::Pending`] if it goes on for longer than the folder's limit.
    pub async fn follow(&self, note: &JobNote) -> Result<Option<String>, ClientError> {
        let body = match self.followed(note).await {
            Ok(body) => body,
            Err(error) => {
                if let Some(notes) = self.notes.as_ref().filter(|_| error.may_be_repeated()) {
                    notes.failed(note).await;
                }
                return Err(error.into_error());
            }
        };
        let made = self.api.job.as_ref().and_then(|job| job.object_id.as_deref());
        Ok(made.and_then(|at| text_at(&body, at)).or_else(|| note.object.clone()))
    }

    /// Makes the calls that a change still takes after this job of it has ended well.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn conclude(
        &self,
        change: JobOf,
        id: &str,
        attributes: &Map<String, Value>,
    ) -> Result<(), ClientError> {
        match change {
            JobOf::Create | JobOf::Update => self.publish(id, attributes).await,
            JobOf::Delete if self.api.publish_deletes => self.publish(id, &Map::new()).await,
            JobOf::Delete | JobOf::Publish => Ok(()),
        }
    }

    /// Follows a job to its end, and answers what the vendor says of it then.
    pub(super) async fn followed(&self, note: &JobNote) -> Result<Value, Unfollowed> {
        let Some(job) = &self.api.job else {
            let message = format!("the vendor folder has no [job] for {}", self.api.kind);
            return Err(ClientError::configuration(message).into());
        };
        let end = self.patience.as_ref().and_then(|patience| patience.until);
        let end = end.unwrap_or_else(|| Instant::now() + job.limit);
        let scope = Scope::from_iter([("job".to_owned(), Value::from(note.job.as_str()))]);
        let mut troubles = 0;
        loop {
            let body = match self.look(&job.operation, &scope).await.and_then(|answer| answer.json()) {
                Ok(body) => body,
                // The job goes on whether or not somebody can look at it.
                Err(error)
                    if error.is_passing()
                        && troubles < MOST_TROUBLES
                        && Instant::now() < end
                        && self.pause(job.interval).await =>
                {
                    troubles += 1;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            troubles = 0;
            let Some(state) = state(job, &body) else {
                let message = format!("the answer has no state of job {} at {}", note.job, job.state);
                return Err(ClientError::unexpected(message).into());
            };
            let is = |states: &[String]| states.contains(&state);
            if is(&job.succeeded) {
                return Ok(body);
            }
            if is(&job.failed) {
                let message = job.message.as_deref().and_then(|at| text_at(&body, at));
                return Err(Unfollowed::Failed(answer::of_job(&self.api, &note.job, &state, message)));
            }
            if !is(&job.running) {
                let message =
                    format!("job {} is in state `{state}`, which the folder does not name", note.job);
                return Err(ClientError::unexpected(message).into());
            }
            if Instant::now() + job.interval > end || !self.pause(job.interval).await {
                return Err(ClientError::Pending { job: note.job.clone(), state }.into());
            }
        }
    }

    /// Waits; false if nobody waits any more.
    async fn pause(&self, time: Duration) -> bool {
        let Some(Patience { stopped, .. }) = &self.patience else {
            sleep(time).await;
            return true;
        };
        let mut stopped = stopped.clone();
        tokio::select! {
            () = sleep(time) => true,
            // Whoever could say so may be gone: then nobody does.
            Ok(_) = stopped.wait_for(|stopped| *stopped) => false,
        }
    }
}

/// That the vendor does not know a job that it has just begun says nothing of the object: whoever comes next asks again.
pub(super) fn not_known(error: ClientError, job: &str) -> ClientError {
    match error.is_not_found() {
        true => ClientError::unexpected(format!("it began job {job} and does not know it")),
        false => error,
    }
}

/// How the job stands; truth values are states as well.
fn state(job: &JobApi, body: &Value) -> Option<String> {
    match body.pointer(&job.state)? {
        Value::Bool(truth) => Some(truth.to_string()),
        _ => text_at(body, &job.state),
    }
}
