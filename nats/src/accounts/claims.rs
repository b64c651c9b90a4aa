//! What the claims of operator, accounts and users say.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use wanwright_schemas::{services, subjects};

use super::{Grants, OPERATORS, SYS, WAN};
use crate::topology;

/// What a customer's account may use at most. A single customer must not exhaust the server for the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountLimits {
    /// Connections at once.
    pub connections: i64,
    /// Subscriptions of all its connections.
    pub subscriptions: i64,
    /// Bytes of one message.
    pub payload: i64,
}

impl Default for AccountLimits {
    /// 200 connections, 2,000 subscriptions, 4 MiB: larger than a body may be, so that a body which is too large gets
    /// its refusal and not a closed connection.
    fn default() -> Self {
        Self { connections: 200, subscriptions: 2000, payload: 4 << 20 }
    }
}

/// Where each server tells how it stores, of all that it would tell its own account.
const SERVERS_STORAGE: &str = "$SYS.REQ.SERVER.PING.JSZ";

/// Unlimited, as claims write it.
const NO_LIMIT: i64 = -1;

/// The operator: its signing keys and the server's own account.
pub(super) fn operator(public: &str, signing: &str, system: &str, issued: u64) -> Value {
    json!({
        "iat": issued, "sub": public, "name": "wanwright",
        "nats": { "type": "operator", "version": 2, "signing_keys": [signing], "system_account": system }
    })
}

/// An account. `wan` is the public key of the account WAN, which the others import from; `system` that of the servers' own.
pub(super) fn account(
    name: &str,
    public: &str,
    wan: &str,
    system: &str,
    partitions: u16,
    revoked: &BTreeMap<String, u64>,
    issued: u64,
) -> Value {
    let mut nats = json!({
        "type": "account", "version": 2,
        "limits": limits(name), "default_permissions": { "pub": {}, "sub": {} },
    });
    match name {
        SYS => nats["exports"] = json!([service(SERVERS_STORAGE, "Stream")]),
        WAN => {
            nats["exports"] = exports();
            let servers =
                import(system, "service", SERVERS_STORAGE.to_owned(), Some(topology::SERVERS.to_owned()));
            nats["imports"] = json!([servers]);
            nats["mappings"] = mappings(partitions);
        }
        OPERATORS => nats["imports"] = imports(wan, "*"),
        customer => nats["imports"] = imports(wan, customer),
    }
    if !revoked.is_empty() {
        nats["revocations"] = json!(revoked);
    }
    json!({ "iat": issued, "sub": public, "name": name, "nats": nats })
}

fn limits(name: &str) -> Value {
    let tenant = AccountLimits::default();
    let own = matches!(name, SYS | WAN | OPERATORS);
    let limit = |limit: i64| if own { NO_LIMIT } else { limit };
    let stored = if name == WAN { NO_LIMIT } else { 0 };
    json!({
        "conn": limit(tenant.connections), "subs": limit(tenant.subscriptions), "payload": limit(tenant.payload),
        "data": NO_LIMIT, "leaf": if name == SYS { NO_LIMIT } else { 0 },
        "imports": NO_LIMIT, "exports": NO_LIMIT, "wildcards": true, "disallow_bearer": true,
        "mem_storage": stored, "disk_storage": stored, "streams": stored, "consumer": stored,
    })
}

fn service(subject: &str, answers: &str) -> Value {
    json!({ "name": subject, "subject": subject, "type": "service", "response_type": answers })
}

fn import(account: &str, kind: &str, subject: String, local: Option<String>) -> Value {
    let mut import = json!({ "name": subject, "subject": subject, "account": account, "type": kind });
    if let Some(local) = local {
        import["local_subject"] = json!(local);
    }
    import
}

/// What WAN offers: the doors and the services, each answering once, and what changed.
fn exports() -> Value {
    let service = |subject: &str| service(subject, "Singleton");
    json!([
        service(subjects::DO_ALL),
        service(services::SUBMIT_ALL),
        service(services::HISTORY_ALL),
        service(services::OUTCOME_ALL),
        service(services::CONTROL_ALL),
        service(subjects::EXPLAIN),
        service(subjects::EXPLAIN_ALL),
        { "name": services::LIVE_ALL, "subject": services::LIVE_ALL, "type": "stream" },
    ])
}

/// What an account takes of that: what is the customer's own. The durable door is called `wan.cmd` on this side, as
/// everywhere; on the other side the ingress is behind it, not the inbox.
fn imports(wan: &str, customer: &str) -> Value {
    let import = |kind: &str, subject: String, local: Option<String>| import(wan, kind, subject, local);
    // A renamed subject must name its wildcards by number; the whole fleet's needs none.
    let of = |door: &str| {
        if customer == "*" { format!("wan.{door}.>") } else { format!("wan.{door}.{customer}.>") }
    };
    let mut imports = json!([
        import("service", of("do"), None),
        import("service", of("submit"), Some(of("cmd"))),
        import("service", format!("wan.history.{customer}.*"), None),
        import("service", format!("wan.outcome.{customer}.*"), None),
        import("service", subjects::EXPLAIN.to_owned(), None),
        import("service", subjects::EXPLAIN_ALL.to_owned(), None),
        import("stream", of("live"), None),
    ]);
    if let (true, Some(imports)) = (customer == "*", imports.as_array_mut()) {
        // A customer's account has no way to what it does not import.
        imports.push(import("service", services::CONTROL_ALL.to_owned(), None));
    }
    imports
}

/// How the server hands requests to the partition of their customer.
fn mappings(partitions: u16) -> Value {
    let (from, to) = subjects::decide_mapping(partitions);
    json!({ from: [{ "subject": to, "weight": 100 }] })
}

/// A user. It ends at `expires`, in seconds since 1970.
pub(super) fn user(name: &str, public: &str, grants: &Grants, issued: u64, expires: Option<u64>) -> Value {
    let allowed = |subjects: &[String]| match subjects {
        [] => json!({}),
        subjects => json!({ "allow": subjects }),
    };
    let mut claims = json!({
        "iat": issued, "sub": public, "name": name,
        "nats": {
            "type": "user", "version": 2, "subs": NO_LIMIT, "data": NO_LIMIT, "payload": NO_LIMIT,
            "pub": allowed(&grants.publish), "sub": allowed(&grants.subscribe),
            "allowed_connection_types": ["STANDARD"],
        }
    });
    if let Some(expires) = expires {
        claims["exp"] = json!(expires);
    }
    claims
}

/// The operator's word that accounts are no more.
pub(super) fn delete(operator: &str, accounts: &[String], issued: u64) -> Value {
    json!({ "iat": issued, "sub": operator, "nats": { "type": "generic", "version": 2, "accounts": accounts } })
}
