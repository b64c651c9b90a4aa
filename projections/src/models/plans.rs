//! `plans`: one row per plan that was made of a stack.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use wanwright_schemas::event::Change;
use wanwright_schemas::plan::{PlanChange, Stale};
use wanwright_schemas::rule::Approvals;
use wanwright_schemas::spec::SiteSpec;
use wanwright_schemas::{Actor, CustomerId, Digest, SiteId};

use super::lifecycle::At;
use crate::table::{Slots, Table};

/// What has become of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlanState {
    /// It waits for approvals.
    Waiting,
    /// It has the approvals that it needs.
    Approved,
    /// It needs none.
    Free,
    /// Somebody refused it.
    Rejected,
    /// It was applied, to its end.
    Applied,
    /// It did not fit any more when it was to be applied.
    Stale,
    /// Another generation, or a newer plan, took its place.
    Void,
}

impl PlanState {
    /// The word as it stands in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Approved => "approved",
            Self::Free => "free",
            Self::Rejected => "rejected",
            Self::Applied => "applied",
            Self::Stale => "stale",
            Self::Void => "void",
        }
    }
}

/// The key of a plan.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct PlanKey {
    /// The customer.
    pub customer: CustomerId,
    /// The site whose stack it is.
    pub site: SiteId,
    /// The order that it was made for.
    pub order_id: Uuid,
}

/// A row of `plans`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanRow {
    /// The customer.
    pub customer: CustomerId,
    /// The site whose stack it is.
    pub site: SiteId,
    /// The order that it was made for.
    pub order_id: Uuid,
    /// The digest of the plan file.
    pub hash: Digest,
    /// The generation of the site.
    pub generation: u64,
    /// The digest of all that the stack should be.
    pub wish: Uuid,
    /// The digest of the template it was made with.
    pub template: String,
    /// The serial of the state it was made from.
    pub serial: i64,
    /// The lineage of that state.
    pub lineage: String,
    /// How many resources would be made.
    pub creates: u32,
    /// How many would be changed where they are.
    pub updates: u32,
    /// How many would be taken away.
    pub deletes: u32,
    /// How many would be taken away and made anew.
    pub replaces: u32,
    /// What would change.
    pub changes: Vec<PlanChange>,
    /// How many fields would change beside those.
    pub left_out: u64,
    /// Who asked for what it would bring about.
    pub requested_by: Vec<Actor>,
    /// The approvals it needs.
    pub approvals: Option<Approvals>,
    /// Who approved it.
    pub approved_by: Vec<Actor>,
    /// What has become of it.
    pub state: PlanState,
    /// Why it is rejected or stale.
    pub because: Option<String>,
    /// When it was made.
    pub planned_at: Timestamp,
    /// When it counts no more.
    pub expires_at: Timestamp,
    /// When it was applied, rejected, or found to be stale or void.
    pub ended_at: Option<Timestamp>,
    /// The stream of the last event about it.
    pub stream: String,
    /// The sequence of the last message about it.
    pub sequence: u64,
}

impl Table for PlanRow {
    type Key = PlanKey;
    const NAME: &'static str = "plans";
    const KEY: &'static [&'static str] = &["customer", "site", "order_id"];
    fn key(&self) -> PlanKey {
        PlanKey { customer: self.customer.clone(), site: self.site.clone(), order_id: self.order_id }
    }
}

impl PlanRow {
    fn made(customer: &CustomerId, site: &SiteId, change: &Change<SiteSpec>, at: &At) -> Option<Self> {
        let Change::Planned { generation, order, wish, plan, expires, requested_by, approvals } = change
        else {
            return None;
        };
        let state = if approvals.is_some() { PlanState::Waiting } else { PlanState::Free };
        Some(Self {
            customer: customer.clone(),
            site: site.clone(),
            order_id: order.uuid(),
            hash: plan.hash,
            generation: *generation,
            wish: wish.uuid(),
            template: plan.template.clone(),
            serial: plan.serial,
            lineage: plan.lineage.clone(),
            creates: plan.counts.create,
            updates: plan.counts.update,
            deletes: plan.counts.delete,
            replaces: plan.counts.replace,
            changes: plan.changes.clone(),
            left_out: plan.left_out,
            requested_by: requested_by.clone(),
            approvals: approvals.clone(),
            approved_by: Vec::new(),
            state,
            because: None,
            planned_at: at.time,
            expires_at: *expires,
            ended_at: None,
            stream: at.stream.clone(),
            sequence: at.sequence,
        })
    }

    /// What a change of the site makes of its newest plan.
    fn evolve(&mut self, change: &Change<SiteSpec>, at: &At) {
        match change {
            Change::Approved { approved_by, plan: Some(hash), .. } if *hash == self.hash => {
                self.approved_by.push(approved_by.clone());
                let needed = self.approvals.as_ref().map_or(0, |approvals| approvals.by);
                if usize::try_from(needed).is_ok_and(|needed| self.approved_by.len() >= needed) {
                    self.state = PlanState::Approved;
                }
            }
            Change::Rejected { reason, plan: Some(hash), .. } if *hash == self.hash => {
                self.end(PlanState::Rejected, Some(reason.clone()), at);
            }
            Change::PlanApplied { plan, .. } if *plan == self.hash => self.end(PlanState::Applied, None, at),
            Change::PlanStale { plan, why, .. } if *plan == self.hash => {
                self.end(PlanState::Stale, Some(because(*why).to_owned()), at);
            }
            Change::Planned { .. }
            | Change::Created { .. }
            | Change::Changed { .. }
            | Change::DecommissionRequested { .. }
            | Change::TemplateAssigned { .. }
            | Change::RetryRequested { .. }
            | Change::Cancelled { .. }
            | Change::Removed { .. }
                // One that was rejected stays so.
                if self.ended_at.is_none() =>
            {
                self.end(PlanState::Void, None, at);
            }
            _ => return,
        }
        self.stream.clone_from(&at.stream);
        self.sequence = at.sequence;
    }

    fn end(&mut self, state: PlanState, because: Option<String>, at: &At) {
        self.state = state;
        self.because = because;
        self.ended_at = Some(at.time);
    }
}

/// Why a plan is stale, in words.
fn because(why: Stale) -> &'static str {
    match why {
        Stale::Missing => "its file is not kept any more",
        Stale::Damaged => "what is kept is not the file that was made",
        Stale::Template => "the stack's template, or what its vendor's folder says of it, is another one",
        Stale::State => "the stack's state is another one than it was made from",
        Stale::Expired => "its time was over before it was begun",
        Stale::Interrupted => "a run that applied it died",
    }
}

/// Opens the plan that a change of a site makes, and goes on with the one that was open before.
pub fn follow(
    rows: &mut Slots<PlanRow>,
    (customer, site): (&CustomerId, &SiteId),
    change: &Change<SiteSpec>,
    open: Option<Uuid>,
    at: &At,
) {
    let key = |order_id| PlanKey { customer: customer.clone(), site: site.clone(), order_id };
    if let Some(row) = open.and_then(|open| rows.get_mut(&key(open))) {
        row.evolve(change, at);
    }
    if let Some(row) = PlanRow::made(customer, site, change, at) {
        rows.put(row);
    }
}
