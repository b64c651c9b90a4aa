//! Packages of Terraform providers: how they are called, where a mirror has them, and their hashes.

use std::fmt::{self, Write as _};
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::bounded::{self, LARGEST, MOST};

/// Where a provider comes from: `registry.terraform.io/cato/cato`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    host: String,
    namespace: String,
    name: String,
}

/// An address is written in full: host, namespace and name.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "`{0}` is no provider's address: write host, namespace and name, as in registry.terraform.io/cato/cato"
)]
pub struct AddressError(String);

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError(text.to_owned());
        let mut parts = text.split('/');
        let mut part = |more: &str| {
            let part = parts.next().filter(|part| !part.is_empty() && !part.starts_with(['-', '.']))?;
            let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || more.contains(c);
            part.chars().all(fits).then(|| part.to_owned())
        };
        let (host, namespace, name) = (part(".:"), part("_"), part("_"));
        let (Some(host), Some(namespace), Some(name), None) = (host, namespace, name, parts.next()) else {
            return Err(wrong());
        };
        Ok(Self { host, namespace, name })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.host, self.namespace, self.name)
    }
}

impl Address {
    /// The last part, by which its files are called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its folder below a mirror's.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        [&self.host, &self.namespace, &self.name].into_iter().collect()
    }

    /// How its archive for a platform is called.
    #[must_use]
    pub fn archive(&self, version: &str, platform: &str) -> String {
        format!("terraform-provider-{}_{version}_{platform}.zip", self.name)
    }

    /// How its program is called.
    #[must_use]
    pub fn program(&self, version: &str) -> String {
        format!("terraform-provider-{}_v{version}", self.name)
    }

    /// Its package in a mirror: a folder, or an archive beside the folders of its versions.
    #[must_use]
    pub fn find(&self, mirror: &Path, version: &str, platform: &str) -> Option<Packed> {
        let own = mirror.join(self.folder());
        let folder = own.join(version).join(platform);
        if folder.is_dir() {
            return Some(Packed::Folder(folder));
        }
        let archive = own.join(self.archive(version, platform));
        archive.is_file().then_some(Packed::Archive(archive))
    }
}

/// A package as a mirror has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packed {
    /// Unpacked, in a folder.
    Folder(PathBuf),
    /// As the archive that a registry gives out.
    Archive(PathBuf),
}

impl Packed {
    /// The folder or the archive.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Folder(path) | Self::Archive(path) => path,
        }
    }

    /// The hash that it has, as a lock file writes it: `h1:` for a folder, `zh:` for an archive.
    ///
    /// # Errors
    /// What cannot be read, or is larger than 2 GiB.
    pub fn hash(&self) -> io::Result<String> {
        match self {
            Self::Folder(path) => folder_hash(path),
            Self::Archive(path) => Ok(format!("zh:{}", sha256(path)?)),
        }
    }

    /// Writes its files into a new folder, for reading and executing by their owner only.
    ///
    /// # Errors
    /// It is larger than 2 GiB, it is no archive that a registry would give out, or a file cannot be read or written.
    pub fn extract(&self, to: &Path) -> io::Result<()> {
        match self {
            Self::Folder(path) => copied(path, to),
            Self::Archive(path) => unpack(path, to),
        }
    }
}

use crate::unpack::{new_file, private, unpack};

/// This machine, as Terraform names it: `linux_amd64`.
#[must_use]
pub fn platform() -> String {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("{}_{architecture}", std::env::consts::OS)
}

/// SHA-256 of a file, in lowercase hexadecimal.
///
/// # Errors
/// The file cannot be read, or is larger than 2 GiB.
pub fn sha256(path: &Path) -> io::Result<String> {
    Ok(summed(path, LARGEST)?.0)
}

/// SHA-256 of a file that is not larger than that, and its size.
fn summed(path: &Path, most: u64) -> io::Result<(String, u64)> {
    let mut hash = Sha256::new();
    let bytes = bounded::copy(path, most, &mut hash)?;
    Ok((hex(&hash.finalize()), bytes))
}

/// Copies the files of a folder.
fn copied(from: &Path, to: &Path) -> io::Result<()> {
    private(to)?;
    let mut left = LARGEST;
    for name in files(from)? {
        let (from, to) = (from.join(&name), to.join(&name));
        if let Some(folder) = to.parent() {
            private(folder)?;
        }
        left -= bounded::copy(&from, left, &mut new_file(&to)?)?;
    }
    Ok(())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The hash `h1:` of an unpacked package: over the names and the SHA-256 of all its files.
///
/// # Errors
/// What cannot be read; a name that is not UTF-8 or has a line's end in it; more than 10,000 files, or than 2 GiB in them.
pub fn folder_hash(folder: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut left = LARGEST;
    for name in files(folder)? {
        let (sum, bytes) = summed(&folder.join(&name), left)?;
        left -= bytes;
        hash.update(format!("{sum}  {name}\n").as_bytes());
    }
    Ok(format!("h1:{}", STANDARD.encode(hash.finalize())))
}

/// The files in a folder and those below, by path with `/` between the parts, sorted. Links are followed, as whoever
/// executes them does.
///
/// # Errors
/// What cannot be read; a name that is not UTF-8 or has a line's end in it; more than 10,000 files.
pub fn files(folder: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    gather(folder, "", &mut found)?;
    found.sort();
    Ok(found)
}

fn gather(folder: &Path, prefix: &str, found: &mut Vec<String>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).filter(|name| !name.contains('\n'));
        let name = name.ok_or_else(|| io::Error::other(format!("{} has no usable name", path.display())))?;
        let name = format!("{prefix}{name}");
        if path.is_dir() {
            gather(&path, &format!("{name}/"), found)?;
        } else if found.len() < MOST {
            found.push(name);
        } else {
            return Err(io::Error::other(format!("{} has more than {MOST} files", folder.display())));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn a_package_that_is_too_large_is_refused_before_it_is_read() {
        let dir = tempfile::tempdir().expect("a folder");
        let (folder, archive) = (dir.path().join("folder"), dir.path().join("a.zip"));
        std::fs::create_dir(&folder).expect("a folder");
        let sparse = |path: &Path, bytes: u64| {
            File::create(path).and_then(|file| file.set_len(bytes)).expect("a file");
        };
        std::fs::write(folder.join("a"), "x").expect("a file");
        // A terabyte is hashed for an hour, unless it is not.
        for large in [folder.join("b"), archive.clone()] {
            sparse(&large, 1 << 40);
        }
        for packed in [Packed::Folder(folder.clone()), Packed::Archive(archive)] {
            for refused in [packed.hash().map(drop), packed.extract(&dir.path().join("to"))] {
                let error = refused.expect_err("too large").to_string();
                assert!(error.contains("1099511627776 bytes, and the most are 2147483"), "{error}");
            }
        }
        // Together they are as much as may be, and one byte.
        std::fs::remove_file(folder.join("b")).expect("removed");
        sparse(&folder.join("0"), LARGEST);
        sparse(&folder.join("a"), 1);
        std::fs::rename(folder.join("0"), folder.join("z")).expect("renamed");
        let error =
            Packed::Folder(folder).extract(&dir.path().join("other")).expect_err("too large").to_string();
        assert!(error.contains("2147483648 bytes, and the most are 2147483647"), "{error}");
    }

    #[test]
    fn an_address_has_three_parts_and_leads_nowhere_else() {
        let address: Address = "registry.terraform.io/cato/cato".parse().expect("an address");
        assert_eq!(address.to_string(), "registry.terraform.io/cato/cato");
        assert_eq!(address.program("1.2.3"), "terraform-provider-cato_v1.2.3");
        let wrong = ["", "cato/cato", "a/b/c/d", "a/../c", "a//c", "a/b/-c", "A/b/c", "a/b/c\n", "../b/c"];
        for text in wrong {
            assert_eq!(text.parse::<Address>(), Err(AddressError(text.to_owned())), "{text}");
        }
    }
}
