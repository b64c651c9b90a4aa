//! The user a program runs as.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// A user of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: String,
    /// User number.
    pub uid: u32,
    /// Number of the primary group.
    pub gid: u32,
}

impl User {
    /// Looks a name up in `/etc/passwd`.
    pub fn named(name: &str) -> Result<Option<Self>> {
        let path = Path::new("/etc/passwd");
        let passwd = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        Ok(passwd.lines().find_map(|line| Self::parse(line, name)))
    }

    fn parse(line: &str, name: &str) -> Option<Self> {
        let mut fields = line.split(':');
        if fields.next() != Some(name) {
            return None;
        }
        let mut number = || fields.next().and_then(|field| field.parse().ok());
        let _password: Option<u32> = number();
        Some(Self { name: name.to_owned(), uid: number()?, gid: number()? })
    }

    /// The user to run Postgres as: nobody else for an ordinary user, `postgres` or else `nobody` for root.
    pub(crate) fn for_postgres() -> Result<Option<Self>> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        for name in ["postgres", "nobody"] {
            if let Some(user) = Self::named(name)? {
                return Ok(Some(user));
            }
        }
        Err(Error::Unusable(
            "Postgres refuses to run as root, and this machine has neither a user postgres nor nobody; \
             add one (useradd --system postgres) or run wanwright as an ordinary user"
                .to_owned(),
        ))
    }

    /// May this user enter the folder? Mode bits only; supplementary groups and access lists count as "no".
    fn may_search(&self, folder: &Metadata) -> bool {
        let bit = if folder.uid() == self.uid {
            0o100
        } else if folder.gid() == self.gid {
            0o010
        } else {
            0o001
        };
        folder.mode() & bit != 0
    }

    /// The first folder on the way to `path`, itself included, that this user may not enter. `path` has to be absolute and
    /// free of links; parts that do not exist are passed over.
    pub(crate) fn barred_from(&self, path: &Path) -> Option<PathBuf> {
        let mut folders: Vec<&Path> = path.ancestors().collect();
        folders.reverse();
        let barred = folders.into_iter().find(|folder| match std::fs::metadata(folder) {
            Ok(meta) => meta.is_dir() && !self.may_search(&meta),
            Err(_) => false,
        });
        barred.map(Path::to_owned)
    }
}
