//! The spool: what Terraform wrote, on our disk before Terraform is told so.
//!
//! A state that is answered and then lost means resources that nobody knows of. So a write is answered when it is on
//! disk here; Postgres gets it right after, or when it is back. Nothing in here is ever deleted that Postgres does not
//! have: what cannot be used is set aside under another name, for a person.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::fs;
use tokio::io::AsyncWriteExt;
use wanwright_nats::{Fence, KeyError, StateKeys, StatePlace};

use super::store::{Mark, StoreError, Version};

/// What a version is sealed for that waits here.
const SPOOLED: &str = "spooled";

/// How the name of a version's file ends that waits.
const WAITING: &str = ".json";

/// The same while it is written.
const UNFINISHED: &str = ".tmp";

/// The spool of one executor: a file per stack with the newest write that Postgres does not have yet. It does not
/// exclude anybody; whoever uses it takes one stack at a time.
#[derive(Debug, Clone)]
pub(super) struct Spool {
    dir: PathBuf,
    keys: StateKeys,
}

/// What a file holds: which version it is, and the rest sealed.
#[derive(Serialize, Deserialize)]
struct File {
    serial: i64,
    lineage: String,
    order: String,
    key: String,
    #[serde(with = "base64_text")]
    sealed: Vec<u8>,
}

/// What is sealed in it: the state, the versions it may follow, and the lease under which it was made; none in what older
/// executors wrote.
#[derive(Serialize, Deserialize)]
struct Spooled {
    after: Vec<Option<Mark>>,
    #[serde(default)]
    fence: Option<Fence>,
    state: String,
}

mod base64_text {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// The version of a stack that a file's bytes hold.
pub(super) fn read(keys: &StateKeys, stack: &str, bytes: &[u8]) -> Result<Version, StoreError> {
    let unreadable = |error: serde_json::Error| StoreError::NoState(error.to_string());
    let File { serial, lineage, order, key, sealed } = serde_json::from_slice(bytes).map_err(unreadable)?;
    let place = StatePlace { what: SPOOLED, stack, serial, lineage: &lineage, order: &order };
    let opened = keys.open(&place, &key, &sealed)?;
    let Spooled { after, fence, state } = serde_json::from_slice(&opened).map_err(unreadable)?;
    Ok(Version::read(stack, &order, state.into_bytes(), after)?.under(fence))
}

fn failed(doing: &'static str) -> impl FnOnce(io::Error) -> StoreError {
    StoreError::spool(doing)
}

impl Spool {
    /// Its folder in that of its executor.
    pub(super) const FOLDER: &str = "spool";

    /// Opens the spool in this folder, to which nobody writes yet. What a process that died did not write to its end is
    /// removed: Terraform was not told that it is kept.
    pub(super) async fn open(dir: &Path, keys: StateKeys) -> io::Result<Self> {
        fs::create_dir_all(dir).await?;
        let spool = Self { dir: dir.to_owned(), keys };
        for name in spool.names().await?.iter().filter(|name| name.ends_with(UNFINISHED)) {
            fs::remove_file(dir.join(name)).await?;
        }
        Ok(spool)
    }

    /// The spool of another executor, which is dead, with the same keys.
    pub(super) async fn beside(&self, dir: &Path) -> io::Result<Self> {
        Self::open(dir, self.keys.clone()).await
    }

    /// The name of a stack's file.
    pub(super) fn file(stack: &str) -> String {
        format!("{stack}{WAITING}")
    }

    /// Whether a spool in this folder has something for whoever takes it over: a version that waits, or one that was not
    /// written to its end.
    pub(super) fn is_left(dir: &Path) -> bool {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let is_left = |name: &str| name.ends_with(WAITING) || name.ends_with(UNFINISHED);
        entries.into_iter().any(|entry| entry.file_name().to_str().is_some_and(is_left))
    }

    fn path(&self, stack: &str) -> PathBuf {
        self.dir.join(Self::file(stack))
    }

    /// Puts a version on disk, for good.
    pub(super) async fn put(&self, version: &Version) -> Result<(), StoreError> {
        self.write(version, &self.path(&version.stack)).await.map_err(failed("spooling a state"))
    }

    async fn write(&self, version: &Version, path: &Path) -> io::Result<()> {
        let bytes = self.sealed(version)?;
        let temporary = self.dir.join(format!("{}{UNFINISHED}", version.stack));
        let mut file = fs::File::create(&temporary).await?;
        file.write_all(&bytes).await?;
        // The write is still on its way; `sync_all` would wait for it and keep its failure to itself.
        file.flush().await?;
        file.sync_all().await?;
        drop(file);
        fs::rename(&temporary, path).await?;
        self.sync().await
    }

    fn sealed(&self, version: &Version) -> io::Result<Vec<u8>> {
        let Version { stack, order, serial, lineage, .. } = version;
        let state = String::from_utf8(version.body.clone()).map_err(io::Error::other)?;
        let spooled =
            serde_json::to_vec(&Spooled { after: version.after.clone(), fence: version.fence, state })?;
        let place = StatePlace { what: SPOOLED, stack, serial: *serial, lineage, order };
        let (key, sealed) = self.keys.seal(&place, &spooled).map_err(io::Error::other)?;
        let (lineage, order) = (lineage.clone(), order.clone());
        Ok(serde_json::to_vec(&File { serial: *serial, lineage, order, key, sealed })?)
    }

    /// A name is on disk only when the folder is.
    async fn sync(&self) -> io::Result<()> {
        fs::File::open(&self.dir).await?.sync_all().await
    }

    /// The version that waits for Postgres, if one does. A file that is none is set aside: it must not block its stack
    /// for ever.
    pub(super) async fn get(&self, stack: &str) -> Result<Option<Version>, StoreError> {
        let bytes = match fs::read(self.path(stack)).await {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("reading a spooled state")(error)),
        };
        let version = read(&self.keys, stack, &bytes);
        match version {
            Ok(version) => Ok(Some(version)),
            // The key may be put back.
            Err(error @ StoreError::Key(KeyError::UnknownStateKey { .. } | KeyError::File { .. })) => {
                Err(error)
            }
            Err(error) => {
                let aside = self.free(&format!("{stack}.bad")).await;
                tracing::error!(stack, %error, aside = %aside.display(), "a spooled state cannot be read; it is set aside");
                fs::rename(self.path(stack), aside).await.map_err(failed("setting a spooled state aside"))?;
                Ok(None)
            }
        }
    }

    /// Forgets what waits of a stack: Postgres has it, or something newer.
    pub(super) async fn forget(&self, stack: &str) -> Result<(), StoreError> {
        match fs::remove_file(self.path(stack)).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("clearing a spooled state")(error))
            }
            _ => Ok(()),
        }
    }

    /// Keeps a version that does not fit what Postgres has, beside the spool, for a person to look at.
    pub(super) async fn set_aside(&self, version: &Version) -> Result<PathBuf, StoreError> {
        let aside = self.free(&format!("{}.{}.conflict", version.stack, version.serial)).await;
        self.write(version, &aside).await.map_err(failed("setting a state aside"))?;
        Ok(aside)
    }

    /// A name that is not taken.
    async fn free(&self, name: &str) -> PathBuf {
        let path = self.dir.join(name);
        if !fs::try_exists(&path).await.unwrap_or(true) {
            return path;
        }
        self.dir.join(format!("{name}.{}", uuid::Uuid::new_v4().simple()))
    }

    /// The stacks with a version that waits.
    pub(super) async fn waiting(&self) -> io::Result<Vec<String>> {
        let names = self.names().await?;
        Ok(names.iter().filter_map(|name| Some(name.strip_suffix(WAITING)?.to_owned())).collect())
    }

    /// The names of all files.
    async fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        let mut entries = fs::read_dir(&self.dir).await?;
        while let Some(entry) = entries.next_entry().await? {
            names.extend(entry.file_name().to_str().map(str::to_owned));
        }
        Ok(names)
    }
}
