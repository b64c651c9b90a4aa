//! The connections to one vendor: encrypted and verified where its address says https, through a proxy where its folder
//! says so. Redirects are the caller's to follow, through the gateway.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use url::Url;
use wanwright_vendors::{Connection, CredentialSource, Proxy};

use super::MAX_BODY;
use super::credential::{Seen, look, look_at, read};

/// Longest time a vendor may take for one answer. With the longest wait for a turn it stays well below what callers
/// wait (120 s), so that it is the gateway that gives up first and knows what became of the call.
const CALL_TIMEOUT: Duration = Duration::from_secs(45);

/// Longest time to make a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection is kept that nobody uses.
const IDLE: Duration = Duration::from_secs(60);

/// Why no answer came.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unanswered {
    #[error("the request cannot be written")]
    Request(#[source] axum::http::Error),
    #[error("no answer came")]
    Http(#[source] Error),
    #[error("the answer broke off")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the answer is larger than {MAX_BODY} bytes")]
    TooLarge,
    #[error("no answer came within {} s", CALL_TIMEOUT.as_secs())]
    Late,
}

type Plain = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;
type Proxied = Client<HttpsConnector<Tunnel<HttpConnector>>, Full<Bytes>>;

/// The connections to one vendor.
pub(super) struct Wire {
    client: Way,
    /// What the folder said, and what the files that it names looked like when they were read.
    connection: Connection,
    seen: [Option<Seen>; 2],
    /// Longest time for a whole answer.
    patience: Duration,
}

enum Way {
    Direct(Plain),
    Proxied(Proxied),
}

impl Wire {
    /// # Errors
    /// A sentence about what is wrong with the certificates or the proxy.
    pub(super) fn new(base_url: &str, connection: &Connection) -> Result<Self, String> {
        let encrypted = base_url.starts_with("https://");
        // Before they are read: what is written meanwhile makes them others.
        let seen = look_at_files(connection);
        let tls = Arc::new(configuration(encrypted, connection.ca_file.as_deref())?);
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.set_nodelay(true);
        let mut client = Client::builder(TokioExecutor::new());
        client.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE);
        let client = match proxy(base_url, connection)? {
            None => Way::Direct(client.build(HttpsConnector::from((tcp, tls)))),
            Some((proxy, login)) => {
                let mut tunnel = Tunnel::new(proxy, tcp);
                if let Some(login) = login {
                    tunnel = tunnel.with_auth(login);
                }
                Way::Proxied(client.build(HttpsConnector::from((tunnel, tls))))
            }
        };
        Ok(Self { client, connection: connection.clone(), seen, patience: CALL_TIMEOUT })
    }

    /// Whether the folder still says what it said, and its files are those that were read.
    pub(super) fn is_current(&self, connection: &Connection) -> bool {
        self.connection == *connection && self.seen == look_at_files(connection)
    }

    /// Makes a call and reads the whole answer.
    pub(super) async fn send(
        &self,
        method: &Method,
        url: &Url,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<(StatusCode, HeaderMap, Bytes), Unanswered> {
        let request = Request::builder().method(method.clone()).uri(url.as_str());
        let mut request = request.body(Full::new(body)).map_err(Unanswered::Request)?;
        *request.headers_mut() = headers;
        request.headers_mut().entry(header::ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        let answer = async {
            let answered = match &self.client {
                Way::Direct(client) => client.request(request).await,
                Way::Proxied(client) => client.request(request).await,
            };
            let (parts, body) = answered.map_err(Unanswered::Http)?.into_parts();
            let body = Limited::new(body, MAX_BODY).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() { Unanswered::TooLarge } else { Unanswered::Broken(error) }
            })?;
            Ok((parts.status, parts.headers, body.to_bytes()))
        };
        tokio::time::timeout(self.patience, answer).await.unwrap_or(Err(Unanswered::Late))
    }
}

/// What the files look like that connections are made with: the authorities to believe, the proxy's login.
fn look_at_files(connection: &Connection) -> [Option<Seen>; 2] {
    [connection.ca_file.as_deref().and_then(look), connection.proxy_login.as_ref().and_then(look_at)]
}

/// The proxy to go through with its login, if there is one. The environment counts only where the folder says so.
fn proxy(base_url: &str, connection: &Connection) -> Result<Option<(Uri, Option<HeaderValue>)>, String> {
    let login = connection.proxy_login.as_ref().map(login).transpose()?;
    match &connection.proxy {
        None => Ok(None),
        Some(Proxy::Fixed(proxy)) => {
            let proxy: Uri = proxy.parse().map_err(|error| format!("`{proxy}` is no proxy: {error}"))?;
            Ok(Some((proxy, login)))
        }
        Some(Proxy::Environment) => {
            let vendor: Uri = base_url.parse().map_err(|error| format!("`{base_url}` is no URL: {error}"))?;
            let of =
                |names: [&str; 2]| names.iter().find_map(|name| std::env::var(name).ok()).unwrap_or_default();
            let matcher = Matcher::builder()
                .https(of(["HTTPS_PROXY", "https_proxy"]))
                .http(of(["HTTPS_PROXY", "https_proxy"]))
                .no(of(["NO_PROXY", "no_proxy"]))
                .build();
            let Some(found) = matcher.intercept(&vendor) else { return Ok(None) };
            let login = login.or_else(|| found.basic_auth().cloned());
            Ok(Some((found.uri().clone(), login)))
        }
    }
}

/// A proxy's login as its header says it.
fn login(source: &CredentialSource) -> Result<HeaderValue, String> {
    let text = read(source).map_err(|what| format!("its proxy's login {what}"))?;
    let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(text.trim_end())))
        .map_err(|_| "its proxy's login is none".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

/// Whom to believe: the authorities of the file and no others, or those of the machine.
fn configuration(encrypted: bool, authorities: Option<&Path>) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    match authorities {
        Some(file) => {
            let wrong = |error: &dyn std::error::Error| {
                format!("its certificate authorities cannot be read from {}: {error}", file.display())
            };
            for certificate in CertificateDer::pem_file_iter(file).map_err(|error| wrong(&error))? {
                let certificate = certificate.map_err(|error| wrong(&error))?;
                roots.add(certificate).map_err(|error| wrong(&error))?;
            }
            if roots.is_empty() {
                return Err(format!("there is no certificate in {}", file.display()));
            }
        }
        None if encrypted => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(
                    "this machine knows no certificate authorities: install them, or name a `ca_file` in \
                            `[tls]`"
                        .to_owned(),
                );
            }
        }
        None => {}
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| format!("no encryption can be set up: {error}"))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::body::Body;
    use axum::response::Response;
    use futures::stream;

    use super::*;

    /// What a vendor sends at once.
    const PIECE: usize = 64 * 1024;

    /// A vendor that answers with so many pieces, each after a pause, and the count of what it sent.
    async fn vendor(pieces: usize, size: usize, pause: Duration) -> (Url, Arc<AtomicUsize>) {
        let sent = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&sent);
        let app = axum::Router::new().fallback(move || {
            let sent = Arc::clone(&counted);
            let body = stream::unfold(0, move |number| {
                let sent = Arc::clone(&sent);
                async move {
                    if number == pieces {
                        return None;
                    }
                    tokio::time::sleep(pause).await;
                    sent.fetch_add(size, Ordering::SeqCst);
                    Some((Ok::<_, Infallible>(Bytes::from(vec![b'a'; size])), number + 1))
                }
            });
            std::future::ready(Response::new(Body::from_stream(body)))
        });
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, app).await });
        (url.parse().expect("a URL"), sent)
    }

    async fn asked(url: &Url, patience: Duration) -> Result<usize, Unanswered> {
        let wire = Wire { patience, ..Wire::new(url.as_str(), &Connection::default()).expect("a wire") };
        let (_, _, body) = wire.send(&Method::GET, url, HeaderMap::new(), Bytes::new()).await?;
        Ok(body.len())
    }

    #[tokio::test]
    async fn an_answer_as_large_as_the_bound_passes_and_a_larger_one_does_not() {
        let (url, _) = vendor(MAX_BODY / PIECE, PIECE, Duration::ZERO).await;
        assert_eq!(asked(&url, CALL_TIMEOUT).await.expect("an answer"), MAX_BODY);
        // One piece more, which is 64 KiB.
        let (url, _) = vendor(MAX_BODY / PIECE + 1, PIECE, Duration::ZERO).await;
        let too_large = asked(&url, CALL_TIMEOUT).await;
        assert!(matches!(too_large, Err(Unanswered::TooLarge)), "{too_large:?}");
    }

    #[tokio::test]
    async fn an_answer_without_an_end_is_not_read_to_it() {
        let (url, sent) = vendor(usize::MAX, PIECE, Duration::ZERO).await;
        let endless = asked(&url, CALL_TIMEOUT).await;
        assert!(matches!(endless, Err(Unanswered::TooLarge)), "{endless:?}");
        // The connection is closed: what the vendor got rid of beyond the bound is in buffers.
        let so_far = sent.load(Ordering::SeqCst);
        assert!(so_far < 4 * MAX_BODY, "{so_far}");
    }

    #[tokio::test]
    async fn an_answer_that_only_trickles_ends_with_the_patience() {
        let (url, sent) = vendor(usize::MAX, 1, Duration::from_millis(20)).await;
        let began = std::time::Instant::now();
        let late = asked(&url, Duration::from_millis(300)).await;
        assert!(matches!(late, Err(Unanswered::Late)), "{late:?}");
        assert!(sent.load(Ordering::SeqCst) > 0, "it did answer");
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }
}
