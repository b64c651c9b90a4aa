//! The example fleet: read from its file, sent over NATS under ids that are minted once and kept with the data.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use async_nats::HeaderMap;
use futures::stream::{self, TryStreamExt};
use indicatif::ProgressBar;
use tokio::sync::Mutex;
use wanwright_nats::Nats;
use wanwright_schemas::headers;
use wanwright_schemas::ids::CommandId;
use wanwright_schemas::outcome::Outcome;
use wanwright_schemas::reason::Reason;
use wanwright_schemas::subjects::CommandSubject;

use super::progress;
use crate::endpoints::PERSON;
use crate::send;

/// The fleet as a person reads it.
const FLEET: &str = include_str!("../../demo/fleet.txt");

/// The file in the home folder that keeps the commands' ids.
const IDS: &str = "fleet-ids.json";

/// A command of the fleet.
#[derive(Debug, Clone)]
pub struct Line {
    /// What the command is about and asks.
    pub subject: CommandSubject,
    body: String,
}

/// Reads the fleet.
pub fn read() -> Result<Vec<Line>> {
    parse(FLEET)
}

fn parse(text: &str) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let parse = || -> Option<Result<Line>> {
            let mut parts = line.splitn(4, ' ');
            let (kind, verb, object) = (parts.next()?, parts.next()?, parts.next()?);
            let body = parts.next().unwrap_or_default().to_owned();
            Some(send::subject(PERSON, kind, verb, object).map(|subject| Line { subject, body }))
        };
        let parsed = parse().unwrap_or_else(|| Err(anyhow::anyhow!("a line is KIND VERB CUSTOMER/ID BODY")));
        lines.push(parsed.with_context(|| format!("line {} of the fleet", number + 1))?);
    }
    Ok(lines)
}

/// The ids of the fleet's commands, by subject.
struct Ids {
    ids: BTreeMap<String, CommandId>,
    path: std::path::PathBuf,
}

impl Ids {
    /// Reads the kept ids and mints the missing ones; they are on disk before the first command is sent.
    fn keep(home: &Path, fleet: &[Line]) -> Result<Self> {
        let path = home.join(IDS);
        let mut ids: BTreeMap<String, CommandId> = match std::fs::read(&path) {
            Ok(text) => {
                serde_json::from_slice(&text).with_context(|| format!("reading {}", path.display()))?
            }
            Err(_) => BTreeMap::new(),
        };
        for line in fleet {
            ids.entry(line.subject.request()).or_insert_with(CommandId::mint);
        }
        let kept = Self { ids, path };
        kept.write()?;
        Ok(kept)
    }

    fn write(&self) -> Result<()> {
        let temporary = self.path.with_extension("tmp");
        let mut file = std::fs::File::create(&temporary)?;
        file.write_all(serde_json::to_string_pretty(&self.ids)?.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, &self.path).with_context(|| format!("writing {}", self.path.display()))
    }

    fn get(&self, line: &Line) -> Option<CommandId> {
        self.ids.get(&line.subject.request()).copied()
    }

    fn renew(&mut self, line: &Line) -> Result<()> {
        self.ids.insert(line.subject.request(), CommandId::mint());
        self.write()
    }
}

/// Sends the fleet: a customer's commands in order, customers beside each other.
pub async fn send(home: &Path, nats: &Nats, fleet: &[Line]) -> Result<()> {
    let ids = Mutex::new(Ids::keep(home, fleet)?);
    let mut customers: BTreeMap<&str, Vec<&Line>> = BTreeMap::new();
    for line in fleet {
        customers.entry(line.subject.customer.as_str()).or_default().push(line);
    }
    let bar = progress::bar("commands", fleet.len() as u64);
    stream::iter(customers.into_values().map(Ok::<_, anyhow::Error>))
        .try_for_each_concurrent(None, |lines| of_customer(nats, lines, &ids, &bar))
        .await?;
    bar.finish();
    progress::said(&bar, "commands", fleet.len() as u64);
    Ok(())
}

async fn of_customer(nats: &Nats, lines: Vec<&Line>, ids: &Mutex<Ids>, bar: &ProgressBar) -> Result<()> {
    for line in lines {
        let outcome = one(nats, line, ids).await?;
        let object = format!("{}/{}", line.subject.customer, line.subject.object.id());
        // What an earlier start created is there already.
        match outcome.refusal().filter(|refusal| refusal.code != Reason::AlreadyExists) {
            Some(refusal) => anyhow::bail!("{object} was refused: {refusal}"),
            None => bar.inc(1),
        }
    }
    Ok(())
}

async fn one(nats: &Nats, line: &Line, ids: &Mutex<Ids>) -> Result<Outcome> {
    loop {
        let id = ids.lock().await.get(line).context("the fleet's ids are incomplete")?;
        let mut head = HeaderMap::new();
        head.insert(headers::COMMAND_ID, id.to_string().as_str());
        let outcome = send::request(nats, &line.subject, head, line.body.clone().into_bytes()).await?;
        // Ids are remembered for a day; an older fleet asks again under new ones, and finds that all is there.
        match outcome.refusal() {
            Some(refusal) if refusal.code == Reason::CommandTooOld => ids.lock().await.renew(line)?,
            _ => return Ok(outcome),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use wanwright_schemas::ids::Kind;

    use super::*;

    #[test]
    fn the_fleet_is_as_large_as_it_says() {
        let fleet = read().expect("the fleet");
        let count = |kind| fleet.iter().filter(|line| line.subject.object.kind() == kind).count();
        let customers: BTreeSet<_> = fleet.iter().map(|line| line.subject.customer.clone()).collect();
        assert_eq!(
            (customers.len(), count(Kind::Site), count(Kind::Tunnel), count(Kind::Device)),
            (3, 12, 30, 120)
        );
    }

    #[test]
    fn a_wrong_line_is_named() {
        let error = parse("# a\nsite create\n").expect_err("too short");
        assert!(error.to_string().contains("line 2"), "{error}");
    }
}
