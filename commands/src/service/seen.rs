//! How far each customer's history was seen here. A stream whose newest block is damaged gives its sequences out again
//! and looks healthy; only who remembers can tell.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError, RwLock};

use wanwright_schemas::{CustomerId, Digest, subjects};

use crate::load::Regressed;

/// The last message of each customer that was seen here. It forgets nobody: a customer takes a hundred bytes.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    last: Mutex<HashMap<CustomerId, (u64, Option<Digest>)>>,
    /// The last message of all customers of a partition.
    ends: Mutex<BTreeMap<u16, (u64, Digest)>>,
    /// Partitions whose streams lost what anybody has seen of them.
    lacking: RwLock<BTreeSet<u16>>,
}

impl Seen {
    /// Notes the end of a customer's history.
    pub(crate) fn note(&self, customer: &CustomerId, partition: u16, sequence: u64, digest: Option<Digest>) {
        if let Some(digest) = digest {
            let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
            let end = ends.entry(partition).or_insert((sequence, digest));
            if end.0 < sequence {
                *end = (sequence, digest);
            }
        }
        if sequence > 0
            && let Ok(mut last) = self.last.lock()
        {
            last.insert(customer.clone(), (sequence, digest));
        }
    }

    /// The last message of each partition that was seen here.
    pub(crate) fn ends(&self) -> BTreeMap<u16, (u64, Digest)> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes this for the last message of the stream of a partition, of so many, whatever was seen of it and its customers
    /// before: what it lost is known.
    pub(crate) fn begin_again(&self, (partition, of): (u16, u16), last: Option<(u64, Digest)>) {
        let mut customers = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        customers.retain(|customer, _| subjects::partition(customer, of) != partition);
        drop(customers);
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        ends.remove(&partition);
        ends.extend(last.map(|last| (partition, last)));
    }

    /// Notes which partitions' streams lost what was seen of them.
    pub(crate) fn lack(&self, lacking: BTreeSet<u16>) {
        *self.lacking.write().unwrap_or_else(PoisonError::into_inner) = lacking;
    }

    /// Those partitions.
    pub(crate) fn lacking(&self) -> BTreeSet<u16> {
        self.lacking.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a partition's stream may be decided on.
    pub(crate) fn is_whole(&self, partition: u16) -> Result<(), Regressed> {
        if self.lacking.read().unwrap_or_else(PoisonError::into_inner).contains(&partition) {
            return Err(Regressed::Stream { stream: subjects::events_stream(partition) });
        }
        Ok(())
    }

    /// What a load of this customer has to pass.
    pub(crate) fn proof(&self, customer: &CustomerId) -> Proof {
        let seen = self.last.lock().ok().and_then(|last| last.get(customer).copied());
        Proof { seen, passed: seen.is_none() }
    }
}

/// Whether a load goes through the last message that was seen.
#[derive(Debug)]
pub(crate) struct Proof {
    seen: Option<(u64, Option<Digest>)>,
    passed: bool,
}

impl Proof {
    /// Looks at the sequence that the server says is the last one.
    pub(crate) fn ends_at(&self, end: u64) -> Result<(), Regressed> {
        match self.seen {
            Some((seen, _)) if end < seen => Err(Regressed::Shorter { end, seen }),
            _ => Ok(()),
        }
    }

    /// The sequence that a load from this one on would not come through.
    pub(crate) fn before(&self, first: u64) -> Option<u64> {
        self.seen.map(|(seen, _)| seen).filter(|seen| *seen < first)
    }

    /// Looks at a message of the history.
    pub(crate) fn passes(&mut self, sequence: u64, digest: Option<Digest>) {
        self.passed |= self.seen == Some((sequence, digest));
    }

    /// Looks at the whole history.
    pub(crate) fn whole(&self, end: u64) -> Result<(), Regressed> {
        self.ends_at(end)?;
        match self.seen {
            Some((seen, _)) if !self.passed => Err(Regressed::Rewritten { seen }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_goes_on_where_it_was_seen() {
        let acme: CustomerId = "acme".parse().expect("an id");
        let (one, other) = (Some(Digest::of(b"one")), Some(Digest::of(b"other")));
        let seen = Seen::default();
        assert!(seen.proof(&acme).whole(0).is_ok());
        seen.note(&acme, 0, 7, one);
        let load = |messages: &[(u64, Option<Digest>)]| {
            let mut proof = seen.proof(&acme);
            messages.iter().for_each(|(sequence, digest)| proof.passes(*sequence, *digest));
            proof.whole(messages.last().map_or(0, |last| last.0))
        };
        assert!(load(&[(3, other), (7, one), (9, other)]).is_ok());
        assert!(matches!(load(&[(3, other)]), Err(Regressed::Shorter { end: 3, seen: 7 })));
        assert!(matches!(load(&[(7, other)]), Err(Regressed::Rewritten { seen: 7 })));
        assert!(matches!(load(&[(3, other), (9, one)]), Err(Regressed::Rewritten { seen: 7 })));
    }
}
