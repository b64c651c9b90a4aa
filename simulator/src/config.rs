use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::faults::Faults;

/// The vendor's call limit: a token bucket that every authenticated call of the API spends one token of.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// Tokens added per second; exact to a millionth. 0 means the bucket is never refilled.
    pub per_second: f64,
    /// Most tokens the bucket holds; a new data folder starts with a full bucket. At least 1.
    pub burst: u32,
}

/// How to run one simulator.
#[derive(Clone)]
pub struct Config {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Folder of the journal, created when missing. One simulator at a time may use it.
    pub data: PathBuf,
    /// Vendor folder with `vendor.toml`, `simulator.toml` and `api/*.toml`.
    pub vendor: PathBuf,
    /// Bearer token of the API.
    pub token: String,
    /// Bearer token of the back door under `/_sim/`.
    pub admin_token: String,
    /// The call limit; `None` takes `[budget]` of `vendor.toml`.
    pub limit: Option<Limit>,
    /// Faults from the start, latency among them. Faults are not kept over a restart.
    pub faults: Faults,
    /// How many of the latest calls the log of calls keeps.
    pub calls_kept: usize,
}

impl Config {
    /// A simulator with the vendor's own call limit, no faults and a log of the latest 10,000 calls.
    pub fn new(
        listen: SocketAddr,
        data: impl Into<PathBuf>,
        vendor: impl Into<PathBuf>,
        token: impl Into<String>,
        admin_token: impl Into<String>,
    ) -> Self {
        Self {
            listen,
            data: data.into(),
            vendor: vendor.into(),
            token: token.into(),
            admin_token: admin_token.into(),
            limit: None,
            faults: Faults::default(),
            calls_kept: 10_000,
        }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        // An empty token would let in a caller whose own configuration is missing.
        if self.token.is_empty() || self.admin_token.is_empty() {
            return Err(Error::Config("the token and the admin token must not be empty".into()));
        }
        self.faults.check().map_err(Error::Config)
    }
}

/// Without the tokens, so that a configuration can be logged.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("listen", &self.listen)
            .field("data", &self.data)
            .field("vendor", &self.vendor)
            .field("limit", &self.limit)
            .field("faults", &self.faults)
            .field("calls_kept", &self.calls_kept)
            .finish_non_exhaustive()
    }
}
