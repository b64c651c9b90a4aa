//! One process of a foreign provider, and the connection to it.

use std::convert::Infallible;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http2::{self, SendRequest};
use hyper::http::request;
use hyper::{HeaderMap, Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::net::UnixStream;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use wanwright_provider::plugin::{Handshake, Identity, client, client_env};
use wanwright_supervisor::{Child, ChildSpec, Confinement, Lines};

use super::package::Package;
use super::{refused, wire};
use crate::terraform::error::TerraformError;

/// Longest a provider may take until it listens.
const START: Duration = Duration::from_secs(60);

/// Largest message, in bytes.
pub(super) const LARGEST_MESSAGE: usize = 64 << 20;

/// Room for a message on its way before the other side has to say that it takes more, in bytes.
const WINDOW: u32 = 4 << 20;

/// What programs that are linked dynamically read before they begin.
const LIBRARIES: [&str; 3] = ["/lib", "/lib64", "/usr/lib"];

/// How long the name of a process's folder is.
const FOLDER_NAME: usize = 12;

/// A provider that listens to nobody but us. It is killed when this is dropped.
pub(super) struct Plugin {
    child: Child,
    sender: SendRequest<Full<Bytes>>,
    folder: PathBuf,
    gone: CancellationToken,
}

/// What a provider answered to a call.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) trailers: Option<HeaderMap>,
}

impl Answer {
    /// The message in it, if it is there and the call did not fail.
    pub(super) fn message(&self) -> Option<&[u8]> {
        wire::message(&self.body)
    }
}

/// No answer came.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// The connection is gone, and the process with it or soon.
    #[error("the provider's process has ended")]
    Gone(#[source] hyper::Error),
    /// What it said is no answer.
    #[error("reading the provider's answer")]
    Unreadable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Drop for Plugin {
    fn drop(&mut self) {
        self.gone.cancel();
        // It may hold nothing but a socket; the next start of the executor clears what is left.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Plugin {
    /// Starts a process that reaches one port of this machine, the gateway's, and nothing else.
    pub(super) async fn start(
        package: &Package,
        gateway: u16,
        sockets: &Path,
    ) -> Result<Self, TerraformError> {
        let checked = package.clone();
        let checked = tokio::task::spawn_blocking(move || checked.check());
        checked.await.map_err(|error| refused(error.to_string()))??;
        let folder = sockets.join(&uuid::Uuid::new_v4().simple().to_string()[..FOLDER_NAME]);
        let made = std::fs::DirBuilder::new().mode(0o700).create(&folder);
        made.map_err(|source| TerraformError::Io { doing: format!("making {}", folder.display()), source })?;
        let identity = Identity::make().map_err(|error| TerraformError::Provider(error.into()))?;
        let spec = spec(package, &folder, &identity)?.confined(confinement(package, gateway, &folder));
        Self::launch(&spec, folder, &identity).await.map_err(|error| match error {
            TerraformError::Foreign(message) => refused(format!("{}: {message}", package.settings.address)),
            other => other,
        })
    }

    async fn launch(spec: &ChildSpec, folder: PathBuf, identity: &Identity) -> Result<Self, TerraformError> {
        let mut child = spec.spawn().map_err(TerraformError::Process)?;
        let started = tokio::time::timeout(START, connected(&mut child, &folder, identity)).await;
        let late = |_| refused(format!("it did not listen within {} s", START.as_secs()));
        let (sender, gone) = started.map_err(late)??;
        let plugin = Self { child, sender, folder, gone };
        plugin.swallow_output();
        Ok(plugin)
    }

    /// The process.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it can be called.
    pub(super) fn is_alive(&self) -> bool {
        !self.child.has_ended() && !self.sender.is_closed()
    }

    /// Makes a call.
    pub(super) async fn call(&self, head: request::Parts, body: Bytes) -> Result<Answer, CallError> {
        let mut request = Request::from_parts(head, Full::new(body));
        let path = request.uri().path().to_owned();
        if let Ok(uri) = format!("https://localhost{path}").parse() {
            *request.uri_mut() = uri;
        }
        let mut sender = self.sender.clone();
        let response = sender.send_request(request).await.map_err(CallError::Gone)?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, LARGEST_MESSAGE).collect().await.map_err(CallError::Unreadable)?;
        let trailers = body.trailers().cloned();
        Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes(), trailers })
    }

    /// What a Go program prints goes through its host. Nobody listens to it, and it must not wait for that: what a
    /// stranger's program prints belongs into no log.
    fn swallow_output(&self) {
        let mut sender = self.sender.clone();
        let gone = self.gone.clone();
        tokio::spawn(async move {
            let request = Request::post("https://localhost/plugin.GRPCStdio/StreamStdio")
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(Full::new(wire::framed(b"")));
            let (Ok(request), false) = (request, gone.is_cancelled()) else { return };
            let swallow = async {
                let mut body = sender.send_request(request).await?.into_body();
                while let Some(frame) = body.frame().await {
                    frame?;
                }
                Ok::<_, hyper::Error>(())
            };
            tokio::select! {
                // Programs without this service have nothing to say.
                _ = swallow => {}
                () = gone.cancelled() => {}
            }
        });
    }
}

/// What a provider gets to see of this machine: its own package, one port, and a folder for its socket.
fn confinement(package: &Package, gateway: u16, folder: &Path) -> Confinement {
    let confinement = LIBRARIES.into_iter().fold(Confinement::default(), Confinement::run);
    confinement
        .read("/etc/ld.so.cache")
        .run(&package.folder)
        .write("/dev/null")
        .listen(folder)
        .connect(gateway)
        .alone()
}

fn spec(package: &Package, folder: &Path, identity: &Identity) -> Result<ChildSpec, TerraformError> {
    Ok(ChildSpec::new(package.program()?)
        .cwd(folder)
        .envs(client_env(identity))
        .env("HOME", folder)
        .env("TMPDIR", folder)
        .env("PLUGIN_UNIX_SOCKET_DIR", folder)
        .process_group()
        .piped())
}

/// Waits for the process to say where it listens, and connects.
async fn connected(
    child: &mut Child,
    folder: &Path,
    identity: &Identity,
) -> Result<(SendRequest<Full<Bytes>>, CancellationToken), TerraformError> {
    let mut lines = child.lines().map_err(TerraformError::Process)?;
    let reading = |source| TerraformError::Io { doing: "reading what a provider says".to_owned(), source };
    let Some(line) = lines.next().await.map_err(reading)? else {
        return Err(refused("its process ended before it listened".to_owned()));
    };
    let said = Handshake::parse(&line).map_err(|error| refused(error.to_string()))?;
    let gone = CancellationToken::new();
    tokio::spawn(swallow(lines));
    // What it names is connected to by us, who may connect to more than it may.
    if said.socket.parent() != Some(folder) {
        return Err(refused("it listens elsewhere than in its folder".to_owned()));
    }
    let Some(certificate) = said.certificate else {
        return Err(refused(
            "it has no certificate: only connections that both sides prove are used".to_owned(),
        ));
    };
    let config = client(identity, certificate).map_err(|error| TerraformError::Provider(error.into()))?;
    let connecting = |source| TerraformError::Io { doing: "connecting to a provider".to_owned(), source };
    let stream = UnixStream::connect(&said.socket).await.map_err(connecting)?;
    let name = ServerName::try_from("localhost").map_err(|error| TerraformError::Provider(error.into()))?;
    let stream = TlsConnector::from(config).connect(name, stream).await.map_err(connecting)?;
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(WINDOW).initial_connection_window_size(WINDOW);
    let connection = builder.handshake(TokioIo::new(stream)).await;
    let (sender, connection) = connection.map_err(|error| TerraformError::Provider(error.into()))?;
    let end = gone.clone();
    tokio::spawn(async move {
        tokio::select! {
            // Whoever has a call under way hears of it.
            _ = connection => {}
            () = end.cancelled() => {}
        }
    });
    Ok((sender, gone))
}

async fn swallow(mut lines: Lines) {
    while let Ok(Some(_)) = lines.next().await {}
}

/// A body as it was collected.
pub(super) async fn collected(
    body: hyper::body::Incoming,
) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
    Ok(Limited::new(body, LARGEST_MESSAGE).collect().await?.to_bytes())
}

/// The body of an answer, as a server sends it.
pub(super) fn body_of(
    answer: Answer,
) -> hyper::Response<http_body_util::combinators::BoxBody<Bytes, Infallible>> {
    let Answer { status, headers, body, trailers } = answer;
    let body = Full::new(body);
    let body = match trailers {
        Some(trailers) => body.with_trailers(std::future::ready(Some(Ok(trailers)))).boxed(),
        // A call that failed before it had an answer is all headers.
        None => body.boxed(),
    };
    let mut response = hyper::Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// An answer that says why there is none.
pub(super) fn no_answer(code: u32, message: &str) -> Answer {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", hyper::header::HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", code.into());
    let printable = |c: char| if c.is_ascii_graphic() && c != '%' { c } else { ' ' };
    let message: String = message.chars().map(printable).collect();
    if let Ok(message) = message.parse() {
        headers.insert("grpc-message", message);
    }
    Answer { status: StatusCode::OK, headers, body: Bytes::new(), trailers: None }
}

#[cfg(test)]
impl Plugin {
    /// The same program with nothing taken away from it.
    pub(super) async fn unconfined(package: &Package, sockets: &Path) -> Result<Self, TerraformError> {
        let folder = sockets.join("unconfined");
        std::fs::create_dir(&folder)
            .map_err(|source| TerraformError::Io { doing: "a folder".into(), source })?;
        let identity = Identity::make().map_err(|error| TerraformError::Provider(error.into()))?;
        let spec = spec(package, &folder, &identity)?.env("WANWRIGHT_STATE_KEY_FILE", "/nowhere");
        Self::launch(&spec, folder, &identity).await
    }
}
