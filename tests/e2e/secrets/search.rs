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

/// A secret in every writing in which it is looked for.
pub struct Canary {
    name: &'static str,
    writings: Vec<String>,
}

impl Canary {
    pub fn new(name: &'static str, secret: &str) -> Self {
        let quoted = serde_json::Value::from(secret).to_string();
        let quoted = quoted[1..quoted.len() - 1].to_owned();
        let percent = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        };
        let hex = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        let url: String = secret.bytes().map(percent).collect();
        let mut writings =
            vec![secret.to_owned(), quoted.replace('/', "\\/"), quoted, url.to_lowercase(), url, hex];
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
    pub bytes: usize,
}

impl Found {
    fn look(&mut self, canaries: &[Canary], place: &str, text: &[u8]) {
        self.bytes += text.len();
        let hits = canaries.iter().filter(|canary| canary.is_in(text));
        self.hits.extend(hits.map(|canary| format!("{} in {place}", canary.name)));
    }

    fn files(&mut self, canaries: &[Canary], dir: &Path, left_out: &[&Path]) {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_symlink() || left_out.contains(&path.as_path()) {
                continue;
            }
            if path.is_dir() {
                self.files(canaries, &path, left_out);
            } else if let Ok(text) = std::fs::read(&path) {
                self.files += 1;
                self.look(canaries, &path.display().to_string(), &text);
            }
        }
    }

    async fn streams(&mut self, canaries: &[Canary], nats: &Nats) -> Result<()> {
        use futures::TryStreamExt;
        let names: Vec<String> = nats.js.stream_names().try_collect().await?;
        for name in names {
            for message in load_subject(nats, &name, ">", 0).await? {
                self.messages += 1;
                let head = format!("{:?}", message.headers);
                let place = format!("stream {name}, {} ({})", message.sequence, message.subject);
                self.look(canaries, &place, head.as_bytes());
                self.look(canaries, &place, &message.payload);
            }
        }
        Ok(())
    }

    async fn tables(&mut self, canaries: &[Canary], rows: &Rows) -> Result<()> {
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
                    self.look(canaries, &format!("table {table}"), value.as_bytes());
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
    let mut found = Found::default();
    found.streams(canaries, &nats).await?;
    found.tables(canaries, &rows).await?;
    // Also what is still in memory only.
    sqlx::query("CHECKPOINT").execute(&rows.pool).await?;
    let simulator = running.home.join("simulator");
    found.files(canaries, running.home.path(), &[&simulator]);
    if let Some(dir) = rows.texts("SHOW data_directory").await?.pop() {
        found.files(canaries, Path::new(&dir), &[]);
    }
    Ok(found)
}
