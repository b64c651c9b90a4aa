//! Bad input, through a plain NATS client: each answer is a refusal that a person can act on.

use anyhow::{Context, Result, ensure};
use async_nats::HeaderMap;
use serde_json::{Value, json};
use wanwright_tests::{Answer, Customer, Running, Timing, mint, mint_at};

use crate::support::shared;

const SITE: &str = "site.oslo.create";

async fn customer(running: &Running, name: &str) -> Result<Customer> {
    running.customer(name).await
}

async fn raw(
    customer: &Customer,
    tail: &str,
    headers: &[(&str, &str)],
    body: impl Into<Vec<u8>>,
) -> Result<Answer> {
    let mut head = HeaderMap::new();
    headers.iter().for_each(|(name, value)| head.insert(*name, *value));
    customer.ask_raw(&format!("wan.do.{}.demo.{tail}", customer.name), head, body.into()).await
}

/// Everything still works, and nobody panicked.
async fn still_works(running: &Running, customer: &Customer) -> Result<()> {
    customer
        .send("site.after-all.create", &json!({ "vendor": "simwan", "lan": ["10.250.0.0/24"] }))
        .await?
        .accepted()?;
    running.rows().await?.healthy(&customer.name, 1, wanwright_tests::level::LONG).await?;
    running.rows().await?.all_running().await?;
    ensure!(running.home.panics().is_empty(), "{:?}", running.home.panics());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies() -> Result<()> {
    let _timing = Timing::of("bad bodies");
    let running = shared().await?;
    let customer = customer(running, "bad-bodies").await?;
    let deep = format!(
        "{{\"vendor\":\"simwan\",\"lan\":[],\"settings\":{}{}}}",
        "{\"a\":".repeat(5000),
        "}".repeat(5000)
    );
    let many: String = (0..100_000).map(|n| format!("\"k{n}\":0,")).collect();
    let cases: Vec<(&str, Vec<u8>, &str, Option<&str>)> = vec![
        (SITE, b"{\"vendor\":".to_vec(), "BrokenJson", None),
        (SITE, b"not json".to_vec(), "BrokenJson", None),
        (SITE, vec![0xff, 0xfe, 0x00], "BrokenJson", None),
        (SITE, vec![0; 64], "BrokenJson", None),
        (SITE, b"\xef\xbb\xbf{}".to_vec(), "BrokenJson", None),
        (SITE, b"{\"vendor\":\"simwan\",\"lan\":[]} trailing".to_vec(), "BrokenJson", None),
        (SITE, deep.into_bytes(), "BrokenJson", None),
        (
            SITE,
            b"{\"vendor\":\"simwan\",\"lan\":[],\"settings\":{\"location\":1e400}}".to_vec(),
            "BrokenJson",
            None,
        ),
        (
            SITE,
            b"{\"vendor\":\"simwan\",\"lan\":[],\"settings\":{\"location\":\"\\ud800\"}}".to_vec(),
            "BrokenJson",
            None,
        ),
        (
            SITE,
            b"{\"vendor\":\"simwan\",\"lan\":[],\"settings\":{\"location\":\"a\",\"location\":\"b\"}}"
                .to_vec(),
            "InvalidValue",
            Some("settings.location"),
        ),
        (
            SITE,
            b"{\"vendor\":\"simwan\",\"lan\":[],\"settings\":{\"n\":12345678901234567890123}}".to_vec(),
            "InvalidValue",
            None,
        ),
        (SITE, b"[\"simwan\",[\"10.0.0.0/24\"]]".to_vec(), "WrongType", None),
        (SITE, b"[]".to_vec(), "WrongType", None),
        (SITE, b"null".to_vec(), "", None),
        (SITE, b"7".to_vec(), "WrongType", None),
        (SITE, b"".to_vec(), "MissingField", Some("vendor")),
        (
            SITE,
            b"{\"vendor\":\"simwan\",\"lan\":[\"10.0.0.0/24\"],\"colour\":1}".to_vec(),
            "UnknownField",
            Some("colour"),
        ),
        (
            SITE,
            b"{\"vendor\":\"simwan\",\"lan\":[\"10.0.0.0/24\"],\"settings\":{\"colour\":1}}".to_vec(),
            "UnknownField",
            Some("settings.colour"),
        ),
        (SITE, b"{\"vendor\":7,\"lan\":[\"10.0.0.0/24\"]}".to_vec(), "WrongType", Some("vendor")),
        (SITE, b"{\"vendor\":\"simwan\",\"lan\":\"10.0.0.0/24\"}".to_vec(), "WrongType", Some("lan")),
        (SITE, b"{\"vendor\":\"simwan\",\"lan\":[\"10.0.0.0/33\"]}".to_vec(), "InvalidValue", Some("lan[0]")),
        (
            SITE,
            b"{\"vendor\":\"acme-inc\",\"lan\":[\"10.0.0.0/24\"]}".to_vec(),
            "UnknownVendor",
            Some("vendor"),
        ),
        (
            SITE,
            b"{\"vendor\":\"../../etc\",\"lan\":[\"10.0.0.0/24\"]}".to_vec(),
            "InvalidValue",
            Some("vendor"),
        ),
        (
            SITE,
            format!("{{\"vendor\":\"simwan\",\"lan\":[],\"settings\":{{{many}\"z\":0}}}}").into_bytes(),
            "",
            None,
        ),
        (SITE, vec![b' '; 2 * 1024 * 1024], "BodyTooLarge", None),
        (
            SITE,
            format!("{{\"vendor\":\"{}\"}}", "x".repeat(2 * 1024 * 1024)).into_bytes(),
            "BodyTooLarge",
            None,
        ),
        ("site.oslo.change", b"[1]".to_vec(), "WrongType", None),
        ("site.oslo.retry", b"{\"now\":true}".to_vec(), "UnknownField", Some("now")),
        ("site.oslo.decommission", b"{}".to_vec(), "NotFound", None),
    ];
    for (tail, body, code, field) in cases {
        let shown: String = String::from_utf8_lossy(&body).chars().take(80).collect();
        let answer =
            raw(&customer, tail, &[("Wan-Command-Id", &mint())], body).await.context(shown.clone())?;
        let code =
            if code.is_empty() { answer.code().unwrap_or_default().to_owned() } else { code.to_owned() };
        let answer = answer.refused(&code).context(shown.clone())?;
        if let Some(field) = field {
            ensure!(answer.get("/field") == Some(&json!(field)), "{shown}: {}", answer.0);
        }
        let length = answer.0.to_string().len();
        ensure!(length < 2000, "{shown}: an answer of {length} bytes");
    }
    ensure!(customer.history().await?.is_empty(), "something was written");
    still_works(running, &customer).await
}

#[tokio::test(flavor = "multi_thread")]
async fn subjects() -> Result<()> {
    let _timing = Timing::of("bad subjects");
    let running = shared().await?;
    let customer = customer(running, "bad-subjects").await?;
    let long = format!("wan.do.{}.demo.site.oslo.create", "a".repeat(64));
    let endless = format!("wan.do.bad-subjects.demo.site.{}.create", "a".repeat(3000));
    let cases = [
        ("wan.do.bad-subjects.demo.router.r1.create", "UnknownKind"),
        ("wan.do.bad-subjects.demo.site.oslo.explode", "UnknownVerb"),
        ("wan.do.bad-subjects.demo.tunnel.t1.report", "UnknownVerb"),
        ("wan.do.bad-subjects.demo.customer.bad-subjects.create", "UnknownVerb"),
        ("wan.do.bad-subjects.demo.customer.somebody-else.check-drift", "BadSubject"),
        ("wan.do.bad-subjects.demo.site.oslo", "BadSubject"),
        ("wan.do.bad-subjects.demo.site.oslo.create.now", "BadSubject"),
        ("wan.do.BAD.demo.site.oslo.create", "BadSubject"),
        ("wan.do.bad-subjects.demo.site.os_lo.create", "BadSubject"),
        ("wan.do.bad-subjects.demo.site.$$.create", "BadSubject"),
        ("wan.do.bad-subjects.demo.site.%2e%2e.create", "BadSubject"),
        ("wan.do.bad-subjects.demo.site.øslo.create", "BadSubject"),
        ("wan.do.bad-subjects.d;drop.site.oslo.create", "BadSubject"),
        ("wan.do.x", "BadSubject"),
        (&long, "BadSubject"),
        (&endless, "BadSubject"),
    ];
    for (subject, code) in cases {
        let answer =
            customer.ask_raw(subject, HeaderMap::new(), Vec::new()).await.context(subject.to_owned())?;
        answer.refused(code).context(subject.to_owned())?;
    }
    still_works(running, &customer).await
}

#[tokio::test(flavor = "multi_thread")]
async fn headers() -> Result<()> {
    let _timing = Timing::of("bad headers");
    let running = shared().await?;
    let customer = customer(running, "bad-headers").await?;
    let body = json!({ "vendor": "simwan", "lan": ["10.0.0.0/24"] }).to_string();
    let (old, future, ours) = (mint_at(-25 * 3600)?, mint_at(600)?, mint());
    let long = "x".repeat(201);
    let cases: Vec<(Vec<(&str, &str)>, &str)> = vec![
        (vec![("Wan-Command-Id", "nonsense")], "BadHeader"),
        (vec![("Wan-Command-Id", "")], "BadHeader"),
        (vec![("Wan-Command-Id", "a6a2dd08-5a0c-4e2b-9f0e-0d3c6a1b2c3d")], "BadHeader"),
        (vec![("Wan-Command-Id", &old)], "CommandTooOld"),
        (vec![("Wan-Command-Id", &future)], "CommandFromFuture"),
        (vec![("Wan-Command-Id", &ours), ("Wan-Expected-Generation", "soon")], "BadHeader"),
        (vec![("Wan-Command-Id", &ours), ("Wan-Expected-Generation", "-1")], "BadHeader"),
        (
            vec![("Wan-Command-Id", &ours), ("Wan-Expected-Generation", "99999999999999999999999")],
            "BadHeader",
        ),
        (vec![("Wan-Command-Id", &ours), ("Wan-Dry-Run", "perhaps")], "BadHeader"),
        (vec![("Wan-Command-Id", &ours), ("Wan-Causation-Id", &long)], "BadHeader"),
        (vec![("Wan-Command-Id", &ours), ("Wan-Correlation-Id", "a\u{1}b")], "BadHeader"),
    ];
    for (headers, code) in cases {
        let answer = raw(&customer, SITE, &headers, body.clone()).await.context(format!("{headers:?}"))?;
        answer.refused(code).context(format!("{headers:?}"))?;
    }
    ensure!(customer.history().await?.is_empty(), "something was written");
    // A header whose name is typed in another case is the same header.
    let id = mint();
    raw(&customer, SITE, &[("Wan-Dryrun", "true")], body.clone()).await?.refused("BadHeader")?;
    ensure!(customer.history().await?.is_empty(), "a dry run with a typing error was carried out");
    let first = raw(&customer, SITE, &[("wan-command-id", &id)], body.clone()).await?.accepted()?;
    let again = raw(&customer, SITE, &[("WAN-COMMAND-ID", &id)], body.clone()).await?;
    ensure!(again.repeated() && again.position() == first.position(), "{}", again.0);
    customer.send("site.oslo.decommission", &json!({})).await?.accepted()?;
    still_works_after(running, &customer).await
}

/// The site of the test above has to be gone before the counting.
async fn still_works_after(running: &Running, customer: &Customer) -> Result<()> {
    let rows = running.rows().await?;
    let sql = format!("SELECT count(*) FROM status WHERE customer = '{}'", customer.name);
    rows.reach("the site is gone", &sql, 0, wanwright_tests::level::LONG).await?;
    still_works(running, customer).await
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_do_not_report() -> Result<()> {
    let _timing = Timing::of("reports by strangers");
    let running = shared().await?;
    let customer = customer(running, "bad-reports").await?;
    let created =
        customer.send(SITE, &json!({ "vendor": "simwan", "lan": ["10.0.0.0/24"] })).await?.accepted()?;
    let uid = created.get("/command").cloned().unwrap_or(Value::Null);
    let finding = json!({ "kind": "site", "id": "oslo", "uid": uid, "result": "removed" });
    let report = json!({ "order": uuid_v8(), "findings": [finding] });
    customer.send("site.oslo.report", &report).await?.refused("NotAllowed")?;
    running.rows().await?.healthy(&customer.name, 1, wanwright_tests::level::LONG).await?;
    Ok(())
}

/// Some order's id.
fn uuid_v8() -> String {
    "01234567-89ab-8def-8123-456789abcdef".to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_that_postgres_cannot_hold_are_refused() -> Result<()> {
    let _timing = Timing::of("texts with NUL");
    let running = shared().await?;
    let customer = customer(running, "bad-texts").await?;
    let site =
        |text: &str| json!({ "vendor": "simwan", "lan": ["10.0.0.0/24"], "settings": { "location": text } });
    customer.send(SITE, &site("a\u{0}b")).await?.refused("InvalidValue")?;
    // What only looks like it is taken, and arrives as it was sent.
    for (n, text) in [
        "\\u0000",
        "a\\\\u0000",
        "\u{1}\u{7f}\u{202e}",
        "${file(\"/etc/passwd\")}",
        "%{for x in y}",
        "'; DROP TABLE sites; --",
        "\u{1f600}",
    ]
    .iter()
    .enumerate()
    {
        let body = json!({ "vendor": "simwan", "lan": [format!("10.{}.0.0/24", n + 1)], "settings": { "location": text } });
        customer.send(&format!("site.s{n}.create"), &body).await?.accepted()?;
    }
    running.rows().await?.healthy(&customer.name, 7, wanwright_tests::level::LONG).await?;
    let there = running.vendor()?.object("site", "bad-texts.s3").await?.context("no site")?;
    ensure!(there.get("location") == Some(&json!("${file(\"/etc/passwd\")}")), "{there:?}");
    still_works_more(running).await
}

async fn still_works_more(running: &Running) -> Result<()> {
    let customer = customer(running, "bad-texts-after").await?;
    still_works(running, &customer).await
}
