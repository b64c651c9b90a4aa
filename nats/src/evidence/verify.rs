//! Verifying an export, without any server.

use std::io;
use std::path::Path;

use serde::Serialize;
use wanwright_schemas::Digest;

use super::auditor::{Audited, Auditor};
use super::export::{self, ExportedStream, HEADS, KEY, MANIFEST, Manifest, lines};
use super::finding::Finding;
use super::folder::{Folder, FolderError};
use super::head::SignedHead;
use super::key::{KeyError, PublicKey};

/// What an audit came to.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether everything is as it was.
    pub sound: bool,
    /// The id of the key that heads were compared with.
    pub key: String,
    /// The streams.
    pub streams: Vec<Audited>,
    /// What is wrong with the whole.
    pub findings: Vec<Finding>,
}

impl Report {
    /// The report on these streams.
    pub fn new(key: &PublicKey, streams: Vec<Audited>, findings: Vec<Finding>) -> Self {
        let sound = findings.is_empty() && streams.iter().all(|stream| stream.findings.is_empty());
        Self { sound, key: key.id(), streams, findings }
    }
}

/// Why an export cannot be verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A file cannot be read.
    #[error("reading {0}")]
    File(String, #[source] io::Error),
    /// There is no key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Heads cannot be read.
    #[error(transparent)]
    Folder(#[from] FolderError),
}

/// Verifies the export in a folder with a key: the one given, or else the one that is in the export. Heads that were
/// kept elsewhere count as well.
///
/// # Errors
/// [`VerifyError`], when a file that must be there cannot be read.
pub fn verify(dir: &Path, key: Option<PublicKey>, kept: Option<&Folder>) -> Result<Report, VerifyError> {
    let mut findings = Vec::new();
    let wrong = |file: &str, why: &str| Finding::File { file: file.to_owned(), why: why.to_owned() };
    let exported = std::fs::read_to_string(dir.join(KEY));
    let own = PublicKey::read(&dir.join(KEY));
    let key = match (key, own) {
        (Some(key), _) => key,
        (None, own) => own?,
    };
    let manifest = match Manifest::read(dir) {
        Ok(Some(manifest)) => manifest,
        Ok(None) => {
            findings.push(wrong(MANIFEST, "it is not the one that was written"));
            return Ok(Report::new(&key, Vec::new(), findings));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            findings
                .push(wrong(MANIFEST, "it is missing: the export was not finished, or it was taken away"));
            return Ok(Report::new(&key, Vec::new(), findings));
        }
        Err(error) => return Err(VerifyError::File(dir.join(MANIFEST).display().to_string(), error)),
    };
    if exported.ok() != Some(format!("{}\n", manifest.key)) {
        findings.push(wrong(KEY, "it is not the one that was written"));
    }
    if manifest.key != key.to_string() {
        findings.push(wrong(KEY, "the export was signed with another key than the one that was given"));
    }
    let mut streams = Vec::new();
    for stream in &manifest.streams {
        streams.push(one(dir, &manifest, stream, &key, kept)?);
    }
    Ok(Report::new(&key, streams, findings))
}

fn one(
    dir: &Path,
    manifest: &Manifest,
    exported: &ExportedStream,
    key: &PublicKey,
    kept: Option<&Folder>,
) -> Result<Audited, VerifyError> {
    let stream = exported.stream.as_str();
    let (file, head_file) = (format!("{stream}.jsonl"), format!("{HEADS}/{stream}.jsonl"));
    let failed = |file: &str| {
        let file = dir.join(file).display().to_string();
        move |error| VerifyError::File(file, error)
    };
    let wrong = |file: &str, why: String| Finding::File { file: file.to_owned(), why };
    let mut heads: Vec<SignedHead> = Vec::new();
    let mut found = Vec::new();
    let digest = lines(&dir.join(&head_file), |line| match serde_json::from_slice(line) {
        Ok(head) => heads.push(head),
        Err(_) => found.push(wrong(&head_file, "a line is no signed head".to_owned())),
    });
    let digest = there(digest.map(|(digest, _)| digest)).map_err(failed(&head_file))?;
    found.extend(written(&head_file, digest, exported.head_lines));
    if exported.after > 0 && !heads.iter().any(|head| head.sequence == exported.after) {
        found.push(wrong(
            &head_file,
            format!("the head at {}, where the export begins, is missing", exported.after),
        ));
    }
    if let Some(kept) = kept {
        let last = exported.last;
        // What was signed after the export was made is not about it.
        let elsewhere = kept.heads(stream)?.into_iter();
        let about = elsewhere.filter(|head| {
            head.sequence >= exported.after && (head.sequence <= last || head.time <= manifest.time)
        });
        heads.extend(about);
    }
    heads.sort_by(|a, b| (a.sequence, &a.signature).cmp(&(b.sequence, &b.signature)));
    heads.dedup();
    let mut auditor = Auditor::new(stream, manifest.partitions, heads, key, exported.after);
    for finding in found {
        auditor.find(finding);
    }
    let digest = there(export::audit(dir, stream, &mut auditor)).map_err(failed(&file))?;
    if let Some(finding) = written(&file, digest, exported.lines) {
        auditor.find(finding);
    }
    Ok(auditor.end(exported.last))
}

/// The digest over a file's lines; none when there is no such file.
fn there(digest: io::Result<Digest>) -> io::Result<Option<Digest>> {
    match digest {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        digest => digest.map(Some),
    }
}

/// What is wrong with a file as a whole, if anything is.
fn written(file: &str, found: Option<Digest>, exported: Digest) -> Option<Finding> {
    let why = match found {
        None => "it is missing",
        Some(found) if found != exported => "it is not the one that was written",
        Some(_) => return None,
    };
    Some(Finding::File { file: file.to_owned(), why: why.to_owned() })
}
