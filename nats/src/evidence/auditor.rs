//! Going through a stream message by message, with its heads in hand.

use std::collections::{HashMap, VecDeque};

use serde::Serialize;
use wanwright_schemas::subjects;
use wanwright_schemas::{CustomerId, Digest, Envelope};

use super::finding::Finding;
use super::fold::{Rolling, leaf};
use super::head::SignedHead;
use super::key::PublicKey;
use crate::follow::StoredMessage;

/// The most findings that are listed for a stream: one hole can break every history behind it.
const MOST: usize = 1_000;

/// What an audit of a stream came to.
#[derive(Debug, Clone, Serialize)]
pub struct Audited {
    /// The stream.
    pub stream: String,
    /// The last message.
    pub last: u64,
    /// How many messages were read in full.
    pub messages: u64,
    /// How many messages of others are there as digests only.
    pub sealed: u64,
    /// How many of those read in full are of customers that have moved to another stream since.
    pub left_behind: u64,
    /// How many customers have messages among them.
    pub customers: usize,
    /// How many signed heads were compared.
    pub heads: u64,
    /// Up to which message a signed head vouches; what is behind it rests on the customers' chains alone.
    pub vouched: u64,
    /// What is not as it was.
    pub findings: Vec<Finding>,
}

/// The end of a customer's history so far.
struct Link {
    sequence: u64,
    /// The digest of the last message, if it could be read.
    digest: Option<Digest>,
    /// The digest of the one before.
    before: Option<Digest>,
}

/// An audit of one stream under way.
pub struct Auditor {
    stream: String,
    partitions: u16,
    after: u64,
    rolling: Rolling,
    /// Whether something was found since the last head that explains why the next one does not fit.
    broken: bool,
    /// The last head, or where the audit began.
    anchor: u64,
    /// The message behind the last hole.
    hole: u64,
    heads: VecDeque<SignedHead>,
    customers: HashMap<CustomerId, Link>,
    audited: Audited,
}

impl std::fmt::Debug for Auditor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auditor").field("audited", &self.audited).finish_non_exhaustive()
    }
}

impl Auditor {
    /// Begins behind a message, which must be one that a head vouches for unless it is 0.
    pub fn new(stream: &str, partitions: u16, heads: Vec<SignedHead>, key: &PublicKey, after: u64) -> Self {
        let mut auditor = Self {
            stream: stream.to_owned(),
            partitions,
            after,
            rolling: Rolling { sequence: after, ..Rolling::default() },
            broken: after > 0,
            anchor: after,
            hole: 0,
            heads: VecDeque::new(),
            customers: HashMap::new(),
            audited: Audited {
                stream: stream.to_owned(),
                last: after,
                messages: 0,
                sealed: 0,
                left_behind: 0,
                customers: 0,
                heads: 0,
                vouched: 0,
                findings: Vec::new(),
            },
        };
        let mut good = Vec::new();
        for head in heads {
            if head.stream == stream && head.is_signed_by(key) {
                good.push(head);
            } else {
                auditor.find(Finding::Forged { sequence: head.sequence, key: key.id() });
            }
        }
        good.sort_by_key(|head| head.sequence);
        auditor.heads = good.into();
        auditor.meet_heads();
        auditor
    }

    /// Notes something that was found elsewhere.
    pub fn find(&mut self, finding: Finding) {
        if self.audited.findings.len() < MOST {
            self.audited.findings.push(finding);
        }
    }

    /// Looks at the next message.
    pub fn message(&mut self, message: &StoredMessage) {
        self.audited.messages += 1;
        if self.take(message.sequence, leaf(message)) {
            self.chain(message);
            self.meet_heads();
        }
    }

    /// Looks at the next message, of which only the leaf is known.
    pub fn sealed(&mut self, sequence: u64, leaf: Digest) {
        self.audited.sealed += 1;
        if self.take(sequence, leaf) {
            self.meet_heads();
        }
    }

    /// Ends the audit where the stream says its last message is.
    pub fn end(mut self, last: u64) -> Audited {
        if self.rolling.sequence < last {
            self.find(Finding::Missing { from: self.rolling.sequence + 1, to: last });
        }
        let end = self.rolling.sequence;
        let beyond = self.heads.iter().filter(|head| head.sequence > end).max_by_key(|head| head.sequence);
        if let Some(head) = beyond.cloned() {
            self.find(Finding::Truncated { last: end, sequence: head.sequence, time: head.time });
        }
        self.audited.last = end;
        self.audited.customers = self.customers.len();
        self.audited
    }

    /// Rolls a message in, unless it does not stand where it should.
    fn take(&mut self, sequence: u64, leaf: Digest) -> bool {
        let last = self.rolling.sequence;
        if sequence == last && last > self.after {
            self.broken = true;
            self.find(Finding::Inserted { sequence });
            return false;
        }
        if sequence <= last {
            self.broken = true;
            let here = Finding::Missing { from: sequence, to: sequence };
            self.audited.findings.retain(|finding| *finding != here);
            self.find(Finding::Reordered { sequence, behind: last });
            return false;
        }
        if sequence > last + 1 {
            self.find(Finding::Missing { from: last + 1, to: sequence - 1 });
            self.hole = sequence;
            self.broken = true;
            // A head in the hole says what the digest was there.
            while self.heads.front().is_some_and(|head| head.sequence < sequence) {
                let Some(head) = self.heads.pop_front() else { break };
                self.resume(&head);
                self.broken = head.sequence + 1 != sequence;
            }
        }
        self.rolling = self.rolling.with(sequence, leaf);
        true
    }

    fn resume(&mut self, head: &SignedHead) {
        self.rolling = head.rolling();
        self.anchor = head.sequence;
    }

    fn meet_heads(&mut self) {
        let at = self.rolling.sequence;
        while self.heads.front().is_some_and(|head| head.sequence <= at) {
            let Some(head) = self.heads.pop_front() else { return };
            if head.sequence < at {
                continue;
            }
            self.audited.heads += 1;
            if head.rolling == self.rolling.digest {
                self.audited.vouched = at;
            } else if self.broken {
                self.audited.vouched = self.audited.vouched.max(if at == self.after { at } else { 0 });
            } else {
                self.find(Finding::Rewritten { from: self.anchor + 1, to: at, time: head.time });
            }
            // From here on the digest is the one that was signed, so that the next finding is about what follows.
            self.resume(&head);
            self.broken = false;
        }
    }

    fn chain(&mut self, message: &StoredMessage) {
        let sequence = message.sequence;
        let Some((partition, customer)) = subjects::home_of_events(&message.subject) else {
            let why = format!("its subject is {}", message.subject);
            return self.find(Finding::Foreign { sequence, why });
        };
        let stream = subjects::events_stream(partition);
        if stream != self.stream {
            return self.find(Finding::Foreign { sequence, why: format!("its subject is one of {stream}") });
        }
        // What a customer had here under another count of partitions is nobody's history any more. It is still what was
        // signed, and its chain has no hole.
        self.audited.left_behind += u64::from(!subjects::is_current(&message.subject, self.partitions));
        let link = self.customers.remove(&customer);
        let envelope = match Envelope::decode(&message.payload) {
            Ok(envelope) => envelope,
            Err(error) => {
                self.find(Finding::Foreign { sequence, why: error.to_string() });
                self.customers.insert(customer, Link { sequence, digest: None, before: None });
                return;
            }
        };
        let after_a_hole = link.as_ref().map_or(self.after, |link| link.sequence) < self.hole;
        match &link {
            _ if after_a_hole => {}
            None if self.after == 0 && envelope.prev.is_some() => self.find(Finding::Orphaned { sequence }),
            Some(Link { digest: Some(digest), before, sequence: last }) if envelope.prev != Some(*digest) => {
                let last = *last;
                self.find(if envelope.prev == *before {
                    Finding::Inserted { sequence: last }
                } else {
                    Finding::Changed { sequence: last, by: sequence }
                });
            }
            _ => {}
        }
        let digest = Some(Digest::of(&message.payload));
        let before = link.and_then(|link| link.digest);
        self.customers.insert(customer, Link { sequence, digest, before });
    }
}
