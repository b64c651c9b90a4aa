//! The verdicts of customers that move: copied beside the old ones, which end by their age.

use futures::{FutureExt, StreamExt, TryStreamExt};
use wanwright_schemas::subjects;

use super::histories::{is_same, own_headers};
use super::{Change, Progress, RepartitionError};
use crate::connect::Nats;
use crate::follow::{StoredMessage, stream_info};
use crate::load::{load_page, load_subject};
use crate::publish::{CheckedError, publish_expecting};
use crate::topology::VERDICTS;

/// How many are copied at once, which is also how many are read at once.
const AT_ONCE: usize = 128;

/// About how many bytes are read at once.
const BYTES: usize = 4 << 20;

/// Copies them, and answers how many were not there yet.
pub(super) async fn copy(
    nats: &Nats,
    change: Change,
    tell: &(dyn Fn(Progress) + Sync),
) -> Result<u64, RepartitionError> {
    // What comes behind this is copied by us.
    let end = stream_info(&nats.js, VERDICTS).await?.last;
    let (mut after, mut copied) = (0, 0);
    loop {
        let page = load_page(nats, VERDICTS, subjects::VERDICT_ALL, after, AT_ONCE, BYTES).await?.0;
        let Some(last) = page.last().map(|message| message.sequence) else { return Ok(copied) };
        let copies: Vec<_> =
            page.into_iter().map(|message| copy_one(nats, change, message).boxed()).collect();
        let copies = futures::stream::iter(copies).buffer_unordered(AT_ONCE);
        copied += copies.try_fold(0, async |sum, one| Ok(sum + u64::from(one))).await?;
        after = last;
        tell(Progress { what: "verdicts, by their place", done: after.min(end), of: end });
        if after >= end {
            return Ok(copied);
        }
    }
}

/// Whether a verdict was copied.
async fn copy_one(nats: &Nats, change: Change, message: StoredMessage) -> Result<bool, RepartitionError> {
    if !subjects::is_current(&message.subject, change.from) {
        return Ok(false);
    }
    let Some((customer, command)) = subjects::command_of_verdict(&message.subject) else { return Ok(false) };
    let to = subjects::verdict(&customer, command, change.to);
    if to == message.subject {
        return Ok(false);
    }
    let (headers, payload) = (own_headers(&message.headers), message.payload.clone());
    match publish_expecting(&nats.js, to.clone(), 0, headers, payload).await {
        Ok(_) => Ok(true),
        Err(CheckedError::Conflict) => {
            let there = load_subject(nats, VERDICTS, &to, 0).await?.pop();
            // One that is gone meanwhile has come to its age.
            match there {
                Some(there) if !is_same(&message, &there) => Err(RepartitionError::ForeignVerdict(to)),
                _ => Ok(false),
            }
        }
        Err(CheckedError::Failed(error)) => Err(error.into()),
    }
}
