//! What a tenant may try against another one.

use std::sync::LazyLock;

use serde_json::json;
use wanwright_schemas::command::verbs;
use wanwright_schemas::ids::Kind;

use super::world::Tenant;

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
    "a tunnel to the other's site", Owner, |p| Op::Publish {
        subject: format!("wan.do.{}.{}.tunnel.t.create", p.me.customer, p.me.user),
        head: vec![("Wan-Dry-Run", "true".to_owned())],
        body: json!({ "site": p.me.site, "peer": { "site": p.on.site }, "inside": "169.254.0.0/30" }).to_string(),
        reply: None,
    };
    "the other's command id as one's own", Owner, |p| Op::Publish {
        subject: format!("wan.do.{}.{}.site.{}.retry", p.me.customer, p.me.user, p.me.site),
        head: vec![("Wan-Dry-Run", "true".to_owned()), ("Wan-Command-Id", p.on.command.clone())],
        body: "{}".to_owned(),
        reply: None,
    };
    "expectations of streams in headers", Owner, |p| Op::Publish {
        subject: format!("wan.do.{}.{}.site.{}.retry", p.me.customer, p.me.user, p.me.site),
        head: vec![
            ("Wan-Dry-Run", "true".to_owned()),
            ("Nats-Msg-Id", p.on.command.clone()),
            ("Nats-Expected-Stream", p.on.stream()),
            ("Nats-Expected-Last-Sequence", "1".to_owned()),
            ("Nats-Expected-Last-Subject-Sequence", "0".to_owned()),
            ("Nats-Expected-Last-Subject-Sequence-Subject", p.on.history()),
            ("Nats-Rollup", "all".to_owned()),
            ("Nats-Request-Info", r#"{"acc":"WAN"}"#.to_owned()),
        ],
        body: "{}".to_owned(),
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
    "the services, asked who they are", Admin, |p| publish("$SRV.INFO".to_owned(), p.on.customer.as_str());
    // The server.
    "account, looked up", System, |p| publish(format!("$SYS.REQ.ACCOUNT.{}.CLAIMS.LOOKUP", p.on.key), "");
    "account, replaced", System, |p| publish("$SYS.REQ.CLAIMS.UPDATE".to_owned(), p.on.claims.as_str());
    "account, deleted", System, |p| publish("$SYS.REQ.CLAIMS.DELETE".to_owned(), p.on.claims.as_str());
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
    "answered into the other's inbox", Owner, |p| answered(p, format!("_INBOX.{}.1", p.on.user));
    // Listening.
    "listening to news", Owner, |p| subscribe(format!("wan.live.{}.>", p.on.customer));
    "listening to answers", Owner, |p| subscribe(format!("_INBOX.{}.>", p.on.user));
    "listening to requests", Admin, |p| subscribe(format!("wan.decide.*.{}.>", p.on.customer));
    "listening to durable commands", Admin, |p| subscribe(format!("wan.cmd.{}.>", p.on.customer));
    "listening to events", Admin, |p| subscribe(p.on.history());
    "listening to outcomes", Admin, |p| subscribe(format!("wan.out.{}.*", p.on.customer));
    "listening to everything of the customer", Admin, |p| subscribe(format!("wan.*.{}.>", p.on.customer));
    "in the services' queue", Admin, |p| Op::Subscribe { subject: format!("wan.history.{}.*", p.on.customer), queue: Some("services") };
    "in the doors' queue", Admin, |p| Op::Subscribe { subject: format!("wan.decide.{}.{}.>", p.on.partition, p.on.customer), queue: Some("commands") };
    "in the ingress' queue", Admin, |p| Op::Subscribe { subject: format!("wan.submit.{}.>", p.on.customer), queue: Some("services") };
}
