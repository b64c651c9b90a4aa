//! A customer whose commands are decided one after the other, as the command service decides them.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};
use wanwright_commands::cancel::Standing;
use wanwright_commands::orders::Gate;
use wanwright_commands::orders::{self, Wanted};
use wanwright_commands::revert::{Former, Search};
use wanwright_commands::{Circumstances, Customer, decide};
use wanwright_schemas::command::Command;
use wanwright_schemas::ids::{CommandId, CustomerId};
use wanwright_schemas::order::{Desired, Intent, Order};
use wanwright_schemas::report::{Finding, ObjectFinding, Report};
use wanwright_schemas::subjects::CommandSubject;
use wanwright_schemas::{Event, KeyId, ObjectRef, Position, Reason, Refusal, Target};
use wanwright_vendors::{Catalogue, SchemaVersion};

use crate::decisions::{Decided, Decision};

pub const LAN: &str = r#"{"vendor":"northwan","lan":["10.1.0.0/24"]}"#;
pub const LAN_2: &str = r#"{"vendor":"northwan","lan":["10.2.0.0/24"]}"#;
pub const TO_HUB: &str = r#"{"site":"oslo","peer":{"hub":"hub-a"},"inside":"169.254.0.0/30"}"#;
pub const TO_PARIS: &str = r#"{"site":"oslo","peer":{"site":"paris"},"inside":"169.254.0.4/30"}"#;
pub const DEVICE: &str = r#"{"site":"oslo","serial":"SN-0001","model":"edge-1"}"#;

pub static VENDORS: LazyLock<Catalogue> = LazyLock::new(|| {
    Catalogue::load(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pure/vendors")).expect("the test vendors")
});

/// The same vendors later: North gave up a hub and a model, and its other hub moved.
pub static VENDORS_LATER: LazyLock<Catalogue> = LazyLock::new(|| {
    Catalogue::load(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pure/vendors-later"))
        .expect("the later vendors")
});

/// The `number`th command's id: all commands have one, in the order in which they are sent.
pub fn id(number: u64) -> CommandId {
    CommandId::of_message(1_795_000_000_000 + number, number)
}

pub fn customer() -> CustomerId {
    "acme".parse().expect("an id")
}

pub fn position(sequence: u64) -> Position {
    Position { stream: "EVENTS-3".into(), sequence }
}

/// Reads a command from its subject after `wan.do.acme.<actor>.` and its body, as the service does.
pub fn parse(actor: &str, tail: &str, body: &str) -> Result<Command, Refusal> {
    let subject = CommandSubject::parse(&format!("wan.do.acme.{actor}.{tail}"))?;
    Command::parse(subject.customer, subject.actor, &subject.object, &subject.verb, body.as_bytes())
}

#[derive(Clone)]
pub struct World {
    pub vendors: &'static Catalogue,
    /// The version of the vendors' settings that senders speak.
    pub speaks: Option<SchemaVersion>,
    pub state: Customer,
    /// When commands are received.
    pub now: jiff::Timestamp,
    /// How many commands were sent.
    pub sent: u64,
    /// What was accepted, by command.
    pub history: Vec<(CommandId, Vec<Event>)>,
    /// The key of the customer's personal data.
    pub key: Option<KeyId>,
    /// How far the orders are that commands take back.
    pub standing: Standing,
    /// Every command and what was decided, where that is to be recorded.
    pub decisions: Option<Vec<Decision>>,
}

impl Default for World {
    fn default() -> Self {
        let now = "2026-11-21T08:00:00Z".parse().expect("a moment");
        let (state, history) = (Customer::default(), Vec::new());
        let standing = Standing::Waiting;
        Self {
            vendors: &VENDORS,
            speaks: None,
            state,
            now,
            sent: 0,
            history,
            key: None,
            standing,
            decisions: None,
        }
    }
}

impl World {
    /// A customer for whom these commands were accepted.
    pub fn given(commands: &[(&str, &str)]) -> Self {
        let mut world = Self::default();
        for (tail, body) in commands {
            world.accept(tail, body);
        }
        world
    }

    /// Oslo with a tunnel to a hub and a device, all of it at the vendor.
    pub fn running() -> Self {
        let mut world = Self::given(&[
            ("site.oslo.create", LAN),
            ("tunnel.t1.create", TO_HUB),
            ("device.d1.create", DEVICE),
        ]);
        world.carry_out("site.oslo");
        world.carry_out("device.d1");
        world
    }

    /// Decides a command and folds what follows.
    pub fn send(
        &mut self,
        actor: &str,
        tail: &str,
        body: &str,
        expected: Option<u64>,
    ) -> Result<Vec<Event>, Refusal> {
        let decided = self.decide(actor, tail, body, expected);
        if let Some(decisions) = &mut self.decisions {
            decisions.push(Decision {
                actor: actor.to_owned(),
                subject: tail.to_owned(),
                body: body.to_owned(),
                received: self.now,
                expected,
                speaks: self.speaks.map(|version| version.to_string()),
                key: self.key,
                decided: Decided::of(&decided),
            });
        }
        decided
    }

    fn decide(
        &mut self,
        actor: &str,
        tail: &str,
        body: &str,
        expected: Option<u64>,
    ) -> Result<Vec<Event>, Refusal> {
        self.sent += 1;
        let command = parse(actor, tail, body)?;
        let by = id(self.sent);
        let former = self.former(&command);
        let facts = Circumstances {
            command: by,
            expected_generation: expected,
            received: self.now,
            vendors: self.vendors,
            schema: self.speaks,
            key: self.key,
            former: former.as_ref(),
            standing: self.standing,
        };
        let before = self.state.clone();
        let decided = decide(&self.state, &command, facts);
        assert_eq!(decide(&self.state, &command, facts), decided, "deciding is deterministic");
        assert_eq!(self.state, before);
        let events = decided?;
        for event in &events {
            self.state.evolve(event, by);
        }
        self.history.push((by, events.clone()));
        Ok(events)
    }

    /// What the history says about the generation that a command goes back to.
    fn former(&self, command: &Command) -> Option<Former> {
        let mut search = Search::of(&self.state, command)?;
        for (by, events) in &self.history {
            events.iter().for_each(|event| search.pass(*by, event));
        }
        Some(search.found())
    }

    /// Whether a change of a target (`site.oslo`) may begin now, as far as change windows go.
    pub fn gate(&self, target: &str) -> Gate {
        orders::gate(&self.state, &target_of(target), self.now)
    }

    /// The command is accepted; answers its events in short.
    #[track_caller]
    pub fn accept(&mut self, tail: &str, body: &str) -> Vec<String> {
        match self.send(actor_of(tail), tail, body, None) {
            Ok(events) => events.iter().map(short).collect(),
            Err(refusal) => panic!("{tail} was refused: {refusal} {:?}", refusal.field),
        }
    }

    /// The command is accepted and changes nothing.
    #[track_caller]
    pub fn nothing(&mut self, tail: &str, body: &str) {
        assert_eq!(self.accept(tail, body), Vec::<String>::new());
    }

    /// The command is refused for this reason, naming this field (or none, when it is empty).
    #[track_caller]
    pub fn refuse(&mut self, tail: &str, body: &str, code: Reason, field: &str) -> Refusal {
        let before = self.state.clone();
        let refusal = match self.send(actor_of(tail), tail, body, None) {
            Ok(events) => panic!("{tail} {body} was accepted: {events:?}"),
            Err(refusal) => refusal,
        };
        assert_eq!((refusal.code, refusal.field.as_deref().unwrap_or_default()), (code, field), "{refusal}");
        assert!(!refusal.message.is_empty() && !refusal.next.is_empty());
        assert_eq!(self.state, before);
        refusal
    }

    /// The orders a target (`site.oslo`) has now.
    pub fn wanted(&self, target: &str) -> Wanted {
        self.wanted_at(&target_of(target), 1)
    }

    pub fn wanted_at(&self, target: &Target, sequence: u64) -> Wanted {
        let Some(vendor) = orders::vendor_of(&self.state, target) else { return Wanted::default() };
        let vendor = self.vendors.get(vendor.as_str()).expect("a known vendor");
        orders::wanted(&customer(), &self.state, vendor, target, &position(sequence))
    }

    /// The orders a target has by the time there is.
    pub fn wanted_by_now(&self, target: &str) -> Wanted {
        self.wanted_by(target, self.now)
    }

    /// The orders a target has by this time.
    pub fn wanted_by(&self, target: &str, now: jiff::Timestamp) -> Wanted {
        let target = target_of(target);
        let Some(vendor) = orders::vendor_of(&self.state, &target) else { return Wanted::default() };
        let vendor = self.vendors.get(vendor.as_str()).expect("a known vendor");
        orders::wanted_at(&customer(), &self.state, vendor, &target, &position(1), now)
    }

    #[track_caller]
    pub fn change(&self, target: &str) -> Order {
        self.wanted(target).change.unwrap_or_else(|| panic!("{target} has no change order"))
    }

    #[track_caller]
    pub fn look(&self, target: &str) -> Order {
        self.wanted(target).look.unwrap_or_else(|| panic!("{target} has no look order"))
    }

    #[track_caller]
    pub fn idle(&self, target: &str) {
        let wanted = self.wanted(target);
        assert_eq!((wanted.change, wanted.look), (None, None), "{target} should have no orders");
    }

    /// An executor carries out the change order of a target.
    #[track_caller]
    pub fn carry_out(&mut self, target: &str) -> Vec<String> {
        let order = self.change(target);
        self.report(&done(&order))
    }

    /// An executor fails for good with the change order of a target.
    #[track_caller]
    pub fn fail(&mut self, target: &str) -> Vec<String> {
        let order = self.change(target);
        self.report(&failed(&order))
    }

    /// An executor looks and finds that the object which asked has drifted.
    #[track_caller]
    pub fn drift(&mut self, target: &str) -> Vec<String> {
        self.accept(&format!("{target}.check-drift"), "");
        let order = self.look(target);
        self.report(&drifted(&order))
    }

    /// Sends what an executor says about the order's target.
    #[track_caller]
    pub fn report(&mut self, (target, report): &(Target, Report)) -> Vec<String> {
        let body = serde_json::to_string(report).expect("a report");
        self.accept(&format!("{}.{}.report", target.kind(), target.id()), &body)
    }

    /// The command that created an object.
    pub fn uid(&self, object: &ObjectRef) -> CommandId {
        match object {
            ObjectRef::Site(id) => self.state.sites[id].uid,
            ObjectRef::Tunnel(id) => self.state.tunnels[id].uid,
            ObjectRef::Device(id) => self.state.devices[id].uid,
            ObjectRef::Customer(_) => panic!("a customer has no uid"),
        }
    }

    /// A report about one object (`tunnel.t1`) under this order, on the subject of its target.
    pub fn saying(&self, order: &Order, object: &str, finding: Finding) -> (Target, Report) {
        let object = object_of(object);
        let uid = self.uid(&object);
        (
            order.target(),
            Report { order: order.id, findings: vec![ObjectFinding { object, uid, finding }], state: None },
        )
    }
}

fn actor_of(tail: &str) -> &'static str {
    if tail.ends_with(".report") { "executor" } else { "demo" }
}

/// An event in a few words: `Site oslo Created 1`.
pub fn short(event: &Event) -> String {
    let wire = serde_json::to_value(event).expect("an event");
    let generation = wire.get("generation").map(|generation| format!(" {generation}")).unwrap_or_default();
    format!("{} {}{generation}", event.object().id(), event.type_name())
}

pub fn object_of(text: &str) -> ObjectRef {
    let (kind, id) = text.split_once('.').expect("kind.id");
    match kind {
        "site" => ObjectRef::Site(id.parse().expect("an id")),
        "tunnel" => ObjectRef::Tunnel(id.parse().expect("an id")),
        _ => ObjectRef::Device(id.parse().expect("an id")),
    }
}

pub fn target_of(text: &str) -> Target {
    match object_of(text) {
        ObjectRef::Site(id) => Target::Site(id),
        ObjectRef::Device(id) => Target::Device(id),
        other => panic!("{other} is no target"),
    }
}

/// An object of an order: who, the generation the order brings (none for what goes), what it will be at the vendor.
pub type Item = (ObjectRef, CommandId, Option<u64>, Map<String, Value>);

/// What an order is about, object by object.
pub fn objects(order: &Order) -> Vec<Item> {
    let going = matches!(order.intent, Intent::Remove);
    match &order.desired {
        Desired::Site { site, tunnels, leaving } => {
            let outputs = json!({"id": format!("st-{}", site.id), "address": format!("203.0.113.{}", site.id.as_str().len())});
            let own = (
                ObjectRef::Site(site.id.clone()),
                site.uid,
                (!going).then_some(site.generation),
                map(outputs),
            );
            let mut all = vec![own];
            all.extend(tunnels.iter().map(|(id, tunnel)| {
                let outputs =
                    json!({"id": format!("tn-{id}"), "inputs": orders::tunnel_inputs(&tunnel.peer_address)});
                (ObjectRef::Tunnel(id.clone()), tunnel.uid, Some(tunnel.generation), map(outputs))
            }));
            all.extend(
                leaving.iter().map(|(id, uid)| (ObjectRef::Tunnel(id.clone()), *uid, None, Map::new())),
            );
            all
        }
        Desired::Device(device) => {
            let outputs = map(json!({"id": format!("dv-{}", device.id), "inputs": device.inputs}));
            let generation = (!going).then_some(device.generation);
            vec![(ObjectRef::Device(device.id.clone()), device.uid, generation, outputs)]
        }
    }
}

pub fn map(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

fn report_of(
    order: &Order,
    finding: impl Fn(Option<u64>, Map<String, Value>) -> Finding,
) -> (Target, Report) {
    let findings = objects(order).into_iter().map(|(object, uid, generation, outputs)| ObjectFinding {
        object,
        uid,
        finding: finding(generation, outputs),
    });
    (order.target(), Report { order: order.id, findings: findings.collect(), state: None })
}

/// The report of a run that did everything.
pub fn done(order: &Order) -> (Target, Report) {
    report_of(order, |generation, outputs| match generation {
        Some(generation) => applied(generation, outputs),
        None => Finding::Removed,
    })
}

/// The report of a run that could do nothing. What goes has no generation in the order, so any will do.
pub fn failed(order: &Order) -> (Target, Report) {
    report_of(order, |generation, _| failure(generation.unwrap_or_default()))
}

/// The report of a look that found everything different.
pub fn drifted(order: &Order) -> (Target, Report) {
    let check = check_of(order);
    report_of(order, |_, _| Finding::Drifted { check, fields: vec![field()] })
}

/// The report of a look that found nothing different.
pub fn in_sync(order: &Order) -> (Target, Report) {
    let check = check_of(order);
    report_of(order, |_, _| Finding::InSync { check })
}

pub fn check_of(order: &Order) -> CommandId {
    match order.intent {
        Intent::Observe { check } => check,
        Intent::Apply | Intent::Remove | Intent::Plan { .. } => panic!("not a look"),
    }
}

pub fn field() -> wanwright_schemas::report::DriftField {
    wanwright_schemas::report::DriftField { field: "mtu".into(), desired: json!(1400), observed: json!(9000) }
}

pub fn applied(generation: u64, outputs: Map<String, Value>) -> Finding {
    Finding::Applied { generation, outputs }
}

pub fn failure(generation: u64) -> Finding {
    Finding::Failed { generation, code: Reason::VendorRefused, message: "no".into() }
}
