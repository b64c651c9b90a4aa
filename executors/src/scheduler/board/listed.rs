//! The board's looks that wait for a list.

use wanwright_schemas::OrderId;

use super::{Board, Place, Standing};
use crate::scheduler::lists::{ListKey, Lists, Read};

impl Board {
    /// Takes a row out of those that wait for a list.
    pub(super) fn unlist(&mut self, row: &str) {
        if let Some((Place { customer, asked: Some(asked), .. }, Standing::Listed)) = self.rows.get(row) {
            self.lists.remove(row, customer, asked);
        }
    }

    pub(super) fn unlisted(&mut self, row: &str, now: Standing) {
        self.unlist(row);
        if let Some((_, standing)) = self.rows.get_mut(row) {
            *standing = now;
        }
    }

    /// A list to walk through.
    pub(in crate::scheduler) fn next_walk(&mut self) -> Option<ListKey> {
        self.lists.begin()
    }

    /// The looks that wait for lists.
    pub(in crate::scheduler) fn lists(&self) -> &Lists {
        &self.lists
    }

    /// The rows that ask a list for an object, and were written up to then, with their orders.
    pub(in crate::scheduler) fn asking(
        &self,
        list: &ListKey,
        object: &str,
        until: u64,
    ) -> Vec<(String, OrderId)> {
        let rows = self.lists.asking(list, object).into_iter();
        let asked = rows.filter_map(|row| {
            let asked = self.rows.get(&row)?.0.asked.as_ref()?;
            (asked.sequence <= until).then_some((asked.order, row))
        });
        asked.map(|(order, row)| (row, order)).collect()
    }

    /// Has a row that waits for a list go on without one.
    pub(in crate::scheduler) fn alone(&mut self, row: &str) {
        self.unlist(row);
        if let Some((place, Standing::Listed)) = self.rows.get(row) {
            let place = place.clone();
            self.line_up(row.to_owned(), place);
        }
    }

    /// Whether the look of this order is on its way in its lane, or back to it.
    pub(in crate::scheduler) fn goes_on(&self, row: &str, order: &OrderId) -> bool {
        let Some((place, standing)) = self.rows.get(row) else { return false };
        let is_newest = place.asked.as_ref().is_none_or(|asked| asked.order == *order);
        match standing {
            Standing::Waiting => is_newest,
            // What has come meanwhile is looked at behind this one.
            Standing::Running { .. } | Standing::Resting { .. } | Standing::Parked => true,
            Standing::Listed | Standing::Held | Standing::Elsewhere => false,
        }
    }

    /// Has a look of a customer with few of them go on without its list.
    pub(in crate::scheduler) fn overtake(&mut self, list: &ListKey) {
        if let Some(row) = self.lists.single(list) {
            self.alone(&row);
        }
    }

    /// A walk is over: what it did not find is looked at alone.
    pub(in crate::scheduler) fn walked(&mut self, list: &ListKey, until: u64, read: Read) {
        for row in self.lists.end(list, until, read) {
            self.alone(&row);
        }
    }
}

#[cfg(test)]
mod tests {
    use wanwright_schemas::control::Scope;

    use super::super::tests::{board, place, place_among, rows};
    use super::super::{Ended, Holds};
    use super::*;
    use crate::gateway::Priority;
    use crate::scheduler::lists::{Asked, Gain};

    fn look(number: u64, customer: &str) -> Place {
        let lane = place(customer).lane;
        let list = ListKey {
            account: lane.account.clone(),
            credential: None,
            kind: wanwright_vendors::Kind::new("device").expect("a kind"),
            address: "{}".to_owned(),
        };
        let mut order = [0; 32];
        order[..8].copy_from_slice(&number.to_be_bytes());
        let (order, object) = (OrderId::of_digest(order), number.to_string());
        let asked = Some(Asked { list, object, order, sequence: number });
        Place { asked, priority: Priority::Drift, ..place_among(customer, 100) }
    }

    fn listed(board: &mut Board, numbers: std::ops::Range<u64>, customer: &str) -> ListKey {
        for number in numbers {
            board.arrived(format!("{customer}-{number}"), look(number, customer));
        }
        look(0, customer).asked.expect("a look").list
    }

    #[test]
    fn looks_wait_for_their_page_and_what_no_page_had_is_looked_at_alone() {
        let mut board = board();
        let list = listed(&mut board, 1..11, "acme");
        assert!(board.next().is_none(), "they wait for the list");
        assert_eq!(board.next_walk().as_ref(), Some(&list));
        assert_eq!(board.lists().first(&list).as_deref(), Some("acme-1"), "the one that came first");
        assert!(board.next_walk().is_none(), "somebody walks already");
        assert_eq!(board.lists().gain(&list), Gain::Some);
        // A page that was asked for before a look was says nothing about it.
        assert!(board.asking(&list, "7", 6).is_empty());
        assert_eq!(board.asking(&list, "7", 7).len(), 1);
        board.alone("acme-7");
        assert_eq!(rows(&mut board), ["acme-7"]);
        assert!(board.asking(&list, "7", 7).is_empty(), "it is answered");
        board.done("acme-3");
        listed(&mut board, 50..51, "acme");
        board.walked(&list, 10, Read::Whole(2));
        assert_eq!(rows(&mut board).len(), 8, "all but the one that was answered and the one that is done");
        assert_eq!(board.next_walk().as_ref(), Some(&list));
        assert_eq!(board.lists().first(&list).as_deref(), Some("acme-50"), "it came meanwhile");
        board.walked(&list, 50, Read::Nothing);
        assert_eq!(rows(&mut board), ["acme-50"]);
        assert!(board.next_walk().is_none() && board.lists().count(&list) == 0);
    }

    #[test]
    fn a_look_of_a_customer_with_few_overtakes_those_of_one_with_many() {
        let mut board = board();
        let list = listed(&mut board, 1..1000, "acme");
        listed(&mut board, 1000..1060, "globex");
        for number in 1000..1060 {
            board.overtake(&list);
            assert_eq!(rows(&mut board), [format!("globex-{number}")]);
        }
        board.overtake(&list);
        assert!(rows(&mut board).is_empty(), "there is nobody else with few");
    }

    #[test]
    fn a_list_that_is_longer_than_what_waits_is_not_walked_through() {
        let mut board = board();
        let list = listed(&mut board, 1..21, "acme");
        board.next_walk();
        board.walked(&list, 20, Read::Part(100));
        listed(&mut board, 21..71, "acme");
        assert_eq!(board.lists().gain(&list), Gain::None, "100 pages for 50 looks");
        board.next_walk();
        board.walked(&list, 70, Read::Nothing);
        listed(&mut board, 71..171, "acme");
        assert_eq!(board.lists().gain(&list), Gain::Some, "it may have become shorter");
        listed(&mut board, 171..1071, "globex");
        assert_eq!(board.lists().gain(&list), Gain::Great, "1000 looks for 50 pages");
        board.walked(&list, 1070, Read::Part(10));
        listed(&mut board, 2000..2050, "acme");
        assert_eq!(
            board.lists().gain(&list),
            Gain::None,
            "a walk that saw ten of them says nothing about the others"
        );
        board.walked(&list, 2049, Read::Whole(20));
        listed(&mut board, 2050..2051, "acme");
        (0..8).for_each(|_| board.walked(&list, 0, Read::Nothing));
        listed(&mut board, 2051..2070, "acme");
        assert_eq!(board.lists().gain(&list), Gain::None, "one look by itself says nothing about the length");
        (0..8).for_each(|_| board.walked(&list, 0, Read::Nothing));
        assert_eq!(board.lists().gain(&list), Gain::Great, "no list has less than a page");
    }

    #[test]
    fn a_look_that_ran_once_waits_for_no_list_any_more() {
        let mut board = board();
        let list = listed(&mut board, 1..11, "acme");
        board.alone("acme-7");
        let (row, place) = board.next().expect("a row");
        let (order, other) =
            (place.asked.expect("a look").order, look(8, "acme").asked.expect("a look").order);
        assert!(board.goes_on(&row, &order));
        board.ended(&row, &place.lane, Ended::Parked, false);
        assert!(board.goes_on(&row, &order), "it comes back");
        board.due(&row);
        assert_eq!(
            rows(&mut board),
            ["acme-7"],
            "the target's lease was taken; it does not wait for a page again"
        );
        assert_eq!(board.lists().count(&list), 9);
        // A newer version waits for one, and nobody waits for what the older one asked.
        board.ended(&row, &place.lane, Ended::Finished, false);
        board.arrived(row.clone(), look(30, "acme"));
        assert!(board.next().is_none() && !board.goes_on(&row, &order));
        board.alone("acme-8");
        assert!(board.goes_on("acme-8", &other) && !board.goes_on("acme-8", &order));
        board.hold(Holds::of(
            [(Scope::parse("customer", "acme").expect("a scope"), None)],
            jiff::Timestamp::UNIX_EPOCH,
        ));
        assert!(board.next().is_none() && !board.goes_on("acme-8", &other), "it is paused");
        assert_eq!(board.lists().first(&list), None);
    }

    #[test]
    fn a_list_is_walked_through_once_at_a_time_and_again_for_those_that_came_meanwhile() {
        let mut board = board();
        let list = listed(&mut board, 1..3, "acme");
        (1..3).for_each(|number| board.done(&format!("acme-{number}")));
        listed(&mut board, 3..5, "acme");
        assert_eq!(board.next_walk().as_ref(), Some(&list));
        assert_eq!(board.next_walk(), None, "it was emptied and filled again");
        board.walked(&list, 0, Read::Nothing);
        assert_eq!(board.next_walk().as_ref(), Some(&list), "both wait still");
        (3..5).for_each(|number| board.done(&format!("acme-{number}")));
        board.walked(&list, 0, Read::Nothing);
        assert_eq!(board.next_walk(), None);
    }

    #[test]
    fn what_is_paused_waits_for_no_list() {
        let mut board = board();
        let list = listed(&mut board, 1..11, "acme");
        let now = jiff::Timestamp::UNIX_EPOCH;
        let paused = Holds::of([(Scope::parse("vendor", "simwan").expect("a scope"), None)], now);
        board.hold(paused);
        assert_eq!(board.lists().count(&list), 0);
        listed(&mut board, 11..21, "acme");
        assert!(board.next_walk().is_none() && rows(&mut board).is_empty());
        board.hold(Holds::default());
        assert_eq!(board.lists().count(&list), 20, "they wait for it again");
        // A newer version of a row asks for itself.
        board.arrived("acme-5".to_owned(), look(30, "acme"));
        assert!(board.asking(&list, "5", 100).is_empty());
        assert_eq!((board.asking(&list, "30", 100).len(), board.lists().count(&list)), (1, 20));
    }
}
