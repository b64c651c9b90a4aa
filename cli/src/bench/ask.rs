//! Asking for a command until there is an answer.

use std::time::{Duration, Instant};

use anyhow::Result;
use async_nats::HeaderMap;
use wanwright_nats::Nats;
use wanwright_schemas::subjects::CommandSubject;
use wanwright_schemas::{CommandId, Outcome, headers};

use crate::send;

/// How long an answer may take, however often it is asked for.
const ANSWERED: Duration = Duration::from_secs(30);

/// The headers of a command with this id.
pub fn with(id: CommandId) -> HeaderMap {
    let mut head = HeaderMap::new();
    head.insert(headers::COMMAND_ID, id.to_string().as_str());
    head
}

/// Asks under one id until there is an answer: one that is slow, or whose connection ended meanwhile, is not missing.
pub async fn ask(nats: &Nats, subject: &CommandSubject, id: CommandId, body: Vec<u8>) -> Result<Outcome> {
    let give_up = Instant::now() + ANSWERED;
    loop {
        match send::request(nats, subject, with(id), body.clone()).await {
            Err(_) if Instant::now() < give_up => tokio::time::sleep(Duration::from_millis(200)).await,
            said => return said,
        }
    }
}
