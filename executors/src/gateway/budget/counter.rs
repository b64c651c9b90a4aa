//! A desk with its keeper, as calls meet it: they wait for their turn, and say what came of it.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use wanwright_nats::Budgets;
use wanwright_schemas::CustomerId;

use super::class::Class;
use super::desk::Desk;
use super::keeper::Keeper;
use super::standing::Standing;
use super::{Priority, Turn};
use crate::vital;

/// What a keeper is told.
pub(super) enum Message {
    Ask { class: Class, priority: Priority, customer: CustomerId, turn: oneshot::Sender<Turn> },
    Worked,
    Failed(String),
    Unused,
    Block { limits: Vec<String>, time: Duration },
}

/// Where turns of one record are handed out.
pub(in crate::gateway) struct Counter {
    messages: mpsc::UnboundedSender<Message>,
    standing: watch::Receiver<Standing>,
}

/// A turn that was given. What came of it has to be said; dropped, it was not used.
pub(in crate::gateway) struct Ticket {
    messages: Option<mpsc::UnboundedSender<Message>>,
}

impl Counter {
    /// Starts handing out turns of the record with this key. `failed` is cancelled should that end before `stop`.
    pub(super) fn start(
        key: String,
        desk: Desk,
        budgets: Budgets,
        stop: &CancellationToken,
        failed: &CancellationToken,
    ) -> Self {
        let (tell, standing) = watch::channel(Standing::unknown());
        let (messages, inbox) = mpsc::unbounded_channel();
        let keeper = Keeper { budgets, key, desk, messages: inbox, tell };
        vital::spawn("budget", stop, failed, keeper.keep(stop.clone()));
        Self { messages, standing }
    }

    /// Waits for a turn. None: the gateway stops.
    pub(super) async fn turn(
        &self,
        class: Class,
        priority: Priority,
        customer: &CustomerId,
    ) -> Option<(Turn, Ticket)> {
        let (turn, mine) = oneshot::channel();
        let ask = Message::Ask { class, priority, customer: customer.clone(), turn };
        self.messages.send(ask).ok()?;
        let turn = mine.await.ok()?;
        let used = matches!(turn, Turn::Go).then(|| self.messages.clone());
        Some((turn, Ticket { messages: used }))
    }

    /// Leaves limits alone for a while, in all processes.
    pub(super) fn block(&self, limits: Vec<String>, time: Duration) {
        let _ = self.messages.send(Message::Block { limits, time });
    }

    /// How the record stands, now and from now on.
    pub(super) fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }
}

impl Ticket {
    /// That of a call which has no turn.
    pub(super) fn none() -> Self {
        Self { messages: None }
    }

    /// The vendor answered, and not that it is broken.
    pub(in crate::gateway) fn worked(mut self) {
        self.say(Message::Worked);
    }

    /// The vendor is broken, or does not know us.
    pub(in crate::gateway) fn failed(mut self, reason: String) {
        self.say(Message::Failed(reason));
    }

    fn say(&mut self, message: Message) {
        if let Some(messages) = self.messages.take() {
            let _ = messages.send(message);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.say(Message::Unused);
    }
}
