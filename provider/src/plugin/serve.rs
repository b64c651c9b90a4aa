//! Serving as the plugin of the Terraform that started this process.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;
use wanwright_vendors::{Catalogue, LoadError};

use super::handshake::{COOKIE_NAME, COOKIE_VALUE, Handshake, PROTOCOL};
use super::tls::{Identity, TlsError, server};
use crate::host::Host;
use crate::proto::tfplugin6::provider_server::Provider;
use crate::serve::serve_on;
use crate::service::{Calls, Service};

/// How often is looked whether the host is still there.
const LOOK: Duration = Duration::from_millis(500);

/// Longest a host may take for its part of the TLS handshake.
const GREETING: Duration = Duration::from_secs(10);

/// Why the plugin cannot serve.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PluginError {
    /// The host speaks other plugin protocols.
    #[error(
        "the host speaks the plugin protocols {0}, and this provider {PROTOCOL}: use Terraform 1.0 or newer"
    )]
    Protocol(String),
    /// The host's certificate is none.
    #[error("PLUGIN_CLIENT_CERT holds no certificate")]
    HostCertificate,
    /// The vendor folders are not valid.
    #[error("loading the vendor folders; WANWRIGHT_VENDORS says where they are")]
    Vendors(#[from] LoadError),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The socket cannot be used.
    #[error("listening on {}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Signals or standard output cannot be used.
    #[error("setting up the process")]
    Process(#[source] io::Error),
    /// The server stopped by itself.
    #[error("serving the plugin protocol")]
    Server(#[from] tonic::transport::Error),
}

/// Whether Terraform has started this process to be its plugin.
#[must_use]
pub fn is_asked_for() -> bool {
    std::env::var(COOKIE_NAME).is_ok_and(|cookie| cookie == COOKIE_VALUE)
}

/// Serves the host that started this process until it says so, is gone, or SIGTERM arrives.
///
/// Vendor folders are read from `WANWRIGHT_VENDORS`, else from `vendors` beside the program. Interrupts are left to the
/// host: a Ctrl-C in the terminal reaches both, and the host then asks for what it wants.
///
/// # Errors
/// [`PluginError`].
pub async fn serve_plugin() -> Result<(), PluginError> {
    check_protocol()?;
    let catalogue = Catalogue::load(vendors())?;
    let calls = Calls {
        gateway_url: text("WANWRIGHT_GATEWAY_URL"),
        through: None,
        doubt: crate::serve::Doubt::None,
        creates: None,
        connect_timeout: Duration::from_secs(5),
        call_timeout: Duration::from_secs(120),
    };
    serve_provider(Service::new(&catalogue, calls)).await
}

fn text(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

/// Whether the host speaks the plugin protocol that is spoken here.
fn check_protocol() -> Result<(), PluginError> {
    let spoken = text("PLUGIN_PROTOCOL_VERSIONS").unwrap_or_default();
    if !spoken.split(',').any(|version| version.trim() == PROTOCOL.to_string()) {
        return Err(PluginError::Protocol(spoken));
    }
    Ok(())
}

/// Serves a provider of the caller's in the same way.
///
/// # Errors
/// [`PluginError`].
pub async fn serve_provider(provider: impl Provider) -> Result<(), PluginError> {
    check_protocol()?;
    let (acceptor, certificate) = match text("PLUGIN_CLIENT_CERT") {
        Some(pem) => {
            let host = CertificateDer::from_pem_slice(pem.as_bytes());
            let own = Identity::make()?;
            let config = server(&own, host.map_err(|_| PluginError::HostCertificate)?)?;
            (Some(TlsAcceptor::from(config)), Some(own.certificate().clone()))
        }
        None => (None, None),
    };
    let socket = Socket(socket_path());
    let listener = listen(&socket.0)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(PluginError::Process)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(PluginError::Process)?;
    let line = Handshake { protocol: PROTOCOL, socket: socket.0.clone(), certificate };
    let mut out = io::stdout();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(PluginError::Process)?;
    let host = Host { end: Some(Arc::new(Notify::new())) };
    let end = host.end.clone().unwrap_or_default();
    let stop = async move {
        let ignored = async { while interrupt.recv().await.is_some() {} };
        tokio::select! {
            _ = terminate.recv() => {}
            () = end.notified() => {}
            () = alone() => {}
            () = ignored => {}
        }
    };
    Ok(serve_on(connections(listener, acceptor), provider, host, stop).await?)
}

fn vendors() -> PathBuf {
    let beside = || Some(std::env::current_exe().ok()?.parent()?.join("vendors"));
    let given = std::env::var_os("WANWRIGHT_VENDORS").map(PathBuf::from);
    given.or_else(beside).unwrap_or_else(|| PathBuf::from("vendors"))
}

fn socket_path() -> PathBuf {
    let folder = text("PLUGIN_UNIX_SOCKET_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let nanos = now.map_or(0, |since| since.subsec_nanos());
    folder.join(format!("plugin{}-{nanos}", std::process::id()))
}

/// Removes the file when it goes.
struct Socket(PathBuf);

impl Drop for Socket {
    fn drop(&mut self) {
        // It may be gone already, and there is nobody left to tell.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Listens on a socket that only this user can open, from its first moment on.
fn listen(path: &Path) -> Result<UnixListener, PluginError> {
    let mask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(path);
    rustix::process::umask(mask);
    listener.map_err(|source| PluginError::Socket { path: path.to_owned(), source })
}

/// Ready when the host has died without a word: a provider nobody waits for must not go on creating things.
async fn alone() {
    let host = rustix::process::getppid();
    let mut looks = tokio::time::interval(LOOK);
    while rustix::process::getppid() == host {
        looks.tick().await;
    }
}

/// A connection of the host.
enum Connection {
    Plain(UnixStream),
    Tls(Box<TlsStream<UnixStream>>),
}

/// The connections of the host. One that does not get through the handshake holds up no other.
fn connections(
    listener: UnixListener,
    acceptor: Option<TlsAcceptor>,
) -> ReceiverStream<io::Result<Connection>> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (sender, acceptor) = (sender.clone(), acceptor.clone());
            tokio::spawn(async move {
                let connection = match acceptor {
                    None => Connection::Plain(stream),
                    Some(acceptor) => match tokio::time::timeout(GREETING, acceptor.accept(stream)).await {
                        Ok(Ok(stream)) => Connection::Tls(Box::new(stream)),
                        Ok(Err(error)) => return eprintln!("refused a connection: {error}"),
                        Err(_) => return,
                    },
                };
                // Nobody is served any more.
                let _ = sender.send(Ok(connection)).await;
            });
        }
    });
    ReceiverStream::new(receiver)
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buffer),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
