//! `wanwright nats account` and `wanwright nats user`, as a person uses them.

use anyhow::{Context, Result, ensure};
use wanwright_tests::{Running, Signal, level};

use crate::support;

const SITE: &str = r#"{"vendor":"simwan","lan":["10.1.0.0/24"]}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_is_let_in_speaks_for_itself_and_is_cut_off() -> Result<()> {
    let running = support::shared().await?;
    let call = async |args: &[&str]| running.call(args).await;
    let creds = running.home.join("anna.creds").display().to_string();
    let add = ["nats", "user", "add", "lodge/anna", "--kind", "tenant", "--expires", "1d", "--out", &creds];
    let refused = call(&add).await?.code(1)?;
    ensure!(refused.err.contains("wanwright nats account add lodge"), "{}", refused.err);
    call(&["nats", "account", "add", "lodge"]).await?.code(0)?;
    let added = call(&add).await?.code(0)?;
    ensure!(added.out.trim() == creds && added.err.contains("_INBOX.anna"), "{} {}", added.out, added.err);

    // The login names the actor, and speaks for its customer only.
    let url = running.endpoints.nats.clone();
    let at = ["--nats", url.as_str(), "--creds", creds.as_str()];
    let send = async |words: &[&str]| call(&[&["send"], &at[..], words].concat()).await;
    let sent = send(&["site", "create", "lodge/oslo", SITE]).await?.code(0)?;
    ensure!(sent.out.starts_with("accepted  site/lodge/oslo"), "{}", sent.out);
    let stored = send(&["site", "create", "lodge/rome", SITE, "--async"]).await?.code(0)?;
    ensure!(stored.out.starts_with("stored in the inbox"), "{}", stored.out);
    let other = send(&["site", "create", "globex/oslo", SITE]).await?.code(2)?;
    ensure!(other.err.contains("has no right to publish on wan.do.globex.anna"), "{}", other.err);
    let forged = send(&["--actor", "bob", "site", "create", "lodge/x", SITE]).await?.code(2)?;
    ensure!(forged.err.contains("speaks as `anna`"), "{}", forged.err);

    let listed = call(&["nats", "user", "list", "lodge"]).await?.code(0)?;
    ensure!(listed.out.contains("anna") && listed.out.contains("valid until"), "{}", listed.out);
    let listed = call(&["nats", "account", "list"]).await?.code(0)?;
    ensure!(["OPERATORS", "WAN", "lodge"].iter().all(|name| listed.out.contains(name)), "{}", listed.out);
    let shown = call(&["nats", "account", "show", "lodge"]).await?.code(0)?;
    ensure!(shown.out.contains("wan.do.lodge.>") && !shown.out.contains("wan.do.>"), "{}", shown.out);
    let looked = call(&["doctor"]).await?;
    ensure!(looked.out.contains("accounts of customers"), "{}", looked.out);

    call(&["nats", "user", "revoke", "lodge/anna"]).await?.code(0)?;
    let out = send(&["site", "create", "lodge/bonn", SITE]).await?.code(5)?;
    ensure!(out.err.to_lowercase().contains("authorization violation"), "{}", out.err);
    call(&["nats", "account", "revoke", "lodge"]).await?.code(0)?;
    let gone = call(&["nats", "account", "show", "lodge"]).await?.code(1)?;
    ensure!(gone.err.contains("there is no account lodge"), "{}", gone.err);

    // Whoever started the system is the operator `demo`, and forges nobody either.
    call(&["send", "site", "create", "lodge/bonn", r#"{"vendor":"simwan","lan":["10.3.0.0/24"]}"#])
        .await?
        .code(0)?;
    let forged = call(&["send", "--actor", "anna", "site", "retry", "lodge/bonn"]).await?.code(2)?;
    ensure!(forged.err.contains("speaks as `demo`"), "{}", forged.err);
    for wrong in [
        ["nats", "user", "add", "x/executor", "--kind", "tenant"],
        ["nats", "user", "add", "X", "--kind", "reader"],
    ] {
        ensure!(call(&wrong).await?.code != 0, "{wrong:?} was taken");
    }
    Ok(())
}

/// An account with a tenant, and how the tenant calls the program.
async fn tenant(running: &Running, customer: &str, user: &str) -> Result<[String; 4]> {
    let creds = running.home.join(&format!("{user}.creds")).display().to_string();
    running.call(&["nats", "account", "add", customer]).await?.code(0)?;
    let name = format!("{customer}/{user}");
    let add = ["nats", "user", "add", name.as_str(), "--kind", "tenant", "--out", creds.as_str()];
    running.call(&add).await?.code(0)?;
    Ok(["--nats".to_owned(), running.endpoints.nats.clone(), "--creds".to_owned(), creds])
}

/// What a person does, as somebody.
async fn call(running: &Running, words: &[&str], login: &[String; 4]) -> Result<wanwright_tests::Said> {
    let login = login.iter().map(String::as_str);
    running.call(&words.iter().copied().chain(login).collect::<Vec<_>>()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_replays_and_watches_what_is_its_own() -> Result<()> {
    let running = support::shared().await?;
    let carla = tenant(running, "inn", "carla").await?;
    let rest = call(running, &["replay", "inn"], &carla).await?.code(0)?;
    ensure!(rest.out.is_empty() && rest.err.contains("customer inn has no history"), "{rest:?}");
    call(running, &["send", "site", "create", "inn/oslo", SITE], &carla).await?.code(0)?;

    // The envelopes are those of the stream, byte for byte, for the customer and for an operator, who reads no stream either.
    let operator = running.call(&["url", "creds"]).await?.code(0)?.out.trim().to_owned();
    let operator = ["--nats".to_owned(), running.endpoints.nats.clone(), "--creds".to_owned(), operator];
    level::until("the customer reads what is stored", level::LONG, async || {
        let stored = running.call(&["replay", "inn", "--raw"]).await?.code(0)?.out;
        for login in [&carla, &operator] {
            if call(running, &["replay", "inn", "--raw"], login).await?.code(0)?.out != stored {
                return Ok(false);
            }
        }
        Ok(stored.contains("SiteCreated") && stored.contains(r#""actor":"carla""#))
    })
    .await?;
    // Nothing is told any more that one of two calls would not have.
    running.rows().await?.healthy("inn", 1, level::LONG).await?;
    let read = call(running, &["replay", "inn"], &carla).await?.code(0)?.out;
    let first = read.split_whitespace().next().context("nothing was read")?;
    let rest = call(running, &["replay", "inn", "--after", first], &carla).await?.code(0)?.out;
    ensure!(!rest.contains("SiteCreated") && read.ends_with(&rest), "{read}\n{rest}");
    let many = call(running, &["watch"], &operator).await?.code(2)?;
    ensure!(many.err.contains("name the customer"), "{}", many.err);

    let log = running.home.join("tmp/watch.log");
    let words = [&["watch", "inn"][..], &carla.each_ref().map(String::as_str)].concat();
    let mut watch = running.program.spec(&running.home, &words).log(&log).piped().spawn()?;
    let is_there = async || Ok(std::fs::read_to_string(&log)?.contains("watching decisions"));
    level::until("it watches", level::LONG, is_there).await?;
    call(running, &["send", "site", "suspend", "inn/oslo", r#"{"reason":"seen"}"#], &carla).await?.code(0)?;
    let mut lines = watch.lines()?;
    let seen = tokio::time::timeout(level::LONG, async {
        while let Some(line) = lines.next().await? {
            ensure!(!line.contains("SiteCreated"), "what is old was told: {line}");
            if line.contains("SiteSuspended") {
                return Ok(line);
            }
        }
        anyhow::bail!("it ended")
    });
    let line = seen.await??;
    ensure!(line.contains("inn") && line.contains("by carla"), "{line}");
    watch.signal(Signal::INT);
    ensure!(watch.wait().await.code() == Some(130));
    Ok(())
}
