//! The customer as cqrs-es sees it: a thin adapter over the pure functions.

use std::sync::Arc;

use cqrs_es::event_sink::EventSink;
use cqrs_es::{Aggregate, DomainEvent};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wanwright_schemas::Command;
use wanwright_schemas::contact::KeyId;
use wanwright_schemas::event::Event;
use wanwright_schemas::ids::CommandId;
use wanwright_schemas::reason::Refusal;
use wanwright_vendors::{Catalogue, SchemaVersion};

use crate::cancel::Standing;
use crate::customer::Customer;
use crate::decide::{Circumstances, decide};
use crate::revert::Former;

/// A command with what its headers said.
#[derive(Debug, Clone)]
pub struct Judged {
    /// The command's id.
    pub id: CommandId,
    /// The generation the sender expects.
    pub expected_generation: Option<u64>,
    /// The version of the vendor's settings that the sender speaks.
    pub schema: Option<SchemaVersion>,
    /// When it was received.
    pub received: Timestamp,
    /// The key of the customer's personal data, for a command that is about it.
    pub key: Option<KeyId>,
    /// What the customer's history says about the generation that a `revert` names.
    pub former: Option<Former>,
    /// How far the order is that a `cancel` is about.
    pub standing: Standing,
    /// The command.
    pub command: Command,
}

/// An event together with the command that decided it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// The command.
    pub by: CommandId,
    /// The event.
    pub event: Event,
}

impl DomainEvent for Recorded {
    fn event_type(&self) -> String {
        self.event.type_name()
    }

    fn event_version(&self) -> String {
        self.event.version().to_string()
    }
}

impl Aggregate for Customer {
    const TYPE: &'static str = "customer";
    type Command = Judged;
    type Event = Recorded;
    type Error = Refusal;
    type Services = Arc<Catalogue>;

    async fn handle(
        &mut self,
        command: Judged,
        vendors: &Arc<Catalogue>,
        sink: &EventSink<Self>,
    ) -> Result<(), Refusal> {
        let Judged { id, expected_generation, schema, received, key, former, standing, command } = command;
        let former = former.as_ref();
        let facts = Circumstances {
            command: id,
            expected_generation,
            received,
            vendors,
            schema,
            key,
            former,
            standing,
        };
        // The decision is whole before the first event is written: the sink applies each event at once.
        let events = decide(self, &command, facts)?;
        for event in events {
            sink.write(Recorded { by: id, event }, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, recorded: Recorded) {
        self.evolve(&recorded.event, recorded.by);
    }
}
