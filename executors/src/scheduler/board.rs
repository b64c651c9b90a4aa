//! What the scheduler knows: which rows wait, which run, and whose turn it is. Pure: no clock, no I/O.

mod listed;

use std::collections::{BTreeMap, HashMap};

use wanwright_schemas::CustomerId;
use wanwright_vendors::Engine;

use super::holds::Holds;
use super::lists::{Asked, Lists};
use super::share::Share;
use crate::gateway::fair::FairQueue;
use crate::gateway::{AccountKey, Priority};

/// Where a row stands in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// In the queue of its lane.
    Waiting,
    /// A look that waits for a page of a list.
    Listed,
    /// Being carried out; `again` when a newer version came meanwhile.
    Running { again: bool },
    /// Its last run began a moment ago; `again` when a newer version has come since. What comes until then is one run.
    Resting { again: bool },
    /// Waits for a timer.
    Parked,
    /// Nothing of its customer or its vendor may begin now.
    Held,
    /// Another process attends to its customer.
    Elsewhere,
}

/// A lane: runs of one engine with one account at a vendor. A slow vendor, or one that lets an account wait, fills its own
/// lanes only.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct LaneKey {
    pub(super) account: AccountKey,
    pub(super) terraform: bool,
}

impl LaneKey {
    pub(super) fn new(account: AccountKey, engine: Engine) -> Self {
        Self { account, terraform: engine == Engine::Terraform }
    }
}

#[derive(Debug)]
struct Lane {
    queue: FairQueue<Priority, CustomerId, String>,
    running: usize,
    /// How many may run at once.
    slots: usize,
}

/// What a row needs to find its place.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) lane: LaneKey,
    /// How many runs the lane has at once.
    pub(super) slots: usize,
    pub(super) customer: CustomerId,
    pub(super) priority: Priority,
    /// The lease of the row's target, which a change of it and a look at it share.
    pub(super) lease: String,
    /// What a look asks a list for; none where no list answers it.
    pub(super) asked: Option<Asked>,
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
    share: Share,
    holds: Holds,
    lists: Lists,
}

impl Board {
    pub(super) fn new(share: Share) -> Self {
        let (rows, lanes) = (HashMap::new(), BTreeMap::new());
        Self { rows, lanes, share, holds: Holds::default(), lists: Lists::default() }
    }

    /// A row was written.
    pub(super) fn arrived(&mut self, row: String, place: Place) {
        match self.rows.get_mut(&row) {
            Some((before, Standing::Running { again } | Standing::Resting { again })) => {
                *again = true;
                // What runs gives back the slot of the lane that it was taken from. The next run may have another account.
                *before = place;
            }
            // Whoever takes it reads the newest version.
            Some((before, Standing::Waiting | Standing::Held))
                if before.lane == place.lane && before.priority <= place.priority =>
            {
                before.asked = place.asked;
            }
            Some(_) | None => self.queue(row, place),
        }
    }

    /// A row was marked as done, here or elsewhere.
    pub(super) fn done(&mut self, row: &str) {
        match self.rows.get_mut(row) {
            Some((_, Standing::Running { again } | Standing::Resting { again })) => *again = false,
            // Its place in the queue finds nothing.
            Some(_) => {
                self.unlist(row);
                self.rows.remove(row);
            }
            None => {}
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
            Some((_, Standing::Running { again } | Standing::Resting { again })) => *again = true,
            Some((_, Standing::Waiting | Standing::Listed | Standing::Held | Standing::Elsewhere)) | None => {
            }
        }
    }

    /// The row has rested.
    pub(super) fn rested(&mut self, row: &str) {
        match self.rows.get(row) {
            Some((place, Standing::Resting { again: true })) => {
                let place = place.clone();
                self.queue(row.to_owned(), place);
            }
            Some((_, Standing::Resting { again: false })) => drop(self.rows.remove(row)),
            _ => {}
        }
    }

    /// Other processes have come or gone: some customers are ours now, and some no more. What runs, ends here.
    pub(super) fn others(&mut self, others: Vec<String>) {
        self.share.heard(others);
        let (mut come, mut gone) = (Vec::new(), Vec::new());
        for (row, (place, standing)) in &mut self.rows {
            match (self.share.has(&place.customer), *standing) {
                (true, Standing::Elsewhere) => come.push((row.clone(), place.clone())),
                (false, Standing::Waiting | Standing::Parked | Standing::Held) => {
                    *standing = Standing::Elsewhere;
                }
                (false, Standing::Listed) => gone.push(row.clone()),
                _ => {}
            }
        }
        gone.iter().for_each(|row| self.unlisted(row, Standing::Elsewhere));
        self.queue_all(come);
    }

    /// Something was paused or resumed. What runs ends in peace.
    pub(super) fn hold(&mut self, paused: Holds) {
        self.holds = std::mem::take(&mut self.holds).with_paused(paused);
        self.release();
    }

    /// An account is held back, or called again.
    pub(super) fn close(&mut self, account: AccountKey, closed: bool) {
        self.holds = std::mem::take(&mut self.holds).with_account(account, closed);
        self.release();
    }

    /// Queues what is held no more, and has what is held now wait for no list.
    fn release(&mut self) {
        let listed = self.rows.iter().filter(|(_, (_, standing))| *standing == Standing::Listed);
        let held = listed.filter(|(_, (place, _))| self.holds.hold(&place.lane.account, &place.customer));
        let held: Vec<String> = held.map(|(row, _)| row.clone()).collect();
        held.iter().for_each(|row| self.unlisted(row, Standing::Held));
        let is_free = |place: &Place, holds: &Holds| !holds.hold(&place.lane.account, &place.customer);
        let held = self.rows.iter().filter(|(_, (_, standing))| *standing == Standing::Held);
        let free = held.filter(|(_, (place, _))| is_free(place, &self.holds));
        let free: Vec<_> = free.map(|(row, (place, _))| (row.clone(), place.clone())).collect();
        self.queue_all(free);
    }

    fn queue_all(&mut self, mut rows: Vec<(String, Place)>) {
        // A map has no order: the same rows come in the same order everywhere.
        rows.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        for (row, place) in rows {
            self.queue(row, place);
        }
    }

    fn queue(&mut self, row: String, place: Place) {
        self.unlist(&row);
        if !self.share.has(&place.customer) {
            self.rows.insert(row, (place, Standing::Elsewhere));
            return;
        }
        if let Some(asked) = &place.asked
            && !self.holds.hold(&place.lane.account, &place.customer)
        {
            self.lists.add(&row, &place.customer, asked);
            self.rows.insert(row, (place, Standing::Listed));
            return;
        }
        self.line_up(row, place);
    }

    /// Has a row wait in its lane.
    fn line_up(&mut self, row: String, place: Place) {
        let lane = self.lanes.entry(place.lane.clone()).or_insert_with(|| Lane {
            queue: FairQueue::new(),
            running: 0,
            slots: place.slots,
        });
        // The vendor's folder may have changed.
        lane.slots = place.slots;
        lane.queue.push(place.priority, place.customer.clone(), row.clone());
        self.rows.insert(row, (place, Standing::Waiting));
    }

    /// The next row to carry out, with its place, if a lane has a free slot and something waits.
    pub(super) fn next(&mut self) -> Option<(String, Place)> {
        loop {
            let mut lanes = self.lanes.iter_mut();
            let (key, lane) = lanes.find(|(_, lane)| lane.running < lane.slots && !lane.queue.is_empty())?;
            let row = lane.queue.pop()?;
            // A place in the queue that the row does not wait at any more.
            let Some((place, standing @ Standing::Waiting)) = self.rows.get_mut(&row) else { continue };
            if place.lane != *key {
                continue;
            }
            if self.holds.hold(&place.lane.account, &place.customer) {
                *standing = Standing::Held;
                continue;
            }
            lane.running += 1;
            *standing = Standing::Running { again: false };
            let next = place.clone();
            // It waits for a list once: where its run only finds out that it has to wait, the next one begins in its lane.
            place.asked = None;
            return Some((row, next));
        }
    }

    /// A run ended. Where it began only a moment ago, the row is to rest until [`Board::rested`] is told: so many edits
    /// of one target in a short time are few runs. Answers whether it rests.
    pub(super) fn ended(&mut self, row: &str, lane: &LaneKey, ended: Ended, is_young: bool) -> bool {
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.running -= 1;
        }
        self.lanes.retain(|_, lane| lane.running > 0 || !lane.queue.is_empty());
        let Some((place, standing)) = self.rows.get_mut(row) else { return false };
        let again = *standing == (Standing::Running { again: true });
        if ended == Ended::Parked && !again {
            *standing = if self.share.has(&place.customer) { Standing::Parked } else { Standing::Elsewhere };
            return false;
        }
        *standing = Standing::Resting { again };
        if !is_young {
            self.rested(row);
        }
        is_young
    }
}

#[cfg(test)]
mod tests {
    use wanwright_schemas::control::Scope;

    use super::*;

    pub(super) fn place(customer: &str) -> Place {
        place_among(customer, 1)
    }

    pub(super) fn place_among(customer: &str, slots: usize) -> Place {
        Place {
            slots,
            lease: String::new(),
            lane: LaneKey::new(AccountKey::new("simwan".parse().expect("an id"), None), Engine::Api),
            customer: customer.parse().expect("an id"),
            priority: Priority::Intent,
            asked: None,
        }
    }

    pub(super) fn board() -> Board {
        let mut board = Board::new(Share::new("one".to_owned()));
        board.others(Vec::new());
        board
    }

    /// The customers that the process `one` has, and those that it does not have, beside `two`.
    fn customers() -> (Vec<String>, Vec<String>) {
        let mut share = Share::new("one".to_owned());
        share.heard(vec!["two".to_owned()]);
        let names = (0..20).map(|number| format!("customer-{number}"));
        names.partition(|name| share.has(&name.parse().expect("an id")))
    }

    pub(super) fn rows(board: &mut Board) -> Vec<String> {
        std::iter::from_fn(|| board.next()).map(|(row, _)| row).collect()
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
        board.ended("a", &lane, Ended::Finished, false);
        assert_eq!(board.next().map(|(row, _)| row), Some("b".into()));
        board.ended("b", &lane, Ended::Finished, false);
        assert_eq!(board.next().map(|(row, _)| row), Some("a".into()), "the newer version");
        board.ended("a", &lane, Ended::Finished, false);
        assert!(board.next().is_none());
    }

    #[test]
    fn ten_edits_that_wait_are_one_run() {
        let mut board = board();
        (0..10).for_each(|_| board.arrived("a".into(), place("acme")));
        let (_, Place { lane, .. }) = board.next().expect("a row");
        board.ended("a", &lane, Ended::Finished, false);
        assert!(board.next().is_none());
    }

    #[test]
    fn a_row_whose_account_changed_while_it_ran_runs_again_in_the_lane_of_the_new_one() {
        let mut board = board();
        board.arrived("a".into(), place("acme"));
        let (_, Place { lane: first, .. }) = board.next().expect("a row");
        let mut moved = place("acme");
        moved.lane.account.budget = "acme".to_owned();
        board.arrived("a".into(), moved.clone());
        board.close(first.account.clone(), true);
        board.ended("a", &first, Ended::Finished, false);
        let (row, Place { lane, .. }) = board.next().expect("its new account is not held back");
        assert_eq!((row.as_str(), &lane), ("a", &moved.lane));
        board.ended("a", &lane, Ended::Finished, false);
        assert!(board.rows.is_empty() && board.lanes.is_empty(), "{board:?}");
    }

    #[test]
    fn a_look_that_waits_and_becomes_a_change_goes_before_other_looks() {
        let mut board = board();
        let look = || Place { priority: Priority::Drift, ..place("acme") };
        ["a", "b", "c"].into_iter().for_each(|row| board.arrived(row.into(), look()));
        board.arrived("c".into(), place("acme"));
        let (row, Place { lane, .. }) = board.next().expect("a row");
        assert_eq!(row, "c");
        board.ended("c", &lane, Ended::Finished, false);
        let mut left = Vec::new();
        while let Some((row, _)) = board.next() {
            board.ended(&row, &lane, Ended::Finished, false);
            left.push(row);
        }
        assert_eq!(left, ["a", "b"], "it runs once");
    }

    #[test]
    fn a_parked_row_comes_back_by_its_timer_or_a_newer_version() {
        let mut board = board();
        board.arrived("a".into(), place("acme"));
        let (_, Place { lane, .. }) = board.next().expect("a row");
        board.ended("a", &lane, Ended::Parked, false);
        assert!(board.next().is_none());
        board.due("a");
        let (_, Place { lane, .. }) = board.next().expect("the timer brought it back");
        board.ended("a", &lane, Ended::Parked, false);
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
        board.ended("a", &lane, Ended::Parked, false);
        assert!(board.next().is_some());
    }

    #[test]
    fn edits_that_come_right_after_a_run_are_one_run() {
        let mut board = board();
        board.arrived("a".into(), place("acme"));
        let (_, Place { lane, .. }) = board.next().expect("a row");
        assert!(board.ended("a", &lane, Ended::Finished, true), "it rests");
        (0..10).for_each(|_| board.arrived("a".into(), place("acme")));
        assert!(board.next().is_none());
        board.rested("a");
        assert!(board.next().is_some());
        board.arrived("a".into(), place("acme"));
        assert!(board.ended("a", &lane, Ended::Finished, true));
        board.done("a");
        board.rested("a");
        assert!(board.next().is_none() && board.rows.is_empty(), "what is done elsewhere is not looked at");
    }

    #[test]
    fn rows_follow_their_customers_from_process_to_process() {
        let (ours, theirs) = customers();
        let mut board = Board::new(Share::new("one".to_owned()));
        let all = || ours.iter().chain(&theirs);
        all().for_each(|name| board.arrived(name.clone(), place_among(name, 100)));
        assert!(board.next().is_none(), "it has not listened yet");
        board.others(vec!["two".to_owned()]);
        let mut taken = rows(&mut board);
        taken.sort();
        let mut expected = ours.clone();
        expected.sort();
        assert_eq!(taken, expected);
        let lane = place("acme").lane;
        let (first, second) = (&ours[0], &ours[1]);
        board.ended(first, &lane, Ended::Parked, false);
        board.others(Vec::new());
        taken = rows(&mut board);
        assert_eq!(taken.len(), theirs.len(), "the other one is gone");
        assert!(taken.iter().all(|name| theirs.contains(name)));
        board.others(vec!["two".to_owned()]);
        let other = &theirs[0];
        board.ended(other, &lane, Ended::Parked, false);
        board.due(other);
        board.due(first);
        board.ended(second, &lane, Ended::Finished, false);
        assert_eq!(
            rows(&mut board),
            std::slice::from_ref(first),
            "a timer of what is not ours is somebody else's"
        );
        board.done(other);
        board.others(Vec::new());
        assert!(board.next().is_none(), "it was worked off elsewhere");
    }

    #[test]
    fn what_is_paused_waits_and_comes_back() {
        let mut board = board();
        let now = jiff::Timestamp::UNIX_EPOCH;
        let pause = |scope, name| Holds::of([(Scope::parse(scope, name).expect("a scope"), None)], now);
        board.arrived("a".into(), place("acme"));
        let (_, Place { lane, .. }) = board.next().expect("a row");
        board.hold(pause("vendor", "simwan"));
        board.arrived("a".into(), place("acme"));
        board.arrived("b".into(), place("globex"));
        board.ended("a", &lane, Ended::Finished, false);
        assert!(board.next().is_none(), "what ran has ended, and nothing begins");
        board.hold(pause("customer", "acme"));
        assert_eq!(rows(&mut board), ["b"]);
        board.ended("b", &lane, Ended::Finished, false);
        board.hold(Holds::default());
        assert_eq!(rows(&mut board), ["a"]);
        board.ended("a", &lane, Ended::Finished, false);
        board.close(lane.account.clone(), true);
        board.hold(Holds::default());
        board.arrived("a".into(), place("acme"));
        assert!(board.next().is_none(), "a breaker is no pause");
        board.close(lane.account, false);
        assert_eq!(rows(&mut board), ["a"]);
    }
}
