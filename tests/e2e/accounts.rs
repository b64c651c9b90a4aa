//! `wanwright nats account` and `wanwright nats user`, as a person uses them.

use anyhow::{Result, ensure};

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
