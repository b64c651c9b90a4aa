//! Snapshots: states that are made again from a history, kept so that a load need not read all of it.
//!
//! A snapshot is one message, or several when it is larger than a message should be. The last one completes it; one that
//! was not completed, was damaged, or was written by another version of the state is as good as none.

use async_nats::HeaderMap;
use bytes::Bytes;
use futures::TryStreamExt;
use jiff::Timestamp;
use wanwright_schemas::{CustomerId, subjects};

use crate::connect::Nats;
use crate::error::NatsError;
use crate::follow::StoredMessage;
use crate::parts::{self, Unusable, text};
use crate::publish::CheckedError;
use crate::topology::SNAPSHOTS;

/// The largest state that is read back: a message can claim any size.
const LARGEST: usize = 1 << 30;

/// How many bytes a compressed one stands for at most.
const DENSEST: usize = 255;

/// The version of the state.
const VERSION: &str = "Wan-State-Version";
/// The history's sequence that the state is at.
const SEQUENCE: &str = "Wan-Sequence";
/// How many messages the state was made of.
const MESSAGES: &str = "Wan-Messages";
/// When the history's stream was created.
const INCARNATION: &str = "Wan-Incarnation";

/// A state at a place of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The version of the state: another version reads the history instead.
    pub version: u32,
    /// The sequence of the last message that the state contains.
    pub sequence: u64,
    /// How many messages it was made of.
    pub messages: u64,
    /// When the stream was created that they were read from.
    pub incarnation: Timestamp,
    /// The state.
    pub state: Bytes,
}

/// The snapshots on a server.
#[derive(Debug, Clone)]
pub struct Snapshots {
    nats: Nats,
}

impl Snapshots {
    /// The snapshots on this server.
    pub fn new(nats: Nats) -> Self {
        Self { nats }
    }

    /// Keeps a snapshot of a customer's state, instead of the one before.
    ///
    /// # Errors
    /// [`NatsError`]; the one before is still there then.
    pub async fn put(&self, customer: &CustomerId, snapshot: &Snapshot) -> Result<(), NatsError> {
        let subject = subjects::snapshot(customer);
        let packed = Bytes::from(lz4_flex::compress_prepend_size(&snapshot.state));
        let mut headers = HeaderMap::new();
        headers.insert(VERSION, snapshot.version.to_string().as_str());
        headers.insert(SEQUENCE, snapshot.sequence.to_string().as_str());
        headers.insert(MESSAGES, snapshot.messages.to_string().as_str());
        headers.insert(INCARNATION, snapshot.incarnation.to_string().as_str());
        parts::put(&self.nats, SNAPSHOTS, &subject, &headers, &packed, None).await.map_err(
            |error| match error {
                CheckedError::Failed(error) => error,
                conflict @ CheckedError::Conflict => NatsError::failed("publishing a snapshot")(conflict),
            },
        )
    }

    /// Forgets the snapshots of all customers of a partition: what they were made of is not there any more.
    ///
    /// # Errors
    /// [`NatsError`]; then some are still there.
    pub async fn forget(&self, partition: u16) -> Result<(), NatsError> {
        let doing = || format!("forgetting the snapshots of partition {partition}");
        let stream = self.nats.js.get_stream_no_info(SNAPSHOTS).await.map_err(NatsError::failed(doing()))?;
        let found = stream.info_with_subjects(subjects::SNAPSHOT_ALL).await;
        let mut found = found.map_err(NatsError::failed(doing()))?;
        while let Some((subject, _)) = found.try_next().await.map_err(NatsError::failed(doing()))? {
            let customer = subjects::customer_of_snapshot(&subject);
            if customer
                .is_some_and(|customer| subjects::partition(&customer, self.nats.partitions) == partition)
            {
                stream.purge().filter(subject).await.map_err(NatsError::failed(doing()))?;
            }
        }
        Ok(())
    }

    /// The newest snapshot of a customer's state, if there is one of this version that is whole.
    ///
    /// # Errors
    /// [`NatsError`], when the server cannot be asked.
    pub async fn get(&self, customer: &CustomerId, version: u32) -> Result<Option<Snapshot>, NatsError> {
        let newest = parts::newest(&self.nats, SNAPSHOTS, &subjects::snapshot(customer)).await?;
        let Some(messages) = newest else { return Ok(None) };
        match assembled(&messages, version) {
            Ok(snapshot) => Ok(snapshot),
            Err(error) => {
                tracing::warn!(%customer, %error, "a snapshot cannot be used; the history is read instead");
                Ok(None)
            }
        }
    }
}

fn number(message: &StoredMessage, header: &str) -> Option<u64> {
    text(message, header)?.parse().ok()
}

/// The snapshot that the last of these messages completes.
fn assembled(messages: &[StoredMessage], version: u32) -> Result<Option<Snapshot>, Unusable> {
    let unusable = |what: &str| Unusable(what.to_owned());
    let last = messages.last().ok_or_else(|| unusable("it is gone"))?;
    if number(last, VERSION) != Some(u64::from(version)) {
        return Ok(None);
    }
    let packed = parts::whole(messages)?;
    let (size, packed) =
        lz4_flex::block::uncompressed_size(&packed).map_err(|error| Unusable(error.to_string()))?;
    if size > LARGEST.min(packed.len().saturating_mul(DENSEST)) {
        return Err(unusable("it claims to be larger than any state"));
    }
    let state = lz4_flex::decompress(packed, size).map_err(|error| Unusable(error.to_string()))?;
    let sequence = number(last, SEQUENCE).ok_or_else(|| unusable("it does not say where it is"))?;
    let messages =
        number(last, MESSAGES).ok_or_else(|| unusable("it does not say how many messages it was made of"))?;
    let incarnation = text(last, INCARNATION).and_then(|text| text.parse().ok());
    let incarnation = incarnation.ok_or_else(|| unusable("it does not say which stream it was made of"))?;
    Ok(Some(Snapshot { version, sequence, messages, incarnation, state: state.into() }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::parts::tests::{PIECES, completed, message};
    use crate::spoilt::spoilt;

    /// The headers of a snapshot's own.
    fn own(version: &str, sequence: &str, messages: &str, incarnation: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in
            [(VERSION, version), (SEQUENCE, sequence), (MESSAGES, messages), (INCARNATION, incarnation)]
        {
            headers.insert(name, value);
        }
        headers
    }

    fn state() -> Vec<u8> {
        (0..4000_u32).flat_map(|number| (number % 100).to_le_bytes()).collect()
    }

    /// A snapshot as it is stored, in so many parts.
    fn stored(parts: usize) -> Vec<StoredMessage> {
        let packed = lz4_flex::compress_prepend_size(&state());
        completed(&packed, parts, &own("9", "7", "5", "1970-01-01T00:00:00Z"))
    }

    #[test]
    fn a_snapshot_is_what_was_put_in_whole_and_of_its_version() {
        for parts in [1, 2, 5] {
            let found = assembled(&stored(parts), 9).expect("usable").expect("of this version");
            let incarnation = Timestamp::UNIX_EPOCH;
            let put = Snapshot { version: 9, sequence: 7, messages: 5, incarnation, state: state().into() };
            assert_eq!(found, put);
            assert_eq!(assembled(&stored(parts), 8).expect("of another version"), None);
        }
        // A few bytes that claim to be a large state take no room before they are found out.
        let claims = [&(1_u32 << 30).to_le_bytes()[..], &[0x1F; 40]].concat();
        let said = own("9", "7", "5", "1970-01-01T00:00:00Z");
        let error = assembled(&completed(&claims, 1, &said), 9).expect_err("no state");
        assert!(error.to_string().contains("larger than any state"), "{error}");
        for said in [
            own("9", "x", "5", "1970-01-01T00:00:00Z"),
            own("9", "7", "", "1970-01-01T00:00:00Z"),
            own("9", "7", "5", "soon"),
        ] {
            let packed = lz4_flex::compress_prepend_size(&state());
            assert!(assembled(&completed(&packed, 2, &said), 9).is_err());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever is stored as a snapshot, also by who knows how parts say that they are whole, it is none or a state.
        #[test]
        fn hostile_snapshots(
            spoilt in spoilt(lz4_flex::compress_prepend_size(&state()), &PIECES),
            any in prop::collection::vec(any::<u8>(), 0..300),
            parts in 1..4_usize,
            said in ("[0-9]{0,21}", "[0-9]{0,21}", "[-+0-9TZ:.]{0,30}"),
            (lost, turned) in any::<(prop::sample::Index, prop::sample::Index)>(),
        ) {
            let good = own("9", "7", "5", "1970-01-01T00:00:00Z");
            for packed in [spoilt, any] {
                let odd = own("9", &said.0, &said.1, &said.2);
                for headers in [&good, &odd] {
                    if let Ok(Some(found)) = assembled(&completed(&packed, parts, headers), 9) {
                        prop_assert!(found.state.len() <= packed.len() * DENSEST);
                    }
                }
            }
            // What was put is that or none, whatever became of its parts.
            let mut messages = stored(parts);
            let at = turned.index(messages.len());
            let mut payload = messages[at].payload.to_vec();
            let bit = lost.index(payload.len() * 8);
            payload[bit / 8] ^= 1 << (bit % 8);
            messages[at] = message(messages[at].headers.clone(), payload);
            prop_assert!(assembled(&messages, 9).is_err());
            let mut messages = stored(parts);
            messages.remove(lost.index(messages.len()));
            prop_assert!(assembled(&messages, 9).is_err());
        }
    }
}
