//! The evidence from the command line: exported from a running system, verified where there is none.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use wanwright_nats::evidence::SigningKey;
use wanwright_schemas::subjects::{PARTITIONS, events_stream, partition};
use wanwright_tests::{Home, Processes, Program, Running, Said, Signal, Timing, level};

use crate::support::{copy, own, program};

/// Verifies an export as on another machine: no home, no servers.
async fn verify(program: &Program, home: &Home, dir: &Path, args: &[&str]) -> Result<Said> {
    let dir = dir.display().to_string();
    let elsewhere = program.clone().with("WANWRIGHT_HOME", &home.join("tmp/nowhere").display().to_string());
    elsewhere.call(home, &[&["audit", "verify", &dir], args].concat()).await
}

/// Waits until everything there is has been signed.
async fn signed(running: &Running) -> Result<()> {
    level::until("everything is signed", level::LONG, async || {
        let said = running.call(&["audit", "verify", "--live", "-o", "json"]).await?.code(0)?;
        let report: Value = serde_json::from_str(&said.out)?;
        let streams = report["streams"].as_array().cloned().unwrap_or_default();
        ensure!(streams.len() == usize::from(PARTITIONS), "{report}");
        Ok(streams.iter().all(|stream| stream["vouched"] == stream["last"]))
    })
    .await?;
    Ok(())
}

/// Stops a system and waits until nobody is left.
async fn stop(running: Running) -> Result<()> {
    let (home, family) = (running.home.clone(), running.family());
    let child = running.into_child();
    child.signal(Signal::TERM);
    child.wait().await;
    Processes::gone(&family, home.path(), level::LONG).await?;
    Ok(())
}

/// A way to tamper with the file of a stream, and what the verification has to say about it.
struct Tampering {
    name: &'static str,
    change: fn(Vec<String>) -> String,
    named: Vec<String>,
}

fn tamperings(stream: &str, last: usize) -> Vec<Tampering> {
    let not_written = format!("{stream}: {stream}.jsonl: it is not the one that was written");
    let of = |name, change: fn(Vec<String>) -> String, named: &[String]| Tampering {
        name,
        change,
        named: named.iter().cloned().chain([not_written.clone()]).collect(),
    };
    vec![
        of(
            "a byte is another one",
            |mut lines| {
                // The first digit of a digest.
                let at = lines[1].find("sha256:").map_or(0, |at| at + "sha256:".len());
                let other = if lines[1][at..].starts_with('0') { "1" } else { "0" };
                lines[1].replace_range(at..=at, other);
                lines.join("\n") + "\n"
            },
            &[
                format!("{stream}: message 2 was changed: message 3"),
                " are not what was signed on ".to_owned(),
            ],
        ),
        of(
            "the end is gone",
            |mut lines| {
                lines.pop();
                lines.join("\n") + "\n"
            },
            &[
                format!("{stream}: messages {last} to {last} are missing"),
                format!("{stream}: it ends at {}, and {last} messages were signed", last - 1),
            ],
        ),
        of(
            "the end is cut off",
            |lines| {
                let text = lines.join("\n");
                text[..text.len() - 20].to_owned()
            },
            &[format!("{stream}.jsonl: line {last} is no message")],
        ),
        of(
            "a message is gone",
            |mut lines| {
                lines.remove(1);
                lines.join("\n") + "\n"
            },
            &[format!("{stream}: messages 2 to 2 are missing")],
        ),
        of(
            "two messages have changed places",
            |mut lines| {
                lines.swap(1, 2);
                lines.join("\n") + "\n"
            },
            &[format!("{stream}: message 2 stands behind message 3")],
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_verified_elsewhere_and_what_was_tampered_with_is_named() -> Result<()> {
    let timing = Timing::of("audit export and verify");
    let (running, program) = (own().await?, program());
    let home = running.home.clone();
    let rows = running.rows().await?;
    for name in ["acme", "globex"] {
        let objects = running.customer(name).await?.site("oslo", 1, 1, 1).await?;
        rows.healthy(name, objects, level::LONG).await?;
    }
    rows.pool.close().await;
    signed(&running).await?;
    let [whole, acme] = ["export", "export-acme"].map(|name| home.join(name));
    let text = |path: &Path| path.display().to_string();
    let said = running.call(&["audit", "export", &text(&whole)]).await?.code(0)?;
    ensure!(said.out.contains(" messages in "), "{}", said.out);
    timing.say(format_args!("export {:.1?}", said.took));
    running.call(&["audit", "export", &text(&acme), "-c", "acme"]).await?.code(0)?;
    let again = running.call(&["audit", "export", &text(&whole)]).await?.code(2)?;
    ensure!(again.err.contains("holds a finished export"), "{}", again.err);
    ensure!(home.violations().is_empty(), "its login may not: {:?}", home.violations());
    stop(running).await?;
    running_is_away(&program, &home).await?;

    let (key, heads) = (text(&home.join("keys/audit.pub")), text(&home.join("audit")));
    for dir in [&whole, &acme] {
        verify(&program, &home, dir, &[]).await?.code(0)?;
        let said = verify(&program, &home, dir, &["--key", &key, "--heads", &heads]).await?.code(0)?;
        ensure!(said.out.trim_end().ends_with(": sound"), "{}", said.out);
    }
    let stream = events_stream(partition(&"acme".parse()?, PARTITIONS));
    let others = events_stream(partition(&"globex".parse()?, PARTITIONS));
    let sealed = std::fs::read_to_string(acme.join(format!("{others}.jsonl")))?;
    ensure!(!sealed.is_empty() && !sealed.contains("globex"), "{sealed}");
    tampered(&program, &home, &whole, &stream).await?;

    let other = home.join("tmp/other.pub");
    std::fs::write(&other, format!("{}\n", SigningKey::from_seed([7; 32]).context("no key")?.public()))?;
    let said = verify(&program, &home, &whole, &["--key", &text(&other)]).await?.code(1)?;
    ensure!(said.out.contains("signed with another key"), "{}", said.out);
    let said = verify(&program, &home, &home.join("tmp/nothing"), &[]).await?.code(2)?;
    ensure!(said.err.contains("there is no folder"), "{}", said.err);
    ensure!(home.panics().is_empty(), "{:?}", home.panics());
    Ok(())
}

/// What reads the streams themselves says that it cannot.
async fn running_is_away(program: &Program, home: &Home) -> Result<()> {
    for args in [&["audit", "verify", "--live"][..], &["audit", "export", "elsewhere"]] {
        let said = program.call(home, args).await?.code(5)?;
        ensure!(said.err.contains("wanwright up"), "{}", said.err);
    }
    Ok(())
}

/// Tampers with the file of a stream in every way, and once with each file by taking it away.
async fn tampered(program: &Program, home: &Home, whole: &Path, stream: &str) -> Result<()> {
    let file = format!("{stream}.jsonl");
    let text = std::fs::read_to_string(whole.join(&file))?;
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let fresh = |name: &str| -> Result<PathBuf> {
        let dir = home.join(&format!("tmp/{}", name.replace(' ', "-")));
        copy(whole, &dir)?;
        Ok(dir)
    };
    for Tampering { name, change, named } in tamperings(stream, lines.len()) {
        let dir = fresh(name)?;
        let changed = change(lines.clone());
        ensure!(changed != text, "{name}: nothing was changed");
        std::fs::write(dir.join(&file), changed)?;
        let said = verify(program, home, &dir, &[]).await?.code(1)?;
        for wanted in named {
            ensure!(said.out.contains(&wanted), "{name}: nothing of `{wanted}`: {}", said.out);
        }
        let said = verify(program, home, &dir, &["-o", "json"]).await?.code(1)?;
        let report: Value = serde_json::from_str(&said.out)?;
        ensure!(report["sound"] == false, "{name}: {report}");
    }
    for file in [file.clone(), format!("heads/{file}"), "manifest.json".to_owned()] {
        let dir = fresh(&format!("without {}", file.replace('/', "-")))?;
        std::fs::remove_file(dir.join(&file))?;
        let said = verify(program, home, &dir, &[]).await?.code(1)?;
        ensure!(said.out.contains(&format!("{file}: it is missing")), "{file}: {}", said.out);
    }
    Ok(())
}
