//! What Terraform would do, for a dry run that asks for it: an executor is asked, beside the lane, which goes on meanwhile.

use std::sync::Arc;
use std::time::Duration;

use async_nats::StatusCode;
use futures::StreamExt;
use tokio::sync::Semaphore;
use wanwright_nats::Nats;
use wanwright_schemas::ids::CommandId;
use wanwright_schemas::order::Order;
use wanwright_schemas::outcome::{MOST_PLANS, Outcome, Verdict, WouldPlan};
use wanwright_schemas::reason::{Reason, Refusal};
use wanwright_schemas::subjects;

/// How long an executor is waited for.
const LIMIT: Duration = Duration::from_secs(60);

/// How many dry runs of a partition may wait for executors at once. Others are answered without a plan.
const AT_ONCE: usize = 8;

/// Asks executors for previews.
#[derive(Debug, Clone)]
pub(super) struct Previews {
    nats: Nats,
    slots: Arc<Semaphore>,
}

impl Previews {
    pub(super) fn new(nats: Nats) -> Self {
        Self { nats, slots: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Adds to the answer of a dry run what Terraform would do about these orders.
    pub(super) async fn add(&self, mut outcome: Outcome, orders: Vec<Order>) -> Outcome {
        if let Verdict::Accepted { would_plan, more_plans, .. } = &mut outcome.verdict {
            *more_plans = u64::try_from(orders.len().saturating_sub(MOST_PLANS)).unwrap_or(u64::MAX);
            let mut plans = Vec::new();
            for order in orders.iter().take(MOST_PLANS) {
                plans.push(self.of(order).await);
            }
            *would_plan = Some(plans);
        }
        outcome
    }

    async fn of(&self, order: &Order) -> WouldPlan {
        let made = match self.slots.try_acquire() {
            Ok(_slot) => self.ask(order).await,
            Err(_) => Err("too many dry runs wait for plans".to_owned()),
        };
        made.unwrap_or_else(|why| WouldPlan {
            target: order.target(),
            plan: None,
            trouble: Some(Refusal::new(Reason::PreviewUnavailable, why)),
        })
    }

    async fn ask(&self, order: &Order) -> Result<WouldPlan, String> {
        let client = &self.nats.client;
        let reply = subjects::previewed(&CommandId::mint().to_string());
        let body = serde_json::to_vec(order).map_err(|error| error.to_string())?;
        let mut answers = client.subscribe(reply.clone()).await.map_err(|error| error.to_string())?;
        let asked = client.publish_with_reply(subjects::PREVIEW, reply, body.into()).await;
        asked.map_err(|error| error.to_string())?;
        let answer = tokio::time::timeout(LIMIT, answers.next()).await;
        let answer = answer.map_err(|_| format!("no executor answered within {} s", LIMIT.as_secs()))?;
        let answer = answer.ok_or_else(|| "the connection was lost".to_owned())?;
        if answer.status == Some(StatusCode::NO_RESPONDERS) {
            return Err("no executor is running".to_owned());
        }
        let would: Option<WouldPlan> =
            serde_json::from_slice(&answer.payload).map_err(|error| error.to_string())?;
        // Only what was asked for is passed on.
        would
            .filter(|would| would.target == order.target())
            .ok_or_else(|| "the executor did not understand the order".to_owned())
    }
}
