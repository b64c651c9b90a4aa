//! The Terraform stack of a vendor's site.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hcl_edit::structure::Body;

use crate::error::LoadError;
use crate::folder::{Folder, LOCK_FILE};
use crate::hcl;
use crate::kind::{self, Kind};
use crate::providers::{self, ForeignProvider};
use crate::section::Section;

/// The stack of one site with its tunnels: a folder that is copied to where a run works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TerraformTemplate {
    /// The folder, `<vendor>/terraform` or `<vendor>/terraform-official`.
    pub dir: PathBuf,
    /// The Terraform files in it, by name, sorted, and `.terraform.lock.hcl` if there is one: what a run needs a copy of.
    pub files: Vec<String>,
    /// SHA-256 over every file in it, in lowercase hexadecimal.
    pub digest: String,
    /// Which resource and which output belong to which kind of object.
    pub outputs: BTreeMap<Kind, StackOutput>,
    /// The providers that it uses and that are not ours.
    pub providers: Vec<ForeignProvider>,
}

/// Which Terraform resource is which kind of object, and which output says what it is at the vendor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackOutput {
    /// Resource address without instance key, `wanwright_simwan_site.site`.
    pub resource: String,
    /// Name of the output. Its value is an object with `id`, or for a resource with `for_each` a map of such objects.
    pub output: String,
}

impl TerraformTemplate {
    /// Reads `terraform/`, if the vendor has one.
    pub(crate) fn load(folder: &Folder) -> Result<Option<Self>, LoadError> {
        let files: Vec<String> = folder
            .part("terraform")
            .map(|(name, ..)| name.to_owned())
            .filter(|name| name.ends_with(".tf") || name == LOCK_FILE)
            .collect();
        if folder.part("terraform").next().is_none() {
            return Ok(None);
        }
        for needed in ["main.tf", "outputs.toml"] {
            if !folder.part("terraform").any(|(name, ..)| name == needed) {
                return Err(LoadError::Layout {
                    path: folder.template_dir().join(needed),
                    message: "is missing: a stack has main.tf and outputs.toml".to_owned(),
                });
            }
        }
        let bodies = check(folder)?;
        let providers = providers::load(folder, &bodies)?;
        let outputs = outputs(folder)?;
        Ok(Some(Self {
            dir: folder.template_dir(),
            files,
            digest: folder.digest(&format!("{}/", folder.template)),
            outputs,
            providers,
        }))
    }
}

/// Whether a template that is there and not used could be read. What it needs to run is not asked of it.
pub(crate) fn check_unused(folder: &Folder) -> Result<(), LoadError> {
    check(folder)?;
    outputs(folder).map(|_| ())
}

fn outputs(folder: &Folder) -> Result<BTreeMap<Kind, StackOutput>, LoadError> {
    let mut found = BTreeMap::new();
    for (_, path, bytes) in folder.part("terraform").filter(|(name, ..)| *name == "outputs.toml") {
        found = outputs_of(Section::parse(&path, bytes)?)?;
    }
    Ok(found)
}

/// Whether every file is one that a template may have, and says nothing that it may not say. Answers what is in them.
fn check(folder: &Folder) -> Result<Vec<(PathBuf, &str, Body)>, LoadError> {
    let mut bodies = Vec::new();
    for (name, path, bytes) in folder.part("terraform") {
        let is_other = |ending: &str| name.ends_with(ending);
        if [".tf.json", ".tofu", ".tofu.json", ".tfvars", ".tfvars.json"].into_iter().any(is_other) {
            let message = "has no place in a template: write HCL into files that end with .tf".to_owned();
            return Err(LoadError::Layout { path, message });
        }
        if !name.ends_with(".tf") {
            continue;
        }
        let unread = |message: String| LoadError::Syntax { file: path.clone(), message };
        let text = std::str::from_utf8(bytes).map_err(|error| unread(error.to_string()))?;
        let body = hcl::read(text).map_err(unread)?;
        bodies.push((path, text, body));
    }
    let names = bodies.iter().flat_map(|(.., body)| hcl::providers(body)).collect();
    for (file, text, body) in &bodies {
        if let Some((line, message)) = hcl::lint(text, body, &names).into_iter().next() {
            return Err(LoadError::Syntax { file: file.clone(), message: format!("line {line}: {message}") });
        }
    }
    Ok(bodies)
}

fn outputs_of(mut file: Section) -> Result<BTreeMap<Kind, StackOutput>, LoadError> {
    let mut outputs = BTreeMap::new();
    for key in file.keys() {
        let Some(kind) = Kind::new(&key) else {
            return Err(file.error(&key, "is no kind: use lowercase letters, as in `site`"));
        };
        let mut section = file.section(&key)?;
        let resource: String = section.required("resource")?;
        let output: String = section.required("output")?;
        if !is_address(&resource) {
            return Err(section.error(
                "resource",
                "is no resource address: write `<type>.<name>`, without an instance key",
            ));
        }
        if !kind::is_identifier(&output, 64) {
            return Err(section.error("output", "is no output's name: use lowercase letters and `_`"));
        }
        section.finish()?;
        outputs.insert(kind, StackOutput { resource, output });
    }
    file.finish()?;
    Ok(outputs)
}

fn is_address(text: &str) -> bool {
    text.split_once('.')
        .is_some_and(|(kind, name)| kind::is_identifier(kind, 128) && kind::is_identifier(name, 128))
}
