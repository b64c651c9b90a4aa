//! Connecting.

use std::time::Duration;

use async_nats::jetstream;
use async_nats::{Client, ConnectOptions, ServerAddr};

use crate::error::NatsError;

/// A connection with its JetStream context.
#[derive(Clone, Debug)]
pub struct Nats {
    /// The connection.
    pub client: Client,
    /// JetStream over it.
    pub js: jetstream::Context,
    /// How many partitions the customers are spread over.
    pub partitions: u16,
}

/// Connects; afterwards the connection comes back by itself whenever it is lost.
pub async fn connect(url: &str, name: &str, partitions: u16) -> Result<Nats, NatsError> {
    let shown = without_credentials(url);
    let address: ServerAddr = url
        .parse()
        .map_err(|error: std::io::Error| NatsError::Connect { url: shown.clone(), source: error.into() })?;
    // The client library does not take the login from the address.
    let options = match (address.username(), address.password()) {
        (Some(user), Some(password)) => {
            ConnectOptions::new().user_and_password(user.to_owned(), password.to_owned())
        }
        _ => ConnectOptions::new(),
    };
    let client = options
        .name(name)
        .connection_timeout(Duration::from_secs(5))
        .request_timeout(Some(Duration::from_secs(5)))
        .reconnect_delay_callback(|attempts| Duration::from_millis((50 << attempts.min(5)).min(1000)))
        .connect(address)
        .await
        .map_err(|error| NatsError::Connect { url: shown, source: error.into() })?;
    let js = jetstream::ContextBuilder::new()
        .timeout(Duration::from_secs(5))
        .ack_timeout(Duration::from_secs(5))
        .build(client.clone());
    Ok(Nats { client, js, partitions })
}

fn without_credentials(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => format!("{}{}", &url[..scheme + 3], &url[at + 1..]),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::without_credentials;

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(without_credentials("nats://demo:pw@127.0.0.1:4222"), "nats://127.0.0.1:4222");
        assert_eq!(without_credentials("nats://127.0.0.1:4222"), "nats://127.0.0.1:4222");
        assert_eq!(without_credentials("127.0.0.1"), "127.0.0.1");
    }
}
