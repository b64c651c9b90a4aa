//! What a damage came to.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use wanwright_nats::evidence::{Audited, Evidence};
use wanwright_nats::{Nats, topology};
use wanwright_schemas::subjects::{PARTITIONS, events_stream};

use super::base::{self, Base};
use super::fill::BUSY;
use super::harm::{self, Harm, Heads};
use super::{pages, serve};
use crate::audit::live;

/// How long the projections may take that have every row.
const AS_THEY_WERE: Duration = Duration::from_secs(20);

/// What a damage came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Something is not what it was, and whoever reads or misses it says so.
    Detected,
    /// Who asked for what cannot be read was not answered: nothing was decided on it, and nobody said why.
    Unanswered,
    /// Everything that was acknowledged is what it was.
    Harmless,
    /// What was lost is there again, and nobody could take it meanwhile.
    Repaired,
    /// Everything is what it was, and something was refused, stopped or found all the same.
    FalseAlarm,
    /// Something was read, decided, shown or lost that is not what it was, and nobody said so.
    Silent,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Detected, Self::Harmless, Self::Repaired, Self::Unanswered, Self::FalseAlarm, Self::Silent];

    /// How it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Detected => "detected",
            Self::Unanswered => "not answered",
            Self::Harmless => "harmless",
            Self::Repaired => "repaired",
            Self::FalseAlarm => "false alarm",
            Self::Silent => "SILENT",
        }
    }

    /// Whether that is as it should be: what is damaged is named, and nothing else.
    pub fn is_good(self) -> bool {
        matches!(self, Self::Detected | Self::Harmless | Self::Repaired)
    }
}

/// What was seen.
#[derive(Debug, Default, Serialize)]
pub struct Judged {
    /// The server does not start.
    pub server: Option<String>,
    /// Streams that are not what they were.
    pub different: Vec<String>,
    /// Streams that are not what they were, and the audit found them sound.
    pub unaudited: Vec<String>,
    /// Customers who were loaded as something that they are not.
    pub misread: Vec<String>,
    /// Customers who were refused, and why.
    pub refused: Vec<String>,
    /// Readers that stopped, and why.
    pub stopped: Vec<String>,
    /// What the audit found.
    pub findings: Vec<String>,
    /// Whether the rows are what they were.
    pub rows_differ: bool,
    /// Something was refused or stopped though nothing was touched.
    pub false_alarm: bool,
    /// What the command service said is damaged.
    pub reported: Vec<String>,
    /// What was asked and not answered, which no report names.
    pub unanswered: Vec<String>,
    /// How much of what was acknowledged is not there any more, by what it is.
    pub lost: BTreeMap<&'static str, usize>,
    /// How many claims were lost and are there again.
    pub repaired: usize,
    /// What went wrong without a word.
    pub silent: Vec<String>,
}

/// How a report begins of a command service that does not start.
pub const NOT_STARTED: &str = "the command service does not start";

impl Judged {
    /// Notes that so much is not there any more.
    pub fn missing(&mut self, what: &'static str, count: usize) {
        if count > 0 {
            *self.lost.entry(what).or_default() += count;
        }
    }

    /// Whether anybody said that this is damaged: the report of another loss does not count.
    fn is_reported(&self, what: &str, besides: &[String]) -> bool {
        let named = match what {
            "inbox" => "durable commands",
            "keys" => "KEYS",
            "claims" => "KV_claims",
            other => other,
        };
        self.reported.iter().chain(besides).any(|report| report.contains(named))
    }

    /// Whether something is lost that nobody said, with what was said besides.
    pub fn would_be_silent(&self, besides: &[String]) -> bool {
        self.lost.keys().any(|what| !self.is_reported(what, besides) && !self.is_unanswered(what))
    }

    /// Whether nobody was told anything where this was asked for.
    fn is_unanswered(&self, what: &str) -> bool {
        self.unanswered.iter().any(|unanswered| unanswered.starts_with(what))
    }

    /// Whether the command service said what is wrong and served nobody.
    fn is_not_started(&self) -> bool {
        self.reported.iter().any(|report| report.starts_with(NOT_STARTED))
    }

    /// What that comes to.
    pub fn outcome(&self) -> Outcome {
        let is_misread = !self.misread.is_empty() || !self.unaudited.is_empty() || self.rows_differ;
        if self.server.is_some() {
            Outcome::Detected
        } else if is_misread || !self.silent.is_empty() || self.would_be_silent(&[]) {
            Outcome::Silent
        } else if !self.unanswered.is_empty() {
            Outcome::Unanswered
        } else if !self.different.is_empty() || !self.lost.is_empty() || self.is_not_started() {
            Outcome::Detected
        } else if self.false_alarm {
            Outcome::FalseAlarm
        } else if self.repaired > 0 {
            Outcome::Repaired
        } else {
            Outcome::Harmless
        }
    }
}

/// Starts the server over damaged files and lets everybody read, and then decide.
pub async fn judge(base: &Base, case: &Path, number: u32, harm: &Harm) -> Result<Judged> {
    if harm.kind == harm::PAGE {
        return pages(base, case).await;
    }
    let server = match wanwright_supervisor::Nats::start(&base.server(case)).await {
        Ok(server) => server,
        Err(error) => return Ok(Judged { server: Some(error.to_string()), ..Judged::default() }),
    };
    let nats = wanwright_nats::connect(&server.url_with_login(), "wanwright-damage", PARTITIONS).await?;
    let pool = base.database(number, harm.heads).await?;
    let mut judged = read(base, case, &nats, &pool, harm.heads).await;
    pool.close().await;
    base.drop_database(number).await?;
    if let Ok(judged) = &mut judged
        && judged.server.is_none()
    {
        let evidence = base.evidence(case, harm.heads)?.1;
        let served = async {
            serve::serve(base, &nats, evidence.clone(), judged).await?;
            unharmed(base, &nats, evidence.clone(), judged).await
        };
        if let Err(error) = served.await {
            judged.silent.push(format!("it could not be judged: {error:#}"));
        }
        judged.false_alarm &= judged.lost.is_empty();
    }
    drop(nats);
    server.child().kill().await;
    let _ = server.stop(Duration::from_secs(5)).await;
    judged
}

/// Whether the histories are what they were where nothing is said to be damaged, or not any more, also after the service
/// has decided on what it found. What it decided for whose commands waited is judged there.
async fn unharmed(base: &Base, nats: &Nats, evidence: Option<Evidence>, judged: &mut Judged) -> Result<()> {
    if !matches!(judged.outcome(), Outcome::Harmless | Outcome::Repaired) {
        return Ok(());
    }
    for (customer, end) in base::ends(nats, evidence).await? {
        let is_same = end.is_ok_and(|end| base.ends.get(&customer) == Some(&end));
        if !is_same && customer.as_str() != BUSY {
            judged.silent.push(format!("{customer} is not what it was, and nothing was said to be damaged"));
        }
    }
    Ok(())
}

/// Starts Postgres over a damaged page and reads every row.
async fn pages(base: &Base, case: &Path) -> Result<Judged> {
    let postgres = match wanwright_supervisor::Postgres::start(&base.postgres(case)).await {
        Ok(postgres) => postgres,
        Err(error) => return Ok(Judged { server: Some(error.to_string()), ..Judged::default() }),
    };
    let mut judged = Judged::default();
    let read = async {
        let pool = base::pool(&postgres.url()).await?;
        let tables = pages::tables(&pool).await;
        pool.close().await;
        tables
    };
    match read.await {
        Ok(tables) => {
            let differing = base.tables.differing(&tables);
            judged.silent.extend(differing.into_iter().map(|table| format!("the rows of {table} differ")));
        }
        Err(error) => {
            judged.missing("rows", 1);
            judged.reported.push(format!("rows: {error:#}"));
        }
    }
    postgres.stop(Duration::from_secs(10)).await;
    Ok(judged)
}

async fn read(base: &Base, case: &Path, nats: &Nats, pool: &sqlx::PgPool, heads: Heads) -> Result<Judged> {
    let mut judged = Judged::default();
    // What `up` does: a stream that is gone is made anew, and comes back empty.
    if let Err(error) = topology::apply(nats, 1).await {
        judged.server = Some(wanwright_nats::chain(&error));
        return Ok(judged);
    }
    let (signer, evidence) = base.evidence(case, heads)?;
    for (customer, end) in base::ends(nats, evidence).await? {
        match end {
            Ok(end) if base.ends.get(&customer) == Some(&end) => {}
            Ok(_) => judged.misread.push(customer.to_string()),
            Err(error) => judged.refused.push(format!("{customer}: {error:#}")),
        }
    }
    let limit = if heads == Heads::All { AS_THEY_WERE } else { base::ALL };
    judged.stopped = base::project(pool, nats, &signer, limit).await?;
    // What was folded before stays; who has nothing yet and stops folds nothing behind what is wrong.
    let rows = base::rows(pool).await?;
    let is_said = |reader: &str| judged.stopped.iter().any(|why| why.starts_with(&format!("{reader}: ")));
    judged.rows_differ = base.rows.keys().chain(rows.keys()).any(|reader| {
        let is_same = rows.get(reader) == base.rows.get(reader);
        !is_same && (heads == Heads::All || !is_said(reader))
    });
    let (public, folder) = (signer.key.public(), signer.folder.unwrap_or_else(|| base_folder(case)));
    let now = base::rollings(nats).await?;
    for partition in 0..PARTITIONS {
        let stream = events_stream(partition);
        let heads = live::heads(pool, &folder, &stream).await?;
        let audited: Audited = live::audit(nats, &stream, heads, &public).await?;
        let same = now.get(&stream) == base.streams.get(&stream);
        if !same {
            judged.different.push(stream.clone());
            if audited.findings.is_empty() {
                judged.unaudited.push(stream.clone());
            }
        }
        judged.findings.extend(audited.findings.iter().take(5).map(|finding| format!("{stream}: {finding}")));
    }
    let alarm = !judged.refused.is_empty() || !judged.stopped.is_empty() || !judged.findings.is_empty();
    judged.false_alarm = judged.different.is_empty() && alarm;
    Ok(judged)
}

fn base_folder(case: &Path) -> wanwright_nats::evidence::Folder {
    wanwright_nats::evidence::Folder::new(case.join("audit"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_and_what_is_so_make_the_outcome() {
        let lost = |what| BTreeMap::from([(what, 1)]);
        let said = |text: &str| vec![text.to_owned()];
        let cases = [
            (Judged::default(), Outcome::Harmless),
            (Judged { repaired: 1, ..Judged::default() }, Outcome::Repaired),
            (Judged { server: Some("it does not start".to_owned()), ..Judged::default() }, Outcome::Detected),
            (Judged { different: said("EVENTS-0"), ..Judged::default() }, Outcome::Detected),
            (
                Judged { lost: lost("claims"), reported: said("KV_claims: one"), ..Judged::default() },
                Outcome::Detected,
            ),
            (Judged { false_alarm: true, repaired: 1, ..Judged::default() }, Outcome::FalseAlarm),
            (
                Judged {
                    lost: lost("keys"),
                    unanswered: said("keys: it took too long"),
                    ..Judged::default()
                },
                Outcome::Unanswered,
            ),
            (Judged { lost: lost("keys"), ..Judged::default() }, Outcome::Silent),
            // Said of something else, and said of what was decided all the same.
            (
                Judged { lost: lost("keys"), reported: said("KV_claims: one"), ..Judged::default() },
                Outcome::Silent,
            ),
            (Judged { misread: said("acme"), ..Judged::default() }, Outcome::Silent),
            (Judged { rows_differ: true, different: said("EVENTS-0"), ..Judged::default() }, Outcome::Silent),
            (Judged { unaudited: said("EVENTS-0"), ..Judged::default() }, Outcome::Silent),
        ];
        for (judged, outcome) in cases {
            assert_eq!(judged.outcome(), outcome, "{judged:?}");
            let is_good = ["detected", "harmless", "repaired"].contains(&outcome.name());
            assert_eq!((outcome.is_good(), Outcome::ALL.contains(&outcome)), (is_good, true));
        }
    }
}
