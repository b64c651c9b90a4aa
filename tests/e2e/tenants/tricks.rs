//! What a tenant may try against another one.

use std::sync::LazyLock;

use serde_json::json;
use wanwright_schemas::command::verbs;
use wanwright_schemas::ids::Kind;
use wanwright_tests::mint;

use super::world::Tenant;

/// The header by which a sender has the server tell where a message goes.
pub const TRACED: &str = "Nats-Trace-Dest";

/// Who tries it on whom.
#[derive(Debug, Clone, Copy)]
pub struct Pair<'a> {
    /// Who tries.
    pub me: &'a Tenant,
    /// On whom. Oneself, where it is shown that the same thing works for somebody who has the right.
    pub on: &'a Tenant,
    /// Whether it is that.
    pub rightful: bool,
}

/// What is done.
#[derive(Debug, Clone)]
pub enum Op {
    /// A message; answers come to one's own inbox unless another subject is named.
    Publish {
        /// The subject.
        subject: String,
        /// The headers.
        head: Vec<(&'static str, String)>,
        /// The body.
        body: String,
        /// Where answers are to go instead.
        reply: Option<String>,
    },
    /// A subscription.
    Subscribe {
        /// The subject.
        subject: String,
        /// The queue group.
        queue: Option<&'static str>,
    },
}

/// Who has the right, to show that the trick is one that does something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rightful {
    /// The tenant itself, for its own.
    Owner,
    /// The administrator in WAN.
    Admin,
    /// The administrator, who hears it where it was sent.
    Heard,
    /// The system's user.
    System,
}

/// A trick.
pub struct Trick {
    /// What it is called.
    pub name: &'static str,
    /// Who may do it.
    pub rightful: Rightful,
    /// What is done.
    pub op: Box<dyn Fn(Pair<'_>) -> Op + Send + Sync>,
}

/// All tricks.
pub static TRICKS: LazyLock<Vec<Trick>> =
    LazyLock::new(|| written().into_iter().chain(of_every_verb()).collect());

/// Every verb there is, whoever it is for, on what is the other's, through either door.
fn of_every_verb() -> impl Iterator<Item = Trick> {
    let kinds = [Kind::Customer, Kind::Site, Kind::Device, Kind::Tunnel];
    let each = kinds.into_iter().flat_map(|kind| verbs(kind).iter().map(move |verb| (kind, *verb)));
    each.flat_map(|(kind, verb)| ["do", "cmd"].map(|door| of_verb(door, kind, verb)))
}

fn of_verb(door: &'static str, kind: Kind, verb: &'static str) -> Trick {
    let name = format!("{door}: {kind} {verb}").leak();
    let op = move |pair: Pair<'_>| {
        let Pair { me, on, .. } = pair;
        let id = if kind == Kind::Customer { &on.customer } else { &on.site };
        // A rightful one is a dry run, which the inbox takes none of and says so.
        command(pair, format!("wan.{door}.{}.{}.{kind}.{id}.{verb}", on.customer, me.user), "{}")
    };
    Trick { name, rightful: Rightful::Owner, op: Box::new(op) }
}

fn publish(subject: String, body: impl ToString) -> Op {
    Op::Publish { subject, head: Vec::new(), body: body.to_string(), reply: None }
}

fn subscribe(subject: String) -> Op {
    Op::Subscribe { subject, queue: None }
}

/// A command that says it again when it is rightful, and does it otherwise.
fn command(pair: Pair<'_>, subject: String, body: impl ToString) -> Op {
    let head = if pair.rightful { vec![("Wan-Dry-Run", "true".to_owned())] } else { Vec::new() };
    Op::Publish { subject, head, body: body.to_string(), reply: None }
}

/// A command about what is one's own; nothing is written.
fn own<const N: usize>(
    p: Pair<'_>,
    tail: &str,
    head: [(&'static str, String); N],
    body: impl ToString,
) -> Op {
    let dry = ("Wan-Dry-Run", "true".to_owned());
    Op::Publish {
        subject: format!("wan.do.{}.{}.{tail}", p.me.customer, p.me.user),
        head: std::iter::once(dry).chain(head).collect(),
        body: body.to_string(),
        reply: None,
    }
}

/// The same about one's own site, where all the rest is in the headers.
fn headed<const N: usize>(p: Pair<'_>, head: [(&'static str, String); N]) -> Op {
    own(p, &format!("site.{}.retry", p.me.site), head, "{}")
}

/// The same as a CloudEvent.
fn event<const N: usize>(p: Pair<'_>, more: [(&'static str, String); N]) -> Op {
    let event = [
        ("ce-specversion", "1.0".to_owned()),
        ("ce-id", p.on.command.clone()),
        ("ce-source", format!("/{}/{}", p.on.customer, p.on.user)),
        ("ce-type", "wan.site.retry".to_owned()),
    ];
    match headed(p, event) {
        Op::Publish { subject, mut head, body, reply } => {
            head.extend(more);
            Op::Publish { subject, head, body, reply }
        }
        op => op,
    }
}

/// A device of one's own at some site.
fn device(p: Pair<'_>, site: impl ToString) -> Op {
    let body = json!({ "site": site.to_string(), "model": "edge-100", "serial": "SN-900099" });
    own(p, "device.d.create", [], body)
}

/// One's own history, answered where one has no right to write.
fn answered(pair: Pair<'_>, reply: String) -> Op {
    Op::Publish {
        subject: format!("wan.history.{}.{}", pair.me.customer, pair.me.user),
        head: Vec::new(),
        body: String::new(),
        reply: (!pair.rightful).then_some(reply),
    }
}

/// The stream a destructive trick is aimed at: never a real one when it works.
fn target(pair: Pair<'_>) -> String {
    if pair.rightful { "CONTROL".to_owned() } else { pair.on.stream() }
}

/// What a durable command is about: what the ingress refuses, where an answer is all that is wanted.
fn kind(pair: Pair<'_>) -> &'static str {
    if pair.rightful { "router" } else { "site" }
}

macro_rules! tricks {
    ($($name:literal, $rightful:ident, $op:expr;)*) => {
        fn written() -> Vec<Trick> {
            vec![$(Trick { name: $name, rightful: Rightful::$rightful, op: Box::new($op) }),*]
        }
    };
}

tricks! {
    // The doors.
    "command on the other's object", Owner, |p| command(p, format!("wan.do.{}.{}.site.{}.retry", p.on.customer, p.me.user, p.on.site), "{}");
    "command in the other's name", Owner, |p| command(p, format!("wan.do.{}.{}.site.{}.retry", p.on.customer, p.on.user, p.on.site), "{}");
    "report as executor", Admin, |p| command(p, format!("wan.do.{}.executor.site.{}.report", p.on.customer, p.on.site), "{}");
    "durable command", Owner, |p| publish(format!("wan.cmd.{}.{}.{}.{}.retry", p.on.customer, p.me.user, kind(p), p.on.site), "{}");
    "durable command in the other's name", Owner, |p| publish(format!("wan.cmd.{}.{}.{}.{}.retry", p.on.customer, p.on.user, kind(p), p.on.site), "{}");
    "past the account to the ingress", Admin, |p| publish(format!("wan.submit.{}.{}.{}.{}.retry", p.on.customer, p.on.user, kind(p), p.on.site), "{}");
    "past the mapping to the lane", Admin, |p| command(p, format!("wan.decide.{}.{}.{}.site.{}.retry", p.on.partition, p.on.customer, p.on.user, p.on.site), "{}");
    // The services.
    "history", Owner, |p| publish(format!("wan.history.{}.{}", p.on.customer, p.me.user), "{}");
    "history in the other's name", Owner, |p| publish(format!("wan.history.{}.{}", p.on.customer, p.on.user), "{}");
    "history, naming the other inside", Owner, |p| publish(format!("wan.history.{}.{}", p.me.customer, p.me.user), json!({ "customer": p.on.customer }));
    "outcome", Owner, |p| publish(format!("wan.outcome.{}.{}", p.on.customer, p.me.user), json!({ "command": p.on.command }));
    "outcome in the other's name", Owner, |p| publish(format!("wan.outcome.{}.{}", p.on.customer, p.on.user), json!({ "command": p.on.command }));
    "outcome of the other's command as one's own", Owner, |p| publish(format!("wan.outcome.{}.{}", p.me.customer, p.me.user), json!({ "command": p.on.command }));
    "the other's name explained", Owner, |p| publish(format!("wan.explain.{}.site", p.on.customer), "");
    "outcome, naming the other inside", Owner, |p| publish(format!("wan.outcome.{}.{}", p.me.customer, p.me.user), json!({ "command": p.on.command, "customer": p.on.customer }));
    "history of everybody", Admin, |p| publish(format!("wan.history.*.{}", p.me.user), "{}");
    "command to everybody", Admin, |p| command(p, format!("wan.do.*.{}.site.{}.retry", p.me.user, p.on.site), "{}");
    "pause", Admin, |p| publish(
        format!("wan.control.{}.{}.customer.{}", p.me.user, if p.rightful { "resume" } else { "pause" }, p.on.customer),
        json!({ "reason": "it is not mine" }),
    );
    "rollout", Admin, |p| publish(
        format!("wan.control.{}.{}.rollout.simwan", p.me.user, if p.rightful { "status" } else { "start" }),
        json!({ "to": 2, "canaries": [p.on.customer] }),
    );
    // Names of the other in what is one's own.
    "a tunnel to the other's site", Owner, |p| own(p, "tunnel.t.create", [], json!({ "site": p.me.site, "peer": { "site": p.on.site }, "inside": "169.254.0.0/30" }));
    "a device at the other's site", Owner, |p| device(p, &p.on.site);
    "a device at the other's site by its whole name", Owner, |p| device(p, format!("{}/{}", p.on.customer, p.on.site));
    "the other's command id as one's own", Owner, |p| headed(p, [("Wan-Command-Id", p.on.command.clone())]);
    "the other's command id beside one's own", Owner, |p| headed(p, [("Wan-Command-Id", mint()), ("wan-command-id", p.on.command.clone())]);
    "the other's command as the cause", Owner, |p| headed(p, [("Wan-Causation-Id", p.on.command.clone()), ("Wan-Correlation-Id", p.on.command.clone())]);
    "the other as the actor in a header", Owner, |p| headed(p, [("Wan-Actor", p.on.user.clone())]);
    "the other as the actor of an event", Owner, |p| event(p, [("ce-actor", p.on.user.clone()), ("ce-customer", p.on.customer.clone())]);
    "the other's site as an event's subject", Owner, |p| event(p, [("ce-subject", format!("{}/site/{}", p.on.customer, p.on.site))]);
    "an event about the other in the body", Owner, |p| own(p, &format!("site.{}.retry", p.me.site), [], json!({
        "specversion": "1.0", "id": p.on.command, "source": format!("/{}", p.on.customer), "type": "wan.site.retry",
        "subject": format!("{}/site/{}", p.on.customer, p.on.site), "actor": p.on.user, "data": {},
    }));
    "a zero in the subject", Owner, |p| own(p, &format!("site.{}\0.retry", p.on.site), [], "{}");
    "a zero between one's own name and the other's", Admin, |p| command(p, format!("wan.do.{}\0{}.{}.site.{}.retry", p.me.customer, p.on.customer, p.me.user, p.on.site), "{}");
    "a name of two thousand letters", Owner, |p| own(p, &format!("site.{}{}.retry", p.on.site, "x".repeat(2000)), [], "{}");
    "expectations of streams in headers", Owner, |p| headed(p, [
        ("Nats-Msg-Id", p.on.command.clone()),
        ("Nats-Expected-Stream", p.on.stream()),
        ("Nats-Expected-Last-Sequence", "1".to_owned()),
        ("Nats-Expected-Last-Subject-Sequence", "0".to_owned()),
        ("Nats-Expected-Last-Subject-Sequence-Subject", p.on.history()),
        ("Nats-Rollup", "all".to_owned()),
        ("Nats-Request-Info", r#"{"acc":"WAN"}"#.to_owned()),
    ]);
    "a message traced into the other's news", Heard, |p| Op::Publish {
        subject: "wan.explain".to_owned(),
        head: vec![(TRACED, format!("wan.live.{}.site.{}", p.on.customer, p.on.site))],
        body: String::new(),
        reply: None,
    };
    // Streams, written.
    "event", Admin, |p| publish(p.on.history(), "{}");
    "outcome, written", Admin, |p| publish(format!("wan.out.{}.{}", p.on.customer, p.on.command), "{}");
    "verdict, written", Admin, |p| publish(format!("wan.verdict.{}.{}.{}", p.on.partition, p.on.customer, p.on.command), "{}");
    "order, written", Admin, |p| publish(format!("wan.order.simwan.{}.site.{}", p.on.customer, p.on.site), "{}");
    "run record, written", Admin, |p| publish(format!("wan.run.{}.{}.failed", p.on.customer, p.on.command), "{}");
    "effect, written", Admin, |p| publish(format!("wan.effect.{}.site.{}", p.on.customer, p.on.site), "{}");
    "timer, fired", Admin, |p| publish(format!("wan.timer.due.{}", p.on.customer), "{}");
    "snapshot, written", Admin, |p| publish(format!("wan.snapshot.{}", p.on.customer), "{}");
    "dead letter, written", Admin, |p| publish(format!("wan.dead.command.{}", p.on.customer), "{}");
    "news, made up", Heard, |p| publish(format!("wan.live.{}.site.{}", p.on.customer, p.on.site), "{}");
    "plan, made up", Heard, |p| publish(format!("wan.previewed.{}", p.on.command), "{}");
    "a member of the command services, made up", Heard, |p| publish("wan.member.commands".to_owned(), json!({ "member": p.me.user, "partitions": [p.on.partition] }));
    // JetStream.
    "stream, looked at", Admin, |p| publish(format!("$JS.API.STREAM.INFO.{}", p.on.stream()), json!({ "subjects_filter": p.on.history() }));
    "message, read", Admin, |p| publish(format!("$JS.API.STREAM.MSG.GET.{}", p.on.stream()), json!({ "last_by_subj": p.on.history() }));
    "message, read directly", Admin, |p| publish(format!("$JS.API.DIRECT.GET.{}.{}", p.on.stream(), p.on.history()), "");
    "consumer", Admin, |p| publish(
        format!("$JS.API.CONSUMER.CREATE.{}.{}.{}", p.on.stream(), p.me.user, p.on.history()),
        json!({ "stream_name": p.on.stream(), "config": { "name": p.me.user, "filter_subject": p.on.history(), "ack_policy": "none", "inactive_threshold": 3_600_000_000_000_u64 } }),
    );
    "stream, purged", Admin, |p| publish(format!("$JS.API.STREAM.PURGE.{}", if p.rightful { "CONTROL" } else { "OUTCOMES" }), json!({ "filter": format!("wan.out.{}.>", p.on.customer) }));
    "stream, copied", Admin, |p| publish(format!("$JS.API.STREAM.CREATE.STOLEN-{}", p.me.user), json!({ "name": format!("STOLEN-{}", p.me.user), "storage": "memory", "mirror": { "name": p.on.stream() } }));
    "stream, backed up", Admin, |p| publish(format!("$JS.API.STREAM.SNAPSHOT.{}", target(p)), json!({ "deliver_subject": "_INBOX.nobody" }));
    "stream, deleted", Admin, |p| publish(format!("$JS.API.STREAM.DELETE.{}", target(p)), "");
    "claim, written", Admin, |p| publish(format!("$KV.claims.serial/{}", p.on.customer), p.me.customer.as_str());
    "claim, read", Admin, |p| publish(format!("$JS.API.DIRECT.GET.KV_claims.$KV.claims.serial/{}", p.on.customer), "");
    "attempt, written", Admin, |p| publish(format!("$KV.attempts.{}", p.on.customer), "{}");
    "pause, read", Admin, |p| publish(format!("$JS.API.DIRECT.GET.KV_controls.$KV.controls.customer.{}", p.on.customer), "");
    "key, read", Admin, |p| publish("$JS.API.STREAM.MSG.GET.KEYS".to_owned(), json!({ "last_by_subj": format!("wan.key.current.{}", p.on.customer) }));
    "key, overwritten", Admin, |p| publish("$JS.API.STREAM.MSG.DELETE.KEYS".to_owned(), json!({ "seq": if p.rightful { u32::MAX } else { 1 } }));
    "dead letter, read", Admin, |_| publish("$JS.API.STREAM.MSG.GET.DEAD".to_owned(), json!({ "seq": 1, "next_by_subj": "wan.dead.>" }));
    "durable command, taken", Admin, |p| publish(format!("$JS.API.CONSUMER.MSG.NEXT.COMMANDS.commands-{}", p.on.partition), json!({ "batch": 1, "no_wait": true }));
    "durable command, acknowledged", Heard, |p| publish(format!("$JS.ACK.COMMANDS.commands-{}.1.999999999.999999999.1.0", p.on.partition), "+WPI");
    "JetStream, asked what an account has", Admin, |p| publish("$JS.API.INFO".to_owned(), p.on.key.as_str());
    "the services, asked who they are", Admin, |p| publish("$SRV.INFO".to_owned(), p.on.customer.as_str());
    "the services, asked what they did", Admin, |p| publish("$SRV.STATS.wanwright-commands".to_owned(), p.on.customer.as_str());
    // The server.
    "account, looked up", System, |p| publish(format!("$SYS.REQ.ACCOUNT.{}.CLAIMS.LOOKUP", p.on.key), "");
    "account, replaced", System, |p| publish("$SYS.REQ.CLAIMS.UPDATE".to_owned(), p.on.claims.as_str());
    "account, deleted", System, |p| publish("$SYS.REQ.CLAIMS.DELETE".to_owned(), p.on.claims.as_str());
    "account, counted", System, |p| publish("$SYS.REQ.ACCOUNT.PING.STATZ".to_owned(), json!({ "accounts": [p.on.key] }));
    "connections, asked of one's own account", Admin, |p| publish("$SYS.REQ.ACCOUNT.PING.CONNZ".to_owned(), json!({ "acc": p.on.key }));
    "the server, asked who one is", Admin, |p| publish("$SYS.REQ.USER.INFO".to_owned(), p.on.key.as_str());
    "connections, listed", System, |p| publish("$SYS.REQ.SERVER.PING.CONNZ".to_owned(), json!({ "acc": p.on.key }));
    // Answers where one has no right to write.
    "answered into the history", Owner, |p| answered(p, p.on.history());
    "answered into the inbox", Owner, |p| answered(p, format!("wan.cmd.{}.{}.site.{}.decommission", p.on.customer, p.on.user, p.on.site));
    "answered into the door", Owner, |p| answered(p, format!("wan.do.{}.{}.site.{}.decommission", p.on.customer, p.on.user, p.on.site));
    "answered into the orders", Owner, |p| answered(p, format!("wan.order.simwan.{}.site.{}", p.on.customer, p.on.site));
    "answered into the timers", Owner, |p| answered(p, format!("wan.timer.due.{}", p.on.customer));
    "answered into JetStream", Owner, |p| answered(p, format!("$JS.API.STREAM.DELETE.{}", p.on.stream()));
    "answered into a bucket", Owner, |p| answered(p, format!("$KV.claims.serial/{}", p.on.customer));
    "answered into an acknowledgement", Owner, |p| answered(p, format!("$JS.ACK.COMMANDS.commands-{}.1.1.1.1.0", p.on.partition));
    "answered into the server", Owner, |p| answered(p, "$SYS.REQ.CLAIMS.DELETE".to_owned());
    "answered into the services", Owner, |p| answered(p, format!("$SRV.PING.{}", p.on.customer));
    "answered into the controls", Owner, |p| answered(p, format!("wan.control.{}.pause.customer.{}", p.on.user, p.on.customer));
    "answered into the durable commands, taken", Owner, |p| answered(p, format!("$JS.API.CONSUMER.MSG.NEXT.COMMANDS.commands-{}", p.on.partition));
    "answered into a question of the other's", Owner, |p| answered(p, format!("_R_.{}", p.on.command));
    "answered into a batch of the other's", Owner, |p| answered(p, format!("_INBOX.{}.1.0.fail.1.1.$FI", p.on.user));
    "answered into the other's inbox", Owner, |p| answered(p, format!("_INBOX.{}.1", p.on.user));
    // Listening.
    "listening to news", Owner, |p| subscribe(format!("wan.live.{}.>", p.on.customer));
    "listening to answers", Owner, |p| subscribe(format!("_INBOX.{}.>", p.on.user));
    "in the queue of news", Owner, |p| Op::Subscribe { subject: format!("wan.live.{}.>", p.on.customer), queue: Some("news") };
    "in the queue of answers", Owner, |p| Op::Subscribe { subject: format!("_INBOX.{}.>", p.on.user), queue: Some("answers") };
    "listening to requests", Admin, |p| subscribe(format!("wan.decide.*.{}.>", p.on.customer));
    "listening to durable commands", Admin, |p| subscribe(format!("wan.cmd.{}.>", p.on.customer));
    "listening to events", Admin, |p| subscribe(p.on.history());
    "listening to outcomes", Admin, |p| subscribe(format!("wan.out.{}.*", p.on.customer));
    "listening to everything of the customer", Admin, |p| subscribe(format!("wan.*.{}.>", p.on.customer));
    "in the services' queue", Admin, |p| Op::Subscribe { subject: format!("wan.history.{}.*", p.on.customer), queue: Some("services") };
    "in the doors' queue", Admin, |p| Op::Subscribe { subject: format!("wan.decide.{}.{}.>", p.on.partition, p.on.customer), queue: Some("commands") };
    "in the ingress' queue", Admin, |p| Op::Subscribe { subject: format!("wan.submit.{}.>", p.on.customer), queue: Some("services") };
}
