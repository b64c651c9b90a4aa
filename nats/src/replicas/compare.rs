//! Which replica lacks what. Nothing is asked here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use wanwright_schemas::subjects;

/// What a server says of its replica of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(super) struct Held {
    pub(super) messages: u64,
    pub(super) bytes: u64,
    #[serde(rename = "first_seq")]
    pub(super) first: u64,
    #[serde(rename = "last_seq")]
    pub(super) last: u64,
}

/// What each server has of each stream, by their names.
pub(super) type Servers = BTreeMap<String, BTreeMap<String, Held>>;

/// A replica that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Damaged {
    /// The server that keeps it.
    pub server: String,
    /// The stream.
    pub stream: String,
    /// How many messages it lacks; 0 where it has as many as others, and other ones.
    pub lacks: u64,
    /// The servers whose replicas have everything; none where nobody can tell.
    pub whole: Vec<String>,
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, stream, lacks, whole } = self;
        match lacks {
            0 => write!(f, "{server} has other messages of {stream} than other servers")?,
            1 => write!(f, "{server} lacks 1 message of {stream}")?,
            lacks => write!(f, "{server} lacks {lacks} messages of {stream}")?,
        }
        let next = "`wanwright nats repair` has it copied anew";
        match whole.as_slice() {
            [] => write!(f, ", and no server is known to have all; see `wanwright audit verify --live`"),
            whole => write!(f, "; {} have all. {next}", whole.join(" and ")),
        }
    }
}

/// The replicas that lack something. One that is behind is not damaged, for all that can be seen.
pub(super) fn compare(servers: &Servers) -> Vec<Damaged> {
    let names: BTreeSet<&String> = servers.values().flat_map(BTreeMap::keys).collect();
    let mut found = Vec::new();
    for stream in names {
        let replicas: Vec<(&String, Held)> =
            servers.iter().filter_map(|(server, held)| Some((server, *held.get(stream)?))).collect();
        found.extend(compare_replicas(stream, &replicas));
    }
    found.sort();
    found
}

/// Those that are damaged at two looks between which neither they nor the whole ones moved: what is on its way from one
/// server to the others has come by then.
pub(super) fn lasting(before: &Servers, now: &Servers) -> Vec<Damaged> {
    let held =
        |servers: &Servers, server: &String, stream: &String| servers.get(server)?.get(stream).copied();
    let stands = |server: &String, stream: &String| held(before, server, stream) == held(now, server, stream);
    let (was, mut found) = (compare(before), compare(now));
    found.retain(|damaged| {
        let Damaged { server, stream, whole, .. } = damaged;
        // A history has no hole at any time.
        was.iter().any(|was| (&was.server, &was.stream) == (server, stream))
            && (subjects::is_events_stream(stream)
                || [server].into_iter().chain(whole).all(|server| stands(server, stream)))
    });
    found
}

fn compare_replicas(stream: &str, replicas: &[(&String, Held)]) -> Vec<Damaged> {
    if replicas.len() < 2 {
        return Vec::new();
    }
    // A history is never shortened, so each replica tells by itself what it lacks.
    let is_history = subjects::is_events_stream(stream);
    let newest = replicas.iter().map(|(_, held)| held.last).max().unwrap_or_default();
    let compared: Vec<(&String, Held)> =
        replicas.iter().copied().filter(|(_, held)| is_history || held.last == newest).collect();
    let right = if is_history { None } else { most(compared.iter().map(|(_, held)| *held)) };
    let is_whole = |held: &Held| if is_history { held.messages == held.last } else { Some(*held) == right };
    let has = |held: &Held| if is_history { held.last } else { right.unwrap_or(*held).messages };
    let (whole, damaged): (Vec<_>, Vec<_>) = compared.into_iter().partition(|(_, held)| is_whole(held));
    let whole: Vec<String> = whole.into_iter().map(|(server, _)| server.clone()).collect();
    let lack = |(server, held): (&String, Held)| Damaged {
        server: server.clone(),
        stream: stream.to_owned(),
        lacks: has(&held).saturating_sub(held.messages),
        whole: whole.clone(),
    };
    damaged.into_iter().map(lack).collect()
}

/// What most messages are in; of several such, what most servers have. None where that are several still.
fn most(held: impl Iterator<Item = Held>) -> Option<Held> {
    let mut servers: BTreeMap<Held, usize> = BTreeMap::new();
    held.for_each(|held| *servers.entry(held).or_default() += 1);
    let rank = |(held, servers): (&Held, &usize)| (held.messages, *servers);
    let best = servers.iter().map(rank).max()?;
    let mut winners = servers.iter().filter(|entry| rank((entry.0, entry.1)) == best);
    let (winner, _) = winners.next()?;
    winners.next().is_none().then_some(*winner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(first: u64, last: u64, messages: u64) -> Held {
        Held { messages, bytes: messages * 100, first, last }
    }

    /// Three servers with one stream.
    fn servers(stream: &str, replicas: [Held; 3]) -> Servers {
        let server = |(number, held)| (format!("node-{number}"), BTreeMap::from([(stream.to_owned(), held)]));
        replicas.into_iter().enumerate().map(server).collect()
    }

    fn damaged(stream: &str, replicas: [Held; 3]) -> Vec<(String, u64, usize)> {
        let found = compare(&servers(stream, replicas)).into_iter();
        found.map(|damaged| (damaged.server, damaged.lacks, damaged.whole.len())).collect()
    }

    #[test]
    fn a_replica_with_less_at_the_same_sequence_is_damaged() {
        let whole = held(1, 40, 40);
        for stream in ["EVENTS-3", "RUNS"] {
            assert_eq!(damaged(stream, [whole; 3]), []);
            let lacks = |lacks| vec![("node-1".to_owned(), lacks, 2)];
            assert_eq!(
                damaged(stream, [whole, held(1, 40, 14), whole]),
                lacks(26),
                "{stream}: from its middle"
            );
            assert_eq!(
                damaged(stream, [whole, held(32, 40, 9), whole]),
                lacks(31),
                "{stream}: from its front"
            );
            assert_eq!(damaged(stream, [whole, held(0, 40, 0), whole]), lacks(40), "{stream}: all");
        }
        let gaps = held(3, 40, 12);
        assert_eq!(damaged("RUNS", [gaps; 3]), [], "it is shortened by its age");
    }

    #[test]
    fn a_replica_that_is_behind_is_not_damaged() {
        let whole = held(1, 40, 40);
        for stream in ["EVENTS-3", "RUNS"] {
            assert_eq!(damaged(stream, [whole, held(1, 31, 31), whole]), []);
            assert_eq!(damaged(stream, [whole, held(0, 0, 0), whole]), []);
        }
        let behind = damaged("EVENTS-3", [whole, held(1, 31, 30), whole]);
        assert_eq!(behind, [("node-1".to_owned(), 1, 2)], "a history tells what it lacks wherever it is");
    }

    #[test]
    fn nobody_is_whole_where_it_cannot_be_told_who() {
        let all = damaged("EVENTS-3", [held(1, 40, 39); 3]);
        assert_eq!(all.iter().map(|(_, lacks, whole)| (*lacks, *whole)).collect::<Vec<_>>(), [(1, 0); 3]);
        let (one, other) = (held(1, 40, 39), Held { bytes: 1, ..held(1, 40, 39) });
        assert_eq!(damaged("RUNS", [one, other, one]), [("node-1".to_owned(), 0, 2)]);
        let three = [held(1, 40, 39), other, Held { bytes: 2, ..other }];
        let all = damaged("RUNS", three);
        assert_eq!(all.iter().map(|(_, lacks, whole)| (*lacks, *whole)).collect::<Vec<_>>(), [(0, 0); 3]);
        assert_eq!(damaged("RUNS", [held(1, 40, 39), held(1, 40, 38), held(1, 40, 40)]).len(), 2);
    }

    #[test]
    fn what_moves_is_looked_at_again() {
        let (whole, short) = (held(1, 40, 20), held(1, 40, 19));
        let before = servers("COMMANDS", [whole, short, whole]);
        let names = |now: &Servers| -> Vec<String> {
            lasting(&before, now).into_iter().map(|damaged| damaged.server).collect()
        };
        assert_eq!(names(&before), ["node-1"]);
        assert!(names(&servers("COMMANDS", [whole; 3])).is_empty());
        let shorter = [held(1, 40, 18), held(1, 40, 17), held(1, 40, 18)];
        assert!(names(&servers("COMMANDS", shorter)).is_empty(), "it is emptied while it is looked at");
        let before = servers("EVENTS-0", [held(1, 40, 40), held(1, 40, 39), held(1, 40, 40)]);
        let now = servers("EVENTS-0", [held(1, 42, 42), held(1, 41, 40), held(1, 42, 42)]);
        assert_eq!(lasting(&before, &now).len(), 1, "a history is written to all the time");
    }
}
