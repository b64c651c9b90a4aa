//! Whoever stands for a vendor in this very process, so that a call needs no connection to get there.

use std::future::Future;
use std::pin::Pin;

use reqwest::header::HeaderMap;
use reqwest::{Method, Url};

/// A call on its way.
#[derive(Debug)]
pub struct Carried {
    /// The method.
    pub method: Method,
    /// Where it goes, below the base URL that the carrier gave.
    pub url: Url,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body; empty where it has none.
    pub body: Vec<u8>,
}

/// Status, headers and whole body of an answer, or why none came.
pub type Brought = Result<(u16, HeaderMap, Vec<u8>), Box<dyn std::error::Error + Send + Sync>>;

/// Takes calls to the vendor and brings back the answers.
pub trait Carrier: Send + Sync {
    /// Makes one call. It bounds how long that takes, and how large an answer may be.
    fn carry(&self, call: Carried) -> Pin<Box<dyn Future<Output = Brought> + Send + '_>>;
}
