//! The folder of keys of one installation, and what is signed with them.
//!
//! ```text
//! operator.nk            the root key; needed again only to replace the signing key: keep it elsewhere
//! signing.nk             signs accounts; without it nobody can add or revoke accounts here
//! operator.jwt           what the server trusts
//! partitions             over how many partitions customers are spread: roles may read that many streams
//! accounts/<name>.nk     signs the account's users        accounts/<name>.jwt    the account's claims
//! users/<account>/<user>.json   who there is             creds/<account>/<user>.creds   how they connect
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nkeys::{KeyPair, KeyPairType};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use wanwright_schemas::CustomerId;

use super::users::UserInfo;
use super::{AccountError, OPERATORS, Role, SYS, WAN, claims, jwt, keys, server};

/// The user of the server's own account, which hands claims to the server.
const SYSTEM_USER: &str = "system";

/// The keys of an installation.
#[derive(Debug, Clone)]
pub struct Authority {
    pub(super) dir: PathBuf,
    pub(super) partitions: u16,
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

/// The file with the partition count.
const COUNT: &str = "partitions";

/// The count that was noted; `usual` where none was.
fn counted(dir: &Path, usual: u16) -> Result<u16, AccountError> {
    let noted = keys::read(&dir.join(COUNT))?;
    Ok(noted.and_then(|text| text.trim().parse().ok()).unwrap_or(usual))
}

pub(super) fn seconds(time: Timestamp) -> u64 {
    u64::try_from(time.as_second()).unwrap_or_default()
}

pub(super) fn now() -> u64 {
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
        Ok(Self { dir: dir.to_owned(), partitions: counted(dir, partitions)? })
    }

    /// The keys in a folder, made where they are missing. The accounts and users of wanwright itself are signed anew,
    /// because another version of it may need other rights.
    pub fn open_or_make(dir: &Path, partitions: u16) -> Result<Self, AccountError> {
        keys::folder(dir)?;
        let partitions = counted(dir, partitions)?;
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

    /// Over how many partitions customers are spread, as far as these keys know.
    pub fn partitions(&self) -> u16 {
        self.partitions
    }

    /// Notes another partition count and signs anew what depends on it.
    pub fn recounted(&self, partitions: u16) -> Result<Self, AccountError> {
        keys::write(&self.dir.join(COUNT), &partitions.to_string())?;
        Self::open_or_make(&self.dir, partitions)
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

    fn file(&self, account: &str, ending: &str) -> PathBuf {
        self.dir.join("accounts").join(format!("{account}.{ending}"))
    }

    pub(super) fn names(&self) -> Result<Vec<String>, AccountError> {
        keys::named(&self.dir.join("accounts"), ".jwt")
    }

    fn operator_claims(&self) -> Result<Option<String>, AccountError> {
        keys::read(&self.dir.join("operator.jwt"))
    }

    pub(super) fn signing_key(&self) -> Result<KeyPair, AccountError> {
        let path = self.dir.join("signing.nk");
        keys::key(&path)?.ok_or_else(|| {
            let why = format!("{} is not here; accounts are signed where it is kept", path.display());
            AccountError::not_possible(why)
        })
    }

    fn account_key_or_new(&self, name: &str) -> Result<KeyPair, AccountError> {
        keys::key_or_new(&self.file(name, "nk"), KeyPairType::Account)
    }

    pub(super) fn account_key(&self, name: &str) -> Result<KeyPair, AccountError> {
        keys::key(&self.file(name, "nk"))?.ok_or_else(|| {
            let how = format!("there is no account {name}; make it with `wanwright nats account add {name}`");
            AccountError::not_possible(how)
        })
    }

    fn public(&self, name: &str) -> Result<String, AccountError> {
        Ok(self.account_key(name)?.public_key())
    }

    /// The signed claims of an account, for the server.
    pub fn claims_of(&self, name: &str) -> Result<String, AccountError> {
        let missing = || AccountError::not_possible(format!("there is no account {name}"));
        keys::read(&self.file(name, "jwt"))?.ok_or_else(missing)
    }

    /// Signs the claims of an account as they should be now.
    pub(super) fn sign_account(&self, name: &str) -> Result<String, AccountError> {
        let signing = self.signing_key()?;
        let users = self.users_of(name)?;
        let keys = |user: UserInfo| user.former.into_iter().chain(user.revoked.map(|at| (user.key, at)));
        let revoked: BTreeMap<String, u64> = users.into_iter().flat_map(keys).collect();
        let before = keys::read(&self.file(name, "jwt"))?.and_then(|token| jwt::decode(&token).ok());
        let before = before.and_then(|claims| claims["iat"].as_u64()).unwrap_or_default();
        // Of two claims of one account the newer one counts, and they count in seconds.
        let issued = now().max(before + 1);
        let (public, wan, system) = (self.public(name)?, self.public(WAN)?, self.public(SYS)?);
        let claims = claims::account(name, &public, &wan, &system, self.partitions, &revoked, issued);
        let token = jwt::encode(claims, &signing)?;
        keys::write(&self.file(name, "jwt"), &token)?;
        Ok(token)
    }
}
