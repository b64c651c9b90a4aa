//! Looking for secrets wherever the running system keeps anything.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use wanwright_nats::{Nats, load_subject};
use wanwright_tests::{Rows, Running};

use super::clear::{Opened, gunzipped};
use super::memory::{Finder, Held};

/// The shortest half of a secret that is looked for: a shorter one may be there by chance.
const HALF: usize = 8;

/// A secret in every writing in which it is looked for.
pub struct Canary {
    name: &'static str,
    writings: Vec<String>,
}

impl Canary {
    pub fn new(name: &'static str, secret: &str) -> Self {
        let percent = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        };
        let hex = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        let url: String = secret.bytes().map(percent).collect();
        let reversed = secret.chars().rev().collect();
        let mut writings = vec![secret.to_owned(), url.to_lowercase(), url, hex, reversed];
        writings.extend(super::writing::writings(secret));
        // What is split in two is found by its halves, wherever they are.
        let half = secret.char_indices().nth(secret.chars().count() / 2).map_or(0, |(at, _)| at);
        let halves = [&secret[..half], &secret[half..]];
        writings.extend(halves.into_iter().filter(|half| half.len() >= HALF).map(str::to_owned));
        for before in 0..3 {
            // What it shares with its neighbours is left out.
            let encoded = STANDARD_NO_PAD.encode([&vec![0; before][..], secret.as_bytes()].concat());
            let (first, last) = ((before * 8).div_ceil(6), (before + secret.len()) * 8 / 6);
            writings.push(encoded[first..last].to_owned());
        }
        Self { name, writings }
    }

    /// Which secret it is.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// It, in every writing.
    pub fn writings(&self) -> &[String] {
        &self.writings
    }

    pub fn is_in(&self, text: &[u8]) -> bool {
        let text = String::from_utf8_lossy(text);
        self.writings.iter().any(|writing| text.contains(writing))
    }
}

/// What was found, and how much was looked through.
#[derive(Default)]
pub struct Found {
    pub hits: Vec<String>,
    pub files: usize,
    pub messages: usize,
    pub rows: usize,
    pub opened: usize,
    pub bytes: usize,
}

impl Found {
    fn look(&mut self, finder: &Finder<'_>, place: &str, text: &[u8]) {
        for text in std::iter::once(text).chain(gunzipped(text).iter().map(Vec::as_slice)) {
            self.bytes += text.len();
            let mut held = Held::default();
            finder.look(text, &mut held);
            self.hits.extend(held.hits.into_iter().map(|name| format!("{name} in {place}")));
        }
    }

    /// Looks through what was opened.
    pub fn opened(&mut self, canaries: &[Canary], opened: &[Opened]) {
        let finder = Finder::of(canaries);
        for Opened { place, text } in opened {
            self.opened += 1;
            self.look(&finder, place, text);
        }
    }

    fn files(&mut self, finder: &Finder<'_>, dir: &Path, left_out: &[&Path]) {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_symlink() || left_out.contains(&path.as_path()) {
                continue;
            }
            if path.is_dir() {
                self.files(finder, &path, left_out);
            } else if let Ok(text) = std::fs::read(&path) {
                self.files += 1;
                self.look(finder, &path.display().to_string(), &text);
            }
        }
    }

    async fn streams(&mut self, finder: &Finder<'_>, nats: &Nats) -> Result<()> {
        use futures::TryStreamExt;
        let names: Vec<String> = nats.js.stream_names().try_collect().await?;
        for name in names {
            for message in load_subject(nats, &name, ">", 0).await? {
                self.messages += 1;
                let head = format!("{:?}", message.headers);
                let place = format!("stream {name}, {} ({})", message.sequence, message.subject);
                self.look(finder, &place, head.as_bytes());
                self.look(finder, &place, &message.payload);
            }
        }
        Ok(())
    }

    async fn tables(&mut self, finder: &Finder<'_>, rows: &Rows) -> Result<()> {
        let tables = "SELECT format('%I.%I', table_schema, table_name) FROM information_schema.tables \
                      WHERE table_schema NOT IN ('pg_catalog', 'information_schema')";
        for table in rows.texts(tables).await? {
            // Column by column, as the text of a whole row has quotes and backslashes twice.
            let columns = format!(
                "SELECT format('%I', attname) FROM pg_attribute \
                 WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped"
            );
            for column in rows.texts(&columns).await? {
                let values = format!("SELECT {column}::text FROM {table} WHERE {column} IS NOT NULL");
                for value in rows.texts(&values).await.context(table.clone())? {
                    self.look(finder, &format!("table {table}"), value.as_bytes());
                }
            }
            self.rows += usize::try_from(rows.number(&format!("SELECT count(*) FROM {table}")).await?)?;
        }
        Ok(())
    }
}

/// Looks at what every process of this machine was started with and has in its environment, again and again until it is
/// asked: what Terraform and its providers get is there for moments only.
pub struct Onlooker {
    stop: Arc<AtomicBool>,
    looking: JoinHandle<(BTreeSet<String>, usize)>,
}

impl Onlooker {
    pub fn start(canaries: Vec<Canary>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let looking = std::thread::spawn(move || {
            let (mut hits, mut seen) = (BTreeSet::new(), HashMap::new());
            while !stopped.load(Ordering::Relaxed) {
                for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
                    let known = seen.entry(entry.file_name()).or_default();
                    look_at_process(&entry.path(), known, &canaries, &mut hits);
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            (hits, seen.values().filter(|texts: &&Vec<_>| !texts.is_empty()).count())
        });
        Self { stop, looking }
    }

    /// What was found, and in how many processes it was looked for.
    pub fn end(self) -> Result<(BTreeSet<String>, usize)> {
        self.stop.store(true, Ordering::Relaxed);
        self.looking.join().map_err(|_| anyhow::anyhow!("the onlooker panicked"))
    }
}

/// Looks at a process, if that is not what it was when it was looked at before.
fn look_at_process(dir: &Path, known: &mut Vec<u8>, canaries: &[Canary], hits: &mut BTreeSet<String>) {
    let mut now = Vec::new();
    for part in ["cmdline", "environ"] {
        now.extend(std::fs::read(dir.join(part)).unwrap_or_default());
    }
    if now.is_empty() || now == *known {
        return;
    }
    for canary in canaries.iter().filter(|canary| canary.is_in(&now)) {
        let name = std::fs::read_to_string(dir.join("comm")).unwrap_or_default();
        hits.insert(format!("{} in process {}", canary.name, name.trim()));
    }
    *known = now;
}

/// Looks through all streams and buckets, all tables, and every file of the home and of Postgres: stores, logs, work
/// folders. The simulated vendor's own files are the vendor's.
pub async fn search(running: &Running, canaries: &[Canary]) -> Result<Found> {
    let (nats, rows) = (running.nats().await?, running.rows().await?);
    let (finder, mut found) = (Finder::of(canaries), Found::default());
    found.streams(&finder, &nats).await?;
    found.tables(&finder, &rows).await?;
    // Also what is still in memory only.
    sqlx::query("CHECKPOINT").execute(&rows.pool).await?;
    let simulator = running.home.join("simulator");
    found.files(&finder, running.home.path(), &[&simulator]);
    if let Some(dir) = rows.texts("SHOW data_directory").await?.pop() {
        found.files(&finder, Path::new(&dir), &[]);
    }
    Ok(found)
}
