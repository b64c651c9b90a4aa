//! What sites, tunnels and devices have in common: a wish with a generation, and what is known of the world.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use wanwright_schemas::contact::HasContact;
use wanwright_schemas::event::Change;
use wanwright_schemas::plan::BoundPlan;
use wanwright_schemas::policy::Name;
use wanwright_schemas::reason::Reason;
use wanwright_schemas::remarks::Trouble;
use wanwright_schemas::report::{DriftField, Outputs, StateMark};
use wanwright_schemas::rule::{Approvals, PlanRule};
use wanwright_schemas::template::Templates;
use wanwright_schemas::{Actor, CommandId, OrderId, SchemaRef};

/// What an executor last brought about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// The generation the vendor has.
    pub generation: u64,
    /// What the object is at the vendor.
    pub outputs: Outputs,
}

/// Why a generation could not be applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The reason.
    pub code: Reason,
    /// The reason, in a sentence.
    pub message: String,
}

/// A generation that waits for somebody to approve it, or was rejected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// The generation.
    pub generation: u64,
    /// Who asked for what it brings.
    pub requested_by: Vec<Actor>,
    /// The approvals it needs.
    #[serde(default, skip_serializing_if = "Approvals::is_default")]
    pub approvals: Approvals,
    /// Who approved it so far.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approved_by: Vec<Actor>,
    /// Who rejected it. Then it is not to be, and the object waits for another generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected_by: Option<Actor>,
}

impl Approval {
    pub(crate) fn new(generation: u64, requested_by: Vec<Actor>, approvals: Approvals) -> Self {
        Self { generation, requested_by, approvals, approved_by: Vec::new(), rejected_by: None }
    }

    /// How many approvals it needs.
    pub fn needed(&self) -> usize {
        usize::try_from(self.approvals.by).unwrap_or(usize::MAX)
    }
}

/// That what was asked for of an object is to be planned, until that is at the vendor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planning {
    /// Who asked for it.
    pub requested_by: Vec<Actor>,
    /// The rule it was asked for under.
    pub rule: PlanRule,
}

/// A plan of a stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// The digest of all that the stack should be.
    pub wish: OrderId,
    /// The plan, as an order names it.
    pub bound: BoundPlan,
    /// Whether it needs approvals.
    pub asks: bool,
    /// Those that it needs and has.
    pub approval: Approval,
}

impl Planned {
    /// Whether somebody rejected it.
    pub fn is_rejected(&self) -> bool {
        self.approval.rejected_by.is_some()
    }

    /// Whether it has all the approvals that it needs.
    pub fn is_free(&self) -> bool {
        !self.is_rejected() && (!self.asks || self.approval.approved_by.len() >= self.approval.needed())
    }
}

/// That something waits for a change window, as it was judged last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Postponement {
    /// When a window opens; none where no window does, as far as could be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Name>,
}

/// That somebody knows of a trouble.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// The trouble.
    pub of: Trouble,
    /// Who knows of it.
    pub by: Actor,
    /// Why it is left as it is.
    pub reason: String,
    /// The moment up to which nobody else has to look, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// An object whose specification is an `S`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object<S> {
    /// The command that created it: the id that no namesake shares.
    pub uid: CommandId,
    /// The generation of the wish.
    pub generation: u64,
    /// The wish.
    pub spec: S,
    /// The schema that the wish's settings are written in; none before schemas had versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<SchemaRef>,
    /// Whether the wish is that it should go.
    pub leaving: bool,
    /// What the vendor has, as far as is known.
    pub observed: Option<Observed>,
    /// Why the wish could not be carried out, if it could not.
    pub failure: Option<Failure>,
    /// How many times somebody asked to try again.
    pub retries: u64,
    /// Whether what was applied should be applied again.
    pub reapply: bool,
    /// Whether what was asked for was taken back before it began, and nothing was applied since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancelled: bool,
    /// Whether something newer than what was applied last was tried: what the vendor has of it is not known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tried: bool,
    /// The command that waits for a look at the vendor.
    pub check: Option<CommandId>,
    /// What the vendor has differently.
    pub drift: Vec<DriftField>,
    /// Why nothing is to be done about it, if that is so.
    pub suspended: Option<String>,
    /// Whether it may not be taken down.
    pub protected: bool,
    /// The generation that waits for approval or was rejected, if there is one: then it is the present one.
    pub approval: Option<Approval>,
    /// That what was asked for is to be planned with its stack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planning: Option<Planning>,
    /// The newest plan of the stack, which only sites have. Whether it is good for what the stack should be is judged when
    /// that is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Planned>,
    /// How many plans of the stack were made.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub plans: u64,
    /// That what is to be done waits for a change window. It is noted for who reads; what holds it are the windows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postponed: Option<Postponement>,
    /// Whether what is to be done need not wait for a change window.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub released: bool,
    /// That somebody knows of the trouble it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<Acknowledgement>,
    /// The versions of its vendor's template that it was given. Only a site is given any.
    #[serde(default, skip_serializing_if = "Templates::is_empty")]
    pub templates: Templates,
    /// The newest version of the stack's Terraform state that is known to be stored. Only a site has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<StateMark>,
}

impl<S> Object<S> {
    fn new(uid: CommandId, generation: u64, spec: S) -> Self {
        Self {
            uid,
            generation,
            spec,
            schema: None,
            leaving: false,
            observed: None,
            failure: None,
            retries: 0,
            reapply: false,
            cancelled: false,
            tried: false,
            check: None,
            drift: Vec::new(),
            suspended: None,
            protected: false,
            approval: None,
            planning: None,
            plan: None,
            plans: 0,
            postponed: None,
            released: false,
            acknowledged: None,
            templates: Templates::default(),
            state: None,
        }
    }

    /// Whether the world has to change before the wish is true.
    pub fn behind(&self) -> bool {
        self.leaving
            || self.reapply
            || self.observed.as_ref().is_none_or(|observed| observed.generation != self.generation)
    }

    /// Whether somebody should carry the wish out now.
    pub fn pending(&self) -> bool {
        self.behind() && self.failure.is_none()
    }

    /// Whether the present generation was rejected. That a plan of it was is known of its stack: `plans::is_rejected`.
    pub fn is_rejected(&self) -> bool {
        self.approval.as_ref().is_some_and(|approval| approval.rejected_by.is_some())
    }

    /// Forgets that a plan of the stack was rejected: something is asked for that is to be planned.
    pub(crate) fn forget_rejected_plan(&mut self) {
        self.plan = self.plan.take().filter(|planned| !planned.is_rejected());
    }

    /// One of the values that the object has at the vendor.
    pub fn output(&self, name: &str) -> Option<&Value> {
        self.observed.as_ref()?.outputs.get(name)
    }

    /// Whether the object was applied with other inputs than these.
    pub fn inputs_differ(&self, inputs: &Map<String, Value>) -> bool {
        self.output("inputs").and_then(Value::as_object).is_some_and(|applied| applied != inputs)
    }

    fn wish(&mut self, generation: u64) {
        self.generation = generation;
        self.forget_failure();
        // Whether this generation waits is said by an event of its own.
        self.approval = None;
        self.plan = None;
        self.acknowledged = None;
        self.cancelled = false;
        self.begin_anew();
    }

    /// Forgets a failure, but not that something was tried.
    fn forget_failure(&mut self) {
        self.tried |= self.failure.take().is_some();
    }

    /// Forgets what was said of windows: it was about what is over now, or is to be done again.
    fn begin_anew(&mut self) {
        self.postponed = None;
        self.released = false;
    }

    /// Forgets that somebody knew of a trouble which is another one now.
    fn is_news(&mut self, trouble: Trouble) {
        self.acknowledged = self.acknowledged.take().filter(|known| known.of != trouble);
    }
}

/// The object that a change says is created; `by` is the command that decided it.
pub(crate) fn created<S: Clone>(change: &Change<S>, by: CommandId) -> Option<Object<S>> {
    let Change::Created { generation, spec, schema } = change else { return None };
    let object = Object::new(by, *generation, spec.clone());
    Some(Object { schema: schema.clone(), ..object })
}

/// Folds a change into the object it is about, and says whether the object is still there.
pub(crate) fn evolve<S: Clone + HasContact>(object: &mut Object<S>, change: &Change<S>) -> bool {
    match change {
        Change::Created { .. } => {}
        Change::Changed { generation, spec, schema, .. } => {
            object.wish(*generation);
            // Only what was not to go is changed, and what was, where that was rejected, by a revert.
            object.leaving = false;
            object.spec = spec.clone();
            object.schema.clone_from(schema);
        }
        Change::DecommissionRequested { generation } => {
            object.wish(*generation);
            object.leaving = true;
            object.check = None;
        }
        Change::RetryRequested { retries } => {
            object.retries = *retries;
            object.forget_failure();
            object.reapply = !object.drift.is_empty();
            object.acknowledged = None;
            object.begin_anew();
        }
        Change::DriftCheckRequested { check } => object.check = Some(*check),
        Change::Applied { generation, outputs, .. } => {
            object.observed = Some(Observed { generation: *generation, outputs: outputs.clone() });
            object.templates.applied(*generation);
            // What came late, of a generation before, says nothing of what was tried since.
            object.tried &= *generation != object.generation;
            object.cancelled = false;
            if *generation == object.generation {
                object.failure = None;
                object.reapply = false;
                object.drift.clear();
                object.acknowledged = None;
                (object.planning, object.plan) = (None, None);
                object.begin_anew();
            }
        }
        Change::Failed { generation, code, message, .. } => {
            if *generation == object.generation {
                object.failure = Some(Failure { code: *code, message: message.clone() });
                object.is_news(Trouble::Failure);
                object.begin_anew();
            }
        }
        Change::Removed { .. } | Change::Cancelled { restored: None, tried: false, .. } => return false,
        Change::Cancelled { generation, restored, tried } => {
            if let Some(applied) = restored.and(object.observed.as_ref()) {
                match tried {
                    true => object.templates.bring_back(*generation, applied.generation),
                    false => object.templates.restored(applied.generation),
                }
            }
            object.plan = None;
            if *tried {
                // What comes back is carried out like any other wish, so who asked for what was tried, and now for this,
                // counts.
                object.tried = true;
                return true;
            }
            object.cancelled = true;
            object.planning = None;
            // What the vendor has is this generation as well.
            if let Some(observed) = object.observed.as_mut() {
                observed.generation = *generation;
            }
        }
        Change::DriftFound { check, fields } => {
            if object.drift != *fields {
                object.drift.clone_from(fields);
                object.is_news(Trouble::Drift);
            }
            clear_check(object, *check);
        }
        Change::DriftNotFound { check } => {
            object.drift.clear();
            object.is_news(Trouble::Drift);
            clear_check(object, *check);
        }
        Change::ContactChanged { contact } => object.spec.set_contact(contact.clone()),
        Change::Suspended { reason } => object.suspended = Some(reason.clone()),
        Change::Resumed {} => object.suspended = None,
        Change::Protected {} => object.protected = true,
        Change::Unprotected {} => object.protected = false,
        Change::ApprovalRequested { generation, requested_by, approvals } => {
            object.approval = Some(Approval::new(*generation, requested_by.clone(), approvals.clone()));
        }
        Change::Approved { approved_by, plan: Some(plan), .. } => {
            if let Some(planned) = object.plan.as_mut().filter(|planned| planned.bound.hash == *plan) {
                planned.approval.approved_by.push(approved_by.clone());
            }
        }
        Change::Approved { generation, approved_by, plan: None } => {
            if let Some(waiting) = object.approval.as_mut().filter(|waits| waits.generation == *generation) {
                waiting.approved_by.push(approved_by.clone());
                object.approval =
                    object.approval.take().filter(|waits| waits.approved_by.len() < waits.needed());
            }
        }
        Change::Rejected { rejected_by, plan: Some(plan), .. } => {
            if let Some(planned) = object.plan.as_mut().filter(|planned| planned.bound.hash == *plan) {
                planned.approval.rejected_by = Some(rejected_by.clone());
            }
        }
        Change::PlanRequested { requested_by, rule, .. } => {
            object.planning = Some(Planning { requested_by: requested_by.clone(), rule: rule.clone() });
            object.forget_rejected_plan();
        }
        Change::Planned { generation, wish, plan, expires, requested_by, approvals, .. } => {
            let bound = BoundPlan {
                hash: plan.hash,
                template: plan.template.clone(),
                serial: plan.serial,
                lineage: plan.lineage.clone(),
                expires: *expires,
            };
            let (asks, approvals) = (approvals.is_some(), approvals.clone().unwrap_or_default());
            let approval = Approval::new(*generation, requested_by.clone(), approvals);
            object.plan = Some(Planned { wish: *wish, bound, asks, approval });
            object.plans += 1;
        }
        Change::PlanApplied { plan, .. } => {
            object.plan = object.plan.take().filter(|planned| planned.bound.hash != *plan);
            // Where the site itself was as it should be, no `Applied` follows that says so.
            object.planning = None;
        }
        Change::PlanStale { plan, .. } => {
            object.plan = object.plan.take().filter(|planned| planned.bound.hash != *plan);
        }
        Change::Rejected { generation, rejected_by, plan: None, .. } => {
            if let Some(waiting) = object.approval.as_mut().filter(|waits| waits.generation == *generation) {
                waiting.rejected_by = Some(rejected_by.clone());
            }
        }
        Change::Postponed { until, window, .. } => {
            object.postponed = Some(Postponement { until: *until, window: window.clone() });
        }
        Change::Due { .. } => object.postponed = None,
        Change::Released { .. } => {
            object.postponed = None;
            object.released = true;
        }
        Change::Acknowledged { of, acknowledged_by, reason, until } => {
            let (by, reason) = (acknowledged_by.clone(), reason.clone());
            object.acknowledged = Some(Acknowledgement { of: *of, by, reason, until: *until });
        }
        Change::TemplateAssigned { generation, template, rollout, .. } => {
            if *generation != object.generation {
                object.wish(*generation);
            }
            object.templates.assign(*generation, template.clone(), *rollout);
        }
        Change::StateStored { state, .. } => object.state = Some(*state),
        // It is for people to read.
        Change::Noted { .. } => {}
    }
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn clear_check<S>(object: &mut Object<S>, check: CommandId) {
    if object.check == Some(check) {
        object.check = None;
    }
}
