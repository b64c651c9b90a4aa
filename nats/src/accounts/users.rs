//! The users of an account: made, listed, ended.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use nkeys::KeyPair;
use serde::{Deserialize, Serialize};
use wanwright_schemas::{Actor, CustomerId};

use super::authority::{now, seconds};
use super::grants::RESERVED;
use super::{AccountError, Authority, Grants, OPERATORS, UserKind, WAN, claims, creds, jwt, keys};

/// A user that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserInfo {
    /// The account.
    pub account: String,
    /// The name, which is the actor of its commands.
    pub name: String,
    /// Its kind, or its role in WAN.
    pub kind: String,
    /// Its public key.
    pub key: String,
    /// When it was made, in seconds since 1970.
    pub issued: u64,
    /// When it ends, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
    /// When it was revoked, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<u64>,
    /// Keys it had before, and when they were revoked: they stay dead when the name is given out again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub former: BTreeMap<String, u64>,
}

impl UserInfo {
    /// Whether it can connect at this time.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        let ended = self.expires.is_some_and(|end| end <= seconds(now));
        self.revoked.is_none() && !ended
    }
}

impl Authority {
    /// Makes a user and its credentials file, which is answered; `out` names another place for it.
    pub fn add_user(
        &self,
        customer: Option<&CustomerId>,
        name: &Actor,
        kind: UserKind,
        expires: Option<Duration>,
        out: Option<&Path>,
    ) -> Result<PathBuf, AccountError> {
        let account = home_of(customer, kind)?;
        let _lock = keys::lock(&self.dir)?;
        self.check_name(account, name)?;
        let grants = kind.grants(customer, name.as_str(), self.partitions);
        let expires = expires.map(|time| now() + time.as_secs());
        let path = out.map_or_else(|| self.creds(account, name.as_str()), Path::to_owned);
        self.make_user(account, name.as_str(), kind.name(), &grants, expires, &path)?;
        Ok(path)
    }

    /// Ends a user. Answers the claims of its account, for the server: it cuts the user off at once.
    pub fn revoke_user(&self, account: &str, name: &str) -> Result<String, AccountError> {
        let _lock = keys::lock(&self.dir)?;
        let Some(user) = self.user(account, name)? else {
            return Err(AccountError::not_possible(format!("there is no user {name} in account {account}")));
        };
        self.signing_key()?;
        self.write_user(&UserInfo { revoked: Some(now()), ..user })?;
        let path = self.creds(account, name);
        let _ = std::fs::remove_file(&path);
        self.sign_account(account)
    }

    /// The users of an account, by name; revoked ones too.
    pub fn users_of(&self, account: &str) -> Result<Vec<UserInfo>, AccountError> {
        let names = keys::named(&self.dir.join("users").join(account), ".json")?;
        let read = |name: String| {
            let gone = || AccountError::not_possible(format!("user {name} has gone meanwhile"));
            self.user(account, &name)?.ok_or_else(gone)
        };
        names.into_iter().map(read).collect()
    }

    /// A user of wanwright's own: the same key as before, with the rights of now.
    pub(super) fn keep_user(
        &self,
        account: &str,
        name: &str,
        kind: &str,
        grants: &Grants,
    ) -> Result<(), AccountError> {
        let path = self.creds(account, name);
        let before = keys::read(&path)?.unwrap_or_default();
        let seed = before.lines().map(str::trim).find(|line| line.starts_with("SU"));
        let key = seed.and_then(|seed| KeyPair::from_seed(seed).ok()).unwrap_or_else(KeyPair::new_user);
        self.sign_user(account, name, kind, grants, None, &path, &key)
    }

    fn make_user(
        &self,
        account: &str,
        name: &str,
        kind: &str,
        grants: &Grants,
        expires: Option<u64>,
        path: &Path,
    ) -> Result<(), AccountError> {
        self.sign_user(account, name, kind, grants, expires, path, &KeyPair::new_user())
    }

    #[expect(clippy::too_many_arguments, reason = "what a user is, spelled out once")]
    fn sign_user(
        &self,
        account: &str,
        name: &str,
        kind: &str,
        grants: &Grants,
        expires: Option<u64>,
        path: &Path,
        key: &KeyPair,
    ) -> Result<(), AccountError> {
        let issued = now();
        let before = self.user(account, name)?.filter(|before| before.key != key.public_key());
        let former = before.map(|user| {
            let last = user.revoked.or(user.expires).map(|at| (user.key, at));
            user.former.into_iter().chain(last).collect()
        });
        let claims = claims::user(name, &key.public_key(), grants, issued, expires);
        let token = jwt::encode(claims, &self.account_key(account)?)?;
        keys::write(path, &creds::text(&token, key)?)?;
        self.write_user(&UserInfo {
            account: account.to_owned(),
            name: name.to_owned(),
            kind: kind.to_owned(),
            key: key.public_key(),
            issued,
            expires,
            revoked: None,
            former: former.unwrap_or_default(),
        })
    }

    fn user_file(&self, account: &str, name: &str) -> PathBuf {
        self.dir.join("users").join(account).join(format!("{name}.json"))
    }

    fn user(&self, account: &str, name: &str) -> Result<Option<UserInfo>, AccountError> {
        let path = self.user_file(account, name);
        let Some(text) = keys::read(&path)? else { return Ok(None) };
        let malformed = |error| AccountError::malformed(format!("{}: {error}", path.display()));
        serde_json::from_str(&text).map(Some).map_err(malformed)
    }

    fn write_user(&self, user: &UserInfo) -> Result<(), AccountError> {
        let text =
            serde_json::to_string_pretty(user).map_err(|error| AccountError::malformed(error.to_string()))?;
        keys::write(&self.user_file(&user.account, &user.name), &text)
    }

    /// A name is an actor in the history for ever: it says who it was, so it is not wanwright's own, not taken, and not
    /// the name of somebody of another reach.
    fn check_name(&self, account: &str, name: &Actor) -> Result<(), AccountError> {
        let name = name.as_str();
        if RESERVED.contains(&name) {
            let why = format!("`{name}` is a name of wanwright's own; choose another");
            return Err(AccountError::not_possible(why));
        }
        if self.user(account, name)?.is_some_and(|user| user.is_valid(Timestamp::now())) {
            let why =
                format!("there is a user {name} in account {account}; revoke it before you make it anew");
            return Err(AccountError::not_possible(why));
        }
        let others = if account == OPERATORS { self.names()? } else { vec![OPERATORS.to_owned()] };
        for other in others.iter().filter(|other| *other != account) {
            if self.user(other, name)?.is_some() {
                let why = format!(
                    "`{name}` is a user of {other}; in a customer's history nobody could tell the two apart"
                );
                return Err(AccountError::not_possible(why));
            }
        }
        Ok(())
    }
}

/// Which account a user of a kind belongs to.
fn home_of(customer: Option<&CustomerId>, kind: UserKind) -> Result<&str, AccountError> {
    match (customer, kind) {
        (None, UserKind::Executor) => Ok(WAN),
        (None, UserKind::Operator | UserKind::Reader | UserKind::Approver) => Ok(OPERATORS),
        (Some(customer), UserKind::Tenant | UserKind::Approver | UserKind::Reader) => Ok(customer.as_str()),
        (None, UserKind::Tenant) => {
            Err(AccountError::not_possible("a tenant belongs to a customer: name it CUSTOMER/NAME"))
        }
        (Some(_), UserKind::Operator | UserKind::Executor) => {
            let why = format!(
                "a user of kind {} works for the whole fleet: name it without a customer",
                kind.name()
            );
            Err(AccountError::not_possible(why))
        }
    }
}
