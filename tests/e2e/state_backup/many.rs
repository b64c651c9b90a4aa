//! Backups of many stacks: one that is killed is made whole by the next one, wherever it was, and what they take.

use std::fmt::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, copy};
use tokio::net::{TcpListener, TcpStream};
use wanwright_nats::keys::state_key_file;
use wanwright_nats::{StateKeys, StatePlace};
use wanwright_tests::{Random, Rows, Running, Timing, level};

use super::{LOST, backup, lose, restore, versions};
use crate::support::{own, program};

/// How many rows are written at once.
const AT_ONCE: usize = 500;

/// How large a state is, in bytes.
const SIZE: usize = 8 * 1024;

/// How much of what Postgres says is not in the file: what is around the rows, and a row that has not come to its end.
const AROUND: u64 = 256 * 1024;

/// A state as Terraform writes it.
fn state(serial: i64, random: &mut Random) -> Vec<u8> {
    let mut text = String::with_capacity(SIZE);
    while text.len() < SIZE {
        // A `String` takes everything.
        let _ = write!(text, "{:016x}", random.below(u64::MAX));
    }
    json!({ "version": 4, "serial": serial, "lineage": "l", "outputs": { "id": { "value": text } } })
        .to_string()
        .into_bytes()
}

/// Writes states of these stacks as executors do, sealed with the key of the installation, and locks them once.
async fn fill(running: &Running, rows: &Rows, stacks: std::ops::Range<usize>, serials: i64) -> Result<()> {
    let key = state_key_file(running.home.path());
    level::until("there is a state key", level::LONG, async || Ok(key.exists())).await?;
    let (keys, mut random) = (StateKeys::new(key), Random::new(stacks.start as u64));
    let all: Vec<(String, i64)> = stacks
        .flat_map(|stack| {
            (1..=serials).map(move |serial| (format!("{stack:08x}-0000-7000-8000-000000000000"), serial))
        })
        .collect();
    for some in all.chunks(AT_ONCE) {
        let (mut sealed_with, mut bodies) = (Vec::new(), Vec::new());
        for (stack, serial) in some {
            let place = StatePlace { what: "kept", stack, serial: *serial, lineage: "l", order: "order" };
            let (key, body) = keys.seal(&place, &state(*serial, &mut random))?;
            sealed_with.push(key);
            bodies.push(body);
        }
        let (stacks, serials): (Vec<String>, Vec<i64>) = some.iter().cloned().unzip();
        let sql = "INSERT INTO terraform.states (stack, serial, lineage, wan_order, sealed_with, body) \
                   SELECT stack, serial, 'l', 'order', sealed_with, body \
                   FROM unnest($1::text[], $2::bigint[], $3::text[], $4::bytea[]) AS new (stack, serial, sealed_with, body)";
        let insert = sqlx::query(sql).bind(stacks).bind(serials).bind(sealed_with).bind(bodies);
        insert.execute(&rows.pool).await?;
    }
    let sql = "INSERT INTO terraform.fences SELECT DISTINCT stack, now(), 1 FROM terraform.states ON CONFLICT DO NOTHING";
    sqlx::query(sql).execute(&rows.pool).await?;
    Ok(())
}

/// A moment in the life of a backup.
struct Moment {
    /// The table that somebody else has locked.
    locked: Option<&'static str>,
    /// How many bytes Postgres says before it says nothing more.
    said: u64,
    /// The file that tells that the moment has come, when it has this length.
    file: &'static str,
    length: u64,
}

/// A way to Postgres on which it says so many bytes and then nothing more. Its URL.
async fn way(postgres: &str, said: u64) -> Result<String> {
    let (before, after) = postgres.rsplit_once('@').context("a login")?;
    let (address, database) = after.split_once('/').context("a database")?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("{before}@{}/{database}", listener.local_addr()?);
    let address = address.to_owned();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let address = address.clone();
            tokio::spawn(async move {
                let mut server = TcpStream::connect(address).await?;
                let ((mut asks, mut hears), (answers, mut asked)) = (client.split(), server.split());
                let answer = async {
                    copy(&mut answers.take(said), &mut hears).await?;
                    std::future::pending().await
                };
                tokio::select! {
                    ended = copy(&mut asks, &mut asked) => ended,
                    failed = answer => failed,
                }
            });
        }
    });
    Ok(url)
}

/// Begins a backup and kills it at a moment, which it cannot get beyond.
async fn kill_at(running: &Running, rows: &Rows, dir: &Path, moment: &Moment) -> Result<()> {
    let mut locked = rows.pool.begin().await?;
    if let Some(table) = moment.locked {
        sqlx::query(&format!("LOCK TABLE {table}")).execute(&mut *locked).await?;
    }
    let (url, named) = (way(&running.endpoints.postgres, moment.said).await?, dir.to_string_lossy());
    let args = ["state", "--postgres", &url, "backup", &named];
    let child = program().spec(&running.home, &args).log(running.home.join("killed.log")).spawn()?;
    let file = dir.join(moment.file);
    level::until("the backup is so far", level::LONG, async || {
        ensure!(child.try_wait().is_none(), "it has ended: {}", running.home.read("killed.log"));
        Ok(file.metadata().is_ok_and(|file| file.len() >= moment.length))
    })
    .await?;
    let ended = child.kill().await;
    ensure!(ended.signal() == Some(9), "{ended}");
    locked.rollback().await?;
    Ok(())
}

/// The files of a backup that are the same whenever it is made.
fn data(dir: &Path) -> Result<[Vec<u8>; 2]> {
    Ok([std::fs::read(dir.join("states.copy"))?, std::fs::read(dir.join("fences.copy"))?])
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_backup_left_is_made_whole_by_the_next_one() -> Result<()> {
    let timing = Timing::of("kill -9 of a backup");
    let running = own().await?;
    let rows = running.rows().await?;
    fill(&running, &rows, 0..1000, 3).await?;
    let whole = running.home.join("whole");
    backup(&running, &whole).await?;
    let wanted = data(&whole)?;
    let all = wanted[0].len() as u64;
    ensure!(all > 8 * AROUND, "{all} bytes are too few to stop in between");
    let locked = |table, file| Moment { locked: Some(table), said: u64::MAX, file, length: 0 };
    let stopped =
        |said| Moment { locked: None, said, file: "states.copy.tmp", length: said.saturating_sub(AROUND) };
    let moments = [
        locked("terraform.states", "manifest.json.tmp"),
        stopped(AROUND),
        stopped(all / 2),
        stopped(all - AROUND),
        locked("terraform.fences", "fences.copy.tmp"),
    ];
    for (number, moment) in moments.iter().enumerate() {
        let dir = running.home.join(&format!("killed-{number}"));
        let named = dir.to_string_lossy();
        // The one that makes it anew is killed, too.
        for _ in 0..2 {
            kill_at(&running, &rows, &dir, moment).await?;
            let said = running.call(&["state", "restore", "--from", &named]).await?.code(3)?;
            ensure!(said.out.starts_with("refused  BackupMissing: "), "{}", said.out);
        }
        let left = moment.file.trim_end_matches(".tmp");
        let length = dir.join(moment.file).metadata()?.len();
        timing.say(format_args!("killed when {left} had {length} bytes"));
        backup(&running, &dir).await?;
        ensure!(data(&dir)? == wanted, "{named}: it is not the same as one that nobody killed");
        let mut names: Vec<_> = std::fs::read_dir(&dir)?.flatten().map(|file| file.file_name()).collect();
        names.sort();
        ensure!(names == ["fences.copy", "manifest.json", "states.copy"], "{names:?}");
    }
    let before = versions(&rows).await?;
    for number in 0..moments.len() {
        lose(&running, &rows, LOST[number % LOST.len()]).await?;
        let stacks = restore(&running, &running.home.join(&format!("killed-{number}"))).await?;
        ensure!(stacks.len() == 1000 && stacks.iter().all(|stack| stack["added"] == 3), "{number}");
        ensure!(versions(&rows).await? == before, "{number}: it is not what it was");
    }
    let stack = "000003e7-0000-7000-8000-000000000000";
    let pulled = running.call(&["state", "pull", stack]).await?.code(0)?;
    ensure!(pulled.out.len() > SIZE && pulled.out.contains(r#""serial":3"#), "{}", pulled.out.len());
    Ok(())
}

/// Calls the program and says what that took.
async fn measured(running: &Running, timing: &Timing, what: &str, args: &[&str]) -> Result<u64> {
    let log = running.home.join("measured.log");
    let child = program().spec(&running.home, args).log(&log).spawn()?;
    let (began, mut peak) = (Instant::now(), 0);
    let status = loop {
        peak = peak.max(child.peak_kib().unwrap_or_default());
        if let Some(status) = child.try_wait() {
            break status;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    ensure!(status.success(), "{what}: {status}");
    let (seconds, cpu) = (
        began.elapsed().as_secs_f64(),
        child.usage().map(|usage| usage.cpu.as_secs_f64()).unwrap_or_default(),
    );
    timing.say(format_args!("{what}: {seconds:.1} s, {cpu:.1} s of it on a processor, {} MiB", peak / 1024));
    Ok(peak)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes; prints figures"]
async fn what_backups_of_many_stacks_take() -> Result<()> {
    let timing = Timing::of("backups of many stacks");
    let running = own().await?;
    let rows = running.rows().await?;
    let (mut there, mut peaks) = (0, Vec::new());
    for stacks in [1_000, 10_000] {
        fill(&running, &rows, there..stacks, 5).await?;
        there = stacks;
        let dir = running.home.join(&format!("backup-{stacks}"));
        let named = dir.to_string_lossy();
        let mut peak =
            measured(&running, &timing, &format!("backup of {stacks}"), &["state", "backup", &named]).await?;
        let bytes: usize = data(&dir)?.iter().map(Vec::len).sum();
        timing.say(format_args!("{} MB on the disk", bytes / 1_000_000));
        let args = ["state", "restore", "--from", &named, "-o", "json"];
        for what in ["all there", "all lost"] {
            if what == "all lost" {
                lose(&running, &rows, LOST[1]).await?;
            }
            let what = format!("restore of {stacks}, {what}");
            peak = peak.max(measured(&running, &timing, &what, &args).await?);
        }
        let versions = rows.number("SELECT count(*) FROM terraform.states").await?;
        ensure!(versions == 5 * i64::try_from(stacks)?, "{versions}");
        peaks.push(peak);
    }
    ensure!(2 * peaks[1] < 3 * peaks[0], "ten times as many stacks take more memory: {peaks:?} KiB");
    Ok(())
}
