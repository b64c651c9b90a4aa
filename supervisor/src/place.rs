//! Folders that another user can reach.

use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::{Error, Result, User};

/// Where something is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The folder in use.
    pub dir: PathBuf,
    /// The folder that was asked for, when the user in question cannot reach it. Tell the operator.
    pub instead_of: Option<PathBuf>,
}

impl Place {
    /// `wanted`, made if need be; or, if `user` cannot reach it, a folder under `/var/lib` or `/var/tmp` that is always the
    /// same for the same `wanted`.
    pub(crate) fn reachable_by(user: Option<&User>, wanted: &Path) -> Result<Self> {
        let dir = make(wanted)?;
        let Some(barrier) = user.and_then(|user| user.barred_from(&dir)) else {
            return Ok(Self { dir, instead_of: None });
        };
        let mut refusals = vec![format!("{} is closed to it", barrier.display())];
        for base in [Path::new("/var/lib"), Path::new("/var/tmp")] {
            let other = base.join(format!("wanwright-{}", digest(&dir)));
            match make_private_to_us(&other) {
                Ok(()) if user.is_some_and(|user| user.barred_from(&other).is_none()) => {
                    return Ok(Self { dir: other, instead_of: Some(dir) });
                }
                Ok(()) => refusals.push(format!("{} is closed to it", other.display())),
                Err(error) => refusals.push(format!("{}: {error}", other.display())),
            }
        }
        let name = user.map_or("this user", |user| &user.name);
        Err(Error::Unusable(format!(
            "Postgres runs as {name}, which can reach no folder for {}: {}; name a folder that {name} can enter",
            dir.display(),
            refusals.join("; ")
        )))
    }
}

/// Makes the folder and its missing parents, open to search whatever the umask, and resolves links.
fn make(wanted: &Path) -> Result<PathBuf> {
    let missing: Vec<&Path> =
        wanted.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists()).collect();
    std::fs::create_dir_all(wanted).map_err(Error::io("make the folder", wanted))?;
    for path in missing {
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(path, open).map_err(Error::io("set the mode of", path))?;
    }
    wanted.canonicalize().map_err(Error::io("resolve", wanted))
}

/// Makes a folder where anyone may have made one before us, and refuses one that others can change.
fn make_private_to_us(path: &Path) -> io::Result<()> {
    match std::fs::DirBuilder::new().mode(0o755).create(path) {
        Ok(()) => std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let meta = std::fs::symlink_metadata(path)?;
    if !meta.is_dir() || meta.uid() != rustix::process::geteuid().as_raw() || meta.mode() & 0o022 != 0 {
        return Err(io::Error::other("exists and others can change it"));
    }
    Ok(())
}

fn digest(path: &Path) -> String {
    let hash = Sha256::digest(path.as_os_str().as_encoded_bytes());
    hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_barrier_is_found_at_any_depth() {
        let base = std::env::temp_dir().join(format!("wanwright-place-{}", std::process::id()));
        let deep = make(&base.join("open/closed/deep")).unwrap();
        let closed = deep.parent().unwrap();
        std::fs::set_permissions(closed, std::fs::Permissions::from_mode(0o710)).unwrap();
        let ours = std::fs::metadata(closed).unwrap();
        let user = |uid, gid| User { name: "u".into(), uid, gid };
        assert_eq!(user(ours.uid(), 1).barred_from(&deep), None);
        assert_eq!(user(12_345, ours.gid()).barred_from(&deep), None);
        assert_eq!(user(12_345, 12_345).barred_from(&deep).as_deref(), Some(closed));
        std::fs::remove_dir_all(&base).unwrap();
    }
}
