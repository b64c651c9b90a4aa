//! A nats-server with an operator, and connections of its users.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::{Client, Subscriber};
use bytes::Bytes;
use futures::StreamExt;
use wanwright_nats::accounts::{Authority, UserKind, push};
use wanwright_nats::{Access, Nats};
use wanwright_supervisor::{NatsOptions, SyncInterval};

pub const PARTITIONS: u16 = 8;

/// How long something has to come.
pub const LIMIT: Duration = Duration::from_secs(20);

/// How long nothing has to come to be taken for nothing. What would come was sent before something that came.
pub const NOTHING: Duration = Duration::from_millis(200);

pub struct World {
    pub authority: Authority,
    pub server: wanwright_supervisor::Nats,
    pub dir: tempfile::TempDir,
}

impl World {
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_make(&dir.path().join("keys"), PARTITIONS).unwrap();
        let server = start(dir.path(), &authority).await;
        Self { authority, server, dir }
    }

    pub async fn connect(&self, creds: PathBuf) -> Client {
        self.try_connect(creds).await.unwrap().client
    }

    pub async fn try_connect(&self, creds: PathBuf) -> Result<Nats, wanwright_nats::NatsError> {
        wanwright_nats::connect(Access::with_creds(self.server.url(), creds), "test", PARTITIONS).await
    }

    pub async fn system(&self) -> Client {
        self.connect(self.authority.system()).await
    }

    /// The account of a customer, known to the server.
    pub async fn account(&self, customer: &str) {
        let claims = self.authority.add_account(&customer.parse().unwrap()).unwrap();
        push::update(&self.system().await, &claims).await.unwrap();
    }

    /// A user: `acme/anna`, or `anna` for the whole fleet.
    pub fn user(&self, name: &str, kind: UserKind, expires: Option<Duration>) -> PathBuf {
        let (customer, name) = match name.split_once('/') {
            Some((customer, name)) => (Some(customer.parse().unwrap()), name),
            None => (None, name),
        };
        self.authority.add_user(customer.as_ref(), &name.parse().unwrap(), kind, expires, None).unwrap()
    }

    pub async fn revoke(&self, account: &str, name: &str) {
        let claims = self.authority.revoke_user(account, name).unwrap();
        push::update(&self.system().await, &claims).await.unwrap();
    }
}

/// Starts the server of a folder, or starts it again.
pub async fn start(dir: &Path, authority: &Authority) -> wanwright_supervisor::Nats {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("programs");
    let mut options = NatsOptions::new(dir.join("nats"), cache);
    options.sync_interval = SyncInterval::Lazy;
    let accounts = dir.join("nats/accounts");
    authority.fill(&accounts).unwrap();
    options.authority = Some(authority.configuration(&accounts).unwrap());
    wanwright_supervisor::Nats::start(&options).await.unwrap()
}

pub async fn subscribe(client: &Client, subject: &str) -> Subscriber {
    let subscriber = client.subscribe(subject.to_owned()).await.unwrap();
    client.flush().await.unwrap();
    subscriber
}

/// The same for a user that may publish to its own inbox: the server knows of the subscription when this returns.
pub async fn listen(client: &Client, subject: &str) -> Subscriber {
    let subscriber = subscribe(client, subject).await;
    let inbox = client.new_inbox();
    let mut back = client.subscribe(inbox.clone()).await.unwrap();
    client.publish(inbox, "".into()).await.unwrap();
    tokio::time::timeout(LIMIT, back.next()).await.unwrap().unwrap();
    subscriber
}

/// The subject and body of what comes next.
pub async fn next(subscriber: &mut Subscriber) -> (String, Bytes) {
    let message = tokio::time::timeout(LIMIT, subscriber.next()).await.unwrap().unwrap();
    (message.subject.to_string(), message.payload)
}

pub async fn is_silent(subscriber: &mut Subscriber) -> bool {
    tokio::time::timeout(NOTHING, subscriber.next()).await.is_err()
}
