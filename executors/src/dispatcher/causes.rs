//! What brings a target's orders about: the newest event that concerns it.

use std::collections::BTreeMap;

use wanwright_commands::{Customer, orders};
use wanwright_schemas::Event;
use wanwright_schemas::order::Target;
use wanwright_schemas::trace::TraceContext;

/// A message of a history: what happened, and in which trace.
#[derive(Debug, Clone)]
pub(super) struct Happened {
    /// Where the message is in its stream.
    pub(super) sequence: u64,
    /// What it says.
    pub(super) events: Vec<Event>,
    /// The trace it belongs to.
    pub(super) trace: Option<TraceContext>,
}

/// The targets whose orders may differ after all this, each with the trace of the newest message that concerns it. One
/// without a trace ends the older ones: what it brings about is nothing of theirs.
pub(super) fn affected(
    state: &Customer,
    mut happened: Vec<Happened>,
) -> BTreeMap<Target, Option<TraceContext>> {
    happened.sort_by_key(|message| message.sequence);
    let mut targets = BTreeMap::new();
    for message in happened {
        for target in orders::affected(state, &message.events) {
            targets.insert(target, message.trace.clone());
        }
    }
    targets
}
