//! A signed head: what a stream held at a time.

use jiff::{Timestamp, Unit};
use serde::{Deserialize, Serialize};
use wanwright_schemas::Digest;

use super::fold::Rolling;
use super::key::{PublicKey, SigningKey};

/// The version of the heads this code signs.
pub const HEAD_VERSION: u64 = 1;

/// What a stream held up to a message, signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedHead {
    /// The version of this record.
    pub v: u64,
    /// The stream.
    pub stream: String,
    /// When the stream was created, to the microsecond.
    pub incarnation: Timestamp,
    /// The last message that is vouched for.
    pub sequence: u64,
    /// The leaf of that message.
    pub leaf: Digest,
    /// The digest over the stream from its first message up to that one.
    pub rolling: Digest,
    /// When it was signed, to the microsecond.
    pub time: Timestamp,
    /// The id of the key.
    pub key: String,
    /// The Ed25519 signature, in hexadecimal digits.
    pub signature: String,
}

/// A time as Postgres keeps it.
pub fn micros(time: Timestamp) -> Timestamp {
    let rounding = jiff::TimestampRound::new().smallest(Unit::Microsecond).mode(jiff::RoundMode::Trunc);
    time.round(rounding).unwrap_or(time)
}

impl SignedHead {
    /// Signs where a stream is.
    pub fn sign(
        key: &SigningKey,
        (stream, incarnation): (&str, Timestamp),
        rolling: Rolling,
        leaf: Digest,
        time: Timestamp,
    ) -> Self {
        let mut head = Self {
            v: HEAD_VERSION,
            stream: stream.to_owned(),
            incarnation: micros(incarnation),
            sequence: rolling.sequence,
            leaf,
            rolling: rolling.digest,
            time: micros(time),
            key: key.public().id(),
            signature: String::new(),
        };
        head.signature = key.sign(&head.signed());
        head
    }

    /// Whether it was signed with this key.
    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        self.v == HEAD_VERSION && self.key == key.id() && key.is_signature(&self.signed(), &self.signature)
    }

    /// The digest it vouches for.
    pub fn rolling(&self) -> Rolling {
        Rolling { sequence: self.sequence, digest: self.rolling }
    }

    /// The bytes that are signed: a line per field. No field can hold the end of a line.
    fn signed(&self) -> Vec<u8> {
        format!(
            "wanwright audit head\n{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}\n",
            self.v,
            self.stream.replace('\n', " "),
            self.incarnation,
            self.sequence,
            self.leaf,
            self.rolling,
            self.time,
            self.key.replace('\n', " ")
        )
        .into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::spoilt::spoilt;

    #[test]
    fn a_signature_is_over_every_field() {
        let key = SigningKey::from_seed([7; 32]).expect("a key");
        let time: Timestamp = "2026-11-21T08:00:00.123456789Z".parse().expect("a time");
        let of = Rolling::default().with(1, Digest::of(b"leaf"));
        let head = SignedHead::sign(&key, ("EVENTS-0", time), of, Digest::of(b"leaf"), time);
        let public = key.public();
        assert!(head.is_signed_by(&public));
        let others = [
            SignedHead { stream: "EVENTS-1".to_owned(), ..head.clone() },
            SignedHead { incarnation: Timestamp::UNIX_EPOCH, ..head.clone() },
            SignedHead { sequence: 2, ..head.clone() },
            SignedHead { leaf: Digest::of(b"other"), ..head.clone() },
            SignedHead { rolling: Digest::of(b"other"), ..head.clone() },
            SignedHead { time: Timestamp::UNIX_EPOCH, ..head.clone() },
            SignedHead { key: "other".to_owned(), ..head.clone() },
            SignedHead { signature: head.signature.to_uppercase(), ..head.clone() },
        ];
        assert!(others.iter().all(|other| !other.is_signed_by(&public)));
        let other = SigningKey::from_seed([8; 32]).expect("a key");
        assert!(!head.is_signed_by(&other.public()));
    }

    const PIECES: [&str; 4] = [r#""v":1,"#, "{", "null", r#""sequence":2,"#];

    fn line() -> (SignedHead, SigningKey) {
        let key = SigningKey::from_seed([7; 32]).expect("a key");
        let of = Rolling::default().with(1, Digest::of(b"leaf"));
        (
            SignedHead::sign(
                &key,
                ("EVENTS-0", Timestamp::UNIX_EPOCH),
                of,
                Digest::of(b"leaf"),
                Timestamp::UNIX_EPOCH,
            ),
            key,
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever a line of heads says, what counts as signed is what was signed.
        #[test]
        fn hostile_lines(line in spoilt(serde_json::to_vec(&line().0).expect("JSON"), &PIECES), any in prop::collection::vec(any::<u8>(), 0..300)) {
            let (head, key) = self::line();
            for bytes in [line, any] {
                let Ok(read) = serde_json::from_slice::<SignedHead>(&bytes) else { continue };
                let again = serde_json::from_slice(&serde_json::to_vec(&read).expect("JSON"));
                prop_assert_eq!(again.ok(), Some(read.clone()));
                prop_assert!(!read.is_signed_by(&key.public()) || read == head, "{:?}", read);
            }
        }
    }
}
