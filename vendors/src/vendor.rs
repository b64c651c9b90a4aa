//! One vendor: its `vendor.toml` and everything else in its folder.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::access::{
    self, AccountRef, AccountRefused, CredentialRef, CredentialSource, SecretsFolder, SecretsRef,
};
use crate::budget::{self, Breaker, Budget};
use crate::error::LoadError;
use crate::errors::{self, ErrorRules};
use crate::folder::{Folder, OFFICIAL, OWN};
use crate::kind::Kind;
use crate::pointer;
use crate::resource::{self, Attribute, ResourceApi};
use crate::schema::{self, KindSchemas};
use crate::section::Section;
use crate::terraform::{FIRST_VERSION, TerraformTemplate, check_unused};

/// Everything wanwright knows about one vendor.
#[derive(Clone, Debug, PartialEq)]
pub struct Vendor {
    /// Name, equal to the folder's.
    pub name: String,
    /// Name for people.
    pub title: String,
    /// Where the vendor's API is, without a slash at the end.
    pub base_url: String,
    /// How the gateway reaches it.
    pub connection: Connection,
    /// Where the gateway finds the secret and how it sends it.
    pub credential: CredentialRef,
    /// Other accounts at the vendor, by the name under which customers name them as their own.
    pub accounts: BTreeMap<String, AccountRef>,
    /// Where the secrets are that settings name.
    pub secrets: Option<SecretsRef>,
    /// How many calls the vendor takes.
    pub budget: Budget,
    /// When calls are held back because they only fail.
    pub breaker: Breaker,
    /// What carries out the changes of a kind. A stack's tunnels go with their site.
    pub engines: BTreeMap<Kind, Engine>,
    /// The vendor's own limits.
    pub limits: Limits,
    /// Where answers hold addresses of the vendor's own API, such as that of the next page: JSON pointers.
    pub addresses: Vec<String>,
    /// Where the vendor's answers say what was wrong, and what that means.
    pub errors: ErrorRules,
    /// Named tunnel ends and their addresses.
    pub hubs: BTreeMap<String, IpAddr>,
    /// Device models the vendor knows, in the file's order.
    pub models: Vec<String>,
    /// What a customer's settings may hold, by kind.
    pub schemas: BTreeMap<Kind, KindSchemas>,
    /// The vendor's HTTP resources, by kind.
    pub api: BTreeMap<Kind, Arc<ResourceApi>>,
    /// The stack of one site in its first version, for vendors whose sites go through Terraform.
    pub terraform: Option<TerraformTemplate>,
    /// Further versions of it, by number.
    pub later_templates: BTreeMap<u32, TerraformTemplate>,
    /// The version that a new stack gets.
    pub default_template: u32,
    /// SHA-256 over the folder's files, in lowercase hexadecimal.
    pub digest: String,
}

/// How a vendor is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// A file with the certificate authorities to believe, PEM; without one, those of the machine.
    pub ca_file: Option<PathBuf>,
    /// A proxy through which connections are made with `CONNECT`.
    pub proxy: Option<Proxy>,
    /// Where the proxy's login is, `user:password`.
    pub proxy_login: Option<CredentialSource>,
}

/// A proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proxy {
    /// This one: `http://host:port`.
    Fixed(String),
    /// What the environment of the gateway's process says: `HTTPS_PROXY` and `NO_PROXY`.
    Environment,
}

/// What a proxy of the environment is read from.
const PROXY_VARIABLES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"];

/// What carries out changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// A Terraform stack.
    Terraform,
    /// The vendor's own API.
    Api,
}

/// The vendor's own limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Most tunnels one site may own.
    pub tunnels_per_site: u32,
}

impl Vendor {
    /// Reads and checks one vendor folder.
    ///
    /// # Errors
    /// [`LoadError`], naming file and field.
    pub fn load(dir: &Path) -> Result<Self, LoadError> {
        let folder = Folder::read(dir)?;
        let file = dir.join("vendor.toml");
        let bytes = folder.files.get("vendor.toml").map_or(&[][..], Vec::as_slice);
        let mut top = Section::parse(&file, bytes)?;
        let errors = errors::load(top.optional_section("errors")?)?;
        let api = resource::load_all(&folder, &errors)?;
        let mut templates = templates(&mut top, &folder)?;
        let default_template = default_template(&mut top, &templates)?;
        let vendor = Self {
            name: name(&mut top, dir)?,
            title: top.required("title")?,
            base_url: base_url(&mut top)?,
            connection: connection(&mut top)?,
            credential: access::credential(&mut top)?,
            accounts: access::accounts(&mut top)?,
            budget: budget::budget(&mut top)?,
            breaker: budget::breaker(&mut top)?,
            addresses: addresses(&mut top)?,
            engines: top.required("engines")?,
            limits: limits(&mut top)?,
            hubs: top.optional("hubs")?.unwrap_or_default(),
            models: models(&mut top)?,
            schemas: schema::load_all(&folder, top.optional_section("schemas")?)?,
            secrets: access::secrets(&mut top, sensitive(&api))?,
            api,
            errors,
            terraform: templates.remove(&FIRST_VERSION),
            later_templates: templates,
            default_template,
            digest: folder.digest(""),
        };
        vendor.check_engines(&top)?;
        top.finish()?;
        Ok(vendor)
    }

    /// What carries out changes of a kind: its own engine, or for a kind that lives in a site's stack the site's.
    #[must_use]
    pub fn engine(&self, kind: &str) -> Option<Engine> {
        self.engines.get(kind).copied().or_else(|| {
            let template = self.terraform.as_ref()?;
            template.outputs.contains_key(kind).then_some(Engine::Terraform)
        })
    }

    /// The stack of one site in a version, if there is that one.
    #[must_use]
    pub fn template(&self, version: u32) -> Option<&TerraformTemplate> {
        if version == FIRST_VERSION { self.terraform.as_ref() } else { self.later_templates.get(&version) }
    }

    /// Every version of the stack of one site, by number.
    pub fn templates(&self) -> impl Iterator<Item = &TerraformTemplate> {
        self.terraform.iter().chain(self.later_templates.values())
    }

    /// The environment variables that its gateway reads: secrets, where they are, and the way to them.
    #[must_use]
    pub fn environment(&self) -> BTreeSet<&str> {
        let accounts = self.accounts.values().map(|account| &account.source);
        let sources =
            [&self.credential.source].into_iter().chain(accounts).chain(&self.connection.proxy_login);
        let secrets = self.secrets.iter().filter_map(|secrets| match &secrets.folder {
            SecretsFolder::Env(name) => Some(name.as_str()),
            SecretsFolder::Dir(_) => None,
        });
        let proxy = match self.connection.proxy {
            Some(Proxy::Environment) => &PROXY_VARIABLES[..],
            _ => &[],
        };
        let named = sources.filter_map(|source| match source {
            CredentialSource::Env(name) => Some(name.as_str()),
            CredentialSource::File(_) => None,
        });
        named.chain(secrets).chain(proxy.iter().copied()).collect()
    }

    /// The account of this name, if the customer may use it with this budget.
    ///
    /// # Errors
    /// [`AccountRefused`].
    pub fn account(
        &self,
        customer: &str,
        credential: &str,
        budget: &str,
    ) -> Result<&AccountRef, AccountRefused> {
        access::account(&self.accounts, customer, credential, budget)
    }

    /// Each engine needs the files it works from.
    fn check_engines(&self, top: &Section) -> Result<(), LoadError> {
        for (kind, engine) in &self.engines {
            let field = format!("engines.{kind}");
            match engine {
                Engine::Api if !self.api.contains_key(kind.as_str()) => {
                    return Err(top.error(&field, format!("is \"api\": add api/{kind}.toml")));
                }
                Engine::Terraform => match &self.terraform {
                    None => {
                        return Err(top.error(&field, "is \"terraform\": add terraform/main.tf"));
                    }
                    Some(template) if !template.outputs.contains_key(kind.as_str()) => {
                        return Err(top.error(
                            &field,
                            format!("is \"terraform\": add [{kind}] to terraform/outputs.toml"),
                        ));
                    }
                    Some(_) => {}
                },
                Engine::Api => {}
            }
        }
        Ok(())
    }
}

/// The version of the template that a new stack gets: what `[terraform] default` says, or the first one.
fn default_template(
    top: &mut Section,
    templates: &BTreeMap<u32, TerraformTemplate>,
) -> Result<u32, LoadError> {
    let Some(mut section) = top.optional_section("terraform")? else { return Ok(FIRST_VERSION) };
    let version: u32 = section.required("default")?;
    if !templates.contains_key(&version) {
        let known: Vec<String> = templates.keys().map(ToString::to_string).collect();
        let message =
            format!("there is no version {version} of the template; there are {}", known.join(", "));
        return Err(section.error("default", message));
    }
    section.finish()?;
    Ok(version)
}

/// The template that is used, in every version: `template = "own"` or `"official"`. The other one, if there is one, is read
/// as well, so that a mistake in it is not found on the day it is needed.
fn templates(top: &mut Section, folder: &Folder) -> Result<BTreeMap<u32, TerraformTemplate>, LoadError> {
    let (used, unused) = match top.optional::<String>("template")?.as_deref() {
        None | Some("own") => (OWN, OFFICIAL),
        Some("official") => (OFFICIAL, OWN),
        Some(_) => return Err(top.error("template", "is \"own\" or \"official\"")),
    };
    check_unused(folder, unused)?;
    let found = TerraformTemplate::load_all(folder, used)?;
    if found.is_empty() && used == OFFICIAL {
        return Err(top.error("template", "is \"official\": add terraform-official/main.tf"));
    }
    Ok(found)
}

/// The names in the JSON of attributes that people may not see, at any depth.
fn sensitive(api: &BTreeMap<Kind, Arc<ResourceApi>>) -> impl Iterator<Item = String> {
    let mut found = Vec::new();
    api.values().for_each(|api| gather_sensitive(&api.attributes, &mut found));
    found.into_iter()
}

fn gather_sensitive(attributes: &BTreeMap<String, Attribute>, found: &mut Vec<String>) {
    for attribute in attributes.values() {
        if attribute.sensitive {
            found.extend(attribute.json.rsplit('/').next().map(str::to_owned));
        }
        if let Some(fields) = attribute.r#type.fields() {
            gather_sensitive(fields, found);
        }
    }
}

fn name(top: &mut Section, dir: &Path) -> Result<String, LoadError> {
    let name: String = top.required("name")?;
    let folder = dir.file_name().and_then(|name| name.to_str());
    if folder != Some(name.as_str()) {
        return Err(top.error("name", "has to equal the folder's name: rename one of them"));
    }
    // It becomes part of Terraform resource types and of NATS subjects.
    let valid = name.len() <= 32
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    if !valid {
        return Err(top.error("name", "use lowercase letters and digits, at most 32"));
    }
    Ok(name)
}

fn base_url(top: &mut Section) -> Result<String, LoadError> {
    let url: String = top.required("base_url")?;
    if !(url.starts_with("http://") || url.starts_with("https://")) {
        return Err(top.error("base_url", "has to start with http:// or https://"));
    }
    Ok(url.trim_end_matches('/').to_owned())
}

/// What stands for the environment's proxy.
const ENVIRONMENT: &str = "environment";

fn connection(top: &mut Section) -> Result<Connection, LoadError> {
    let proxy: Option<String> = top.optional("proxy")?;
    if let Some(proxy) = &proxy
        && proxy != ENVIRONMENT
        && (!proxy.starts_with("http://") || proxy.contains('@'))
    {
        let message = "is no proxy: write http://host:port, its login into [proxy_login], or \"environment\"";
        return Err(top.error("proxy", message));
    }
    let proxy =
        proxy.map(|proxy| if proxy == ENVIRONMENT { Proxy::Environment } else { Proxy::Fixed(proxy) });
    let proxy_login = access::proxy_login(top)?;
    if proxy_login.is_some() && proxy.is_none() {
        return Err(top.error("proxy_login", "is for a proxy, and there is none: add `proxy`"));
    }
    let ca_file = match top.optional_section("tls")? {
        None => None,
        Some(mut section) => {
            let ca_file = Some(section.required("ca_file")?);
            section.finish()?;
            ca_file
        }
    };
    Ok(Connection { ca_file, proxy, proxy_login })
}

fn addresses(top: &mut Section) -> Result<Vec<String>, LoadError> {
    let Some(mut section) = top.optional_section("answers")? else {
        return Ok(Vec::new());
    };
    let addresses: Vec<String> = section.optional("addresses")?.unwrap_or_default();
    if !addresses.iter().all(|pointer| pointer::is_readable(pointer)) {
        return Err(section.error("addresses", "these are JSON pointers, like `/links/next`"));
    }
    section.finish()?;
    Ok(addresses)
}

fn limits(top: &mut Section) -> Result<Limits, LoadError> {
    let mut section = top.section("limits")?;
    let limits = Limits { tunnels_per_site: section.required("tunnels_per_site")? };
    section.finish()?;
    Ok(limits)
}

fn models(top: &mut Section) -> Result<Vec<String>, LoadError> {
    let models: Vec<String> = top.optional("models")?.unwrap_or_default();
    for (index, model) in models.iter().enumerate() {
        if model.is_empty() || models[..index].contains(model) {
            return Err(top.error("models", format!("`{model}` is empty or there twice")));
        }
    }
    Ok(models)
}
