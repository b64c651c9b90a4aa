//! The package of a foreign provider: from the mirror, by its hash, into a folder that nobody writes to any more.

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use wanwright_provider::package::{Address, Packed, files, folder_hash, platform};
use wanwright_vendors::ForeignProvider;

use super::refused;
use crate::terraform::engine::TerraformError;

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
    /// A package in this folder.
    pub(in crate::terraform) fn at(settings: &ForeignProvider, folder: PathBuf) -> Self {
        Self { settings: settings.clone(), folder }
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

/// Looks at the package in the mirror, before Terraform installs it: that it is there, and has a hash that the lock file
/// names.
pub(in crate::terraform) fn look(mirror: &Path, settings: &ForeignProvider) -> Result<(), TerraformError> {
    let address = address(settings)?;
    let ForeignProvider { version, .. } = settings;
    let platform = platform();
    let Some(packed) = address.find(mirror, version, &platform) else {
        let at = mirror.join(address.folder());
        return Err(refused(format!(
            "{} has no {address} {version} for {platform}: fetch it with `terraform providers mirror`, or put {} into {}",
            mirror.display(),
            address.archive(version, &platform),
            at.display()
        )));
    };
    let archive_unnamed =
        matches!(packed, Packed::Archive(_)) && !settings.hashes.iter().any(|hash| hash.starts_with("zh:"));
    if archive_unnamed {
        // What is in it is compared once it is unpacked.
        return Ok(());
    }
    is_named(settings, packed.path(), &hash_of(packed.path(), packed.hash())?)
}

/// Takes over what Terraform has installed into the folder of its data.
pub(in crate::terraform) fn take(
    data: &Path,
    settings: &ForeignProvider,
    to: &Path,
) -> Result<(), TerraformError> {
    let from = data.join("providers").join(address(settings)?.folder());
    let from = from.join(&settings.version).join(platform());
    copied(&from, to)
        .map_err(|source| TerraformError::Io { doing: format!("taking over {}", from.display()), source })?;
    Package::at(settings, to.to_owned()).check()
}

/// Copies the files of a folder, for reading and executing by their owner only.
fn copied(from: &Path, to: &Path) -> io::Result<()> {
    let private = |path: &Path| std::fs::DirBuilder::new().mode(0o700).recursive(true).create(path);
    private(to)?;
    for name in files(from)? {
        let (from, to) = (from.join(&name), to.join(&name));
        if let Some(folder) = to.parent() {
            private(folder)?;
        }
        std::fs::copy(&from, &to)?;
        std::fs::set_permissions(&to, std::fs::Permissions::from_mode(0o500))?;
    }
    Ok(())
}
