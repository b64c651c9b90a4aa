//! What waits for a lane, and how long a command is tried.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wanwright_nats::Nats;
use wanwright_schemas::CustomerId;
use wanwright_schemas::outcome::Outcome;
use wanwright_schemas::reason::{Reason, Refusal};

use super::delivery::Delivery;
use super::door::{Answer, Asked, Headers};
use super::intake::Room;
use super::lane::{Lane, Trouble};
use super::serials::Seen;
use super::turns::Turns;
use super::{outcomes, requests, sealing, verdict};

/// How many lanes a partition has: commands of that many of its customers are decided at once.
const LANES: u64 = 16;

/// How many requests wait for a lane before the next one is told to come again.
const DEPTH: usize = 256;

/// How much memory the requests of a lane may take, in bytes: four of the largest, or [`DEPTH`] of up to 16 KiB. Each lane
/// has its own, so that one customer's large bodies leave the others theirs.
const LANE_ROOM: usize = 4 * 1024 * 1024;

/// How often a request is tried while NATS is in trouble before its sender is told so.
const TRIES: u32 = 6;

/// After how long of such trouble its sender is told so even if it was tried less often: a server without a leader answers a
/// try in seconds or not at all, and senders wait for 5 s (nats) or 10 s (async-nats).
const PATIENCE: Duration = Duration::from_secs(4);

/// How often a request is decided anew because others append to its customer.
const CONFLICTS: u32 = 100;

/// How often a serial number is asked for that may be another device's.
const DOUBTS: u32 = 3;

/// The first pause between two tries; each next one is twice as long.
const PAUSE: Duration = Duration::from_millis(50);

/// Longest pause of the inbox, which never gives up.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// The pause after a conflict: whoever was first is done, so it is short.
const CONFLICT_PAUSE: Duration = Duration::from_millis(5);

/// The ways into a lane. They are two, so that a request does not wait behind a thousand commands of the inbox.
#[derive(Debug)]
struct Entry {
    requests: mpsc::Sender<Asked>,
    room: Room,
    inbox: mpsc::UnboundedSender<Asked>,
}

/// What waits for a lane.
#[derive(Debug)]
pub(super) struct Queue {
    requests: mpsc::Receiver<Asked>,
    inbox: mpsc::UnboundedReceiver<Asked>,
    /// What has come from the inbox, of which a customer may have many.
    durable: Turns<Asked>,
    /// Whose turn it is when both doors have brought something.
    requests_turn: bool,
}

/// The lanes of a partition, by customer.
#[derive(Clone, Debug)]
pub(super) struct Lanes {
    entries: Arc<[Entry]>,
}

impl Lanes {
    /// The ways into the lanes, and what each lane takes its commands from.
    pub(super) fn new() -> (Self, Vec<Queue>) {
        let lane = |_| {
            let (requests, asked) = mpsc::channel(DEPTH);
            let (inbox, delivered) = mpsc::unbounded_channel();
            (Entry { requests, room: Room::new(LANE_ROOM), inbox }, Queue::new(asked, delivered))
        };
        let (entries, queues): (Vec<_>, Vec<_>) = (0..LANES).map(lane).unzip();
        (Self { entries: entries.into() }, queues)
    }

    fn entry(&self, customer: &CustomerId) -> Option<&Entry> {
        // Not the hash of the partition, which its customers have in common.
        let mut hasher = DefaultHasher::new();
        customer.hash(&mut hasher);
        self.entries.get(usize::try_from(hasher.finish() % LANES).unwrap_or_default())
    }

    /// Offers a request to its customer's lane, which gives it back when it is full: a customer whose commands cannot be
    /// decided must not stop all the others.
    pub(super) fn offer(&self, mut asked: Asked) -> Result<(), Box<Asked>> {
        let Some(entry) = self.entry(&asked.subject.customer) else { return Err(Box::new(asked)) };
        asked.room = entry.room.take(asked.body.len());
        if asked.room.is_none() {
            return Err(Box::new(asked));
        }
        entry.requests.try_send(asked).map_err(|refused| Box::new(refused.into_inner()))
    }

    /// Hands a command of the inbox to its customer's lane. The inbox itself says how many it lets out.
    pub(super) fn hand(&self, asked: Asked) {
        // A closed lane means that the service stops: what is not acknowledged is delivered again.
        if let Some(entry) = self.entry(&asked.subject.customer) {
            let _ = entry.inbox.send(asked);
        }
    }
}

impl Queue {
    fn new(requests: mpsc::Receiver<Asked>, inbox: mpsc::UnboundedReceiver<Asked>) -> Self {
        Self { requests, inbox, durable: Turns::default(), requests_turn: false }
    }

    /// The next command, by turns from both doors, and from the inbox by turns of the customers; none when both doors are
    /// closed and nothing waits.
    async fn next(&mut self) -> Option<Asked> {
        loop {
            while let Ok(asked) = self.inbox.try_recv() {
                self.durable.push(&asked.subject.customer.clone(), asked);
            }
            if !self.durable.is_empty() {
                self.requests_turn = !self.requests_turn;
                let request = if self.requests_turn { self.requests.try_recv().ok() } else { None };
                return request.or_else(|| self.durable.pop());
            }
            tokio::select! {
                Some(asked) = self.requests.recv() => return Some(asked),
                Some(asked) = self.inbox.recv() => self.durable.push(&asked.subject.customer.clone(), asked),
                else => return None,
            }
        }
    }
}

/// Handles commands until the doors are closed and nothing waits.
pub(super) async fn work(lane: Lane, mut queue: Queue, stop: CancellationToken) -> &'static str {
    while let Some(asked) = queue.next().await {
        let began = Instant::now();
        let Some(outcome) = settle(&lane, &mut queue, &asked, &stop).await else { continue };
        lane.counts.note(asked.subject.object.kind(), began.elapsed(), outcome.refusal());
        let unrecorded = outcome.refusal().map(|refusal| (refusal.code, refusal));
        match (asked.answer, unrecorded) {
            (Answer::Reply(to), _) if asked.previews.get().is_some() => {
                // Beside the lane: an executor may take a minute.
                let (lane, orders) = (lane.clone(), asked.previews.into_inner().unwrap_or_default());
                tokio::spawn(async move {
                    let outcome = lane.previews.add(outcome, orders).await;
                    requests::reply(&lane.nats, to, &outcome).await;
                });
            }
            (Answer::Reply(to), unrecorded) => {
                let is_recorded = !matches!(
                    unrecorded,
                    Some((
                        Reason::Unavailable
                            | Reason::HistoryDamaged
                            | Reason::KeyUnreadable
                            | Reason::StorageDamaged
                            | Reason::CommandIdReused,
                        _
                    ))
                );
                let Some(body) = requests::write(&outcome) else { continue };
                requests::reply_with(&lane.nats, to, &outcome, body.clone()).await;
                if is_recorded && !outcome.repeated && !outcome.dry_run && outcome.command.is_some() {
                    tell(&lane, &asked.subject.customer, &asked.headers, body).await;
                }
            }
            // It stays in the inbox.
            (Answer::Inbox(_), Some((Reason::Unavailable, _))) => {}
            (
                Answer::Inbox(delivery),
                Some((Reason::HistoryDamaged | Reason::KeyUnreadable | Reason::StorageDamaged, refusal)),
            ) => {
                bury(&lane, *delivery, &asked.headers, refusal, &stop).await;
            }
            (Answer::Inbox(delivery), _) => delivery.handled().await,
        }
    }
    "a lane"
}

async fn tell(lane: &Lane, customer: &CustomerId, asked: &Headers, body: Bytes) {
    if let Err(error) = outcomes::tell(&lane.nats, customer, asked, body).await {
        let error = wanwright_nats::chain(&error);
        tracing::warn!(
            error,
            "an outcome could not be published; it is made again when somebody asks for it"
        );
    }
}

/// Finds the outcome of a command. Who reads it from the stream of outcomes finds it there before the inbox forgets
/// the command.
async fn judge(lane: &Lane, asked: &Asked, fresh: &mut Vec<Seen>) -> Result<Outcome, Trouble> {
    let outcome = lane.judge(asked, fresh).await?;
    // A used id has the outcome of the command that used it first.
    let is_its_own = outcome.refusal().is_none_or(|refusal| refusal.code != Reason::CommandIdReused);
    if matches!(asked.answer, Answer::Inbox(_)) && is_its_own {
        // Also when it is said again: whoever found it first may not have come this far, and the first record stands.
        let first = Outcome { repeated: false, ..outcome.clone() };
        outcomes::record(&lane.nats, &asked.subject.customer, &asked.headers, &first).await?;
    }
    Ok(outcome)
}

/// Tries a command until it has an outcome. None when the inbox delivers it again.
async fn settle(lane: &Lane, queue: &mut Queue, asked: &Asked, stop: &CancellationToken) -> Option<Outcome> {
    let is_durable = matches!(asked.answer, Answer::Inbox(_));
    let began = Instant::now();
    // Who asks again reaches the holder, and the inbox hands the command to him.
    let not_held = |was_tried: bool| {
        let error: Box<dyn std::error::Error + Send + Sync> = "the partition is another process's now".into();
        let unrecorded =
            if was_tried { verdict::unavailable(asked, error.as_ref()) } else { verdict::not_tried(asked) };
        (!is_durable).then_some(unrecorded)
    };
    let (mut pause, mut tries, mut conflicts, mut doubts) = (PAUSE, 0, 0, 0);
    let mut fresh = Vec::new();
    loop {
        if matches!(&asked.answer, Answer::Inbox(delivery) if delivery.is_over()) {
            return None;
        }
        if !lane.lease.is_held() {
            return not_held(tries + conflicts > 0);
        }
        let trouble = match judge(lane, asked, &mut fresh).await {
            Ok(outcome) => {
                if outcome.position().is_none() && !fresh.is_empty() {
                    lane.give_back(asked, &fresh).await;
                }
                return Some(outcome);
            }
            Err(trouble) => trouble,
        };
        lane.store.forget(&asked.subject.customer);
        let (error, wait, is_enough) = match trouble {
            Trouble::NotHeld => return not_held(true),
            Trouble::Damaged(error) => {
                tracing::error!(customer = %asked.subject.customer, error = error.as_ref(), "a history is damaged");
                return Some(verdict::damaged(asked, error.as_ref()));
            }
            Trouble::Stored(error) => {
                let customer = &asked.subject.customer;
                tracing::error!(%customer, error = wanwright_nats::chain(&error), "storage is damaged");
                if !fresh.is_empty() {
                    lane.give_back(asked, &fresh).await;
                }
                return Some(verdict::unreadable(asked, &error));
            }
            Trouble::Unreadable(error) => {
                tracing::error!(customer = %asked.subject.customer, error = error.as_ref(), "a key cannot be opened");
                return Some(sealing::unreadable(asked));
            }
            Trouble::Reconnected => {
                if !fresh.is_empty() {
                    lane.give_back(asked, &std::mem::take(&mut fresh)).await;
                }
                tries += 1;
                ("the connection was lost again and again".into(), PAUSE, tries >= TRIES)
            }
            Trouble::Doubtful(serial) => {
                doubts += 1;
                if doubts >= DOUBTS {
                    return Some(verdict::doubtful(asked, &serial));
                }
                (format!("serial number {serial} may be another device's").into(), PAUSE, false)
            }
            Trouble::Conflict => {
                conflicts += 1;
                (
                    "other commands of the customer always came first".into(),
                    CONFLICT_PAUSE,
                    conflicts >= CONFLICTS,
                )
            }
            Trouble::Nats(error) => {
                tries += 1;
                tracing::warn!(command = %asked.headers.command, error = error.as_ref(), "trying a command again");
                let wait = pause;
                pause = (pause * 2).min(MAX_PAUSE);
                (error, wait, tries >= TRIES || began.elapsed() >= PATIENCE)
            }
        };
        if stop.is_cancelled() || (is_enough && !is_durable) {
            return Some(verdict::unavailable(asked, error.as_ref()));
        }
        let pause = async {
            let _ = stop.run_until_cancelled(tokio::time::sleep(wait)).await;
        };
        if tries < TRIES {
            pause.await;
            continue;
        }
        // The senders of the requests behind a command of the inbox do not wait as long as the inbox does.
        turn_away(pause, &mut queue.requests, |asked| not_tried(lane.nats.clone(), asked)).await;
    }
}

/// Tells the sender of a request that it was not tried.
async fn not_tried(nats: Nats, asked: Asked) {
    let outcome = verdict::not_tried(&asked);
    if let Answer::Reply(to) = asked.answer {
        requests::reply(&nats, to, &outcome).await;
    }
}

/// Hands out what waits until something else is over. What is taken out is answered whole: a `select!` around the answer
/// would drop it.
async fn turn_away<T, F: Future<Output = ()>>(
    over: impl Future<Output = ()>,
    waiting: &mut mpsc::Receiver<T>,
    mut answer: impl FnMut(T) -> F,
) {
    tokio::pin!(over);
    loop {
        let asked = tokio::select! {
            () = &mut over => return,
            Some(asked) = waiting.recv() => asked,
        };
        answer(asked).await;
    }
}

/// Puts a command among the dead letters before the customer's next one is looked at, so that they keep their order.
async fn bury(
    lane: &Lane,
    delivery: Delivery,
    headers: &Headers,
    refusal: &Refusal,
    stop: &CancellationToken,
) {
    while !delivery.is_over() && !stop.is_cancelled() {
        let Err(error) = delivery.bury(&lane.nats, headers, refusal).await else {
            return delivery.handled().await;
        };
        let error = wanwright_nats::chain(&error);
        tracing::warn!(command = %headers.command, error, "a command could not be put among the dead letters yet");
        tokio::time::sleep(MAX_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use tokio::sync::Notify;
    use wanwright_schemas::CommandId;

    use std::sync::OnceLock;

    use super::super::door;
    use super::*;

    fn asked(customer: &str, bytes: usize) -> Asked {
        let body = vec![b' '; bytes].into();
        let subject = format!("wan.do.{customer}.anna.site.oslo.create");
        let (subject, headers, body) = door::read(&subject, None, &body, CommandId::mint).unwrap();
        Asked {
            subject,
            headers,
            body,
            received_millis: 0,
            room: None,
            answer: Answer::Reply(None),
            previews: OnceLock::new(),
        }
    }

    #[tokio::test]
    async fn a_lane_is_bounded_in_bytes_and_another_one_has_its_own_room() {
        let (lanes, mut queues) = Lanes::new();
        let large = 1024 * 1024;
        for _ in 0..4 {
            lanes.offer(asked("acme", large)).unwrap();
        }
        assert!(lanes.offer(asked("acme", 1)).is_err());
        let entry = |name: &str| std::ptr::from_ref(lanes.entry(&name.parse().unwrap()).unwrap());
        let other = (0..).map(|number| format!("c{number}")).find(|name| entry(name) != entry("acme"));
        lanes.offer(asked(&other.unwrap(), large)).unwrap();
        // Whatever is done with gives its room back.
        for queue in &mut queues {
            while let Ok(asked) = queue.requests.try_recv() {
                drop(asked);
            }
        }
        lanes.offer(asked("acme", large)).unwrap();
    }

    #[tokio::test]
    async fn what_is_turned_away_is_answered_even_when_the_pause_is_over_meanwhile() {
        let (send, mut waiting) = mpsc::channel(4);
        for number in 0..4 {
            send.send(number).await.expect("there is room");
        }
        let over = Notify::new();
        let answered = RefCell::new(Vec::new());
        let answer = async |number| {
            if number == 1 {
                over.notify_one();
            }
            tokio::task::yield_now().await;
            answered.borrow_mut().push(number);
        };
        turn_away(over.notified(), &mut waiting, &answer).await;
        let answered = answered.into_inner();
        let taken = 4 - waiting.len();
        assert!(taken >= 2 && answered.len() == taken, "{taken} were taken, {answered:?} answered");
    }
}
