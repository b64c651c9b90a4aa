//! One HTTP exchange: bounded in time and size, no redirect followed, no proxy from the environment.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Response, Url};
use serde_json::Value;

use super::answer::{self, Answer};
use super::carrier::{Carried, Carrier};
use super::error::ClientError;
use crate::resource::ResourceApi;

/// Largest answer that is read, in bytes.
const LARGEST_ANSWER: usize = 8 << 20;

/// Header of a call that changes nothing although its method could: a query in a POST. Whoever stands between this client
/// and the vendor may read it and takes it off.
pub const LOOKS_HEADER: &str = "wan-looks";

/// One call, ready to be made.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: Vec<(String, String)>,
    pub(super) body: Option<Value>,
    pub(super) header: Option<(&'a str, &'a str)>,
    pub(super) looks: bool,
}

/// Where and how a vendor is called.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Base URL; the paths in `api/<kind>.toml` are appended to it.
    pub base_url: String,
    /// Longest time to make a connection.
    pub connect_timeout: Duration,
    /// Longest time for a whole call, connection and answer included.
    pub call_timeout: Duration,
    /// Headers sent with every call. They never appear in errors or debug output.
    pub headers: Vec<(String, String)>,
}

/// Connections to one base URL, shared by the clients of its kinds. A clone shares them too.
#[derive(Clone)]
pub struct VendorHttp {
    way: Way,
    base: Arc<str>,
}

/// How a call gets to whoever stands for the vendor.
#[derive(Clone)]
enum Way {
    Connection(Client),
    /// It is in this process.
    Carrier(Arc<dyn Carrier>),
}

impl std::fmt::Debug for VendorHttp {
    // The client's headers may hold a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VendorHttp").field("base", &self.base).finish_non_exhaustive()
    }
}

impl VendorHttp {
    /// Prepares calls; nothing is sent yet.
    ///
    /// # Errors
    /// [`ClientError::Configuration`] if the base URL or a header is not valid.
    pub fn new(options: &ClientOptions) -> Result<Self, ClientError> {
        let base = options.base_url.trim_end_matches('/');
        url(base, "/", &[])?;
        let mut headers = HeaderMap::new();
        for (name, value) in &options.headers {
            let name = HeaderName::try_from(name.as_str())
                .map_err(|_| ClientError::configuration(format!("`{name}` is no header's name")))?;
            let mut value = HeaderValue::try_from(value.as_str()).map_err(|_| {
                ClientError::configuration(format!("the value of header `{name}` is not valid"))
            })?;
            value.set_sensitive(true);
            headers.append(name, value);
        }
        let client = Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .connect_timeout(options.connect_timeout)
            .timeout(options.call_timeout)
            .default_headers(headers)
            .build()
            .map_err(|error| ClientError::configuration(error.to_string()))?;
        Ok(Self { way: Way::Connection(client), base: base.into() })
    }

    /// The same where whoever stands for the vendor is in this process: nothing is sent to get there. The carrier knows
    /// the base URL as its own, and bounds each call in time and size.
    ///
    /// # Errors
    /// [`ClientError::Configuration`] if the base URL is not valid.
    pub fn carried(base_url: &str, carrier: Arc<dyn Carrier>) -> Result<Self, ClientError> {
        let base = base_url.trim_end_matches('/');
        url(base, "/", &[])?;
        Ok(Self { way: Way::Carrier(carrier), base: base.into() })
    }

    /// One call. Anything but a success with a whole answer is an error.
    pub(super) async fn call(&self, api: &ResourceApi, call: &Call<'_>) -> Result<Answer, ClientError> {
        let url = url(&self.base, &call.path, &call.query)?;
        let headers = headers(api, call)?;
        let body = call.body.as_ref().map(serde_json::to_vec).transpose();
        let body = body.map_err(|error| ClientError::configuration(error.to_string()))?;
        let (status, headers, body) = match &self.way {
            Way::Connection(client) => {
                let mut request = client.request(call.method.clone(), url).headers(headers);
                if let Some(body) = body {
                    request = request.body(body);
                }
                let response = request.send().await.map_err(network)?;
                let (status, headers) = (response.status().as_u16(), response.headers().clone());
                (status, headers, bounded(response).await?)
            }
            Way::Carrier(carrier) => {
                let body = body.unwrap_or_default();
                let call = Carried { method: call.method.clone(), url, headers, body };
                let brought = carrier.carry(call).await;
                // What it asked for may have been done, whatever became of the answer.
                brought.map_err(|source| ClientError::Network { connected: true, source: source.into() })?
            }
        };
        answer::judge(api, status, retry_after(&headers), headers, body)
    }

    /// The parameters of a link to another page of a list. Only they are taken from a link: neither its host nor its
    /// path, which have to be those of the list.
    pub(super) fn parameters(&self, path: &str, link: &str) -> Result<Vec<(String, String)>, ClientError> {
        let here = url(&self.base, path, &[])?;
        let wrong = || ClientError::unexpected("the list's next page is no page of the list");
        let link = here.join(link).map_err(|_| wrong())?;
        if !link.path().ends_with(path) {
            return Err(wrong());
        }
        Ok(link.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }
}

fn headers(api: &ResourceApi, call: &Call<'_>) -> Result<HeaderMap, ClientError> {
    let mut headers = HeaderMap::new();
    let own = api.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in own.chain(call.header) {
        let pair = HeaderName::try_from(name).ok().zip(HeaderValue::try_from(value).ok());
        let (name, value) =
            pair.ok_or_else(|| ClientError::configuration(format!("header `{name}` is not valid")))?;
        headers.append(name, value);
    }
    if call.looks && call.method != Method::GET {
        headers.insert(LOOKS_HEADER, HeaderValue::from_static("true"));
    }
    if call.body.is_some() {
        headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
    }
    Ok(headers)
}

fn network(source: reqwest::Error) -> ClientError {
    if source.is_builder() {
        return ClientError::configuration(source.to_string());
    }
    ClientError::Network {
        connected: !source.is_connect(),
        // The URL is long and, through the gateway, says nothing a person knows.
        source: Arc::new(source.without_url()),
    }
}

async fn bounded(mut response: Response) -> Result<Vec<u8>, ClientError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(network)? {
        if body.len() + chunk.len() > LARGEST_ANSWER {
            let message = format!("the answer is larger than {LARGEST_ANSWER} bytes");
            return Err(ClientError::unexpected(message));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Only the form in seconds: the other one needs a clock that agrees with the vendor's.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

fn url(base: &str, path: &str, query: &[(String, String)]) -> Result<Url, ClientError> {
    let mut url = Url::parse(&format!("{base}{path}"))
        .map_err(|error| ClientError::configuration(format!("`{base}` is no base URL: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") || url.query().is_some() {
        return Err(ClientError::configuration(format!(
            "`{base}` is no base URL: write http://host:port/path"
        )));
    }
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    Ok(url)
}

/// A value as one part of a path.
pub(super) fn percent_encoded(id: &str) -> String {
    let mut text = String::with_capacity(id.len());
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~' | b'.') {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}
