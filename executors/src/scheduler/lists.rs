//! Looks that wait for a list: where the vendor lists whole objects, one page answers many of them. Pure: no clock, no I/O.
//!
//! A look that a list may answer stands here before it stands in its lane. A walk through the list lets those go on whose
//! objects were on a page, at its end everything that was there when it began, and with each page a look of a customer that
//! has much fewer than another one, so that nobody's single look waits for another one's thousands.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, VecDeque};

use serde_json::Value;
use wanwright_nats::StoredMessage;
use wanwright_schemas::order::{Desired, Order};
use wanwright_schemas::{CustomerId, OrderId};
use wanwright_vendors::{Kind, Vendor};

use crate::gateway::AccountKey;
use crate::records::secrets_of;

/// Fewer looks than that are made one by one.
pub(super) const FEWEST: usize = 8;

/// A customer that has so many times as many as another one does not hold up that one's.
const MUCH: usize = 8;

/// So many looks for a page are worth a walk.
pub(super) const WORTH: usize = 2;

/// With so many for a page nobody waits for more.
const GREAT: usize = 20;

/// What a walk through a list gains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gain {
    /// It costs as much as the looks, or nearly.
    None,
    /// It costs less, as far as is known.
    Some,
    /// It costs next to nothing beside them.
    Great,
}

/// Which list: of one kind, as one credential sees it, at one address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ListKey {
    pub(super) account: AccountKey,
    pub(super) credential: Option<String>,
    pub(super) kind: Kind,
    pub(super) address: String,
}

/// What a look asks a list for.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) list: ListKey,
    /// The object's id.
    pub(super) object: String,
    pub(super) order: OrderId,
    /// The row's sequence in the table: of two, the greater one was written later.
    pub(super) sequence: u64,
}

impl ListKey {
    /// The list of an order's objects; none where the vendor's lists do not answer looks.
    pub(super) fn of(vendor: &Vendor, order: &Order) -> Option<Self> {
        let api = vendor.api.get(order.target().kind().as_str())?;
        api.list.as_ref()?.fresh?;
        let attributes = api.desired_attributes(&order.desired_json().ok()?);
        Some(Self {
            account: AccountKey::new(order.vendor.clone(), order.account.as_ref()),
            credential: order.account.as_ref().map(|account| account.credential.as_str().to_owned()),
            kind: api.kind.clone(),
            address: Value::Object(api.address(&attributes)).to_string(),
        })
    }
}

impl Asked {
    /// What the look in this row of the table asks a list for; none where the vendor's lists do not answer it. A list is
    /// read for many customers, so it knows nobody's secrets: what names one is read alone. So is what is found by its
    /// name: whether there is another one of that name a page does not say.
    pub(super) fn of(vendor: &Vendor, kind: &str, message: &StoredMessage) -> Option<Self> {
        vendor.api.get(kind)?.list.as_ref()?.fresh?;
        let order: Order = serde_json::from_slice(&message.payload).ok()?;
        let Desired::Device(device) = &order.desired else { return None };
        let object = device.known.get("id").and_then(Value::as_str)?.to_owned();
        if !secrets_of(&order).is_empty() {
            return None;
        }
        let list = ListKey::of(vendor, &order)?;
        Some(Self { list, object, order: order.id, sequence: message.sequence })
    }
}

/// How far a walk went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Read {
    /// No page was asked for.
    #[default]
    Nothing,
    /// The list has at least so many pages.
    Part(usize),
    /// The list has so many.
    Whole(usize),
}

/// The looks that wait for one list.
#[derive(Debug, Default)]
struct Waiting {
    /// The rows that ask for each object.
    objects: HashMap<String, BTreeSet<String>>,
    /// The rows of each customer, those written first in front.
    customers: HashMap<CustomerId, BTreeSet<(u64, String)>>,
    /// How many rows there are.
    rows: usize,
    /// Whether somebody walks through the list.
    walked: bool,
}

/// The looks that wait for lists.
#[derive(Debug, Default)]
pub(super) struct Lists {
    waiting: HashMap<ListKey, Waiting>,
    /// Those that nobody walks through, and some that nobody waits for any more.
    unwalked: VecDeque<ListKey>,
    /// How many pages a list has, as far as that is known.
    pages: HashMap<ListKey, usize>,
}

impl Lists {
    /// Has a row wait.
    pub(super) fn add(&mut self, row: &str, customer: &CustomerId, asked: &Asked) {
        let waiting = match self.waiting.entry(asked.list.clone()) {
            Entry::Occupied(waiting) => waiting.into_mut(),
            Entry::Vacant(place) => {
                self.unwalked.push_back(asked.list.clone());
                place.insert(Waiting::default())
            }
        };
        let rows = waiting.customers.entry(customer.clone()).or_default();
        if rows.insert((asked.sequence, row.to_owned())) {
            waiting.rows += 1;
        }
        waiting.objects.entry(asked.object.clone()).or_default().insert(row.to_owned());
    }

    /// Has it wait no more.
    pub(super) fn remove(&mut self, row: &str, customer: &CustomerId, asked: &Asked) {
        let Some(waiting) = self.waiting.get_mut(&asked.list) else { return };
        if let Some(rows) = waiting.customers.get_mut(customer) {
            waiting.rows -= usize::from(rows.remove(&(asked.sequence, row.to_owned())));
            if rows.is_empty() {
                waiting.customers.remove(customer);
            }
        }
        if let Some(rows) = waiting.objects.get_mut(&asked.object) {
            rows.remove(row);
            if rows.is_empty() {
                waiting.objects.remove(&asked.object);
            }
        }
        if waiting.rows == 0 && !waiting.walked {
            self.waiting.remove(&asked.list);
        }
    }

    /// How many rows wait for a list.
    pub(super) fn count(&self, list: &ListKey) -> usize {
        self.waiting.get(list).map_or(0, |waiting| waiting.rows)
    }

    /// A list that rows wait for and nobody walks through. Whoever asks does.
    pub(super) fn begin(&mut self) -> Option<ListKey> {
        loop {
            let list = self.unwalked.pop_front()?;
            // The rows that waited for it may be gone, or it was there twice.
            if let Some(waiting) = self.waiting.get_mut(&list)
                && !waiting.walked
            {
                waiting.walked = true;
                return Some(list);
            }
        }
    }

    /// The row that was written first.
    pub(super) fn first(&self, list: &ListKey) -> Option<String> {
        let first = self.waiting.get(list)?.customers.values().filter_map(BTreeSet::first).min()?;
        Some(first.1.clone())
    }

    /// Whether the length of a list is known.
    pub(super) fn is_known(&self, list: &ListKey) -> bool {
        self.pages.contains_key(list)
    }

    /// What walking through a list gains over the looks that wait for it.
    pub(super) fn gain(&self, list: &ListKey) -> Gain {
        let rows = self.count(list);
        match self.pages.get(list) {
            _ if rows < FEWEST => Gain::None,
            Some(pages) if rows < pages * WORTH => Gain::None,
            Some(pages) if rows >= pages * GREAT => Gain::Great,
            Some(_) | None => Gain::Some,
        }
    }

    /// The rows that ask for an object.
    pub(super) fn asking(&self, list: &ListKey, object: &str) -> Vec<String> {
        let rows = self.waiting.get(list).and_then(|waiting| waiting.objects.get(object));
        rows.map(|rows| rows.iter().cloned().collect()).unwrap_or_default()
    }

    /// The oldest row of those customers that have much fewer than another one.
    pub(super) fn single(&self, list: &ListKey) -> Option<String> {
        let customers = &self.waiting.get(list)?.customers;
        let most = customers.values().map(BTreeSet::len).max()?;
        let few = customers.values().filter(|rows| rows.len() * MUCH <= most);
        few.filter_map(BTreeSet::first).min().map(|(_, row)| row.clone())
    }

    /// Ends a walk, and answers the rows that were written up to then: they wait no longer.
    ///
    /// A list that so many wait for and that was not walked through counts half as long the next time: it may have become
    /// shorter.
    pub(super) fn end(&mut self, list: &ListKey, until: u64, read: Read) -> Vec<String> {
        let many = self.count(list) >= FEWEST;
        let known = self.pages.get(list).copied();
        let now = match (read, known) {
            (Read::Nothing, Some(known)) if many => Some((known / 2).max(1)),
            (Read::Nothing | Read::Part(0), _) => known,
            (Read::Part(pages), _) => known.max(Some(pages)),
            (Read::Whole(pages), _) => Some(pages.max(1)),
        };
        if let Some(pages) = now {
            self.pages.insert(list.clone(), pages);
        }
        let Some(waiting) = self.waiting.get_mut(list) else { return Vec::new() };
        waiting.walked = false;
        let all = waiting.customers.values().flatten();
        let left = all.filter(|(sequence, _)| *sequence <= until).map(|(_, row)| row.clone()).collect();
        if waiting.rows == 0 {
            self.waiting.remove(list);
        } else {
            self.unwalked.push_back(list.clone());
        }
        left
    }
}
