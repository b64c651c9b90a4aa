//! The digest over a whole stream.

use std::collections::BTreeMap;

use async_nats::HeaderMap;
use jiff::Timestamp;
use wanwright_schemas::Digest;

use crate::follow::StoredMessage;

/// What the server adds to a message when it answers a direct get: no part of what is stored.
const ADDED: [&str; 7] = [
    "Nats-Stream",
    "Nats-Subject",
    "Nats-Sequence",
    "Nats-Time-Stamp",
    "Nats-Last-Sequence",
    "Nats-Num-Pending",
    "Nats-UpTo-Sequence",
];

/// Headers in an order of their own: on the wire they have none.
pub type Headers = BTreeMap<String, Vec<String>>;

/// The headers a message is stored with.
pub fn headers(map: &HeaderMap) -> Headers {
    let own = map.iter().filter(|(name, _)| !ADDED.contains(&name.as_ref()));
    own.map(|(name, values)| {
        (name.to_string(), values.iter().map(|value| value.as_str().to_owned()).collect())
    })
    .collect()
}

/// The leaf of a stored message.
pub fn leaf(message: &StoredMessage) -> Digest {
    let headers = headers(&message.headers);
    leaf_of(message.sequence, &message.subject, message.time, &headers, &message.payload)
}

/// The leaf of a message with these parts. Each part is preceded by its length, so that no two messages have the same
/// bytes.
pub fn leaf_of(sequence: u64, subject: &str, time: Timestamp, headers: &Headers, payload: &[u8]) -> Digest {
    let mut bytes = Vec::with_capacity(256);
    bytes.extend_from_slice(&sequence.to_be_bytes());
    bytes.extend_from_slice(&time.as_nanosecond().to_be_bytes());
    part(&mut bytes, subject.as_bytes());
    number(&mut bytes, headers.len());
    for (name, values) in headers {
        part(&mut bytes, name.as_bytes());
        number(&mut bytes, values.len());
        for value in values {
            part(&mut bytes, value.as_bytes());
        }
    }
    bytes.extend_from_slice(&Digest::of(payload).bytes());
    Digest::of(&bytes)
}

fn number(bytes: &mut Vec<u8>, count: usize) {
    bytes.extend_from_slice(&(count as u64).to_be_bytes());
}

fn part(bytes: &mut Vec<u8>, part: &[u8]) {
    number(bytes, part.len());
    bytes.extend_from_slice(part);
}

/// The digest over a stream up to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rolling {
    /// The message; 0 before the first.
    pub sequence: u64,
    /// The digest.
    pub digest: Digest,
}

impl Default for Rolling {
    fn default() -> Self {
        Self { sequence: 0, digest: Digest::of(b"wanwright stream v1") }
    }
}

impl Rolling {
    /// Rolls in the leaf of the message with this sequence.
    #[must_use]
    pub fn with(self, sequence: u64, leaf: Digest) -> Self {
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&self.digest.bytes());
        bytes[32..].copy_from_slice(&leaf.bytes());
        Self { sequence, digest: Digest::of(&bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_message_is_in_its_leaf() {
        let time = Timestamp::UNIX_EPOCH;
        let headers = |name: &str, value: &str| Headers::from([(name.to_owned(), vec![value.to_owned()])]);
        let one = leaf_of(1, "a", time, &headers("n", "v"), b"x");
        let others = [
            leaf_of(2, "a", time, &headers("n", "v"), b"x"),
            leaf_of(1, "b", time, &headers("n", "v"), b"x"),
            leaf_of(1, "a", time + jiff::SignedDuration::from_nanos(1), &headers("n", "v"), b"x"),
            leaf_of(1, "a", time, &headers("nv", ""), b"x"),
            leaf_of(1, "a", time, &Headers::new(), b"x"),
            leaf_of(1, "a", time, &headers("n", "v"), b"y"),
        ];
        assert!(others.iter().all(|other| *other != one));
    }

    #[test]
    fn what_the_server_adds_is_left_out() {
        let mut map = HeaderMap::new();
        map.insert("Wan-Verb", "create");
        let stored = headers(&map);
        map.insert("Nats-Sequence", "7");
        map.insert("Nats-Num-Pending", "0");
        assert_eq!(headers(&map), stored);
    }
}
