//! Going on with what an earlier run began at the vendor and did not see the end of.

use jiff::Timestamp;
use serde_json::{Map, Value};
use wanwright_vendors::{ClientError, JobNote, JobOf, RemoteObject};

use super::{Trouble, Work, find};
use crate::engine::notes::{Doing, Note, Notes};
use crate::engine::reason_of;

/// What an earlier run began, as far as this one makes use of it.
#[derive(Debug, Default)]
pub(super) struct Resumed {
    /// The id of what it made or changed: newer than what was reported of the object.
    pub(super) id: Option<String>,
    /// The job that has ended well, if it was begun for this very order.
    pub(super) ended: Option<JobNote>,
}

impl Resumed {
    fn made(id: impl Into<Option<String>>) -> Self {
        Self { id: id.into(), ended: None }
    }
}

impl Work<'_> {
    /// Goes on with what an earlier run began.
    pub(super) async fn resume(&self) -> Result<Resumed, Trouble> {
        let Some(notes) = self.notes else { return Ok(Resumed::default()) };
        let Some(note) = notes.get().await? else { return Ok(Resumed::default()) };
        match &note.doing {
            Doing::Create { object: Some(id) } => Ok(Resumed::made(id.clone())),
            // A person has looked at the vendor, and says that it may be created.
            Doing::Create { object: None } if self.run.order.retries > note.retries => Ok(Resumed::default()),
            Doing::Create { object: None } => {
                self.unanswered("an earlier run asked for it and got no answer".to_owned()).await
            }
            Doing::Job(job) => self.follow(notes, &note, job).await,
            Doing::Lost { .. } => Ok(Resumed::default()),
        }
    }

    /// Goes on after a create of which nobody knows what came of it.
    async fn unanswered(&self, why: String) -> Result<Resumed, Trouble> {
        // That it is not there says nothing: the vendor may still be making it.
        let found = match self.client.api().finds_by_name() {
            true => find(self.run, &self.client, self.device).await?,
            false => None,
        };
        found.map(Resumed::made).ok_or_else(|| Trouble::unknown(why))
    }

    /// Follows the job of an earlier run.
    async fn follow(&self, notes: &Notes, note: &Note, job: &JobNote) -> Result<Resumed, Trouble> {
        let log = &self.run.log;
        log.line("info", format!("the vendor's job {} was begun before; it is followed", job.job)).await;
        let is_own = note.order == self.run.order.id;
        let error = match self.client.follow(job).await {
            Ok(object) => {
                let id = object.filter(|_| job.change != JobOf::Delete);
                if id.is_none() && job.change == JobOf::Create && !self.client.api().finds_lost_create() {
                    let why = format!("the vendor's job {} has ended and does not say what it made", job.job);
                    return self.lost_create(notes, job, why).await;
                }
                return Ok(Resumed { id, ended: is_own.then(|| job.clone()) });
            }
            Err(error) => error,
        };
        if error.is_not_found() {
            if job.change == JobOf::Create && !self.client.api().takes_key() {
                let why = format!("the vendor has forgotten its job {}", job.job);
                return self.lost_create(notes, job, why).await;
            }
        } else if let ClientError::Pending { state, .. } = &error
            && self.is_given_up(notes).await?
        {
            if job.change == JobOf::Create && !self.client.api().takes_key() {
                let why = format!("the vendor's job {} does not end, it is still `{state}`", job.job);
                return self.lost_create(notes, job, why).await;
            }
            // A person has sent `retry`: the change is not waited for any more, and does no harm twice.
            if self.run.order.retries <= note.retries {
                let message = format!("{error}, and is not waited for any longer");
                return Err(Trouble::Kept(reason_of(&error), message));
            }
        } else if is_own && !error.is_passing() && job.change == JobOf::Publish {
            // What was not published is there, and perhaps nothing else finds it again.
            notes.put(Doing::Create { object: job.object.clone() }).await?;
            return Err(Trouble::Kept(reason_of(&error), error.to_string()));
        } else if error.is_passing() || is_own {
            return Err(error.into());
        }
        log.line("warn", format!("{error}; the work is begun anew")).await;
        let has_object = matches!(job.change, JobOf::Update | JobOf::Publish);
        Ok(Resumed::made(job.object.clone().filter(|_| has_object)))
    }

    /// Whether the note of a job is as old as jobs may become.
    async fn is_given_up(&self, notes: &Notes) -> Result<bool, Trouble> {
        let Some(job) = &self.client.api().job else { return Ok(false) };
        let Some(written) = notes.written().await? else { return Ok(false) };
        let age = Timestamp::now().duration_since(written);
        Ok(std::time::Duration::try_from(age).unwrap_or_default() >= job.give_up)
    }

    /// Goes on after a create that no key finds again, in a job that tells nothing of it: as after one without an answer.
    async fn lost_create(&self, notes: &Notes, job: &JobNote, why: String) -> Result<Resumed, Trouble> {
        if let Some(id) = &job.object
            && self.client.read(id).await?.is_some()
        {
            return Ok(Resumed::made(id.clone()));
        }
        notes.put(Doing::Create { object: None }).await?;
        self.unanswered(why).await
    }

    /// The object as this order's own job left it, brought to its end without asking for the same change again; `None` if it
    /// has to be created.
    pub(super) async fn brought(
        &self,
        job: &JobNote,
        id: &str,
        attributes: &Map<String, Value>,
    ) -> Result<Option<RemoteObject>, ClientError> {
        if job.change == JobOf::Delete {
            self.client.conclude(job.change, job.object.as_deref().unwrap_or(id), attributes).await?;
            return Ok(None);
        }
        self.client.conclude(job.change, id, attributes).await?;
        match (self.client.read(id).await?, job.change) {
            // It was made with other values, under a key that was used before.
            (Some(present), JobOf::Create)
                if !self.client.api().differences(attributes, &present.attributes).is_empty() =>
            {
                self.update(id, attributes).await
            }
            (Some(present), _) => self.unless_replaced(id, attributes, present).await,
            (None, JobOf::Update | JobOf::Publish | JobOf::Delete) => Ok(None),
            (None, JobOf::Create) => {
                let message = "what was made is not there right after".to_owned();
                Err(ClientError::Unexpected { status: None, message })
            }
        }
    }

    /// Whether this order's own job has deleted the object. A job about many that ended well may have left this one.
    pub(super) async fn has_deleted(&self, job: &JobNote) -> Result<bool, ClientError> {
        let Some(id) = &job.object else { return Ok(false) };
        if self.client.read(id).await?.is_some() {
            return Ok(false);
        }
        self.client.conclude(job.change, id, &Map::new()).await?;
        Ok(true)
    }
}
