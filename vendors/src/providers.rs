//! The providers of a stack that are not ours: which version, by which hash, and how they are told where the vendor is.
//!
//! `terraform/providers.toml` has a table for each, under its local name in `required_providers`; version and hashes are
//! those of `terraform/.terraform.lock.hcl`, which Terraform writes.

use std::path::{Path, PathBuf};

use hcl_edit::expr::Expression;
use hcl_edit::structure::{Attribute, Body};

use crate::error::LoadError;
use crate::folder::{Folder, LOCK_FILE};
use crate::hcl;
use crate::section::Section;

/// Where the settings are.
const SETTINGS: &str = "providers.toml";

/// Registries in which a source without a host is looked for: Terraform's and OpenTofu's.
const REGISTRIES: [&str; 2] = ["registry.terraform.io", "registry.opentofu.org"];

/// Our own, which executors serve themselves.
const OURS: &str = "wanwright/wanwright";

/// Processes of a provider at once, in each executor, unless its table says otherwise.
const PROCESSES: u32 = 4;

/// A provider that a stack uses and that is not ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignProvider {
    /// Its address in full: `registry.terraform.io/cato/cato`.
    pub address: String,
    /// The one version that is used.
    pub version: String,
    /// The hashes that a package of it may have, as the lock file writes them: `h1:…`, `zh:…`.
    pub hashes: Vec<String>,
    /// The attribute of the provider's configuration that says where the vendor is. Each run's own way to the vendor is
    /// put there.
    pub base_url: String,
    /// What stands behind that way in the attribute: empty, or a path that begins with a slash.
    pub path: String,
    /// How many processes of it each executor has at most, so how many runs use it at once.
    pub processes: u32,
    /// Whether a process serves one run after the other. If not, each run has one of its own.
    pub reuse: bool,
    /// Whether a create that is repeated takes over what the first one made, by a key or a name of the provider's own. If
    /// not, what a run that died created is looked for before anything is created again.
    pub adopts: bool,
}

/// What the files of a template say: name of the file, its text, and what it means.
pub(crate) type Bodies<'a> = [(PathBuf, &'a str, Body)];

/// The foreign providers of a template.
pub(crate) fn load(
    folder: &Folder,
    part: &str,
    bodies: &Bodies<'_>,
) -> Result<Vec<ForeignProvider>, LoadError> {
    let file = |wanted: &str| folder.part(part).find(|(name, ..)| *name == wanted);
    let mut settings = match file(SETTINGS) {
        Some((_, path, bytes)) => Some(Section::parse(&path, bytes)?),
        None => None,
    };
    let locks = match file(LOCK_FILE) {
        Some((_, path, bytes)) => locks(&path, bytes)?,
        None => Vec::new(),
    };
    let mut found = Vec::new();
    for (main, _, body) in bodies {
        for (name, source) in required(body).filter(|(_, source)| !is_ours(source)) {
            let missing = |path: PathBuf, message: String| LoadError::Layout { path, message };
            let Some(file) = settings.as_mut() else {
                let message = format!(
                    "is missing: {} uses `{source}`, so write a table [{name}] there",
                    main.display()
                );
                return Err(missing(folder.dir.join(part).join(SETTINGS), message));
            };
            let mut table = file.section(&name)?;
            let Some(lock) = locks.iter().find(|lock| is_named(&lock.address, &source)) else {
                let message = format!("does not name `{source}`: write it with `terraform providers lock`");
                return Err(missing(folder.dir.join(part).join(LOCK_FILE), message));
            };
            let base_url: String = table.required("base_url")?;
            let path: String = table.optional("path")?.unwrap_or_default();
            if !path.is_empty() && (!path.starts_with('/') || path.contains(['?', '#'])) {
                return Err(table.error("path", "is no path: begin it with `/`, without `?` and `#`"));
            }
            let processes = table.optional("processes")?.unwrap_or(PROCESSES);
            if processes == 0 {
                return Err(table.error("processes", "is 0: a run needs one"));
            }
            let reuse = table.optional("reuse")?.unwrap_or_default();
            let adopts = table.optional("adopts")?.unwrap_or_default();
            table.finish()?;
            found.push(ForeignProvider { base_url, path, processes, reuse, adopts, ..lock.clone() });
        }
    }
    if let Some(settings) = settings {
        settings.finish()?;
    }
    Ok(found)
}

/// Whether a source is our own provider.
pub(crate) fn is_ours(source: &str) -> bool {
    source == OURS || REGISTRIES.iter().any(|registry| source == format!("{registry}/{OURS}"))
}

fn is_named(address: &str, source: &str) -> bool {
    address == source || REGISTRIES.iter().any(|registry| address == format!("{registry}/{source}"))
}

/// Local names and sources in `required_providers`.
fn required(body: &Body) -> impl Iterator<Item = (String, String)> {
    let blocks = body.get_blocks("terraform").flat_map(|block| block.body.get_blocks("required_providers"));
    let attributes = blocks.flat_map(|block| block.body.attributes());
    attributes.filter_map(|attribute| Some((attribute.key.to_string(), hcl::source(attribute)?)))
}

/// What the lock file says. Its providers have no settings yet.
fn locks(path: &Path, bytes: &[u8]) -> Result<Vec<ForeignProvider>, LoadError> {
    let wrong = |message: String| LoadError::Syntax { file: path.to_owned(), message };
    let text = std::str::from_utf8(bytes).map_err(|error| wrong(error.to_string()))?;
    let body = hcl::read(text).map_err(wrong)?;
    let mut found = Vec::new();
    for block in body.get_blocks("provider") {
        let address = block.labels.first().map(|label| label.as_str().to_owned()).unwrap_or_default();
        let texts = |name: &str| block.body.get_attribute(name).map(texts).unwrap_or_default();
        let (version, hashes) = (texts("version").pop().unwrap_or_default(), texts("hashes"));
        let plain =
            |part: &str| !part.is_empty() && !part.contains(['/', '\\', '\0']) && !part.starts_with('.');
        if address.split('/').count() != 3 || !address.split('/').all(plain) || !plain(&version) {
            return Err(wrong(format!(
                "`{address}` {version}: host, namespace, name and a version are needed"
            )));
        }
        if !hashes.iter().any(|hash| hash.starts_with("h1:")) {
            let message = format!(
                "`{address}` has no hash `h1:`, by which what is executed is known: run `terraform providers lock`"
            );
            return Err(wrong(message));
        }
        let (base_url, path, processes, reuse) = (String::new(), String::new(), 0, false);
        let adopts = false;
        found.push(ForeignProvider { address, version, hashes, base_url, path, processes, reuse, adopts });
    }
    Ok(found)
}

/// The text or the texts that an attribute has.
fn texts(attribute: &Attribute) -> Vec<String> {
    match &attribute.value {
        Expression::Array(items) => {
            items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
        }
        other => other.as_str().map(str::to_owned).into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const MAIN: &str = "terraform {\n  required_providers {\n    wanwright = { source = \"wanwright/wanwright\" }\n    \
        cato = { source = \"catonetworks/cato\" }\n  }\n}\n";
    const LOCK: &str = "provider \"registry.terraform.io/catonetworks/cato\" {\n  version = \"1.2.3\"\n  \
        constraints = \"~> 1.2\"\n  hashes = [\n    \"h1:AAAA\",\n    \"zh:00\",\n  ]\n}\n";

    fn loaded(lock: &str, settings: &str) -> Result<Vec<ForeignProvider>, String> {
        let mut files = BTreeMap::new();
        for (name, text) in [(LOCK_FILE, lock), (SETTINGS, settings)] {
            if !text.is_empty() {
                files.insert(format!("terraform/{name}"), text.as_bytes().to_vec());
            }
        }
        let folder = Folder { dir: "v".into(), files };
        let bodies = [(PathBuf::from("v/terraform/main.tf"), MAIN, hcl::read(MAIN).expect("HCL"))];
        load(&folder, "terraform", &bodies).map_err(|error| error.to_string())
    }

    #[test]
    fn a_foreign_provider_is_known_by_its_lock_and_its_settings() {
        let found =
            loaded(LOCK, "[cato]\nbase_url = \"baseurl\"\nprocesses = 2\nreuse = true\nadopts = true\n");
        let wanted = ForeignProvider {
            address: "registry.terraform.io/catonetworks/cato".to_owned(),
            version: "1.2.3".to_owned(),
            hashes: vec!["h1:AAAA".to_owned(), "zh:00".to_owned()],
            base_url: "baseurl".to_owned(),
            path: String::new(),
            processes: 2,
            reuse: true,
            adopts: true,
        };
        assert_eq!(found, Ok(vec![wanted]));
        let plain = loaded(LOCK, "[cato]\nbase_url = \"baseurl\"\n").expect("with the usual settings");
        assert_eq!((plain[0].processes, plain[0].reuse, plain[0].adopts), (PROCESSES, false, false));
    }

    #[test]
    fn what_is_missing_or_leads_elsewhere_is_said_with_its_file() {
        let settings = "[cato]\nbase_url = \"baseurl\"\n";
        let climbing = LOCK.replace("1.2.3", "../..");
        let tries = [
            (LOCK, "", "providers.toml"),
            ("", settings, ".terraform.lock.hcl"),
            (LOCK, "[cato]\n", "cato.base_url"),
            (LOCK, "[other]\nbase_url = \"x\"\n", "cato"),
            (LOCK, "[cato]\nbase_url = \"x\"\nprocesses = 0\n", "cato.processes"),
            (LOCK, "[cato]\nbase_url = \"x\"\nreuse_it = true\n", "cato.reuse_it"),
            (&LOCK.replace("h1:AAAA", "zh:11"), settings, "has no hash `h1:`"),
            (&climbing, settings, "a version are needed"),
        ];
        for (lock, settings, part) in tries {
            let error = loaded(lock, settings).expect_err(part);
            assert!(error.contains(part), "{part}: {error}");
        }
    }
}
