//! The package of a foreign provider: from the mirror, by its hash, into a folder that nobody writes to any more.

use std::io;
use std::path::{Path, PathBuf};

use wanwright_provider::package::{Address, Packed, folder_hash, platform};
use wanwright_vendors::ForeignProvider;

use super::refused;
use crate::terraform::error::TerraformError;

/// A package that was taken over from the mirror.
#[derive(Debug, Clone)]
pub(in crate::terraform) struct Package {
    pub(in crate::terraform) settings: ForeignProvider,
    /// The folder with its files.
    pub(super) folder: PathBuf,
}

fn address(settings: &ForeignProvider) -> Result<Address, TerraformError> {
    settings
        .address
        .parse()
        .map_err(|error: wanwright_provider::package::AddressError| refused(error.to_string()))
}

impl Package {
    /// The package among those that were taken over to a folder.
    pub(in crate::terraform) fn among(
        settings: &ForeignProvider,
        taken: &Path,
    ) -> Result<Self, TerraformError> {
        Ok(Self { settings: settings.clone(), folder: folder(settings, taken)? })
    }

    /// Its program.
    pub(super) fn program(&self) -> Result<PathBuf, TerraformError> {
        let address = address(&self.settings)?;
        let exact = self.folder.join(address.program(&self.settings.version));
        if exact.is_file() {
            return Ok(exact);
        }
        // Some are packed under names with more behind the version.
        let prefix = format!("terraform-provider-{}", address.name());
        let found = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut found = found.filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix));
        let message = || format!("{} has no program {prefix}…", self.folder.display());
        found.next().map(|entry| entry.path()).ok_or_else(|| refused(message()))
    }

    /// Whether what is in the folder is what the lock file names. Asked before each start, because what is executed is
    /// what counts.
    pub(super) fn check(&self) -> Result<(), TerraformError> {
        is_named(&self.settings, &self.folder, &hash_of(&self.folder, folder_hash(&self.folder))?)
    }
}

fn hash_of(path: &Path, hash: io::Result<String>) -> Result<String, TerraformError> {
    hash.map_err(|source| TerraformError::Io { doing: format!("reading {}", path.display()), source })
}

fn is_named(settings: &ForeignProvider, path: &Path, hash: &str) -> Result<(), TerraformError> {
    if settings.hashes.iter().any(|named| named == hash) {
        return Ok(());
    }
    let ForeignProvider { address, version, .. } = settings;
    Err(refused(format!(
        "{} has the hash {hash}, which the template's .terraform.lock.hcl does not name for {address} {version}: \
         put the package of that version there, or have the lock file name what is there",
        path.display()
    )))
}

/// Takes a package over from the mirror, into `to`, which is a mirror of what was taken over. What the lock file does not
/// name is not taken over.
pub(in crate::terraform) fn take(
    mirror: &Path,
    settings: &ForeignProvider,
    to: &Path,
) -> Result<(), TerraformError> {
    let address = address(settings)?;
    let ForeignProvider { version, .. } = settings;
    let platform = platform();
    let Some(packed) = address.find(mirror, version, &platform) else {
        return Err(refused(format!(
            "{} has no {address} {version} for {platform}: fetch it with `terraform providers mirror`, or put {} into {}",
            mirror.display(),
            address.archive(version, &platform),
            mirror.join(address.folder()).display()
        )));
    };
    // Where the lock file has no hash of the archive, what is in it is compared.
    let archive_is_named = settings.hashes.iter().any(|hash| hash.starts_with("zh:"));
    if archive_is_named || matches!(packed, Packed::Folder(_)) {
        is_named(settings, packed.path(), &hash_of(packed.path(), packed.hash())?)?;
    }
    let folder = folder(settings, to)?;
    let path = packed.path();
    packed
        .extract(&folder)
        .map_err(|source| TerraformError::Io { doing: format!("taking over {}", path.display()), source })?;
    is_named(settings, path, &hash_of(&folder, folder_hash(&folder))?)
}

/// Where a package is in what was taken over.
fn folder(settings: &ForeignProvider, of: &Path) -> Result<PathBuf, TerraformError> {
    Ok(of.join(address(settings)?.folder()).join(&settings.version).join(platform()))
}
