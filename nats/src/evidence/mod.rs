//! Evidence of what a stream held, kept where the stream is not.
//!
//! Every message has a leaf: the digest of its place, subject, time, headers and body. Leaves are rolled into one digest
//! over the stream from its first message on ([`fold`]). Now and then the rolled digest is signed ([`head`]) with a key
//! that NATS does not have ([`key`]), and kept in a folder ([`folder`]) and in Postgres. Whoever holds a head can tell
//! whether a stream, or an export of it, is what it was. [`check`] is the part of that which is cheap enough to be asked
//! before every load, [`auditor`] the whole of it, over streams or over an [`export`]. Old heads are thinned out
//! ([`thin`]): the newest one vouches for all before it.

pub mod auditor;
pub mod check;
pub mod export;
pub mod finding;
pub mod fold;
pub mod folder;
pub mod head;
pub mod key;
pub mod thin;
pub mod verify;

pub use auditor::{Audited, Auditor};
pub use check::{Evidence, Unproven};
pub use finding::Finding;
pub use fold::{Rolling, leaf};
pub use folder::Folder;
pub use head::SignedHead;
pub use key::{PublicKey, SigningKey};
pub use thin::Ages;
pub use verify::Report;
