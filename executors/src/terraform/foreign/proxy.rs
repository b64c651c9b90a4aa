//! What stands between Terraform and a foreign provider during one run.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use hyper::body::Incoming;
use hyper::header::CONTENT_LENGTH;
use hyper::http::request;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use wanwright_nats::Nats;
use wanwright_provider::proto::tfplugin6::diagnostic::Severity;
use wanwright_provider::proto::tfplugin6::{Diagnostic, apply_resource_change, configure_provider};

use super::plugin::{Answer, body_of, collected, no_answer};
use super::pool::Lease;
use super::record::Recorder;
use super::wire;
use crate::gateway::Share;
use crate::records::Records;
use crate::terraform::error::TerraformError;

/// Where the plugin protocol's calls are.
const SERVICE: &str = "/tfplugin6.Provider/";

/// gRPC's words for a call that nobody takes.
const UNIMPLEMENTED: u32 = 12;
const UNAVAILABLE: u32 = 14;

/// What a provider says about itself and of no run.
const ABOUT_ITSELF: [&str; 3] = ["GetMetadata", "GetProviderSchema", "GetResourceIdentitySchemas"];

/// Which run a provider serves.
#[derive(Debug)]
pub(in crate::terraform) struct Purpose {
    /// The run's way to the vendor.
    pub(in crate::terraform) base_url: String,
    /// The attribute of the provider's configuration that it is put into.
    pub(in crate::terraform) attribute: String,
    /// Where the journal is.
    pub(in crate::terraform) nats: Nats,
    /// Where the run's records go.
    pub(in crate::terraform) records: Records,
    /// The run.
    pub(in crate::terraform) run: Share,
}

/// A socket that Terraform takes for the provider. It closes when this is dropped, and the process is given back.
#[derive(Debug)]
pub(in crate::terraform) struct Proxy {
    inner: Arc<Inner>,
    _stop: DropGuard,
}

#[derive(Debug)]
struct Inner {
    lease: Lease,
    attribute: String,
    base_url: String,
    recorder: Recorder,
    /// Calls under way.
    calls: AtomicUsize,
    /// Whether the process has ended, or the journal was away.
    troubled: AtomicBool,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Terraform is gone, and the provider is still at something: it is ended with the run.
        if self.inner.calls.load(Ordering::SeqCst) > 0 {
            self.inner.lease.spoil();
        }
    }
}

impl Proxy {
    /// Listens for Terraform.
    pub(in crate::terraform) fn start(
        lease: Lease,
        socket: &Path,
        purpose: Purpose,
    ) -> Result<Self, TerraformError> {
        let listener = UnixListener::bind(socket).map_err(|source| TerraformError::Io {
            doing: format!("listening on {}", socket.display()),
            source,
        })?;
        let Purpose { base_url, attribute, nats, records, run } = purpose;
        let inner = Arc::new(Inner {
            lease,
            attribute,
            base_url,
            recorder: Recorder { nats, records, run },
            calls: AtomicUsize::new(0),
            troubled: AtomicBool::new(false),
        });
        let stop = CancellationToken::new();
        tokio::spawn(listen(listener, Arc::clone(&inner), stop.clone()));
        Ok(Self { inner, _stop: stop.drop_guard() })
    }

    /// Whether something of ours went wrong: the provider's process ended, or the journal was away.
    pub(in crate::terraform) fn troubled(&self) -> bool {
        self.inner.troubled.load(Ordering::Relaxed)
    }
}

async fn listen(listener: UnixListener, inner: Arc<Inner>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(tokio::spawn(serve(stream, Arc::clone(&inner), stop.clone()))),
                Err(error) => tracing::warn!(%error, "a connection of Terraform was lost"),
            },
        }
    }
}

async fn serve(stream: UnixStream, inner: Arc<Inner>, stop: CancellationToken) {
    let service = service_fn(move |request| {
        let inner = Arc::clone(&inner);
        async move { Ok::<_, Infallible>(inner.answer(request).await) }
    });
    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    tokio::select! {
        // Terraform closes it when it ends.
        _ = server.serve_connection(TokioIo::new(stream), service) => {}
        () = stop.cancelled() => {}
    }
}

/// Counts a call for as long as it is under way.
struct Calling<'a> {
    inner: &'a Inner,
    answered: bool,
}

impl Drop for Calling<'_> {
    fn drop(&mut self) {
        self.inner.calls.fetch_sub(1, Ordering::SeqCst);
        if !self.answered {
            // Terraform went away in the middle; the provider is still at it, and is no other run's.
            self.inner.lease.spoil();
        }
    }
}

impl Inner {
    async fn answer(&self, request: Request<Incoming>) -> Response<BoxBody<Bytes, Infallible>> {
        let (mut head, body) = request.into_parts();
        let Some(call) = head.uri.path().strip_prefix(SERVICE).map(str::to_owned) else {
            // Broker, output and the wish to end are between a host and its own plugin.
            return body_of(no_answer(UNIMPLEMENTED, "not for this plugin"));
        };
        let answer = match collected(body).await {
            Ok(body) => {
                // What is passed on may be longer than what came.
                head.headers.remove(CONTENT_LENGTH);
                self.take(&call, head, body).await
            }
            Err(error) => no_answer(UNAVAILABLE, &error.to_string()),
        };
        body_of(answer)
    }

    async fn take(&self, call: &str, head: request::Parts, body: Bytes) -> Answer {
        match call {
            about if ABOUT_ITSELF.contains(&about) => {
                if let Some(known) = self.lease.known(about) {
                    return known;
                }
                let answer = self.pass(head, body).await;
                if answer.message().is_some() {
                    self.lease.keep(about, &answer);
                }
                answer
            }
            "ConfigureProvider" => match self.configured(&body) {
                Some(body) => self.pass(head, body).await,
                None => self.misconfigured(),
            },
            "PlanResourceChange" => {
                let answer = self.pass(head, body.clone()).await;
                if let Some(request) = wire::message(&body) {
                    self.recorder.planned(request, &answer).await;
                }
                answer
            }
            "ApplyResourceChange" => self.apply(head, body).await,
            "StopProvider" => {
                // Whoever was told to stop may stay so.
                self.lease.spoil();
                self.pass(head, body).await
            }
            _ => self.pass(head, body).await,
        }
    }

    async fn pass(&self, head: request::Parts, body: Bytes) -> Answer {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let mut calling = Calling { inner: self, answered: false };
        let Some(plugin) = self.lease.plugin() else { return no_answer(UNAVAILABLE, "the run has ended") };
        let answered = plugin.call(head, body).await;
        calling.answered = true;
        match answered {
            Ok(answer) => answer,
            Err(error) => {
                self.lease.spoil();
                self.troubled.store(true, Ordering::Relaxed);
                let message = wanwright_nats::chain(&error);
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    pid = plugin.id(),
                    "a provider did not answer"
                );
                no_answer(UNAVAILABLE, &message)
            }
        }
    }

    /// The configuration with the run's own way to the vendor.
    fn configured(&self, body: &[u8]) -> Option<Bytes> {
        let sent = wire::message(body)?;
        let request = configure_provider::Request::decode(sent).ok()?;
        let config = wire::with_text(request.config.as_ref(), &self.attribute, &self.base_url)?;
        let made = wire::replaced(sent, CONFIG, &config.encode_to_vec())?;
        Some(wire::framed(&made))
    }

    fn misconfigured(&self) -> Answer {
        let detail = format!(
            "The provider's configuration has no attribute `{}`: correct base_url in terraform/providers.toml.",
            self.attribute
        );
        let diagnostics = vec![error("The provider cannot be told where the vendor is", detail)];
        answered(&configure_provider::Response { diagnostics })
    }

    async fn apply(&self, head: request::Parts, body: Bytes) -> Answer {
        let asked = match self.recorder.before(wire::message(&body).unwrap_or_default()).await {
            Ok(asked) => asked,
            Err(error) => {
                self.troubled.store(true, Ordering::Relaxed);
                return unjournalled(wire::message(&body).unwrap_or_default(), &error);
            }
        };
        let answer = self.pass(head, body).await;
        self.recorder.after(&asked, Some(&answer)).await;
        answer
    }
}

/// The number of the field with the configuration in `ConfigureProvider`.
const CONFIG: u64 = 2;

/// A change that cannot be written down is not asked for; the object is as it was.
fn unjournalled(request: &[u8], why: &(dyn std::error::Error + 'static)) -> Answer {
    let request = apply_resource_change::Request::decode(request).unwrap_or_default();
    let detail = format!("Nothing was changed: {}.", wanwright_nats::chain(why));
    answered(&apply_resource_change::Response {
        new_state: request.prior_state,
        private: request.planned_private,
        diagnostics: vec![error("The change could not be written into the journal", detail)],
        ..Default::default()
    })
}

fn error(summary: &str, detail: String) -> Diagnostic {
    let severity = Severity::Error.into();
    Diagnostic { severity, summary: summary.to_owned(), detail, attribute: None }
}

/// An answer of our own.
fn answered(message: &impl prost::Message) -> Answer {
    let Answer { status, mut headers, .. } = no_answer(0, "");
    let mut trailers = hyper::HeaderMap::new();
    for name in ["grpc-status", "grpc-message"] {
        if let Some(value) = headers.remove(name) {
            trailers.insert(hyper::header::HeaderName::from_static(name), value);
        }
    }
    Answer { status, headers, body: wire::framed(&message.encode_to_vec()), trailers: Some(trailers) }
}
