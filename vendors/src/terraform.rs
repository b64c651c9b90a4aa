//! The Terraform stack of a vendor's site, in every version there is.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use hcl_edit::structure::Body;

use crate::error::LoadError;
use crate::folder::{Folder, LOCK_FILE, version_of};
use crate::hcl;
use crate::kind::{self, Kind};
use crate::providers::{self, ForeignProvider};
use crate::section::Section;

/// The version of a template that is in the folder without a number, `terraform/` or `terraform-official/`.
pub const FIRST_VERSION: u32 = 1;

/// The stack of one site with its tunnels: files that are written to where a run works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TerraformTemplate {
    /// Which version it is, from 1.
    pub version: u32,
    /// The folder: `<vendor>/terraform` or `<vendor>/terraform-official`, with `@<version>` behind it from the second on.
    pub dir: PathBuf,
    /// The Terraform files in it, by name, sorted, and `.terraform.lock.hcl` if there is one: what a run needs a copy of.
    pub files: Vec<String>,
    /// What those files said when the folder was read, by name: it may be edited before a run needs them.
    pub contents: Arc<BTreeMap<String, Vec<u8>>>,
    /// SHA-256 over every file in it, in lowercase hexadecimal.
    pub digest: String,
    /// SHA-256 over that and everything else in the vendor's folder that decides what its resources do at the vendor, in
    /// lowercase hexadecimal: how they are called for (`api/`), where, and what the answers mean. A plan that was made with
    /// other ones is another plan.
    pub effects: String,
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
    /// Reads a template, the folder `first`, and every `<first>@<version>/` beside it, by version. Empty if the vendor has
    /// none.
    pub(crate) fn load_all(folder: &Folder, first: &str) -> Result<BTreeMap<u32, Self>, LoadError> {
        let mut templates = BTreeMap::new();
        for (version, part) in versions(folder, first)? {
            templates.insert(version, Self::load(folder, part, version)?);
        }
        let Some((version, other)) = templates.iter().next() else { return Ok(templates) };
        if *version != FIRST_VERSION {
            let message =
                format!("is a further version of a template that is not there: the first one is {first}/");
            return Err(LoadError::Layout { path: other.dir.clone(), message });
        }
        let kinds = |template: &Self| template.outputs.keys().cloned().collect::<Vec<_>>();
        // A stack that changes its version keeps its objects.
        if let Some(other) =
            templates.values().find(|template| kinds(template) != kinds(&templates[&FIRST_VERSION]))
        {
            let message = format!(
                "names other kinds than {first}/outputs.toml: every version brings about the same ones"
            );
            return Err(LoadError::Layout { path: other.dir.join("outputs.toml"), message });
        }
        Ok(templates)
    }

    fn load(folder: &Folder, part: &str, version: u32) -> Result<Self, LoadError> {
        for needed in ["main.tf", "outputs.toml"] {
            if !folder.part(part).any(|(name, ..)| name == needed) {
                return Err(LoadError::Layout {
                    path: folder.dir.join(part).join(needed),
                    message: "is missing: a stack has main.tf and outputs.toml".to_owned(),
                });
            }
        }
        let bodies = check(folder, part)?;
        let providers = providers::load(folder, part, &bodies)?;
        let outputs = outputs(folder, part)?;
        let needed = folder.part(part).filter(|(name, ..)| name.ends_with(".tf") || *name == LOCK_FILE);
        let contents: BTreeMap<String, Vec<u8>> =
            needed.map(|(name, _, bytes)| (name.to_owned(), bytes.to_owned())).collect();
        Ok(Self {
            version,
            dir: folder.dir.join(part),
            files: contents.keys().cloned().collect(),
            contents: Arc::new(contents),
            digest: folder.digest(&format!("{part}/")),
            effects: folder.effects(part)?,
            outputs,
            providers,
        })
    }
}

/// The versions of a template that there are, and the sub-folder of each.
fn versions<'a>(folder: &'a Folder, first: &str) -> Result<Vec<(u32, &'a str)>, LoadError> {
    let mut found = Vec::new();
    for part in folder.parts() {
        if part == first {
            found.push((FIRST_VERSION, part));
        }
        let Some(text) = version_of(part, first) else { continue };
        match text.parse::<u32>() {
            Ok(version) if version > FIRST_VERSION && version.to_string() == text => {
                found.push((version, part));
            }
            _ => {
                let message =
                    format!("is no version of the template: they are {first}@2, {first}@3 and so on");
                return Err(LoadError::Layout { path: folder.dir.join(part), message });
            }
        }
    }
    Ok(found)
}

/// Whether a template that is there and not used could be read, in every version. What it needs to run is not asked of it.
pub(crate) fn check_unused(folder: &Folder, first: &str) -> Result<(), LoadError> {
    for (_, part) in versions(folder, first)? {
        check(folder, part)?;
        outputs(folder, part)?;
    }
    Ok(())
}

fn outputs(folder: &Folder, part: &str) -> Result<BTreeMap<Kind, StackOutput>, LoadError> {
    let mut found = BTreeMap::new();
    for (_, path, bytes) in folder.part(part).filter(|(name, ..)| *name == "outputs.toml") {
        found = outputs_of(Section::parse(&path, bytes)?)?;
    }
    Ok(found)
}

/// Whether every file is one that a template may have, and says nothing that it may not say. Answers what is in them.
fn check<'a>(folder: &'a Folder, part: &str) -> Result<Vec<(PathBuf, &'a str, Body)>, LoadError> {
    let mut bodies = Vec::new();
    for (name, path, bytes) in folder.part(part) {
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
