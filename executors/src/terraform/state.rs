//! Terraform's `http` backend, served on loopback: a token per run, one stack per token.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
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
use wanwright_nats::{Held, Nats};

use super::keeper::Keeper;
use super::left::{self, Seen};
use super::neighbours::Neighbours;
use super::spool::Spool;
use super::store::{Mark, Store, StoreError, Version, up_to_date};
use super::waiting::Waiting;
use crate::vital;

/// Largest state, in bytes.
pub(super) const MAX_STATE: usize = 64 * 1024 * 1024;

/// The user name that goes with a run's token.
pub(super) const USER: &str = "run";

struct Session {
    stack: String,
    order: String,
    lock: Option<String>,
    /// The version that was last served to the run, or taken from it: what it writes next is made from that.
    seen: Option<Mark>,
    /// The newest version that is known of the stack: an older one is not served.
    known: Option<Mark>,
    /// What the run was begun with, until Terraform asks for it: nobody else may write meanwhile.
    begun: Option<Option<Version>>,
    /// The lease that the run has of the stack. Without one nothing is asked for.
    held: Option<Held>,
    /// The run's folder: which version the run has seen is noted there, for when nobody is left who knows.
    folder: Option<PathBuf>,
    /// Whether the backend let the run down.
    troubled: bool,
}

impl Session {
    /// Remembers which version the run has.
    fn has_seen(&mut self, seen: Option<Mark>) {
        self.seen = seen;
        self.known = seen.or(self.known);
        if let Some(folder) = &self.folder {
            left::note_seen(folder, self.seen());
        }
    }

    /// What the run's next version is made from.
    fn seen(&self) -> Seen {
        Seen { version: self.seen, fence: self.held.as_ref().map(Held::fence) }
    }
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
    pub(super) fn open(&self, stack: &str, order: &str, held: Option<Held>) -> StateSession {
        let token = uuid::Uuid::new_v4().simple().to_string();
        let session = Session {
            stack: stack.to_owned(),
            order: order.to_owned(),
            lock: None,
            seen: None,
            known: None,
            begun: None,
            held,
            folder: None,
            troubled: false,
        };
        let mut sessions = self.inner.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.insert(token.clone(), session);
        drop(sessions);
        StateSession { inner: Arc::clone(&self.inner), address: self.address, token }
    }

    /// The newest state of a stack as JSON; null if there is none.
    pub(super) async fn newest(&self, stack: &str) -> Result<Value, StoreError> {
        self.inner.keeper.newest(stack).await?.as_ref().map_or(Ok(Value::Null), json)
    }

    /// Takes in what runs of a process before this one left in their folders.
    pub(super) async fn clear(&self, runs: &Path) -> Result<(), StoreError> {
        left::clear(&self.inner.keeper, runs).await
    }
}

impl StateSession {
    /// The same, of a stack of whose state this version is known: nothing older is served.
    pub(super) fn knowing(self, known: Option<Mark>) -> Self {
        self.inner.session(&self.token, |session| session.known = known);
        self
    }

    /// The version that the run has seen last, once it is stored. One that waits on this machine's disk may be lost with it.
    pub(super) async fn stored(&self) -> Option<Mark> {
        let (stack, seen) =
            self.inner.session(&self.token, |session| (session.stack.clone(), session.seen))?;
        let waiting = self.inner.keeper.spool.get(&stack).await;
        seen.filter(|_| matches!(waiting, Ok(None)))
    }

    /// The state that the run begins with, as JSON; null if there is none. Terraform is served the same one.
    pub(super) async fn begin(&self) -> Result<Value, StoreError> {
        let session = |session: &mut Session| (session.stack.clone(), session.held.clone(), session.known);
        let Some((stack, held, known)) = self.inner.session(&self.token, session) else {
            return Ok(Value::Null);
        };
        // Before it is read: what is stored from now on is made under this lease.
        if is_late(&self.inner, &stack, held.as_ref()).await {
            return Err(StoreError::Overtaken { stack });
        }
        let version = self.inner.keeper.newest(&stack).await?;
        up_to_date(&stack, known, version.as_ref())?;
        let state = version.as_ref().map_or(Ok(Value::Null), json)?;
        self.inner.session(&self.token, |session| session.begun = Some(version));
        Ok(state)
    }

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

    /// Has it noted in the run's folder which version the run has seen.
    pub(super) fn note_in(&self, folder: &Path) {
        self.inner.session(&self.token, |session| {
            session.folder = Some(folder.to_owned());
            session.has_seen(session.seen);
        });
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
        let session = |session: &mut Session| (session.stack.clone(), session.order.clone(), session.seen());
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

fn json(version: &Version) -> Result<Value, StoreError> {
    serde_json::from_slice(&version.body).map_err(|error| StoreError::NoState(error.to_string()))
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
        let Session { stack, order, lock, seen, held, .. } = session;
        (stack.clone(), order.clone(), lock.clone(), *seen, held.clone())
    });
    let Some((stack, order, lock, seen, held)) = session else { return answer(StatusCode::UNAUTHORIZED, "") };
    let response = match method.as_str() {
        "GET" => read(&inner, &token, &stack).await,
        "POST" if lock.is_none() || query.id != lock => {
            answer(StatusCode::CONFLICT, "the state is not locked by this run")
        }
        "POST" => match Version::read(&stack, &order, body.to_vec(), vec![seen]) {
            // What was done at the vendor is kept also where the lease is lost: if nobody has locked the stack since, it
            // is the newest that there is, and else it is set aside.
            Ok(version) => write(&inner, &token, version.under(held.map(|held| held.fence()))).await,
            Err(error) => answer(StatusCode::BAD_REQUEST, error.to_string()),
        },
        "LOCK" if is_late(&inner, &stack, held.as_ref()).await => answer(StatusCode::LOCKED, body),
        "LOCK" => lock_stack(&inner, &token, &body),
        "UNLOCK" => unlock_stack(&inner, &token, &body),
        _ => answer(StatusCode::METHOD_NOT_ALLOWED, ""),
    };
    if response.status().is_server_error() || response.status().is_client_error() {
        inner.session(&token, |session| session.troubled = true);
    }
    response
}

/// Whether a run has lost the lease of its stack, or somebody else has locked that under a later one. Where Postgres cannot
/// be asked, the clock decides alone: what is written then follows what is there, or is set aside.
async fn is_late(inner: &Inner, stack: &str, held: Option<&Held>) -> bool {
    let Some(held) = held else { return false };
    let is_ours = match held.is_held() {
        // In a box: the future of a run is as deep as the compiler takes it.
        true => Box::pin(inner.keeper.fence(stack, held.fence())).await.unwrap_or_else(|error| {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(stack, error, "it cannot be seen who locked a state last");
            true
        }),
        false => false,
    };
    // Asking took its time.
    let is_late = !is_ours || !held.is_held();
    if is_late {
        tracing::warn!(stack, "a run has lost its lease; it does not get the stack");
    }
    is_late
}

/// Gives the lock back, to whoever says which one it is.
fn unlock_stack(inner: &Inner, token: &str, body: &[u8]) -> Response {
    let Ok(info) = serde_json::from_slice::<LockInfo>(body) else {
        return answer(StatusCode::BAD_REQUEST, "the body is no lock");
    };
    let is_it = inner.session(token, |session| {
        let is_it = session.lock.as_ref() == Some(&info.id);
        if is_it {
            session.lock = None;
        }
        is_it
    });
    match is_it {
        Some(true) => answer(StatusCode::OK, ""),
        _ => answer(StatusCode::CONFLICT, "the state is not locked by that"),
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

/// Serves the newest state, and remembers which one the run has got.
async fn read(inner: &Inner, token: &str, stack: &str) -> Response {
    let begun = inner.session(token, |session| session.begun.take()).flatten();
    let known = inner.session(token, |session| session.known).flatten();
    let newest = match begun {
        Some(begun) => Ok(begun),
        None => inner.keeper.newest(stack).await.and_then(|newest| {
            up_to_date(stack, known, newest.as_ref())?;
            Ok(newest)
        }),
    };
    match newest {
        Ok(state) => {
            let seen = state.as_ref().map(Version::mark);
            inner.session(token, |session| session.has_seen(seen));
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
            inner.session(token, |session| session.has_seen(Some(mark)));
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
