//! The folder of keys of one installation, and what is signed with them.
//!
//! ```text
//! operator.nk            the root key; needed again only to replace the signing key: keep it elsewhere
//! signing.nk             signs accounts; without it nobody can add or revoke accounts here
//! operator.jwt           what the server trusts
//! accounts/<name>.nk     signs the account's users        accounts/<name>.jwt    the account's claims
//! users/<account>/<user>.json   who there is             creds/<account>/<user>.creds   how they connect
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use nkeys::{KeyPair, KeyPairType};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use wanwright_schemas::{Actor, CustomerId};

use super::grants::RESERVED;
use super::{AccountError, Grants, OPERATORS, Role, SYS, UserKind, WAN, claims, creds, jwt, keys, server};

/// The user of the server's own account, which hands claims to the server.
const SYSTEM_USER: &str = "system";

/// The keys of an installation.
#[derive(Debug, Clone)]
pub struct Authority {
    dir: PathBuf,
    partitions: u16,
}

/// An account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountInfo {
    /// SYS, WAN, OPERATORS, or the customer.
    pub name: String,
    /// Its public key.
    pub key: String,
    /// How many users it has that are neither revoked nor expired.
    pub users: usize,
}

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

fn seconds(time: Timestamp) -> u64 {
    u64::try_from(time.as_second()).unwrap_or_default()
}

fn now() -> u64 {
    seconds(Timestamp::now())
}

impl Authority {
    /// The keys in a folder that has some.
    ///
    /// # Errors
    /// [`AccountError::NotPossible`] when it has none.
    pub fn open(dir: &Path, partitions: u16) -> Result<Self, AccountError> {
        if !dir.join("operator.jwt").is_file() {
            let why = format!("there are no keys in {}; `wanwright up` makes them", dir.display());
            return Err(AccountError::not_possible(why));
        }
        Ok(Self { dir: dir.to_owned(), partitions })
    }

    /// The keys in a folder, made where they are missing. The accounts and users of wanwright itself are signed anew,
    /// because another version of it may need other rights.
    pub fn open_or_make(dir: &Path, partitions: u16) -> Result<Self, AccountError> {
        keys::folder(dir)?;
        let authority = Self { dir: dir.to_owned(), partitions };
        let _lock = keys::lock(dir)?;
        let system = authority.account_key_or_new(SYS)?.public_key();
        if authority.operator_claims()?.is_none() {
            let root = keys::key_or_new(&dir.join("operator.nk"), KeyPairType::Operator)?;
            let signing = keys::key_or_new(&dir.join("signing.nk"), KeyPairType::Operator)?;
            let claims = claims::operator(&root.public_key(), &signing.public_key(), &system, now());
            keys::write(&dir.join("operator.jwt"), &jwt::encode(claims, &root)?)?;
        }
        for account in [SYS, WAN, OPERATORS] {
            authority.account_key_or_new(account)?;
        }
        // Whoever keeps the signing key elsewhere signs there.
        if authority.signing_key().is_ok() {
            for account in [SYS, WAN, OPERATORS] {
                authority.sign_account(account)?;
            }
        }
        let everything = Role::Admin.grants("", partitions);
        authority.keep_user(SYS, SYSTEM_USER, "system", &everything)?;
        for role in Role::ALL {
            authority.keep_user(WAN, role.name(), role.name(), &role.grants(role.name(), partitions))?;
        }
        Ok(authority)
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The credentials file of a role.
    pub fn role(&self, role: Role) -> PathBuf {
        self.creds(WAN, role.name())
    }

    /// Whether the root key is still beside the others.
    pub fn has_root(&self) -> bool {
        self.dir.join("operator.nk").exists()
    }

    /// The credentials file of the user that hands claims to the server.
    pub fn system(&self) -> PathBuf {
        self.creds(SYS, SYSTEM_USER)
    }

    /// The credentials file of a user.
    pub fn creds(&self, account: &str, user: &str) -> PathBuf {
        self.dir.join("creds").join(account).join(format!("{user}.creds"))
    }

    /// The server's configuration: whom it trusts, and the folder in which it keeps accounts.
    pub fn configuration(&self, accounts: &Path) -> Result<String, AccountError> {
        let operator = self.operator_claims()?.unwrap_or_default();
        let known = [SYS, WAN, OPERATORS].map(|name| Ok((self.public(name)?, self.claims_of(name)?)));
        let known = known.into_iter().collect::<Result<Vec<_>, AccountError>>()?;
        Ok(server::configuration(&operator, &self.public(SYS)?, accounts, &known))
    }

    /// Makes the streams of a server that had two logins those of the account WAN: the server keeps an account's streams
    /// under its key. Answers whether there were any.
    pub fn adopt(&self, streams: &Path) -> Result<bool, AccountError> {
        let (from, to) = (streams.join(WAN), streams.join(self.public(WAN)?));
        if !from.is_dir() || to.exists() {
            return Ok(false);
        }
        std::fs::rename(&from, &to).map_err(AccountError::file("move", &from))?;
        Ok(true)
    }

    /// Puts every account into the folder of a server that does not run, and takes out what is none any more. Answers
    /// how many there are.
    pub fn fill(&self, accounts: &Path) -> Result<usize, AccountError> {
        keys::folder(accounts)?;
        let names = self.names()?;
        let mut known = Vec::with_capacity(names.len());
        for name in names {
            let (file, claims) = (self.public(&name)?, self.claims_of(&name)?);
            let path = accounts.join(format!("{file}.jwt"));
            if keys::read(&path)?.as_deref() != Some(claims.as_str()) {
                keys::write(&path, &claims)?;
            }
            known.push(file);
        }
        for stale in keys::named(accounts, ".jwt")?.into_iter().filter(|name| !known.contains(name)) {
            let path = accounts.join(format!("{stale}.jwt"));
            std::fs::remove_file(&path).map_err(AccountError::file("remove", &path))?;
        }
        Ok(known.len())
    }

    /// Makes the account of a customer, or signs the one there is anew. Answers the claims, for the server.
    pub fn add_account(&self, customer: &CustomerId) -> Result<String, AccountError> {
        let _lock = keys::lock(&self.dir)?;
        self.account_key_or_new(customer.as_str())?;
        self.sign_account(customer.as_str())
    }

    /// Ends the account of a customer and all its users. Answers the operator's word, for the server. An account added
    /// later under the same name is another one: old credentials stay dead.
    pub fn revoke_account(&self, customer: &CustomerId) -> Result<String, AccountError> {
        let _lock = keys::lock(&self.dir)?;
        let name = customer.as_str();
        let public = self.public(name)?;
        let signing = self.signing_key()?;
        let word = jwt::encode(claims::delete(&signing.public_key(), &[public], now()), &signing)?;
        for path in [self.file(name, "jwt"), self.file(name, "nk")] {
            std::fs::remove_file(&path).map_err(AccountError::file("remove", &path))?;
        }
        for folder in ["users", "creds"].map(|part| self.dir.join(part).join(name)) {
            match std::fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(AccountError::file("remove", &folder)(error));
                }
                _ => {}
            }
        }
        Ok(word)
    }

    /// Every account, by name.
    pub fn accounts(&self) -> Result<Vec<AccountInfo>, AccountError> {
        let now = Timestamp::now();
        let info = |name: String| {
            let users = self.users_of(&name)?.iter().filter(|user| user.is_valid(now)).count();
            Ok(AccountInfo { key: self.public(&name)?, name, users })
        };
        self.names()?.into_iter().map(info).collect()
    }

    /// What an account's claims say, as the server reads them.
    pub fn account(&self, name: &str) -> Result<Value, AccountError> {
        jwt::decode(&self.claims_of(name)?)
    }

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

    fn file(&self, account: &str, ending: &str) -> PathBuf {
        self.dir.join("accounts").join(format!("{account}.{ending}"))
    }

    fn names(&self) -> Result<Vec<String>, AccountError> {
        keys::named(&self.dir.join("accounts"), ".jwt")
    }

    fn operator_claims(&self) -> Result<Option<String>, AccountError> {
        keys::read(&self.dir.join("operator.jwt"))
    }

    fn signing_key(&self) -> Result<KeyPair, AccountError> {
        let path = self.dir.join("signing.nk");
        keys::key(&path)?.ok_or_else(|| {
            let why = format!("{} is not here; accounts are signed where it is kept", path.display());
            AccountError::not_possible(why)
        })
    }

    fn account_key_or_new(&self, name: &str) -> Result<KeyPair, AccountError> {
        keys::key_or_new(&self.file(name, "nk"), KeyPairType::Account)
    }

    fn account_key(&self, name: &str) -> Result<KeyPair, AccountError> {
        keys::key(&self.file(name, "nk"))?.ok_or_else(|| {
            let how = format!("there is no account {name}; make it with `wanwright nats account add {name}`");
            AccountError::not_possible(how)
        })
    }

    fn public(&self, name: &str) -> Result<String, AccountError> {
        Ok(self.account_key(name)?.public_key())
    }

    fn claims_of(&self, name: &str) -> Result<String, AccountError> {
        let missing = || AccountError::not_possible(format!("there is no account {name}"));
        keys::read(&self.file(name, "jwt"))?.ok_or_else(missing)
    }

    /// Signs the claims of an account as they should be now.
    fn sign_account(&self, name: &str) -> Result<String, AccountError> {
        let signing = self.signing_key()?;
        let users = self.users_of(name)?;
        let keys = |user: UserInfo| user.former.into_iter().chain(user.revoked.map(|at| (user.key, at)));
        let revoked: BTreeMap<String, u64> = users.into_iter().flat_map(keys).collect();
        let before = keys::read(&self.file(name, "jwt"))?.and_then(|token| jwt::decode(&token).ok());
        let before = before.and_then(|claims| claims["iat"].as_u64()).unwrap_or_default();
        // Of two claims of one account the newer one counts, and they count in seconds.
        let issued = now().max(before + 1);
        let (public, wan) = (self.public(name)?, self.public(WAN)?);
        let claims = claims::account(name, &public, &wan, self.partitions, &revoked, issued);
        let token = jwt::encode(claims, &signing)?;
        keys::write(&self.file(name, "jwt"), &token)?;
        Ok(token)
    }

    /// A user of wanwright's own: the same key as before, with the rights of now.
    fn keep_user(&self, account: &str, name: &str, kind: &str, grants: &Grants) -> Result<(), AccountError> {
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
