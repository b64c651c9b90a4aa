//! What the journal knows to have been created, or perhaps created, and nobody else does.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;
use wanwright_schemas::effect::{Effect, Phase};

/// The method of a create that a foreign Terraform provider was asked for.
pub(crate) const CREATE: &str = "create";

/// The same of ours, of an object that neither a key nor a name surely finds again.
pub(crate) const OWN_CREATE: &str = "make";

/// Something that was asked for, whose object no state has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lost {
    /// The change in the journal.
    pub(crate) call: Uuid,
    /// The type of the resource; of a call the kind of object.
    pub(crate) kind: String,
    /// Its id, where the provider or the vendor named one. Without one it may be that nothing was made.
    pub(crate) id: Option<String>,
}

/// What is lost of a target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Losses {
    /// Creates that foreign providers were asked for.
    pub(crate) creates: Vec<Lost>,
    /// Creates that ours was asked for.
    pub(crate) own: Vec<Lost>,
    /// Calls to the vendor that were made for no create of these, one for each kind of object that it may have made.
    pub(crate) calls: Vec<Lost>,
}

impl Losses {
    pub(crate) fn is_any(&self) -> bool {
        self.all().next().is_some()
    }

    fn all(&self) -> impl Iterator<Item = &Lost> {
        [&self.creates, &self.own, &self.calls].into_iter().flatten()
    }

    /// All of it, with the ids as far as they are known: what a person is to look at.
    pub(crate) fn cases(&self) -> BTreeMap<Uuid, Option<String>> {
        self.all().map(|lost| (lost.call, lost.id.clone())).collect()
    }

    /// Leaves out what a person has looked at. Of what has got an id since, the person could not know.
    pub(crate) fn leave_out(&mut self, looked_at: &BTreeMap<Uuid, Option<String>>) {
        for losses in [&mut self.creates, &mut self.own, &mut self.calls] {
            losses.retain(|lost| looked_at.get(&lost.call) != Some(&lost.id));
        }
    }
}

/// What a state holds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Held {
    /// Its objects, by type and id.
    pub(crate) ids: BTreeSet<(String, String)>,
    /// How many objects of each type it has.
    pub(crate) kinds: BTreeMap<String, usize>,
}

/// What a vendor's folder says of types and calls.
pub(crate) trait Kinds {
    /// The kind of object that resources of a type are.
    fn of_type(&self, r#type: &str) -> Option<&str>;
    /// The kinds of object that a call may have made.
    fn made_by(&self, method: &str, path: &str) -> Vec<&str>;
    /// The kinds of object that a call may have deleted.
    fn deleted_by(&self, method: &str, path: &str) -> Vec<&str>;
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

    /// Whether what was to be deleted is gone.
    fn is_gone(&self) -> bool {
        self.is_done() || matches!(self.status, Some(404 | 410))
    }

    fn is_create(&self) -> bool {
        matches!(self.effect.method.as_str(), CREATE | OWN_CREATE)
    }

    /// The type of what a provider was asked for.
    fn r#type(&self) -> &str {
        self.effect.path.split('/').next().unwrap_or_default()
    }

    fn has_within(&self, call: &Self) -> bool {
        call.first > self.first && call.first < self.last
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
pub(crate) fn lost(effects: &[Effect], held: &Held, kinds: &impl Kinds) -> Losses {
    let told = Told { wholes: wholes(effects), held, kinds };
    let mut losses = told.losses();
    told.forget_nameless(&mut losses.creates);
    losses
}

struct Told<'a, K> {
    wholes: Vec<Whole<'a>>,
    held: &'a Held,
    kinds: &'a K,
}

impl<K: Kinds> Told<'_, K> {
    fn losses(&self) -> Losses {
        let creates: Vec<&Whole<'_>> = self.wholes.iter().filter(|whole| whole.is_create()).collect();
        let mut calls: Vec<&Whole<'_>> =
            self.wholes.iter().filter(|call| self.is_making(call) && call.may_have_happened()).collect();
        self.give_away(&creates, &mut calls);
        let open: Vec<&Whole<'_>> = creates.iter().copied().filter(|create| is_open(create)).collect();
        let mut losses = Losses::default();
        for create in creates {
            let is_missing = |id: &str| !self.is_accounted(create.r#type(), id, create.first);
            let id = match create.id {
                Some(id) => is_missing(id).then(|| Some(id.to_owned())),
                None if create.is_done() => Some(None),
                None if !is_open(create) => None,
                None => self.asked(create, &open, &calls),
            };
            let Some(id) = id else { continue };
            let lost = Lost { call: create.effect.call, kind: create.r#type().to_owned(), id };
            if create.effect.method == OWN_CREATE { losses.own.push(lost) } else { losses.creates.push(lost) }
        }
        let is_apart = |call: &&Whole<'_>| {
            let of = |create: &Whole<'_>| create.has_within(call) && self.may_be_of(call, create);
            call.effect.key.is_none() && !self.wholes.iter().any(|whole| whole.is_create() && of(whole))
        };
        losses.calls = calls.iter().filter(|call| is_apart(call)).flat_map(|call| self.apart(call)).collect();
        losses
    }

    /// Takes away the calls that it is known of for which create they were made. Each create has one at most.
    fn give_away(&self, creates: &[&Whole<'_>], calls: &mut Vec<&Whole<'_>>) {
        let mut creates = creates.to_vec();
        // Who ended first can have the fewest.
        creates.sort_by_key(|create| create.last);
        for create in creates {
            let is_its = |call: &&Whole<'_>| {
                let is_accounted = |id: &str| self.is_accounted(create.r#type(), id, call.first);
                let same = match create.id {
                    Some(id) => call.id == Some(id),
                    None => is_open(create) && call.id.is_some_and(is_accounted),
                };
                same && create.has_within(call) && self.may_be_of(call, create)
            };
            // Ours makes one such call, and was answered: that has no id where others have theirs.
            let is_nameless = |call: &&Whole<'_>| {
                let is_of_kind = || self.is_of_kind(call, create);
                create.effect.method == OWN_CREATE
                    && create.is_done()
                    && call.id.is_none()
                    && create.has_within(call)
                    && is_of_kind()
            };
            let found = calls.iter().position(is_its).or_else(|| calls.iter().position(is_nameless));
            if let Some(found) = found {
                calls.remove(found);
            }
        }
    }

    /// What a create without an answer may have made, by what the provider itself asked the vendor for; none where that is
    /// nothing. It has an id only where it is known of one call that it was made for this create and no other.
    fn asked(&self, create: &Whole<'_>, open: &[&Whole<'_>], calls: &[&Whole<'_>]) -> Option<Option<String>> {
        let claimants = |call: &Whole<'_>| -> Vec<Uuid> {
            let within = || open.iter().filter(|create| create.has_within(call));
            let of_kind: Vec<Uuid> = within()
                .filter(|create| self.is_of_kind(call, create))
                .map(|create| create.effect.call)
                .collect();
            match of_kind.is_empty() {
                true => within().map(|create| create.effect.call).collect(),
                false => of_kind,
            }
        };
        let is_in_state = |call: &Whole<'_>| {
            let is_accounted = |id: &str| self.is_accounted(create.r#type(), id, call.first);
            call.id.is_some_and(is_accounted) && self.may_be_of(call, create)
        };
        let its: Vec<(&Whole<'_>, usize)> = calls
            .iter()
            .filter(|call| !is_in_state(call))
            .map(|call| (*call, claimants(call)))
            .filter(|(_, claimants)| claimants.contains(&create.effect.call))
            .map(|(call, claimants)| (call, claimants.len()))
            .collect();
        match its[..] {
            [] => None,
            [(only, 1)] => Some(only.id.map(str::to_owned)),
            _ => Some(None),
        }
    }

    /// What a call that was made for no create of the journal may have made.
    fn apart(&self, call: &Whole<'_>) -> Vec<Lost> {
        let Effect { method, path, .. } = call.effect;
        let is_held = |kind: &str, id: &str| {
            let mut ids = self.held.ids.iter();
            ids.any(|(of, held)| held == id && self.kinds.of_type(of) == Some(kind))
                || self.is_deleted(None, Some(kind), id, call.first)
        };
        let lost = |kind: &str| Lost {
            call: call.effect.call,
            kind: kind.to_owned(),
            id: call.id.map(str::to_owned),
        };
        let kinds = self.kinds.made_by(method, path).into_iter();
        kinds.filter(|kind| call.id.is_none_or(|id| !is_held(kind, id))).map(lost).collect()
    }

    /// Whether a call asks for an object: as the vendor's folder says, or as calls do as a rule.
    fn is_making(&self, call: &Whole<'_>) -> bool {
        let Effect { method, path, .. } = call.effect;
        method == "POST" || !self.kinds.made_by(method, path).is_empty()
    }

    /// Whether the vendor's folder says that a call makes objects of a create's kind.
    fn is_of_kind(&self, call: &Whole<'_>, create: &Whole<'_>) -> bool {
        let made = self.kinds.made_by(&call.effect.method, &call.effect.path);
        self.kinds.of_type(create.r#type()).is_some_and(|kind| made.contains(&kind))
    }

    /// The same, or it says nothing of the one or the other.
    fn may_be_of(&self, call: &Whole<'_>, create: &Whole<'_>) -> bool {
        self.is_of_kind(call, create)
            || self.kinds.of_type(create.r#type()).is_none()
            || self.kinds.made_by(&call.effect.method, &call.effect.path).is_empty()
    }

    /// Whether the state holds an object, or it was deleted since.
    fn is_accounted(&self, r#type: &str, id: &str, since: usize) -> bool {
        self.held.ids.contains(&(r#type.to_owned(), id.to_owned()))
            || self.is_deleted(Some(r#type), self.kinds.of_type(r#type), id, since)
    }

    fn is_deleted(&self, r#type: Option<&str>, kind: Option<&str>, id: &str, since: usize) -> bool {
        let is_it = |whole: &Whole<'_>| {
            let Effect { method, path, .. } = whole.effect;
            match method.as_str() {
                "delete" => path.split_once('/').is_some_and(|(of, deleted)| {
                    deleted == id
                        && r#type.map_or_else(|| self.kinds.of_type(of) == kind, |r#type| r#type == of)
                }),
                method => {
                    path.rsplit('/').next() == Some(id)
                        && kind.is_some_and(|kind| self.kinds.deleted_by(method, path).contains(&kind))
                }
            }
        };
        self.wholes.iter().any(|whole| whole.first > since && whole.is_gone() && is_it(whole))
    }

    /// Objects of a type without ids cannot be told apart: as many as the state has of them are not lost.
    fn forget_nameless(&self, creates: &mut Vec<Lost>) {
        let is_answered = |lost: &Lost| {
            let mut wholes = self.wholes.iter();
            lost.id.is_none() && wholes.any(|whole| whole.effect.call == lost.call && whole.is_done())
        };
        let kinds: BTreeSet<String> =
            creates.iter().filter(|lost| is_answered(lost)).map(|lost| lost.kind.clone()).collect();
        for kind in kinds {
            let made = creates.iter().filter(|lost| lost.kind == kind && is_answered(lost)).count();
            let deleted =
                self.wholes.iter().filter(|whole| whole.effect.method == "delete" && whole.is_done());
            let deleted = deleted.filter(|whole| whole.effect.path == kind).count();
            if made.saturating_sub(deleted) <= self.held.kinds.get(&kind).copied().unwrap_or_default() {
                creates.retain(|lost| lost.kind != kind || !is_answered(lost));
            }
        }
    }
}

/// Whether a create has no answer, and was not looked for later and not found.
fn is_open(create: &Whole<'_>) -> bool {
    create.id.is_none() && !create.is_done() && create.may_have_happened()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use wanwright_schemas::OrderId;

    use super::*;

    fn effect((call, method, path): Asked, phase: Phase) -> Effect {
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

    type Asked = (u128, &'static str, &'static str);

    const SITE: Asked = (1, CREATE, "other_site");
    const POST: Asked = (2, "POST", "/v1/sites");

    /// A vendor with two kinds of objects, which also takes documents.
    struct Folder;

    impl Kinds for Folder {
        fn of_type(&self, r#type: &str) -> Option<&str> {
            ["site", "tunnel"].into_iter().find(|kind| r#type.ends_with(kind))
        }

        fn made_by(&self, method: &str, path: &str) -> Vec<&str> {
            match (method, path) {
                ("POST", "/v1/sites") => vec!["site"],
                ("POST", "/v1/tunnels") => vec!["tunnel"],
                ("POST", "/graphql") => vec!["site", "tunnel"],
                _ => Vec::new(),
            }
        }

        fn deleted_by(&self, method: &str, path: &str) -> Vec<&str> {
            let kinds = [("/v1/sites/", "site"), ("/v1/tunnels/", "tunnel")];
            let is_it = |(item, _): &(&str, &str)| method == "DELETE" && path.starts_with(item);
            kinds.into_iter().filter(is_it).map(|(_, kind)| kind).collect()
        }
    }

    fn before(change: Asked) -> Effect {
        effect(change, Phase::Before)
    }

    fn after(change: Asked, status: u16, id: Option<&str>) -> Effect {
        effect(change, Phase::After { status, id: id.map(str::to_owned) })
    }

    /// A state with these sites.
    fn held(ids: &[&str]) -> Held {
        let ids: BTreeSet<_> = ids.iter().map(|id| ("other_site".to_owned(), (*id).to_owned())).collect();
        let kinds = BTreeMap::from([("other_site".to_owned(), ids.len())]);
        Held { ids, kinds }
    }

    /// The ids of what is lost of creates, with sites in the state.
    fn told(effects: &[Effect], ids: &[&str]) -> Vec<Option<String>> {
        lost(effects, &held(ids), &Folder).creates.into_iter().map(|lost| lost.id).collect()
    }

    /// Kinds and ids of what calls apart may have made.
    fn apart(effects: &[Effect], ids: &[&str]) -> Vec<(String, Option<String>)> {
        lost(effects, &held(ids), &Folder).calls.into_iter().map(|lost| (lost.kind, lost.id)).collect()
    }

    fn some(id: &str) -> Vec<Option<String>> {
        vec![Some(id.to_owned())]
    }

    #[test]
    fn what_was_answered_is_lost_where_no_state_has_it_and_nobody_deleted_it() {
        let made = [before(SITE), before(POST), after(POST, 201, Some("s-1")), after(SITE, 200, Some("s-1"))];
        assert_eq!(told(&made, &[]), some("s-1"));
        assert_eq!(told(&made, &["s-1"]), vec![]);
        assert_eq!(told(&made, &["s-2"]), some("s-1"));
        for delete in [(3, "delete", "other_site/s-1"), (4, "DELETE", "/v1/sites/s-1")] {
            let answered = |status| [&made[..], &[before(delete), after(delete, status, None)]].concat();
            assert_eq!(told(&answered(204), &[]), vec![], "{delete:?}");
            assert_eq!(told(&answered(409), &[]), some("s-1"), "{delete:?}");
            let again = (5, CREATE, "other_site");
            let again = [before(again), after(again, 200, Some("s-1"))];
            assert_eq!(told(&[&answered(204)[..], &again].concat(), &[]), some("s-1"), "made again");
        }
        let settled = [&made[..], &[effect((0, "", ""), Phase::Settled)]].concat();
        assert_eq!(told(&settled, &[]), vec![]);
    }

    #[test]
    fn an_id_is_one_of_its_type() {
        let tunnel = (5, CREATE, "other_tunnel");
        let made = [before(tunnel), after(tunnel, 200, Some("1"))];
        assert_eq!(told(&made, &["1"]), some("1"), "the site with that id is another object");
        for (delete, is_it) in [
            ((6, "delete", "other_site/1"), false),
            ((6, "DELETE", "/v1/sites/1"), false),
            ((6, "delete", "other_tunnel/1"), true),
            ((6, "DELETE", "/v1/tunnels/1"), true),
        ] {
            let deleted = [&made[..], &[before(delete), after(delete, 204, None)]].concat();
            assert_eq!(told(&deleted, &["1"]).is_empty(), is_it, "{delete:?}");
        }
        let call = (7, "POST", "/v1/tunnels");
        let called = [before(call), after(call, 201, Some("1"))];
        assert_eq!(told(&[&[before(tunnel)][..], &called].concat(), &["1"]), some("1"));
        assert_eq!(apart(&called, &["1"]), [("tunnel".to_owned(), Some("1".to_owned()))]);
    }

    #[test]
    fn a_call_is_given_to_one_create_at_most() {
        let (one, two) = ((11, CREATE, "other_tunnel"), (12, CREATE, "other_tunnel"));
        let (first, second) = ((13, "POST", "/v1/tunnels"), (14, "POST", "/v1/tunnels"));
        let begun = [before(one), before(two), before(first), after(first, 201, Some("t-1"))];
        assert_eq!(told(&begun, &[]), vec![None, None], "whose it is cannot be told");
        let answered = [&begun[..], &[after(one, 200, Some("t-1"))]].concat();
        assert_eq!(told(&answered, &[]), some("t-1"), "the other one has asked for nothing");
        let both = [&answered[..], &[before(second), after(second, 201, Some("t-2"))]].concat();
        assert_eq!(told(&both, &[]), [some("t-1"), some("t-2")].concat());
        // What the vendor's folder says of a call tells a site from a tunnel.
        let apart = [before(SITE), before(one), before(first), after(first, 201, Some("t-1"))];
        assert_eq!(told(&apart, &[]), some("t-1"));
        let graph = (15, "POST", "/graphql");
        let apart = [before(SITE), before(one), before(graph), after(graph, 200, None)];
        assert_eq!(told(&apart, &[]), vec![None, None]);
    }

    #[test]
    fn an_answer_without_an_id_is_lost_only_where_nothing_else_tells() {
        let ours = |call| (call, OWN_CREATE, "other_site");
        let own = |effects: &[Effect], ids: &[&str]| -> Vec<Option<String>> {
            lost(effects, &held(ids), &Folder).own.into_iter().map(|lost| lost.id).collect()
        };
        let graph = (2, "POST", "/graphql");
        for call in [POST, graph] {
            let made =
                [before(ours(1)), before(call), after(call, 200, None), after(ours(1), 200, Some("s-1"))];
            assert_eq!((own(&made, &["s-1"]), apart(&made, &["s-1"])), (vec![], vec![]), "{call:?}");
            assert_eq!(own(&made, &[]), some("s-1"));
            assert_eq!(own(&made[..3], &["s-1"]), vec![None], "it has not ended");
            // Beside it another one, which the vendor had no time for.
            let busy = (8, "POST", call.2);
            let beside = [&[before(ours(9))], &made[..], &[before(busy), after(busy, 429, None)]].concat();
            assert_eq!(own(&beside, &["s-1"]), vec![], "{call:?}");
            let beside = [&[before(ours(9)), before(busy)], &made[..], &[after(busy, 202, None)]].concat();
            assert_eq!(own(&beside, &["s-1"]), vec![None], "{call:?}");
        }
        // Of no create: as far as the folder says what it makes, and no key finds it again.
        let called = |call: Asked| [before(call), after(call, 200, None)];
        assert_eq!(apart(&called(POST), &["s-1"]), [("site".to_owned(), None)]);
        assert_eq!(apart(&called((2, "POST", "/v1/sites/1/deploy")), &[]), []);
        let keyed = called(POST).map(|effect| Effect { key: Some("k".to_owned()), ..effect });
        assert_eq!(apart(&keyed, &[]), []);
    }

    #[test]
    fn what_a_person_has_looked_at_is_that_and_no_more() {
        let losses = |effects: &[Effect]| lost(effects, &held(&[]), &Folder);
        let open = [before(SITE), before(POST)];
        let looked_at = losses(&open).cases();
        let left = |effects: &[Effect]| {
            let mut losses = losses(effects);
            losses.leave_out(&looked_at);
            losses.cases().len()
        };
        assert_eq!((looked_at.len(), left(&open)), (1, 0));
        let later = (9, "POST", "/v1/tunnels");
        assert_eq!(left(&[&open[..], &[after(SITE, 0, None), before(later)]].concat()), 1);
        let answered = [&open[..], &[after(POST, 201, Some("s-1"))]].concat();
        assert_eq!(left(&answered), 1, "it came when nobody looked any more");
    }

    #[test]
    fn a_create_without_an_answer_is_judged_by_what_the_provider_asked_the_vendor_for() {
        let around = |calls: &[Effect], end: &[Effect]| [&[before(SITE)], calls, end].concat();
        for end in [&[][..], &[after(SITE, 0, None)]] {
            let told = |calls: &[Effect]| told(&around(calls, end), &[]);
            assert_eq!(told(&[]), vec![], "nothing was asked for");
            for refused in [400, 409, 429, 503] {
                assert_eq!(told(&[before(POST), after(POST, refused, None)]), vec![], "{refused}");
            }
            assert_eq!(told(&[before(POST), effect(POST, Phase::Withheld)]), vec![]);
            assert_eq!(told(&[before(POST)]), vec![None]);
            for unsure in [0, 500, 504] {
                assert_eq!(told(&[before(POST), after(POST, unsure, None)]), vec![None], "{unsure}");
            }
            assert_eq!(told(&[before(POST), after(POST, 201, Some("s-1"))]), some("s-1"));
            let other = (9, "POST", "/v1/sites");
            let both =
                [before(POST), before(other), after(POST, 201, Some("s-1")), after(other, 201, Some("s-2"))];
            assert_eq!(told(&both), vec![None], "which of the two is not known");
        }
        // It was found out later.
        let open = around(&[before(POST)], &[]);
        let found = |status, id| told(&[&open[..], &[after(SITE, status, id)]].concat(), &["s-1"]);
        assert_eq!((found(200, Some("s-1")), found(404, None)), (vec![], vec![]));
    }

    #[test]
    fn of_objects_without_ids_as_many_as_the_state_has_are_not_lost() {
        let create = |call| (call, CREATE, "other_site");
        let made = |call| [before(create(call)), after(create(call), 200, None)];
        let two = [made(1), made(2)].concat();
        assert_eq!(told(&two, &["a", "b"]), vec![]);
        assert_eq!(told(&two, &["a"]), vec![None, None]);
        let delete = (3, "delete", "other_site");
        let one = [two, vec![before(delete), after(delete, 200, None)]].concat();
        assert_eq!(told(&one, &["a"]), vec![]);
    }
}
