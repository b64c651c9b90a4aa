//! The change of many objects in one call.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::answer::judge_result;
use super::error::ClientError;
use super::job::{JobNote, JobNotes, JobOf, not_known};
use super::{RemoteObject, ResourceClient, of};
use crate::pointer::text_at;
use crate::resource::{BulkApi, Scope};

/// Which change is made of many objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BulkChange {
    /// They are created.
    Create,
    /// They are changed.
    Update,
    /// They are deleted.
    Delete,
}

/// One object of many.
#[derive(Clone, Debug, Default)]
pub struct BulkItem {
    /// Its id; none for a create.
    pub id: Option<String>,
    /// What it is to be; nothing for a delete.
    pub attributes: Map<String, Value>,
    /// The idempotency key of a create.
    pub key: Option<String>,
    /// Where its job is noted, if the call begins one.
    pub notes: Option<Arc<dyn JobNotes>>,
}

/// What the vendor says of one object that it changed.
#[derive(Clone, Debug, PartialEq)]
pub struct BulkAnswer {
    /// Its id, as far as that is known.
    pub id: Option<String>,
    /// The object as it is now; none where the answer does not show it, and of one that was deleted.
    pub object: Option<RemoteObject>,
}

impl BulkChange {
    fn job(self) -> JobOf {
        match self {
            Self::Create => JobOf::Create,
            Self::Update => JobOf::Update,
            Self::Delete => JobOf::Delete,
        }
    }
}

impl ResourceClient {
    /// How the vendor makes this change of many objects in one call; none if it does not, or the folder does not use it.
    #[must_use]
    pub fn bulk_api(&self, change: BulkChange) -> Option<&BulkApi> {
        self.described(change).filter(|bulk| bulk.used)
    }

    fn described(&self, change: BulkChange) -> Option<&BulkApi> {
        match change {
            BulkChange::Create => self.api.bulk.create.as_ref(),
            BulkChange::Update => self.api.bulk.update.as_ref(),
            BulkChange::Delete => self.api.bulk.delete.as_ref(),
        }
    }

    /// How many bytes an object takes in a call.
    #[must_use]
    pub fn bulk_bytes(&self, change: BulkChange, item: &BulkItem) -> usize {
        let Some(bulk) = self.described(change) else { return 0 };
        let json = bulk.item.fill(&self.scope_of(bulk, item), bulk.operation.nulls);
        json.map_or(0, |json| json.to_string().len())
    }

    fn scope_of(&self, bulk: &BulkApi, item: &BulkItem) -> Scope {
        let mut scope = self.api.sent(&item.attributes, bulk.operation.nulls);
        scope.extend(item.id.as_deref().map(of).unwrap_or_default());
        scope.extend(item.key.as_deref().map(|key| ("idempotency_key".to_owned(), Value::from(key))));
        scope
    }

    /// Makes one change of many objects in one call, and answers what became of each, in the same order.
    ///
    /// # Errors
    /// [`ClientError`] about the call as a whole: what became of its objects is known where that says so, for all alike.
    /// Of each object: what the vendor says of it, or that it says nothing.
    pub async fn bulk(
        &self,
        change: BulkChange,
        items: &[BulkItem],
    ) -> Result<Vec<Result<BulkAnswer, ClientError>>, ClientError> {
        let Some(bulk) = self.described(change) else {
            let message = format!("the vendor folder has no bulk form of this change of a {}", self.api.kind);
            return Err(ClientError::configuration(message));
        };
        let scopes: Vec<Scope> = items.iter().map(|item| self.scope_of(bulk, item)).collect();
        let filled = scopes.iter().filter_map(|scope| bulk.item.fill(scope, bulk.operation.nulls));
        let sent = Scope::from_iter([("items".to_owned(), Value::Array(filled.collect()))]);
        let answer = self.change(&bulk.operation, &sent).await?;
        let (body, at) = match self.job_begun(&bulk.operation, &answer)? {
            None => (answer.json()?, &bulk.results),
            Some((_, job)) => {
                let body = self.bulk_job(change, &job, items).await?;
                (body, bulk.job_results.as_ref().unwrap_or(&bulk.results))
            }
        };
        let Some(Value::Array(results)) = body.pointer(at) else {
            return Err(ClientError::unexpected(format!("the answer has no list of results at {at}")));
        };
        let results = assigned(bulk, &scopes, results)?;
        Ok(items
            .iter()
            .zip(results)
            .map(|(item, result)| match result {
                Some(result) => self.bulk_answer(bulk, change, item, result),
                None => Err(ClientError::unexpected("the answer says nothing of this object")),
            })
            .collect())
    }

    /// Notes a job for each of the objects, and follows it to its end.
    async fn bulk_job(
        &self,
        change: BulkChange,
        job: &str,
        items: &[BulkItem],
    ) -> Result<Value, ClientError> {
        let note = |object| JobNote { change: change.job(), job: job.to_owned(), object };
        for item in items {
            if let Some(notes) = &item.notes {
                notes.begun(&note(item.id.clone())).await;
            }
        }
        let error = match self.followed(&note(None)).await {
            Ok(body) => return Ok(body),
            Err(error) => error,
        };
        for item in items {
            if let Some(notes) = item.notes.as_ref().filter(|_| error.may_be_repeated()) {
                notes.failed(&note(item.id.clone())).await;
            }
        }
        Err(not_known(error.into_error(), job))
    }

    fn bulk_answer(
        &self,
        bulk: &BulkApi,
        change: BulkChange,
        item: &BulkItem,
        result: &Value,
    ) -> Result<BulkAnswer, ClientError> {
        let status = bulk.status.as_deref().map(|at| {
            let status = result.pointer(at).and_then(Value::as_u64);
            status
                .and_then(|status| u16::try_from(status).ok())
                .ok_or_else(|| ClientError::unexpected(format!("a result has no status at {at}")))
        });
        judge_result(&self.api, status.transpose()?, result)?;
        let object = match bulk.object.as_deref().and_then(|at| result.pointer(at)) {
            Some(object @ Value::Object(_)) if change != BulkChange::Delete => Some(self.object(object)?),
            _ => None,
        };
        let id = object.as_ref().map(|object| object.id.clone());
        let id = id.or_else(|| item.id.clone());
        Ok(BulkAnswer { id: id.or_else(|| text_at(result, bulk.id.as_deref()?)), object })
    }
}

/// The result of each item; none for one that the answer says nothing of.
fn assigned<'r>(
    bulk: &BulkApi,
    scopes: &[Scope],
    results: &'r [Value],
) -> Result<Vec<Option<&'r Value>>, ClientError> {
    let Some(key) = &bulk.key else {
        if results.len() == scopes.len() {
            return Ok(results.iter().map(Some).collect());
        }
        let message = format!("the answer has {} results about {} objects", results.len(), scopes.len());
        return Err(ClientError::unexpected(message));
    };
    let mut by_key: HashMap<String, Option<&Value>> = HashMap::new();
    for result in results {
        if let Some(text) = text_at(result, &key.result) {
            // What is said twice is not known.
            by_key.entry(text).and_modify(|known| *known = None).or_insert(Some(result));
        }
    }
    let of = |scope: &Scope| by_key.get(&key.item.fill(scope, str::to_owned).ok()?).copied().flatten();
    Ok(scopes.iter().map(of).collect())
}
