//! Terraform's `http` backend, served on loopback: a token per run, one stack per token.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use wanwright_nats::Nats;

use super::keeper::Keeper;
use super::left;
use super::neighbours::Neighbours;
use super::spool::Spool;
use super::store::{Mark, Store, StoreError, Version};
use super::waiting::Waiting;
use crate::vital;

/// Largest state, in bytes.
const MAX_STATE: usize = 64 * 1024 * 1024;

/// The user name that goes with a run's token.
pub(super) const USER: &str = "run";

struct Session {
    stack: String,
    order: String,
    lock: Option<String>,
    /// The version that was last served to the run, or taken from it: what it writes next is made from that.
    seen: Option<Mark>,
    /// Whether the backend let the run down.
    troubled: bool,
}

struct Inner {
    keeper: Arc<Keeper>,
    sessions: Mutex<HashMap<String, Session>>,
}

impl Inner {
    fn session<T>(&self, token: &str, with: impl FnOnce(&mut Session) -> T) -> Option<T> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.get_mut(token).map(with)
    }
}

/// The running backend. It has to serve as long as there are runs, so it ends when it is told to, after them.
pub(super) struct StateServer {
    inner: Arc<Inner>,
    address: SocketAddr,
    stop: CancellationToken,
    failed: CancellationToken,
}

/// A run's right to read and write the state of its stack. It ends when this is dropped.
pub(super) struct StateSession {
    inner: Arc<Inner>,
    address: SocketAddr,
    token: String,
}

impl StateServer {
    /// Serves states until [`StateServer::stop`]. `work` is the folder of this executor.
    pub(super) async fn start(store: Store, nats: Nats, work: &Path) -> io::Result<Self> {
        let spool = Spool::open(&work.join(Spool::FOLDER), store.keys.clone()).await?;
        let (neighbours, waiting) = (Neighbours::of(work), Waiting::new(Some(nats), work));
        let keeper = Arc::new(Keeper::new(store, spool, neighbours, waiting));
        let inner = Arc::new(Inner { keeper: Arc::clone(&keeper), sessions: Mutex::new(HashMap::new()) });
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let routes = Router::new()
            .fallback(serve)
            .layer(axum::extract::DefaultBodyLimit::max(MAX_STATE))
            .with_state(Arc::clone(&inner));
        let (stop, failed) = (CancellationToken::new(), CancellationToken::new());
        let stopped = stop.clone();
        vital::spawn("state flush", &stop, &failed, async move {
            stopped.run_until_cancelled(keeper.flush()).await;
        });
        let stopped = stop.clone().cancelled_owned();
        vital::spawn("state backend", &stop, &failed, async move {
            if let Err(error) = axum::serve(listener, routes).with_graceful_shutdown(stopped).await {
                tracing::error!(%error, "the state backend stopped");
            }
        });
        Ok(Self { inner, address, stop, failed })
    }

    /// What it serves from.
    #[cfg(test)]
    pub(super) fn keeper(&self) -> &Keeper {
        &self.inner.keeper
    }

    /// Ends serving.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until a part of the backend ended that was not told to.
    pub(super) async fn failed(&self) {
        self.failed.cancelled().await;
    }

    /// Opens the state of a stack for one run.
    pub(super) fn open(&self, stack: &str, order: &str) -> StateSession {
        let token = uuid::Uuid::new_v4().simple().to_string();
        let session = Session {
            stack: stack.to_owned(),
            order: order.to_owned(),
            lock: None,
            seen: None,
            troubled: false,
        };
        let mut sessions = self.inner.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.insert(token.clone(), session);
        drop(sessions);
        StateSession { inner: Arc::clone(&self.inner), address: self.address, token }
    }

    /// The newest state of a stack as JSON; null if there is none.
    pub(super) async fn newest(&self, stack: &str) -> Result<Value, StoreError> {
        let Some(version) = self.inner.keeper.newest(stack).await? else { return Ok(Value::Null) };
        serde_json::from_slice(&version.body).map_err(|error| StoreError::NoState(error.to_string()))
    }

    /// Takes in what runs of a process before this one left in their folders.
    pub(super) async fn clear(&self, runs: &Path) -> Result<(), StoreError> {
        left::clear(&self.inner.keeper, runs).await
    }
}

impl StateSession {
    /// The variables that lead Terraform's `http` backend here.
    pub(super) fn env(&self) -> Vec<(&'static str, String)> {
        let url = format!("http://{}/state", self.address);
        vec![
            ("TF_HTTP_ADDRESS", url.clone()),
            ("TF_HTTP_LOCK_ADDRESS", url.clone()),
            ("TF_HTTP_LOCK_METHOD", "LOCK".to_owned()),
            ("TF_HTTP_UNLOCK_ADDRESS", url),
            ("TF_HTTP_UNLOCK_METHOD", "UNLOCK".to_owned()),
            ("TF_HTTP_USERNAME", USER.to_owned()),
            ("TF_HTTP_PASSWORD", self.token.clone()),
            ("TF_HTTP_RETRY_MAX", "2".to_owned()),
        ]
    }

    /// What the run shows to read and write its state.
    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// The port of the backend.
    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Whether the backend let the run down: what went wrong in it is then not the vendor's.
    pub(super) fn troubled(&self) -> bool {
        self.inner.session(&self.token, |session| session.troubled).unwrap_or_default()
    }

    /// Takes in a state that Terraform could not hand over.
    pub(super) async fn adopt(&self, body: Vec<u8>) -> Result<(), StoreError> {
        let session = |session: &mut Session| (session.stack.clone(), session.order.clone(), session.seen);
        let Some((stack, order, seen)) = self.inner.session(&self.token, session) else { return Ok(()) };
        self.inner.keeper.adopt(&stack, &order, body, Some(seen)).await
    }
}

impl Drop for StateSession {
    fn drop(&mut self) {
        if let Ok(mut sessions) = self.inner.sessions.lock() {
            sessions.remove(&self.token);
        }
    }
}

#[derive(Deserialize)]
struct LockQuery {
    #[serde(rename = "ID")]
    id: Option<String>,
}

#[derive(Deserialize)]
struct LockInfo {
    #[serde(rename = "ID")]
    id: String,
}

fn answer(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response
}

async fn serve(
    State(inner): State<Arc<Inner>>,
    method: Method,
    Query(query): Query<LockQuery>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Some(token) = token(&headers) else { return answer(StatusCode::UNAUTHORIZED, "") };
    let session = inner.session(&token, |session| {
        (session.stack.clone(), session.order.clone(), session.lock.clone(), session.seen)
    });
    let Some((stack, order, lock, seen)) = session else { return answer(StatusCode::UNAUTHORIZED, "") };
    let response = match method.as_str() {
        "GET" => read(&inner, &token, &stack).await,
        "POST" if lock.is_none() || query.id != lock => {
            answer(StatusCode::CONFLICT, "the state is not locked by this run")
        }
        "POST" => match Version::read(&stack, &order, body.to_vec(), vec![seen]) {
            Ok(version) => write(&inner, &token, version).await,
            Err(error) => answer(StatusCode::BAD_REQUEST, error.to_string()),
        },
        "LOCK" => lock_stack(&inner, &token, &body),
        "UNLOCK" => {
            inner.session(&token, |session| session.lock = None);
            answer(StatusCode::OK, "")
        }
        _ => answer(StatusCode::METHOD_NOT_ALLOWED, ""),
    };
    if response.status().is_server_error() || response.status().is_client_error() {
        inner.session(&token, |session| session.troubled = true);
    }
    response
}

/// Locks the stack for the run. Runs of one stack exclude each other by their target's lease already; a second lock can
/// only come from the same executor, and is refused.
fn lock_stack(inner: &Inner, token: &str, body: &[u8]) -> Response {
    let Ok(info) = serde_json::from_slice::<LockInfo>(body) else {
        return answer(StatusCode::BAD_REQUEST, "the body is no lock");
    };
    let Ok(mut sessions) = inner.sessions.lock() else {
        return answer(StatusCode::INTERNAL_SERVER_ERROR, "");
    };
    let stack = sessions.get(token).map(|session| session.stack.clone());
    if sessions.values().any(|session| Some(&session.stack) == stack.as_ref() && session.lock.is_some()) {
        return answer(StatusCode::LOCKED, body.to_vec());
    }
    if let Some(session) = sessions.get_mut(token) {
        session.lock = Some(info.id);
    }
    answer(StatusCode::OK, "")
}

/// Serves the newest state, and remembers which one the run has got.
async fn read(inner: &Inner, token: &str, stack: &str) -> Response {
    match inner.keeper.newest(stack).await {
        Ok(state) => {
            let seen = state.as_ref().map(Version::mark);
            inner.session(token, |session| session.seen = seen);
            state.map_or_else(
                || answer(StatusCode::NO_CONTENT, ""),
                |state| answer(StatusCode::OK, state.body),
            )
        }
        Err(error) => {
            tracing::warn!(stack, error = &error as &dyn std::error::Error, "a state cannot be read");
            answer(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
        }
    }
}

async fn write(inner: &Inner, token: &str, version: Version) -> Response {
    let (stack, mark) = (version.stack.clone(), version.mark());
    match inner.keeper.keep(version).await {
        Ok(()) => {
            inner.session(token, |session| session.seen = Some(mark));
            answer(StatusCode::OK, "")
        }
        Err(error @ StoreError::Conflict { .. }) => answer(StatusCode::CONFLICT, error.to_string()),
        Err(error) => {
            tracing::error!(stack, error = &error as &dyn std::error::Error, "a state cannot be kept");
            answer(StatusCode::INSUFFICIENT_STORAGE, error.to_string())
        }
    }
}

fn token(headers: &HeaderMap) -> Option<String> {
    let basic = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let decoded = String::from_utf8(BASE64.decode(basic).ok()?).ok()?;
    decoded.strip_prefix(USER)?.strip_prefix(':').map(str::to_owned)
}
