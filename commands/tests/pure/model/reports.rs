//! What becomes of a report.

use wanwright_schemas::event::{Change, Event};
use wanwright_schemas::policy::CustomerChange;

use super::{Kind, Model};

impl Model {
    /// Learns what became of a report.
    pub fn learn(&mut self, event: &Event) {
        match event {
            Event::Site(id, change) => self.learn_of(Kind::Site, id.as_str(), change),
            Event::Tunnel(id, change) => self.learn_of(Kind::Tunnel, id.as_str(), change),
            Event::Device(id, change) => self.learn_of(Kind::Device, id.as_str(), change),
            Event::Customer(_, CustomerChange::Removed {}) => {
                assert!(self.leaving && self.things.is_empty());
                self.end();
            }
            Event::Customer(..) => panic!("no report says that"),
        }
    }

    fn learn_of<S>(&mut self, kind: Kind, id: &str, change: &Change<S>) {
        let name: u8 = id[1..].parse().expect("a number");
        let at = self.find(kind, name).expect("reports are about what is there");
        let thing = &mut self.things[at];
        match change {
            Change::Applied { generation, .. } => {
                assert!(thing.observed <= *generation && *generation <= thing.generation);
                thing.observed = *generation;
                thing.tried = false;
                if *generation == thing.generation {
                    (thing.failed, thing.drifted, thing.again) = (false, false, false);
                    thing.known = None;
                    thing.begins_anew();
                }
            }
            Change::Failed { generation, .. } => {
                assert!(*generation == thing.generation && !thing.failed);
                (thing.failed, thing.tried) = (true, true);
                thing.known = thing.known.filter(|failure| !failure);
                thing.begins_anew();
            }
            Change::Removed { .. } => {
                assert!(thing.leaving);
                let past = std::mem::take(&mut thing.past);
                self.gone.extend(past.into_iter().map(|(generation, _)| (kind, name, generation)));
                self.things.remove(at);
            }
            // Its window was missed, and the next one is told of with whatever is decided next.
            Change::Postponed { generation, .. } => {
                assert!(thing.late && thing.pending() && thing.waits.is_none());
                assert_eq!(*generation, thing.generation);
            }
            // They all drift in the same way.
            Change::DriftFound { .. } => thing.drifted = true,
            Change::DriftNotFound { .. } => {
                thing.drifted = false;
                thing.known = thing.known.filter(|failure| *failure);
            }
            Change::Created { .. }
            | Change::Changed { .. }
            | Change::DecommissionRequested { .. }
            | Change::RetryRequested { .. }
            | Change::DriftCheckRequested { .. }
            | Change::ContactChanged { .. }
            | Change::Suspended { .. }
            | Change::Resumed {}
            | Change::Protected {}
            | Change::Unprotected {}
            | Change::PlanRequested { .. }
            | Change::Planned { .. }
            | Change::PlanApplied { .. }
            | Change::PlanStale { .. }
            | Change::ApprovalRequested { .. }
            | Change::Approved { .. }
            | Change::Rejected { .. }
            | Change::Due { .. }
            | Change::Released { .. }
            | Change::Cancelled { .. }
            | Change::Acknowledged { .. }
            | Change::TemplateAssigned { .. }
            | Change::Noted { .. } => panic!("no report says that"),
        }
    }
}
