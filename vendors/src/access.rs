//! How the gateway is let in by a vendor: references to secrets, never secrets.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::LoadError;
use crate::pointer;
use crate::section::Section;

/// A reference to a secret, never the secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialRef {
    /// Where the secret is.
    pub source: CredentialSource,
    /// HTTP header that carries it.
    pub header: String,
    /// What stands in front of the secret in the header, `Bearer ` for instance.
    pub prefix: String,
    /// How an access token is asked for, where the secret is not one itself.
    pub oauth: Option<OAuthRef>,
}

/// How an access token is asked for. The secret then is a JSON object of texts, such as `client_secret`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OAuthRef {
    /// Where: a path below the base URL, asked with `POST`.
    pub path: String,
    /// With what.
    pub body: OAuthBody,
    /// JSON pointer to the token in the answer.
    pub token: String,
    /// JSON pointer to the seconds for which it is good.
    pub expires_in: String,
    /// For how long it is good when the answer does not say.
    pub lifetime: Duration,
    /// Texts of the secret that anybody may see, such as a user's name: they are not taken out of answers.
    pub public: Vec<String>,
}

/// The fields of the question. `{name}` is a text of the secret, everything else is sent as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OAuthBody {
    /// As a JSON object.
    Json(BTreeMap<String, String>),
    /// As a form.
    Form(BTreeMap<String, String>),
}

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CredentialSource {
    /// An environment variable of the gateway's process.
    Env(String),
    /// A file; white space at its end does not count.
    File(PathBuf),
}

/// An account at the vendor that customers may name as their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountRef {
    /// Where its secret is. It is sent as the vendor's own one is.
    pub source: CredentialSource,
    /// The budget its calls are counted against; accounts that the vendor counts together have the same.
    pub budget: String,
    /// The customers that may name it: whoever names another's account would act in its name.
    pub customers: Vec<String>,
}

/// Why a customer may not use an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountRefused {
    /// The vendor has no account of that name for the customer. Which ones others have is nobody else's.
    Unknown {
        /// Those that the customer may name.
        known: Vec<String>,
    },
    /// Its calls are counted against another budget.
    OtherBudget {
        /// Which one.
        budget: String,
    },
}

/// The account of this name, if the customer may use it with this budget.
pub(crate) fn account<'a>(
    accounts: &'a BTreeMap<String, AccountRef>,
    customer: &str,
    credential: &str,
    budget: &str,
) -> Result<&'a AccountRef, AccountRefused> {
    let is_its = |account: &AccountRef| account.customers.iter().any(|name| name == customer);
    let Some(account) = accounts.get(credential).filter(|account| is_its(account)) else {
        let known = accounts.iter().filter(|(_, account)| is_its(account));
        return Err(AccountRefused::Unknown { known: known.map(|(name, _)| name.clone()).collect() });
    };
    if account.budget == budget {
        Ok(account)
    } else {
        Err(AccountRefused::OtherBudget { budget: account.budget.clone() })
    }
}

pub(crate) fn credential(top: &mut Section) -> Result<CredentialRef, LoadError> {
    let mut section = top.section("credential")?;
    let credential = CredentialRef {
        source: source(&mut section)?,
        header: section.required("header")?,
        prefix: section.optional("prefix")?.unwrap_or_default(),
        oauth: oauth(&mut section)?,
    };
    let token = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if credential.header.is_empty() || !credential.header.chars().all(token) {
        return Err(section.error("header", "is no HTTP header's name: write one like `Authorization`"));
    }
    section.finish()?;
    Ok(credential)
}

fn oauth(credential: &mut Section) -> Result<Option<OAuthRef>, LoadError> {
    let Some(mut section) = credential.optional_section("oauth")? else { return Ok(None) };
    let (json, form) = (section.optional("json")?, section.optional("form")?);
    let body = match (json, form) {
        (Some(json), None) => OAuthBody::Json(json),
        (None, Some(form)) => OAuthBody::Form(form),
        _ => return Err(section.error("", "needs exactly one of `json` and `form`")),
    };
    let lifetime: Option<u32> = section.optional("lifetime_seconds")?;
    let oauth = OAuthRef {
        path: section.required("path")?,
        body,
        token: section.optional("token")?.unwrap_or_else(|| "/access_token".to_owned()),
        expires_in: section.optional("expires_in")?.unwrap_or_else(|| "/expires_in".to_owned()),
        lifetime: Duration::from_secs(lifetime.unwrap_or(300).into()),
        public: section.optional("public")?.unwrap_or_default(),
    };
    if !oauth.path.starts_with('/') {
        return Err(section.error("path", "is a path below `base_url` and starts with `/`"));
    }
    for (key, pointer) in [("token", &oauth.token), ("expires_in", &oauth.expires_in)] {
        if !pointer::is_readable(pointer) {
            return Err(section.error(key, "is no JSON pointer: write one like `/access_token`"));
        }
    }
    section.finish()?;
    Ok(Some(oauth))
}

/// A login for the proxy, `[proxy_login]`: `user:password`.
pub(crate) fn proxy_login(top: &mut Section) -> Result<Option<CredentialSource>, LoadError> {
    let Some(mut section) = top.optional_section("proxy_login")? else { return Ok(None) };
    let login = source(&mut section)?;
    section.finish()?;
    Ok(Some(login))
}

/// Exactly one of `env` and `file`.
fn source(section: &mut Section) -> Result<CredentialSource, LoadError> {
    let env: Option<String> = section.optional("env")?;
    let file: Option<PathBuf> = section.optional("file")?;
    match (env, file) {
        (Some(env), None) => Ok(CredentialSource::Env(env)),
        (None, Some(file)) => Ok(CredentialSource::File(file)),
        _ => Err(section.error("", "needs exactly one of `env` and `file`")),
    }
}

/// Reads `[accounts.<name>]`.
pub(crate) fn accounts(top: &mut Section) -> Result<BTreeMap<String, AccountRef>, LoadError> {
    let mut accounts = BTreeMap::new();
    let Some(mut named) = top.optional_section("accounts")? else { return Ok(accounts) };
    for name in named.keys() {
        if !is_token(&name) {
            return Err(named.error(&name, NO_TOKEN));
        }
        let mut section = named.section(&name)?;
        let account = AccountRef {
            source: source(&mut section)?,
            budget: section.optional("budget")?.unwrap_or_else(|| name.clone()),
            customers: section.required("customers")?,
        };
        if !is_token(&account.budget) {
            return Err(section.error("budget", NO_TOKEN));
        }
        if account.customers.is_empty() || !account.customers.iter().all(|name| is_token(name)) {
            return Err(section.error("customers", "names the customers that may use it, at least one"));
        }
        section.finish()?;
        accounts.insert(name, account);
    }
    named.finish()?;
    Ok(accounts)
}

const NO_TOKEN: &str = "is no name: use 1 to 63 of a-z, 0-9 and -";

/// What names of accounts, budgets and customers are made of: they become part of keys and of paths.
fn is_token(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// Where the secrets are that customers' settings name, such as pre-shared keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretsRef {
    /// A folder with a folder for each customer, in which a file has a secret by its name.
    pub folder: SecretsFolder,
    /// Names of the fields that hold secrets, in requests and answers, at any depth.
    pub fields: Vec<String>,
}

/// Where a folder is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SecretsFolder {
    /// The folder.
    Dir(PathBuf),
    /// An environment variable of the gateway's process with its path.
    Env(String),
}

impl SecretsRef {
    /// The folder.
    ///
    /// # Errors
    /// A sentence's end about a variable that is not set.
    pub fn folder(&self) -> Result<PathBuf, String> {
        match &self.folder {
            SecretsFolder::Dir(dir) => Ok(dir.clone()),
            SecretsFolder::Env(name) => std::env::var_os(name)
                .map(PathBuf::from)
                .ok_or_else(|| format!("has no place: the environment variable {name} is not set")),
        }
    }
}

/// The name in a placeholder `secret:<name>`, if the text is one.
#[must_use]
pub fn secret_name(text: &str) -> Option<&str> {
    text.strip_prefix("secret:").filter(|name| is_token(name))
}

/// Reads `[secrets]`. Fields of attributes that people may not see are secrets in any case.
pub(crate) fn secrets(
    top: &mut Section,
    sensitive: impl Iterator<Item = String>,
) -> Result<Option<SecretsRef>, LoadError> {
    let Some(mut section) = top.optional_section("secrets")? else { return Ok(None) };
    let dir: Option<PathBuf> = section.optional("dir")?;
    let env: Option<String> = section.optional("env")?;
    let folder = match (dir, env) {
        (Some(dir), None) => SecretsFolder::Dir(dir),
        (None, Some(env)) => SecretsFolder::Env(env),
        _ => return Err(section.error("", "needs exactly one of `dir` and `env`")),
    };
    let mut fields: Vec<String> = section.optional("fields")?.unwrap_or_default();
    fields.extend(sensitive);
    fields.sort();
    fields.dedup();
    if fields.is_empty() || fields.iter().any(String::is_empty) {
        return Err(
            section.error("fields", "names the fields that hold secrets: no attribute is `sensitive`")
        );
    }
    section.finish()?;
    Ok(Some(SecretsRef { folder, fields }))
}
