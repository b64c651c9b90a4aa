//! Connecting.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream;
use async_nats::{Client, ConnectOptions, Event, ServerAddr};

use crate::accounts::Credentials;
use crate::error::NatsError;
use crate::inventory::Compared;
use crate::unreadable::Unreadable;

/// How often the server is asked whether it is there. A connection that answers nothing any more and was never ended, as
/// one through a router that has forgotten it, is given up after three of these: who only listens would not notice.
const PING: Duration = Duration::from_secs(10);

/// A connection with its JetStream context.
#[derive(Clone, Debug)]
pub struct Nats {
    /// The connection.
    pub client: Client,
    /// JetStream over it.
    pub js: jetstream::Context,
    /// How many partitions the customers are spread over.
    pub partitions: u16,
    pub(crate) unreadable: Unreadable,
    pub(crate) compared: Compared,
    access: Option<Arc<(Access, String)>>,
}

impl Nats {
    /// A connection that was made elsewhere, with JetStream over it.
    pub fn over(client: Client, js: jetstream::Context, partitions: u16) -> Self {
        let (unreadable, compared) = (Unreadable::default(), Compared::default());
        Self { client, js, partitions, unreadable, compared, access: None }
    }

    /// The same connection for another number of partitions.
    #[must_use]
    pub fn with_partitions(&self, partitions: u16) -> Self {
        Self { partitions, ..self.clone() }
    }

    /// Another connection to the same place; the same one where this was made elsewhere.
    ///
    /// # Errors
    /// [`NatsError::Connect`] with the reason.
    pub async fn another(&self, purpose: &str) -> Result<Self, NatsError> {
        let Some((access, name)) = self.access.as_deref() else { return Ok(self.clone()) };
        let other = connect(access, &format!("{name}-{purpose}"), self.partitions).await?;
        Ok(Self { unreadable: self.unreadable.clone(), ..other })
    }

    /// Waits until the server knows what this connection has subscribed to. A flush ends when the bytes have left, and a
    /// server that is busy reads them later: whoever asks in between hears that nobody is there.
    ///
    /// # Errors
    /// [`NatsError::Failed`], when the server does not answer.
    pub async fn subscribed(&self) -> Result<(), NatsError> {
        // It answers in the order of what came; every role may ask this.
        let answered = self.client.request("$JS.API.INFO", "".into()).await;
        answered.map(drop).map_err(NatsError::failed("waiting until the server knows the subscriptions"))
    }
}

/// Where a server is, and how it knows us.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// The address; it may hold user and password. Those of a cluster are separated by commas: one that runs is enough.
    pub url: String,
    /// A credentials file.
    pub creds: Option<PathBuf>,
    /// How the connection is encrypted.
    pub tls: Tls,
}

/// Encryption. An address that begins with `tls://` asks for it with the machine's own certificate authorities.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// A file with the certificate authorities to believe, PEM. Naming one makes encryption a must.
    pub authorities: Option<PathBuf>,
    /// Our own certificate and its key, PEM, for a server that asks for one.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

impl From<&str> for Access {
    fn from(url: &str) -> Self {
        Self { url: url.to_owned(), ..Self::default() }
    }
}

impl From<&String> for Access {
    fn from(url: &String) -> Self {
        url.as_str().into()
    }
}

impl From<&Access> for Access {
    fn from(access: &Access) -> Self {
        access.clone()
    }
}

impl Access {
    /// An address with a credentials file.
    pub fn with_creds(url: impl Into<String>, creds: impl Into<PathBuf>) -> Self {
        Self { url: url.into(), creds: Some(creds.into()), tls: Tls::default() }
    }

    /// How to connect like that.
    ///
    /// # Errors
    /// [`NatsError::Connect`] when a file cannot be read or the address is none.
    pub fn options(&self) -> Result<(Vec<ServerAddr>, ConnectOptions), NatsError> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| NatsError::Connect {
            url: without_credentials(&self.url),
            source,
        };
        let addresses = self.url.split(',').map(|address| address.trim().parse());
        let addresses: Result<Vec<ServerAddr>, std::io::Error> = addresses.collect();
        let addresses = addresses.map_err(|error| failed(error.into()))?;
        let login = addresses.iter().find_map(|address| Some((address.username()?, address.password()?)));
        let mut options = ConnectOptions::new();
        if let Some(path) = &self.creds {
            let read = Credentials::read(path).map_err(|error| failed(error.into()))?;
            let text = std::fs::read_to_string(path).map_err(|error| failed(error.into()))?;
            options = options.credentials(&text).map_err(|error| failed(error.into()))?;
            if let Some(prefix) = read.inbox_prefix {
                options = options.custom_inbox_prefix(prefix);
            }
        } else if let Some((user, password)) = login {
            // The client library does not take the login from the address.
            options = options.user_and_password(user.to_owned(), password.to_owned());
        }
        if let Some(authorities) = &self.tls.authorities {
            options = options.add_root_certificates(authorities.clone()).require_tls(true);
        }
        if let Some((certificate, key)) = &self.tls.certificate {
            options = options.add_client_certificate(certificate.clone(), key.clone()).require_tls(true);
        }
        Ok((addresses, options))
    }
}

/// Connects; afterwards the connection comes back by itself whenever it is lost.
///
/// # Errors
/// [`NatsError::Connect`] with the reason.
pub async fn connect(access: impl Into<Access>, name: &str, partitions: u16) -> Result<Nats, NatsError> {
    let access: Access = access.into();
    let (addresses, options) = access.options()?;
    let client = options
        .name(name)
        .connection_timeout(Duration::from_secs(5))
        .request_timeout(Some(Duration::from_secs(5)))
        .ping_interval(PING)
        .reconnect_delay_callback(|attempts| Duration::from_millis((50 << attempts.min(5)).min(1000)))
        .event_callback(|event| async move { note(&event) })
        .connect(addresses)
        .await
        .map_err(|error| NatsError::Connect {
            url: without_credentials(&access.url),
            source: error.into(),
        })?;
    let js = jetstream::ContextBuilder::new()
        .timeout(Duration::from_secs(5))
        .ack_timeout(Duration::from_secs(5))
        .build(client.clone());
    let over = Nats::over(client, js, partitions);
    Ok(Nats { access: Some(Arc::new((access, name.to_owned()))), ..over })
}

/// A refused subject is told by the server beside the connection; nobody who waits for an answer hears of it.
fn note(event: &Event) {
    match event {
        Event::ServerError(error) => tracing::error!(%error, "the NATS server refused something"),
        // Nobody hears of it who waits for an answer: he has his time-out.
        Event::SlowConsumer(subscription) => {
            tracing::error!(
                subscription,
                "a message was dropped: this process does not keep up with what is sent to it"
            );
        }
        event => tracing::debug!(%event, "the connection to NATS"),
    }
}

fn without_credentials(urls: &str) -> String {
    let without = |url: &str| match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => format!("{}{}", &url[..scheme + 3], &url[at + 1..]),
        _ => url.to_owned(),
    };
    urls.split(',').map(without).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::without_credentials;

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(without_credentials("nats://demo:pw@127.0.0.1:4222"), "nats://127.0.0.1:4222");
        assert_eq!(without_credentials("nats://127.0.0.1:4222"), "nats://127.0.0.1:4222");
        assert_eq!(without_credentials("127.0.0.1"), "127.0.0.1");
        assert_eq!(without_credentials("nats://a:b@one:4222,nats://a:b@two"), "nats://one:4222,nats://two");
    }
}
