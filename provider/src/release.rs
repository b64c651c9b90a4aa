//! A release: what a registry takes and what a filesystem mirror has, made of one program and the vendor folders.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use serde_json::json;
use thiserror::Error;

use crate::package::{self, Address, files, platform, sha256};
use crate::plugin::PROTOCOL;

/// Writes what a registry and a mirror have of this program.
///
/// Below the folder are three: `registry` with the files of a release (archive, SHA256SUMS, manifest), and two filesystem
/// mirrors for Terraform's `provider_installation`, `packed` with the archive and `unpacked` with the program.
#[derive(Args, Clone, Debug)]
pub struct ReleaseArgs {
    /// Folder to write to; it is made if it is not there.
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
    /// Folder with the vendor folders, which become part of the package.
    #[arg(long, env = "WANWRIGHT_VENDORS", value_name = "DIR")]
    pub vendors: PathBuf,
    /// The provider's address.
    #[arg(long, default_value = "registry.terraform.io/wanwright/wanwright")]
    pub address: Address,
    /// Its version.
    #[arg(long = "as-version", value_name = "VERSION", default_value = env!("CARGO_PKG_VERSION"))]
    pub version: String,
    /// The program, instead of the one that does this.
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,
}

/// A release that cannot be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReleaseError {
    /// The version is none.
    #[error("`{0}` is no version: write three numbers, as in 1.2.3")]
    Version(String),
    /// The vendor folders are not valid.
    #[error("loading the vendor folders")]
    Vendors(#[from] wanwright_vendors::LoadError),
    /// A file or folder.
    #[error("{doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// It would be larger than the archive's form allows.
    #[error("{} is larger than 4 GiB", .0.display())]
    TooLarge(PathBuf),
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ReleaseError {
    let path = path.to_owned();
    move |source| ReleaseError::Io { doing, path, source }
}

/// What was written.
#[derive(Clone, Debug)]
pub struct Release {
    /// The folder of the release's own files.
    pub registry: PathBuf,
    /// The mirror with the archive.
    pub packed: PathBuf,
    /// The mirror with the program.
    pub unpacked: PathBuf,
    /// The package's hashes, as a lock file writes them.
    pub hashes: [String; 2],
}

/// Makes a release and prints where it is.
///
/// # Errors
/// [`ReleaseError`].
pub fn run(args: &ReleaseArgs) -> Result<(), ReleaseError> {
    let made = release(args)?;
    let [h1, zh] = &made.hashes;
    let text = format!(
        "{}\n{}\n{}\n{h1}\n{zh}\n",
        made.registry.display(),
        made.packed.display(),
        made.unpacked.display()
    );
    io::stdout().write_all(text.as_bytes()).map_err(failed("writing to", Path::new("standard output")))
}

/// Makes a release.
///
/// # Errors
/// [`ReleaseError`].
pub fn release(args: &ReleaseArgs) -> Result<Release, ReleaseError> {
    let ReleaseArgs { address, version, .. } = args;
    let number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if version.split('.').count() != 3 || !version.split('.').all(number) {
        return Err(ReleaseError::Version(version.clone()));
    }
    // What cannot be loaded is not released.
    wanwright_vendors::Catalogue::load(&args.vendors)?;
    let to = std::path::absolute(&args.to).map_err(failed("finding", &args.to))?;
    let (registry, packed, unpacked) = (to.join("registry"), to.join("packed"), to.join("unpacked"));
    let package = unpacked.join(address.folder()).join(version).join(platform());
    fill(&package, args)?;

    let archive = registry.join(address.archive(version, &platform()));
    fs::create_dir_all(&registry).map_err(failed("making", &registry))?;
    archived(&package, &archive)?;
    let manifest = registry.join(format!("terraform-provider-{}_{version}_manifest.json", address.name()));
    let text = json!({ "version": 1, "metadata": { "protocol_versions": [format!("{PROTOCOL}.0")] } });
    fs::write(&manifest, format!("{text:#}\n")).map_err(failed("writing", &manifest))?;
    sums(&registry, &format!("terraform-provider-{}_{version}_SHA256SUMS", address.name()))?;

    let own = packed.join(address.folder());
    fs::create_dir_all(&own).map_err(failed("making", &own))?;
    copy(&archive, &own.join(address.archive(version, &platform())), 0o644)?;
    let h1 = package::folder_hash(&package).map_err(failed("reading", &package))?;
    let zh = format!("zh:{}", sha256(&archive).map_err(failed("reading", &archive))?);
    Ok(Release { registry, packed, unpacked, hashes: [h1, zh] })
}

/// The unpacked package: the program, and the vendor folders beside it.
fn fill(package: &Path, args: &ReleaseArgs) -> Result<(), ReleaseError> {
    match fs::remove_dir_all(package) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("emptying", package)(error));
        }
        _ => {}
    }
    let program = match &args.program {
        Some(program) => program.clone(),
        None => std::env::current_exe().map_err(failed("finding", Path::new("this program")))?,
    };
    copy(&program, &package.join(args.address.program(&args.version)), 0o755)?;
    let hidden = |name: &str| name.split('/').any(|part| part.starts_with('.'));
    let names = files(&args.vendors).map_err(failed("reading", &args.vendors))?;
    for name in names.iter().filter(|name| !hidden(name)) {
        copy(&args.vendors.join(name), &package.join("vendors").join(name), 0o644)?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path, mode: u32) -> Result<(), ReleaseError> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(failed("making", folder))?;
    }
    fs::copy(from, to).map_err(failed("copying", from))?;
    fs::set_permissions(to, fs::Permissions::from_mode(mode)).map_err(failed("setting the mode of", to))
}

/// `SHA256SUMS` over every other file of a release. A signature of an earlier one goes: it would not fit.
fn sums(registry: &Path, name: &str) -> Result<(), ReleaseError> {
    let prefix = name.trim_end_matches("SHA256SUMS");
    let signature = registry.join(format!("{name}.sig"));
    match fs::remove_file(&signature) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("removing", &signature)(error));
        }
        _ => {}
    }
    let mut text = String::new();
    for file in files(registry).map_err(failed("reading", registry))? {
        if file.starts_with(prefix) && file != name {
            let path = registry.join(&file);
            let sum = sha256(&path).map_err(failed("reading", &path))?;
            text.push_str(&format!("{sum}  {file}\n"));
        }
    }
    let path = registry.join(name);
    fs::write(&path, text).map_err(failed("writing", &path))
}

/// Packs a folder into an archive that is the same for the same files: no times, names in order.
fn archived(folder: &Path, to: &Path) -> Result<(), ReleaseError> {
    let mut archive = Archive::default();
    for name in files(folder).map_err(failed("reading", folder))? {
        let path = folder.join(&name);
        let read = || Ok::<_, io::Error>((fs::read(&path)?, fs::metadata(&path)?.permissions().mode()));
        let (content, mode) = read().map_err(failed("reading", &path))?;
        let added = archive.add(&name, &content, mode).map_err(failed("packing", &path))?;
        added.ok_or_else(|| ReleaseError::TooLarge(path.clone()))?;
    }
    let bytes = archive.finish().ok_or_else(|| ReleaseError::TooLarge(to.to_owned()))?;
    File::create(to).and_then(|mut file| file.write_all(&bytes)).map_err(failed("writing", to))
}

/// A ZIP archive being written. Answers are `None` where a length does not fit its form.
#[derive(Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    directory: Vec<u8>,
    entries: u16,
}

impl Archive {
    pub(crate) fn add(&mut self, name: &str, content: &[u8], mode: u32) -> io::Result<Option<()>> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(content)?;
        let packed = encoder.finish()?;
        let mut crc = flate2::Crc::new();
        crc.update(content);
        let length = |length: usize| u32::try_from(length).ok();
        let lengths = (|| Some((length(packed.len())?, length(content.len())?, length(self.bytes.len())?)))();
        let (Some((packed_length, content_length, offset)), Ok(name_length)) =
            (lengths, u16::try_from(name.len()))
        else {
            return Ok(None);
        };
        // Needs version 2.0; UTF-8 name; deflated; 1 January 1980.
        let mut common = Vec::new();
        for field in [20_u16, 1 << 11, 8, 0, 0x21] {
            common.extend(field.to_le_bytes());
        }
        for field in [crc.sum(), packed_length, content_length] {
            common.extend(field.to_le_bytes());
        }
        common.extend(name_length.to_le_bytes());
        common.extend([0; 2]);
        self.bytes.extend(b"PK\x03\x04");
        self.bytes.extend(&common);
        self.bytes.extend(name.as_bytes());
        self.bytes.extend(packed);
        // Made on Unix, so that the mode counts.
        self.directory.extend(b"PK\x01\x02");
        self.directory.extend([20, 3]);
        self.directory.extend(&common);
        self.directory.extend([0; 6]);
        self.directory.extend((mode << 16).to_le_bytes());
        self.directory.extend(offset.to_le_bytes());
        self.directory.extend(name.as_bytes());
        self.entries = match self.entries.checked_add(1) {
            Some(entries) => entries,
            None => return Ok(None),
        };
        Ok(Some(()))
    }

    pub(crate) fn finish(mut self) -> Option<Vec<u8>> {
        let length = u32::try_from(self.directory.len()).ok()?;
        let offset = u32::try_from(self.bytes.len()).ok()?;
        self.bytes.extend(self.directory);
        self.bytes.extend(b"PK\x05\x06");
        self.bytes.extend([0; 4]);
        self.bytes.extend(self.entries.to_le_bytes());
        self.bytes.extend(self.entries.to_le_bytes());
        self.bytes.extend(length.to_le_bytes());
        self.bytes.extend(offset.to_le_bytes());
        self.bytes.extend([0; 2]);
        Some(self.bytes)
    }
}
