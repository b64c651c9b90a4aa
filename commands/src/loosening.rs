//! Changing a policy. Whatever makes it easier to get a change through is a change that needs approval itself, by the
//! rule that it loosens: else whoever wants no approval would take the rule away first.

use wanwright_schemas::ids::Kind;
use wanwright_schemas::policy::{CustomerSpec, Groups, Name};
use wanwright_schemas::reason::{Reason, Refusal};
use wanwright_schemas::rule::{Approvals, Approved, PlanRule, Rule};
use wanwright_schemas::window::WindowKind;

use crate::customer::Customer;
use crate::windows;

/// Refuses rules that nobody could follow.
pub(crate) fn can_be_followed(spec: &CustomerSpec) -> Result<(), Refusal> {
    for kind in Kind::ALL {
        let (word, by, group) = match spec.policy.of(kind) {
            Rule::Approve(Approvals { by, group: Some(group) }) => ("approve", by, group),
            Rule::Plan(PlanRule { by, group: Some(group), .. }) => ("plan", by, group),
            Rule::Apply | Rule::Approve(_) | Rule::Plan(_) => continue,
        };
        let members = spec.groups.get(group).map_or(0, |members| members.len());
        if u32::try_from(members).is_ok_and(|members| members < *by) {
            let message =
                format!("the group `{group}` has {members} members, and {by} of them are to approve");
            let field = format!("policy.{kind}.{word}");
            return Err(Refusal::new(Reason::InvalidValue, message).field(field));
        }
    }
    Ok(())
}

/// Whether the policy asks for an approval of anything.
pub(crate) fn asks(spec: &CustomerSpec) -> bool {
    Kind::ALL.iter().any(|kind| !matches!(spec.policy.of(*kind), Rule::Apply))
}

/// The approvals that other settings of a customer need; none when they loosen nothing.
///
/// # Errors
/// When they loosen rules that want different approvals: then each needs a change of its own.
pub(crate) fn approvals(state: &Customer, after: &CustomerSpec) -> Result<Option<Approvals>, Refusal> {
    let before = &state.own.spec;
    let rules = Kind::ALL.into_iter().filter_map(|kind| {
        let rule = before.policy.of(kind);
        // Who wants no approvals of changes wants none of when they are made either.
        let approvals = approvals_of(rule)?;
        let is_weaker = is_looser(rule, after.policy.of(kind)) || opens_wider(kind, before, after);
        is_weaker.then_some(approvals)
    });
    let grown = in_force(state).filter(|rule| {
        rule.group.as_ref().is_some_and(|group| has_grown(group, &before.groups, &after.groups))
    });
    let mut loosened = rules.chain(grown);
    let Some(first) = loosened.next() else { return Ok(None) };
    if loosened.all(|rule| rule == first) {
        return Ok(Some(first));
    }
    let message = "the change loosens rules that want different approvals";
    let next = "Send a change for each of the rules, and have each approved.";
    Err(Refusal::new(Reason::InvalidValue, message).field("policy").next(next))
}

/// The approvals that a rule wants, of whatever it is.
fn approvals_of(rule: &Rule) -> Option<Approvals> {
    match rule {
        Rule::Apply => None,
        Rule::Approve(approvals) => Some(approvals.clone()),
        Rule::Plan(rule) => Some(rule.approvals()),
    }
}

/// Whether the second rule lets something through that the first does not. To approve a plan is to approve what it brings
/// about and more, so a rule that wants that of every change is none that is looser.
fn is_looser(before: &Rule, after: &Rule) -> bool {
    match (before, after) {
        (Rule::Apply, _) => false,
        (_, Rule::Apply) | (Rule::Plan(_), Rule::Approve(_)) => true,
        (Rule::Approve(before), Rule::Approve(after)) => wants_less(before, after),
        (Rule::Approve(before), Rule::Plan(after)) => {
            after.only != Approved::Changes || wants_less(before, &after.approvals())
        }
        (Rule::Plan(before), Rule::Plan(after)) => {
            (before.only == Approved::Changes && after.only != Approved::Changes)
                || after.valid > before.valid
                || wants_less(&before.approvals(), &after.approvals())
        }
    }
}

fn wants_less(before: &Approvals, after: &Approvals) -> bool {
    after.by < before.by || (before.group.is_some() && after.group != before.group)
}

/// Whether objects of a kind may be changed when they may not be now.
fn opens_wider(kind: Kind, before: &CustomerSpec, after: &CustomerSpec) -> bool {
    let kind = match kind {
        Kind::Customer => return false,
        Kind::Site | Kind::Tunnel => WindowKind::Site,
        Kind::Device => WindowKind::Device,
    };
    windows::are_wider(&before.windows, &after.windows, kind)
}

fn has_grown(group: &Name, before: &Groups, after: &Groups) -> bool {
    let (Some(after), before) = (after.get(group), before.get(group)) else { return false };
    before.is_none_or(|before| !after.is_subset(before))
}

/// Everything that wants approvals: the rules, and what waits under rules that may be others by now.
fn in_force(state: &Customer) -> impl Iterator<Item = Approvals> {
    let rules = Kind::ALL.into_iter().filter_map(|kind| approvals_of(state.own.spec.policy.of(kind)));
    let sites = state.sites.values().filter_map(|site| site.approval.as_ref());
    let tunnels = state.tunnels.values().filter_map(|tunnel| tunnel.approval.as_ref());
    let devices = state.devices.values().filter_map(|device| device.approval.as_ref());
    let own = state.own.waiting.iter().map(|waiting| &waiting.approval);
    let plans = state.sites.values().filter_map(|site| Some(&site.plan.as_ref()?.approval));
    let waiting = sites.chain(tunnels).chain(devices).chain(own).chain(plans);
    let of_sites = state.sites.values().filter_map(|site| site.planning.as_ref());
    let of_tunnels = state.tunnels.values().filter_map(|tunnel| tunnel.planning.as_ref());
    let planning = of_sites.chain(of_tunnels).map(|planning| planning.rule.approvals());
    rules.chain(waiting.map(|waiting| waiting.approvals.clone())).chain(planning)
}
