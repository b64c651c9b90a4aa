//! Who may do what: an operator signs accounts, an account signs users, and the server believes signatures alone.
//!
//! The account WAN has the streams, the services and the roles. Every customer has an account of its own without
//! JetStream, which imports the customer's own subjects from WAN and nothing else; OPERATORS imports those of the whole
//! fleet. The name of a user is its actor: its permissions hold it in every subject it may publish on, so that nobody
//! speaks for another. [`Authority`] keeps the keys and signs; [`push`] tells a running server.

mod authority;
mod claims;
mod creds;
mod error;
mod grants;
mod jwt;
mod keys;
pub mod push;
mod server;
mod users;

pub use authority::{AccountInfo, Authority};
pub use claims::AccountLimits;
pub use creds::Credentials;
pub use error::AccountError;
pub use grants::{Grants, LEADER_ELECTED, RESERVED, Role, UserKind};
pub use server::matches;
pub use users::UserInfo;

/// The account of the streams, the services and the roles.
pub const WAN: &str = "WAN";
/// The server's own account.
pub const SYS: &str = "SYS";
/// The account of those who work for the whole fleet.
pub const OPERATORS: &str = "OPERATORS";
