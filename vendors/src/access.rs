//! How the gateway is let in by a vendor: references to secrets, never secrets.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::LoadError;
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
    };
    let token = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if credential.header.is_empty() || !credential.header.chars().all(token) {
        return Err(section.error("header", "is no HTTP header's name: write one like `Authorization`"));
    }
    section.finish()?;
    Ok(credential)
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
