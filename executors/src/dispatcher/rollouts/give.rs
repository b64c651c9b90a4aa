//! Giving customers' stacks the version of a rollout.

use async_nats::HeaderMap;
use wanwright_nats::{Lease, NatsError};
use wanwright_schemas::command::ObjectRef;
use wanwright_schemas::headers;
use wanwright_schemas::ids::{CommandId, CustomerId, SiteId};
use wanwright_schemas::outcome::{Outcome, Verdict};
use wanwright_schemas::reason::Reason;
use wanwright_schemas::rollout::Rollout;
use wanwright_schemas::subjects::CommandSubject;
use wanwright_schemas::template::AssignTemplateBody;

use super::Driver;

/// What became of giving.
enum Gave {
    All,
    /// Something was refused, or the command service did not answer.
    NotAll,
    /// Somebody has asked something of the rollout, or the lease is lost.
    MayNotAnyMore,
}

impl Driver {
    /// Gives the waiting stacks of these customers the version, by command, for as long as the lease is held and the record
    /// is of this revision: whoever pauses a rollout does not wait for all that it was about to give. Who is not given it
    /// now is found waiting later; who was is not given it again.
    pub(super) async fn give(
        &mut self,
        rollout: &Rollout,
        customers: &[CustomerId],
        revision: u64,
        lease: &Lease,
    ) -> Result<(), NatsError> {
        for customer in customers {
            let Some(fleet) = self.fleets.get_mut(&rollout.vendor) else { return Ok(()) };
            fleet.gives(customer);
            let tally = fleet.reading().tallies.get(customer);
            let waiting = tally.map(|tally| tally.waiting.clone()).unwrap_or_default();
            match self.give_customer(rollout, customer, waiting, revision, lease).await? {
                Gave::All => {}
                Gave::NotAll => {
                    if let Some(fleet) = self.fleets.get_mut(&rollout.vendor) {
                        fleet.leaves(customer);
                    }
                }
                Gave::MayNotAnyMore => return Ok(()),
            }
        }
        Ok(())
    }

    async fn give_customer(
        &self,
        rollout: &Rollout,
        customer: &CustomerId,
        stacks: Vec<SiteId>,
        revision: u64,
        lease: &Lease,
    ) -> Result<Gave, NatsError> {
        let mut gave = Gave::All;
        for site in stacks {
            if !lease.is_held() || self.records.get(&rollout.vendor).await?.1 != revision {
                return Ok(Gave::MayNotAnyMore);
            }
            match self.give_one(rollout, customer, site.clone()).await {
                Ok(true) => {}
                Ok(false) => gave = Gave::NotAll,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(%customer, %site, error, "a stack is given a version later");
                    return Ok(Gave::NotAll);
                }
            }
        }
        Ok(gave)
    }

    /// Gives a stack the version; answers whether that was accepted.
    async fn give_one(
        &self,
        rollout: &Rollout,
        customer: &CustomerId,
        site: SiteId,
    ) -> Result<bool, NatsError> {
        let doing = format!("giving {customer}/{site} version {} of its template", rollout.to);
        let actor = wanwright_commands::ROLLOUT.parse().map_err(NatsError::failed(doing.clone()))?;
        let (object, verb) = (ObjectRef::Site(site), "assign-template".to_owned());
        let subject = CommandSubject { customer: customer.clone(), actor, object, verb };
        let Rollout { from, to, digest, number, by, .. } = rollout.clone();
        let body = AssignTemplateBody { version: to, digest, from, rollout: number, by };
        let body = serde_json::to_vec(&body).map_err(NatsError::failed(doing.clone()))?;
        let mut head = HeaderMap::new();
        head.insert(headers::COMMAND_ID, CommandId::mint().to_string().as_str());
        head.insert(headers::CAUSATION_ID, format!("rollout:{}.{number}", rollout.vendor).as_str());
        let asked = self.nats.client.request_with_headers(subject.request(), head, body.into()).await;
        let answer = asked.map_err(NatsError::failed(doing.clone()))?;
        let outcome: Outcome =
            serde_json::from_slice(&answer.payload).map_err(NatsError::failed(doing.clone()))?;
        match outcome.verdict {
            Verdict::Accepted { .. } => Ok(true),
            Verdict::Refused { refusal, .. } if refusal.code == Reason::Unavailable => {
                Err(NatsError::failed(doing)(refusal))
            }
            // It is being taken down, or frozen by now: the next look counts it as what it is.
            Verdict::Refused { refusal, .. } => {
                tracing::warn!(%customer, object = %subject.object, %refusal, "a stack was not given a version");
                Ok(false)
            }
        }
    }
}
