//! The gateway: every call to a vendor goes through it, Terraform's providers included.
//!
//! It listens on loopback. Each run gets a path of its own, which stands for one order; the gateway adds the
//! credential, spends the budget, keeps the effect journal and records each call against the order.

mod budget;
mod credential;
pub(crate) mod fair;
mod forward;
pub(crate) mod journal;
mod run;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, Uri};
use axum::response::Response;
use tokio_util::sync::CancellationToken;
use wanwright_nats::Nats;
use wanwright_schemas::VendorId;
use wanwright_vendors::Catalogue;

pub use budget::Priority;
pub use run::{Opened, RunContext};

use budget::Budget;
use credential::Credential;

use crate::vital;

/// Largest request or answer that passes, in bytes.
const MAX_BODY: usize = 8 * 1024 * 1024;

/// Longest time a vendor may take for one answer. With the longest wait for a turn it stays well below what callers
/// wait (120 s), so that it is the gateway that gives up first and knows what became of the call.
const CALL_TIMEOUT: Duration = Duration::from_secs(45);

/// Why the gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// A vendor's credential cannot be read.
    #[error("vendor {vendor}: {what}")]
    Credential {
        /// The vendor.
        vendor: String,
        /// What is missing.
        what: String,
    },
    /// No port, or no HTTP client.
    #[error("the gateway cannot {doing}")]
    Start {
        /// What failed.
        doing: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// One vendor as the gateway reaches it.
struct Lane {
    base_url: String,
    credential: Credential,
    budget: Budget,
}

struct Inner {
    nats: Nats,
    http: reqwest::Client,
    lanes: HashMap<VendorId, Lane>,
    runs: Mutex<HashMap<String, Arc<run::Run>>>,
}

/// The running gateway.
#[derive(Clone)]
pub struct Gateway {
    inner: Arc<Inner>,
    address: SocketAddr,
    failed: CancellationToken,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Gateway {
    /// Starts the gateway on a free loopback port; it stops with `stop`.
    ///
    /// # Errors
    /// [`GatewayError`], before anything is served.
    pub async fn start(
        nats: Nats,
        vendors: &Catalogue,
        urls: &HashMap<String, String>,
        stop: CancellationToken,
    ) -> Result<Self, GatewayError> {
        let failed =
            |doing| move |source: std::io::Error| GatewayError::Start { doing, source: source.into() };
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(Duration::from_secs(10))
            .timeout(CALL_TIMEOUT)
            .build()
            .map_err(|error| GatewayError::Start { doing: "make an HTTP client", source: error.into() })?;
        let failed_early = CancellationToken::new();
        let mut lanes = HashMap::new();
        for vendor in vendors.iter() {
            let id: VendorId =
                vendor.name.parse().map_err(|error: wanwright_schemas::ids::InvalidToken| {
                    GatewayError::Credential { vendor: vendor.name.clone(), what: error.to_string() }
                })?;
            // A vendor that nobody has an account at is no reason to serve none of the others.
            let credential = match Credential::read(&vendor.name, &vendor.credential) {
                Ok(credential) => credential,
                Err(error) => {
                    tracing::warn!(%error, "the gateway makes no calls to this vendor");
                    continue;
                }
            };
            let lane = Lane {
                base_url: urls.get(&vendor.name).unwrap_or(&vendor.base_url).trim_end_matches('/').to_owned(),
                credential,
                budget: Budget::start(vendor.budget, &stop, &failed_early),
            };
            lanes.insert(id, lane);
        }
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed("listen"))?;
        let address = listener.local_addr().map_err(failed("listen"))?;
        let inner = Arc::new(Inner { nats, http, lanes, runs: Mutex::new(HashMap::new()) });
        let routes = Router::new()
            .route("/r/{run}/{*path}", axum::routing::any(serve))
            .layer(axum::extract::DefaultBodyLimit::max(MAX_BODY))
            .with_state(Arc::clone(&inner));
        let stopped = stop.clone().cancelled_owned();
        vital::spawn("gateway", &stop, &failed_early, async move {
            let served = axum::serve(listener, routes).with_graceful_shutdown(stopped).await;
            if let Err(error) = served {
                tracing::error!(%error, "the gateway stopped");
            }
        });
        Ok(Self { inner, address, failed: failed_early })
    }

    /// Waits until a part of the gateway ended that was not told to: calls then wait for nothing.
    pub async fn failed(&self) {
        self.failed.cancelled().await;
    }

    /// Opens a path of its own for a run. It closes when the answer is dropped.
    pub fn open(&self, context: RunContext) -> Opened {
        let token = uuid::Uuid::new_v4().simple().to_string();
        let run = Arc::new(run::Run::new(context));
        if let Ok(mut runs) = self.inner.runs.lock() {
            runs.insert(token.clone(), Arc::clone(&run));
        }
        let base_url = format!("http://{}/r/{token}", self.address);
        let inner = Arc::clone(&self.inner);
        let close = move || {
            if let Ok(mut runs) = inner.runs.lock() {
                runs.remove(&token);
            }
        };
        Opened::new(base_url, run, close)
    }
}

async fn serve(
    State(inner): State<Arc<Inner>>,
    Path((token, path)): Path<(String, String)>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let run = inner.runs.lock().ok().and_then(|runs| runs.get(&token).cloned());
    let Some(run) = run else {
        // Not 404: callers read that as the vendor's word that the object is gone.
        return forward::problem(503, "no run has this path; it may have ended");
    };
    // The raw path: what the caller percent-encoded stays so.
    let raw = uri.path().split_once(&token).map_or_else(|| format!("/{path}"), |(_, rest)| rest.to_owned());
    let call = forward::Call { method, path: raw, query: uri.query().map(str::to_owned), headers, body };
    // The call is finished even if its caller goes away: what it did at the vendor has to be known.
    let forwarded = tokio::spawn(async move { forward::forward(&inner, &run, call).await }).await;
    forwarded.unwrap_or_else(|_| forward::problem(500, "the gateway failed to forward the call"))
}
