//! Claims: a name that belongs to one owner in the whole fleet, such as a device's serial number.

use async_nats::jetstream::kv;
use bytes::Bytes;

use crate::connect::Nats;
use crate::error::NatsError;
use crate::topology::CLAIMS;

/// What became of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claimed {
    /// The name was free and is the owner's now.
    New,
    /// It was the owner's already.
    Again,
    /// It belongs to somebody else.
    Taken,
}

/// The claims on a server.
#[derive(Debug, Clone)]
pub struct Claims {
    store: kv::Store,
}

impl Claims {
    /// Opens the claims.
    pub async fn open(nats: &Nats) -> Result<Self, NatsError> {
        let store = nats.js.get_key_value(CLAIMS).await.map_err(NatsError::failed("opening the claims"))?;
        Ok(Self { store })
    }

    /// Claims a name for an owner, again if need be.
    pub async fn claim(&self, name: &str, owner: &str) -> Result<Claimed, NatsError> {
        let doing = format!("claiming {name}");
        let key = key(name);
        match self.store.create(&key, Bytes::copy_from_slice(owner.as_bytes())).await {
            Ok(_) => return Ok(Claimed::New),
            Err(error) if error.kind() == kv::CreateErrorKind::AlreadyExists => {}
            Err(error) => return Err(NatsError::failed(doing)(error)),
        }
        let holder = self.store.get(&key).await.map_err(NatsError::failed(doing))?;
        let own = holder.is_some_and(|holder| holder == owner.as_bytes());
        Ok(if own { Claimed::Again } else { Claimed::Taken })
    }

    /// Whether a name belongs to somebody else than this owner.
    pub async fn is_taken(&self, name: &str, owner: &str) -> Result<bool, NatsError> {
        let holder =
            self.store.get(key(name)).await.map_err(NatsError::failed(format!("asking about {name}")))?;
        Ok(holder.is_some_and(|holder| holder != owner.as_bytes()))
    }

    /// Gives a name back, if it is this owner's.
    pub async fn release(&self, name: &str, owner: &str) -> Result<(), NatsError> {
        let doing = format!("releasing {name}");
        let key = key(name);
        let entry = self.store.entry(&key).await.map_err(NatsError::failed(doing.clone()))?;
        match entry {
            Some(entry) if entry.value == owner.as_bytes() && entry.operation == kv::Operation::Put => {
                let deleted = self.store.delete_expect_revision(&key, Some(entry.revision)).await;
                deleted.map_err(NatsError::failed(doing))
            }
            _ => Ok(()),
        }
    }
}

/// A name as a key: every byte that a key may not have is written as `=` and two hexadecimal digits.
fn key(name: &str) -> String {
    use std::fmt::Write;
    name.bytes().fold(String::new(), |mut key, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'/' => key.push(char::from(byte)),
            other => {
                let _ = write!(key, "={other:02x}");
            }
        }
        key
    })
}

#[cfg(test)]
mod tests {
    use super::key;

    #[test]
    fn every_name_is_a_key_of_its_own() {
        assert_eq!(key("serial/SN-1"), "serial/SN-1");
        assert_eq!(key("a b.*"), "a=20b=2e=2a");
    }
}
