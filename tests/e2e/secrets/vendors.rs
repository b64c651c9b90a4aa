//! The vendors of this test: one that stands before the simulated vendor and quotes what it is sent, and a Director that
//! gives access tokens behind a proxy with a login.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};

use anyhow::Result;
use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use super::writing::writings;

/// What a vendor has heard, and what it does.
#[derive(Default)]
pub struct Quoting {
    /// The status with which calls are answered that change something, quoting them; 0 for none.
    pub status: AtomicU16,
    /// How many were quoted.
    pub quoted: AtomicUsize,
    /// The way in which they are written.
    way: AtomicUsize,
    /// The simulated vendor and its token.
    pub behind: std::sync::OnceLock<(String, String)>,
    /// Where this listens.
    pub url: String,
}

/// Quotes a call in one of the ways to write it.
fn quote(status: u16, way: usize, headers: &HeaderMap, body: &str) -> Response {
    let ways = writings(&format!("{headers:?} {body}"));
    let text = format!("{{\"error\":{{\"message\":\"{}\"}}}}", ways[way % ways.len()]);
    (StatusCode::from_u16(status).unwrap_or_default(), text).into_response()
}

impl Quoting {
    /// Starts it. It takes this token, and passes calls on with that of the vendor behind it.
    pub async fn start(token: &'static str) -> Result<Arc<Self>> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let quoting = Arc::new(Self { url, ..Self::default() });
        let (ours, http) = (Arc::clone(&quoting), reqwest::Client::builder().no_proxy().build()?);
        let answer = async move |method: Method, uri: Uri, mut headers: HeaderMap, body: Bytes| -> Response {
            let said = String::from_utf8_lossy(&body).into_owned();
            let way = ours.way.load(Ordering::SeqCst);
            let known = headers.get("authorization").is_some_and(|value| value == &format!("Bearer {token}"));
            let status = if known { ours.status.load(Ordering::SeqCst) } else { 403 };
            if status != 0 && (method != Method::GET || status != 500) {
                ours.quoted.fetch_add(1, Ordering::SeqCst);
                return quote(status, way, &headers, &said);
            }
            let Some((url, token)) = ours.behind.get() else { return quote(503, way, &headers, &said) };
            for replaced in ["host", "content-length", "authorization"] {
                headers.remove(replaced);
            }
            let call =
                http.request(method, format!("{url}{uri}")).headers(headers).bearer_auth(token).body(body);
            match call.send().await {
                Ok(answer) => {
                    let (status, kept) = (answer.status(), answer.headers().clone());
                    let mut response = (status, answer.bytes().await.unwrap_or_default()).into_response();
                    for name in ["content-type", "retry-after", "idempotent-replay"] {
                        if let Some(value) = kept.get(name) {
                            response.headers_mut().insert(name, value.clone());
                        }
                    }
                    response
                }
                Err(_) => quote(502, way, &HeaderMap::new(), ""),
            }
        };
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
        Ok(quoting)
    }

    /// Waits until it has quoted something with this status, written in another way than what it quoted before.
    pub async fn quotes(&self, status: u16) -> Result<()> {
        let before = self.quoted.load(Ordering::SeqCst);
        self.way.fetch_add(1, Ordering::SeqCst);
        self.status.store(status, Ordering::SeqCst);
        wanwright_tests::level::until("it quotes", wanwright_tests::level::LONG, async || {
            Ok(self.quoted.load(Ordering::SeqCst) > before)
        })
        .await?;
        self.status.store(0, Ordering::SeqCst);
        Ok(())
    }
}

/// A Director that gives a token and answers every call with 500 and what it was sent: its URL, and how often it did.
pub async fn director(token: &'static str) -> Result<(String, Arc<AtomicUsize>)> {
    let (listener, quoted) = (TcpListener::bind(("127.0.0.1", 0)).await?, Arc::new(AtomicUsize::new(0)));
    let (url, counted) = (format!("http://{}", listener.local_addr()?), Arc::clone(&quoted));
    let answer = async move |uri: Uri, headers: HeaderMap, body: Bytes| -> Response {
        let body = String::from_utf8_lossy(&body).into_owned();
        if uri.path() == "/auth/token" {
            return serde_json::json!({"access_token": token, "expires_in": "900"})
                .to_string()
                .into_response();
        }
        let way = counted.fetch_add(1, Ordering::SeqCst);
        quote(500, way, &headers, &body)
    };
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    Ok((url, quoted))
}

/// A proxy that connects whoever has this login: its URL, and how often it did.
pub async fn proxy(login: &str) -> Result<(String, Arc<AtomicUsize>)> {
    let (listener, led) = (TcpListener::bind(("127.0.0.1", 0)).await?, Arc::new(AtomicUsize::new(0)));
    let (url, counted) = (format!("http://{}", listener.local_addr()?), Arc::clone(&led));
    let basic = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(login));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let Ok(byte) = stream.read_u8().await else { break };
                request.push(byte);
            }
            let request = String::from_utf8_lossy(&request).into_owned();
            let to = request.split(' ').nth(1).unwrap_or_default().to_owned();
            if !request.contains(&basic) {
                let _ = stream.write_all(b"HTTP/1.1 407 No\r\ncontent-length: 0\r\n\r\n").await;
                continue;
            }
            counted.fetch_add(1, Ordering::SeqCst);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
            tokio::spawn(async move {
                if let Ok(mut vendor) = TcpStream::connect(to).await {
                    let _ = copy_bidirectional(&mut stream, &mut vendor).await;
                }
            });
        }
    });
    Ok((url, led))
}

/// Copies a vendor's folder, each text through this.
pub fn copy(from: &Path, to: &Path, text: &impl Fn(String) -> String) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?.path();
        let to = to.join(entry.file_name().unwrap_or_default());
        if entry.is_dir() {
            copy(&entry, &to, text)?;
        } else {
            std::fs::write(to, text(std::fs::read_to_string(entry)?))?;
        }
    }
    Ok(())
}
