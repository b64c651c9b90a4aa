//! Access tokens that a vendor gives for a login: fetched once for all who need one, through the budget like every call,
//! kept until shortly before they expire, and fetched again when the vendor takes one no longer.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::response::Response;
use bytes::Bytes;
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use tokio::time::Instant;
use wanwright_schemas::run::RunEvent;
use wanwright_vendors::{OAuthBody, OAuthRef};

use super::answer::{busy, problem, retry_after};
use super::budget::Turn;
use super::credential::Secret;
use super::forward;
use super::lanes::Lane;
use super::run::Run;

/// How long before its end a token is used no more: longer than a call waits and takes.
const EARLY: Duration = Duration::from_secs(90);

/// How soon another token is asked for after one that the vendor never took.
const YOUNG: Duration = Duration::from_secs(10);

/// The token of an account.
#[derive(Default)]
pub(super) struct Tokens(Mutex<Option<Token>>);

struct Token {
    secret: Arc<Secret>,
    /// What it was given for.
    login: Arc<Secret>,
    since: Instant,
    until: Instant,
}

impl Tokens {
    /// The token to use now. Who comes while it is fetched waits for the same one.
    ///
    /// # Errors
    /// The answer to the caller: there is none now.
    pub(super) async fn get(
        &self,
        run: &Run,
        lane: &Lane,
        oauth: &OAuthRef,
        deadline: Instant,
    ) -> Result<Arc<Secret>, Response> {
        let login = lane.credential.secret();
        let late = |_| forward::ours(run, "the vendor's access token was not there in time");
        let mut kept = tokio::time::timeout_at(deadline, self.0.lock()).await.map_err(late)?;
        let good = |token: &&Token| token.until > Instant::now() && Arc::ptr_eq(&token.login, &login);
        if let Some(token) = kept.as_ref().filter(good) {
            return Ok(Arc::clone(&token.secret));
        }
        let (text, life) = fetch(run, lane, oauth, &login, deadline).await?;
        let before = kept.as_ref().map(|token| Arc::clone(&token.secret));
        let Ok(secret) = login.token(&lane.credential, &text, before.as_deref()) else {
            return Err(forward::ours(run, "the vendor's access token has signs that a header cannot carry"));
        };
        let (secret, since) = (Arc::new(secret), Instant::now());
        let until = since + life.saturating_sub(EARLY.min(life / 2));
        *kept = Some(Token { secret: Arc::clone(&secret), login, since, until });
        Ok(secret)
    }

    /// The vendor did not take this token. `true`: there is another one, or will be.
    pub(super) async fn refused(&self, used: &Secret) -> bool {
        let mut kept = self.0.lock().await;
        match kept.as_mut() {
            Some(token) if token.secret.value == used.value => {
                if !used.has_worked() && token.since.elapsed() < YOUNG {
                    return false;
                }
                token.until = token.since;
                true
            }
            _ => true,
        }
    }
}

/// Asks for a token: the token, and how long it is good for.
async fn fetch(
    run: &Run,
    lane: &Lane,
    oauth: &OAuthRef,
    login: &Secret,
    deadline: Instant,
) -> Result<(String, Duration), Response> {
    let ours = |what: &str| forward::ours(run, what);
    let url = lane.base.target(&oauth.path, None).map_err(ours)?;
    let (content, body) = body_of(oauth, login).map_err(|what| ours(&what))?;
    let class = lane.budget.class(&Method::POST, &oauth.path, &[]);
    let asked = Instant::now();
    let turn = lane.budget.turn(class.clone(), run.context.priority, &run.context.customer);
    let ticket = match tokio::time::timeout_at(deadline, turn).await {
        Ok(Some((Turn::Go, ticket))) => ticket,
        Ok(Some((Turn::HeldBack { reason, .. }, _))) => {
            return Err(ours(&format!("calls are held back, because they only fail: {reason}")));
        }
        Ok(None) => return Err(ours("the gateway is stopping")),
        Err(_) => return Err(ours("the vendor's budget had no turn for the access token in time")),
    };
    let (waited, began) = (asked.elapsed(), Instant::now());
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(content))]);
    let answered = lane.wire.send(&Method::POST, &url, headers, body).await;
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let event = RunEvent::Call {
        method: "POST".to_owned(),
        path: oauth.path.clone(),
        status: answered.as_ref().map_or(0, |(status, ..)| status.as_u16()),
        millis: millis(began.elapsed()),
        waited_millis: millis(waited),
        attempt: 1,
        shared: None,
    };
    run.record(event).await;
    // What the vendor answers is not repeated: it may quote the login.
    let Ok((status, headers, body)) = answered else {
        ticket.failed("the vendor gave no answer".to_owned());
        run.failed_by_us();
        return Err(problem(502, "the vendor gave no answer to the question for an access token"));
    };
    if let Some((penalty, limits)) = lane.budget.busy(&class, status.as_u16(), retry_after(&headers), &body) {
        let says_when = !limits.is_empty();
        lane.budget.block(limits, penalty);
        if status.is_server_error() && !says_when {
            ticket.failed(format!("the vendor answered with {}", status.as_u16()));
        } else {
            ticket.worked();
        }
        return Err(busy(penalty));
    }
    let answer: Option<Value> = serde_json::from_slice(&body).ok();
    let token = answer.as_ref().and_then(|answer| answer.pointer(&oauth.token)?.as_str());
    let Some(token) = token.filter(|token| status.is_success() && !token.is_empty()) else {
        ticket.failed(format!("the vendor gave no access token ({})", status.as_u16()));
        run.failed_by_us();
        let what = format!("the vendor gives no access token for our login (HTTP {})", status.as_u16());
        return Err(problem(502, &what));
    };
    ticket.worked();
    let life = answer.as_ref().and_then(|answer| answer.pointer(&oauth.expires_in)).and_then(seconds);
    Ok((token.to_owned(), life.unwrap_or(oauth.lifetime)))
}

/// Seconds as a number, or as text.
fn seconds(value: &Value) -> Option<Duration> {
    let seconds = value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())?;
    Some(Duration::from_secs(seconds))
}

fn body_of(oauth: &OAuthRef, login: &Secret) -> Result<(&'static str, Bytes), String> {
    let value = |text: &String| match text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
        None => Ok(text.clone()),
        Some(name) => login
            .field(name)
            .map(str::to_owned)
            .ok_or_else(|| format!("the vendor's credential has no `{name}`: it is a JSON object of texts")),
    };
    Ok(match &oauth.body {
        OAuthBody::Json(fields) => {
            let fields = fields.iter().map(|(name, text)| Ok((name.clone(), Value::from(value(text)?))));
            let fields: Map<String, Value> = fields.collect::<Result<_, String>>()?;
            ("application/json", Value::Object(fields).to_string().into())
        }
        OAuthBody::Form(fields) => {
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            for (name, text) in fields {
                form.append_pair(name, &value(text)?);
            }
            ("application/x-www-form-urlencoded", form.finish().into())
        }
    })
}
