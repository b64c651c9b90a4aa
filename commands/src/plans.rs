//! Plans: which stacks are planned before they are changed, which plan is good for what a stack should be, and who
//! approves it.
//!
//! A plan is good for one wish: the digest of everything that the stack should be, which is the id of the order that
//! would bring it about if it needed no plan. Another generation, a tunnel that is to be otherwise, a moved far end, a
//! retry or another account are other wishes, so they make a plan void without anybody saying so. What is void, out of
//! date or stale is planned anew, and the new plan needs its own approvals.

use jiff::{SignedDuration, Timestamp};
use wanwright_schemas::event::{Change, Event};
use wanwright_schemas::ids::{Actor, CustomerId, Kind, OrderId, SiteId};
use wanwright_schemas::order::{Intent, Order, Target};
use wanwright_schemas::plan::{BoundPlan, Plan, Stale};
use wanwright_schemas::policy::{ApproveBody, CustomerChange, CustomerSpec, Groups, RejectBody};
use wanwright_schemas::reason::{Reason, Refusal};
use wanwright_schemas::rule::{Approved, PlanRule, Rule, Validity};
use wanwright_schemas::spec::{SiteSpec, TunnelSpec};
use wanwright_schemas::{Digest, Position};
use wanwright_vendors::{Catalogue, Engine, Vendor};

use crate::approvals::{self, Given};
use crate::customer::Customer;
use crate::decide::Circumstances;
use crate::holds;
use crate::object::{Object, Planned, Planning};
use crate::orders::{self, Wanted};
use crate::{settings, templates};

/// Whether the vendor's sites are brought about by what can say before what it would do.
pub(crate) fn can_plan(vendor: &Vendor) -> bool {
    vendor.terraform.is_some() && vendor.engine(Kind::Site.as_str()) == Some(Engine::Terraform)
}

/// Refuses a rule whose plans are out of date before anybody can have read them. One that is in force already stays.
fn is_valid_for_long_enough(state: &Customer, spec: &CustomerSpec) -> Result<(), Refusal> {
    let valid = |spec: &CustomerSpec| match &spec.policy.site {
        Rule::Plan(rule) => Some(rule.valid),
        Rule::Apply | Rule::Approve(_) => None,
    };
    match valid(spec) {
        Some(asked) if asked < Validity::SHORTEST && valid(&state.own.spec) != Some(asked) => {
            let message = format!("a plan is valid for {} at least, not for {asked}", Validity::SHORTEST);
            Err(Refusal::new(Reason::InvalidValue, message).field("policy.site.plan.valid"))
        }
        _ => Ok(()),
    }
}

/// Refuses rules that ask for plans of what cannot be planned, and for plans that nobody could approve in time.
pub(crate) fn can_be_followed(
    state: &Customer,
    spec: &CustomerSpec,
    vendors: &Catalogue,
) -> Result<(), Refusal> {
    let refused = |kind: Kind, message: &str| {
        Err(Refusal::new(Reason::NotPlannable, message).field(format!("policy.{kind}")))
    };
    if matches!(spec.policy.device, Rule::Plan(_)) {
        return refused(Kind::Device, "devices are changed by calls to their vendor, which nobody can plan");
    }
    if matches!(spec.policy.tunnel, Rule::Plan(_)) {
        return refused(
            Kind::Tunnel,
            "a tunnel is planned with its site: set `policy.site` to `plan`, which is about both",
        );
    }
    is_valid_for_long_enough(state, spec)?;
    if !matches!(spec.policy.site, Rule::Plan(_)) || matches!(state.own.spec.policy.site, Rule::Plan(_)) {
        return Ok(());
    }
    let unplannable =
        state.sites.iter().find(|(_, site)| !vendors.get(site.spec.vendor.as_str()).is_some_and(can_plan));
    match unplannable {
        None => Ok(()),
        Some((id, site)) => {
            let message =
                format!("site/{id} is at {}, whose folder has no Terraform template", site.spec.vendor);
            refused(Kind::Site, &message)
        }
    }
}

/// Refuses a new site that the customer's rule wants planned and that cannot be.
pub(crate) fn can_be_made(state: &Customer, vendor: &Vendor) -> Result<(), Refusal> {
    if !matches!(state.own.spec.policy.site, Rule::Plan(_)) || can_plan(vendor) {
        return Ok(());
    }
    let message = format!(
        "the customer's sites are planned, and the folder of {} has no Terraform template",
        vendor.name
    );
    Err(Refusal::new(Reason::NotPlannable, message).field("vendor"))
}

/// The events, with a request for a plan behind each that needs one.
pub(crate) fn with_requests(state: &Customer, events: Vec<Event>, actor: &Actor) -> Vec<Event> {
    let mut all = Vec::with_capacity(events.len());
    let mut rest = events.into_iter().peekable();
    while let Some(event) = rest.next() {
        let request = match &event {
            Event::Site(id, change) => request(state, state.sites.get(id), change, actor)
                .map(|request| Event::Site(id.clone(), request)),
            Event::Tunnel(id, change) => request(state, state.tunnels.get(id), change, actor)
                .map(|request| Event::Tunnel(id.clone(), request)),
            Event::Device(..) | Event::Customer(..) => None,
        };
        let follow = match &event {
            Event::Customer(_, CustomerChange::Changed { spec, .. }) => of_accounts(state, spec, actor),
            _ => Vec::new(),
        };
        all.push(event);
        // What else is said of the same wish stands right behind it.
        if request.is_some() && rest.peek().is_some_and(approvals::is_request) {
            all.extend(rest.next());
        }
        all.extend(request);
        all.extend(follow);
    }
    all
}

/// Who gives a vendor another account has what is being planned there done with it, so he asks for it as well.
fn of_accounts(state: &Customer, spec: &CustomerSpec, actor: &Actor) -> Vec<Event> {
    let before = &state.own.spec.accounts;
    let concerned = state.sites.iter().filter(|(id, site)| {
        let vendor = &site.spec.vendor;
        before.get(vendor) != spec.accounts.get(vendor) && planning(state, id).next().is_some()
    });
    let waiting = state.own.waiting.iter().filter(|waiting| waiting.spec == *spec);
    let asked = waiting.flat_map(|waiting| &waiting.approval.requested_by).chain([actor]);
    let request = |(id, site): (&SiteId, &Object<SiteSpec>)| {
        let rule = rule_of(state, id)?.clone();
        let generation = site.generation;
        let requested_by = with(site.planning.as_ref(), asked.clone());
        Some(Event::Site(id.clone(), Change::PlanRequested { generation, requested_by, rule }))
    };
    concerned.filter_map(request).collect()
}

/// Whoever asked for what is planned already, and who asks now.
fn with<'a>(before: Option<&Planning>, asked: impl Iterator<Item = &'a Actor>) -> Vec<Actor> {
    let mut all = before.map(|before| before.requested_by.clone()).unwrap_or_default();
    for actor in asked {
        if !all.contains(actor) {
            all.push(actor.clone());
        }
    }
    all
}

/// The request for a plan that a change needs: by the rule in force, or by the one under which something of the object
/// waits still. Whoever asked for what waits has asked for what comes of it as well.
fn request<S>(
    state: &Customer,
    object: Option<&Object<S>>,
    change: &Change<S>,
    actor: &Actor,
) -> Option<Change<S>> {
    let generation = match change {
        Change::RetryRequested { .. } => object?.generation,
        // It is in the generation that the site is created with.
        Change::TemplateAssigned { .. } if object.is_none() => return None,
        _ => approvals::wished(change)?,
    };
    let before = object.and_then(|object| object.planning.as_ref());
    let rule = match &state.own.spec.policy.site {
        Rule::Plan(rule) => rule.clone(),
        Rule::Apply | Rule::Approve(_) => before?.rule.clone(),
    };
    Some(Change::PlanRequested { generation, requested_by: with(before, std::iter::once(actor)), rule })
}

/// What of a stack is to be planned.
fn planning<'a>(state: &'a Customer, id: &'a SiteId) -> impl Iterator<Item = &'a Planning> + 'a {
    let of_site = state.sites.get(id).and_then(|site| site.planning.as_ref());
    of_site.into_iter().chain(state.tunnels_of(id).filter_map(|(_, tunnel)| tunnel.planning.as_ref()))
}

/// The rule under which a stack is planned; none where it is changed without a plan. Where several count, for something
/// waits that was asked for under another one, it is the one that lets the least through.
pub(crate) fn rule_of<'a>(state: &'a Customer, id: &'a SiteId) -> Option<&'a PlanRule> {
    let in_force = match &state.own.spec.policy.site {
        Rule::Plan(rule) => Some(rule),
        Rule::Apply | Rule::Approve(_) => None,
    };
    let rules = in_force.into_iter().chain(planning(state, id).map(|planning| &planning.rule));
    rules.reduce(|first, other| if strength(other) > strength(first) { other } else { first })
}

/// How much a rule asks for: more plans, of more people, of a group.
fn strength(rule: &PlanRule) -> (bool, u32, bool, std::cmp::Reverse<u32>) {
    let all = rule.only == Approved::Changes;
    (all, rule.by, rule.group.is_some(), std::cmp::Reverse(rule.valid.seconds()))
}

/// What a stack's change is to be, where the bare order would bring it about.
pub(crate) enum Due {
    /// That order as it is: no plan is asked for.
    Bare,
    /// That order, with this plan.
    Bound(BoundPlan),
    /// A plan. Its number among the plans of the stack.
    Plan(u64),
    /// Nothing: a plan waits for approvals, or was rejected.
    Nothing,
}

/// What is to come of a change of a stack. Without `now` no plan is out of date.
pub(crate) fn due(
    state: &Customer,
    vendor: &Vendor,
    id: &SiteId,
    site: &Object<SiteSpec>,
    wish: OrderId,
    now: Option<Timestamp>,
) -> Due {
    if rule_of(state, id).is_none() {
        return Due::Bare;
    }
    let next = Due::Plan(site.plans + 1);
    let Some(planned) = site.plan.as_ref().filter(|planned| planned.wish == wish) else { return next };
    if planned.is_rejected() {
        return Due::Nothing;
    }
    let is_over = now.is_some_and(|now| now >= planned.bound.expires);
    if is_over || !fits(vendor, site, &planned.bound) {
        return next;
    }
    if planned.is_free() { Due::Bound(planned.bound.clone()) } else { Due::Nothing }
}

/// Whether a plan was made with the version of the template that the stack has, and with what the vendor's folder says now
/// of what its resources do.
fn fits(vendor: &Vendor, site: &Object<SiteSpec>, plan: &BoundPlan) -> bool {
    templates::of_stack(vendor, site).is_some_and(|template| template.effects == plan.template)
}

/// Whether a change of a stack waits for approvals of its plan, or for another wish because that was rejected. A plan that
/// is void by now is made anew, which is not seen here.
pub(crate) fn waits(state: &Customer, id: &SiteId, site: &Object<SiteSpec>, now: Timestamp) -> bool {
    let waits =
        |planned: &Planned| planned.is_rejected() || (!planned.is_free() && now < planned.bound.expires);
    site.plan.as_ref().is_some_and(waits) && rule_of(state, id).is_some()
}

/// The moment at which the plan of a target is out of date, and has to be made anew.
pub fn expiry(state: &Customer, target: &Target) -> Option<Timestamp> {
    let Target::Site(id) = target else { return None };
    let planned = state.sites.get(id)?.plan.as_ref()?;
    (!planned.is_rejected()).then_some(planned.bound.expires)
}

/// What a report of a plan says that is news: the plan that is wanted, made with the template that is judged by here.
pub(crate) fn made(
    customer: &CustomerId,
    state: &Customer,
    id: &SiteId,
    order: OrderId,
    plan: &Plan,
    facts: Circumstances<'_>,
) -> Option<Change<SiteSpec>> {
    let target = Target::Site(id.clone());
    let vendor = facts.vendors.get(orders::vendor_of(state, &target)?.as_str())?;
    let Wanted { change, wish, .. } = wanted(customer, state, vendor, &target, facts.received);
    let change =
        change.filter(|change| change.id == order && matches!(change.intent, Intent::Plan { .. }))?;
    if templates::of_stack(vendor, state.sites.get(id)?)?.effects != plan.template {
        return None;
    }
    let rule = rule_of(state, id)?;
    let asks = match rule.only {
        Approved::Changes => !plan.counts.is_empty(),
        Approved::Destroys => plan.counts.destroys(),
    } || takes_away(state, id);
    let mut requested_by: Vec<Actor> = Vec::new();
    for actor in planning(state, id).flat_map(|planning| &planning.requested_by) {
        if !requested_by.contains(actor) {
            requested_by.push(actor.clone());
        }
    }
    let valid = SignedDuration::from_secs(i64::from(rule.valid.seconds()));
    Some(Change::Planned {
        generation: change.generation(),
        order,
        wish: wish?,
        plan: plan.clone(),
        expires: facts.received.checked_add(valid).unwrap_or(Timestamp::MAX),
        requested_by,
        approvals: asks.then(|| rule.approvals()),
    })
}

/// Whether something of a stack is to go. An executor removes that by name too, where a run that died had made it and the
/// state does not hold it, so a plan that counts nothing says nothing about it.
fn takes_away(state: &Customer, id: &SiteId) -> bool {
    state.sites.get(id).is_some_and(|site| site.leaving)
        || state.tunnels_of(id).any(|(_, tunnel)| tunnel.leaving)
}

/// Whether the newest plan of a stack was rejected, and nothing has been asked for since that is to be planned.
pub(crate) fn is_rejected(state: &Customer, id: &SiteId) -> bool {
    state.sites.get(id).and_then(|site| site.plan.as_ref()).is_some_and(Planned::is_rejected)
}

/// Whether a tunnel waits for nothing but its stack, whose plan was rejected: then it can be asked for again.
pub(crate) fn tunnel_is_stuck(
    state: &Customer,
    tunnel: Option<&Object<TunnelSpec>>,
    facts: Circumstances<'_>,
) -> bool {
    tunnel
        .is_some_and(|tunnel| is_rejected(state, &tunnel.spec.site) && tunnel_is_behind(state, tunnel, facts))
}

/// Whether a stack waits for nothing but another plan, for the last one was rejected: then it can be asked for again.
pub(crate) fn stack_is_stuck(state: &Customer, id: &SiteId, facts: Circumstances<'_>) -> bool {
    is_rejected(state, id)
        && (state.sites.get(id).is_some_and(Object::pending)
            || state.tunnels_of(id).any(|(_, tunnel)| tunnel_is_behind(state, tunnel, facts)))
}

fn tunnel_is_behind(state: &Customer, tunnel: &Object<TunnelSpec>, facts: Circumstances<'_>) -> bool {
    let vendor = settings::vendor_at(state, &tunnel.spec.site, facts);
    tunnel.pending() || vendor.is_some_and(|vendor| orders::tunnel_moved(state, vendor, tunnel))
}

fn wanted(
    customer: &CustomerId,
    state: &Customer,
    vendor: &Vendor,
    target: &Target,
    now: Timestamp,
) -> Wanted {
    // The position is no part of an order's identity.
    let nowhere = Position { stream: String::new(), sequence: 0 };
    orders::wanted_at(customer, state, vendor, target, &nowhere, now)
}

/// What a report of a plan that could not be applied says that is news. `applied`: the order that is wanted now.
pub(crate) fn stale(
    site: &Object<SiteSpec>,
    applied: Option<&Order>,
    order: OrderId,
    hash: Digest,
    why: Stale,
) -> Option<Change<SiteSpec>> {
    let is_wanted = applied.is_some_and(|applied| {
        applied.id == order && applied.plan.as_ref().is_some_and(|plan| plan.hash == hash)
    });
    is_wanted.then_some(Change::PlanStale { generation: site.generation, order, plan: hash, why })
}

/// Whether a command about the approval of a site means its plan.
pub(crate) fn is_meant(state: &Customer, id: &SiteId, plan: Option<Digest>) -> bool {
    let site = state.sites.get(id);
    plan.is_some() || site.is_some_and(|site| site.approval.is_none() && site.plan.is_some())
}

/// Refuses to take a generation's approval for that of a plan, which only sites have.
pub(crate) fn none_is_named(plan: Option<Digest>, name: &str) -> Result<(), Refusal> {
    match plan {
        None => Ok(()),
        Some(_) => {
            let message = format!("{name} has no plan of its own; a tunnel is planned with its site");
            Err(Refusal::new(Reason::PlanMismatch, message).field("plan"))
        }
    }
}

/// Approves the plan of a stack. The same by the same actor says nothing.
pub(crate) fn approve(
    customer: &CustomerId,
    state: &Customer,
    id: &SiteId,
    body: &ApproveBody,
    actor: &Actor,
    facts: Circumstances<'_>,
) -> Result<Vec<Change<SiteSpec>>, Refusal> {
    let name = format!("site/{id}");
    let planned = named(state, id, &name, body.generation, body.plan)?;
    holds_still(customer, state, id, &name, planned, facts)?;
    let given = approvals::judge(
        Some(&planned.approval).filter(|_| !planned.is_free()),
        &format!("the plan of {name}"),
        body.generation,
        actor,
        &state.own.spec.groups,
    )?;
    let (generation, plan) = (body.generation, Some(planned.bound.hash));
    Ok(match given {
        Given::Before => Vec::new(),
        Given::Counts | Given::Suffices => {
            vec![Change::Approved { generation, approved_by: actor.clone(), plan }]
        }
    })
}

/// Rejects the plan of a stack: nothing is done about it until something else is asked for.
pub(crate) fn reject(
    state: &Customer,
    id: &SiteId,
    body: &RejectBody,
    actor: &Actor,
    groups: &Groups,
) -> Result<Vec<Change<SiteSpec>>, Refusal> {
    let name = format!("site/{id}");
    let planned = named(state, id, &name, body.generation, body.plan)?;
    let waiting = Some(&planned.approval).filter(|_| !planned.is_free());
    let reason = approvals::judge_rejection(waiting, &format!("the plan of {name}"), body, actor, groups)?;
    let (generation, rejected_by, plan) = (body.generation, actor.clone(), Some(planned.bound.hash));
    Ok(vec![Change::Rejected { generation, rejected_by, reason, plan }])
}

/// The plan that a command names by its generation and its hash.
fn named<'a>(
    state: &'a Customer,
    id: &SiteId,
    name: &str,
    generation: u64,
    hash: Option<Digest>,
) -> Result<&'a Planned, Refusal> {
    let site = holds::present(state.sites.get(id), name)?;
    let mismatch = |message: String| Err(Refusal::new(Reason::PlanMismatch, message).field("plan"));
    let Some(planned) = &site.plan else {
        return mismatch(format!("{name} has no plan now; where one is asked for, it is being made"));
    };
    if planned.approval.generation != generation {
        let message =
            format!("the plan of {name} is of generation {}, not {generation}", planned.approval.generation);
        return Err(Refusal::new(Reason::GenerationMismatch, message).field("generation"));
    }
    let present = planned.bound.hash;
    match hash {
        None => mismatch(format!("{name} is planned, so its plan is approved: {present}")),
        Some(hash) if hash != present => mismatch(format!("the plan of {name} is {present}, not {hash}")),
        Some(_) => Ok(planned),
    }
}

/// Refuses a plan that nothing may come of any more.
fn holds_still(
    customer: &CustomerId,
    state: &Customer,
    id: &SiteId,
    name: &str,
    planned: &Planned,
    facts: Circumstances<'_>,
) -> Result<(), Refusal> {
    let target = Target::Site(id.clone());
    let stale = |message: String| Err(Refusal::new(Reason::PlanStale, message).field("plan"));
    let vendor = orders::vendor_of(state, &target).and_then(|vendor| facts.vendors.get(vendor.as_str()));
    let site = state.sites.get(id);
    let fit = |vendor: &&Vendor| site.is_some_and(|site| fits(vendor, site, &planned.bound));
    let Some(vendor) = vendor.filter(fit) else {
        let message =
            format!("the folder of the vendor of {name} says something else than the plan was made with");
        return stale(message);
    };
    if facts.received >= planned.bound.expires {
        let message = format!("the plan of {name} was valid until {}", planned.bound.expires);
        return Err(Refusal::new(Reason::PlanExpired, message).field("plan"));
    }
    // A stack that is held has no orders, so it is asked what there would be.
    let wish = orders::wish(customer, state, vendor, id);
    if wish != Some(planned.wish) {
        return stale(format!("what {name} and its tunnels should be is not what was planned"));
    }
    Ok(())
}
