//! Which events are about looks and nothing else.

use wanwright_schemas::event::{Change, Event};

/// Whether all of these events ask for a look, or tell of one that found nothing. A sweep over a fleet brings a great many
/// of both at once, and changes go first.
pub(super) fn are_all(events: &[Event]) -> bool {
    events.iter().all(|event| match event {
        Event::Site(_, change) => is_look(change),
        Event::Tunnel(_, change) => is_look(change),
        Event::Device(_, change) => is_look(change),
        Event::Customer(..) => false,
    })
}

fn is_look<S>(change: &Change<S>) -> bool {
    matches!(change, Change::DriftCheckRequested { .. } | Change::DriftNotFound { .. })
}
