//! Processes of one role among themselves: who is there, and which partitions each of them holds, if it holds any.
//!
//! Nothing is decided here. Each says a few times a second that it is there and what it holds, and works out its share
//! from what it hears. Leases say who has what, and are the fence together with the append check.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// How often a process says that it is there.
pub const BEAT: Duration = Duration::from_millis(500);

/// How long a process is taken to be there after it was last heard of.
const GONE_AFTER: Duration = Duration::from_secs(2);

/// What a process says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// Which process.
    pub member: String,
    /// What it holds.
    #[serde(default)]
    pub partitions: BTreeSet<u16>,
    /// Whether it is about to end.
    pub is_leaving: bool,
}

/// The others, as far as they were heard of.
#[derive(Debug, Default)]
pub struct Members {
    others: HashMap<String, (Instant, BTreeSet<u16>)>,
}

impl Members {
    /// Notes what another one said.
    pub fn heard(&mut self, beat: Beat, now: Instant) {
        if beat.is_leaving {
            self.others.remove(&beat.member);
        } else {
            self.others.insert(beat.member, (now, beat.partitions));
        }
    }

    /// Forgets those that were not heard of for a while.
    pub fn forget(&mut self, now: Instant) {
        self.others.retain(|_, (heard, _)| now.duration_since(*heard) < GONE_AFTER);
    }

    /// The others' names, in order.
    pub fn others(&self) -> Vec<String> {
        let mut names: Vec<String> = self.others.keys().cloned().collect();
        names.sort_unstable();
        names
    }

    /// Whether somebody else says that he holds this partition.
    pub fn hold(&self, partition: u16) -> bool {
        self.others.values().any(|(_, partitions)| partitions.contains(&partition))
    }

    /// The most partitions that one process should hold of so many.
    pub fn share(&self, partitions: u16) -> usize {
        usize::from(partitions).div_ceil(self.others.len() + 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shares_follow_who_is_there() {
        let beat = |member: &str, partitions: &[u16], is_leaving| Beat {
            member: member.into(),
            partitions: partitions.iter().copied().collect(),
            is_leaving,
        };
        let (mut members, now) = (Members::default(), Instant::now());
        assert_eq!(members.share(8), 8);
        members.heard(beat("b", &[1, 2], false), now);
        members.heard(beat("c", &[3], false), now + BEAT);
        assert_eq!((members.share(8), members.hold(2), members.hold(4)), (3, true, false));
        members.forget(now + GONE_AFTER);
        assert_eq!((members.share(8), members.hold(2)), (4, false));
        members.heard(beat("c", &[3], true), now + GONE_AFTER);
        assert_eq!((members.share(8), members.hold(3)), (8, false));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever is said on the subject of the beats, what is understood reads as it is written, and a share is left.
        #[test]
        fn hostile_beats(
            text in prop_oneof![
                r#"\{"member":"[a-z]{0,3}","partitions":\[[0-9,]{0,12}\],"is_leaving":(true|false|0)\}?"#,
                any::<String>(),
            ],
            partitions in 1..64u16,
        ) {
            let (mut members, now) = (Members::default(), Instant::now());
            if let Ok(beat) = serde_json::from_str::<Beat>(&text) {
                let again = serde_json::from_str(&serde_json::to_string(&beat).unwrap());
                prop_assert_eq!(again.ok(), Some(beat.clone()));
                let says = !beat.is_leaving;
                members.heard(beat.clone(), now);
                prop_assert!(beat.partitions.iter().all(|partition| members.hold(*partition) == says));
            }
            prop_assert!((1..=usize::from(partitions)).contains(&members.share(partitions)));
            members.forget(now + GONE_AFTER);
            prop_assert_eq!(members.share(partitions), usize::from(partitions));
        }
    }
}
