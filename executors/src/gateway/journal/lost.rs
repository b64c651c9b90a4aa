//! What the journal knows to have been created, or perhaps created, and nobody else does.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;
use wanwright_schemas::effect::{Effect, Phase};

/// The method of a create that a Terraform provider was asked for.
pub(crate) const CREATE: &str = "create";

/// A create that a provider was asked for, whose object no state has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lost {
    /// The change in the journal.
    pub(crate) call: Uuid,
    /// The type of the resource.
    pub(crate) kind: String,
    /// Its id, where the provider or the vendor named one. Without one it may be that nothing was made.
    pub(crate) id: Option<String>,
}

/// What is lost of a target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Losses {
    /// Creates that foreign providers were asked for.
    pub(crate) creates: Vec<Lost>,
    /// Whether a call to the vendor may have created something that no state has.
    pub(crate) calls: bool,
}

/// What a state holds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Held {
    /// The ids of its objects.
    pub(crate) ids: BTreeSet<String>,
    /// How many objects of each type it has.
    pub(crate) kinds: BTreeMap<String, usize>,
}

/// A change with both of its halves.
struct Whole<'a> {
    effect: &'a Effect,
    /// Where its first half is, and where its second one: behind all others where it has none.
    first: usize,
    last: usize,
    status: Option<u16>,
    id: Option<&'a str>,
}

impl Whole<'_> {
    fn is_done(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }

    /// Whether the vendor may have done what was asked. It did not where it refused, or said that it is busy.
    fn may_have_happened(&self) -> bool {
        self.status.is_none_or(|status| !(400..500).contains(&status) && status != 503)
    }

    /// The id of what was deleted, or found not to be there.
    fn deleted(&self) -> Option<&str> {
        let is_gone = self.is_done() || matches!(self.status, Some(404 | 410));
        let of_provider = || Some(self.effect.path.split_once('/')?.1);
        match self.effect.method.as_str() {
            "delete" if is_gone => of_provider(),
            "DELETE" if is_gone => self.effect.path.rsplit('/').next(),
            _ => None,
        }
    }

    /// Whether it was a call to the vendor, and not one of a provider's changes.
    fn is_call(&self) -> bool {
        self.effect.method.bytes().all(|byte| byte.is_ascii_uppercase())
    }
}

/// The changes since the target was last settled.
fn wholes(effects: &[Effect]) -> Vec<Whole<'_>> {
    let settled = effects.iter().rposition(|effect| effect.phase == Phase::Settled);
    let mut wholes: Vec<Whole<'_>> = Vec::new();
    for (place, effect) in effects.iter().enumerate().skip(settled.map_or(0, |settled| settled + 1)) {
        let known = wholes.iter().position(|whole| whole.effect.call == effect.call);
        match (&effect.phase, known) {
            (Phase::Before, None) => {
                wholes.push(Whole { effect, first: place, last: usize::MAX, status: None, id: None });
            }
            (Phase::After { status, id }, Some(known)) => {
                if let Some(whole) = wholes.get_mut(known) {
                    // 0: the vendor was asked and gave no answer.
                    (whole.last, whole.status) = (place, Some(*status).filter(|status| *status != 0));
                    whole.id = id.as_deref().or(whole.id);
                }
            }
            (Phase::Withheld, Some(known)) => drop(wholes.remove(known)),
            _ => {}
        }
    }
    wholes
}

/// What was created since the target was last settled, or may have been, that a state does not hold and that was not
/// deleted since.
pub(crate) fn lost(effects: &[Effect], held: &Held) -> Losses {
    let wholes = wholes(effects);
    let is_gone = |id: &str, since: usize| {
        held.ids.contains(id) || wholes.iter().any(|whole| whole.first > since && whole.deleted() == Some(id))
    };
    let is_lost_call = |call: &&Whole<'_>| {
        call.is_call()
            && call.effect.method == "POST"
            && call.may_have_happened()
            && call.id.is_none_or(|id| !is_gone(id, call.first))
    };
    let mut creates = Vec::new();
    for create in wholes.iter().filter(|whole| whole.effect.method == CREATE) {
        let kind = create.effect.path.split('/').next().unwrap_or_default().to_owned();
        let lost = |id: Option<&str>| Lost {
            call: create.effect.call,
            kind: kind.clone(),
            id: id.map(str::to_owned),
        };
        match create.id {
            Some(id) if !is_gone(id, create.first) => creates.push(lost(Some(id))),
            Some(_) => {}
            None if create.is_done() => creates.push(lost(None)),
            // It was looked for later, and not found.
            None if !create.may_have_happened() => {}
            None => {
                // What the provider itself asked the vendor for says whether there may be anything.
                let within = |call: &&Whole<'_>| call.first > create.first && call.first < create.last;
                let calls: Vec<&Whole<'_>> = wholes.iter().filter(within).filter(is_lost_call).collect();
                match calls[..] {
                    [] => {}
                    [only] => creates.push(lost(only.id)),
                    _ => creates.push(lost(None)),
                }
            }
        }
    }
    forget_nameless(&mut creates, &wholes, held);
    let calls = wholes.iter().any(|whole| is_lost_call(&whole));
    Losses { creates, calls }
}

/// Objects of a type without ids cannot be told apart: as many as the state has of them are not lost.
fn forget_nameless(creates: &mut Vec<Lost>, wholes: &[Whole<'_>], held: &Held) {
    let is_answered = |lost: &Lost| {
        lost.id.is_none() && wholes.iter().any(|whole| whole.effect.call == lost.call && whole.is_done())
    };
    let kinds: BTreeSet<String> =
        creates.iter().filter(|lost| is_answered(lost)).map(|lost| lost.kind.clone()).collect();
    for kind in kinds {
        let made = creates.iter().filter(|lost| lost.kind == kind && is_answered(lost)).count();
        let deleted = wholes.iter().filter(|whole| whole.effect.method == "delete" && whole.is_done());
        let deleted = deleted.filter(|whole| whole.effect.path == kind).count();
        if made.saturating_sub(deleted) <= held.kinds.get(&kind).copied().unwrap_or_default() {
            creates.retain(|lost| lost.kind != kind || !is_answered(lost));
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use wanwright_schemas::OrderId;

    use super::*;

    fn effect((call, method, path): (u128, &str, &str), phase: Phase) -> Effect {
        Effect {
            v: 2,
            time: Timestamp::UNIX_EPOCH,
            order: OrderId::of_digest([0; 32]),
            call: Uuid::from_u128(call),
            method: method.to_owned(),
            path: path.to_owned(),
            key: None,
            phase,
        }
    }

    const SITE: (u128, &str, &str) = (1, CREATE, "other_site");
    const POST: (u128, &str, &str) = (2, "POST", "/v1/sites");

    fn before(change: (u128, &str, &str)) -> Effect {
        effect(change, Phase::Before)
    }

    fn after(change: (u128, &str, &str), status: u16, id: Option<&str>) -> Effect {
        effect(change, Phase::After { status, id: id.map(str::to_owned) })
    }

    fn held(ids: &[&str]) -> Held {
        let ids: BTreeSet<String> = ids.iter().map(|id| (*id).to_owned()).collect();
        let kinds = BTreeMap::from([("other_site".to_owned(), ids.len())]);
        Held { ids, kinds }
    }

    /// The ids of what is lost, and whether a call is.
    fn told(effects: &[Effect], ids: &[&str]) -> (Vec<Option<String>>, bool) {
        let losses = lost(effects, &held(ids));
        (losses.creates.into_iter().map(|lost| lost.id).collect(), losses.calls)
    }

    fn some(id: &str) -> Vec<Option<String>> {
        vec![Some(id.to_owned())]
    }

    #[test]
    fn what_was_answered_is_lost_where_no_state_has_it_and_nobody_deleted_it() {
        let made = [before(SITE), before(POST), after(POST, 201, Some("s-1")), after(SITE, 200, Some("s-1"))];
        assert_eq!(told(&made, &[]), (some("s-1"), true));
        assert_eq!(told(&made, &["s-1"]), (vec![], false));
        assert_eq!(told(&made, &["s-2"]), (some("s-1"), true));
        let deletes = [(3, "delete", "other_site/s-1"), (4, "DELETE", "/v1/sites/s-1")];
        for delete in deletes {
            let answered = |status| [&made[..], &[before(delete), after(delete, status, None)]].concat();
            assert_eq!(told(&answered(204), &[]), (vec![], false), "{delete:?}");
            assert_eq!(told(&answered(409), &[]), (some("s-1"), true), "{delete:?}");
            let again = [(5, CREATE, "other_site"), (6, "POST", "/v1/sites")];
            let again = again.map(|create| [before(create), after(create, 200, Some("s-1"))]).concat();
            assert_eq!(told(&[answered(204), again].concat(), &[]), (some("s-1"), true), "made again");
        }
        let settled = [&made[..], &[effect((0, "", ""), Phase::Settled)]].concat();
        assert_eq!(told(&settled, &[]), (vec![], false));
    }

    #[test]
    fn a_create_without_an_answer_is_judged_by_what_the_provider_asked_the_vendor_for() {
        let around = |calls: &[Effect], end: &[Effect]| [&[before(SITE)], calls, end].concat();
        for end in [&[][..], &[after(SITE, 0, None)]] {
            let told = |calls: &[Effect]| told(&around(calls, end), &[]);
            assert_eq!(told(&[]), (vec![], false), "nothing was asked for");
            for refused in [400, 409, 429, 503] {
                assert_eq!(told(&[before(POST), after(POST, refused, None)]), (vec![], false), "{refused}");
            }
            assert_eq!(told(&[before(POST), effect(POST, Phase::Withheld)]), (vec![], false));
            assert_eq!(told(&[before(POST)]), (vec![None], true));
            for unsure in [0, 500, 504] {
                assert_eq!(told(&[before(POST), after(POST, unsure, None)]), (vec![None], true), "{unsure}");
            }
            assert_eq!(told(&[before(POST), after(POST, 201, Some("s-1"))]), (some("s-1"), true));
            let other = (9, "POST", "/v1/sites");
            let both =
                [before(POST), before(other), after(POST, 201, Some("s-1")), after(other, 201, Some("s-2"))];
            assert_eq!(told(&both), (vec![None], true), "which of the two is not known");
        }
        // It was found out later.
        let open = around(&[before(POST)], &[]);
        let found = |status, id| told(&[&open[..], &[after(SITE, status, id)]].concat(), &["s-1"]).0;
        assert_eq!((found(200, Some("s-1")), found(404, None)), (vec![], vec![]));
    }

    #[test]
    fn of_objects_without_ids_as_many_as_the_state_has_are_not_lost() {
        let create = |call| (call, CREATE, "other_site");
        let made = |call| [before(create(call)), after(create(call), 200, None)];
        let two = [made(1), made(2)].concat();
        assert_eq!(told(&two, &["a", "b"]).0, vec![]);
        assert_eq!(told(&two, &["a"]).0, vec![None, None]);
        let delete = (3, "delete", "other_site");
        let one = [two, vec![before(delete), after(delete, 200, None)]].concat();
        assert_eq!(told(&one, &["a"]).0, vec![]);
    }
}
