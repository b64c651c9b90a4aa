//! The command service over damaged files: whether what was lost is missed, given back, or taken by somebody else.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use wanwright_commands::service;
use wanwright_nats::evidence::Evidence;
use wanwright_nats::keys::Keys;
use wanwright_nats::topology::{COMMANDS, DEAD, VERDICTS};
use wanwright_nats::{Nats, StoredMessage, load_subject, stream_info};
use wanwright_schemas::subjects::{self, PARTITIONS};
use wanwright_schemas::{CommandId, CustomerId, Envelope, Reason, headers};

use super::base::{self, Base};
use super::fill::{BUSY, REFUSED};
use super::judge::{Judged, NOT_STARTED};
use crate::bench::ask::ask;
use crate::send;

/// How long the service may take to serve every partition: the leases of who died before run out meanwhile.
const READY: Duration = Duration::from_secs(60);

/// How long it may take to handle what is in the inbox.
const HANDLED: Duration = Duration::from_secs(60);

/// How long it may take to report what is lost.
const REPORTED: Duration = Duration::from_secs(5);

/// How long what is left in the inbox may take when so much is reported as lost.
const REST: Duration = Duration::from_secs(3);

/// How many lost serial numbers another customer tries to get.
const TRIED: usize = 5;

/// Lets the command service work and looks what it makes of it. Histories are as they are judged to be in `judged`.
pub async fn serve(base: &Base, nats: &Nats, evidence: Option<Evidence>, judged: &mut Judged) -> Result<()> {
    let claimed = base::claims(nats).await.unwrap_or_default();
    let lost: Vec<String> = base.claims.keys().filter(|key| !claimed.contains_key(*key)).cloned().collect();
    let began = Timestamp::now();
    let stop = CancellationToken::new();
    let (open, opened) = tokio::sync::oneshot::channel();
    let master_key = Some(base.master_key());
    let options = service::Options { master_key, evidence, ..service::Options::default() };
    let ready = move || {
        let _ = open.send(());
    };
    let running =
        tokio::spawn(service::run(nats.clone(), base.vendors.clone(), options, stop.clone(), ready));
    let looked = match tokio::time::timeout(READY, opened).await {
        Ok(Ok(())) => look(base, nats, &lost, began, judged).await,
        // It says by name what is wrong, and serves nobody.
        Ok(Err(_)) => {
            let ended =
                tokio::time::timeout(READY, running).await.context("the command service does not end")?;
            let why =
                ended?.err().map_or_else(|| "no reason".to_owned(), |error| wanwright_nats::chain(&error));
            judged.reported.push(format!("{NOT_STARTED}: {why}"));
            return Ok(());
        }
        Err(_) => {
            judged.silent.push("the command service hangs".to_owned());
            Ok(())
        }
    };
    stop.cancel();
    tokio::time::timeout(READY, running).await.context("the command service does not end")???;
    looked
}

async fn look(
    base: &Base,
    nats: &Nats,
    lost: &[String],
    began: Timestamp,
    judged: &mut Judged,
) -> Result<()> {
    // Before anything else happens: the moment in which somebody else could take what is nobody's, and in which what is
    // lost could be judged anew.
    thieves(nats, lost, judged).await?;
    damaged(nats, judged).await?;
    refused(base, nats, judged).await?;
    keyed(base, nats, judged).await?;
    inbox(nats, judged).await?;
    durable(base, nats, began, judged).await?;
    let claims = base::claims(nats).await?;
    let missing = base.claims.iter().filter(|claim| !holds(&claims, claim)).count();
    judged.missing("claims", missing);
    judged.repaired = lost.len().saturating_sub(missing);
    let reports = async {
        loop {
            let dead = load_subject(nats, DEAD, subjects::DEAD_ALL, 0).await?;
            let damaged =
                |dead: &&StoredMessage| text(dead, headers::DEAD_REASON) == Reason::StorageDamaged.code();
            let said: Vec<String> =
                dead.iter().filter(damaged).map(|dead| text(dead, headers::DEAD_MESSAGE)).collect();
            if judged.would_be_silent(&said) {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
            return anyhow::Ok(said);
        }
    };
    // What is looked at beside the commands is looked at every second.
    if let Ok(said) = tokio::time::timeout(REPORTED, reports).await {
        judged.reported.extend(said?);
    }
    Ok(())
}

fn holds<K: Ord, V: PartialEq>(there: &BTreeMap<K, V>, (key, value): &(&K, &V)) -> bool {
    there.get(*key) == Some(*value)
}

fn text(message: &StoredMessage, name: &str) -> String {
    message.headers.get(name).map(|value| value.as_str().to_owned()).unwrap_or_default()
}

/// Another customer asks for serial numbers whose claims are lost.
async fn thieves(nats: &Nats, lost: &[String], judged: &mut Judged) -> Result<()> {
    if lost.is_empty() {
        return Ok(());
    }
    let ask = async |kind: &str, id: &str, body: serde_json::Value| {
        let subject = send::subject("bench", kind, "create", &format!("thief/{id}"))?;
        ask(nats, &subject, CommandId::mint(), body.to_string().into_bytes()).await
    };
    ask("site", "oslo", json!({ "vendor": "simwan", "lan": ["10.0.0.0/24"] })).await?;
    for (number, key) in lost.iter().take(TRIED).enumerate() {
        let serial = key.strip_prefix("serial/").unwrap_or(key);
        let body = json!({ "site": "oslo", "serial": serial, "model": "edge-100" });
        let mut answer = ask("device", &format!("d{number}"), body.clone()).await;
        if answer.is_err() {
            // Whoever is not answered asks again, and must not get it then.
            answer = ask("device", &format!("d{number}"), body).await;
        }
        match answer {
            Ok(outcome) if outcome.position().is_some() => {
                judged.silent.push(format!("another customer got the serial number {serial}"));
            }
            Ok(outcome) => {
                let damaged = outcome.refusal().filter(|refusal| refusal.code == Reason::StorageDamaged);
                judged.reported.extend(damaged.map(|refusal| format!("KV_claims: {}", refusal.message)));
            }
            Err(error) => judged.unanswered.push(format!("claims: asking for {serial}: {error:#}")),
        }
    }
    Ok(())
}

/// Asks for changes of customers whose histories are known to be damaged: nothing is decided on them.
async fn damaged(nats: &Nats, judged: &mut Judged) -> Result<()> {
    let refused = judged.refused.iter().filter_map(|refused| refused.split_once(": "));
    for (customer, _) in refused.take(TRIED) {
        let subject = send::subject("bench", "site", "change", &format!("{customer}/oslo"))?;
        let body = json!({ "settings": { "location": "elsewhere" } }).to_string();
        // Who is not answered was not decided on either.
        let answer = ask(nats, &subject, CommandId::mint(), body.into_bytes()).await;
        if answer.is_ok_and(|answer| answer.position().is_some()) {
            judged.silent.push(format!("something was decided on the damaged history of {customer}"));
        }
    }
    Ok(())
}

/// Waits until nothing is left in the inbox but what was reported as lost: the server may go on counting what it cannot
/// deliver.
async fn inbox(nats: &Nats, judged: &mut Judged) -> Result<()> {
    let empty = async {
        while stream_info(&nats.js, COMMANDS).await?.messages > reported(nats).await? {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    };
    match tokio::time::timeout(HANDLED, empty).await {
        Ok(Ok(())) => {
            // A damaged record may say that more is lost than is.
            let rest = async {
                while stream_info(&nats.js, COMMANDS).await.is_ok_and(|inbox| inbox.messages > 0) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            let _ = tokio::time::timeout(REST, rest).await;
            Ok(())
        }
        Ok(failed) => failed,
        Err(_) => {
            judged.silent.push("commands stay in the inbox".to_owned());
            Ok(())
        }
    }
}

/// What was reported of the inbox.
async fn reports(nats: &Nats) -> Result<Vec<StoredMessage>> {
    Ok(load_subject(nats, DEAD, &subjects::dead("inbox", Reason::StorageDamaged), 0).await?)
}

/// How many durable commands were reported as lost.
async fn reported(nats: &Nats) -> Result<u64> {
    let lost = |report: &StoredMessage| {
        let body: serde_json::Value = serde_json::from_slice(&report.payload).ok()?;
        body["lost"].as_u64()
    };
    Ok(reports(nats).await?.iter().filter_map(lost).sum())
}

/// Changes a contact of whoever has none of their keys any more: it is not sealed with another one.
async fn keyed(base: &Base, nats: &Nats, judged: &mut Judged) -> Result<()> {
    let keys = Keys::new(nats.clone(), base.master_key());
    let there = match base::keys(&keys).await {
        Ok(there) => there,
        Err(error) => {
            judged.reported.push(format!("keys: {error:#}"));
            return Ok(());
        }
    };
    for (customer, _) in base.keys.iter().filter(|key| !holds(&there, key)) {
        judged.missing("keys", 1);
        let subject = send::subject("bench", "site", "change", &format!("{customer}/oslo"))?;
        let body = json!({ "contact": { "name": "Somebody else" } }).to_string();
        match ask(nats, &subject, CommandId::mint(), body.into_bytes()).await {
            Ok(answer) if answer.position().is_some() => {
                judged.silent.push(format!("{customer} got another key"));
            }
            Ok(answer) => {
                judged.reported.extend(answer.refusal().map(|why| format!("KEYS: {}", why.message)))
            }
            Err(error) => judged.unanswered.push(format!("keys: changing a contact: {error:#}")),
        }
    }
    Ok(())
}

/// Looks whether every durable command was decided once, in its order, or buried with a reason.
async fn durable(base: &Base, nats: &Nats, began: Timestamp, judged: &mut Judged) -> Result<()> {
    let busy: CustomerId = BUSY.parse()?;
    let stream = subjects::events_stream(subjects::partition(&busy, PARTITIONS));
    if judged.different.contains(&stream) {
        // What was decided before is a part of a history that is known to be damaged.
        return Ok(());
    }
    let history = load_subject(nats, &stream, &subjects::events(&busy, PARTITIONS), 0).await?;
    let decided: Vec<CommandId> = history
        .iter()
        .map(|message| Ok(Envelope::decode(&message.payload)?.command))
        .collect::<Result<_>>()?;
    let told: BTreeSet<CommandId> = base.told.durable.iter().copied().collect();
    let places: BTreeMap<CommandId, usize> =
        base.told.durable.iter().enumerate().map(|(place, id)| (*id, place)).collect();
    let order: Vec<usize> = decided.iter().filter_map(|id| places.get(id).copied()).collect();
    if !order.is_sorted_by(|one, next| one < next) {
        judged.silent.push("durable commands were decided in another order, or twice".to_owned());
    }
    let verdicts = load_subject(nats, VERDICTS, &format!("wan.verdict.*.{busy}.*"), 0).await?;
    let refused =
        verdicts.iter().filter_map(|verdict| Some(subjects::command_of_verdict(&verdict.subject)?.1));
    let dead = load_subject(nats, DEAD, subjects::DEAD_ALL, 0).await?;
    let buried = dead.iter().filter_map(|dead| text(dead, headers::COMMAND_ID).parse().ok());
    let handled: BTreeSet<CommandId> = decided.iter().copied().chain(refused).chain(buried).collect();
    let (lost, said) = (told.difference(&handled).count(), reported(nats).await?);
    if u64::try_from(lost)? > said && said > 0 {
        judged.silent.push(format!("{lost} durable commands are lost, and {said} are reported"));
    }
    judged.missing("inbox", lost);
    let is_lost = |id: &CommandId| !handled.contains(id);
    let Some(first) = base.told.durable.iter().position(is_lost) else { return Ok(()) };
    // What was decided here, and not when the base was made, and came behind the first that is lost.
    let is_behind = |message: &&StoredMessage| {
        let id = Envelope::decode(&message.payload).map(|envelope| envelope.command).ok();
        id.and_then(|id| places.get(&id)).is_some_and(|place| *place > first)
    };
    let decided = history.iter().filter(|message| message.time > began).filter(is_behind);
    let (decided, said) = (decided.map(|message| message.time).min(), reports(nats).await?);
    if let (Some(decided), Some(said)) = (decided, said.first())
        && decided < said.time
    {
        judged
            .silent
            .push("what came behind a lost durable command was decided before it was reported".to_owned());
    }
    Ok(())
}

/// Sends what was refused again: it is refused with the same words, or because the verdicts are known to lack something.
async fn refused(base: &Base, nats: &Nats, judged: &mut Judged) -> Result<()> {
    let (kind, verb, id) = REFUSED;
    let mut anew = 0;
    for (customer, command, outcome) in &base.told.refused {
        let subject = send::subject("bench", kind, verb, &format!("{customer}/{id}"))?;
        let again = match ask(nats, &subject, *command, Vec::new()).await {
            Ok(again) => again,
            Err(error) => {
                judged.unanswered.push(format!("VERDICTS: asking again: {error:#}"));
                judged.missing("VERDICTS", 1);
                break;
            }
        };
        if let Some(refusal) = again.refusal().filter(|refusal| refusal.code == Reason::StorageDamaged) {
            judged.reported.push(format!("VERDICTS: {}", refusal.message));
            judged.missing("VERDICTS", 1);
            continue;
        }
        let is_damaged = again.refusal().is_some_and(|refusal| refusal.code == Reason::HistoryDamaged);
        let is_same = again.repeated && again.refusal() == outcome.refusal();
        anew += usize::from(!is_same && !is_damaged);
    }
    if anew > 0 {
        judged.silent.push(format!("{anew} refused commands were judged anew"));
    }
    Ok(())
}
