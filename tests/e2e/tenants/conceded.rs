//! The two things that a tenant learns of others, as nats/README.md says under "What is not promised": that a serial number
//! is taken, and how many commands its partition had. Here it is shown that it is no more than that.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use async_nats::HeaderMap;
use serde_json::{Value, json};
use wanwright_tests::mint;

use super::Member;
use super::table::Table;
use super::world::Tenant;

/// A command of a member's own.
async fn ask(member: &Member, tail: &str, body: &Value, is_dry: bool) -> Result<Value> {
    let Tenant { customer, user, .. } = &member.tenant;
    let mut head = HeaderMap::new();
    head.insert("Wan-Command-Id", mint().as_str());
    if is_dry {
        head.insert("Wan-Dry-Run", "true");
    }
    let subject = format!("wan.do.{customer}.{user}.{tail}");
    let answer = member.nats.client.request_with_headers(subject, head, body.to_string().into()).await?;
    Ok(serde_json::from_slice(&answer.payload)?)
}

fn device(member: &Member, serial: &str) -> Value {
    json!({ "site": member.tenant.site, "model": "edge-100", "serial": serial })
}

/// A serial number that somebody has is refused as taken, in the same words whoever has it, and without a name.
pub async fn serial_numbers(members: &[Member], table: &mut Table) -> Result<()> {
    let [owner, other, rest @ ..] = members else { anyhow::bail!("too few tenants") };
    for (member, serial) in [(owner, "SN-900001"), (other, "SN-900002")] {
        let made = ask(member, "device.d.create", &device(member, serial), false).await?;
        ensure!(made["status"] == "accepted", "{made}");
    }
    for member in rest {
        let try_one =
            async |serial: &str| ask(member, "device.d.create", &device(member, serial), true).await;
        let free = try_one("SN-900003").await?;
        ensure!(free["status"] == "accepted", "{free}");
        let said = async |serial: &str| {
            let mut answer = try_one(serial).await?;
            ensure!(answer["code"] == "SerialTaken", "{answer}");
            answer.as_object_mut().context("an answer")?.remove("command");
            Ok(answer.to_string().replace(serial, "SERIAL"))
        };
        let (one, two) = (said("SN-900001").await?, said("SN-900002").await?);
        ensure!(one == two, "who has it shows: {one} {two}");
        for name in
            [owner, other].map(|of| &of.tenant).iter().flat_map(|of| [&of.customer, &of.user, &of.site])
        {
            ensure!(!one.contains(name.as_str()), "{one} names {name}");
        }
    }
    table.concede(format!("{} tenants were told that a serial number is taken, not whose it is", rest.len()));
    Ok(())
}

/// Two tenants of one partition.
fn sharing(members: &[Member]) -> Result<(&Member, &Member)> {
    let shares = |me: &Member, on: &Member| {
        me.tenant.partition == on.tenant.partition && me.tenant.customer != on.tenant.customer
    };
    let others = |me| members.iter().filter(move |on| shares(me, on)).map(move |on| (me, on));
    members.iter().flat_map(others).next().context("no two tenants share a partition")
}

/// Two positions tell how many commands the partition had between them, whosever they were, and nothing else.
pub async fn positions(members: &[Member], table: &mut Table) -> Result<()> {
    let (me, other) = sharing(members)?;
    let change = async |member: &Member| {
        let body = json!({ "settings": { "location": mint() } });
        let answer = ask(member, &format!("site.{}.change", member.tenant.site), &body, false).await?;
        let sequence = answer.pointer("/position/sequence").and_then(Value::as_u64);
        sequence.with_context(|| format!("no position: {answer}"))
    };
    let before = change(me).await?;
    for _ in 0..5 {
        change(other).await?;
    }
    let after = change(me).await?;
    ensure!(after - before == 6, "{before} and {after}");
    table.concede(
        "positions count the partition: 5 commands of somebody else showed between two of one's own"
            .to_owned(),
    );
    Ok(())
}

/// Whatever else a tenant can ask is answered in the same words, headers and all, whatever others did meanwhile; and a
/// durable command is answered without a number.
pub async fn nothing_else_moves(members: &[Member], table: &mut Table) -> Result<()> {
    let (me, other) = sharing(members)?;
    let Tenant { customer, user, site, command, .. } = &me.tenant;
    let own = mint();
    let ask_all = async || {
        let mut answers = Vec::new();
        for (subject, dry, body) in [
            (format!("wan.history.{customer}.{user}"), false, json!({})),
            (format!("wan.history.{customer}.{user}"), false, json!({ "newest": true })),
            (format!("wan.history.{customer}.{user}"), false, json!({ "after": u64::MAX })),
            (format!("wan.outcome.{customer}.{user}"), false, json!({ "command": command })),
            (format!("wan.outcome.{customer}.{user}"), false, json!({ "command": other.tenant.command })),
            ("wan.explain".to_owned(), false, json!({})),
            (format!("wan.do.{customer}.{user}.site.{site}.retry"), true, json!({})),
            (format!("wan.do.{customer}.{user}.site.{site}.suspend"), true, json!({ "reason": "a test" })),
            (format!("wan.cmd.{customer}.{user}.site.{site}.retry"), true, json!({})),
        ] {
            let mut head = HeaderMap::new();
            if dry {
                head.insert("Wan-Dry-Run", "true");
                head.insert("Wan-Command-Id", own.as_str());
            }
            let asked = me.nats.client.request_with_headers(subject.clone(), head, body.to_string().into());
            let answer = asked.await.with_context(|| subject.clone())?;
            let body = String::from_utf8_lossy(&answer.payload).into_owned();
            let headers = answer.headers.unwrap_or_default();
            let headers = headers.iter().map(|(name, values)| (name.to_string(), format!("{values:?}")));
            let headers: BTreeMap<_, _> = headers.collect();
            answers.push(format!("{subject} {:?} {headers:?} {body}", answer.status));
        }
        Ok::<_, anyhow::Error>(answers)
    };
    let before = ask_all().await?;
    for _ in 0..5 {
        let body = json!({ "settings": { "location": mint() } });
        let changed = ask(other, &format!("site.{}.change", other.tenant.site), &body, false).await?;
        ensure!(changed["status"] == "accepted", "{changed}");
    }
    let after = ask_all().await?;
    for (before, after) in before.iter().zip(&after) {
        ensure!(before == after, "{before}\n{after}");
        table.note("one's own, asked again after others did something", 0, u64::from(before != after));
    }
    let mut head = HeaderMap::new();
    head.insert("Wan-Command-Id", own.as_str());
    let subject = format!("wan.cmd.{customer}.{user}.site.{site}.retry");
    let answer = me.nats.client.request_with_headers(subject, head, "{}".into()).await?;
    let stored: Value = serde_json::from_slice(&answer.payload)?;
    ensure!(stored == json!({ "status": "stored", "command": own }), "{stored}");
    let headers = answer.headers.unwrap_or_default();
    ensure!(headers.is_empty(), "{headers:?}");
    Ok(())
}
