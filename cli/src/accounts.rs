//! `wanwright nats account` and `wanwright nats user`: who may do what.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use wanwright_nats::Access;
use wanwright_nats::accounts::{AccountInfo, Authority, OPERATORS, UserInfo, UserKind, WAN, push};
use wanwright_schemas::subjects::PARTITIONS;
use wanwright_schemas::{Actor, CustomerId};

use crate::cli::{AccountWhat, Connection, KindOfUser, UserWhat};
use crate::endpoints::Endpoints;
use crate::exit::{Exit, Usage};
use crate::output;

/// What is to be told to the server.
enum News {
    /// The claims of an account.
    Account(String),
    /// An account is no more.
    Gone(String, String),
}

fn keys(connection: &Connection) -> Result<Authority> {
    Ok(Authority::open(&keys_dir(connection)?, PARTITIONS)?)
}

fn keys_dir(connection: &Connection) -> Result<PathBuf> {
    Ok(std::path::absolute(connection.home.home.join("keys"))?)
}

/// The same keys with this partition count: roles may read as many streams, and the server's mapping hands requests to as
/// many partitions.
pub async fn recounted(keys: Authority, url: &str, partitions: u16) -> Result<Authority> {
    if keys.partitions() == partitions {
        return Ok(keys);
    }
    let keys = keys.recounted(partitions)?;
    let system = Access::with_creds(url, keys.system());
    let system = wanwright_nats::connect(system, "wanwright-accounts", partitions).await?;
    push::update(&system.client, &keys.claims_of(WAN)?).await?;
    Ok(keys)
}

fn customer(text: &str) -> Result<CustomerId> {
    text.parse().map_err(|error| Usage(format!("{error}")).into())
}

/// Tells the server, if one runs: it begins with what is in the folder of keys.
async fn tell(connection: &Connection, keys: &Authority, news: News) -> Result<()> {
    let url = match (&connection.nats, Endpoints::read(&connection.home.home)) {
        (Some(url), _) => url.clone(),
        (None, Ok(endpoints)) => endpoints.nats,
        (None, Err(_)) => {
            output::note("no server runs here; the next one that starts with these keys knows it");
            return Ok(());
        }
    };
    let access = Access { tls: connection.tls(), ..Access::with_creds(url, keys.system()) };
    let system = wanwright_nats::connect(access, "wanwright-accounts", PARTITIONS).await?;
    match news {
        News::Account(claims) => push::update(&system.client, &claims).await?,
        News::Gone(claims, account) => push::delete(&system.client, &claims, &account).await?,
    }
    Ok(())
}

/// Accounts.
pub async fn account(connection: &Connection, what: &AccountWhat) -> Result<Exit> {
    let keys = match (what, keys(connection)) {
        // The first thing that a server needs which `up` does not start.
        (AccountWhat::Config { .. }, Err(_)) => Authority::open_or_make(&keys_dir(connection)?, PARTITIONS)?,
        (_, keys) => keys?,
    };
    match what {
        AccountWhat::Add { customer: name } => {
            let claims = keys.add_account(&customer(name)?)?;
            tell(connection, &keys, News::Account(claims)).await?;
            output::line(format!("account {name}"));
            output::note(format!("somebody who uses it: wanwright nats user add {name}/NAME --kind tenant"));
        }
        AccountWhat::List => {
            let row = |account: AccountInfo| vec![account.name, account.users.to_string(), account.key];
            let rows = keys.accounts()?.into_iter().map(row).collect();
            output::line(output::table(&["account", "users", "key"], rows));
        }
        AccountWhat::Show { account } => output::line(serde_json::to_string_pretty(&keys.account(account)?)?),
        AccountWhat::Revoke { customer: name } => {
            let word = keys.revoke_account(&customer(name)?)?;
            tell(connection, &keys, News::Gone(word, name.clone())).await?;
            output::line(format!("account {name} is no more; its history is untouched"));
        }
        AccountWhat::Config { dir } => output::line(keys.configuration(&std::path::absolute(dir)?)?),
    }
    Ok(Exit::Done)
}

/// Users.
pub async fn user(connection: &Connection, what: &UserWhat) -> Result<Exit> {
    let keys = keys(connection)?;
    match what {
        UserWhat::Add { user, kind, out, expires } => {
            let (of, name) = named(user)?;
            let expires = expires.as_deref().map(time).transpose()?;
            let out = out.as_ref().map(std::path::absolute).transpose()?;
            let creds = keys.add_user(of.as_ref(), &name, kind.of(), expires, out.as_deref())?;
            // Claims of an account name no users, so the server need not be told.
            output::line(creds.display());
            output::note(format!("other clients need its inbox prefix too: _INBOX.{name}"));
        }
        UserWhat::List { customer } => {
            let names = match customer {
                Some(name) => vec![name.clone()],
                None => keys.accounts()?.into_iter().map(|account| account.name).collect(),
            };
            let mut rows = Vec::new();
            for name in names {
                rows.extend(keys.users_of(&name)?.into_iter().map(row));
            }
            output::line(output::table(&["account", "user", "kind", "state", "key"], rows));
        }
        UserWhat::Revoke { user } => {
            let (of, name) = named(user)?;
            let account = match &of {
                Some(customer) => customer.as_str(),
                None if keys.users_of(WAN)?.iter().any(|user| user.name == name.as_str()) => WAN,
                None => OPERATORS,
            };
            let claims = keys.revoke_user(account, name.as_str())?;
            tell(connection, &keys, News::Account(claims)).await?;
            output::line(format!("user {user} is revoked"));
        }
    }
    Ok(Exit::Done)
}

fn row(user: UserInfo) -> Vec<String> {
    let at = |seconds: u64| {
        let time = std::time::UNIX_EPOCH + Duration::from_secs(seconds);
        jiff::Timestamp::try_from(time).map(|time| format!("{time:.0}")).unwrap_or_default()
    };
    let state = match (user.revoked, user.expires) {
        (Some(time), _) => format!("revoked {}", at(time)),
        (None, Some(time)) if user.is_valid(jiff::Timestamp::now()) => format!("valid until {}", at(time)),
        (None, Some(time)) => format!("expired {}", at(time)),
        (None, None) => "valid".to_owned(),
    };
    vec![user.account, user.name, user.kind, state, user.key]
}

/// CUSTOMER/NAME or NAME.
fn named(text: &str) -> Result<(Option<CustomerId>, Actor)> {
    let (of, name) = match text.split_once('/') {
        Some((of, name)) => (Some(customer(of)?), name),
        None => (None, text),
    };
    Ok((of, name.parse().map_err(|error| Usage(format!("{error}")))?))
}

/// A time as people write it: 30d, 12h, 90m, 45s.
fn time(text: &str) -> Result<Duration> {
    let wrong = || Usage(format!("--expires {text}: write a number and d, h, m or s, for example 30d"));
    let split =
        text.len().checked_sub(1).filter(|split| text.is_char_boundary(*split)).with_context(wrong)?;
    let (number, unit) = text.split_at(split);
    let seconds = match unit {
        "d" => 24 * 60 * 60,
        "h" => 60 * 60,
        "m" => 60,
        "s" => 1,
        _ => return Err(wrong().into()),
    };
    let number: u64 =
        number.parse().ok().filter(|number| (1..=36_500).contains(number)).with_context(wrong)?;
    Ok(Duration::from_secs(number * seconds))
}

impl KindOfUser {
    fn of(self) -> UserKind {
        match self {
            Self::Tenant => UserKind::Tenant,
            Self::Operator => UserKind::Operator,
            Self::Approver => UserKind::Approver,
            Self::Executor => UserKind::Executor,
            Self::Reader => UserKind::Reader,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        assert_eq!(time("30d").ok(), Some(Duration::from_secs(30 * 24 * 60 * 60)));
        assert_eq!(time("45s").ok(), Some(Duration::from_secs(45)));
        for wrong in ["", "d", "30", "30w", "-1d", "0d", "3ü", "99999999999999999999d"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }
}
