//! Pausing and resuming, for operators: what is done at a vendor or for a customer waits, whatever is decided meanwhile.
//!
//! It is no command: nothing about what should be changes, no history has it, and a vendor is nobody's object. Accounts
//! and rights keep everybody but operators away from the subject; who it was, the subject says.

use async_nats::{Message, Subscriber};
use bytes::Bytes;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use wanwright_nats::{Controls, Nats};
use wanwright_schemas::control::{ControlRequest, Scope};
use wanwright_schemas::reason::{Reason, Refusal};
use wanwright_schemas::{rollout, services, strict};
use wanwright_vendors::Vendors;

use super::intake::{Bounds, Intake};
use super::{rollouts, side_door};

pub(super) async fn serve(
    asked: Subscriber,
    nats: Nats,
    vendors: Vendors,
    stop: CancellationToken,
) -> &'static str {
    let mut asked = Intake::new(asked, nats.clone(), Bounds::QUESTIONS);
    while let Some((request, waiting)) = asked.next(&stop).await {
        let answer = judge(&nats, &vendors, &request).await;
        side_door::answer(&nats, request.reply, answer).await;
        drop(waiting);
    }
    "the controls"
}

async fn judge(nats: &Nats, vendors: &Vendors, request: &Message) -> Result<Bytes, Refusal> {
    if let Some(asked) = rollout::asked(&request.subject)? {
        return rollouts::judge(nats, vendors, asked, request).await;
    }
    let (actor, paused, scope) = services::controlled(&request.subject)?;
    let body: ControlRequest = strict::parse(&request.payload)?;
    if let (Scope::Vendor(vendor), true) = (&scope, paused)
        && vendors.snapshot().get(vendor.as_str()).is_none()
    {
        let why = format!("there is no folder for vendor {vendor}");
        return Err(Refusal::new(Reason::UnknownVendor, why));
    }
    let control = body.judge(scope, actor, paused, Timestamp::now())?;
    let written = async { Controls::open(nats).await?.put(&control).await }.await;
    written.map_err(|error| side_door::unavailable(&error))?;
    tracing::info!(scope = %control.scope, actor = %control.actor, paused, "doing was paused or resumed");
    serde_json::to_vec(&control).map(Bytes::from).map_err(|error| side_door::unavailable(&error))
}
