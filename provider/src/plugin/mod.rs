//! Being started by Terraform: the handshake of its plugin host, on either side.
//!
//! The host passes a cookie, the protocols that it speaks and its certificate in the environment. The plugin answers with
//! one line on standard output that says where it listens, and with its own certificate. Both take nobody but the other.

mod handshake;
mod p521;
mod serve;
mod tls;

pub use handshake::{COOKIE_NAME, COOKIE_VALUE, Handshake, HandshakeError, PROTOCOL, client_env};
pub use serve::{PluginError, is_asked_for, serve_plugin, serve_provider};
pub use tls::{Identity, TlsError, client, server};
