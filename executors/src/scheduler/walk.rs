//! A walk through a vendor's list, page by page, for the looks that wait for it.
//!
//! It asks for each page as the look that waits longest would: through the gateway, as a look and inside the budget. It takes
//! no slot and no lease; each look has its own when its turn comes, and is answered by a page only if that was asked for
//! after the look was. It gives up when it has cost as many calls as the looks would have.

mod page;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use wanwright_nats::{TableRow, trace};
use wanwright_schemas::order::Order;
use wanwright_schemas::run::RunEntry;
use wanwright_vendors::{ClientError, Pages, RemoteObject, ResourceApi, ResourceClient};

use super::News;
use super::attend::{Attendant, TROUBLE};
use super::lists::{FEWEST, Gain, ListKey, Read, WORTH};
use crate::engine::{self, Pile};
use crate::gateway::{Opened, RunContext};
use crate::records::{self, Records};
use page::{Landed, Page, Standing};

pub(super) use page::{Heard, Step};

/// How often it is looked whether more looks have come.
const LOOK: Duration = Duration::from_millis(250);

/// A list waits until so long none has come: the dispatcher writes the looks of a sweep one after the other.
const QUIET: u32 = 12;

/// And so long at most, in looks at it.
const MOST_WAITS: u32 = 120;

/// While so many objects wait for their looks, no page is asked for: they would become too old.
const ROOM: usize = 128;

/// How often a page is asked for that fails in passing.
const TRIES: u32 = 8;

/// Pause before it is asked for again; each next one is twice as long, together half a minute.
const AGAIN: Duration = Duration::from_millis(250);

/// A list of unknown length is not asked for more pages than one for so many looks.
const UNKNOWN: u64 = 4;

/// Who walks.
pub(super) struct Walker {
    attendant: Arc<Attendant>,
    heard: Heard,
    tell: mpsc::Sender<News>,
    list: ListKey,
    walk: Uuid,
    /// The records of the look that the newest page was asked for in the name of.
    records: Option<Records>,
}

/// The way to a list in the name of a look.
struct Way {
    order: Order,
    context: RunContext,
    records: Records,
    opened: Opened,
    api: Arc<ResourceApi>,
    fresh: Duration,
}

/// How far it is.
#[derive(Default)]
struct Progress {
    pages: Option<Pages>,
    read: usize,
    calls: u64,
    answered: usize,
    /// How often the page failed that is next.
    failed: u32,
    /// What the first page was asked for after, and when, where the others may be of the same moment.
    copied: Option<(u64, Instant)>,
}

/// How a walk ended: which rows wait no longer, and what was read.
type Left = (u64, Read);

impl Walker {
    pub(super) fn new(
        attendant: Arc<Attendant>,
        heard: Heard,
        tell: mpsc::Sender<News>,
        list: ListKey,
    ) -> Self {
        Self { attendant, heard, tell, list, walk: Uuid::new_v4(), records: None }
    }

    /// Walks through the list, or not where that is not worth it, and says when it is over.
    pub(super) async fn walk(mut self, stop: CancellationToken) {
        let (list, tell, stopped) = (self.list.clone(), self.tell.clone(), stop.clone());
        let walked = tokio::spawn(async move {
            let left = tokio::select! {
                () = stopped.cancelled() => Left::default(),
                left = self.begin() => left,
            };
            (left, Some(self))
        });
        let ((until, read), walker) = walked.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a walk through a list ended by itself");
            ((u64::MAX, Read::Nothing), None)
        });
        // Nobody listens any more when the process stops.
        let _ = tell.send(News::Walk(Step::Over { list, until, read })).await;
        if let Some(walker) = walker {
            walker.settle(&stop).await;
        }
    }

    async fn begin(&mut self) -> Left {
        let Some(standing) = self.gather().await else { return Left::default() };
        let until = self.heard.newest();
        match standing.gain {
            Gain::None => (until, Read::Nothing),
            Gain::Some | Gain::Great => self.read(until, standing.known).await,
        }
    }

    /// Waits until no more looks come, and answers how the list stands then. A few that come alone wait a moment only.
    async fn gather(&self) -> Option<Standing> {
        let (mut before, mut quiet, mut waits) = (0, 0, 0);
        loop {
            tokio::time::sleep(LOOK).await;
            let standing = self.ask().await?;
            let Standing { waiting, gain, .. } = standing;
            quiet = if waiting > before { 0 } else { quiet + 1 };
            (before, waits) = (waiting, waits + 1);
            let is_over = gain == Gain::Great || quiet >= QUIET || waits >= MOST_WAITS;
            if is_over || quiet > 0 && waiting < FEWEST {
                return Some(standing);
            }
        }
    }

    async fn tell<T>(&self, step: impl FnOnce(oneshot::Sender<T>) -> Step) -> Option<T> {
        let (reply, told) = oneshot::channel();
        self.tell.send(News::Walk(step(reply))).await.ok()?;
        told.await.ok()
    }

    async fn ask(&self) -> Option<Standing> {
        self.tell(|reply| Step::Ask { list: self.list.clone(), reply }).await
    }

    /// Reads pages as long as it helps.
    async fn read(&mut self, until: u64, known: bool) -> Left {
        let mut at = Progress::default();
        loop {
            self.room().await;
            let Some(Standing { waiting, first, .. }) = self.ask().await else { return Left::default() };
            let Some(row) = first else { return (0, Read::Part(at.read)) };
            if at.costs(waiting, known) {
                // What is left is cheaper one by one. How long the list is nobody knows.
                return (until, Read::Part(at.read * 2));
            }
            let Some(way) = self.open(&row).await else { continue };
            if at.is_too_old(way.fresh) {
                // Where that was worth it, the others wait for another walk.
                return (if at.was_worth() { 0 } else { until }, Read::Part(at.read));
            }
            self.records = Some(way.records.clone());
            match self.next_page(&mut at, &way).await {
                Some(Ok(Some((page, landed)))) => {
                    let Some(landed) = self.land(page, landed).await else { return Left::default() };
                    way.records.add_all(landed.calls).await;
                    at.answered += landed.answered;
                    if landed.waiting == 0 {
                        return (0, Read::Part(at.read));
                    }
                }
                Some(Ok(None)) => return (until, Read::Whole(at.read)),
                Some(Err(error)) if is_passing(&error) && at.failed + 1 < TRIES => {
                    tokio::time::sleep(AGAIN * 2_u32.pow(at.failed)).await;
                    at.failed += 1;
                }
                Some(Err(error)) => {
                    tracing::warn!(
                        vendor = %way.order.vendor, kind = %self.list.kind, pages = at.read,
                        error = &error as &dyn std::error::Error,
                        "a list was left in the middle; the looks it did not reach are made one by one"
                    );
                    return (until, Read::Part(at.read));
                }
                None => tokio::time::sleep(TROUBLE).await,
            }
        }
    }

    /// The way in the name of this look. One that is gone, or has no way to the vendor, goes on alone.
    async fn open(&self, row: &str) -> Option<Way> {
        let newest = match self.attendant.table.get(row).await {
            Ok(newest) => newest,
            Err(error) => {
                tracing::warn!(row, error = &error as &dyn std::error::Error, "a list waits a moment");
                tokio::time::sleep(TROUBLE).await;
                return None;
            }
        };
        let way = newest.and_then(|newest| self.way(&newest));
        if way.is_none() {
            // Nobody listens any more when the process stops.
            let _ = self.tell.send(News::Walk(Step::Alone(row.to_owned()))).await;
        }
        way
    }

    fn way(&self, newest: &TableRow) -> Option<Way> {
        let config = &self.attendant.config;
        let order: Order = serde_json::from_slice(&newest.payload).ok()?;
        let vendors = config.vendors.snapshot();
        let vendor = vendors.get(order.vendor.as_str())?;
        // It may be another order by now, which goes to another account.
        ListKey::of(vendor, &order).filter(|list| order.is_look() && *list == self.list)?;
        let api = Arc::clone(vendor.api.get(&self.list.kind)?);
        let fresh = api.list.as_ref()?.fresh?;
        // The page is of many customers.
        let context =
            RunContext { secrets: Vec::new(), ..records::context_of(&order, trace::read(&newest.headers)) };
        config.gateway.reaches(&context).ok()?;
        let records = Records::new(config.nats.clone(), context.clone());
        let opened = config.gateway.open_with(records.clone(), context.clone());
        Some(Way { order, context, records, opened, api, fresh })
    }

    /// The next page, once there is a turn for it; none where there is no way to the vendor.
    async fn next_page(
        &self,
        at: &mut Progress,
        way: &Way,
    ) -> Option<Result<Option<(Page, oneshot::Receiver<Landed>)>, ClientError>> {
        let gateway = &self.attendant.config.gateway;
        let expected = gateway.expected(&way.context, &way.order.intent);
        let _admitted = gateway.admit(&way.context, expected).await?;
        let (until, asked) = at.copied.unwrap_or_else(|| (self.heard.newest(), Instant::now()));
        let next = at.next(way).await;
        at.calls += way.opened.calls();
        let objects = match next {
            Ok(Some(objects)) => objects,
            Ok(None) => return Some(Ok(None)),
            Err(error) => return Some(Err(error)),
        };
        (at.read, at.failed) = (at.read + 1, 0);
        if way.api.list.as_ref().is_some_and(|list| list.may_be_copy()) {
            at.copied = Some((until, asked));
        }
        let (list, walk, fresh, calls) = (self.list.clone(), self.walk, way.fresh, way.records.take());
        let (reply, landed) = oneshot::channel();
        Some(Ok(Some((Page { list, walk, until, asked, fresh, objects, calls, reply }, landed))))
    }

    async fn land(&self, page: Page, landed: oneshot::Receiver<Landed>) -> Option<Landed> {
        self.tell.send(News::Walk(Step::Page(Box::new(page)))).await.ok()?;
        landed.await.ok()
    }

    /// Waits until few of the objects that it brought wait for their looks.
    async fn room(&self) {
        while self.tidy().await.is_some_and(|waiting| waiting >= ROOM) {
            tokio::time::sleep(LOOK / 2).await;
        }
    }

    /// How many of the objects that it brought wait for their looks; none when the process stops.
    async fn tidy(&self) -> Option<usize> {
        let pile = self.tell(|reply| Step::Tidy { walk: self.walk, reply }).await?;
        let Pile { waiting, left } = pile;
        self.keep(left).await;
        Some(waiting)
    }

    /// Keeps the calls for objects that nobody takes any more.
    async fn keep(&self, left: Vec<Vec<RunEntry>>) {
        let Some(records) = self.records.as_ref().filter(|_| !left.is_empty()) else { return };
        records.add_all(left.into_iter().flatten().collect()).await;
        records.store().await;
    }

    /// Waits until every object that it brought is taken, or nobody is there for it any more.
    async fn settle(&self, stop: &CancellationToken) {
        let all = async {
            while self.tidy().await.is_some_and(|waiting| waiting > 0) {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = all => {}
        }
        self.keep(self.attendant.scans.tidy(self.walk, |_, _| false).left).await;
    }
}

impl Progress {
    async fn next(&mut self, way: &Way) -> Result<Option<Vec<RemoteObject>>, ClientError> {
        let http = engine::connection(&way.opened)?;
        let pages = match &mut self.pages {
            Some(pages) => {
                pages.through(http);
                pages
            }
            none => {
                let desired = way
                    .order
                    .desired_json()
                    .map_err(|error| ClientError::configuration(error.to_string()))?;
                let client = ResourceClient::new(http, Arc::clone(&way.api));
                none.insert(client.within(&way.api.desired_attributes(&desired)).pages()?)
            }
        };
        pages.next().await
    }

    /// Whether it costs as much as the looks would have, or more than may be tried.
    fn costs(&self, waiting: usize, known: bool) -> bool {
        let looks = (self.answered + waiting) as u64;
        self.calls >= if known { looks } else { (looks / UNKNOWN).max(1) }
    }

    /// Whether what comes next would be too old already.
    fn is_too_old(&self, fresh: Duration) -> bool {
        self.copied.is_some_and(|(_, asked)| asked.elapsed() >= fresh)
    }

    fn was_worth(&self) -> bool {
        self.answered as u64 >= self.calls * WORTH as u64
    }
}

/// Whether a page that failed may come another time. A credential that is not accepted may be one that sees no lists.
fn is_passing(error: &ClientError) -> bool {
    error.is_passing() && !matches!(error, ClientError::Denied { .. })
}
