//! Events: what was decided or learnt, once and for ever.
//!
//! On the wire an event is one flat object whose `type` joins kind and change: `{"type":"SiteCreated","v":1,
//! "site":"oslo-01","generation":1,"spec":{…}}`.

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::command::ObjectRef;
use crate::contact::{self, Contact, HasContact, KeyId};
use crate::envelope::Digest;
use crate::ids::{Actor, CommandId, CustomerId, DeviceId, Kind, OrderId, SiteId, TunnelId};
use crate::plan::{Plan, Stale};
use crate::policy::{CustomerChange, Name};
use crate::reason::Reason;
use crate::remarks::Trouble;
use crate::report::{DriftField, Outputs, StateMark};
use crate::rule::{Approvals, PlanRule};
use crate::schema_ref::SchemaRef;
use crate::spec::{DeviceSpec, SiteSpec, TunnelSpec};
use crate::template::Template;
use crate::upcast::{CHAIN, Chain, StoredEvent};

/// What happened to an object whose specification is an `S`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "json-schema", derive(schemars::JsonSchema))]
#[serde(tag = "type")]
pub enum Change<S> {
    /// The object is wanted.
    Created {
        /// The first generation.
        generation: u64,
        /// What it should be, with the vendor's defaults filled in.
        spec: S,
        /// The schema its settings are written in; absent before schemas had versions, and where the vendor has none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        schema: Option<SchemaRef>,
    },
    /// The object should be something else.
    Changed {
        /// The new generation.
        generation: u64,
        /// What it should be now, whole.
        spec: S,
        /// The schema its settings are written in; absent before schemas had versions, and where the vendor has none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        schema: Option<SchemaRef>,
        /// The generation whose specification this is again, where that was asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reverted_to: Option<u64>,
    },
    /// The object should be taken down.
    DecommissionRequested {
        /// The generation that is its absence.
        generation: u64,
    },
    /// A failed or drifted object should be applied again.
    RetryRequested {
        /// How many times that was asked, this one included.
        retries: u64,
    },
    /// Somebody wants to know whether the vendor still has what was applied.
    DriftCheckRequested {
        /// The command that asked.
        check: CommandId,
    },
    /// The vendor has this generation.
    Applied {
        /// The generation.
        generation: u64,
        /// The order that brought it there.
        order: OrderId,
        /// What the object is at the vendor.
        outputs: Outputs,
    },
    /// This generation could not be applied, for good.
    Failed {
        /// The generation.
        generation: u64,
        /// The order that failed.
        order: OrderId,
        /// Why.
        code: Reason,
        /// Why, in a sentence.
        message: String,
    },
    /// The vendor does not have the object any more: it is forgotten.
    Removed {
        /// The order that took it down.
        order: OrderId,
    },
    /// The vendor has something else than what was applied.
    DriftFound {
        /// The command that asked to look.
        check: CommandId,
        /// What differs.
        fields: Vec<DriftField>,
    },
    /// The vendor has what was applied.
    DriftNotFound {
        /// The command that asked to look.
        check: CommandId,
    },
    /// Nothing is to be done about the object until it is resumed.
    Suspended {
        /// Why.
        reason: String,
    },
    /// Things are to be done about the object again.
    Resumed {},
    /// The object may not be taken down.
    Protected {},
    /// The object may be taken down.
    Unprotected {},
    /// The generation waits for somebody to approve it.
    ApprovalRequested {
        /// The generation.
        generation: u64,
        /// Who asked for what the generation brings: none of them can approve it.
        requested_by: Vec<Actor>,
        /// The approvals it needs.
        #[serde(default, skip_serializing_if = "Approvals::is_default")]
        approvals: Approvals,
    },
    /// Somebody approved the generation. With as many approvals as it needs it may be brought about.
    Approved {
        /// The generation.
        generation: u64,
        /// Who approved it.
        approved_by: Actor,
        /// The digest of the plan, where that is what was approved.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        plan: Option<Digest>,
    },
    /// Somebody refused the generation: nothing is done about the object until another one is asked for, which needs an
    /// approval as well.
    Rejected {
        /// The generation.
        generation: u64,
        /// Who rejected it.
        rejected_by: Actor,
        /// Why.
        reason: String,
        /// The digest of the plan, where that is what was rejected.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        plan: Option<Digest>,
    },
    /// What was asked for is to be planned, and brought about as planned only.
    PlanRequested {
        /// The generation.
        generation: u64,
        /// Who asked for what is to be planned: none of them can approve the plan.
        requested_by: Vec<Actor>,
        /// What the plan needs before it is applied.
        rule: PlanRule,
    },
    /// This is what would be done to the stack. Any other generation, another wish for one of its tunnels or another
    /// template makes it void.
    Planned {
        /// The generation of the site.
        generation: u64,
        /// The order that the plan was made for.
        order: OrderId,
        /// The order that would apply what was planned if it needed no plan: the digest of all that the stack should be.
        wish: OrderId,
        /// The plan.
        plan: Plan,
        /// The first moment at which it can neither be approved nor begun any more; it is planned anew then.
        expires: Timestamp,
        /// Who asked for what it would bring about: none of them can approve it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        requested_by: Vec<Actor>,
        /// The approvals it needs; none where it is applied at once.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        approvals: Option<Approvals>,
    },
    /// The plan was applied, to its end.
    PlanApplied {
        /// The generation of the site.
        generation: u64,
        /// The order that applied it.
        order: OrderId,
        /// The digest of the plan's file.
        plan: Digest,
    },
    /// The plan could not be applied any more. It is planned anew, and what the new plan needs has to be given anew.
    PlanStale {
        /// The generation of the site.
        generation: u64,
        /// The order that was to apply it.
        order: OrderId,
        /// The digest of the plan's file.
        plan: Digest,
        /// Why.
        why: Stale,
    },
    /// Somebody else is to be talked to about the object. Nothing follows at the vendor, so the generation stays.
    ContactChanged {
        /// Who to talk to now, whole; none any more when it is not there.
        #[serde(default, deserialize_with = "contact::read", skip_serializing_if = "Option::is_none")]
        contact: Option<Contact>,
    },
    /// What is to be done about the object waits for a change window. Which moment that is was judged when this was
    /// decided; what is not begun while a window is open waits for the next one.
    Postponed {
        /// The generation.
        generation: u64,
        /// When a window opens next; none where no window ever does, as far as can be told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
        /// Which.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        window: Option<Name>,
    },
    /// What was postponed waits for no window any more: the customer has other windows or freezes, and one is open.
    Due {
        /// The generation.
        generation: u64,
    },
    /// What waits for a change window need not wait for it.
    Released {
        /// The generation.
        generation: u64,
        /// Who said so.
        released_by: Actor,
        /// Why.
        reason: String,
    },
    /// What was asked for since the vendor was last brought up to date was taken back before an executor began it. An
    /// object that the vendor never had is gone with this, where nothing was tried.
    Cancelled {
        /// The generation that has the place of those that were taken back.
        generation: u64,
        /// The generation that was applied last, whose specification it has; none for an object that never was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        restored: Option<u64>,
        /// Whether one of them was tried, so that the vendor has to be put right.
        tried: bool,
    },
    /// Somebody knows of the trouble that the object has, until it is another one or gone.
    Acknowledged {
        /// The trouble.
        of: Trouble,
        /// Who knows of it.
        acknowledged_by: Actor,
        /// Why it is left as it is.
        reason: String,
        /// The moment up to which nobody else has to look, if there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
    },
    /// Somebody said something about the object.
    Noted {
        /// What.
        text: String,
    },
    /// The stack is to be brought about by this version of its vendor's template. A site only is given one; the
    /// specification stays.
    TemplateAssigned {
        /// The generation: a new one, or the first one of a site that is created with it.
        generation: u64,
        /// The version.
        template: Template,
        /// The number of the rollout that gives it; none where it is the version that new stacks get.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rollout: Option<u64>,
        /// Who started that rollout.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        assigned_by: Option<Actor>,
    },
    /// The stack's Terraform state was stored, up to this version: an older one is not used any more. Only sites have one.
    StateStored {
        /// The order in whose run that was seen.
        order: OrderId,
        /// The version.
        state: StateMark,
    },
}

impl<S> Change<S> {
    /// Whether the object is gone with this.
    pub fn is_end(&self) -> bool {
        matches!(self, Self::Removed { .. } | Self::Cancelled { restored: None, tried: false, .. })
    }

    /// Its name on the wire, which the kind stands before.
    fn name(&self) -> &'static str {
        match self {
            Self::Created { .. } => "Created",
            Self::Changed { .. } => "Changed",
            Self::DecommissionRequested { .. } => "DecommissionRequested",
            Self::RetryRequested { .. } => "RetryRequested",
            Self::DriftCheckRequested { .. } => "DriftCheckRequested",
            Self::Applied { .. } => "Applied",
            Self::Failed { .. } => "Failed",
            Self::Removed { .. } => "Removed",
            Self::DriftFound { .. } => "DriftFound",
            Self::DriftNotFound { .. } => "DriftNotFound",
            Self::Suspended { .. } => "Suspended",
            Self::Resumed {} => "Resumed",
            Self::Protected {} => "Protected",
            Self::Unprotected {} => "Unprotected",
            Self::ApprovalRequested { .. } => "ApprovalRequested",
            Self::Approved { .. } => "Approved",
            Self::Rejected { .. } => "Rejected",
            Self::PlanRequested { .. } => "PlanRequested",
            Self::Planned { .. } => "Planned",
            Self::PlanApplied { .. } => "PlanApplied",
            Self::PlanStale { .. } => "PlanStale",
            Self::ContactChanged { .. } => "ContactChanged",
            Self::Postponed { .. } => "Postponed",
            Self::Due { .. } => "Due",
            Self::Released { .. } => "Released",
            Self::Cancelled { .. } => "Cancelled",
            Self::Acknowledged { .. } => "Acknowledged",
            Self::Noted { .. } => "Noted",
            Self::TemplateAssigned { .. } => "TemplateAssigned",
            Self::StateStored { .. } => "StateStored",
        }
    }
}

impl<S: HasContact> Change<S> {
    fn contact(&self) -> Option<&Contact> {
        match self {
            Self::Created { spec, .. } | Self::Changed { spec, .. } => spec.contact(),
            Self::ContactChanged { contact } => contact.as_ref(),
            _ => None,
        }
    }
}

/// An event of a customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Something happened to a site.
    Site(SiteId, Change<SiteSpec>),
    /// Something happened to a tunnel.
    Tunnel(TunnelId, Change<TunnelSpec>),
    /// Something happened to a device.
    Device(DeviceId, Change<DeviceSpec>),
    /// Something happened to the customer itself.
    Customer(CustomerId, CustomerChange),
}

/// Why a stored event cannot be read. It stops the reader by name: an event is never skipped.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableEvent {
    /// The event's type is not one this code knows.
    #[error("event type `{0}` is unknown to this version of wanwright")]
    UnknownType(String),
    /// The event's version is newer than this code, which ends at the last number.
    #[error("event {0} has version {1}; this version of wanwright reads up to {2}")]
    UnknownVersion(String, u64, u64),
    /// The event's version is older, and nothing brings it up.
    #[error("event {0} has version {1}, and this version of wanwright cannot bring it up")]
    NoStep(String, u64),
    /// The event could not be brought up from this version.
    #[error("event {0} could not be brought up from version {1}: {2}")]
    Step(String, u64, String),
    /// The event does not have the fields of its type.
    #[error("event {0} is not as its type says: {1}")]
    Malformed(String, #[source] serde_json::Error),
    /// Not an object with `type` and `v`.
    #[error("not an event: no `type` or `v`")]
    NoType,
}

impl Event {
    /// The object the event is about.
    pub fn object(&self) -> ObjectRef {
        match self {
            Self::Site(id, _) => ObjectRef::Site(id.clone()),
            Self::Tunnel(id, _) => ObjectRef::Tunnel(id.clone()),
            Self::Device(id, _) => ObjectRef::Device(id.clone()),
            Self::Customer(id, _) => ObjectRef::Customer(id.clone()),
        }
    }

    /// The type as it stands on the wire, for example `SiteCreated`.
    pub fn type_name(&self) -> String {
        match self {
            Self::Site(_, change) => format!("Site{}", change.name()),
            Self::Tunnel(_, change) => format!("Tunnel{}", change.name()),
            Self::Device(_, change) => format!("Device{}", change.name()),
            Self::Customer(_, change) => format!("Customer{}", change.name()),
        }
    }

    /// The newest of the keys that sealed personal data in the event.
    pub fn sealed_by(&self) -> Option<KeyId> {
        let contact = match self {
            Self::Site(_, change) => change.contact(),
            Self::Tunnel(_, change) => change.contact(),
            Self::Device(_, change) => change.contact(),
            Self::Customer(..) => None,
        };
        contact?.fields().map(|(_, text)| text.key()).max()
    }

    fn to_wire(&self) -> Map<String, Value> {
        let name = self.type_name();
        match self {
            Self::Site(id, change) => wire(name, Kind::Site, id.as_str(), change),
            Self::Tunnel(id, change) => wire(name, Kind::Tunnel, id.as_str(), change),
            Self::Device(id, change) => wire(name, Kind::Device, id.as_str(), change),
            Self::Customer(id, change) => wire(name, Kind::Customer, id.as_str(), change),
        }
    }

    /// The version this code writes of this event.
    pub fn version(&self) -> u64 {
        CHAIN.present(&self.type_name())
    }

    /// Reads a stored event of any version ever written, and adds to `events` what it is today: one event, several or
    /// none.
    pub fn from_wire(
        wire: Map<String, Value>,
        chain: &Chain,
        events: &mut Vec<Self>,
    ) -> Result<(), UnreadableEvent> {
        let mut wire = wire;
        let Some(Value::String(name)) = wire.remove("type") else { return Err(UnreadableEvent::NoType) };
        let Some(version) = wire.remove("v").and_then(|v| v.as_u64()) else {
            return Err(UnreadableEvent::NoType);
        };
        let mut raised = Vec::with_capacity(1);
        chain.raise(StoredEvent { name, version, fields: wire }, &mut raised)?;
        for event in raised {
            events.push(Self::present(event.name, event.fields)?);
        }
        Ok(())
    }

    /// Reads an event of the present version.
    fn present(name: String, mut wire: Map<String, Value>) -> Result<Self, UnreadableEvent> {
        let prefixes = [
            ("Site", Kind::Site),
            ("Tunnel", Kind::Tunnel),
            ("Device", Kind::Device),
            ("Customer", Kind::Customer),
        ];
        let Some((kind, change)) =
            prefixes.iter().find_map(|(prefix, kind)| Some((*kind, name.strip_prefix(prefix)?.to_owned())))
        else {
            return Err(UnreadableEvent::UnknownType(name));
        };
        wire.insert("type".into(), change.into());
        let id = wire.remove(kind.as_str()).unwrap_or(Value::Null);
        let read = || -> Result<Self, serde_json::Error> {
            Ok(match kind {
                Kind::Tunnel => Self::Tunnel(serde_json::from_value(id)?, read_change(wire)?),
                Kind::Device => Self::Device(serde_json::from_value(id)?, read_change(wire)?),
                Kind::Site => Self::Site(serde_json::from_value(id)?, read_change(wire)?),
                Kind::Customer => {
                    Self::Customer(serde_json::from_value(id)?, serde_json::from_value(Value::Object(wire))?)
                }
            })
        };
        read().map_err(|error| {
            if error.to_string().starts_with("unknown variant") {
                UnreadableEvent::UnknownType(name)
            } else {
                UnreadableEvent::Malformed(name, error)
            }
        })
    }
}

fn read_change<S: DeserializeOwned>(wire: Map<String, Value>) -> Result<Change<S>, serde_json::Error> {
    serde_json::from_value(Value::Object(wire))
}

fn wire(name: String, kind: Kind, id: &str, change: &impl Serialize) -> Map<String, Value> {
    // Every specification is made of strings, numbers, lists and maps with string keys, so this cannot fail.
    let Ok(Value::Object(mut wire)) = serde_json::to_value(change) else { return Map::new() };
    wire.insert("v".into(), CHAIN.present(&name).into());
    wire.insert("type".into(), name.into());
    wire.insert(kind.as_str().into(), id.into());
    wire
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_wire().serialize(serializer)
    }
}

/// Reads where one event is expected. A history is read with [`Envelope`](crate::Envelope), which takes what an old event
/// became, however many that are.
impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = Map::<String, Value>::deserialize(deserializer)?;
        let mut events = Vec::with_capacity(1);
        Self::from_wire(wire, &CHAIN, &mut events).map_err(serde::de::Error::custom)?;
        match (events.pop(), events.is_empty()) {
            (Some(event), true) => Ok(event),
            _ => Err(serde::de::Error::custom("an old event that is not one event today")),
        }
    }
}
