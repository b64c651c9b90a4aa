//! Versions of the template that stacks have.

use wanwright_schemas::Reason::*;

use super::{Answer, Kind, Model, Thing};

/// How many versions the first vendor's template has; the other one has none.
const VERSIONS: u32 = 2;

impl Thing {
    /// The version that a generation was given; none where it never was given any, and has the first.
    pub(super) fn version_at(&self, generation: u64) -> Option<u32> {
        self.versions.iter().rev().find(|(from, _)| *from <= generation).and_then(|(_, version)| *version)
    }
}

impl Model {
    /// The number of the last rollout that a site heard of.
    pub fn rollout(&self, site: u8) -> u64 {
        self.find(Kind::Site, site).map_or(0, |at| self.things[at].rollout)
    }

    /// A rollout gives a stack another version, which somebody asked for.
    pub(super) fn assign(
        &mut self,
        (site, from, to): (u8, u32, u32),
        (rollout, is_as_planned): (u64, bool),
        by: &'static str,
        now: i64,
    ) -> Answer {
        let at = self.there(Kind::Site, site)?;
        let thing = &self.things[at];
        if thing.vendor != 0 || to > VERSIONS {
            return Err(UnknownTemplate);
        }
        let has = thing.version_at(thing.generation).unwrap_or(1);
        if rollout <= thing.rollout || has != from || has == to {
            return Ok(());
        }
        if !is_as_planned {
            return Err(TemplateChanged);
        }
        let thing = &mut self.things[at];
        thing.versions.push((thing.generation + 1, Some(to)));
        thing.rollout = rollout;
        self.change(at, by, now);
        Ok(())
    }
}
