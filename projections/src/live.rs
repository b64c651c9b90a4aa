//! "This row changed", said to whoever listens. Best effort: pages reload, nothing depends on it.

use async_nats::Client;
use wanwright_schemas::subjects;

use crate::events::Touched;

/// The most changes that are told one by one. A larger batch is a catching-up that nobody watches row by row.
const MOST: usize = 500;

/// Says which rows changed. Customers hear this: the subject says all, because a place in a stream would count what others
/// do, and in the stream of runs what the whole fleet does.
pub(crate) async fn publish(client: &Client, touched: &Touched) {
    for (customer, object) in touched.iter().take(MOST) {
        let subject = subjects::live(customer, object);
        if let Err(error) = client.publish(subject, "{}".into()).await {
            tracing::debug!(%error, "a change was not told");
            return;
        }
    }
}
