//! Three servers keep every stream: what was accepted is there whoever of them dies, and how many keep it can be changed
//! while the system runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_nats::jetstream::stream::Config;
use serde_json::json;
use wanwright_nats::accounts::{Authority, Role};
use wanwright_nats::{Access, Nats};
use wanwright_schemas::subjects::{self, PARTITIONS};
use wanwright_supervisor::{Child, NatsCluster, NatsOptions, SyncInterval};
use wanwright_tests::{Answer, Customer, Home, Said, Signal, Timing, level, mint};

use crate::support::{home, program};

/// A cluster with accounts, as nats/README.md says.
struct Cluster {
    servers: NatsCluster,
    keys: Authority,
    /// All servers there were at the start.
    urls: String,
    home: Arc<Home>,
}

impl Cluster {
    async fn start() -> Result<Self> {
        Self::start_syncing(SyncInterval::Always).await
    }

    async fn start_syncing(sync_interval: SyncInterval) -> Result<Self> {
        let home = home()?;
        let mut nodes = Vec::new();
        for number in 0..3 {
            let dir = home.join(&format!("nats/{number}"));
            let accounts = dir.join("accounts").display().to_string();
            let said = program().call(&home, &["nats", "account", "config", &accounts]).await?.code(0)?;
            let options = NatsOptions::new(dir, home.join("cache"));
            nodes.push(NatsOptions { authority: Some(said.out), sync_interval, ..options });
        }
        let servers = NatsCluster::start_each(nodes).await?;
        let keys = Authority::open(&home.join("keys"), PARTITIONS)?;
        Ok(Self { urls: servers.urls(), servers, keys, home })
    }

    /// Calls the program as the administrator.
    async fn call(&self, args: &[&str]) -> Result<Said> {
        let admin = self.keys.role(Role::Admin).display().to_string();
        let program = program().with("WANWRIGHT_NATS", &self.urls).with("WANWRIGHT_NATS_CREDS", &admin);
        program.call(&self.home, args).await
    }

    async fn connect(&self) -> Result<Nats> {
        let access = Access::with_creds(&self.urls, self.keys.role(Role::Admin));
        let nats = wanwright_nats::connect(access, "wanwright-tests", PARTITIONS).await?;
        Ok(nats.with_servers_partitions().await?)
    }

    async fn customer(&self, name: &str) -> Result<Customer> {
        Customer::new(self.connect().await?, name)
    }

    /// A command service.
    async fn commands(&self) -> Result<Child> {
        let spec = program().spec(&self.home, &["serve", "commands", "--nats", &self.urls]);
        let spec = spec.env("WANWRIGHT_NATS_CREDS", self.keys.role(Role::Commands));
        let mut child = spec.log(self.home.join("commands.log")).piped().spawn()?;
        let mut lines = child.lines()?;
        let ready = tokio::time::timeout(level::LONG, lines.next()).await??;
        ensure!(ready.as_deref() == Some("ready"), "{ready:?}: {}", self.home.read("commands.log"));
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next().await {} });
        Ok(child)
    }

    /// Kills the server that leads a customer's history, and answers its name.
    async fn kill_leader(&mut self, customer: &Customer) -> Result<String> {
        let leader = leader(customer).await?;
        ensure!(self.servers.kill(&leader).await, "there is no server {leader}");
        Ok(leader)
    }

    /// The replayed history, and that its messages are those of the accepted commands, each once.
    async fn history(&self, customer: &Customer, accepted: &[String]) -> Result<String> {
        let replayed = self.call(&["replay", &customer.name, "--raw"]).await?.code(0)?.out;
        let envelopes = customer.history().await?;
        ensure!(replayed.lines().count() == envelopes.len());
        let ids: Vec<&str> = envelopes.iter().filter_map(|envelope| envelope["command"].as_str()).collect();
        ensure!(ids == accepted, "{ids:?} instead of {accepted:?}");
        Ok(replayed)
    }
}

fn stream_of(customer: &Customer) -> Result<String> {
    Ok(subjects::events_stream(subjects::partition(&customer.name.parse()?, customer.nats.partitions)))
}

/// The server that leads a customer's history.
async fn leader(customer: &Customer) -> Result<String> {
    let stream = customer.nats.js.get_stream(stream_of(customer)?).await?;
    let cluster = stream.cached_info().cluster.as_ref().context("a cluster")?;
    cluster.leader.clone().context("a leader")
}

/// Sends one command until it is answered with an outcome, and says how long that took.
async fn insist(customer: &Customer, id: &str, number: u32) -> Result<(Answer, Duration)> {
    let (tail, body) = match number {
        0 => ("site.oslo.create", json!({ "vendor": "simwan", "lan": ["10.1.0.0/24"] })),
        _ => ("site.oslo.change", json!({ "settings": { "location": format!("room {number}") } })),
    };
    level::reach("an outcome", level::LONG, async || {
        let asked = tokio::time::timeout(Duration::from_secs(2), customer.ask(id, tail, &body));
        let answer = asked.await??;
        Ok((answer.code() != Some("Unavailable")).then_some(answer))
    })
    .await
}

/// So many accepted commands more.
async fn more(customer: &Customer, accepted: &mut Vec<String>, count: usize) -> Result<Duration> {
    let mut longest = Duration::ZERO;
    for _ in 0..count {
        let id = mint();
        let (answer, took) = insist(customer, &id, u32::try_from(accepted.len())?).await?;
        answer.accepted()?;
        accepted.push(id);
        longest = longest.max(took);
    }
    Ok(longest)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_survives_the_leader() -> Result<()> {
    let timing = Timing::of("three replicas");
    let mut cluster = Cluster::start().await?;
    let applied = cluster.call(&["nats", "apply", "--replicas", "3"]).await?.code(0)?;
    ensure!(applied.out.starts_with("created EVENTS-0"), "{}", applied.out);
    ensure!(applied.err.contains("with three replicas"), "{}", applied.err);
    timing.say(format_args!("28 streams made and in step in {:.1?}", applied.took));
    cluster.call(&["nats", "plan"]).await?.code(0)?;
    let _commands = cluster.commands().await?;
    ensure!(cluster.home.read("commands.log").contains("replicas=3"), "the role does not say it");
    let (customer, mut accepted) = (cluster.customer("acme").await?, Vec::new());
    more(&customer, &mut accepted, 20).await?;
    let doctor = cluster.call(&["doctor"]).await?.code(0)?.out;
    let all = "runs with profile durable: three replicas, each write synced to disk by most";
    ensure!(doctor.lines().filter(|line| line.contains(all)).count() == 3, "{doctor}");
    ensure!(doctor.contains("all three replicas have all of every stream"), "{doctor}");

    let killed = cluster.kill_leader(&customer).await?;
    let pause = more(&customer, &mut accepted, 20).await?;
    timing.say(format_args!("{killed} killed, the next command accepted after {pause:.1?}"));
    cluster.history(&customer, &accepted).await?;
    cluster.call(&["nats", "plan"]).await?.code(0)?;
    let doctor = cluster.call(&["doctor"]).await?.code(1)?.out;
    let line = doctor.lines().find(|line| line.starts_with("missing  replicas:")).unwrap_or_default();
    ensure!(line.contains(&format!("{killed} is away")), "{doctor}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_are_added_and_taken_away_under_a_running_service() -> Result<()> {
    let timing = Timing::of("one replica, three, one");
    let cluster = Cluster::start().await?;
    let (refused, nats) =
        (cluster.call(&["nats", "apply", "--replicas", "5"]).await?, cluster.connect().await?);
    ensure!(refused.code(1)?.err.contains("a cluster of at least 5 nats-servers"));
    cluster.call(&["nats", "apply"]).await?.code(0)?;
    let _commands = cluster.commands().await?;
    let (customer, mut accepted) = (cluster.customer("acme").await?, Vec::new());
    more(&customer, &mut accepted, 30).await?;
    let one = cluster.history(&customer, &accepted).await?;
    let created = async || anyhow::Ok(nats.js.get_stream(stream_of(&customer)?).await?.cached_info().created);
    let incarnation = created().await?;

    // One stream was changed by hand, or a change was interrupted: named, and no role starts.
    let timers = nats.js.get_stream("TIMERS").await?.cached_info().config.clone();
    nats.js.update_stream(Config { num_replicas: 3, ..timers }).await?;
    let mixed = cluster.call(&["nats", "plan"]).await?.code(1)?;
    ensure!(mixed.out.trim() == "!  TIMERS: replicas is \"3\", should be \"1\"", "{}", mixed.out);
    let role = cluster.call(&["serve", "commands"]).await?.code(1)?;
    ensure!(role.err.contains(mixed.out.trim().trim_start_matches("!  ")) && role.out.is_empty(), "{role:?}");
    let kept = cluster.call(&["nats", "apply"]).await?.code(1)?;
    ensure!(kept.err.contains("TIMERS: replicas"), "{}", kept.err);

    let up = cluster.call(&["nats", "apply", "--replicas", "3"]).await?.code(0)?;
    ensure!(up.out.contains("changed EVENTS-0: one replica before, three replicas now"), "{}", up.out);
    ensure!(up.out.contains("deleted OUTCOMES") && up.out.contains("deleted SNAPSHOTS"), "{}", up.out);
    ensure!(up.out.lines().count() == 27 && !up.out.contains("TIMERS"), "{}", up.out);
    cluster.call(&["nats", "plan"]).await?.code(0)?;
    more(&customer, &mut accepted, 10).await?;
    ensure!(cluster.history(&customer, &accepted).await?.starts_with(&one), "the history is another one");

    // All that was there before is kept by the others too: another one leads, and stays when the first goes.
    let first = leader(&customer).await?;
    let stream = stream_of(&customer)?;
    let request = format!("$JS.API.STREAM.LEADER.STEPDOWN.{stream}");
    nats.client.request(request, "".into()).await?;
    let other = async || Ok(leader(&customer).await.ok().filter(|leader| *leader != first));
    let (second, _) = level::reach("another leader", level::LONG, other).await?;
    let three = cluster.history(&customer, &accepted).await?;
    let same = cluster.call(&["nats", "apply", "--replicas", "3"]).await?.code(0)?;
    ensure!(same.out.is_empty(), "{}", same.out);

    let down = cluster.call(&["nats", "apply", "--replicas", "1"]).await?.code(0)?;
    ensure!(down.out.contains("changed EVENTS-0: three replicas before, one replica now"), "{}", down.out);
    cluster.call(&["nats", "plan"]).await?.code(0)?;
    more(&customer, &mut accepted, 10).await?;
    ensure!(cluster.history(&customer, &accepted).await?.starts_with(&three), "the history is another one");
    ensure!(created().await? == incarnation, "the stream is another one");
    ensure!(leader(&customer).await? == second, "the server that led did not stay");
    // What was emptied is made again.
    ensure!(insist(&customer, &accepted[0], 0).await?.0.accepted()?.repeated(), "no repeat");
    timing.say(format_args!("1 to 3 in {:.1?}, 3 to 1 in {:.1?}", up.took, down.took));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_become_more_on_three_servers_of_which_one_dies() -> Result<()> {
    let timing = Timing::of("8 partitions become 32, three replicas");
    let mut cluster = Cluster::start().await?;
    cluster.call(&["nats", "apply", "--replicas", "3"]).await?.code(0)?;
    let commands = cluster.commands().await?;
    let (customer, mut accepted) = (cluster.customer("acme").await?, Vec::new());
    more(&customer, &mut accepted, 20).await?;
    let (eight, before) = (stream_of(&customer)?, cluster.history(&customer, &accepted).await?);
    let refused = cluster.call(&["nats", "repartition", "32"]).await?.code(1)?;
    ensure!(refused.err.contains("stop all roles first"), "{}", refused.err);
    commands.signal(Signal::TERM);
    commands.wait().await;

    let done = cluster.call(&["nats", "repartition", "32"]).await?.code(0)?;
    ensure!(done.out.starts_with("8 partitions become 32: 1 of 1 customers move"), "{}", done.out);
    timing.say(format_args!("24 streams made and a history copied in {:.1?}", done.took));
    // What was made is kept as often as the rest.
    cluster.call(&["nats", "plan"]).await?.code(0)?;
    let _commands = cluster.commands().await?;
    let customer = cluster.customer("acme").await?;
    ensure!(stream_of(&customer)? != eight, "the customer did not move");
    ensure!(cluster.history(&customer, &accepted).await? == before, "the history is another one");
    more(&customer, &mut accepted, 10).await?;
    let killed = cluster.kill_leader(&customer).await?;
    let pause = more(&customer, &mut accepted, 10).await?;
    timing.say(format_args!("{killed} killed, the next command accepted after {pause:.1?}"));
    ensure!(cluster.history(&customer, &accepted).await?.starts_with(&before), "the history is another one");
    // A command from before the change is known.
    ensure!(insist(&customer, &accepted[3], 3).await?.0.accepted()?.repeated(), "no repeat");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_lacks_messages_is_named_and_repaired() -> Result<()> {
    let timing = Timing::of("a damaged replica");
    // Where each write is synced a server had such a loss back from its own log after its start.
    let mut cluster = Cluster::start_syncing(SyncInterval::Lazy).await?;
    cluster.call(&["nats", "apply", "--replicas", "3"]).await?.code(0)?;
    let _commands = cluster.commands().await?;
    let (customer, mut accepted) = (cluster.customer("acme").await?, Vec::new());
    more(&customer, &mut accepted, 5).await?;
    // A server begins another file after 8 MiB; what is missing from the one it writes to it fetches by itself.
    let stream = stream_of(&customer)?;
    let other = subjects::events(&customer.name.parse()?, customer.nats.partitions).replace("acme", "filler");
    for _ in 0..40 {
        customer.nats.js.publish(other.clone(), vec![b'x'; 256 * 1024].into()).await?.await?;
    }
    let none = cluster.call(&["nats", "repair"]).await?.code(0)?;
    ensure!(none.out.is_empty() && none.err.contains("has all of every stream"), "{none:?}");

    let first = leader(&customer).await?;
    let damaged = if first == "node-2" { "node-1" } else { "node-2" };
    ensure!(cluster.servers.kill(damaged).await);
    let dir = cluster.home.join("nats").join(damaged.trim_start_matches("node-"));
    let blocks = blocks(&dir, &stream).context("the stream's files")?;
    std::fs::remove_file(blocks.join("1.blk"))?;
    let _ = std::fs::remove_file(blocks.join("index.db"));
    cluster.servers.mend().await?;
    let named = format!("{damaged} lacks ");
    let look = async || {
        let doctor = cluster.call(&["doctor"]).await?.code(1)?.out;
        Ok(doctor
            .lines()
            .any(|line| line.starts_with("missing  replicas:") && line.contains(&named))
            .then_some(()))
    };
    level::reach("doctor names the replica", level::LONG, look).await?;
    let plan = cluster.call(&["nats", "repair", "--dry-run"]).await?.code(1)?;
    ensure!(plan.out.starts_with(&named) && plan.out.contains(&format!("of {stream}; ")), "{}", plan.out);

    let admin = cluster.keys.role(Role::Admin);
    let spec = program().spec(&cluster.home, &["nats", "--nats", &cluster.urls, "repair"]);
    let repair = spec.env("WANWRIGHT_NATS_CREDS", admin).log(cluster.home.join("repair.log")).spawn()?;
    let home = Arc::clone(&cluster.home);
    let told = async |what: String| {
        level::reach(&what, level::LONG, async || Ok(home.read("repair.log").contains(&what).then_some(())))
            .await
    };
    told(format!("stop the server {damaged} now")).await?;
    ensure!(cluster.servers.kill(damaged).await);
    told(format!("start the server {damaged} now")).await?;
    more(&customer, &mut accepted, 5).await?;
    cluster.servers.mend().await?;
    let ended = tokio::time::timeout(level::LONG, repair.wait()).await?;
    ensure!(ended.success(), "{}", home.read("repair.log"));
    timing.say(format_args!("repaired:\n{}", home.read("repair.log")));

    cluster.call(&["nats", "plan"]).await?.code(0)?;
    // A server that was just started may lag a moment with other streams.
    let whole = async || Ok(cluster.call(&["doctor"]).await?.code(0).ok());
    let doctor = level::reach("doctor finds nothing", level::LONG, whole).await?.0.out;
    ensure!(doctor.contains("all three replicas have all of every stream"), "{doctor}");
    // With the first leader dead the repaired server is needed for every answer.
    ensure!(cluster.servers.kill(&first).await);
    more(&customer, &mut accepted, 5).await?;
    cluster.history(&customer, &accepted).await?;
    Ok(())
}

/// The folder below this one that has the messages of a stream.
fn blocks(below: &Path, stream: &str) -> Option<PathBuf> {
    let wanted = Path::new(stream).join("msgs");
    let folders =
        std::fs::read_dir(below).ok()?.flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
    folders
        .into_iter()
        .find_map(|path| if path.ends_with(&wanted) { Some(path) } else { blocks(&path, stream) })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_alone_keeps_one_replica() -> Result<()> {
    let home = home()?;
    let server =
        wanwright_supervisor::Nats::start(&NatsOptions::new(home.join("nats"), home.join("cache"))).await?;
    let program = program().with("WANWRIGHT_NATS", &server.url_with_login());
    let nats = async |args: &[&str]| program.call(&home, &[&["nats"], args].concat()).await;
    for streams in ["none", "all"] {
        let refused = nats(&["apply", "--replicas", "3"]).await?.code(1)?;
        ensure!(refused.err.contains("a cluster of at least 3 nats-servers"), "{streams}: {}", refused.err);
        ensure!(refused.out.is_empty(), "{streams}: {}", refused.out);
        let plan = nats(&["plan"]).await?.code(i32::from(streams == "none"))?;
        ensure!(
            plan.out.lines().count() == if streams == "none" { 28 } else { 0 },
            "{streams}: {}",
            plan.out
        );
        nats(&["apply"]).await?.code(0)?;
    }
    Ok(())
}
