//! The dispatcher loads customers from their snapshots on, and believes one only where the history goes through it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use wanwright_commands::{Head, STATE_VERSION, orders};
use wanwright_executors::dispatcher;
use wanwright_nats::{
    History, Nats, NatsError, OrderTable, Snapshot, Snapshots, stream_info, topology, trace,
};
use wanwright_schemas::envelope::{Digest, Envelope};
use wanwright_schemas::order::{Intent, Order, Target};
use wanwright_schemas::trace::TraceContext;
use wanwright_schemas::{CommandId, CustomerId, Position, subjects};
use wanwright_supervisor::{NatsOptions, SyncInterval};
use wanwright_vendors::Catalogue;

const LIMIT: Duration = Duration::from_secs(120);
const ORDER: &str = "44136fa3-55b3-878a-9146-ad16f7e86401";

pub struct World {
    pub nats: Nats,
    _server: wanwright_supervisor::Nats,
    _dir: tempfile::TempDir,
}

/// A dispatcher until it is dropped.
pub struct Running {
    stop: DropGuard,
    task: JoinHandle<Result<(), NatsError>>,
}

impl Running {
    pub async fn stop(self) {
        drop(self.stop);
        self.task.await.unwrap().unwrap();
    }
}

impl World {
    pub async fn new() -> Self {
        Self::of_partitions(1).await
    }

    pub async fn of_partitions(partitions: u16) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("programs");
        let mut options = NatsOptions::new(dir.path(), cache);
        options.sync_interval = SyncInterval::Lazy;
        let server = wanwright_supervisor::Nats::start(&options).await.unwrap();
        let nats = wanwright_nats::connect(&server.url_with_login(), "test", partitions).await.unwrap();
        topology::apply(&nats, 1).await.unwrap();
        Self { nats, _server: server, _dir: dir }
    }

    pub fn dispatch(&self) -> Running {
        let vendors = concat!(env!("CARGO_MANIFEST_DIR"), "/../vendors");
        self.dispatch_for(Arc::new(Catalogue::load(vendors).unwrap()))
    }

    pub fn dispatch_for(&self, vendors: Arc<Catalogue>) -> Running {
        let stop = CancellationToken::new();
        let task = tokio::spawn(dispatcher::run(self.nats.clone(), vendors, None, stop.clone(), || ()));
        Running { stop: stop.drop_guard(), task }
    }

    /// Appends a message with these events to a customer's history.
    pub async fn append(&self, customer: &CustomerId, head: &mut Head, events: &[Value]) {
        self.append_in(None, customer, head, events).await;
    }

    /// The same, in a trace.
    async fn append_in(&self, trace: Option<&str>, customer: &CustomerId, head: &mut Head, events: &[Value]) {
        let envelope = Envelope {
            v: 1,
            command: CommandId::mint(),
            body_sha256: Digest::of(b"{}"),
            actor: "demo".parse().unwrap(),
            cause: None,
            correlation: None,
            time: jiff::Timestamp::now(),
            prev: head.digest,
            key: None,
            events: events.iter().map(|event| serde_json::from_value(event.clone()).unwrap()).collect(),
        };
        let bytes = envelope.encode().unwrap();
        let history = History::new(self.nats.clone());
        let mut headers = HeaderMap::new();
        if let Some(trace) = TraceContext::read(trace, Some("rojo=1")) {
            trace::write(&trace, &mut headers);
        }
        let appended =
            history.append(customer, head.sequence, envelope.command, headers, bytes.clone().into());
        let sequence = appended.await.unwrap();
        head.fold(sequence, &bytes).unwrap();
    }

    async fn freeze(&self, customer: &CustomerId, head: &Head) {
        let state = head.freeze().unwrap().into();
        let history = History::new(self.nats.clone()).load(customer, 0).await.unwrap();
        let folded = history.iter().filter(|message| message.sequence <= head.sequence).count();
        self.keep(customer, head.sequence, u64::try_from(folded).unwrap(), state).await;
    }

    async fn keep(&self, customer: &CustomerId, sequence: u64, messages: u64, state: bytes::Bytes) {
        let stream = subjects::events_stream(subjects::partition(customer, self.nats.partitions));
        let incarnation = stream_info(&self.nats.js, &stream).await.unwrap().incarnation;
        let snapshot = Snapshot { version: STATE_VERSION, sequence, messages, incarnation, state };
        Snapshots::new(self.nats.clone()).put(customer, &snapshot).await.unwrap();
    }

    /// How many rows of the table of orders match.
    pub async fn orders(&self, of: &str) -> usize {
        let stream = self.nats.js.get_stream_no_info(topology::ORDERS).await.unwrap();
        let rows = stream.info_with_subjects(format!("wan.order.*.{of}.*.*")).await.unwrap();
        futures::StreamExt::count(rows).await
    }

    /// The generation and the trace that a site's order has, once it is another than this generation.
    async fn order_after(&self, generation: u64) -> (u64, Option<TraceContext>) {
        let table = OrderTable::new(self.nats.clone());
        let end = Instant::now() + LIMIT;
        loop {
            if let Some(row) = table.get("wan.order.simwan.acme.site.oslo").await.unwrap() {
                let order: Order = serde_json::from_slice(&row.payload).unwrap();
                if order.generation() > generation {
                    return (order.generation(), trace::read(&row.headers));
                }
            }
            assert!(Instant::now() < end, "no order after generation {generation} in time");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until the dispatcher has worked off this message and all before it.
    pub async fn worked_off(&self, sequence: u64) {
        until("the events are worked off", || async {
            let stream = self.nats.js.get_stream(subjects::events_stream(0)).await.unwrap();
            let consumer = stream.get_consumer::<pull::Config>("dispatcher").await;
            consumer.is_ok_and(|consumer| consumer.cached_info().ack_floor.stream_sequence >= sequence)
        })
        .await;
    }
}

pub async fn until<F: Future<Output = bool>>(what: &str, mut level: impl FnMut() -> F) {
    let end = Instant::now() + LIMIT;
    while !level().await {
        assert!(Instant::now() < end, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub fn site(id: &str, lan: &str) -> Value {
    json!({"type": "SiteCreated", "v": 1, "site": id, "generation": 1, "spec": {"vendor": "simwan", "lan": [lan], "settings": {}}})
}

fn device(kind: &str, id: &str, generation: u64) -> Value {
    let spec = json!({"site": "oslo", "serial": format!("SN-{id}"), "model": "edge-100",
        "settings": {"vlan": generation % 4000 + 1, "hostname": format!("host-{id}-{generation}")}});
    json!({"type": kind, "v": 1, "device": id, "generation": generation, "spec": spec})
}

pub fn applied(kind: &str, id: &str, generation: u64) -> Value {
    let name = if kind == "site" { "SiteApplied" } else { "DeviceApplied" };
    json!({"type": name, "v": 1, kind: id, "generation": generation, "order": ORDER,
        "outputs": {"id": format!("v-{id}"), "address": "203.0.113.1"}})
}

#[tokio::test]
async fn a_load_begins_at_the_snapshot() {
    let world = World::new().await;
    let acme: CustomerId = "acme".parse().unwrap();
    let mut head = Head::default();
    world.append(&acme, &mut head, &[site("oslo", "10.1.0.0/24")]).await;
    // A state that says more than the history does, so that it can be told who read what.
    let more: wanwright_schemas::Event = serde_json::from_value(site("bergen", "10.2.0.0/24")).unwrap();
    let mut frozen = head.clone();
    frozen.state.evolve(&more, CommandId::mint());
    world.freeze(&acme, &frozen).await;
    world.append(&acme, &mut head, &[site("tromso", "10.3.0.0/24")]).await;
    let running = world.dispatch();
    until("orders from the snapshot and from what came since", || async { world.orders("acme").await == 3 })
        .await;
    running.stop().await;
}

#[tokio::test]
async fn a_history_that_does_not_go_through_its_snapshot_gets_no_orders() {
    let world = World::new().await;
    let [rewritten, shorter, well] = ["rewritten", "shorter", "well"].map(|name| name.parse().unwrap());
    for customer in [&rewritten, &shorter, &well] {
        let mut head = Head::default();
        world.append(customer, &mut head, &[site("oslo", "10.1.0.0/24")]).await;
        if customer == &rewritten {
            head.digest = Some(Digest::of(b"another message"));
        }
        if customer == &shorter {
            head.sequence = 9;
        }
        world.freeze(customer, &head).await;
    }
    let running = world.dispatch();
    world.worked_off(3).await;
    until("the orders of the third", || async { world.orders("well").await == 1 }).await;
    assert_eq!((world.orders("rewritten").await, world.orders("shorter").await), (0, 0));
    running.stop().await;
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_read_is_as_good_as_none() {
    let world = World::new().await;
    let acme: CustomerId = "acme".parse().unwrap();
    let mut head = Head::default();
    world.append(&acme, &mut head, &[site("oslo", "10.1.0.0/24")]).await;
    world.keep(&acme, 1, 1, bytes::Bytes::from_static(b"{}")).await;
    let running = world.dispatch();
    until("the order", || async { world.orders("acme").await == 1 }).await;
    running.stop().await;
}

#[tokio::test]
async fn an_order_goes_on_with_the_trace_of_the_newest_event_that_caused_it() {
    let of = |digit: &str| format!("00-{}-00f067aa0ba902b7-01", digit.repeat(32));
    let world = World::new().await;
    let acme: CustomerId = "acme".parse().unwrap();
    let mut head = Head::default();
    let changed = |generation: u64| {
        json!({"type": "SiteChanged", "v": 1, "site": "oslo", "generation": generation,
            "spec": {"vendor": "simwan", "lan": [format!("10.{generation}.0.0/24")], "settings": {}}})
    };
    // Two events that are read at once, and then one by one.
    world.append_in(Some(&of("1")), &acme, &mut head, &[site("oslo", "10.1.0.0/24")]).await;
    world.append_in(Some(&of("2")), &acme, &mut head, &[changed(2)]).await;
    // One about something else is no cause.
    world.append_in(Some(&of("3")), &acme, &mut head, &[site("bergen", "10.200.0.0/24")]).await;
    let running = world.dispatch();
    let (generation, trace) = world.order_after(0).await;
    let trace = trace.expect("a trace");
    assert_eq!((generation, trace.parent, trace.state.as_deref()), (2, of("2"), Some("rojo=1")));
    world.append_in(Some(&of("4")), &acme, &mut head, &[changed(3)]).await;
    assert_eq!(world.order_after(2).await.1.map(|trace| trace.parent), Some(of("4")));
    world.append(&acme, &mut head, &[changed(4)]).await;
    assert_eq!(world.order_after(3).await, (4, None), "nothing of the older traces");
    running.stop().await;
}

#[tokio::test]
async fn one_change_does_not_wait_behind_another_customers_thousands() {
    const MANY: u32 = 2_000;
    let world = World::new().await;
    let (bulk, acme): (CustomerId, CustomerId) = ("bulk".parse().unwrap(), "acme".parse().unwrap());
    let mut head = Head::default();
    world.append(&bulk, &mut head, &[site("oslo", "10.1.0.0/24")]).await;
    world.append(&bulk, &mut head, &[applied("site", "oslo", 1)]).await;
    for number in 0..MANY {
        world.append(&bulk, &mut head, &[device("DeviceCreated", &format!("d-{number}"), 1)]).await;
    }
    world.append(&acme, &mut Head::default(), &[site("oslo", "10.1.0.0/24")]).await;
    let running = world.dispatch();
    let table = OrderTable::new(world.nats.clone());
    until("all orders", || async { world.orders("bulk").await == MANY as usize }).await;
    let single =
        table.get("wan.order.simwan.acme.site.oslo").await.unwrap().expect("the order of the single change");
    assert!(single.sequence < u64::from(MANY) / 2, "it was the {}th", single.sequence);
    // Each message was answered: nothing comes again.
    until("all messages answered", || async {
        let stream = world.nats.js.get_stream("EVENTS-0").await.unwrap();
        let info = stream.consumer_info("dispatcher").await.unwrap();
        info.num_ack_pending == 0 && info.num_pending == 0
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn a_change_goes_before_the_looks_of_a_whole_fleet() {
    const CUSTOMERS: usize = 20;
    const DEVICES: usize = 60;
    let world = World::new().await;
    let mut heads = Vec::new();
    for number in 0..CUSTOMERS {
        let (customer, mut head) = (format!("customer-{number:02}").parse().unwrap(), Head::default());
        let mut events = vec![site("oslo", "10.1.0.0/24"), applied("site", "oslo", 1)];
        for device_number in 0..DEVICES {
            let id = format!("d-{device_number}");
            events.extend([device("DeviceCreated", &id, 1), applied("device", &id, 1)]);
        }
        world.append(&customer, &mut head, &events).await;
        heads.push((customer, head));
    }
    // Behind all others, also for the sweep.
    let (zulu, mut head): (CustomerId, _) = ("zulu".parse().unwrap(), Head::default());
    world.append(&zulu, &mut head, &[site("oslo", "10.1.0.0/24"), applied("site", "oslo", 1)]).await;
    let before = world.dispatch();
    world.worked_off(CUSTOMERS as u64 + 1).await;
    before.stop().await;
    assert_eq!(world.orders("*").await, 0, "all is as it should be");
    for (customer, head) in &mut heads {
        let check = CommandId::mint();
        let look = |number| json!({"type": "DeviceDriftCheckRequested", "v": 1, "device": format!("d-{number}"), "check": check});
        let looks: Vec<Value> = (0..DEVICES).map(look).collect();
        world.append(customer, head, &looks).await;
    }
    world.append(&zulu, &mut head, &[site("bergen", "10.2.0.0/24")]).await;
    let running = world.dispatch();
    until("all orders", || async { world.orders("*").await == CUSTOMERS * DEVICES + 1 }).await;
    let table = OrderTable::new(world.nats.clone());
    let change = table.get("wan.order.simwan.zulu.site.bergen").await.unwrap().expect("the change's order");
    assert!(change.sequence < 400, "{} looks went before it", change.sequence - 1);
    running.stop().await;
}

/// A history like those of real customers: one site, devices that were changed and applied again and again, and one
/// change that is still to be carried out. Answers the state at a place near its end as well.
async fn life(world: &World, customer: &CustomerId, messages: u64, devices: u64) -> Head {
    let mut head = Head::default();
    world.append(customer, &mut head, &[site("oslo", "10.1.0.0/24")]).await;
    world.append(customer, &mut head, &[applied("site", "oslo", 1)]).await;
    let mut frozen = Head::default();
    for number in 0..messages / 2 - 1 {
        let (id, generation) = (format!("d-{}", number % devices), number / devices + 1);
        let kind = if generation == 1 { "DeviceCreated" } else { "DeviceChanged" };
        world.append(customer, &mut head, &[device(kind, &id, generation)]).await;
        if number + 2 < messages / 2 {
            world.append(customer, &mut head, &[applied("device", &id, generation)]).await;
        }
        if number == messages * 2 / 5 {
            frozen = head.clone();
        }
    }
    frozen
}

/// What it takes until the table of orders is right again after a start. Run it by name, with `--nocapture`:
/// `CUSTOMERS` and `MESSAGES` say how many customers there are, and how long their histories.
#[tokio::test]
#[ignore = "it measures"]
async fn starting_with_long_histories() {
    let number = |name: &str, usual: u64| std::env::var(name).map_or(usual, |text| text.parse().unwrap());
    let (customers, messages) = (number("CUSTOMERS", 200), number("MESSAGES", 500));
    let world = World::new().await;
    let mut frozen = Vec::new();
    for number in 0..customers {
        let customer: CustomerId = format!("customer-{number}").parse().unwrap();
        let head = life(&world, &customer, messages, 20).await;
        frozen.push((customer, head));
    }
    // As after a restart: every event has been worked off, so it is the sweep that sets the table right.
    let stream = world.nats.js.get_stream(subjects::events_stream(0)).await.unwrap();
    let config = pull::Config {
        durable_name: Some("dispatcher".into()),
        deliver_policy: DeliverPolicy::New,
        ..Default::default()
    };
    stream.create_consumer(config).await.unwrap();
    let all = usize::try_from(customers).unwrap();
    for with in ["whole histories", "snapshots"] {
        if with == "snapshots" {
            for (customer, head) in &frozen {
                world.freeze(customer, head).await;
            }
        }
        world.nats.js.get_stream(topology::ORDERS).await.unwrap().purge().await.unwrap();
        let began = Instant::now();
        let running = world.dispatch();
        until("the table of orders", || async { world.orders("*").await == all }).await;
        eprintln!(
            "{customers} customers, {messages} messages each, {with}: right after {:.2?}",
            began.elapsed()
        );
        running.stop().await;
    }
}

const ROW: &str = "wan.order.simwan.acme.site.oslo";

/// The moment so many seconds from now, to the second.
fn soon(seconds: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() + seconds).unwrap()
}

/// A customer's change window, from one moment to another of every day.
fn window(from: jiff::Timestamp, to: jiff::Timestamp) -> Value {
    let clock = |at: jiff::Timestamp| at.strftime("%H:%M:%S").to_string();
    let windows = json!({"w": {"zone": "UTC", "from": clock(from), "to": clock(to)}});
    json!({"type": "CustomerChanged", "v": 1, "customer": "acme", "generation": 1,
        "spec": {"policy": {}, "windows": windows}})
}

/// Whether the row of Oslo waits to be carried out.
async fn waits(world: &World) -> bool {
    let row = OrderTable::new(world.nats.clone()).get(ROW).await.unwrap();
    row.is_some_and(|row| !row.is_done())
}

#[tokio::test]
async fn an_order_follows_by_itself_when_a_window_opens() {
    let world = World::new().await;
    let acme: CustomerId = "acme".parse().unwrap();
    let mut head = Head::default();
    let opens = soon(8);
    world.append(&acme, &mut head, &[window(opens, opens + jiff::SignedDuration::from_hours(1))]).await;
    let running = world.dispatch();
    world.append(&acme, &mut head, &[site("oslo", "10.1.0.0/24")]).await;
    world.worked_off(2).await;
    assert!(!waits(&world).await || jiff::Timestamp::now() >= opens, "it begins before its window");
    assert!(jiff::Timestamp::now() < opens, "this machine is too slow to tell");
    until("the order", || waits(&world)).await;
    let now = jiff::Timestamp::now();
    assert!(opens <= now, "it came at {now}, before {opens}");
    // The sweep alone would have come up to half a minute later.
    assert!(now < opens + jiff::SignedDuration::from_secs(15), "it came at {now}, long after {opens}");
    running.stop().await;
}

/// A plan of Oslo that nobody approves before then. The moment is the history's, so it may be sooner than a policy can ask
/// for.
fn planned(head: &Head, customer: &CustomerId, expires: jiff::Timestamp) -> Value {
    let vendors = Catalogue::load(concat!(env!("CARGO_MANIFEST_DIR"), "/../vendors")).unwrap();
    let vendor = vendors.get("simwan").unwrap();
    let target = Target::Site("oslo".parse().unwrap());
    let nowhere = Position { stream: String::new(), sequence: 0 };
    let wanted = orders::wanted(customer, &head.state, vendor, &target, &nowhere);
    let order = wanted.change.unwrap();
    assert_eq!(order.intent, Intent::Plan { remove: false, number: 1 });
    json!({"type": "SitePlanned", "v": 1, "site": "oslo", "generation": 1, "order": order.id, "wish": wanted.wish,
        "expires": expires, "requested_by": ["demo"], "approvals": {}, "plan": {
            "hash": Digest::of(b"file"), "template": vendor.terraform.as_ref().unwrap().effects, "serial": 0,
            "lineage": "", "counts": {"create": 1, "update": 0, "delete": 0, "replace": 0}}})
}

#[tokio::test]
async fn a_plan_that_nobody_approves_in_time_is_ordered_anew_by_itself() {
    let world = World::new().await;
    let acme: CustomerId = "acme".parse().unwrap();
    let mut head = Head::default();
    let policy = json!({"type": "CustomerChanged", "v": 1, "customer": "acme", "generation": 1,
        "spec": {"policy": {"site": "plan"}}});
    let asked = json!({"type": "SitePlanRequested", "v": 1, "site": "oslo", "generation": 1,
        "requested_by": ["demo"], "rule": {}});
    world.append(&acme, &mut head, &[policy, site("oslo", "10.1.0.0/24"), asked]).await;
    let expires = soon(8);
    let first = planned(&head, &acme, expires);
    world.append(&acme, &mut head, &[first]).await;
    let running = world.dispatch();
    world.worked_off(2).await;
    assert!(!waits(&world).await || jiff::Timestamp::now() >= expires, "it is planned again before its time");
    assert!(jiff::Timestamp::now() < expires, "this machine is too slow to tell");
    until("another plan is ordered", || waits(&world)).await;
    let now = jiff::Timestamp::now();
    assert!(expires <= now, "it came at {now}, before {expires}");
    // The sweep alone would have come up to half a minute later.
    assert!(now < expires + jiff::SignedDuration::from_secs(15), "it came at {now}, long after {expires}");
    let row = OrderTable::new(world.nats.clone()).get(ROW).await.unwrap().unwrap();
    let order: Order = serde_json::from_slice(&row.payload).unwrap();
    assert_eq!(order.intent, Intent::Plan { remove: false, number: 2 });
    running.stop().await;
}

#[tokio::test]
async fn what_is_not_begun_when_a_window_closes_waits_for_the_next_one() {
    let world = World::new().await;
    let acme: CustomerId = "acme".parse().unwrap();
    let mut head = Head::default();
    let closes = soon(8);
    let opened = closes - jiff::SignedDuration::from_hours(1);
    world.append(&acme, &mut head, &[window(opened, closes), site("oslo", "10.1.0.0/24")]).await;
    let running = world.dispatch();
    until("the order", || waits(&world)).await;
    until("its withdrawal", || async { !waits(&world).await }).await;
    assert!(closes <= jiff::Timestamp::now());
    // A dispatcher that starts in between knows as much.
    running.stop().await;
    let running = world.dispatch();
    world.append(&acme, &mut head, &[site("bergen", "10.2.0.0/24")]).await;
    world.worked_off(2).await;
    assert!(!waits(&world).await);
    assert_eq!(world.orders("acme").await, 1, "bergen waits as well");

    let released = json!({"type": "SiteReleased", "v": 1, "site": "oslo", "generation": 1,
        "released_by": "demo", "reason": "the line is down"});
    world.append(&acme, &mut head, &[released]).await;
    until("the order that was let through", || waits(&world)).await;
    assert_eq!(world.orders("acme").await, 1, "the other one was not");
    let none = json!({"type": "CustomerChanged", "v": 1, "customer": "acme", "generation": 2, "spec": {"policy": {}}});
    world.append(&acme, &mut head, &[none]).await;
    until("both, without a window", || async { world.orders("acme").await == 2 }).await;
    running.stop().await;
}
