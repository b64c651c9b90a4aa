//! What a version would do to the fleet: executors have Terraform plan for some stacks, or all.

use std::sync::Arc;
use std::time::Duration;

use async_nats::StatusCode;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use wanwright_commands::rollouts::{stacks_to_plan, tally};
use wanwright_nats::evidence::Evidence;
use wanwright_nats::{Nats, Rollouts};
use wanwright_schemas::envelope::Digest;
use wanwright_schemas::ids::{CommandId, OrderId};
use wanwright_schemas::order::Order;
use wanwright_schemas::rollout::{Counts, Estimated, Rollout, RolloutState, Summary, estimate};
use wanwright_schemas::{CustomerId, Template, subjects};
use wanwright_vendors::{Vendor, Vendors};

use super::super::customers::Customers;
use super::fleet::everybody;

/// How many plans are asked for at once: an executor has a core for each, and changes go before.
const AT_ONCE: usize = 2;

/// How long a plan may take, with what it waits for.
const LIMIT: Duration = Duration::from_secs(120);

/// How often a customer is read that cannot be read.
const ROUNDS: usize = 3;

/// Pause before what did not work is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// What finds out what a rollout would do. Whoever has asked something else meanwhile drops it.
pub(super) struct Planner {
    pub(super) nats: Nats,
    pub(super) records: Rollouts,
    pub(super) vendors: Vendors,
    pub(super) evidence: Option<Arc<Evidence>>,
}

impl Planner {
    /// Finds out what a rollout would do, and writes it down unless its record is of another revision by then. Without the
    /// folder of the version it ends, and is begun anew.
    pub(super) async fn run(self, rollout: Rollout, revision: u64) {
        let vendors = self.vendors.snapshot();
        let found = vendors.get(rollout.vendor.as_str());
        let Some((vendor, template)) = found.and_then(|vendor| Some((vendor, vendor.template(rollout.to)?)))
        else {
            return;
        };
        let template = Template { version: template.version, digest: template.digest.clone() };
        let summary = self.summarise(&rollout, vendor, &template).await;
        let counts = Counts {
            customers: summary.customers,
            stacks: summary.stacks,
            waiting: summary.stacks,
            unread: summary.unread,
            ..Counts::default()
        };
        let state = RolloutState::Planned;
        let planned = Rollout { state, counts, summary: Some(summary), time: Timestamp::now(), ..rollout };
        // It took long to make: a server that is away for a moment does not make it be done again.
        while let Err(error) = self.records.put(&planned, revision).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "a plan of the fleet is written later");
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Reads customer by customer and has stacks planned as they are found, so that no more orders are there than are asked
    /// for at once.
    async fn summarise(&self, rollout: &Rollout, vendor: &Vendor, template: &Template) -> Summary {
        let readers = Customers::new(self.nats.clone(), self.evidence.clone());
        let sample = rollout.summary.as_ref().map_or(0, |summary| summary.sample);
        let mut summary = Summary { sample, ..Summary::default() };
        let mut room = if sample == 0 { usize::MAX } else { usize::try_from(sample).unwrap_or(usize::MAX) };
        let mut estimates = FuturesUnordered::new();
        let mut customers = shuffled(self.everybody().await);
        for round in 1..=ROUNDS {
            let mut unread = Vec::new();
            for customer in customers {
                let state = match readers.load(&customer).await {
                    Ok((head, _)) => head.state,
                    Err(stuck) => {
                        let error = &stuck as &dyn std::error::Error;
                        tracing::warn!(%customer, round, error, "a plan of the fleet lacks a customer");
                        unread.push(customer);
                        continue;
                    }
                };
                let tally = tally(rollout, &state, Timestamp::now());
                let stacks = tally.stacks() - tally.failed_before;
                summary.customers += u32::from(stacks > 0);
                summary.stacks += stacks;
                if room == 0 {
                    continue;
                }
                let orders = stacks_to_plan(rollout, &customer, &state, vendor, template);
                for order in orders.into_iter().take(room) {
                    room -= 1;
                    if estimates.len() >= AT_ONCE {
                        estimates.next().await.into_iter().for_each(|found| add(&mut summary, found));
                    }
                    estimates.push(self.estimate(rollout, order));
                }
            }
            customers = unread;
            if customers.is_empty() {
                break;
            }
            if round < ROUNDS {
                tokio::time::sleep(AGAIN).await;
            }
        }
        summary.unread = u32::try_from(customers.len()).unwrap_or(u32::MAX);
        while let Some(found) = estimates.next().await {
            add(&mut summary, found);
        }
        summary
    }

    /// Every customer with a history, as soon as all of them can be listed.
    async fn everybody(&self) -> Vec<CustomerId> {
        loop {
            let listed = everybody(&self.nats).await;
            if listed.unlisted.is_empty() {
                return listed.customers;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// What Terraform would do to a stack; why that is not known, where nobody says it.
    async fn estimate(&self, rollout: &Rollout, order: Order) -> Estimated {
        let stack = format!("{}/{}", order.customer, order.target().id());
        let failed = |why: String| Estimated::Failed { message: format!("{stack}: {why}") };
        // It is not the order that will be carried out, and what is recorded of it is not about that one.
        let id =
            Digest::of(format!("estimate {} {} {}", rollout.vendor, rollout.number, order.id).as_bytes());
        let order = Order { id: OrderId::of_digest(id.bytes()), ..order };
        let body = match serde_json::to_vec(&order) {
            Ok(body) => body,
            Err(error) => return failed(error.to_string()),
        };
        match self.ask(rollout, body).await {
            Ok(planned @ Estimated::Planned(_)) => planned,
            Ok(Estimated::Failed { message }) | Err(message) => failed(message),
        }
    }

    /// What an executor answers to an order that plans.
    async fn ask(&self, rollout: &Rollout, body: Vec<u8>) -> Result<Estimated, String> {
        let client = &self.nats.client;
        let reply = subjects::previewed(&CommandId::mint().to_string());
        let mut answers = client.subscribe(reply.clone()).await.map_err(|error| error.to_string())?;
        let asked = client.publish_with_reply(estimate(&rollout.vendor), reply, body.into()).await;
        asked.map_err(|error| error.to_string())?;
        let answer = tokio::time::timeout(LIMIT, answers.next()).await;
        let answer = answer.map_err(|_| format!("no executor answered within {} s", LIMIT.as_secs()))?;
        let answer = answer.ok_or("the connection was lost")?;
        if answer.status == Some(StatusCode::NO_RESPONDERS) {
            return Err("no executor is there".to_owned());
        }
        serde_json::from_slice(&answer.payload).map_err(|error| error.to_string())
    }
}

/// Takes in what Terraform would do to a stack.
fn add(summary: &mut Summary, found: Estimated) {
    match found {
        Estimated::Planned(counts) => {
            summary.planned += 1;
            summary.unchanged += u32::from(counts.is_empty());
            summary.actions += counts;
        }
        Estimated::Failed { message } => {
            summary.failed += 1;
            summary.problem.get_or_insert(message);
        }
    }
}

/// In an order that has nothing to do with their names, and is the same every time.
fn shuffled(mut customers: Vec<CustomerId>) -> Vec<CustomerId> {
    customers.sort_by_cached_key(|customer| Digest::of(customer.as_str().as_bytes()).bytes());
    customers
}
