//! What a walk and the board tell each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;
use wanwright_schemas::run::{RunEntry, RunEvent, SharedCall};
use wanwright_vendors::RemoteObject;

use crate::engine::{Found, Pile, Scans};
use crate::scheduler::board::Board;
use crate::scheduler::lists::{Gain, ListKey, Read};

/// The newest row of the table that this process has heard of.
#[derive(Debug, Clone, Default)]
pub(in crate::scheduler) struct Heard(Arc<AtomicU64>);

impl Heard {
    /// Notes a row's sequence.
    pub(in crate::scheduler) fn row(&self, sequence: u64) {
        self.0.fetch_max(sequence, Ordering::AcqRel);
    }

    pub(super) fn newest(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// What a walk tells the board.
pub(in crate::scheduler) enum Step {
    /// Who waits? A look of a customer with few goes on meanwhile.
    Ask { list: ListKey, reply: oneshot::Sender<Standing> },
    /// What became of the objects that the walk brought?
    Tidy { walk: Uuid, reply: oneshot::Sender<Pile> },
    /// A page has come.
    Page(Box<Page>),
    /// The list cannot be asked for this row, which goes on without it.
    Alone(String),
    /// The walk is over. Rows up to this one wait no longer.
    Over { list: ListKey, until: u64, read: Read },
}

/// How a list stands.
pub(in crate::scheduler) struct Standing {
    /// How many looks wait.
    pub(super) waiting: usize,
    /// What walking would gain.
    pub(super) gain: Gain,
    /// Whether its length is known.
    pub(super) known: bool,
    /// The row that came first.
    pub(super) first: Option<String>,
}

/// A page that has come.
pub(in crate::scheduler) struct Page {
    pub(super) list: ListKey,
    pub(super) walk: Uuid,
    /// Rows up to this one were written before the page was asked for.
    pub(super) until: u64,
    pub(super) asked: Instant,
    pub(super) fresh: Duration,
    pub(super) objects: Vec<RemoteObject>,
    /// The calls that it took.
    pub(super) calls: Vec<RunEntry>,
    pub(super) reply: oneshot::Sender<Landed>,
}

/// What came of a page.
pub(in crate::scheduler) struct Landed {
    /// How many looks it answered.
    pub(super) answered: usize,
    /// How many wait.
    pub(super) waiting: usize,
    /// The calls, where nobody else has them among its records.
    pub(super) calls: Vec<RunEntry>,
}

impl Step {
    /// Puts what a walk tells on the board. A walk that was given up has nobody who listens.
    pub(in crate::scheduler) fn note(self, board: &mut Board, scans: &Scans) {
        match self {
            Self::Ask { list, reply } => {
                board.overtake(&list);
                let lists = board.lists();
                let (waiting, gain) = (lists.count(&list), lists.gain(&list));
                let (known, first) = (lists.is_known(&list), lists.first(&list));
                let _ = reply.send(Standing { waiting, gain, known, first });
            }
            Self::Tidy { walk, reply } => {
                let _ = reply.send(scans.tidy(walk, |row, order| board.goes_on(row, order)));
            }
            Self::Page(page) => page.land(board, scans),
            Self::Alone(row) => board.alone(&row),
            Self::Over { list, until, read } => board.walked(&list, until, read),
        }
    }
}

impl Page {
    fn land(mut self, board: &mut Board, scans: &Scans) {
        let mut answers = Vec::new();
        for object in self.objects {
            for (row, order) in board.asking(&self.list, &object.id, self.until) {
                // Nothing begins before this page is noted.
                board.alone(&row);
                answers.push((row, order, object.clone()));
            }
        }
        let answered = answers.len();
        let shared = SharedCall { call: Uuid::new_v4(), orders: u32::try_from(answered).unwrap_or(u32::MAX) };
        let calls = if answered == 0 { std::mem::take(&mut self.calls) } else { Vec::new() };
        if answered > 1 {
            self.calls.iter_mut().for_each(|entry| share(entry, shared));
        }
        let (walk, asked, fresh) = (self.walk, self.asked, self.fresh);
        for (row, order, object) in answers {
            scans.put(order, Found { row, walk, object, calls: self.calls.clone(), asked, fresh });
        }
        let _ = self.reply.send(Landed { answered, waiting: board.lists().count(&self.list), calls });
    }
}

fn share(entry: &mut RunEntry, with: SharedCall) {
    if let RunEvent::Call { shared, .. } = &mut entry.event {
        *shared = Some(with);
    }
}
