//! What each user may publish and subscribe to. Everything that is not listed is refused by the server.
//!
//! Inside WAN these lists keep mistakes small; they do not keep attackers apart, because a user of WAN can name any
//! subject as the one to be answered on, and the server's own answers go there. Tenants are kept apart by accounts.

use wanwright_schemas::{CustomerId, rollout, services, subjects};

use crate::topology;

/// Names that no user may have: the actors of wanwright itself, and words that would be read as such.
pub const RESERVED: [&str; 11] = [
    "admin",
    "commands",
    "dispatcher",
    "executor",
    "executors",
    "projections",
    "rollout",
    "sweeper",
    "system",
    "wan",
    "wanwright",
];

/// What a user may do. Empty lists mean everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grants {
    /// Subjects it may publish on.
    pub publish: Vec<String>,
    /// Subjects it may subscribe to.
    pub subscribe: Vec<String>,
}

/// A user of the account WAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Everything, streams included: to create them, and for a person who knows what he does.
    Admin,
    /// The command service, the only one that appends to histories.
    Commands,
    /// The dispatcher.
    Dispatcher,
    /// An executor: speaks as the actor `executor` only.
    Executors,
    /// The read models.
    Projections,
    /// Reads every stream, writes none.
    Reader,
}

/// A user that a person or a program outside gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum UserKind {
    /// Every command and every answer of one customer.
    Tenant,
    /// The same, of every customer.
    Operator,
    /// Approves and rejects, and reads.
    Approver,
    /// An executor on another machine.
    Executor,
    /// Reads.
    Reader,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 6] =
        [Self::Admin, Self::Commands, Self::Dispatcher, Self::Executors, Self::Projections, Self::Reader];

    /// The name of the user.
    pub fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Commands => "commands",
            Self::Dispatcher => "dispatcher",
            Self::Executors => "executors",
            Self::Projections => "projections",
            Self::Reader => "reader",
        }
    }

    /// What it may do, in a user called `name`.
    pub fn grants(self, name: &str, partitions: u16) -> Grants {
        let events: Vec<String> = (0..partitions).map(subjects::events_stream).collect();
        let (publish, subscribe): (Vec<String>, &[&str]) = match self {
            Self::Admin => return Grants { publish: Vec::new(), subscribe: Vec::new() },
            Self::Commands => (commands(), &COMMANDS_HEARS),
            Self::Dispatcher => (dispatcher(events), &[subjects::PREVIEWED_ALL]),
            Self::Executors => {
                (executors(), &[subjects::EXECUTORS, subjects::PREVIEW, rollout::ESTIMATE_ALL])
            }
            Self::Projections => (projections(events), &[]),
            Self::Reader => (reader(events), &["wan.live.>"]),
        };
        let looks = LOOKS.iter().map(|subject| (*subject).to_owned());
        Grants { publish: looks.chain(publish).collect(), subscribe: hearing(name, subscribe) }
    }
}

/// How every role looks at streams, reads single messages, and learns what an acknowledged message survives.
const LOOKS: [&str; 5] = [
    "$JS.API.INFO",
    "$JS.API.STREAM.INFO.*",
    "$JS.API.STREAM.MSG.GET.*",
    "$JS.API.DIRECT.GET.>",
    topology::SERVERS,
];

/// Where servers tell which of them leads a stream now; the stream's name is the last part.
pub const LEADER_ELECTED: &str = "$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED.*";

/// What the command service takes in: requests, what the server's mapping makes of them, and the services beside.
const COMMANDS_HEARS: [&str; 12] = [
    subjects::DO_ALL,
    "wan.decide.>",
    services::SUBMIT_ALL,
    services::HISTORY_ALL,
    services::OUTCOME_ALL,
    subjects::EXPLAIN,
    subjects::EXPLAIN_ALL,
    "$SRV.>",
    services::CONTROL_ALL,
    subjects::MEMBERS,
    LEADER_ELECTED,
    subjects::PREVIEWED_ALL,
];

fn commands() -> Vec<String> {
    let own = [
        "wan.evt.>",
        "wan.out.>",
        "wan.verdict.>",
        "wan.snapshot.>",
        "wan.cmd.>",
        "wan.dead.>",
        "wan.key.>",
        "wan.inventory.>",
        // Orders that are cancelled.
        "wan.order.>",
        "wan.run.*.*.cancelled",
        subjects::MEMBERS,
        // What would be done, asked of executors.
        subjects::PREVIEW,
        // Requests that came without their partition go to whoever holds it, under the name of their sender.
        "wan.decide.>",
        // Answers, to users of WAN and through the imports of the others.
        "_INBOX.>",
        "_R_.>",
    ];
    let own = own.map(str::to_owned).into_iter();
    let purge =
        [topology::SNAPSHOTS, topology::INVENTORY].map(|stream| format!("$JS.API.STREAM.PURGE.{stream}"));
    // Keys and commands that tell of people are overwritten on the disk, message by message.
    let erase =
        [topology::KEYS, topology::COMMANDS].map(|stream| format!("$JS.API.STREAM.MSG.DELETE.{stream}"));
    let buckets = buckets(&[
        topology::CLAIMS,
        topology::LEASES,
        topology::PARTITIONS,
        topology::CONTROLS,
        topology::ROLLOUTS,
    ]);
    own.chain(purge)
        .chain(erase)
        .chain(commanding("sweeper"))
        .chain(buckets)
        .chain(consuming(topology::COMMANDS))
        .collect()
}

fn dispatcher(events: Vec<String>) -> Vec<String> {
    let own =
        ["wan.order.>", "wan.run.>", "wan.dead.>", rollout::ESTIMATE_ALL].map(str::to_owned).into_iter();
    // One of them drives the rollouts, as the actor of that name.
    let rollouts = buckets(&[topology::LEASES, topology::ROLLOUTS]).into_iter().chain(commanding("rollout"));
    own.chain(rollouts).chain(events.iter().flat_map(|stream| consuming(stream))).collect()
}

fn executors() -> Vec<String> {
    // The effect journal of a target ends with the target; a copy of a state and a plan file with the next one.
    let [journal, copies, plans] = [topology::EFFECTS, topology::STATES, topology::PLANS]
        .map(|stream| format!("$JS.API.STREAM.PURGE.{stream}"));
    let own = [
        "wan.order.>",
        "wan.run.>",
        "wan.effect.>",
        "wan.timer.wait.>",
        // Orders that are given up.
        "wan.dead.order.>",
        "wan.dead.report.>",
        "wan.state.*",
        subjects::PLAN_ALL,
        subjects::PREVIEWED_ALL,
        subjects::EXECUTORS,
        journal.as_str(),
        copies.as_str(),
        plans.as_str(),
    ];
    let own = own.map(str::to_owned).into_iter();
    let buckets = buckets(&[topology::LEASES, topology::ATTEMPTS, topology::BUDGETS]);
    // What is paused is read, never written.
    let controls = format!("KV_{}", topology::CONTROLS);
    let streams = [topology::ORDERS, topology::TIMERS, controls.as_str()];
    let consumed: Vec<String> = streams.into_iter().flat_map(consuming).collect();
    own.chain(commanding("executor")).chain(buckets).chain(consumed).collect()
}

fn projections(events: Vec<String>) -> Vec<String> {
    let others = [topology::RUNS, topology::OUTCOMES, topology::VERDICTS, topology::DEAD].map(str::to_owned);
    let buckets =
        [topology::CONTROLS, topology::BUDGETS, topology::ROLLOUTS].map(|bucket| format!("KV_{bucket}"));
    let others: Vec<String> = others.into_iter().chain(buckets).collect();
    let consumed = events.iter().chain(&others).flat_map(|stream| consuming(stream));
    std::iter::once("wan.live.>".to_owned()).chain(consumed).collect()
}

fn reader(events: Vec<String>) -> Vec<String> {
    events.iter().map(String::as_str).chain([topology::RUNS]).flat_map(consuming).collect()
}

/// Commands of an actor, through either door. Inside WAN the server looks at the subject that its mapping has made.
fn commanding(actor: &str) -> impl Iterator<Item = String> {
    let doors = ["wan.do.*", "wan.cmd.*", "wan.decide.*.*"];
    doors.map(|door| format!("{door}.{actor}.>")).into_iter()
}

/// Consumers of a stream: made, read, acknowledged and taken away.
fn consuming(stream: &str) -> impl Iterator<Item = String> + use<> {
    let subjects = [
        // Without a name: the consumers of ordered readers.
        format!("$JS.API.CONSUMER.CREATE.{stream}"),
        format!("$JS.API.CONSUMER.*.{stream}.>"),
        format!("$JS.API.CONSUMER.*.*.{stream}.>"),
        format!("$JS.ACK.{stream}.>"),
    ];
    subjects.into_iter()
}

/// Keys of buckets, written; a watcher is a consumer.
fn buckets(names: &[&str]) -> Vec<String> {
    let of = |name: &&str| {
        std::iter::once(format!("$KV.{name}.>")).chain(consuming(&format!("KV_{name}"))).collect::<Vec<_>>()
    };
    names.iter().flat_map(of).collect()
}

/// A prefix of its own for answers: users of one account do not read each other's.
fn hearing(name: &str, others: &[&str]) -> Vec<String> {
    let others = others.iter().map(|subject| (*subject).to_owned());
    std::iter::once(format!("_INBOX.{name}.>")).chain(others).collect()
}

impl UserKind {
    /// All kinds.
    pub const ALL: [Self; 5] = [Self::Tenant, Self::Operator, Self::Approver, Self::Executor, Self::Reader];

    /// The kind's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Operator => "operator",
            Self::Approver => "approver",
            Self::Executor => "executor",
            Self::Reader => "reader",
        }
    }

    /// The kind of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// What a user called `name` may do; without a customer: for the whole fleet.
    pub fn grants(self, customer: Option<&CustomerId>, name: &str, partitions: u16) -> Grants {
        let of = customer.map_or("*", CustomerId::as_str);
        let commands: Vec<String> = match self {
            Self::Executor => return Role::Executors.grants(name, partitions),
            Self::Tenant | Self::Operator => {
                ["do", "cmd"].map(|door| format!("wan.{door}.{of}.{name}.>")).into()
            }
            Self::Approver => {
                let verb = |door: &str| {
                    ["approve", "reject"].map(|verb| format!("wan.{door}.{of}.{name}.*.*.{verb}"))
                };
                ["do", "cmd"].into_iter().flat_map(verb).collect()
            }
            Self::Reader => Vec::new(),
        };
        // What a vendor or a customer waits for is an operator's to say, and nobody else's.
        let controls = (self == Self::Operator).then(|| format!("wan.control.{name}.>"));
        let asks = [
            format!("wan.history.{of}.{name}"),
            format!("wan.outcome.{of}.{name}"),
            subjects::EXPLAIN.to_owned(),
            subjects::EXPLAIN_ALL.to_owned(),
        ];
        let live = if customer.is_some() { format!("wan.live.{of}.>") } else { "wan.live.>".to_owned() };
        Grants {
            publish: commands.into_iter().chain(controls).chain(asks).collect(),
            subscribe: hearing(name, &[&live]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::matches;
    use super::*;

    fn allows(grants: &Grants, subject: &str) -> bool {
        grants.publish.is_empty() || grants.publish.iter().any(|allowed| matches(allowed, subject))
    }

    #[test]
    fn only_the_admin_can_take_a_stream_away_or_change_it() {
        let verbs = ["DELETE", "UPDATE", "PURGE", "MSG.DELETE", "RESTORE", "SNAPSHOT", "CREATE"];
        for role in Role::ALL {
            let grants = role.grants(role.name(), 8);
            for verb in verbs {
                for stream in ["EVENTS-0", "EVENTS-7", "COMMANDS", "OUTCOMES", "ORDERS", "KV_claims"] {
                    let subject = format!("$JS.API.STREAM.{verb}.{stream}");
                    // What it takes from its inbox it may overwrite, message by message.
                    let overwrites = role == Role::Commands && (verb, stream) == ("MSG.DELETE", "COMMANDS");
                    let may = role == Role::Admin || overwrites;
                    assert_eq!(allows(&grants, &subject), may, "{} {subject}", role.name());
                }
            }
            let appends = matches!(role, Role::Admin | Role::Commands);
            for keys in ["$JS.API.STREAM.MSG.DELETE.KEYS", "wan.key.current.acme"] {
                assert_eq!(allows(&grants, keys), appends, "{} {keys}", role.name());
            }
            assert_eq!(allows(&grants, "wan.evt.3.acme"), appends, "{}", role.name());
        }
    }

    #[test]
    fn only_the_dispatcher_gives_versions_and_only_operators_ask_for_it() {
        let acme: CustomerId = "acme".parse().expect("an id");
        for role in Role::ALL {
            let grants = role.grants(role.name(), 8);
            let may = matches!(role, Role::Admin | Role::Dispatcher);
            for gives in ["wan.do.acme.rollout.site.a.assign-template", "wan.estimate.simwan"] {
                assert_eq!(allows(&grants, gives), may, "{} {gives}", role.name());
            }
            let writes = may || role == Role::Commands;
            assert_eq!(allows(&grants, "$KV.rollouts.simwan"), writes, "{}", role.name());
        }
        for kind in UserKind::ALL {
            for customer in [None, Some(&acme)] {
                let grants = kind.grants(customer, "anna", 8);
                let may = kind == UserKind::Operator;
                let asks = allows(&grants, "wan.control.anna.start.rollout.simwan");
                assert_eq!(asks, may, "{}", kind.name());
                assert!(!allows(&grants, "wan.do.acme.rollout.site.a.assign-template"), "{}", kind.name());
                assert!(!allows(&grants, "wan.estimate.simwan"), "{}", kind.name());
            }
        }
    }

    #[test]
    fn an_executor_speaks_for_itself_only() {
        let grants = Role::Executors.grants("executors", 8);
        assert!(allows(&grants, "wan.do.acme.executor.site.oslo.report"));
        assert!(allows(&grants, "wan.decide.3.acme.executor.site.oslo.report"));
        for other in ["wan.do.acme.anna.site.oslo.create", "wan.decide.3.acme.anna.site.oslo.create"] {
            assert!(!allows(&grants, other), "{other}");
        }
    }

    #[test]
    fn whoever_may_ask_for_changes_may_let_them_through_and_acknowledge() {
        let acme: CustomerId = "acme".parse().expect("an id");
        for (kind, may) in [(UserKind::Tenant, true), (UserKind::Operator, true), (UserKind::Reader, false)] {
            let grants = kind.grants(Some(&acme), "anna", 8);
            for verb in ["release", "acknowledge", "revert", "note"] {
                let own = format!("wan.do.acme.anna.site.oslo.{verb}");
                assert_eq!(allows(&grants, &own), may, "{} {own}", kind.name());
                assert!(!allows(&grants, &own.replace("acme", "globex")), "{}", kind.name());
            }
        }
    }

    #[test]
    fn only_an_operator_pauses_and_only_the_command_service_writes_it_down() {
        let acme: CustomerId = "acme".parse().expect("an id");
        for kind in UserKind::ALL {
            for customer in [None, Some(&acme)] {
                let grants = kind.grants(customer, "anna", 8);
                let may = allows(&grants, "wan.control.anna.pause.vendor.simwan");
                assert_eq!(may, kind == UserKind::Operator, "{}", kind.name());
                assert!(!allows(&grants, "wan.control.bob.pause.vendor.simwan"), "{}", kind.name());
            }
        }
        for role in Role::ALL {
            let may = allows(&role.grants(role.name(), 8), "$KV.controls.vendor.simwan");
            assert_eq!(may, matches!(role, Role::Admin | Role::Commands), "{}", role.name());
        }
    }

    #[test]
    fn an_approver_does_nothing_else() {
        let acme: CustomerId = "acme".parse().expect("an id");
        let grants = UserKind::Approver.grants(Some(&acme), "anna", 8);
        assert!(allows(&grants, "wan.do.acme.anna.site.oslo.approve"));
        for other in [
            "wan.do.acme.anna.site.oslo.create",
            "wan.do.acme.anna.site.oslo.release",
            "wan.do.acme.anna.site.oslo.revert",
            "wan.do.acme.anna.site.oslo.acknowledge",
            "wan.do.acme.bob.site.oslo.approve",
            "wan.do.globex.anna.site.oslo.approve",
            "wan.do.acme.anna.site.oslo.create.approve",
        ] {
            assert!(!allows(&grants, other), "{other}");
        }
    }
}
