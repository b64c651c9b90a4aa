//! Listening on a Unix socket for a Terraform that was told where (`TF_REATTACH_PROVIDERS`).
//!
//! Such a connection is plaintext and takes anyone who can open the socket, so the socket has to be in a folder that
//! only its owner can enter.

use std::collections::BTreeSet;
use std::future::Future;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio_stream::Stream;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use wanwright_vendors::{Catalogue, LoadError, VendorHttp};

use crate::host::Host;
use crate::proto::health::health_server::HealthServer;
use crate::proto::plugin::grpc_controller_server::GrpcControllerServer;
use crate::proto::tfplugin6::provider_server::{Provider, ProviderServer};
use crate::service::{Calls, Service};

/// Largest message taken from Terraform, in bytes.
const LARGEST_MESSAGE: usize = 64 << 20;

/// Longest wait for calls in progress after being told to stop.
const STOPPING: Duration = Duration::from_secs(10);

/// What is not known of creates before the ones that the provider is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Doubt {
    /// Nothing: whatever was created before is in the state.
    #[default]
    None,
    /// An earlier run may have created what the state does not have. What no idempotency key finds again is looked for by
    /// its name before it is created.
    Possible,
    /// The same, and an earlier run asked for objects of these resource types that nobody knows. What neither a key nor a name
    /// surely finds again is then not created: there might be two.
    Asked(BTreeSet<String>),
}

impl Doubt {
    pub(crate) fn is_any(&self) -> bool {
        *self != Self::None
    }

    pub(crate) fn is_about(&self, type_name: &str) -> bool {
        matches!(self, Self::Asked(types) if types.contains(type_name))
    }
}

/// How a create ended that was told to [`Creates`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CreateEnd {
    /// There is an object with this id, as it was wanted or not.
    Made {
        /// The vendor's id.
        id: String,
        /// Whether it is as it was wanted.
        whole: bool,
    },
    /// There may be an object.
    Unknown,
    /// There surely is none.
    Nothing,
}

/// Who writes down the creates that neither a key nor a name surely finds again, so that whoever comes after a provider that
/// died knows of them.
pub trait Creates: std::fmt::Debug + Send + Sync {
    /// Notes that an object of this resource type is about to be asked for, and answers what to call that create.
    fn begun<'a>(&'a self, type_name: &'a str) -> Pin<Box<dyn Future<Output = String> + Send + 'a>>;

    /// Notes how it ended.
    fn ended<'a>(
        &'a self,
        create: &'a str,
        type_name: &'a str,
        end: &'a CreateEnd,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
}

/// Where the provider listens and what it calls.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// The socket. Its folder is made if it is not there, and must be open to its owner only (mode 0700).
    pub socket: PathBuf,
    /// The folder with the vendor folders.
    pub vendors: PathBuf,
    /// Base URL of every call, unless the provider's configuration has a `base_url`.
    pub gateway_url: Option<String>,
    /// What takes every call there, in place of connections. A configuration that names another `base_url` is refused then:
    /// what serves inside of a process that may reach more than Terraform may is led nowhere by a template.
    pub through: Option<VendorHttp>,
    /// What earlier runs may have created that is in no state.
    pub doubt: Doubt,
    /// Who writes down the creates that nothing finds again; nobody, unless somebody comes after a provider that died.
    pub creates: Option<Arc<dyn Creates>>,
    /// Longest time to make a connection to it.
    pub connect_timeout: Duration,
    /// Longest time for one call.
    pub call_timeout: Duration,
}

impl ServeOptions {
    /// Options with the usual times: 5 s to connect, 120 s for a call.
    pub fn new(socket: impl Into<PathBuf>, vendors: impl Into<PathBuf>, gateway_url: Option<String>) -> Self {
        Self {
            socket: socket.into(),
            vendors: vendors.into(),
            gateway_url,
            through: None,
            doubt: Doubt::None,
            creates: None,
            connect_timeout: Duration::from_secs(5),
            call_timeout: Duration::from_secs(120),
        }
    }
}

/// Why the provider could not serve.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The vendor folders are not valid.
    #[error("loading the vendor folders")]
    Vendors(#[from] LoadError),
    /// The socket cannot be used.
    #[error("listening on {}", path.display())]
    Socket {
        /// The socket or its folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Others than the owner can reach the socket's folder.
    #[error("{} can be entered by others than its owner: make it mode 0700", .0.display())]
    OpenToOthers(PathBuf),
    /// Another process listens there.
    #[error("{} is in use by another process: choose another socket", .0.display())]
    InUse(PathBuf),
    /// The server stopped by itself.
    #[error("serving the plugin protocol")]
    Server(#[from] tonic::transport::Error),
    /// Signals or standard output cannot be used.
    #[error("setting up the process")]
    Process(#[source] io::Error),
}

/// A provider that listens. Dropping it closes and removes the socket.
#[derive(Debug)]
pub struct Listening {
    listener: UnixListener,
    socket: Socket,
    service: Service,
}

/// Removes the file when it goes.
#[derive(Debug)]
struct Socket(PathBuf);

impl Drop for Socket {
    fn drop(&mut self) {
        // It may be gone already, and there is nobody left to tell.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listening {
    /// Loads the vendor folders and listens. Terraform can connect as soon as this returns; it is answered once
    /// [`Listening::serve`] runs.
    ///
    /// # Errors
    /// [`ServeError`].
    pub async fn start(options: &ServeOptions) -> Result<Self, ServeError> {
        let catalogue = Catalogue::load(&options.vendors)?;
        Self::start_with(&catalogue, options).await
    }

    /// As [`Listening::start`] with vendor folders that are loaded already; `options.vendors` is not read.
    ///
    /// # Errors
    /// [`ServeError`].
    pub async fn start_with(catalogue: &Catalogue, options: &ServeOptions) -> Result<Self, ServeError> {
        let calls = Calls {
            gateway_url: options.gateway_url.clone(),
            through: options.through.clone(),
            doubt: options.doubt.clone(),
            creates: options.creates.clone(),
            connect_timeout: options.connect_timeout,
            call_timeout: options.call_timeout,
        };
        let path = std::path::absolute(&options.socket).map_err(failed(&options.socket))?;
        private_folder(&path)?;
        free(&path).await?;
        let listener = UnixListener::bind(&path).map_err(failed(&path))?;
        Ok(Self { listener, socket: Socket(path), service: Service::new(catalogue, calls) })
    }

    /// The value for Terraform's `TF_REATTACH_PROVIDERS`, for a provider in this process.
    #[must_use]
    pub fn reattach_providers(&self) -> String {
        reattach_providers(&self.socket.0, std::process::id())
    }

    /// Answers Terraform until `stop` is ready; calls in progress then have 10 s to finish.
    ///
    /// # Errors
    /// [`ServeError::Server`].
    pub async fn serve(self, stop: impl Future<Output = ()>) -> Result<(), ServeError> {
        let incoming = UnixListenerStream::new(self.listener);
        Ok(serve_on(incoming, self.service, Host::default(), stop).await?)
    }
}

/// Answers the host on these connections until `stop` is ready; calls in progress then have 10 s to finish.
pub(crate) async fn serve_on<I>(
    incoming: impl Stream<Item = io::Result<I>>,
    service: impl Provider,
    host: Host,
    stop: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error>
where
    I: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let (tell, told) = tokio::sync::oneshot::channel::<()>();
    let provider = ProviderServer::new(service)
        .max_decoding_message_size(LARGEST_MESSAGE)
        .max_encoding_message_size(LARGEST_MESSAGE);
    let server = Server::builder()
        .add_service(provider)
        .add_service(GrpcControllerServer::new(host.clone()))
        .add_service(HealthServer::new(host))
        .serve_with_incoming_shutdown(incoming, async {
            // Either it is told, or whoever would tell is gone.
            let _ = told.await;
        });
    let mut server = std::pin::pin!(server);
    tokio::select! {
        ended = &mut server => return ended,
        () = stop => {}
    }
    let _ = tell.send(());
    // A host that keeps its connection open does not keep this process alive.
    tokio::time::timeout(STOPPING, server).await.unwrap_or(Ok(()))
}

/// Listens, writes one line `TF_REATTACH_PROVIDERS='…'` to standard output, and serves until standard input closes or
/// SIGTERM or SIGINT arrives.
///
/// # Errors
/// [`ServeError`].
pub async fn serve_reattach(options: ServeOptions) -> Result<(), ServeError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Process)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Process)?;
    let listening = Listening::start(&options).await?;
    let line = format!("TF_REATTACH_PROVIDERS='{}'\n", listening.reattach_providers());
    let mut out = io::stdout();
    out.write_all(line.as_bytes()).and_then(|()| out.flush()).map_err(ServeError::Process)?;
    let closed = stdin_closed();
    listening
        .serve(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = closed => {}
            }
        })
        .await
}

/// The value for Terraform's and OpenTofu's `TF_REATTACH_PROVIDERS`. Each resolves `wanwright/wanwright` in its own
/// registry, so both names are in it.
#[must_use]
pub fn reattach_providers(socket: &Path, pid: u32) -> String {
    let provider = serde_json::json!({
        "Protocol": "grpc",
        "ProtocolVersion": 6,
        "Pid": pid,
        "Test": true,
        "Addr": { "Network": "unix", "String": socket.display().to_string() },
    });
    serde_json::json!({
        "registry.terraform.io/wanwright/wanwright": provider.clone(),
        "registry.opentofu.org/wanwright/wanwright": provider,
    })
    .to_string()
}

fn private_folder(socket: &Path) -> Result<(), ServeError> {
    let folder = socket.parent().unwrap_or(Path::new("/"));
    std::fs::DirBuilder::new().mode(0o700).recursive(true).create(folder).map_err(failed(folder))?;
    let mode = std::fs::metadata(folder).map_err(failed(folder))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(ServeError::OpenToOthers(folder.to_owned()));
    }
    Ok(())
}

/// Removes a socket whose process has died.
async fn free(socket: &Path) -> Result<(), ServeError> {
    match UnixStream::connect(socket).await {
        Ok(_) => Err(ServeError::InUse(socket.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(socket).map_err(failed(socket))
        }
        // Nothing there, or nothing that can be listened on: binding says which.
        Err(_) => Ok(()),
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> ServeError {
    let path = path.to_owned();
    |source| ServeError::Socket { path, source }
}

/// Ready when standard input ends. A thread of its own reads, because a runtime would wait for a read in progress
/// before it lets the process end.
fn stdin_closed() -> tokio::sync::oneshot::Receiver<()> {
    let (tell, told) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        // What is read does not matter, and an error ends it too.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        let _ = tell.send(());
    });
    told
}
