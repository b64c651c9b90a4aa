//! The way of one call of the API: let in or turned away, delayed, done, written to disk, answered or cut.

use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::{ConnectInfo, Query, Request as HttpRequest, State as Shared};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::app::{App, Creating, State};
use crate::bulk::{self, Bulk};
use crate::connection::Cut;
use crate::faults::Plan;
use crate::operate::{Outcome, Request, operate};
use crate::reply::{Refusal, Reply};
use crate::report::{Call, Fate, Violation};
use crate::vendor::Target;
use crate::world::{self, Effect};

/// Largest body that is read, in bytes.
const BODY_LIMIT: usize = 1 << 20;

pub(crate) async fn answer(
    Shared(app): Shared<Arc<App>>,
    cut: ConnectInfo<Cut>,
    request: HttpRequest,
) -> Response {
    let Some(request) = read(request).await else {
        return Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_body", "the body cannot be read")
            .reply()
            .into_response();
    };
    // A task of its own: what a vendor has received it does, even when the caller goes away meanwhile.
    let ended = tokio::spawn(run(app, request)).await;
    let (reply, fate) = ended.unwrap_or_else(|error| {
        tracing::error!(%error, "a call panicked");
        (Reply::empty(StatusCode::INTERNAL_SERVER_ERROR), Fate::Answered)
    });
    match fate {
        Fate::Answered => {}
        Fate::Lost | Fate::Down => cut.0.before_answer(),
        Fate::Cut => cut.0.within_answer(reply.body_len()),
    }
    reply.into_response()
}

async fn read(request: HttpRequest) -> Option<Request> {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, BODY_LIMIT).await.ok()?;
    Some(Request {
        path: parts.uri.path().to_owned(),
        full_path: parts.uri.path_and_query().map_or_else(String::new, ToString::to_string),
        query: Query::try_from_uri(&parts.uri).ok().map(|Query(query)| query),
        method: parts.method,
        headers: parts.headers,
        body: serde_json::from_slice(&body).ok(),
    })
}

/// What is decided when a call arrives.
enum Admission {
    In(Plan, Vec<Creating>),
    Away(Reply, Vec<Effect>),
    Down,
}

async fn run(app: Arc<App>, request: Request) -> (Reply, Fate) {
    let at_us = app.clock.now_us();
    let (reply, fate) = match admit(&app, &request) {
        Admission::In(plan, creating) => {
            let ended = perform(&app, &request, plan, at_us).await;
            drop(creating);
            ended
        }
        Admission::Away(reply, mut effects) => {
            effects.push(called(&app, &request, at_us, reply.status, Fate::Answered));
            let ticket = app.commit(&mut app.lock(), &effects);
            (if ticket.on_disk().await { reply } else { not_on_disk() }, Fate::Answered)
        }
        Admission::Down => {
            let call = called(&app, &request, at_us, StatusCode::SERVICE_UNAVAILABLE, Fate::Down);
            app.commit_unwaited(&mut app.lock(), &[call]);
            (Reply::empty(StatusCode::SERVICE_UNAVAILABLE), Fate::Down)
        }
    };
    let took_ms = app.clock.now_us().saturating_sub(at_us) / 1000;
    tracing::debug!(method = %request.method, path = request.full_path, status = reply.status.as_u16(), ?fate, took_ms, "call");
    (reply, fate)
}

fn admit(app: &Arc<App>, request: &Request) -> Admission {
    let mut guard = app.lock();
    let state = &mut *guard;
    // Read under the lock, so that the bucket's times only go forward.
    let now_us = app.clock.now_us();
    let plan = state.trouble.plan(&request.path, now_us);
    if plan.down {
        return Admission::Down;
    }
    if !app.token.is_in(&request.headers) {
        let refusal =
            Refusal::new(StatusCode::UNAUTHORIZED, "unauthorized", "the bearer token is missing or wrong");
        return Admission::Away(refusal.reply(), vec![Effect::Unauthorized]);
    }
    let fill = match app.bucket.take(app.fill(&state.world, now_us), now_us) {
        Ok(fill) => fill,
        Err(seconds) => {
            let reply = Reply::too_many(seconds, "too many calls");
            return Admission::Away(reply, vec![Effect::Violated(violation(request, now_us))]);
        }
    };
    let mut effects = vec![Effect::Charged { fill }];
    if let Some(seconds) = plan.storm {
        effects.push(Effect::Stormed);
        app.commit_unwaited(state, &effects);
        return Admission::Away(Reply::too_many(seconds, "the vendor is overloaded"), Vec::new());
    }
    let creating = creates_of(app, request).into_iter().map(|(kind, name)| {
        let (creating, concurrent) = Creating::begin(app, state, &kind, &name);
        effects.extend(concurrent.then_some(Effect::Concurrent { kind, name }));
        creating
    });
    let creating = creating.collect();
    app.commit_unwaited(state, &effects);
    Admission::In(plan, creating)
}

async fn perform(app: &App, request: &Request, plan: Plan, at_us: u64) -> (Reply, Fate) {
    if !app.pause(plan.delay).await {
        return (Reply::empty(StatusCode::SERVICE_UNAVAILABLE), Fate::Down);
    }
    let (reply, fate, ticket) = {
        let mut guard = app.lock();
        let state = &mut *guard;
        let Outcome { reply, mut effects, applied } = outcome(app, state, request, plan);
        let changed = effects.iter().any(Effect::is_change);
        let fate = match plan {
            Plan { lose_change: true, .. } if changed => Fate::Lost,
            Plan { cut: true, .. } => Fate::Cut,
            _ => Fate::Answered,
        };
        effects.push(called(app, request, at_us, reply.status, fate));
        let ticket = app.commit_rest(state, &effects, applied);
        (reply, fate, ticket)
    };
    if !ticket.on_disk().await {
        return (not_on_disk(), Fate::Answered);
    }
    app.pause(plan.answer_delay).await;
    (reply, fate)
}

fn outcome(app: &App, state: &mut State, request: &Request, plan: Plan) -> Outcome {
    if plan.error {
        let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "try again later");
        return Outcome { reply: refusal.reply(), effects: Vec::new(), applied: 0 };
    }
    if request.method == Method::GET
        && let Some(reply) = state.trouble.jobs.look(&request.path)
    {
        return Outcome { reply, effects: Vec::new(), applied: 0 };
    }
    let name = object_name(app, state, request);
    let Some(rule) = state.trouble.refuse(request.method.as_str(), &request.path, name.as_deref()) else {
        if let Some((kind, Target::Bulk(bulk))) = app.vendor.route(&request.path) {
            return bulk::operate_all(app, state, request, kind, bulk);
        }
        return as_job(app, state, request, operate(&app.vendor, &state.world, request));
    };
    let status = StatusCode::from_u16(rule.status).unwrap_or(StatusCode::UNPROCESSABLE_ENTITY);
    let reply = Refusal::new(status, rule.code, rule.message).reply();
    let refused = creates_of(app, request).into_iter().filter(|_| status.is_client_error());
    let effects = refused.map(|(kind, name)| Effect::Refused { kind, name }).collect();
    Outcome { reply, effects, applied: 0 }
}

/// The outcome as it is, or as a job where changes of the kind are jobs now.
fn as_job(app: &App, state: &mut State, request: &Request, outcome: Outcome) -> Outcome {
    let Some((kind, target)) = app.vendor.route(&request.path) else { return outcome };
    if !outcome.effects.iter().any(Effect::is_change) {
        return outcome;
    }
    let object = match target {
        Target::Item(id) => Some(id),
        Target::Collection => outcome.reply.id(&kind.id_field),
        Target::Bulk(_) => None,
    };
    match state.trouble.begin_job(&kind.name, object) {
        None => outcome,
        Some(job) => {
            let effects = if job.failed { Vec::new() } else { outcome.effects };
            Outcome { reply: job.reply(), effects, applied: 0 }
        }
    }
}

/// The kinds and names a call is to create.
fn creates_of(app: &App, request: &Request) -> Vec<(String, String)> {
    let Some((kind, target)) = app.vendor.route(&request.path).filter(|_| request.method == Method::POST)
    else {
        return Vec::new();
    };
    let names = match target {
        Target::Collection => request.body_name().map(str::to_owned).into_iter().collect(),
        Target::Bulk(Bulk::Create) => bulk::creates(request),
        Target::Item(_) | Target::Bulk(_) => Vec::new(),
    };
    names.into_iter().map(|name| (kind.name.clone(), name)).collect()
}

/// The name of the object a call is about.
fn object_name(app: &App, state: &State, request: &Request) -> Option<String> {
    match app.vendor.route(&request.path)? {
        (kind, Target::Item(id)) => {
            let objects = &state.world.kinds.get(&kind.name)?.objects;
            Some(world::name(objects.get(&kind.number(&id)?)?).to_owned())
        }
        (_, Target::Collection) => request.body_name().map(str::to_owned),
        (_, Target::Bulk(_)) => None,
    }
}

fn violation(request: &Request, now_us: u64) -> Violation {
    Violation { at_ms: now_us / 1000, method: request.method.to_string(), path: request.full_path.clone() }
}

fn called(app: &App, request: &Request, at_us: u64, status: StatusCode, fate: Fate) -> Effect {
    let key = app.vendor.route(&request.path).and_then(|(kind, _)| request.key(kind));
    Effect::Called(Call {
        seq: 0,
        at_ms: at_us / 1000,
        method: request.method.to_string(),
        path: request.full_path.clone(),
        status: if fate == Fate::Down { 0 } else { status.as_u16() },
        fate,
        key: key.map(str::to_owned),
    })
}

fn not_on_disk() -> Reply {
    let message = "the change could not be written to disk, or the simulator stopped";
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "not_on_disk", message).reply()
}
