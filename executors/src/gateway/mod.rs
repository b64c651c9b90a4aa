//! The gateway: every call to a vendor goes through it, Terraform's providers included.
//!
//! It listens on loopback, and has a door for the engines of this process. Each run gets a path of its own, which stands
//! for one order; the gateway adds the credential, spends the budget that all processes share, keeps the effect journal and records each call against the
//! order. A call can only go below the vendor's base URL, whatever it or an answer says.

mod admit;
mod answer;
mod budget;
mod credential;
mod door;
pub(crate) mod fair;
mod fields;
mod forward;
pub(crate) mod journal;
mod lanes;
mod mask;
mod oauth;
mod run;
mod secrets;
mod target;
mod wire;
mod worked;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, Uri, header};
use axum::response::Response;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use wanwright_nats::{Budgets, Nats};
use wanwright_schemas::VendorId;
use wanwright_schemas::order::Intent;
use wanwright_vendors::Vendors;

pub use admit::{Admitted, Expected};
pub use budget::{
    Admission, Counts, Level, LimitStanding, Open, Priority, RECORD_VERSION, Record, Standing, Trial,
    Unblocked, record_key, unblock,
};
pub use lanes::{AccountKey, NoLane};
pub use run::{Opened, RunContext, Share};

use lanes::{Lane, Lanes};

use crate::records::Records;
use crate::vital;

/// Largest request or answer that passes, in bytes.
const MAX_BODY: usize = 8 * 1024 * 1024;

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
    /// A vendor's folder says something that the gateway cannot work with.
    #[error("vendor {vendor}: {what}")]
    Vendor {
        /// The vendor.
        vendor: String,
        /// What is wrong.
        what: String,
    },
    /// No port, or no budgets.
    #[error("the gateway cannot {doing}")]
    Start {
        /// What failed.
        doing: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

struct Inner {
    nats: Nats,
    /// Where we listen, as callers have to name us.
    host: String,
    lanes: Lanes,
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
        vendors: impl Into<Vendors>,
        urls: &HashMap<String, String>,
        stop: CancellationToken,
    ) -> Result<Self, GatewayError> {
        let failed =
            |doing| move |source: std::io::Error| GatewayError::Start { doing, source: source.into() };
        let budgets = Budgets::open(&nats).await;
        let budgets = budgets
            .map_err(|error| GatewayError::Start { doing: "reach the budgets", source: error.into() })?;
        let failed_early = CancellationToken::new();
        let lanes = Lanes::start(vendors.into(), urls.clone(), budgets, stop.clone(), failed_early.clone())?;
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed("listen"))?;
        let address = listener.local_addr().map_err(failed("listen"))?;
        let inner =
            Arc::new(Inner { nats, host: address.to_string(), lanes, runs: Mutex::new(HashMap::new()) });
        let routes = Router::new()
            .route("/r/{run}/{*path}", axum::routing::any(serve))
            .fallback(nowhere)
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
        self.open_with(Records::new(self.inner.nats.clone(), context.clone()), context)
    }

    /// The same for a run whose records are gathered already.
    pub(crate) fn open_with(&self, records: Records, context: RunContext) -> Opened {
        self.open_as(|base_url| run::Run::new(context, records, base_url))
    }

    /// Opens a path for calls that are made for all of these runs, of which there is at least one: each has them in its
    /// journal and among its records. They are of one customer, vendor and account; the budget pays once.
    pub fn open_together(&self, runs: &[Share]) -> Opened {
        let members: Vec<_> = runs.iter().map(|run| Arc::clone(&run.0)).collect();
        let mut context = runs[0].0.context.clone();
        context.secrets = runs.iter().flat_map(|run| run.0.context.secrets.iter().cloned()).collect();
        context.secrets.sort();
        context.secrets.dedup();
        let records = Records::new(self.inner.nats.clone(), context.clone());
        self.open_as(|base_url| run::Run::of_many(context, records, base_url, members))
    }

    fn open_as(&self, run: impl FnOnce(String) -> run::Run) -> Opened {
        let token = uuid::Uuid::new_v4().simple().to_string();
        let base_url = format!("http://{}/r/{token}", self.inner.host);
        let run = Arc::new(run(base_url));
        if let Ok(mut runs) = self.inner.runs.lock() {
            runs.insert(token.clone(), Arc::clone(&run));
        }
        let inner = Arc::clone(&self.inner);
        let door = Arc::new(door::Door { inner: Arc::clone(&inner), run: Arc::clone(&run) });
        let close = move || {
            if let Ok(mut runs) = inner.runs.lock() {
                runs.remove(&token);
            }
        };
        Opened::new(run, door, close)
    }

    /// Whether there is a way to a run's vendor with the account of its order, and the secrets that the order names are there.
    ///
    /// # Errors
    /// [`NoLane`], with what to do.
    pub fn reaches(&self, context: &RunContext) -> Result<(), NoLane> {
        let lane = self.inner.lanes.of(context)?;
        lane.secrets.known(&context.customer, &context.secrets).map(drop).map_err(NoLane::Refused)
    }

    /// Whether a vendor may be called now with the account of a run; none where there is no way to it.
    pub fn admits(&self, context: &RunContext) -> Option<Admission> {
        Some(self.inner.lanes.of(context).ok()?.budget.standing().borrow().admission.clone())
    }

    /// How the budget of a vendor's own account stands.
    pub fn standing(&self, vendor: &VendorId) -> Option<Standing> {
        Some(self.watch(vendor)?.borrow().clone())
    }

    /// The same each time it changes.
    pub fn watch(&self, vendor: &VendorId) -> Option<watch::Receiver<Standing>> {
        Some(self.inner.lanes.main(vendor)?.budget.standing())
    }

    /// Every budget in use by this process, each time it changes. The other answer changes when there is another one.
    pub fn standings(&self) -> (Vec<(AccountKey, watch::Receiver<Standing>)>, watch::Receiver<usize>) {
        // In this order: one that is opened meanwhile is missing from the list, and changes what was subscribed before.
        let opened = self.inner.lanes.opened();
        (self.inner.lanes.standings(), opened)
    }

    /// The calls to expect of a run: what runs about such a target with such an intent made lately.
    pub fn expected(&self, context: &RunContext, intent: &Intent) -> Expected {
        let lane = self.inner.lanes.of(context);
        lane.map(|lane| lane.admissions.expected(context.target.kind(), intent)).unwrap_or_default()
    }

    /// Waits until a run with so many calls can be served, so that none of them waits past its caller's time-out: until
    /// the calls admitted before are served within half of it. The right ends when the answer is dropped. `None`: the
    /// gateway stops, or has no way to the vendor.
    pub async fn admit(&self, context: &RunContext, expected: Expected) -> Option<Admitted> {
        let lane = self.inner.lanes.of(context).ok()?;
        lane.admissions.admit(context.priority, &context.customer, expected).await
    }

    /// Remembers how many calls a run made, for [`Gateway::expected`]. For runs that succeeded: others say too little.
    pub fn learn(&self, run: &Opened, intent: &Intent) {
        let context = run.context();
        if let Ok(lane) = self.inner.lanes.of(context) {
            lane.admissions.learn(context.target.kind(), intent, &run.counted());
        }
    }
}

/// Not 404: callers read that as the vendor's word that the object is gone.
async fn nowhere() -> Response {
    answer::problem(421, "the gateway forwards calls on the paths of its runs and nothing else")
}

async fn serve(
    State(inner): State<Arc<Inner>>,
    Path((token, path)): Path<(String, String)>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    // Whoever names another host wants a proxy, or was led here by another name of this address.
    let mut hosts = headers.get_all(header::HOST).iter();
    let named =
        hosts.next().is_some_and(|host| host.as_bytes() == inner.host.as_bytes()) && hosts.next().is_none();
    let plain = uri.authority().is_none() && uri.scheme().is_none();
    if !named || !plain || matches!(method, Method::CONNECT | Method::TRACE) {
        return nowhere().await;
    }
    let run = inner.runs.lock().ok().and_then(|runs| runs.get(&token).cloned());
    let Some(run) = run else {
        // Not 404: callers read that as the vendor's word that the object is gone.
        return answer::problem(503, "no run has this path; it may have ended");
    };
    // The raw path: what the caller percent-encoded stays so.
    let raw = uri.path().split_once(&token).map_or_else(|| format!("/{path}"), |(_, rest)| rest.to_owned());
    let call = forward::Call { method, path: raw, query: uri.query().map(str::to_owned), headers, body };
    forward::surely(inner, run, call).await
}
