//! Forwarding one call: its turn, the credential, the journal, the record, the answer.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::response::Response;
use bytes::Bytes;
use futures::future::try_join_all;
use tokio::time::Instant;
use url::Url;
use wanwright_nats::NatsError;
use wanwright_schemas::effect::Phase;
use wanwright_schemas::headers::TRACE_PARENT;
use wanwright_schemas::run::{RunEvent, SharedCall};
use wanwright_vendors::LOOKS_HEADER;

use super::answer::{self, Answered, Hidden, problem, respond};
use super::budget::{Class, Ticket, Turn, only_asks, time};
use super::credential::Secret;
use super::journal::{self, Change};
use super::run::Run;
use super::secrets::Known;
use super::wire::Unanswered;
use super::worked::has_worked;
use super::{Inner, Lane};

/// Longest time a call waits for its turn and through the vendor's `Retry-After`, before its caller is told to try
/// again later.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(30);

/// How often a call is made that the vendor answers with 503.
const TRIES: u32 = 4;

/// Half of the pause before such a call is made again, where the vendor does not say when; each next one is twice as long.
const AGAIN: Duration = Duration::from_millis(100);

/// Headers that concern one connection only, and what the gateway sets itself.
const NOT_FORWARDED: [HeaderName; 12] = [
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
    header::FORWARDED,
];

/// Beginnings of headers with which some servers let a caller say that it asked for something else.
const NOT_BEGUN_WITH: [&str; 7] =
    ["x-forwarded-", "x-original-", "x-rewrite-", "x-http-method", "x-method-override", "proxy-", "x-host"];

/// A call as its caller made it.
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: Option<String>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// An answer of the gateway itself because of something that is ours: the vendor has not done anything wrong.
pub(super) fn ours(run: &Run, what: &str) -> Response {
    run.failed_by_us();
    problem(503, what)
}

/// A run that ended makes no calls any more: somebody else may be at its target.
fn ended(run: &Run) -> Response {
    ours(run, "the run has ended, so the call was not made")
}

/// What became of a turn.
enum Try {
    /// The answer to the caller.
    Answer(Response),
    /// The call is made again after a pause.
    Again(Duration),
}

/// Forwards a call and finishes it even if its caller goes away: what it did at the vendor has to be known.
pub(super) async fn surely(inner: Arc<Inner>, run: Arc<Run>, call: Call) -> Response {
    let forwarded = tokio::spawn(async move { forward(&inner, &run, call).await }).await;
    forwarded.unwrap_or_else(|_| problem(500, "the gateway failed to forward the call"))
}

async fn forward(inner: &Inner, run: &Run, call: Call) -> Response {
    let lane = match inner.lanes.of(&run.context) {
        Ok(lane) => lane,
        Err(none) => return ours(run, &none.refusal().message),
    };
    let lane = &*lane;
    let looks = looks(run, &call);
    if !looks && !run.context.may_change {
        tracing::warn!(order = %run.context.order, method = %call.method, "a run that only looks asked for a change");
        return problem(403, "this run only looks or plans, so the change was not asked for");
    }
    let url = match lane.base.target(&call.path, call.query.as_deref()) {
        Ok(url) => url,
        Err(what) => return problem(421, what),
    };
    let filled = lane.secrets.fill(&run.context.customer, &call.body);
    let known = lane.secrets.known(&run.context.customer, &run.context.secrets);
    let (body, secrets) = match (filled, known) {
        (Ok((body, used)), Ok(known)) => (body, known.and(used)),
        (Err(missing), _) | (_, Err(missing)) => return ours(run, &missing.message),
    };
    let class = lane.budget.class(&call.method, &call.path, &call.body);
    let call = Made { class, url, body, secrets, looks, call };
    let deadline = Instant::now() + MAX_WAIT;
    let mut attempt = 0;
    loop {
        attempt += 1;
        // Before the turn: a slot is used when it is given.
        let secret = match lane.credential.ready(run, lane, deadline).await {
            Ok(secret) => secret,
            Err(response) => return response,
        };
        let asked = Instant::now();
        let ticket = match wait(run, lane, &call.class, deadline).await {
            Ok(ticket) => ticket,
            Err(response) => return response,
        };
        let counted = Attempt { number: attempt, waited: asked.elapsed(), deadline };
        match once(inner, run, lane, &call, &counted, ticket, secret).await {
            Try::Answer(response) => return response,
            Try::Again(pause) => tokio::time::sleep(pause).await,
        }
    }
}

/// A call with what follows from it.
struct Made {
    call: Call,
    url: Url,
    class: Class,
    /// The body with its secrets, and those that may come back.
    body: Bytes,
    secrets: Known,
    /// Whether it changes nothing.
    looks: bool,
}

/// Which try of a call this is.
struct Attempt {
    number: u32,
    waited: Duration,
    deadline: Instant,
}

/// Waits for a turn.
async fn wait(run: &Run, lane: &Lane, class: &Class, deadline: Instant) -> Result<Ticket, Response> {
    let turn = lane.budget.turn(class.clone(), run.context.priority, &run.context.customer);
    let turn = tokio::select! {
        biased;
        () = run.ended() => return Err(ended(run)),
        turn = tokio::time::timeout_at(deadline, turn) => turn,
    };
    match turn {
        Ok(Some((Turn::Go, ticket))) => Ok(ticket),
        Ok(Some((Turn::HeldBack { until, reason }, _))) => {
            let (vendor, until) = (&run.context.vendor, time(until));
            Err(ours(
                run,
                &format!(
                    "calls to {vendor} are held back until {until:.0}, because they only fail: {reason}"
                ),
            ))
        }
        Ok(None) => Err(ours(run, "the gateway is stopping")),
        Err(_) => Err(ours(run, "the vendor's budget had no turn for the call in time")),
    }
}

/// Uses a turn, and says what to do with the answer.
async fn once(
    inner: &Inner,
    run: &Run,
    lane: &Lane,
    made: &Made,
    attempt: &Attempt,
    ticket: Ticket,
    secret: Arc<Secret>,
) -> Try {
    let answered = match perform(inner, run, lane, made, attempt, &secret).await {
        Ok(Ok(answered)) => answered,
        Ok(Err(what)) => {
            ticket.failed(what.to_owned());
            return Try::Answer(problem(502, what));
        }
        // It was not made: the ticket is given back unused.
        Err(response) => return Try::Answer(response),
    };
    let status = answered.status.as_u16();
    if status != 401 {
        secret.works();
    }
    let wish = answer::retry_after(&answered.headers);
    let busy = lane.budget.busy(&made.class, status, wish, &answered.body);
    // Who is there and says when to come again is left alone until then: there is nothing for the breaker to find out.
    let says_when = busy.as_ref().is_some_and(|(_, limits)| !limits.is_empty());
    match status {
        401 if lane.credential.refused(&secret).await => {
            drop(ticket);
            if attempt.number < TRIES {
                return Try::Again(Duration::ZERO);
            }
        }
        401 => ticket.failed("the vendor does not accept our credential".to_owned()),
        501 => ticket.worked(),
        500.. if !says_when => ticket.failed(format!("the vendor answered with {status}")),
        _ => ticket.worked(),
    }
    if matches!(status, 401 | 407) {
        // The credential is ours.
        run.failed_by_us();
    }
    if let Some((penalty, limits)) = busy {
        lane.budget.block(limits, penalty);
        let is_away = status == 503 && wish.is_some();
        let may_have_worked = (is_away || has_worked(status, &answered.body)) && !is_repeatable(made);
        let has_tries = !is_away || attempt.number < TRIES;
        return if !may_have_worked && has_tries && Instant::now() + penalty < attempt.deadline {
            Try::Again(Duration::ZERO)
        } else if may_have_worked || is_away || status == 429 {
            Try::Answer(respond(lane, run, &hidden(lane, made, &secret), answered))
        } else {
            Try::Answer(answer::busy(penalty))
        };
    }
    if status == 503 && attempt.number < TRIES && is_repeatable(made) {
        let pause = AGAIN * 2_u32.pow(attempt.number);
        if Instant::now() + pause < attempt.deadline {
            return Try::Again(pause);
        }
    }
    Try::Answer(respond(lane, run, &hidden(lane, made, &secret), answered))
}

/// Whether the call may be made twice: it changes nothing, says what should be, or carries a key.
fn is_repeatable(made: &Made) -> bool {
    let Made { call, looks, .. } = made;
    *looks
        || call.method != Method::POST && call.method != Method::PATCH
        || call.headers.contains_key("idempotency-key")
}

/// Whether the call changes nothing. A query in a POST says that it is one; of a stranger's what it asks for has to tell.
fn looks(run: &Run, call: &Call) -> bool {
    match call.method {
        Method::GET | Method::HEAD | Method::OPTIONS => true,
        Method::POST if run.is_believed() => call.headers.contains_key(LOOKS_HEADER),
        Method::POST => only_asks(&call.body),
        _ => false,
    }
}

/// Makes the call once, with its records before and after. An error outside: it was not made; inside: no answer came.
async fn perform(
    inner: &Inner,
    run: &Run,
    lane: &Lane,
    made: &Made,
    attempt: &Attempt,
    secret: &Arc<Secret>,
) -> Result<Result<Answered, &'static str>, Response> {
    let call = &made.call;
    let change = (!made.looks).then(|| change_of(call));
    if let Some(change) = &change {
        announce(inner, run, change).await?;
    } else if run.is_closed() {
        return Err(ended(run));
    }
    run.count(&made.class);
    run.under_way();
    let began = Instant::now();
    let result = send(run, lane, made, secret).await;
    let took = began.elapsed();
    let status = result.as_ref().map_or(0, |answered| answered.status.as_u16());
    if let Some(change) = &change {
        if status == 0 {
            run.left_unanswered();
        }
        let id = result.as_ref().ok().and_then(id_of);
        // Without this half the change stays unknown, which the next run finds out.
        if let Err(error) = write_all(inner, run, change, &Phase::After { status, id }).await {
            run.left_unanswered();
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
        waited_millis: millis(attempt.waited),
        attempt: attempt.number,
        shared: shared(run, change.as_ref()),
    };
    run.record(event).await;
    Ok(result.map_err(|error| {
        tracing::debug!(error = &error as &dyn std::error::Error, "a call to a vendor failed");
        "the vendor gave no answer"
    }))
}

/// Writes one half of a change into the journal of each run that it is made for.
async fn write_all(inner: &Inner, run: &Run, change: &Change, phase: &Phase) -> Result<(), NatsError> {
    let contexts = run.contexts().into_iter();
    let writes = contexts.map(|context| journal::write(&inner.nats, context, change, phase.clone()));
    try_join_all(writes).await.map(drop)
}

/// What tells the records of a call for many that they are of one.
fn shared(run: &Run, change: Option<&Change>) -> Option<SharedCall> {
    let orders = u32::try_from(run.contexts().len()).unwrap_or(u32::MAX);
    change.filter(|_| orders > 1).map(|change| SharedCall { call: change.call, orders })
}

/// The change that a call asks for.
fn change_of(call: &Call) -> Change {
    Change {
        call: uuid::Uuid::new_v4(),
        method: call.method.to_string(),
        path: call.path.clone(),
        key: call.headers.get("idempotency-key").and_then(|key| key.to_str().ok()).map(str::to_owned),
    }
}

/// Writes down that a change is about to be asked for. Without that it is not made.
async fn announce(inner: &Inner, run: &Run, change: &Change) -> Result<(), Response> {
    if run.is_closed() {
        return Err(ended(run));
    }
    let away = |error: NatsError| {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "a change was not made: its journal is away"
        );
        ours(run, "the effect journal cannot be written, so the change was not made")
    };
    write_all(inner, run, change, &Phase::Before).await.map_err(away)?;
    // Writing takes its time, and the run may have ended in it.
    if run.is_closed() {
        write_all(inner, run, change, &Phase::Withheld).await.map_err(away)?;
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

async fn send(run: &Run, lane: &Lane, made: &Made, secret: &Secret) -> Result<Answered, Unanswered> {
    let call = &made.call;
    let mut headers = call.headers.clone();
    for name in named_by_connection(&headers).into_iter().chain(NOT_FORWARDED) {
        headers.remove(name);
    }
    let forged =
        headers.keys().filter(|name| NOT_BEGUN_WITH.iter().any(|begin| name.as_str().starts_with(begin)));
    for name in forged.cloned().collect::<Vec<_>>() {
        headers.remove(name);
    }
    headers.insert(lane.credential.name.clone(), secret.value.clone());
    if let Some(parent) = traceparent(run) {
        headers.insert(TRACE_PARENT, parent);
    }
    let (status, headers, body) = lane.wire.send(&call.method, &made.url, headers, made.body.clone()).await?;
    let body = hidden(lane, made, secret).body(body);
    Ok(Answered { status, headers, body, asked: made.url.clone() })
}

/// What nobody may see of the answer to a call.
fn hidden<'a>(lane: &'a Lane, made: &'a Made, secret: &'a Secret) -> Hidden<'a> {
    Hidden { credential: secret, known: &made.secrets, secrets: &lane.secrets }
}

/// The headers that concern one connection only because its caller says so.
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse().ok()).collect()
}

/// The id of the object that a change made, where the answer has one in the usual place. Only a help for people: the
/// engines find ids by the vendor's folder.
fn id_of(answered: &Answered) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(&answered.body).ok()?;
    body.get("id")?.as_str().map(str::to_owned)
}
