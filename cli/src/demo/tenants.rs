//! The customers of the example fleet get what a real one gets: an account, and a user in it.

use std::collections::BTreeSet;

use anyhow::Result;
use wanwright_nats::Access;
use wanwright_nats::accounts::{Authority, UserKind, push};
use wanwright_schemas::subjects::PARTITIONS;

use super::fleet::Line;
use crate::stack::Stack;

/// The user of each customer: its network operations centre.
pub const USER: &str = "noc";

/// Makes what is missing and tells the server.
pub async fn make(stack: &Stack, fleet: &[Line]) -> Result<()> {
    let keys = Authority::open(&stack.endpoints.keys, PARTITIONS)?;
    let access = Access::with_creds(&stack.endpoints.nats, keys.system());
    let system = wanwright_nats::connect(access, "wanwright-demo", PARTITIONS).await?;
    let customers: BTreeSet<_> = fleet.iter().map(|line| &line.subject.customer).collect();
    for customer in customers {
        if keys.account(customer.as_str()).is_err() {
            push::update(&system.client, &keys.add_account(customer)?).await?;
        }
        if !keys.creds(customer.as_str(), USER).exists() {
            keys.add_user(Some(customer), &USER.parse()?, UserKind::Tenant, None, None)?;
        }
    }
    Ok(())
}
