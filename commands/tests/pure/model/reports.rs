//! What becomes of a report.

use wanwright_schemas::Reason;

use super::orders::{AtVendor, Intent, Order};
use super::plans::{Planned, Told};
use super::{Kind, Model, Thing};

/// What an executor says came of a thing, or is recorded of that.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    Applied(u64, AtVendor),
    Failed(u64, Reason),
    Removed,
    /// A look that the command of this number asked for found a difference, or none.
    Drifted(u64),
    InSync(u64),
    /// A plan was made, as it is told and as it is recorded.
    Told(Told),
    Planned(Planned),
    /// The plan of this file cannot be applied, or was.
    PlanStale(usize),
    PlanApplied(usize),
}

/// What an executor says about the thing that the command of a number made.
#[derive(Clone, Debug)]
pub struct Found {
    pub kind: Kind,
    pub name: u8,
    pub born: u64,
    pub what: What,
}

/// What is recorded of a report.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    About(Kind, u8, What),
    /// A generation has missed its window and waits for the one that opens at this minute.
    Postponed(Kind, u8, u64, i64),
    /// The customer is gone.
    End,
}

/// What is recorded about which thing.
type News = (Kind, u8, What);

impl Model {
    /// What is recorded of a report about a site or a device. The order is the one that it says it comes from, if that is one
    /// there ever was.
    pub fn report(
        &mut self,
        (kind, name): (Kind, u8),
        order: Option<&Order>,
        found: &[Found],
        now: i64,
    ) -> Vec<Said> {
        self.told += 1;
        let news = self.news(kind, name, order, found, now);
        for (kind, name, what) in &news {
            self.happens(*kind, *name, what);
        }
        let about: Vec<(Kind, u8)> = news.iter().map(|(kind, name, _)| (*kind, *name)).collect();
        let said = news.into_iter().map(|(kind, name, what)| Said::About(kind, name, what));
        let mut said: Vec<Said> = said.collect();
        if self.leaving && self.things.is_empty() {
            self.end();
            said.push(Said::End);
        } else {
            let missed = self.missed(&about, now).into_iter();
            said.extend(missed.map(|(kind, name, at, until)| Said::Postponed(kind, name, at, until)));
        }
        said
    }

    fn news(&self, kind: Kind, name: u8, order: Option<&Order>, found: &[Found], now: i64) -> Vec<News> {
        let Some(at) = self.find(kind, name) else { return Vec::new() };
        let target = &self.things[at];
        let (change, look) = self.orders(kind, name, Some(now));
        let due = change.filter(|change| Some(change) == order);
        let look = look.filter(|look| Some(look) == order);
        // Who began in time is heard.
        let begun = self.orders(kind, name, None).0.filter(|change| Some(change) == order);
        let change = begun.clone().or(due.clone());
        let mut news = Vec::new();
        // Of two things that are said about one, the first is heard.
        let is_first = |number: usize, found: &[Found]| {
            found[..number]
                .iter()
                .all(|other| (other.kind, other.name) != (found[number].kind, found[number].name))
        };
        let heard: Vec<&Found> =
            (0..found.len()).filter(|number| is_first(*number, found)).map(|number| &found[number]).collect();
        for Found { kind, name, born, what } in heard.iter().copied() {
            let Some(at) = self.find(*kind, *name) else { continue };
            let thing = &self.things[at];
            let is_of_it = self.together(target.kind, target.name).contains(&at) && thing.born == *born;
            let is_news = match what {
                What::Applied(generation, at_vendor) => {
                    thing.was_applied(*generation, at_vendor, change.is_some())
                }
                What::Failed(generation, _) => self.has_failed(thing, *generation, change.is_some()),
                What::Removed => thing.leaving,
                What::Drifted(check) | What::InSync(check) => {
                    let is_asked = look.as_ref().is_some_and(|look| look.intent == Intent::Look(*check));
                    // What waits was compared with what it is yet to be, and says nothing.
                    is_asked && (thing.check == Some(*check) || thing.observed == thing.generation)
                }
                What::Told(_) => thing.kind == Kind::Site,
                What::PlanStale(file) => {
                    let plan = begun.as_ref().and_then(|begun| begun.plan);
                    thing.kind == Kind::Site && plan.is_some_and(|(planned, _)| planned == *file)
                }
                What::Planned(_) | What::PlanApplied(_) => panic!("nobody reports {what:?}"),
            };
            // A failure is always the present generation's.
            let what = match what {
                What::Failed(_, code) => Some(What::Failed(thing.generation, *code)),
                What::Told(told) => {
                    due.as_ref().and_then(|due| self.planned(thing, due, *told, now)).map(What::Planned)
                }
                other => Some(other.clone()),
            };
            if let Some(what) = what.filter(|_| is_of_it && is_news) {
                news.push((*kind, *name, what));
            }
        }
        if kind == Kind::Site {
            self.of_the_whole(target, change, &heard, &mut news);
            let is_done = found.iter().all(|found| matches!(found.what, What::Applied(..) | What::Removed));
            if let Some((file, _)) = begun.and_then(|begun| begun.plan)
                && is_done
                && !found.is_empty()
            {
                news.insert(0, (kind, name, What::PlanApplied(file)));
            }
        }
        news
    }

    /// What follows for a site and its tunnels from what was said of each.
    fn of_the_whole(&self, site: &Thing, change: Option<Order>, found: &[&Found], news: &mut Vec<News>) {
        let failure = found.iter().find_map(|found| match found.what {
            What::Failed(_, code) => Some(code),
            _ => None,
        });
        // Where a part failed, a site does not have another version of the template.
        let given = |generation: u64| site.versions.iter().rposition(|(from, _)| *from <= generation);
        let brings = |what: &What| matches!(what, What::Applied(at, _) if given(*at) != given(site.observed));
        if let Some(code) = failure
            && site.observed > 0
            && let Some(at) = news.iter().position(|(kind, _, what)| *kind == Kind::Site && brings(what))
        {
            match change {
                Some(_) => news[at].2 = What::Failed(site.generation, code),
                None => drop(news.remove(at)),
            }
        }
        let is_gone = |thing: &Thing| news.contains(&(thing.kind, thing.name, What::Removed));
        // A site is gone with the last of what is there.
        if self.things.iter().any(|thing| thing.site == site.name && !is_gone(thing)) {
            news.retain(|(kind, _, what)| (*kind, what) != (Kind::Site, &What::Removed));
        }
        let Some((change, code)) = change.zip(failure) else { return };
        // A run that failed is over: what it did not get to has failed with it.
        for part in change.parts {
            let at = self.find(part.kind, part.name).expect("what the present order is about");
            let thing = &self.things[at];
            let is_said = news.iter().any(|(kind, name, _)| (*kind, *name) == (part.kind, part.name));
            // A tunnel without a far end is in the order as it was: of what it is to be nothing was tried.
            let is_meant = thing.leaving || part.generation == Some(thing.generation);
            if is_meant && !is_said && self.is_left(thing) {
                news.push((part.kind, part.name, What::Failed(thing.generation, code)));
            }
        }
    }

    /// Whether there is something left to be done about a thing, and thus to fail.
    fn is_left(&self, thing: &Thing) -> bool {
        thing.pending() || self.moved(thing)
    }

    fn has_failed(&self, thing: &Thing, generation: u64, is_wanted: bool) -> bool {
        let is_present = generation == thing.generation;
        // What an order from before says counts until somebody asks to try again. The order at hand does not say which
        // generation it is that goes.
        let counts = if is_wanted { is_present || thing.leaving } else { is_present && thing.retries == 0 };
        counts && self.is_left(thing)
    }

    fn happens(&mut self, kind: Kind, name: u8, what: &What) {
        let at = self.find(kind, name).expect("reports are about what is there");
        if let What::Planned(planned) = what {
            self.is_planned(at, planned);
        }
        let thing = &mut self.things[at];
        match what {
            What::Applied(generation, at_vendor) => {
                (thing.observed, thing.at_vendor) = (*generation, at_vendor.clone());
                thing.tried &= *generation != thing.generation;
                if *generation == thing.generation {
                    (thing.failed, thing.drifted, thing.again) = (None, false, false);
                    (thing.known, thing.planning, thing.plan) = (None, None, None);
                    thing.begins_anew();
                }
            }
            What::Failed(_, code) => {
                thing.failed = Some(*code);
                thing.known = thing.known.filter(|(of_failure, _)| !of_failure);
                thing.begins_anew();
            }
            What::Removed => {
                let past = std::mem::take(&mut thing.past);
                self.gone.extend(past.into_iter().map(|(generation, _)| (kind, name, generation)));
                self.things.remove(at);
            }
            What::Drifted(check) | What::InSync(check) => {
                let drifts = matches!(what, What::Drifted(_));
                // They all drift in the same way, so only where it begins or ends this is another trouble.
                if drifts != thing.drifted {
                    thing.known = thing.known.filter(|(of_failure, _)| *of_failure);
                }
                thing.drifted = drifts;
                thing.check = thing.check.filter(|asked| asked != check);
            }
            What::PlanApplied(_) => (thing.planning, thing.plan) = (None, None),
            What::PlanStale(_) => thing.plan = None,
            What::Told(_) | What::Planned(_) => {}
        }
    }
}

impl Thing {
    fn was_applied(&self, generation: u64, at_vendor: &AtVendor, is_wanted: bool) -> bool {
        if generation < 1 || generation < self.observed || self.generation < generation {
            return false;
        }
        // What somebody troubled about is put right by the order at hand only.
        let is_troubled = self.again || self.failed.is_some() || self.drifted;
        if generation == self.observed && generation == self.generation && is_troubled {
            return is_wanted;
        }
        generation != self.observed || *at_vendor != self.at_vendor
    }
}
