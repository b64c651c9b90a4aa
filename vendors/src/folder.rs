//! The files of one vendor folder, read once: what is parsed is what is hashed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::error::LoadError;
use crate::section::Section;

/// Largest file a vendor folder may hold, in bytes.
const LARGEST_FILE: u64 = 1 << 20;

/// Terraform's record of which providers a template was written for.
pub(crate) const LOCK_FILE: &str = ".terraform.lock.hcl";

/// The files of one vendor folder by path relative to it, with `/` between the parts.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) dir: PathBuf,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
}

/// The template that is written for wanwright's own provider, where a vendor has another one too.
pub(crate) const OWN: &str = "terraform";
/// The template that is written for the provider of the vendor.
pub(crate) const OFFICIAL: &str = "terraform-official";

/// The sub-folders whose files count, beside further versions of the templates.
const PARTS: [&str; 4] = ["schemas", "api", OWN, OFFICIAL];

/// What `vendor.toml` says that changes nothing of what a template's resources do at the vendor. Whatever is not named here
/// counts, so that nothing new is forgotten. Hubs, accounts and secrets reach a stack by its order, which names them; the
/// others are about people, about how fast and by which way, and about what a wish may say.
const OF_NO_EFFECT: [&str; 13] = [
    "accounts",
    "breaker",
    "budget",
    "hubs",
    "limits",
    "models",
    "proxy",
    "proxy_login",
    "schemas",
    "secrets",
    "terraform",
    "title",
    "tls",
];

/// The number in the name of a folder with a further version of a template, as it is written there: `terraform@2` is
/// version `2` of `terraform`.
pub(crate) fn version_of<'a>(part: &'a str, template: &str) -> Option<&'a str> {
    part.strip_prefix(template)?.strip_prefix('@')
}

/// The names of the sub-folders of a vendor folder whose files count.
fn parts(dir: &Path) -> Result<Vec<String>, LoadError> {
    let mut names: Vec<String> = PARTS.map(str::to_owned).into();
    let is_version = |name: &str| [OWN, OFFICIAL].iter().any(|template| version_of(name, template).is_some());
    let versions = entries(dir)?.into_iter().map(|(name, _)| name).filter(|name| is_version(name));
    names.extend(versions);
    Ok(names)
}

impl Folder {
    /// Reads `vendor.toml` and the files directly in `schemas`, `api`, `terraform`, `terraform-official` and the further
    /// versions of these two, `terraform@2` and so on. Hidden files (but for the lock file of Terraform's providers),
    /// sub-folders and anything else in the folder (a README, recorded examples) mean nothing here and are not read.
    pub(crate) fn read(dir: &Path) -> Result<Self, LoadError> {
        let mut files = BTreeMap::new();
        files.insert("vendor.toml".to_owned(), read(&dir.join("vendor.toml"))?);
        for part in parts(dir)? {
            let folder = dir.join(&part);
            if !folder.is_dir() {
                continue;
            }
            for (name, path) in entries(&folder)? {
                if !path.is_dir() {
                    files.insert(format!("{part}/{name}"), read(&path)?);
                }
            }
        }
        Ok(Self { dir: dir.to_owned(), files })
    }

    /// The files directly in a sub-folder: name, full path and bytes.
    pub(crate) fn part<'a>(&'a self, part: &str) -> impl Iterator<Item = (&'a str, PathBuf, &'a [u8])> {
        let prefix = format!("{part}/");
        self.files.iter().filter_map(move |(path, bytes)| {
            let name = path.strip_prefix(&prefix)?;
            Some((name, self.dir.join(path), bytes.as_slice()))
        })
    }

    /// The sub-folders that have files.
    pub(crate) fn parts(&self) -> BTreeSet<&str> {
        self.files.keys().filter_map(|path| Some(path.split_once('/')?.0)).collect()
    }

    /// SHA-256 over the files whose path starts with `prefix`, in lowercase hexadecimal.
    pub(crate) fn digest(&self, prefix: &str) -> String {
        digest(self.under(prefix))
    }

    /// SHA-256 over the files of a template and what else decides what its resources do at the vendor, in lowercase
    /// hexadecimal.
    pub(crate) fn effects(&self, part: &str) -> Result<String, LoadError> {
        let path = "vendor.toml";
        let file = self.files.get(path).map_or(&[][..], Vec::as_slice);
        let vendor = Section::parse(&self.dir.join(path), file)?.without(&OF_NO_EFFECT)?;
        let (part, files) = (format!("{part}/"), [(path, vendor.as_bytes())]);
        Ok(digest(self.under("api/").chain(self.under(&part)).chain(files)))
    }

    fn under<'a>(&'a self, prefix: &str) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        let files = self.files.iter().filter(move |(path, _)| path.starts_with(prefix));
        files.map(|(path, bytes)| (path.as_str(), bytes.as_slice()))
    }
}

/// SHA-256 over paths and contents, in lowercase hexadecimal.
fn digest<'a>(files: impl Iterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut hash = Sha256::new();
    for (path, bytes) in files {
        // Lengths in front keep one file's end from being read as the next one's beginning.
        for part in [path.as_bytes(), bytes] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    }
    let mut text = String::with_capacity(64);
    for byte in hash.finalize() {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Names and paths of the entries of a folder that are not hidden, and Terraform's lock file, sorted by name.
pub(crate) fn entries(dir: &Path) -> Result<Vec<(String, PathBuf)>, LoadError> {
    let failed = |source| LoadError::Read { path: dir.to_owned(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().into_string().map_err(|_| LoadError::Layout {
            path: entry.path(),
            message: "has a name that is not UTF-8: rename it".to_owned(),
        })?;
        if !name.starts_with('.') || name == LOCK_FILE {
            found.push((name, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    let failed = |source| LoadError::Read { path: path.to_owned(), source };
    // Its size is asked for first, because it may be anything; and what has none is not read on and on.
    let file = fs::File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let mut bytes = Vec::new();
    if length <= LARGEST_FILE {
        file.take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    }
    if length.max(bytes.len() as u64) > LARGEST_FILE {
        return Err(LoadError::Layout {
            path: path.to_owned(),
            message: format!("is larger than {LARGEST_FILE} bytes: a vendor's files are small"),
        });
    }
    Ok(bytes)
}

/// What tells one state of the vendor folders from another without reading them: path, length, times and number of each
/// file that counts, in the order of names. Paths are compared as bytes: it is made once a second.
pub(crate) type Fingerprint = Vec<(OsString, (u64, i64, i64, i64, i64, u64))>;

/// The fingerprint of every vendor folder in a directory.
pub(crate) fn fingerprint(dir: &Path) -> Result<Fingerprint, LoadError> {
    let mut found = Fingerprint::new();
    for (_, folder) in entries(dir)? {
        if !folder.is_dir() {
            continue;
        }
        note(&folder.join("vendor.toml"), &mut found);
        for part in parts(&folder)? {
            let part = folder.join(part);
            if part.is_dir() {
                entries(&part)?.iter().for_each(|(_, path)| note(path, &mut found));
            }
        }
    }
    Ok(found)
}

fn note(path: &Path, found: &mut Fingerprint) {
    use std::os::unix::fs::MetadataExt as _;
    if let Ok(file) = fs::metadata(path) {
        let times = (file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec());
        let facts = (file.len(), times.0, times.1, times.2, times.3, file.ino());
        found.push((path.as_os_str().to_owned(), facts));
    }
}
