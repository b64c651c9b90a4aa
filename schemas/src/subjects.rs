//! Every subject there is: built and parsed here and nowhere else.

use crate::command::ObjectRef;
use crate::contact::KeyId;
use crate::ids::{Actor, CommandId, CustomerId, Kind, ObjectId, OrderId, VendorId};
use crate::order::{Order, Target};
use crate::reason::{Reason, Refusal};

/// How many partitions a new installation has. A large fleet takes 32.
pub const PARTITIONS: u16 = 8;

/// Commands by request and reply.
pub const DO_ALL: &str = "wan.do.>";
/// Commands to publish and forget.
pub const CMD_ALL: &str = "wan.cmd.>";
/// Commands by request and reply, as the server's mapping hands them to the partitions.
pub const DECIDE_ALL: &str = "wan.decide.*.>";
/// Durable commands as the inbox stores them, by partition.
pub const INBOX_ALL: &str = "wan.inbox.*.>";
/// Durable commands that do not even name a customer: the inbox stores them as they came.
pub const CMD_BARE: &str = "wan.cmd.*";
/// Outcomes that no event tells.
pub const VERDICT_ALL: &str = "wan.verdict.*.*.*";
/// Every snapshot of a customer's state.
pub const SNAPSHOT_ALL: &str = "wan.snapshot.*";
/// What the command services tell each other: who is there, and with which partitions.
pub const MEMBERS: &str = "wan.member.commands";
/// What the executors tell each other: who is there.
pub const EXECUTORS: &str = "wan.member.executors";
/// Keys of personal data, wrapped, and what is known about them.
pub const KEY_ALL: &str = "wan.key.>";
/// Every wrapped key.
pub const KEY_WRAPPED_ALL: &str = "wan.key.wrapped.*.*.*";
/// Every erasure that was begun.
pub const KEY_ERASING_ALL: &str = "wan.key.erasing.*";
/// What should be in other streams.
pub const INVENTORY_ALL: &str = "wan.inventory.>";
/// How much should be in the streams that nobody counts otherwise.
pub const INVENTORY_OF_STREAMS: &str = "wan.inventory.streams";
/// How many customers have keys.
pub const INVENTORY_OF_KEYS: &str = "wan.inventory.keys";
/// Up to where the streams of events were seen.
pub const INVENTORY_OF_HISTORIES: &str = "wan.inventory.histories";
/// When an administrator said last that what other streams lost is known.
pub const INVENTORY_ACCEPTED: &str = "wan.inventory.accepted";
/// Every customer's key of the moment.
pub const KEY_CURRENT_ALL: &str = "wan.key.current.*";
/// Every outcome.
pub const OUT_ALL: &str = "wan.out.*.*";
/// Every order.
pub const ORDER_ALL: &str = "wan.order.*.*.*.*";
/// Every run record.
pub const RUN_ALL: &str = "wan.run.*.*.*";
/// Every effect.
pub const EFFECT_ALL: &str = "wan.effect.*.*.*";
/// The second copy of every stack's Terraform state.
pub const STATE_ALL: &str = "wan.state.*";
/// The newest plan file of every stack.
pub const PLAN_ALL: &str = "wan.plan.*";
/// What would be done to a stack that is not as somebody thinks of it, by request and reply.
pub const PREVIEW: &str = "wan.preview";
/// How the subjects begin on which that is answered.
pub const PREVIEWED: &str = "wan.previewed.";
/// Every answer to that.
pub const PREVIEWED_ALL: &str = "wan.previewed.*";
/// Timers that fired.
pub const TIMER_DUE_ALL: &str = "wan.timer.due.>";
/// Everything about timers.
pub const TIMER_ALL: &str = "wan.timer.>";
/// What could not be handled.
pub const DEAD_ALL: &str = "wan.dead.>";
/// How the subjects begin that note what was done about a dead letter.
pub const DEAD_SETTLED: &str = "wan.dead.settled.";

/// What the vendors offer, by request and reply: every vendor in short.
pub const EXPLAIN: &str = "wan.explain";
/// What a vendor, or a kind at a vendor, offers.
pub const EXPLAIN_ALL: &str = "wan.explain.>";

/// What a kind at a vendor offers; the header `Wan-Schema` asks for a version.
pub fn explain(vendor: &VendorId, kind: Kind) -> String {
    format!("{EXPLAIN}.{vendor}.{kind}")
}

/// The commands about a kind, by request and reply.
pub fn commands_about(kind: Kind) -> String {
    format!("wan.do.*.*.{kind}.*.*")
}

/// The partition of a customer: what NATS' own `partition(n, …)` mapping function answers for the token (FNV-1a).
pub fn partition(customer: &CustomerId, partitions: u16) -> u16 {
    let hash = customer
        .as_str()
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    u16::try_from(hash % u32::from(partitions)).unwrap_or_default()
}

/// How the server's own mapping sends a request to the partition of its customer.
pub fn decide_mapping(partitions: u16) -> (&'static str, String) {
    ("wan.do.*.>", format!("wan.decide.{{{{partition({partitions},1)}}}}.{{{{wildcard(1)}}}}.>"))
}

/// How the inbox stores a durable command: under the partition of its customer.
pub fn inbox_transform(partitions: u16) -> (&'static str, String) {
    ("wan.cmd.*.>", format!("wan.inbox.{{{{partition({partitions},1)}}}}.{{{{wildcard(1)}}}}.>"))
}

/// The requests of a partition.
pub fn decide_of_partition(partition: u16) -> String {
    format!("wan.decide.{partition}.>")
}

/// The durable commands of a partition. What names no customer belongs to the first one.
pub fn inbox_of_partition(partition: u16) -> Vec<String> {
    let bare = (partition == 0).then(|| CMD_BARE.to_owned());
    [format!("wan.inbox.{partition}.>")].into_iter().chain(bare).collect()
}

/// The durable commands of a customer as the inbox stores them, whatever the count of partitions was then.
pub fn inbox_of(customer: &CustomerId) -> String {
    format!("wan.inbox.*.{customer}.>")
}

/// A command's subject as its sender wrote it, where the server has put it under a partition.
pub fn as_sent(subject: &str) -> String {
    let tokens: Vec<&str> = subject.splitn(4, '.').collect();
    match tokens[..] {
        ["wan", "decide", _, tail] => format!("wan.do.{tail}"),
        ["wan", "inbox", _, tail] => format!("wan.cmd.{tail}"),
        _ => subject.to_owned(),
    }
}

/// An outcome that no event tells.
pub fn verdict(customer: &CustomerId, command: CommandId, partitions: u16) -> String {
    format!("wan.verdict.{}.{customer}.{command}", partition(customer, partitions))
}

/// The outcomes of a partition that no event tells.
pub fn verdicts_of_partition(partition: u16) -> String {
    format!("wan.verdict.{partition}.*.*")
}

/// The customer and the command that a verdict's subject names.
pub fn command_of_verdict(subject: &str) -> Option<(CustomerId, CommandId)> {
    let mut tokens = subject.strip_prefix("wan.verdict.")?.split('.').skip(1);
    let named = (tokens.next()?.parse().ok()?, tokens.next()?.parse().ok()?);
    tokens.next().is_none().then_some(named)
}

/// The snapshot of a customer's state.
pub fn snapshot(customer: &CustomerId) -> String {
    format!("wan.snapshot.{customer}")
}

/// The customer that the subject of a snapshot names.
pub fn customer_of_snapshot(subject: &str) -> Option<CustomerId> {
    subject.strip_prefix("wan.snapshot.")?.parse().ok()
}

/// A key of a customer's personal data, as a master key wrapped it. `*` stands for any master key.
pub fn wrapped_key(customer: &CustomerId, key: KeyId, master: &str) -> String {
    format!("wan.key.wrapped.{customer}.{key}.{master}")
}

/// The customer, the key and the master key that a wrapped key's subject names.
pub fn key_of_wrapped(subject: &str) -> Option<(CustomerId, KeyId, &str)> {
    let (customer, rest) = subject.strip_prefix("wan.key.wrapped.")?.split_once('.')?;
    let (key, master) = rest.split_once('.')?;
    Some((customer.parse().ok()?, key.parse().ok()?, master))
}

/// Which key a customer's personal data is sealed with.
pub fn current_key(customer: &CustomerId) -> String {
    format!("wan.key.current.{customer}")
}

/// That the key of a customer's personal data is about to be destroyed.
pub fn erasing_key(customer: &CustomerId) -> String {
    format!("wan.key.erasing.{customer}")
}

/// The customer whose erasure a subject notes.
pub fn customer_of_erasing(subject: &str) -> Option<CustomerId> {
    subject.strip_prefix("wan.key.erasing.")?.parse().ok()
}

/// The stream with a partition's events.
pub fn events_stream(partition: u16) -> String {
    format!("EVENTS-{partition}")
}

/// Whether a stream has a partition's events.
pub fn is_events_stream(stream: &str) -> bool {
    partition_of_events_stream(stream).is_some()
}

/// The partition whose events a stream has; none for other streams.
pub fn partition_of_events_stream(stream: &str) -> Option<u16> {
    stream.strip_prefix("EVENTS-")?.parse().ok()
}

/// All events of a partition.
pub fn events_of_partition(partition: u16) -> String {
    format!("wan.evt.{partition}.*")
}

/// A customer's history.
pub fn events(customer: &CustomerId, partitions: u16) -> String {
    format!("wan.evt.{}.{customer}", partition(customer, partitions))
}

/// The customer whose history a subject is.
pub fn customer_of_events(subject: &str) -> Option<CustomerId> {
    home_of_events(subject).map(|(_, customer)| customer)
}

/// The partition that the subject of a history names, and the customer.
pub fn home_of_events(subject: &str) -> Option<(u16, CustomerId)> {
    let mut tokens = subject.strip_prefix("wan.evt.")?.split('.');
    let partition = tokens.next()?.parse::<u16>().ok()?;
    let customer = tokens.next()?.parse().ok()?;
    tokens.next().is_none().then_some((partition, customer))
}

/// Whether a message of a stream of events, or a verdict, is where its customer belongs under this count of partitions.
///
/// After the count has changed, streams still hold what customers that have moved had there before. That is nobody's
/// history any more: a reader counts it as read and skips it. A subject that names no customer is left to the reader.
pub fn is_current(subject: &str, partitions: u16) -> bool {
    let Some(tail) = subject.strip_prefix("wan.evt.").or_else(|| subject.strip_prefix("wan.verdict.")) else {
        return true;
    };
    let mut tokens = tail.split('.');
    let stored = tokens.next().and_then(|token| token.parse::<u16>().ok());
    let customer = tokens.next().and_then(|token| token.parse::<CustomerId>().ok());
    stored.zip(customer).is_none_or(|(stored, customer)| stored == partition(&customer, partitions))
}

/// The outcome of a command.
pub fn outcome(customer: &CustomerId, command: CommandId) -> String {
    format!("wan.out.{customer}.{command}")
}

/// An order's row in the table of orders. Orders that change something and orders that look share no row; a plan has the
/// row of the change it is made for, because there is never both.
pub fn order(order: &Order) -> String {
    let look = if order.is_look() { "observe-" } else { "" };
    target_order(&order.vendor, &order.customer, look, &order.target())
}

/// The two rows a target has in the table of orders: the change, the look.
pub fn orders_of_target(vendor: &VendorId, customer: &CustomerId, target: &Target) -> [String; 2] {
    ["", "observe-"].map(|look| target_order(vendor, customer, look, target))
}

fn target_order(vendor: &VendorId, customer: &CustomerId, look: &str, target: &Target) -> String {
    format!("wan.order.{vendor}.{customer}.{look}{}.{}", target.kind(), target.id())
}

/// What the subject of a row of the table says: vendor, customer, whether it is a look, kind and id of the target.
pub fn parts_of_order(subject: &str) -> Option<(VendorId, CustomerId, bool, Kind, &str)> {
    let tokens: Vec<&str> = subject.strip_prefix("wan.order.")?.split('.').collect();
    let [vendor, customer, kind, id] = tokens[..] else { return None };
    let look = kind.strip_prefix("observe-");
    let kind = Kind::parse(look.unwrap_or(kind))?;
    Some((vendor.parse().ok()?, customer.parse().ok()?, look.is_some(), kind, id))
}

/// A record about an order.
pub fn run(customer: &CustomerId, order: OrderId, word: &str) -> String {
    format!("wan.run.{customer}.{order}.{word}")
}

/// The second copy of a stack's Terraform state.
pub fn state(stack: &str) -> String {
    format!("wan.state.{stack}")
}

/// The stack whose state's copy has this subject.
pub fn stack_of_state(subject: &str) -> Option<&str> {
    subject.strip_prefix("wan.state.").filter(|stack| !stack.is_empty() && !stack.contains('.'))
}

/// Where a preview is answered. `token` is one that nobody else has.
pub fn previewed(token: &str) -> String {
    format!("{PREVIEWED}{token}")
}

/// The plan file of a stack.
pub fn plan(stack: &str) -> String {
    format!("wan.plan.{stack}")
}

/// The effect journal of a target.
pub fn effect(customer: &CustomerId, target: &Target) -> String {
    format!("wan.effect.{customer}.{}.{}", target.kind(), target.id())
}

/// A timer that waits, and the subject it fires to. `name` is made of tokens.
pub fn timer(name: &str) -> (String, String) {
    (format!("wan.timer.wait.{name}"), format!("wan.timer.due.{name}"))
}

/// The customer whose present key a subject names.
pub fn customer_of_current(subject: &str) -> Option<CustomerId> {
    subject.strip_prefix("wan.key.current.")?.parse().ok()
}

/// Which durable commands of a partition wait.
pub fn inventory_of_inbox(partition: u16) -> String {
    format!("wan.inventory.inbox.{partition}")
}

/// A record of what should be in a stream, as one writer keeps it; `*` for the writer is all of them.
pub fn inventory_by(of: &str, writer: &str) -> String {
    format!("{of}.{writer}")
}

/// A dead letter.
pub fn dead(what: &str, reason: Reason) -> String {
    format!("wan.dead.{what}.{}", reason.code())
}

/// What was done about a dead letter.
pub fn dead_settled(sequence: u64) -> String {
    format!("{DEAD_SETTLED}{sequence}")
}

/// "This row changed", said after the projection committed.
pub fn live(customer: &CustomerId, object: &ObjectRef) -> String {
    format!("wan.live.{customer}.{}.{}", object.kind(), object.id())
}

/// What a command's subject says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandSubject {
    /// Whose object.
    pub customer: CustomerId,
    /// Who asks.
    pub actor: Actor,
    /// Which object.
    pub object: ObjectRef,
    /// What to do.
    pub verb: String,
}

impl CommandSubject {
    /// The subject for request and reply.
    pub fn request(&self) -> String {
        self.with("do")
    }

    /// The subject to publish and forget.
    pub fn durable(&self) -> String {
        self.with("cmd")
    }

    /// The subject of a request that was handed to a partition.
    pub fn of_partition(&self, partition: u16) -> String {
        self.with(&format!("decide.{partition}"))
    }

    fn with(&self, door: &str) -> String {
        let Self { customer, actor, object, verb } = self;
        format!("wan.{door}.{customer}.{actor}.{}.{}.{verb}", object.kind(), object.id())
    }

    /// Reads a subject of either door, as its sender wrote it or as the server handed it to a partition.
    pub fn parse(subject: &str) -> Result<Self, Refusal> {
        let bad = |why: String| Refusal::new(Reason::BadSubject, why);
        let sent = as_sent(subject);
        let tokens: Vec<&str> = sent.split('.').collect();
        let ["wan", "do" | "cmd", customer, actor, kind, id, verb] = tokens[..] else {
            let shown: String = sent.chars().take(200).collect();
            return Err(bad(format!("`{shown}` does not have the seven tokens of a command's subject")));
        };
        let kind = Kind::parse(kind).ok_or_else(|| {
            let shown: String = kind.chars().take(80).collect();
            Refusal::new(Reason::UnknownKind, format!("there is no kind `{shown}`"))
        })?;
        let id: ObjectId = id.parse().map_err(|error: crate::ids::InvalidToken| bad(error.to_string()))?;
        Ok(Self {
            customer: customer.parse().map_err(|error: crate::ids::InvalidToken| bad(error.to_string()))?,
            actor: actor.parse().map_err(|error: crate::ids::InvalidToken| bad(error.to_string()))?,
            object: ObjectRef::new(kind, id)?,
            verb: verb.chars().take(80).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_subjects_read_as_they_are_written() {
        let text = "wan.do.acme.demo.site.oslo-01.create";
        let subject = CommandSubject::parse(text).expect("a command's subject");
        assert_eq!(subject.request(), text);
        assert_eq!(subject.durable(), "wan.cmd.acme.demo.site.oslo-01.create");
    }

    #[test]
    fn odd_subjects_are_refused_by_name() {
        let reason = |text: &str| CommandSubject::parse(text).expect_err(text).code;
        assert_eq!(reason("wan.do.acme.demo.site.oslo-01"), Reason::BadSubject);
        assert_eq!(reason("wan.do.acme.demo.site.oslo-01.create.now"), Reason::BadSubject);
        assert_eq!(reason("wan.do.ACME.demo.site.oslo-01.create"), Reason::BadSubject);
        assert_eq!(reason("wan.do.acme.demo.site.os lo.create"), Reason::BadSubject);
        assert_eq!(reason("wan.do.acme.demo.router.oslo-01.create"), Reason::UnknownKind);
        assert_eq!(reason(""), Reason::BadSubject);
    }

    #[test]
    fn a_partition_reads_what_the_sender_wrote() {
        let sent = CommandSubject::parse("wan.do.acme.demo.site.oslo-01.create");
        assert_eq!(CommandSubject::parse("wan.decide.7.acme.demo.site.oslo-01.create"), sent);
        assert_eq!(CommandSubject::parse("wan.inbox.7.acme.demo.site.oslo-01.create"), sent);
        let refusal = CommandSubject::parse("wan.decide.7.acme.demo").expect_err("too short");
        assert!(refusal.message.contains("`wan.do.acme.demo`"), "{}", refusal.message);
    }

    #[test]
    fn a_row_of_the_table_says_what_it_is_about() {
        let (simwan, acme): (VendorId, CustomerId) =
            ("simwan".parse().expect("an id"), "acme".parse().expect("an id"));
        let target = Target::Device("edge-1".parse().expect("an id"));
        let rows = orders_of_target(&simwan, &acme, &target);
        for (row, is_look) in rows.iter().zip([false, true]) {
            let parts = (simwan.clone(), acme.clone(), is_look, Kind::Device, "edge-1");
            assert_eq!(parts_of_order(row), Some(parts));
        }
        for bad in ["wan.order.simwan.acme.router.a", "wan.order.simwan.acme.site", "wan.run.a.b.c.d", ""] {
            assert_eq!(parts_of_order(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_verdict_names_its_command() {
        let (acme, id): (CustomerId, _) = ("acme".parse().expect("an id"), CommandId::of_message(1, 2));
        assert_eq!(command_of_verdict(&verdict(&acme, id, 8)), Some((acme, id)));
        assert_eq!(command_of_verdict("wan.verdict.3.acme"), None);
    }

    #[test]
    fn a_customer_that_has_moved_left_nothing_current_behind() {
        let (acme, id): (CustomerId, _) = ("acme".parse().expect("an id"), CommandId::of_message(1, 2));
        assert_ne!(partition(&acme, 8), partition(&acme, 32));
        for count in [8, 32] {
            for subject in [events(&acme, count), verdict(&acme, id, count)] {
                assert!(is_current(&subject, count), "{subject}");
                assert!(!is_current(&subject, 40 - count), "{subject}");
            }
        }
        assert!(is_current("wan.evt.x.acme", 8), "what cannot be read is not passed over");
        assert!(is_current("wan.run.1.2.3", 8));
    }

    #[test]
    fn a_history_names_its_customer() {
        let acme: CustomerId = "acme".parse().expect("an id");
        assert_eq!(customer_of_events(&events(&acme, 8)), Some(acme));
        assert_eq!(customer_of_events("wan.evt.x.acme"), None);
        assert_eq!(customer_of_events("wan.evt.3.acme.more"), None);
    }
}
