//! A nats-server and a command service for one test.

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::stream::DirectGetErrorKind;
use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use wanwright_commands::service;
use wanwright_nats::{Leases, Nats, NatsError, StoredMessage, load_subject, topology};
use wanwright_schemas::{CommandId, CustomerId, Outcome, Reason, headers, subjects};
use wanwright_supervisor::{NatsOptions, SyncInterval};
use wanwright_vendors::{Catalogue, Vendors};

pub const PARTITIONS: u16 = 8;
pub const LIMIT: Duration = Duration::from_secs(20);
pub const SITE: &str = r#"{"vendor":"simwan","lan":["10.1.0.0/24"]}"#;

pub struct World {
    pub nats: Nats,
    services: Mutex<Vec<Service>>,
    _server: wanwright_supervisor::Nats,
    _dir: tempfile::TempDir,
}

/// A running command service.
pub struct Service {
    stop: CancellationToken,
    running: JoinHandle<Result<(), NatsError>>,
}

impl Service {
    pub async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(LIMIT, self.running).await.unwrap().unwrap().unwrap();
    }

    /// Waits until it ends by itself, and answers why.
    pub async fn ends(self) -> NatsError {
        tokio::time::timeout(LIMIT, self.running).await.unwrap().unwrap().unwrap_err()
    }

    /// Ends it where it stands: its leases are not given back, nothing is finished.
    pub async fn kill(self) {
        self.running.abort();
        let _ = self.running.await;
    }
}

impl World {
    pub async fn new() -> Self {
        Self::with("").await
    }

    /// With more configuration of the server.
    pub async fn with(extra: &str) -> Self {
        let world = Self::empty(extra).await;
        let service = world.serve().await;
        world.services.lock().unwrap().push(service);
        world
    }

    /// Without a command service.
    pub async fn empty(extra: &str) -> Self {
        Self::over(tempfile::tempdir().unwrap(), extra).await
    }

    /// The same files under a server that is started again, when something was done to them meanwhile. Services have to be
    /// stopped before.
    pub async fn started_again(self, meanwhile: impl FnOnce(&Path)) -> Self {
        let Self { _server: server, _dir: dir, .. } = self;
        server.stop(LIMIT).await;
        meanwhile(dir.path());
        Self::over(dir, "").await
    }

    async fn over(dir: tempfile::TempDir, extra: &str) -> Self {
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("programs");
        let mut options = NatsOptions::new(dir.path(), cache);
        options.sync_interval = SyncInterval::Lazy;
        options.extra = extra.to_owned();
        let server = wanwright_supervisor::Nats::start(&options).await.unwrap();
        let nats = wanwright_nats::connect(&server.url_with_login(), "test", PARTITIONS).await.unwrap();
        topology::apply(&nats, 1).await.unwrap();
        Self { nats, services: Mutex::default(), _server: server, _dir: dir }
    }

    /// The folder of the server.
    pub fn dir(&self) -> &Path {
        self._dir.path()
    }

    /// How the server is reached, login included.
    pub fn url(&self) -> String {
        self._server.url_with_login()
    }

    /// A file of master keys, outside of what the server keeps.
    pub fn master_key(&self) -> std::path::PathBuf {
        self.dir().join("keys/master.key")
    }

    /// Starts a command service that takes personal data.
    pub async fn serve_sealing(&self) -> Service {
        let master_key = Some(self.master_key());
        self.serve_with(service::Options { master_key, ..service::Options::default() }).await
    }

    /// Why a command service does not start with these options.
    pub async fn start_fails(&self, options: service::Options) -> String {
        let vendors = concat!(env!("CARGO_MANIFEST_DIR"), "/../vendors");
        let vendors = std::sync::Arc::new(Catalogue::load(vendors).unwrap());
        let stop = CancellationToken::new();
        let running = service::run(self.nats.clone(), vendors, options, stop, || panic!("it is ready"));
        let error = tokio::time::timeout(LIMIT, running).await.unwrap().unwrap_err();
        wanwright_nats::chain(&error)
    }

    /// Starts a command service with a connection of its own and waits until every partition is served.
    pub async fn serve(&self) -> Service {
        self.serve_with(service::Options::default()).await
    }

    pub async fn serve_with(&self, options: service::Options) -> Service {
        let vendors = concat!(env!("CARGO_MANIFEST_DIR"), "/../vendors");
        self.serve_vendors(Catalogue::load(vendors).unwrap(), options).await
    }

    pub async fn serve_vendors(&self, vendors: impl Into<Vendors>, options: service::Options) -> Service {
        let nats = wanwright_nats::connect(&self._server.url_with_login(), "test", PARTITIONS).await.unwrap();
        let nats = nats.with_servers_partitions().await.unwrap();
        let (service, opened) = Self::launch(nats, vendors, options);
        tokio::time::timeout(LIMIT, opened).await.unwrap().unwrap();
        service
    }

    /// Starts a command service that knows what this connection knows; the receiver is told when it is ready.
    pub fn launch(
        nats: Nats,
        vendors: impl Into<Vendors>,
        options: service::Options,
    ) -> (Service, tokio::sync::oneshot::Receiver<()>) {
        let vendors = vendors.into();
        let stop = CancellationToken::new();
        let (open, opened) = tokio::sync::oneshot::channel();
        let ready = move || {
            let _ = open.send(());
        };
        let running = tokio::spawn(service::run(nats, vendors, options, stop.clone(), ready));
        (Service { stop, running }, opened)
    }

    /// Who holds each partition.
    pub async fn holders(&self) -> Vec<Option<String>> {
        let leases = Leases::of_partitions(&self.nats, "test").await.unwrap();
        let mut holders = Vec::new();
        for partition in 0..PARTITIONS {
            holders.push(leases.holder(&partition.to_string()).await.unwrap());
        }
        holders
    }

    /// Waits until so many services hold all partitions between them, with equal shares.
    pub async fn shared_by(&self, services: usize) {
        let shared = async {
            loop {
                let holders = self.holders().await;
                let share = holders.len() / services;
                let count = |holder: &Option<String>| holders.iter().filter(|other| *other == holder).count();
                if holders.iter().all(|holder| holder.is_some() && count(holder) == share) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(LIMIT, shared).await.unwrap();
    }

    /// Sends a command and waits for its outcome.
    pub async fn ask(&self, tail: &str, id: CommandId, body: &str) -> Outcome {
        let subject = format!("wan.do.{tail}");
        let body = Bytes::copy_from_slice(body.as_bytes());
        let answer = self.nats.client.request_with_headers(subject, with(id), body).await.unwrap();
        serde_json::from_slice(&answer.payload).unwrap()
    }

    /// Puts a command into the inbox.
    pub async fn put(&self, tail: &str, id: CommandId, body: Bytes) {
        let sent = self.nats.js.publish_with_headers(format!("wan.cmd.{tail}"), with(id), body).await;
        sent.unwrap().await.unwrap();
    }

    /// Waits for the outcome of a command from the inbox.
    pub async fn outcome(&self, customer: &str, id: CommandId) -> Outcome {
        let subject = subjects::outcome(&self::customer(customer), id);
        let message = self.first(topology::OUTCOMES, &subject).await;
        serde_json::from_slice(&message.payload).unwrap()
    }

    /// Waits for a message under a subject.
    pub async fn first(&self, stream: &str, subject: &str) -> StoredMessage {
        let found = async {
            loop {
                if let Some(message) = self.stored(stream, subject).await.into_iter().next() {
                    return message;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(LIMIT, found).await.unwrap_or_else(|_| panic!("nothing came under {subject}"))
    }

    pub async fn stored(&self, stream: &str, subject: &str) -> Vec<StoredMessage> {
        load_subject(&self.nats, stream, subject, 0).await.unwrap()
    }

    /// The messages of a customer's history.
    pub async fn history(&self, customer: &str) -> Vec<StoredMessage> {
        let customer = self::customer(customer);
        self.stored(&stream_of(&customer), &subjects::events(&customer, PARTITIONS)).await
    }

    /// Waits until nothing is in the inbox.
    pub async fn inbox_is_empty(&self) {
        let empty = async {
            loop {
                let inbox = self.nats.js.get_stream(topology::COMMANDS).await.unwrap();
                if inbox.cached_info().state.messages == 0 {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(LIMIT, empty).await.unwrap();
    }

    pub async fn forget_outcome(&self, customer: &str, id: CommandId) {
        let subject = subjects::outcome(&self::customer(customer), id);
        let stream = self.nats.js.get_stream_no_info(topology::OUTCOMES).await.unwrap();
        stream.purge().filter(&subject).await.unwrap();
        let gone = stream.direct_get_last_for_subject(&subject).await.unwrap_err();
        assert_eq!(gone.kind(), DirectGetErrorKind::NotFound);
    }

    /// Ends all services and starts one anew.
    pub async fn restart(&self) {
        let services = std::mem::take(&mut *self.services.lock().unwrap());
        for service in services {
            service.stop().await;
        }
        let service = self.serve().await;
        self.services.lock().unwrap().push(service);
    }

    pub async fn stop(self) {
        for service in self.services.into_inner().unwrap() {
            service.stop().await;
        }
    }
}

pub fn with(id: CommandId) -> HeaderMap {
    let mut head = HeaderMap::new();
    head.insert(headers::COMMAND_ID, id.to_string().as_str());
    head
}

pub fn customer(name: &str) -> CustomerId {
    name.parse().unwrap()
}

pub fn stream_of(customer: &CustomerId) -> String {
    subjects::events_stream(subjects::partition(customer, PARTITIONS))
}

pub fn code(outcome: &Outcome) -> Option<Reason> {
    outcome.refusal().map(|refusal| refusal.code)
}
