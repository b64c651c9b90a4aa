//! Whose login reads a history where: users of the fleet read the streams, customers and operators ask the service of
//! histories, which is all they can reach.

use anyhow::{Context, Result, ensure};
use async_nats::RequestErrorKind;
use wanwright_nats::Nats;
use wanwright_nats::accounts::{Credentials, Role};
use wanwright_schemas::reason::Reason;
use wanwright_schemas::services::{self, HistoryPage, HistoryRequest};
use wanwright_schemas::{Actor, CustomerId, Outcome};

use crate::cli::Connection;
use crate::endpoints::{LOOKING, Login};
use crate::exit::{TimedOut, Unreachable};

/// Where a login reads histories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// In the streams.
    Streams,
    /// From the service, as this actor.
    Service(Actor),
}

impl Source {
    /// Where the login of this connection reads.
    ///
    /// # Errors
    /// When its credentials cannot be read or name nobody.
    pub fn of(connection: &Connection) -> Result<Self> {
        let Some(path) = connection.access(Login::Role(Role::Reader))?.creds else {
            return Ok(Self::Streams);
        };
        let creds = Credentials::read(&path)?;
        if creds.may_publish(LOOKING) {
            return Ok(Self::Streams);
        }
        Ok(Self::Service(creds.name.parse().context("reading whom the credentials name")?))
    }
}

/// The service of histories, asked for one customer.
pub struct Asked {
    nats: Nats,
    customer: CustomerId,
    subject: String,
}

impl Asked {
    /// Connects, unless the login has no right to this history. A customer that is another's and one that is nobody's get
    /// the same answer.
    pub async fn connect(
        connection: &Connection,
        customer: CustomerId,
        actor: &Actor,
        name: &str,
    ) -> Result<Self> {
        let login = Login::Role(Role::Reader);
        let subject = services::history(&customer, actor);
        connection.may_publish(login, &subject)?;
        let nats = connection.nats_unasked(login, name).await?;
        Ok(Self { nats, customer, subject })
    }

    /// The connection.
    pub fn nats(&self) -> &Nats {
        &self.nats
    }

    /// A part of the history. Its `next` lies behind what was asked for.
    pub async fn page(&self, request: &HistoryRequest) -> Result<HistoryPage> {
        let body = serde_json::to_vec(request)?;
        let asked = self.nats.client.request(self.subject.clone(), body.into()).await;
        let answer = asked.map_err(|error| match error.kind() {
            RequestErrorKind::NoResponders => Unreachable(
                "no command service is running, and it is what answers for histories: start one with `wanwright serve \
                 commands`"
                    .to_owned(),
            ),
            RequestErrorKind::TimedOut => {
                TimedOut("the service of histories did not answer in time; ask again".to_owned())
            }
            _ => Unreachable(format!("the history could not be asked for: {error}")),
        })?;
        let page = match serde_json::from_slice::<HistoryPage>(&answer.payload) {
            Ok(page) => page,
            Err(error) => match serde_json::from_slice::<Outcome>(&answer.payload).ok() {
                Some(outcome) => return Err(refused(&outcome)),
                None => return Err(error).context("the answer is not a part of a history"),
            },
        };
        ensure!(page.customer == self.customer, "the answer is about another customer");
        ensure!(page.next.is_none_or(|next| next > request.after), "the answer does not lead on");
        Ok(page)
    }
}

fn refused(outcome: &Outcome) -> anyhow::Error {
    match outcome.refusal() {
        // For a moment: whoever follows a history asks again.
        Some(refusal) if refusal.code == Reason::Unavailable => Unreachable(refusal.message.clone()).into(),
        Some(refusal) => anyhow::anyhow!("{}: {}; {}", refusal.code, refusal.message, refusal.next),
        None => anyhow::anyhow!("the answer is not a part of a history"),
    }
}
