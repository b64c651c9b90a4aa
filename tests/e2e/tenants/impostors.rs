//! Tenants who come under another's name, and tenants who share an id by accident or not.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_nats::HeaderMap;
use futures::TryStreamExt;
use futures::stream::StreamExt;
use serde_json::Value;
use wanwright_tests::mint;

use super::Member;
use super::table::Table;
use super::world::{Tenant, World};

/// The other's signed claims with one's own key, and one's own claims with the other's name in them.
pub async fn impostors(world: &World, members: &[Member], table: &mut Table) -> Result<()> {
    let text = |tenant: &Tenant| std::fs::read_to_string(world.keys.creds(&tenant.customer, &tenant.user));
    let files: Vec<String> = members.iter().map(|member| text(&member.tenant)).collect::<Result<_, _>>()?;
    let forged = world.home().join("forged");
    std::fs::create_dir_all(&forged)?;
    let pairs = (0..members.len()).flat_map(|me| (0..members.len()).map(move |on| (me, on)));
    let try_one = async |(me, on): (usize, usize)| {
        let (claims, _) = files[on].split_once("-----BEGIN USER NKEY SEED-----").context("claims")?;
        let (_, seed) = files[me].split_once("-----BEGIN USER NKEY SEED-----").context("a seed")?;
        let path = forged.join(format!("{me}-{on}.creds"));
        std::fs::write(&path, format!("{claims}-----BEGIN USER NKEY SEED-----{seed}"))?;
        Ok::<_, anyhow::Error>((me == on, world.connect(path).await.is_ok()))
    };
    let tried: Vec<(bool, bool)> =
        futures::stream::iter(pairs.map(try_one)).buffer_unordered(32).try_collect().await?;
    for (own, connected) in tried {
        ensure!(!own || connected, "one's own credentials do not connect");
        if !own {
            table.note("the other's claims with one's own key", u64::from(connected), 0);
        }
    }
    Ok(())
}

/// The same id from two tenants through the one inbox, as command id and as message id: both are decided.
pub async fn shared_ids(members: &[Member], table: &mut Table) -> Result<()> {
    for (me, member) in members.iter().enumerate() {
        let submit = async |on: &Member, id: &str, header: &str| {
            let Tenant { customer, user, site, .. } = &on.tenant;
            let mut head = HeaderMap::new();
            head.insert(header, id);
            let subject = format!("wan.cmd.{customer}.{user}.site.{site}.retry");
            let answer = on.nats.client.request_with_headers(subject, head, "{}".into()).await?;
            let answer: Value = serde_json::from_slice(&answer.payload)?;
            ensure!(answer["status"] == "stored", "{answer}");
            Ok::<_, anyhow::Error>(answer["command"].as_str().context("an id")?.to_owned())
        };
        let header = if me % 2 == 0 { "Nats-Msg-Id" } else { "Wan-Command-Id" };
        let others = members.iter().filter(|on| on.tenant.customer != member.tenant.customer);
        let tried = others.map(async |on| {
            let id = mint();
            let (mine, theirs) = (submit(member, &id, header).await?, submit(on, &id, header).await?);
            Ok::<_, anyhow::Error>(outcome(member, &mine).await? && outcome(on, &theirs).await?)
        });
        let tried: Vec<bool> = futures::stream::iter(tried).buffer_unordered(49).try_collect().await?;
        tried.into_iter().for_each(|fine| table.note("the same id through the inbox", u64::from(!fine), 0));
    }
    Ok(())
}

/// What the stream behind the inbox would be asked, if these headers reached it: how much others wrote, and whose.
fn oracle(on: &Tenant) -> HeaderMap {
    let mut head = HeaderMap::new();
    let (stream, history) = (on.stream(), on.history());
    for (name, value) in [
        ("Nats-Expected-Stream", stream.as_str()),
        ("Nats-Expected-Last-Sequence", "1"),
        ("Nats-Expected-Last-Msg-Id", on.command.as_str()),
        ("Nats-Expected-Last-Subject-Sequence", "0"),
        ("Nats-Expected-Last-Subject-Sequence-Subject", history.as_str()),
        ("Nats-Rollup", "all"),
        ("Nats-TTL", "1s"),
        ("Nats-Incr", "+1"),
        ("Nats-Batch-Id", on.command.as_str()),
        ("Nats-Batch-Sequence", "1"),
        ("Nats-Batch-Commit", "1"),
        ("Nats-Schedule", "@at 2099-01-01T00:00:00Z"),
        ("Nats-Schedule-Target", history.as_str()),
        ("Nats-Schedule-TTL", "1s"),
        ("Nats-Marker-Reason", "Purge"),
        ("Nats-Request-Info", r#"{"acc":"WAN"}"#),
    ] {
        head.insert(name, value);
    }
    head
}

/// Headers that mean something to a stream, on durable commands of one's own: the answer is the same whomever they name,
/// somebody or nobody, and each command is decided all the same.
pub async fn oracles(members: &[Member], nobody: &Tenant, table: &mut Table) -> Result<()> {
    let ask = async |member: &Member, on: &Tenant| {
        let Tenant { customer, user, site, .. } = &member.tenant;
        let (id, mut head) = (mint(), oracle(on));
        head.insert("Wan-Command-Id", id.as_str());
        let subject = format!("wan.cmd.{customer}.{user}.site.{site}.retry");
        let answer = member.nats.client.request_with_headers(subject, head, "{}".into()).await?;
        let said = String::from_utf8_lossy(&answer.payload).replace(&id, "ID");
        Ok::<_, anyhow::Error>((said, outcome(member, &id).await?))
    };
    for member in members {
        let (nobodys, decided) = ask(member, nobody).await?;
        ensure!(decided && nobodys.contains("stored"), "{nobodys}");
        let others = members.iter().filter(|on| on.tenant.customer != member.tenant.customer);
        let asked = others.map(async |on| ask(member, &on.tenant).await);
        let told: Vec<(String, bool)> =
            futures::stream::iter(asked).buffer_unordered(49).try_collect().await?;
        for (said, decided) in told {
            table.note(
                "expectations of streams through the inbox",
                u64::from(!decided),
                u64::from(said != nobodys),
            );
        }
    }
    Ok(())
}

/// Whether a command gets an outcome.
async fn outcome(member: &Member, id: &str) -> Result<bool> {
    let Tenant { customer, user, .. } = &member.tenant;
    let asked = serde_json::json!({ "command": id }).to_string();
    for _ in 0..400 {
        let answer = member
            .nats
            .client
            .request(format!("wan.outcome.{customer}.{user}"), asked.clone().into())
            .await?;
        let answer: Value = serde_json::from_slice(&answer.payload)?;
        if answer["command"] == id {
            return Ok(true);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(false)
}
