//! Terraform's `http` backend, served on loopback: a token per run, one stack per token.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use super::spool::Spool;
use super::store::{self, StoreError, Version};

/// Largest state, in bytes.
const MAX_STATE: usize = 64 * 1024 * 1024;

/// How often the spool is looked through for what Postgres did not take at once.
const FLUSH: Duration = Duration::from_secs(2);

/// The user name that goes with a run's token.
const USER: &str = "run";

struct Session {
    stack: String,
    order: String,
    lock: Option<String>,
}

struct Inner {
    pool: PgPool,
    spool: Spool,
    sessions: Mutex<HashMap<String, Session>>,
}

/// The running backend.
#[derive(Clone)]
pub(super) struct StateServer {
    inner: Arc<Inner>,
    address: SocketAddr,
}

/// A run's right to read and write the state of its stack. It ends when this is dropped.
pub(super) struct StateSession {
    inner: Arc<Inner>,
    address: SocketAddr,
    token: String,
}

impl StateServer {
    /// Serves states until told to stop.
    pub(super) async fn start(pool: PgPool, spool: &Path, stop: CancellationToken) -> io::Result<Self> {
        let inner =
            Arc::new(Inner { pool, spool: Spool::open(spool).await?, sessions: Mutex::new(HashMap::new()) });
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let routes = Router::new()
            .fallback(serve)
            .layer(axum::extract::DefaultBodyLimit::max(MAX_STATE))
            .with_state(Arc::clone(&inner));
        tokio::spawn(flush(Arc::clone(&inner), stop.clone()));
        tokio::spawn(async move {
            if let Err(error) =
                axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await
            {
                tracing::error!(%error, "the state backend stopped");
            }
        });
        Ok(Self { inner, address })
    }

    /// Opens the state of a stack for one run.
    pub(super) fn open(&self, stack: &str, order: &str) -> StateSession {
        let token = uuid::Uuid::new_v4().simple().to_string();
        let session = Session { stack: stack.to_owned(), order: order.to_owned(), lock: None };
        if let Ok(mut sessions) = self.inner.sessions.lock() {
            sessions.insert(token.clone(), session);
        }
        StateSession { inner: Arc::clone(&self.inner), address: self.address, token }
    }

    /// The newest state of a stack, wherever it is.
    pub(super) async fn newest(&self, stack: &str) -> Result<Option<Vec<u8>>, StoreError> {
        newest(&self.inner, stack).await
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
}

impl Drop for StateSession {
    fn drop(&mut self) {
        if let Ok(mut sessions) = self.inner.sessions.lock() {
            sessions.remove(&self.token);
        }
    }
}

async fn newest(inner: &Inner, stack: &str) -> Result<Option<Vec<u8>>, StoreError> {
    if let Some(spooled) = inner.spool.get(stack).await? {
        return Ok(Some(spooled.body));
    }
    Ok(store::newest(&inner.pool, stack).await?)
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
    let session = inner.sessions.lock().ok().and_then(|sessions| {
        sessions.get(&token).map(|open| (open.stack.clone(), open.order.clone(), open.lock.clone()))
    });
    let Some((stack, order, lock)) = session else { return answer(StatusCode::UNAUTHORIZED, "") };
    match method.as_str() {
        "GET" => match newest(&inner, &stack).await {
            Ok(Some(state)) => answer(StatusCode::OK, state),
            Ok(None) => answer(StatusCode::NO_CONTENT, ""),
            Err(error) => {
                tracing::warn!(stack, error = &error as &dyn std::error::Error, "a state cannot be read");
                answer(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
            }
        },
        "POST" if lock.is_none() || query.id != lock => {
            answer(StatusCode::CONFLICT, "the state is not locked by this run")
        }
        "POST" => write(&inner, &stack, &order, body).await,
        "LOCK" => lock_stack(&inner, &token, &body),
        "UNLOCK" => {
            if let Ok(mut sessions) = inner.sessions.lock()
                && let Some(session) = sessions.get_mut(&token)
            {
                session.lock = None;
            }
            answer(StatusCode::OK, "")
        }
        _ => answer(StatusCode::METHOD_NOT_ALLOWED, ""),
    }
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

/// Takes a write: on our disk first, then to Postgres, which may be late.
async fn write(inner: &Inner, stack: &str, order: &str, body: Bytes) -> Response {
    let version = match Version::read(stack, order, body.to_vec()) {
        Ok(version) => version,
        Err(error) => return answer(StatusCode::BAD_REQUEST, error.to_string()),
    };
    if let Err(error) = inner.spool.put(&version).await {
        tracing::error!(stack, %error, "a state cannot be spooled");
        return answer(
            StatusCode::INSUFFICIENT_STORAGE,
            format!("the state cannot be written to disk: {error}"),
        );
    }
    match settle(inner, &version).await {
        Ok(()) => answer(StatusCode::OK, ""),
        Err(error @ StoreError::Conflict { .. }) => {
            tracing::error!(stack, %error, "a state does not follow the one before it");
            answer(StatusCode::CONFLICT, error.to_string())
        }
        // It is safe on disk; the flush brings it to Postgres.
        Err(error) => {
            tracing::warn!(stack, error = &error as &dyn std::error::Error, "a state waits for Postgres");
            answer(StatusCode::OK, "")
        }
    }
}

/// Brings a spooled version to Postgres.
async fn settle(inner: &Inner, version: &Version) -> Result<(), StoreError> {
    let stored = store::store(&inner.pool, version).await;
    if matches!(stored, Ok(()) | Err(StoreError::Conflict { .. })) {
        inner.spool.done(version).await?;
    }
    stored
}

async fn flush(inner: Arc<Inner>, stop: CancellationToken) {
    while tokio::time::timeout(FLUSH, stop.cancelled()).await.is_err() {
        for stack in inner.spool.waiting().await.unwrap_or_default() {
            let settled = match inner.spool.get(&stack).await {
                Ok(Some(version)) => settle(&inner, &version).await,
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = settled {
                tracing::debug!(
                    stack,
                    error = &error as &dyn std::error::Error,
                    "a state still waits for Postgres"
                );
            }
        }
    }
}

fn token(headers: &HeaderMap) -> Option<String> {
    let basic = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let decoded = String::from_utf8(BASE64.decode(basic).ok()?).ok()?;
    decoded.strip_prefix(USER)?.strip_prefix(':').map(str::to_owned)
}
