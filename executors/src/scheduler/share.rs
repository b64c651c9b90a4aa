//! Whose customers are whose. Every process works it out alone, and all that hear of the same processes agree.
//!
//! Rendezvous hashing: a customer belongs to the process that has the highest digest together with it. When a process
//! comes or goes, only the customers that it gets or had belong to another one.

use wanwright_schemas::{CustomerId, Digest};

/// Which customers are this process's own.
#[derive(Debug)]
pub(super) struct Share {
    me: String,
    /// The others that are there; none while it is not known yet who is.
    others: Option<Vec<String>>,
}

impl Share {
    /// The share of a process that has not listened to the others yet: nothing.
    pub(super) fn new(me: String) -> Self {
        Self { me, others: None }
    }

    /// Notes who else is there.
    pub(super) fn heard(&mut self, others: Vec<String>) {
        self.others = Some(others);
    }

    /// Whether this process attends to the customer's orders.
    pub(super) fn has(&self, customer: &CustomerId) -> bool {
        let Some(others) = &self.others else { return false };
        let own = weight(&self.me, customer);
        others.iter().all(|other| weight(other, customer) < own)
    }
}

fn weight(member: &str, customer: &CustomerId) -> [u8; 32] {
    Digest::of(format!("{member} {customer}").as_bytes()).bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMBERS: [&str; 3] = ["one", "two", "three"];

    fn shares(members: &[&str]) -> Vec<Share> {
        let of = |me: &&str| {
            let mut share = Share::new((*me).to_owned());
            share.heard(
                members.iter().filter(|other| *other != me).map(|other| (*other).to_owned()).collect(),
            );
            share
        };
        members.iter().map(of).collect()
    }

    fn customers() -> impl Iterator<Item = CustomerId> {
        (0..1000).map(|number| format!("customer-{number}").parse().expect("an id"))
    }

    /// Which of the members has the customer; exactly one does.
    fn owner(shares: &[Share], customer: &CustomerId) -> usize {
        let owners: Vec<usize> = (0..shares.len()).filter(|index| shares[*index].has(customer)).collect();
        assert_eq!(owners.len(), 1, "{customer}: {owners:?}");
        owners[0]
    }

    #[test]
    fn each_customer_has_one_process_and_each_process_about_as_many() {
        let shares = shares(&MEMBERS);
        let mut counts = [0; 3];
        customers().for_each(|customer| counts[owner(&shares, &customer)] += 1);
        assert!(counts.iter().all(|count| (250..420).contains(count)), "{counts:?}");
    }

    #[test]
    fn only_the_customers_of_one_that_is_gone_move() {
        let (all, left) = (shares(&MEMBERS), shares(&MEMBERS[..2]));
        for customer in customers() {
            let before = owner(&all, &customer);
            assert!(before == 2 || owner(&left, &customer) == before, "{customer} moved for nothing");
        }
    }

    #[test]
    fn nobody_has_anything_before_it_has_listened() {
        let share = Share::new("one".to_owned());
        assert!(!customers().any(|customer| share.has(&customer)));
    }
}
