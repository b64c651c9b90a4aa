//! What the scheduler knows: which rows wait, which run, and whose turn it is. Pure: no clock, no I/O.

use std::collections::{BTreeMap, HashMap};

use wanwright_schemas::{CustomerId, VendorId};
use wanwright_vendors::Engine;

use crate::gateway::Priority;
use crate::gateway::fair::FairQueue;

/// Where a row stands in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// In the queue of its lane.
    Waiting,
    /// Being carried out; `again` when a newer version came meanwhile.
    Running { again: bool },
    /// Waits for a timer.
    Parked,
}

/// A lane: runs of one engine at one vendor. A slow vendor fills its own lanes only.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct LaneKey {
    pub(super) vendor: VendorId,
    pub(super) terraform: bool,
}

impl LaneKey {
    pub(super) fn new(vendor: VendorId, engine: Engine) -> Self {
        Self { vendor, terraform: engine == Engine::Terraform }
    }
}

#[derive(Debug)]
struct Lane {
    queue: FairQueue<Priority, CustomerId, String>,
    running: usize,
}

/// What a row needs to find its place.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) lane: LaneKey,
    pub(super) customer: CustomerId,
    pub(super) priority: Priority,
    /// The lease of the row's target, which a change of it and a look at it share.
    pub(super) lease: String,
}

/// How a run ended, for its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// The row is worked off, or gone.
    Finished,
    /// A timer will bring it back.
    Parked,
}

/// All rows and lanes.
#[derive(Debug)]
pub(super) struct Board {
    rows: HashMap<String, (Place, Standing)>,
    lanes: BTreeMap<LaneKey, Lane>,
    slots: fn(&LaneKey) -> usize,
}

impl Board {
    pub(super) fn new(slots: fn(&LaneKey) -> usize) -> Self {
        Self { rows: HashMap::new(), lanes: BTreeMap::new(), slots }
    }

    /// A row was written.
    pub(super) fn arrived(&mut self, row: String, place: Place) {
        match self.rows.get_mut(&row) {
            Some((_, Standing::Running { again })) => *again = true,
            // The queue holds the row's name; whoever takes it reads the newest version.
            Some((_, Standing::Waiting)) => {}
            Some((_, Standing::Parked)) | None => self.queue(row, place),
        }
    }

    /// A timer of the row fired.
    pub(super) fn due(&mut self, row: &str) {
        match self.rows.get_mut(row) {
            Some((place, Standing::Parked)) => {
                let place = place.clone();
                self.queue(row.to_owned(), place);
            }
            // The run that set the timer has not said yet that it ended.
            Some((_, Standing::Running { again })) => *again = true,
            Some((_, Standing::Waiting)) | None => {}
        }
    }

    fn queue(&mut self, row: String, place: Place) {
        let lane = self
            .lanes
            .entry(place.lane.clone())
            .or_insert_with(|| Lane { queue: FairQueue::new(), running: 0 });
        lane.queue.push(place.priority, place.customer.clone(), row.clone());
        self.rows.insert(row, (place, Standing::Waiting));
    }

    /// The next row to carry out, with its place, if a lane has a free slot and something waits.
    pub(super) fn next(&mut self) -> Option<(String, Place)> {
        let slots = self.slots;
        let (_, lane) =
            self.lanes.iter_mut().find(|(key, lane)| lane.running < slots(key) && !lane.queue.is_empty())?;
        let row = lane.queue.pop()?;
        let (place, standing) = self.rows.get_mut(&row)?;
        lane.running += 1;
        *standing = Standing::Running { again: false };
        Some((row, place.clone()))
    }

    /// A run ended.
    pub(super) fn ended(&mut self, row: &str, lane: &LaneKey, ended: Ended) {
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.running -= 1;
        }
        let Some((place, standing)) = self.rows.get_mut(row) else { return };
        if *standing == (Standing::Running { again: true }) {
            let place = place.clone();
            self.queue(row.to_owned(), place);
        } else if ended == Ended::Parked {
            *standing = Standing::Parked;
        } else {
            self.rows.remove(row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(customer: &str) -> Place {
        Place {
            lease: String::new(),
            lane: LaneKey::new("simwan".parse().expect("an id"), Engine::Api),
            customer: customer.parse().expect("an id"),
            priority: Priority::Intent,
        }
    }

    fn board() -> Board {
        Board::new(|_| 1)
    }

    #[test]
    fn one_run_per_slot_and_a_newer_version_runs_again() {
        let mut board = board();
        board.arrived("a".into(), place("acme"));
        board.arrived("b".into(), place("acme"));
        let (row, Place { lane, .. }) = board.next().expect("a row");
        assert_eq!(row, "a");
        assert!(board.next().is_none(), "the only slot is taken");
        board.arrived("a".into(), place("acme"));
        board.ended("a", &lane, Ended::Finished);
        assert_eq!(board.next().map(|(row, _)| row), Some("b".into()));
        board.ended("b", &lane, Ended::Finished);
        assert_eq!(board.next().map(|(row, _)| row), Some("a".into()), "the newer version");
        board.ended("a", &lane, Ended::Finished);
        assert!(board.next().is_none());
    }

    #[test]
    fn ten_edits_that_wait_are_one_run() {
        let mut board = board();
        (0..10).for_each(|_| board.arrived("a".into(), place("acme")));
        let (_, Place { lane, .. }) = board.next().expect("a row");
        board.ended("a", &lane, Ended::Finished);
        assert!(board.next().is_none());
    }

    #[test]
    fn a_parked_row_comes_back_by_its_timer_or_a_newer_version() {
        let mut board = board();
        board.arrived("a".into(), place("acme"));
        let (_, Place { lane, .. }) = board.next().expect("a row");
        board.ended("a", &lane, Ended::Parked);
        assert!(board.next().is_none());
        board.due("a");
        let (_, Place { lane, .. }) = board.next().expect("the timer brought it back");
        board.ended("a", &lane, Ended::Parked);
        board.arrived("a".into(), place("acme"));
        assert!(board.next().is_some());
        board.due("nobody");
    }

    #[test]
    fn a_timer_that_fires_before_its_run_has_ended_is_not_forgotten() {
        let mut board = board();
        board.arrived("a".into(), place("acme"));
        let (_, Place { lane, .. }) = board.next().expect("a row");
        board.due("a");
        board.ended("a", &lane, Ended::Parked);
        assert!(board.next().is_some());
    }
}
