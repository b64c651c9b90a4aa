//! Many changes in one call: `POST <collection>/bulk-create`, `bulk-update` and `bulk-delete`, for kinds that
//! `simulator.toml` gives a `bulk`, the most objects of one call.
//!
//! | call | `{"items": […]}` | an item's result in `{"results": […]}` |
//! |---|---|---|
//! | `bulk-create` | `{"key": …, "object": {…}}` | `{"key", "status": 201, "object"}`; with a used key status 200 |
//! | `bulk-update` | `{"id": …, "object": {…}}` | `{"id", "status": 200, "object"}` |
//! | `bulk-delete` | `{"id": …}` | `{"id", "status": 204}` |
//!
//! Results are in the order of the items. Each item succeeds or fails by itself, with the status and the `error` that the
//! call for it alone would have had; an earlier item's effect is there for a later one. The call spends one token. Where
//! changes of the kind are jobs (`faults.jobs`), the answer is 202, and the results are in the job that succeeded; a job
//! that fails has done none of them. A rule of `faults.refuse` with a name refuses the item of that name, one without a
//! name the whole call.

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde_json::{Map, Value, json};

use crate::app::{App, State};
use crate::operate::{Outcome, Request, operate};
use crate::reply::{Refusal, Reply};
use crate::vendor::{Kind, NAME, Target};
use crate::world::{self, Effect};

/// Which change is made of many objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bulk {
    Create,
    Update,
    Delete,
}

impl Bulk {
    /// The change that the rest of a path behind the collection means.
    pub(crate) fn of(rest: &str) -> Option<Self> {
        match rest {
            "/bulk-create" => Some(Self::Create),
            "/bulk-update" => Some(Self::Update),
            "/bulk-delete" => Some(Self::Delete),
            _ => None,
        }
    }
}

/// The names of the objects that a call is to create.
pub(crate) fn creates(request: &Request) -> Vec<String> {
    let items = request.body.as_ref().and_then(|body| body["items"].as_array());
    let names = items.into_iter().flatten().filter_map(|item| item["object"][NAME].as_str());
    names.map(str::to_owned).collect()
}

/// Does what a call for many asks for. Its effects are applied already, each before the next item is looked at.
pub(crate) fn operate_all(
    app: &App,
    state: &mut State,
    request: &Request,
    kind: &Kind,
    bulk: Bulk,
) -> Outcome {
    let items = match items(request, kind) {
        Ok(items) => items,
        Err(refusal) => return Outcome { reply: refusal.reply(), effects: Vec::new(), applied: 0 },
    };
    let job = state.trouble.begin_job(&kind.name, None);
    if let Some(job) = job.as_ref().filter(|job| job.failed) {
        return Outcome { reply: job.reply(), effects: Vec::new(), applied: 0 };
    }
    let (mut results, mut effects) = (Vec::new(), Vec::new());
    for item in items {
        let Outcome { reply, effects: own, .. } = one(app, state, kind, bulk, item);
        own.iter().for_each(|effect| state.world.apply(effect));
        effects.extend(own);
        results.push(result(bulk, item, &reply));
    }
    let results = json!(results);
    let reply = match job {
        None => Reply::new(StatusCode::OK, &json!({ "results": results })),
        Some(job) => {
            state.trouble.jobs.tell(&job.id, results);
            job.reply()
        }
    };
    Outcome { reply, applied: effects.len(), effects }
}

fn items<'a>(request: &'a Request, kind: &Kind) -> Result<&'a [Value], Refusal> {
    if request.method != Method::POST {
        let message = format!("{} is not possible here", request.method);
        return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message));
    }
    let Some(items) = request.body.as_ref().and_then(|body| body["items"].as_array()) else {
        return Err(Refusal::invalid("items", "items must be a list"));
    };
    if items.is_empty() || items.len() > kind.bulk {
        let message = format!("a call is about 1 to {} objects, not {}", kind.bulk, items.len());
        return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too_many_items", message));
    }
    Ok(items)
}

/// The call that an item stands for.
fn one(app: &App, state: &mut State, kind: &Kind, bulk: Bulk, item: &Value) -> Outcome {
    let id = item["id"].as_str().unwrap_or_default();
    let (method, path) = match bulk {
        Bulk::Create => (Method::POST, kind.collection.clone()),
        Bulk::Update => (kind.update.clone(), kind.path(id)),
        Bulk::Delete => (Method::DELETE, kind.path(id)),
    };
    let mut headers = HeaderMap::new();
    let header = kind.idempotency_header.as_deref().and_then(|name| name.parse::<HeaderName>().ok());
    let key = item["key"].as_str().and_then(|key| HeaderValue::from_str(key).ok());
    headers.extend(header.zip(key));
    let body = item.get("object").cloned();
    let request =
        Request { method, full_path: path.clone(), path, query: Some(Default::default()), headers, body };
    let name = match (bulk, kind.number(id)) {
        (Bulk::Create, _) => request.body_name().map(str::to_owned),
        (_, number) => {
            let objects = state.world.kinds.get(&kind.name).map(|all| &all.objects);
            let object = objects.zip(number).and_then(|(objects, number)| objects.get(&number));
            object.map(|object| world::name(object).to_owned())
        }
    };
    let refused = name.and_then(|name| {
        let rule = state.trouble.refuse_named(request.method.as_str(), &request.path, &name)?;
        let status = StatusCode::from_u16(rule.status).unwrap_or(StatusCode::UNPROCESSABLE_ENTITY);
        let refused = Effect::Refused { kind: kind.name.clone(), name };
        let counts = bulk == Bulk::Create && status.is_client_error();
        let effects = Vec::from_iter(counts.then_some(refused));
        Some(Outcome { reply: Refusal::new(status, rule.code, rule.message).reply(), effects, applied: 0 })
    });
    refused.unwrap_or_else(|| operate(&app.vendor, &state.world, &request))
}

fn result(bulk: Bulk, item: &Value, reply: &Reply) -> Value {
    let named = if bulk == Bulk::Create { "key" } else { "id" };
    let mut result = Map::from_iter([
        (named.to_owned(), item[named].clone()),
        ("status".to_owned(), reply.status.as_u16().into()),
    ]);
    match reply.json() {
        Some(body) if reply.status.is_success() => {
            result.insert("object".to_owned(), body);
        }
        Some(mut body) => {
            result.insert("error".to_owned(), body["error"].take());
        }
        None => {}
    }
    Value::Object(result)
}

/// What a path behind a kind's collection means.
pub(crate) fn target(kind: &Kind, path: &str) -> Option<Target> {
    let bulk = Bulk::of(path.strip_prefix(kind.collection.as_str())?).filter(|_| kind.bulk > 0);
    bulk.map(Target::Bulk)
}
