//! Commands: what people and programs ask for.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::body;
use crate::ids::{Actor, CustomerId, DeviceId, Kind, ObjectId, SiteId, TunnelId};
use crate::policy::{ApproveBody, CustomerAsk, DecommissionBody, RejectBody, SuspendBody};
use crate::reason::{Reason, Refusal};
use crate::remarks::{AcknowledgeBody, NoteBody, RevertBody};
use crate::report::Report;
use crate::spec::{DeviceSpec, SiteSpec, TunnelSpec};
use crate::strict;
use crate::template::AssignTemplateBody;
use crate::window::ReleaseBody;

/// An object of a customer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(tag = "kind", content = "id", rename_all = "lowercase")]
pub enum ObjectRef {
    /// The customer itself.
    Customer(CustomerId),
    /// A site.
    Site(SiteId),
    /// A tunnel.
    Tunnel(TunnelId),
    /// A device.
    Device(DeviceId),
}

impl ObjectRef {
    /// The reference to an object of this kind.
    pub fn new(kind: Kind, id: ObjectId) -> Result<Self, Refusal> {
        // An ObjectId has been checked; the other ids share its grammar.
        let wrong = |error: crate::ids::InvalidToken| Refusal::new(Reason::BadSubject, error.to_string());
        Ok(match kind {
            Kind::Customer => Self::Customer(id.as_str().parse().map_err(wrong)?),
            Kind::Site => Self::Site(id.as_str().parse().map_err(wrong)?),
            Kind::Tunnel => Self::Tunnel(id.as_str().parse().map_err(wrong)?),
            Kind::Device => Self::Device(id.as_str().parse().map_err(wrong)?),
        })
    }

    /// The object's kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Customer(_) => Kind::Customer,
            Self::Site(_) => Kind::Site,
            Self::Tunnel(_) => Kind::Tunnel,
            Self::Device(_) => Kind::Device,
        }
    }

    /// The object's id.
    pub fn id(&self) -> &str {
        match self {
            Self::Customer(id) => id.as_str(),
            Self::Site(id) => id.as_str(),
            Self::Tunnel(id) => id.as_str(),
            Self::Device(id) => id.as_str(),
        }
    }
}

impl std::fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.kind(), self.id())
    }
}

impl std::str::FromStr for ObjectRef {
    type Err = Refusal;
    /// Reads what `Display` writes: `site/oslo-01`.
    fn from_str(text: &str) -> Result<Self, Refusal> {
        let no =
            || Refusal::new(Reason::BadSubject, format!("`{text}` is no kind and id with a / between them"));
        let (kind, id) = text.split_once('/').ok_or_else(no)?;
        Self::new(Kind::parse(kind).ok_or_else(no)?, id.parse().map_err(|_| no())?)
    }
}

/// What a command asks of an object whose specification is an `S`.
#[derive(Debug, Clone, PartialEq)]
pub enum Ask<S> {
    /// Bring the object into being.
    Create(S),
    /// Change the specification by a JSON merge patch.
    Change(Value),
    /// Take the object down at the vendor, then forget it.
    Decommission(DecommissionBody),
    /// Try a failed change again, or undo a drift.
    Retry,
    /// Take back what was asked for and not begun: the object is again what was applied last.
    Cancel,
    /// Look whether the vendor still has what was applied.
    CheckDrift,
    /// What an executor found or did. Only the actor `executor` may send it.
    Report(Report),
    /// Do nothing about the object until further notice.
    Suspend(SuspendBody),
    /// Go on.
    Resume,
    /// Refuse to take the object down.
    Protect,
    /// Take the object down when somebody asks for it.
    Unprotect,
    /// Bring about the generation that waits for this.
    Approve(ApproveBody),
    /// Say that the generation which waits for approval is not to be brought about.
    Reject(RejectBody),
    /// Bring about, outside of its change windows, what waits for one.
    Release(ReleaseBody),
    /// Make the specification what it was in an earlier generation.
    Revert(RevertBody),
    /// Say something for others to read.
    Note(NoteBody),
    /// Say that a failure or a drift is known.
    Acknowledge(AcknowledgeBody),
    /// Bring a stack about by another version of its vendor's template. Only the actor `rollout` may send it.
    AssignTemplate(AssignTemplateBody),
}

impl<S> Ask<S> {
    /// The verb of the subject.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Create(_) => "create",
            Self::Change(_) => "change",
            Self::Decommission(_) => "decommission",
            Self::Retry => "retry",
            Self::Cancel => "cancel",
            Self::CheckDrift => "check-drift",
            Self::Report(_) => "report",
            Self::Suspend(_) => "suspend",
            Self::Resume => "resume",
            Self::Protect => "protect",
            Self::Unprotect => "unprotect",
            Self::Approve(_) => "approve",
            Self::Reject(_) => "reject",
            Self::Release(_) => "release",
            Self::Revert(_) => "revert",
            Self::Note(_) => "note",
            Self::Acknowledge(_) => "acknowledge",
            Self::AssignTemplate(_) => "assign-template",
        }
    }
}

/// A command's object and what it asks of it.
#[derive(Debug, Clone, PartialEq)]
pub enum CommandBody {
    /// Look at everything the customer has at its vendors.
    CheckCustomerDrift,
    /// Asks something of a site.
    Site(SiteId, Ask<SiteSpec>),
    /// Asks something of a tunnel.
    Tunnel(TunnelId, Ask<TunnelSpec>),
    /// Asks something of a device.
    Device(DeviceId, Ask<DeviceSpec>),
    /// Asks something of the customer itself.
    Customer(CustomerAsk),
}

/// A command, read and well-formed; whether it is allowed is for the customer to decide.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// Whose object it is about.
    pub customer: CustomerId,
    /// Who sent it.
    pub actor: Actor,
    /// What it asks.
    pub body: CommandBody,
}

/// The body of a command that has nothing to say.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// The verbs a kind has, in the order in which they are documented.
pub fn verbs(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Customer => &[
            "change",
            "approve",
            "reject",
            "decommission",
            "suspend",
            "resume",
            "freeze",
            "unfreeze",
            "check-drift",
            "note",
            "erase",
            "confirm-claims",
        ],
        Kind::Site => &[
            "create",
            "change",
            "cancel",
            "revert",
            "approve",
            "reject",
            "release",
            "suspend",
            "resume",
            "protect",
            "unprotect",
            "decommission",
            "retry",
            "check-drift",
            "acknowledge",
            "note",
            "report",
            "assign-template",
        ],
        Kind::Device => &[
            "create",
            "change",
            "cancel",
            "revert",
            "approve",
            "reject",
            "release",
            "suspend",
            "resume",
            "protect",
            "unprotect",
            "decommission",
            "retry",
            "check-drift",
            "acknowledge",
            "note",
            "report",
        ],
        // A tunnel is looked at, reported about, suspended and released with its site, for they are one stack.
        Kind::Tunnel => &[
            "create",
            "change",
            "cancel",
            "revert",
            "approve",
            "reject",
            "protect",
            "unprotect",
            "decommission",
            "retry",
            "acknowledge",
            "note",
        ],
    }
}

/// Verbs for wanwright's own processes; nobody else is told of them.
pub const INTERNAL: [&str; 3] = ["report", "confirm-claims", "assign-template"];

fn known(kind: Kind, verb: &str) -> Result<(), Refusal> {
    if verbs(kind).contains(&verb) {
        return Ok(());
    }
    let known: Vec<&str> = verbs(kind).iter().copied().filter(|known| !INTERNAL.contains(known)).collect();
    let known = known.join(", ");
    let message = format!("`{verb}` is not a verb of a {kind}; its verbs are {known}");
    Err(Refusal::new(Reason::UnknownVerb, message))
}

fn ask<S: serde::de::DeserializeOwned + Serialize>(
    kind: Kind,
    verb: &str,
    bytes: &[u8],
) -> Result<Ask<S>, Refusal> {
    known(kind, verb)?;
    // A report says what a vendor said; nobody can be asked to say it in other words.
    let said = if verb == "report" { body::parse(bytes)? } else { strict::read(bytes)? };
    match verb {
        "create" => Ok(Ask::Create(strict::typed(&said, bytes)?)),
        "change" => Ok(Ask::Change(said)),
        "report" => Ok(Ask::Report(strict::typed(&said, bytes)?)),
        "suspend" => Ok(Ask::Suspend(strict::typed(&said, bytes)?)),
        "approve" => Ok(Ask::Approve(strict::typed(&said, bytes)?)),
        "reject" => Ok(Ask::Reject(strict::typed(&said, bytes)?)),
        "release" => Ok(Ask::Release(strict::typed(&said, bytes)?)),
        "revert" => Ok(Ask::Revert(strict::typed(&said, bytes)?)),
        "note" => Ok(Ask::Note(strict::typed(&said, bytes)?)),
        "acknowledge" => Ok(Ask::Acknowledge(strict::typed(&said, bytes)?)),
        "assign-template" => Ok(Ask::AssignTemplate(strict::typed(&said, bytes)?)),
        "decommission" if kind == Kind::Site => Ok(Ask::Decommission(strict::typed(&said, bytes)?)),
        _ => {
            body::parse::<Nothing>(bytes)?;
            Ok(match verb {
                "decommission" => Ask::Decommission(DecommissionBody::default()),
                "retry" => Ask::Retry,
                "cancel" => Ask::Cancel,
                "resume" => Ask::Resume,
                "protect" => Ask::Protect,
                "unprotect" => Ask::Unprotect,
                _ => Ask::CheckDrift,
            })
        }
    }
}

fn ask_customer(verb: &str, bytes: &[u8]) -> Result<CommandBody, Refusal> {
    known(Kind::Customer, verb)?;
    let said = strict::read(bytes)?;
    Ok(CommandBody::Customer(match verb {
        "change" => CustomerAsk::Change(said),
        "decommission" => CustomerAsk::Decommission(strict::typed(&said, bytes)?),
        "suspend" => CustomerAsk::Suspend(strict::typed(&said, bytes)?),
        "freeze" => CustomerAsk::Freeze(strict::typed(&said, bytes)?),
        "unfreeze" => CustomerAsk::Unfreeze(strict::typed(&said, bytes)?),
        "approve" => CustomerAsk::Approve(strict::typed(&said, bytes)?),
        "reject" => CustomerAsk::Reject(strict::typed(&said, bytes)?),
        "note" => CustomerAsk::Note(strict::typed(&said, bytes)?),
        "confirm-claims" => CustomerAsk::ConfirmClaims(strict::typed(&said, bytes)?),
        _ => {
            strict::typed::<Nothing>(&said, bytes)?;
            match verb {
                "resume" => CustomerAsk::Resume,
                "erase" => CustomerAsk::Erase,
                _ => return Ok(CommandBody::CheckCustomerDrift),
            }
        }
    }))
}

impl Command {
    /// Reads the body of a command for an object.
    pub fn parse(
        customer: CustomerId,
        actor: Actor,
        object: &ObjectRef,
        verb: &str,
        bytes: &[u8],
    ) -> Result<Self, Refusal> {
        let body = match object {
            ObjectRef::Customer(id) => {
                let asked = ask_customer(verb, bytes)?;
                if id != &customer {
                    let message = format!("the subject names customer {customer} and then {id}");
                    return Err(Refusal::new(Reason::BadSubject, message));
                }
                asked
            }
            ObjectRef::Site(id) => CommandBody::Site(id.clone(), ask(Kind::Site, verb, bytes)?),
            ObjectRef::Tunnel(id) => CommandBody::Tunnel(id.clone(), ask(Kind::Tunnel, verb, bytes)?),
            ObjectRef::Device(id) => CommandBody::Device(id.clone(), ask(Kind::Device, verb, bytes)?),
        };
        Ok(Self { customer, actor, body })
    }

    /// The object the command is about.
    pub fn object(&self) -> ObjectRef {
        match &self.body {
            CommandBody::CheckCustomerDrift | CommandBody::Customer(_) => {
                ObjectRef::Customer(self.customer.clone())
            }
            CommandBody::Site(id, _) => ObjectRef::Site(id.clone()),
            CommandBody::Tunnel(id, _) => ObjectRef::Tunnel(id.clone()),
            CommandBody::Device(id, _) => ObjectRef::Device(id.clone()),
        }
    }

    /// The verb of the command.
    pub fn verb(&self) -> &'static str {
        match &self.body {
            CommandBody::CheckCustomerDrift => "check-drift",
            CommandBody::Customer(ask) => ask.verb(),
            CommandBody::Site(_, ask) => ask.verb(),
            CommandBody::Tunnel(_, ask) => ask.verb(),
            CommandBody::Device(_, ask) => ask.verb(),
        }
    }
}
