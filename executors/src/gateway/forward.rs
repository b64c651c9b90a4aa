//! Forwarding one call: its turn, the credential, the journal, the record, the answer.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use tokio::time::Instant;
use wanwright_schemas::effect::Phase;
use wanwright_schemas::headers::TRACE_PARENT;
use wanwright_schemas::run::RunEvent;
use wanwright_vendors::LOOKS_HEADER;

use super::journal::{self, Change};
use super::run::Run;
use super::{Inner, Lane, MAX_BODY};
use crate::records;

/// Longest time a call waits for its turn and through the vendor's `Retry-After`, before its caller is told to try
/// again later.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// How often a call is made that the vendor answers with 503.
const TRIES: u32 = 4;

/// Half of the pause before such a call is made again; each next one is twice as long.
const AGAIN: Duration = Duration::from_millis(100);

/// Pause after a 429 that names none.
const DEFAULT_PENALTY: Duration = Duration::from_secs(1);

/// Longest `Retry-After` that is believed.
const MAX_PENALTY: Duration = Duration::from_secs(300);

/// Headers that concern one connection only, and what the gateway sets itself.
const NOT_FORWARDED: [HeaderName; 11] = [
    HeaderName::from_static(LOOKS_HEADER),
    // An answer that is packed could not be looked through for the credential.
    header::ACCEPT_ENCODING,
    header::HOST,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    header::PROXY_AUTHORIZATION,
    header::AUTHORIZATION,
];

/// A call as its caller made it.
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: Option<String>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// What the vendor answered.
struct Answered {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

/// An answer of the gateway itself.
pub(super) fn problem(status: u16, what: &str) -> Response {
    let body = serde_json::json!({ "error": { "code": "gateway", "message": what } }).to_string();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// An answer of the gateway itself because of something that is ours: the vendor has not done anything wrong.
fn ours(run: &Run, what: &str) -> Response {
    run.failed_by_us();
    problem(503, what)
}

/// A run that ended makes no calls any more: somebody else may be at its target.
fn ended(run: &Run) -> Response {
    ours(run, "the run has ended, so the call was not made")
}

pub(super) async fn forward(inner: &Inner, run: &Run, call: Call) -> Response {
    let Some(lane) = inner.lanes.get(&run.context.vendor) else {
        return ours(
            run,
            "the gateway has no credential of the run's vendor: set it and start the executors again",
        );
    };
    let deadline = Instant::now() + MAX_WAIT;
    let mut attempt = 0;
    loop {
        attempt += 1;
        let asked = Instant::now();
        let turn = lane.budget.turn(run.context.priority, &run.context.customer);
        let turn = tokio::select! {
            biased;
            () = run.closed.cancelled() => return ended(run),
            turn = tokio::time::timeout_at(deadline, turn) => turn,
        };
        match turn {
            Ok(true) => {}
            Ok(false) => return ours(run, "the gateway is stopping"),
            Err(_) => return ours(run, "the vendor's budget had no turn for the call in time"),
        }
        let waited = asked.elapsed();
        let answered = match perform(inner, run, lane, &call, attempt, waited).await {
            Ok(answered) => answered,
            Err(response) => return response,
        };
        if matches!(answered.status.as_u16(), 401 | 403 | 407) {
            // The credential is ours.
            run.failed_by_us();
        }
        if answered.status == StatusCode::SERVICE_UNAVAILABLE && attempt < TRIES && is_repeatable(&call) {
            let pause = AGAIN * 2_u32.pow(attempt);
            if Instant::now() + pause < deadline {
                tokio::time::sleep(pause).await;
                continue;
            }
        }
        if answered.status != StatusCode::TOO_MANY_REQUESTS {
            return respond(lane, answered);
        }
        let penalty = retry_after(&answered.headers);
        lane.budget.block_for(penalty);
        if Instant::now() + penalty >= deadline {
            return respond(lane, answered);
        }
    }
}

/// Whether the call may be made twice: it changes nothing, says what should be, or carries a key.
fn is_repeatable(call: &Call) -> bool {
    call.method != Method::POST && call.method != Method::PATCH
        || call.headers.contains_key(LOOKS_HEADER)
        || call.headers.contains_key("idempotency-key")
}

/// Makes the call once, with its records before and after.
async fn perform(
    inner: &Inner,
    run: &Run,
    lane: &Lane,
    call: &Call,
    attempt: u32,
    waited: Duration,
) -> Result<Answered, Response> {
    let context = &run.context;
    let change = change_of(call);
    if let Some(change) = &change {
        announce(inner, run, change).await?;
    } else if run.closed.is_cancelled() {
        return Err(ended(run));
    }
    run.count();
    let began = Instant::now();
    let result = send(inner, run, lane, call).await;
    let took = began.elapsed();
    let status = result.as_ref().map_or(0, |answered| answered.status.as_u16());
    if let Some(change) = &change {
        let id = result.as_ref().ok().and_then(id_of);
        // Without this half the change stays unknown, which the next run finds out.
        if let Err(error) = journal::write(&inner.nats, context, change, Phase::After { status, id }).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the journal has a change without its answer"
            );
        }
    }
    let event = RunEvent::Call {
        method: call.method.to_string(),
        path: call.path.clone(),
        status,
        millis: millis(took),
        waited_millis: millis(waited),
        attempt,
    };
    records::write(&inner.nats, context, event).await;
    result.map_err(|error| {
        tracing::debug!(%error, "a call to a vendor failed");
        problem(502, "the vendor gave no answer")
    })
}

/// The change that a call is, if it is one.
fn change_of(call: &Call) -> Option<Change> {
    // A query in a POST says that it is one.
    let looks = matches!(call.method, Method::GET | Method::HEAD | Method::OPTIONS)
        || call.headers.contains_key(LOOKS_HEADER);
    (!looks).then(|| Change {
        call: uuid::Uuid::new_v4(),
        method: call.method.to_string(),
        path: call.path.clone(),
        key: call.headers.get("idempotency-key").and_then(|key| key.to_str().ok()).map(str::to_owned),
    })
}

/// Writes down that a change is about to be asked for. Without that it is not made.
async fn announce(inner: &Inner, run: &Run, change: &Change) -> Result<(), Response> {
    if run.closed.is_cancelled() {
        return Err(ended(run));
    }
    let away = |error: wanwright_nats::NatsError| {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "a change was not made: its journal is away"
        );
        ours(run, "the effect journal cannot be written, so the change was not made")
    };
    journal::write(&inner.nats, &run.context, change, Phase::Before).await.map_err(away)?;
    // Writing takes its time, and the run may have ended in it.
    if run.closed.is_cancelled() {
        journal::write(&inner.nats, &run.context, change, Phase::Withheld).await.map_err(away)?;
        return Err(ended(run));
    }
    Ok(())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The vendor may go on with the trace. What tracing systems add to it is nothing of the vendor's.
fn traceparent(run: &Run) -> Option<HeaderValue> {
    HeaderValue::from_str(&run.context.trace.as_ref()?.parent).ok()
}

async fn send(
    inner: &Inner,
    run: &Run,
    lane: &Lane,
    call: &Call,
) -> Result<Answered, Box<dyn std::error::Error + Send + Sync>> {
    let query = call.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
    let url = format!("{}{}{query}", lane.base_url, call.path);
    let mut headers = call.headers.clone();
    for name in NOT_FORWARDED {
        headers.remove(name);
    }
    headers.insert(lane.credential.name.clone(), lane.credential.value.clone());
    if let Some(parent) = traceparent(run) {
        headers.insert(TRACE_PARENT, parent);
    }
    let request = inner.http.request(call.method.clone(), url).headers(headers).body(call.body.clone());
    let mut response = request.send().await?;
    let (status, headers) = (response.status(), response.headers().clone());
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > MAX_BODY {
            return Err(format!("the vendor's answer is larger than {MAX_BODY} bytes").into());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answered { status, headers, body: body.into() })
}

fn respond(lane: &Lane, answered: Answered) -> Response {
    let mut response = Response::new(Body::from(lane.credential.mask(answered.body)));
    *response.status_mut() = answered.status;
    let kept = [header::CONTENT_TYPE, header::RETRY_AFTER, header::ETAG, header::LOCATION, header::LINK];
    for (name, value) in &answered.headers {
        if kept.contains(name) || name.as_str().starts_with("idempotent-") {
            response.headers_mut().append(name.clone(), lane.credential.mask_header(value));
        }
    }
    response
}

/// The id of the object that a change made, where the answer has one in the usual place. Only a help for people: the
/// engines find ids by the vendor's folder.
fn id_of(answered: &Answered) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(&answered.body).ok()?;
    body.get("id")?.as_str().map(str::to_owned)
}

fn retry_after(headers: &HeaderMap) -> Duration {
    let seconds = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    seconds.map_or(DEFAULT_PENALTY, Duration::from_secs).min(MAX_PENALTY)
}
