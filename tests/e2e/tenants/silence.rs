//! What is told without an answer: the server's own words to whoever is refused, and how long an answer takes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use async_nats::HeaderMap;
use tokio::sync::mpsc::UnboundedReceiver;
use wanwright_nats::Nats;

use super::table::Table;
use super::tricks::{Op, Pair, TRICKS, Trick};
use super::world::{Tenant, World};
use super::{Member, is_answered, perform};

/// How many tenants listen to the server, and how many others each tries; all of them would hear the same.
const LISTENERS: usize = 5;
const OTHERS: usize = 4;

/// How often each question is asked about another and about nobody.
const TIMES: usize = 41;

/// How much longer an answer about one may take than about the other, at least and in proportion.
const NOTICED: Duration = Duration::from_millis(2);

/// How long the server's words have to come.
const LIMIT: Duration = Duration::from_secs(10);

/// What the server says to somebody who tries something: the same about another as about nobody.
pub async fn words(world: &World, members: &[Member], nobody: &Tenant, table: &mut Table) -> Result<()> {
    for (index, Member { tenant: me, .. }) in members.iter().take(LISTENERS).enumerate() {
        let (nats, mut said) = world.listener(me).await?;
        let mut heard = async |on: &Tenant, number: usize| -> Result<BTreeMap<&'static str, String>> {
            let mut all = BTreeMap::new();
            for (trick, end) in TRICKS.iter().zip(0..) {
                let op = (trick.op)(Pair { me, on, rightful: false });
                let ear = perform(&nats, &op, &format!("_INBOX.{}.silence", me.user)).await?;
                let words = until(&nats, &mut said, &format!("wan.end.{number}.{end}")).await?;
                drop(ear);
                all.insert(trick.name, words.join("; ").replace(on.command.as_str(), "ID"));
            }
            let of = on.partition;
            let places = ["commands-", "wan.verdict.", "wan.decide."].map(|place| format!("{place}{of}"));
            let places = places.into_iter().chain([on.history(), on.stream()]);
            let names = [&on.customer, &on.user, &on.site, &on.key].into_iter().cloned();
            let names: Vec<String> = places.chain(names).collect();
            for words in all.values_mut() {
                for (number, name) in names.iter().enumerate() {
                    *words = words.replace(name, &format!("NAME {number}"));
                }
            }
            Ok(all)
        };
        let nobodys = heard(nobody, 0).await?;
        ensure!(nobodys.values().any(|words| words.contains("Violation")), "the server says nothing");
        let others = members[index + 1..].iter().take(OTHERS);
        for (Member { tenant: on, .. }, number) in others.zip(1..) {
            for (name, words) in heard(on, number).await? {
                ensure!(Some(&words) == nobodys.get(name), "{name}: {words}, and {:?}", nobodys.get(name));
                table.note("the server's own words", 0, u64::from(Some(&words) != nobodys.get(name)));
            }
        }
    }
    Ok(())
}

/// What the server has said until it refuses a subject that nobody has.
async fn until(nats: &Nats, said: &mut UnboundedReceiver<String>, end: &str) -> Result<Vec<String>> {
    nats.client.publish(end.to_owned(), "".into()).await?;
    nats.client.flush().await?;
    let mut words = Vec::new();
    loop {
        let next = tokio::time::timeout(LIMIT, said.recv()).await.context("the server says nothing")?;
        let next = next.context("the connection is gone")?;
        if next.contains(&format!("\"{end}\"")) {
            return Ok(words);
        }
        words.push(next);
    }
}

/// Answers about another take as long as answers about nobody. Answers the largest difference.
pub async fn times(members: &[Member], nobody: &Tenant, table: &mut Table) -> Result<String> {
    let [me, on, ..] = members else { anyhow::bail!("too few tenants") };
    let mut largest = (Duration::ZERO, String::new());
    for trick in TRICKS.iter().filter(|trick| is_answered(trick)) {
        let (mut theirs, mut nobodys) = (Vec::new(), Vec::new());
        for _ in 0..TIMES {
            theirs.push(took(me, &on.tenant, trick).await?);
            nobodys.push(took(me, nobody, trick).await?);
        }
        let (theirs, nobodys) = (median(theirs), median(nobodys));
        let difference = theirs.abs_diff(nobodys);
        let text = format!("`{}` takes {theirs:.1?} about another, {nobodys:.1?} about nobody", trick.name);
        let is_noticed = difference > NOTICED.max(theirs.min(nobodys) / 2);
        ensure!(!is_noticed, "{text}");
        table.note("how long an answer takes", 0, u64::from(is_noticed));
        largest = largest.max((difference, text));
    }
    Ok(largest.1)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

async fn took(me: &Member, on: &Tenant, trick: &Trick) -> Result<Duration> {
    let Op::Publish { subject, head, body, .. } = (trick.op)(Pair { me: &me.tenant, on, rightful: false })
    else {
        anyhow::bail!("not a message")
    };
    let mut headers = HeaderMap::new();
    head.iter().for_each(|(name, value)| headers.insert(*name, value.as_str()));
    let began = Instant::now();
    let asked = me.nats.client.request_with_headers(subject, headers, body.into());
    asked.await.with_context(|| trick.name)?;
    Ok(began.elapsed())
}
