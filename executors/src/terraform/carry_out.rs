//! What an order asks for, done by Terraform: bringing a stack about, taking it down, looking at it, planning it, and
//! applying what was planned.

use jiff::Timestamp;
use serde_json::Value;
use tokio::fs;
use wanwright_schemas::Digest;
use wanwright_schemas::order::Intent;
use wanwright_schemas::plan::Plan;
use wanwright_schemas::reason::Reason;
use wanwright_schemas::report::Finding;
use wanwright_schemas::run::RunEvent;

use super::error::{TerraformError, io};
use super::findings::Stack;
use super::messages::Said;
use super::outcomes::{finally, internal, is_final, not_cleared, passing};
use super::planning::{self, Basis, Unopened};
use super::remains;
use super::runner::{Ended, Runner};
use crate::engine::{self, Outcome};

const APPLY: [&str; 5] = ["apply", "-json", "-input=false", "-auto-approve", "-var-file=variables.json"];
const DESTROY: [&str; 6] =
    ["apply", "-destroy", "-json", "-input=false", "-auto-approve", "-var-file=variables.json"];
// What writes no state locks none: a lock is for whoever goes on from what it reads.
const LOOK: [&str; 7] = [
    "plan",
    "-refresh-only",
    "-lock=false",
    "-json",
    "-input=false",
    "-var-file=variables.json",
    "-out=plan",
];
pub(super) const PLAN: [&str; 6] =
    ["plan", "-lock=false", "-json", "-input=false", "-var-file=variables.json", "-out=plan"];
pub(super) const PLAN_DESTROY: [&str; 7] =
    ["plan", "-destroy", "-lock=false", "-json", "-input=false", "-var-file=variables.json", "-out=plan"];
const APPLY_PLAN: [&str; 4] = ["apply", "-json", "-input=false", PLAN_FILE];

/// The name of a plan's file in the folder of its run.
pub(super) const PLAN_FILE: &str = "plan";

impl Runner<'_> {
    /// Does what the order asks for. `before` is the state the run begins with.
    pub(super) async fn carry_out(
        &self,
        stack: &Stack<'_>,
        before: &Value,
        uid: &str,
    ) -> Result<Outcome, TerraformError> {
        let intent = &self.run.order.intent;
        if self.run.order.changes() {
            if self.run.order.plan.is_some() {
                return self.apply_plan(stack, before, uid).await;
            }
            if let Err(error) = remains::clear_tunnels(self.run, stack, before).await {
                return Ok(not_cleared(self.run, &error));
            }
        }
        match intent {
            Intent::Plan { remove, .. } => self.plan(stack, *remove, before, uid).await,
            Intent::Apply => match self.terraform(&APPLY).await? {
                Ended::Well(said) => Ok(Outcome::Done(stack.applied(&said.outputs))),
                Ended::Badly(said) => self.judge(stack, &said, uid).await,
                cut => Ok(cut.cut_short()),
            },
            Intent::Remove => match self.terraform(&DESTROY).await? {
                Ended::Well(_) => Ok(match remains::clear_site(self.run, stack, before).await {
                    Ok(()) => Outcome::Done(stack.removed()),
                    Err(error) => not_cleared(self.run, &error),
                }),
                Ended::Badly(said) => self.judge(stack, &said, uid).await,
                cut => Ok(cut.cut_short()),
            },
            Intent::Observe { check } => match self.terraform(&LOOK).await? {
                Ended::Well(said) => {
                    let plan = if said.drifted { Some(self.show("plan").await?) } else { None };
                    Ok(Outcome::Done(stack.observed(*check, plan.as_ref(), before)))
                }
                Ended::Badly(said) => Ok(passing(&said)),
                cut => Ok(cut.cut_short()),
            },
        }
    }

    /// Plans, keeps the plan's file, and tells what it would do.
    async fn plan(
        &self,
        stack: &Stack<'_>,
        remove: bool,
        before: &Value,
        uid: &str,
    ) -> Result<Outcome, TerraformError> {
        let said = match self.terraform(if remove { &PLAN_DESTROY } else { &PLAN }).await? {
            Ended::Well(_) => return self.keep_plan(stack, before, uid).await,
            Ended::Badly(said) => said,
            cut => return Ok(cut.cut_short()),
        };
        match said.problems.first() {
            Some(first) if is_final(&said) => {
                let findings = engine::failed(self.run.order, Reason::VendorRefused, &first.message);
                Ok(Outcome::Done(findings))
            }
            _ => Ok(passing(&said)),
        }
    }

    async fn keep_plan(
        &self,
        stack: &Stack<'_>,
        before: &Value,
        uid: &str,
    ) -> Result<Outcome, TerraformError> {
        let (plan, bytes) = self.told(stack, before).await?;
        let hash = plan.hash;
        let kept = self.engine.plans.put(&planning::place(uid, hash, &Basis::of(before)), &bytes).await;
        kept.map_err(TerraformError::Plan)?;
        self.run.gateway.records().add(RunEvent::Planned { plan: hash }).await;
        Ok(Outcome::Done(engine::of_stack(self.run.order, Finding::Planned { plan })))
    }

    /// What the plan in the run's folder would do, and its file.
    pub(super) async fn told(
        &self,
        stack: &Stack<'_>,
        before: &Value,
    ) -> Result<(Plan, Vec<u8>), TerraformError> {
        let file = self.folder.0.join(PLAN_FILE);
        let bytes = planning::read(&file).await.map_err(io("reading", &file))?;
        let (hash, basis) = (Digest::of(&bytes), Basis::of(before));
        let plan = planning::told(&self.show(PLAN_FILE).await?, hash, &stack.template.effects, &basis);
        Ok((plan, bytes))
    }

    /// Applies the plan that the order names, and nothing else.
    async fn apply_plan(
        &self,
        stack: &Stack<'_>,
        before: &Value,
        uid: &str,
    ) -> Result<Outcome, TerraformError> {
        let Some(plan) = &self.run.order.plan else { return Ok(internal("the order names no plan")) };
        let place = planning::place(uid, plan.hash, &Basis::of(before));
        // It may have been waited for, for as long as the key or the streams were away, so the state is read again.
        let found = async {
            let file = self.engine.plans.get(&place).await.map_err(Unopened::from)?;
            let before = self.engine.begin(&self.session).await.map_err(Unopened::Trouble)?;
            Ok((file, before))
        };
        let opened = planning::open(plan, &stack.template.effects, found, Timestamp::now).await;
        let (bytes, before) = match opened {
            Ok(opened) => opened,
            Err(Unopened::Stale(why)) => return Ok(engine::stale(self.run.order, plan.hash, why)),
            Err(Unopened::Trouble(error)) => return Err(error),
        };
        let file = self.folder.0.join(PLAN_FILE);
        fs::write(&file, &bytes).await.map_err(io("writing", &file))?;
        // What is recorded is the digest of what Terraform gets, not the one that the order names.
        let opened = Digest::of(&bytes);
        self.run.gateway.records().add(RunEvent::PlanOpened { plan: opened }).await;
        if let Err(error) = remains::clear_tunnels(self.run, stack, &before).await {
            return Ok(not_cleared(self.run, &error));
        }
        self.run.begun.set(true);
        let intent = &self.run.order.intent;
        let ended = self.terraform(&APPLY_PLAN).await?;
        if matches!(ended, Ended::Badly(_)) && !self.is_troubled() {
            // The state says how far it came: by its serial the plan is as good as it was, or stale.
            self.run.begun.set(false);
        }
        let before = &before;
        match ended {
            Ended::Well(_) if matches!(intent, Intent::Remove) => {
                Ok(match remains::clear_site(self.run, stack, before).await {
                    Ok(()) => Outcome::Done(stack.removed()),
                    Err(error) => not_cleared(self.run, &error),
                })
            }
            Ended::Well(said) => Ok(Outcome::Done(stack.applied(&said.outputs))),
            Ended::Badly(mut said) => {
                said.planned_before(&self.show(PLAN_FILE).await?);
                self.judge(stack, &said, uid).await
            }
            cut => Ok(cut.cut_short()),
        }
    }

    /// A run with errors: for good if the vendor refused each thing that failed or a person has to look, else in passing.
    async fn judge(&self, stack: &Stack<'_>, said: &Said, uid: &str) -> Result<Outcome, TerraformError> {
        if !is_final(said) {
            return Ok(passing(said));
        }
        Ok(finally(self.run.order, stack, said, &self.engine.state(uid).await?))
    }
}
