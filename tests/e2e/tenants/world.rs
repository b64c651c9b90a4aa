//! A nats-server with accounts, a command service and fifty tenants; nothing else, so that whatever changes was changed
//! by a trick.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use async_nats::{Event, HeaderMap, jetstream};
use futures::TryStreamExt;
use serde_json::{Value, json};
use tokio::sync::mpsc::{self, UnboundedReceiver};
use wanwright_nats::accounts::{Authority, Role, UserKind, push};
use wanwright_nats::{Access, Nats, topology};
use wanwright_schemas::subjects::{self, PARTITIONS};
use wanwright_supervisor::{Child, NatsOptions, SyncInterval};
use wanwright_tests::{Home, mint};

use crate::support;

/// A tenant, or somebody who could be one.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// The customer.
    pub customer: String,
    /// Its user.
    pub user: String,
    /// Its site.
    pub site: String,
    /// A command of its.
    pub command: String,
    /// Its account's public key.
    pub key: String,
    /// Its account's claims.
    pub claims: String,
    /// Its partition.
    pub partition: u16,
}

impl Tenant {
    /// One that does not exist, with everything that can be guessed.
    pub fn imagined(number: usize) -> Self {
        let customer = format!("tenant-{number:02}");
        let partition = customer.parse().map(|id| subjects::partition(&id, PARTITIONS)).unwrap_or_default();
        Self {
            user: format!("user-{number:02}"),
            site: format!("site-{number:02}"),
            command: mint(),
            key: format!("A{}", "B".repeat(55)),
            claims: "claims".to_owned(),
            partition,
            customer,
        }
    }

    /// The stream with its history.
    pub fn stream(&self) -> String {
        subjects::events_stream(self.partition)
    }

    /// Its history.
    pub fn history(&self) -> String {
        format!("wan.evt.{}.{}", self.partition, self.customer)
    }
}

/// Everything that runs.
pub struct World {
    pub keys: Authority,
    pub admin: Nats,
    url: String,
    _commands: Child,
    _server: wanwright_supervisor::Nats,
    home: Arc<Home>,
}

impl World {
    pub async fn new() -> Result<Self> {
        let home = support::home()?;
        let keys = Authority::open_or_make(&home.join("keys"), PARTITIONS)?;
        let accounts = home.join("nats/accounts");
        keys.fill(&accounts)?;
        let mut options = NatsOptions::new(home.join("nats"), home.join("cache"));
        options.sync_interval = SyncInterval::Lazy;
        options.authority = Some(keys.configuration(&accounts)?);
        let server = wanwright_supervisor::Nats::start(&options).await?;
        let url = server.url();
        let admin = connect(&url, keys.role(Role::Admin)).await?;
        topology::apply(&admin, 1).await?;
        let mut commands = support::program()
            .spec(&home, &["serve", "commands"])
            .env("WANWRIGHT_NATS", &url)
            .env("WANWRIGHT_NATS_CREDS", keys.role(Role::Commands))
            .log(home.join("commands.log"))
            .piped()
            .spawn()?;
        let ready = commands.lines()?.next().await?;
        ensure!(ready.as_deref() == Some("ready"), "{ready:?}: {}", home.read("commands.log"));
        Ok(Self { keys, admin, url, _commands: commands, _server: server, home })
    }

    /// A connection with a credentials file.
    pub async fn connect(&self, creds: PathBuf) -> Result<Nats> {
        connect(&self.url, creds).await
    }

    /// A connection of a tenant that hears what the server says beside its messages.
    pub async fn listener(&self, tenant: &Tenant) -> Result<(Nats, UnboundedReceiver<String>)> {
        let creds = self.keys.creds(&tenant.customer, &tenant.user);
        let (addresses, options) = Access::with_creds(&self.url, creds).options()?;
        let (tell, said) = mpsc::unbounded_channel();
        let options = options.event_callback(move |event| {
            let tell = tell.clone();
            async move {
                if let Event::ServerError(error) = event {
                    let _ = tell.send(error.to_string());
                }
            }
        });
        let client = options.connect(addresses).await?;
        Ok((Nats::over(client.clone(), jetstream::new(client), PARTITIONS), said))
    }

    /// The folder of everything.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// A tenant with an account, a user and a site.
    pub async fn tenant(&self, number: usize, system: &Nats) -> Result<(Tenant, Nats)> {
        let mut tenant = Tenant::imagined(number);
        let customer = tenant.customer.parse()?;
        tenant.claims = self.keys.add_account(&customer)?;
        push::update(&system.client, &tenant.claims).await?;
        let account = self.keys.accounts()?.into_iter().find(|account| account.name == tenant.customer);
        tenant.key = account.context("the account")?.key;
        let user = tenant.user.parse()?;
        let creds = self.keys.add_user(Some(&customer), &user, UserKind::Tenant, None, None)?;
        let nats = self.connect(creds).await?;
        let mut head = HeaderMap::new();
        head.insert("Wan-Command-Id", tenant.command.as_str());
        let body = json!({ "vendor": "simwan", "lan": ["10.1.0.0/24"] }).to_string();
        let subject = format!("wan.do.{}.{}.site.{}.create", tenant.customer, tenant.user, tenant.site);
        let answer = nats.client.request_with_headers(subject, head, body.into()).await?;
        let answer: Value = serde_json::from_slice(&answer.payload)?;
        ensure!(answer["status"] == "accepted", "{answer}");
        Ok((tenant, nats))
    }

    /// What can be seen of every stream and bucket, except what is renewed all the time.
    pub async fn fingerprint(&self) -> Result<BTreeMap<String, String>> {
        let names: Vec<String> = self.admin.js.stream_names().try_collect().await?;
        let mut seen = BTreeMap::new();
        for name in names {
            let info = self.admin.js.get_stream(&name).await?.cached_info().clone();
            let state = &info.state;
            let text = if ["KV_partitions", "KV_leases"].contains(&name.as_str()) {
                format!("{} subjects, {} consumers", state.subjects_count, state.consumer_count)
            } else {
                format!(
                    "{} messages, {} bytes, {}..{}, {} subjects, {} consumers, {:?}",
                    state.messages,
                    state.bytes,
                    state.first_sequence,
                    state.last_sequence,
                    state.subjects_count,
                    state.consumer_count,
                    info.config.subjects,
                )
            };
            seen.insert(name, text);
        }
        Ok(seen)
    }

    /// The fingerprint, once it does not change any more.
    pub async fn at_rest(&self) -> Result<BTreeMap<String, String>> {
        let mut before = self.fingerprint().await?;
        for _ in 0..100 {
            // What is on its way takes a moment, and looks like rest; the inventory is written a second later.
            tokio::time::sleep(Duration::from_millis(2500)).await;
            let now = self.fingerprint().await?;
            if now == before {
                return Ok(now);
            }
            before = now;
        }
        bail!("the streams do not come to rest: {before:?}")
    }
}

async fn connect(url: &str, creds: PathBuf) -> Result<Nats> {
    Ok(wanwright_nats::connect(Access::with_creds(url, creds), "tenants", PARTITIONS).await?)
}
