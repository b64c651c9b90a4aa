//! The creates of our own provider that neither a key nor a name surely finds again: the effect journal has them, as it has
//! those of foreign providers, so that the next run knows what one that died may have made.

use std::future::Future;
use std::pin::Pin;

use uuid::Uuid;
use wanwright_nats::Nats;
use wanwright_provider::{CreateEnd, Creates};
use wanwright_schemas::effect::Phase;

use crate::gateway::journal::{self, Change, OWN_CREATE};
use crate::gateway::{Opened, Share};
use crate::records::Records;

/// Those of one run.
#[derive(Debug)]
pub(super) struct OwnCreates {
    nats: Nats,
    records: Records,
    run: Share,
}

impl OwnCreates {
    pub(super) fn of(nats: &Nats, run: &Opened) -> Self {
        Self { nats: nats.clone(), records: run.records().clone(), run: run.share() }
    }

    /// A half that cannot be written is no reason to stop: the call to the vendor is in the journal before it is made, and
    /// counts as lost where nothing tells what it was for.
    async fn write(&self, call: Uuid, type_name: &str, phase: Phase) {
        let change = Change { call, method: OWN_CREATE.to_owned(), path: type_name.to_owned(), key: None };
        if let Err(error) = journal::write(&self.nats, self.records.context(), &change, phase).await {
            self.run.left_unanswered();
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "the journal does not know what a create was for, or what came of it");
        }
    }
}

impl Creates for OwnCreates {
    fn begun<'a>(&'a self, type_name: &'a str) -> Pin<Box<dyn Future<Output = String> + Send + 'a>> {
        Box::pin(async move {
            let call = Uuid::new_v4();
            self.run.asks_for_create();
            self.write(call, type_name, Phase::Before).await;
            call.to_string()
        })
    }

    fn ended<'a>(
        &'a self,
        create: &'a str,
        type_name: &'a str,
        end: &'a CreateEnd,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            let phase = match end {
                CreateEnd::Made { id, whole: true } => Phase::After { status: 200, id: Some(id.clone()) },
                CreateEnd::Made { id, whole: false } => Phase::After { status: 0, id: Some(id.clone()) },
                CreateEnd::Unknown => Phase::After { status: 0, id: None },
                CreateEnd::Nothing => Phase::After { status: 404, id: None },
            };
            if matches!(phase, Phase::After { status: 0, .. }) {
                self.run.left_unanswered();
            }
            if let Ok(call) = create.parse() {
                self.write(call, type_name, phase).await;
            }
        })
    }
}
