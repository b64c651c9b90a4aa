//! The back door under `/_sim/`: what a test sees and does behind the customer's back. Never counted, never limited.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, patch};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::faults::{Faults, Trouble};
use crate::reply::{Refusal, Reply};
use crate::report::{Calls, Health, Level, Objects, Stats, Violations};
use crate::vendor::{Kind, NAME};
use crate::world::{Effect, World};

type Answer = Result<Reply, Refusal>;

pub(crate) fn routes(app: &Arc<App>) -> Router<Arc<App>> {
    Router::new()
        .route("/_sim/stats", get(stats))
        .route("/_sim/objects/{kind}", get(objects))
        .route("/_sim/objects/{kind}/{id}", patch(drift).delete(remove))
        .route("/_sim/faults", get(faults).put(set_faults))
        .route("/_sim/violations", get(violations))
        .route("/_sim/calls", get(calls))
        .route("/_sim", any(nothing))
        .route("/_sim/", any(nothing))
        .route("/_sim/{*rest}", any(nothing))
        .route_layer(from_fn_with_state(Arc::clone(app), admin))
        .route("/_sim/health", get(health))
}

async fn admin(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if app.admin_token.is_in(request.headers()) {
        return next.run(request).await;
    }
    Refusal::new(StatusCode::UNAUTHORIZED, "unauthorized", "the admin token is missing or wrong")
        .into_response()
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        self.reply().into_response()
    }
}

async fn nothing() -> Refusal {
    Refusal::not_found("the back door has no such path")
}

async fn stats(State(app): State<Arc<App>>) -> Answer {
    look(&app, |world| Stats {
        totals: world.totals,
        kinds: world.stats(),
        bucket: Level { tokens: app.fill(world, app.clock.now_us()).tokens(), limit: app.limit },
    })
    .await
}

async fn violations(State(app): State<Arc<App>>) -> Answer {
    look(&app, |world| Violations { violations: world.violations.clone() }).await
}

#[derive(Deserialize)]
struct After {
    #[serde(default)]
    after: u64,
}

async fn calls(State(app): State<Arc<App>>, Query(After { after }): Query<After>) -> Answer {
    look(&app, |world| Calls {
        calls: world.calls.iter().filter(|call| call.seq > after).cloned().collect(),
        last: world.last_call,
    })
    .await
}

#[derive(Deserialize)]
struct Named {
    name: Option<String>,
}

async fn objects(
    State(app): State<Arc<App>>,
    Path(kind): Path<String>,
    Query(named): Query<Named>,
) -> Answer {
    kind_of(&app, &kind)?;
    look(&app, |world| {
        let all = world.kinds.get(&kind).into_iter().flat_map(|objects| objects.objects.values());
        let wanted = named.name.as_ref().map(|name| json!(name));
        let fits = |object: &&Map<String, Value>| wanted.is_none() || object.get(NAME) == wanted.as_ref();
        Objects { items: all.filter(fits).cloned().collect() }
    })
    .await
}

async fn drift(State(app): State<Arc<App>>, Path((kind, id)): Path<(String, String)>, body: Bytes) -> Answer {
    let about = kind_of(&app, &kind)?;
    let change: Map<String, Value> = serde_json::from_slice(&body).map_err(|error| invalid(&error))?;
    if change.contains_key(&about.id_field) {
        return Err(Refusal::invalid(&about.id_field, "the id cannot be changed"));
    }
    let (object, ticket) = {
        let mut state = app.lock();
        let (number, old) = find(&state.world, about, &id)?;
        let mut object = Value::Object(old.clone());
        merge(&mut object, &Value::Object(change));
        let Value::Object(object) = object else {
            return Err(Refusal::invalid("", "not an object"));
        };
        let effect = Effect::Drifted { kind, number, object: Some(object.clone()) };
        (object, app.commit(&mut state, &[effect]))
    };
    done(ticket.on_disk().await, Reply::object(StatusCode::OK, &object))
}

async fn remove(State(app): State<Arc<App>>, Path((kind, id)): Path<(String, String)>) -> Answer {
    let about = kind_of(&app, &kind)?;
    let ticket = {
        let mut state = app.lock();
        let (number, _) = find(&state.world, about, &id)?;
        app.commit(&mut state, &[Effect::Drifted { kind, number, object: None }])
    };
    done(ticket.on_disk().await, Reply::empty(StatusCode::NO_CONTENT))
}

async fn faults(State(app): State<Arc<App>>) -> Answer {
    Ok(Reply::new(StatusCode::OK, &json!(app.lock().trouble.faults())))
}

async fn set_faults(State(app): State<Arc<App>>, body: Bytes) -> Answer {
    let faults: Faults = serde_json::from_slice(&body).map_err(|error| invalid(&error))?;
    faults.check().map_err(|error| invalid(&error))?;
    let reply = Reply::new(StatusCode::OK, &json!(faults));
    let mut state = app.lock();
    let mut trouble = Trouble::new(faults, app.clock.now_us());
    trouble.jobs = std::mem::take(&mut state.trouble.jobs);
    state.trouble = trouble;
    Ok(reply)
}

async fn health(State(app): State<Arc<App>>) -> Reply {
    let kinds = app.vendor.kinds.keys().cloned().collect();
    let (status, text) = if app.journal.barrier().on_disk().await {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the journal cannot be written")
    };
    Reply::new(status, &json!(Health { status: text.into(), kinds }))
}

/// Answers with a part of the world, once all of it is on disk: a test must not see what a crash can take back.
async fn look<T: Serialize>(app: &App, part: impl FnOnce(&World) -> T) -> Answer {
    let (value, ticket) = {
        let state = app.lock();
        (json!(part(&state.world)), app.journal.barrier())
    };
    done(ticket.on_disk().await, Reply::new(StatusCode::OK, &value))
}

fn done(on_disk: bool, reply: Reply) -> Answer {
    let failed =
        || Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "not_on_disk", "the journal cannot be written");
    on_disk.then_some(reply).ok_or_else(failed)
}

fn kind_of<'a>(app: &'a App, kind: &str) -> Result<&'a Kind, Refusal> {
    app.vendor.kinds.get(kind).ok_or_else(|| Refusal::not_found(format!("there is no kind {kind}")))
}

fn find<'a>(world: &'a World, kind: &Kind, id: &str) -> Result<(u64, &'a Map<String, Value>), Refusal> {
    let objects = world.kinds.get(&kind.name);
    let found = kind.number(id).and_then(|number| Some((number, objects?.objects.get(&number)?)));
    found.ok_or_else(|| Refusal::not_found(format!("there is no {} {id}", kind.name)))
}

fn invalid(error: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, "invalid_body", error.to_string())
}

/// JSON merge patch (RFC 7396): `null` removes a field, objects merge, anything else replaces.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let Value::Object(fields) = target else { return };
    for (field, change) in changes {
        if change.is_null() {
            fields.remove(field);
        } else {
            merge(fields.entry(field.clone()).or_insert(Value::Null), change);
        }
    }
}
