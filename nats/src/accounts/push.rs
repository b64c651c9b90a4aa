//! Telling a running server what was signed. It cuts connections whose right has ended at once.

use std::time::Duration;

use async_nats::Client;
use serde_json::Value;

use super::{AccountError, jwt};

/// How long the server has to answer.
const WAIT: Duration = Duration::from_secs(10);

/// Hands the claims of an account to the server.
///
/// # Errors
/// [`AccountError::Push`] with the server's own words.
pub async fn update(system: &Client, claims: &str) -> Result<(), AccountError> {
    let account = jwt::decode(claims)?["name"].as_str().unwrap_or_default().to_owned();
    ask(system, "$SYS.REQ.CLAIMS.UPDATE", claims, account).await
}

/// Hands the operator's word to the server that an account is no more.
///
/// # Errors
/// [`AccountError::Push`] with the server's own words.
pub async fn delete(system: &Client, claims: &str, account: &str) -> Result<(), AccountError> {
    ask(system, "$SYS.REQ.CLAIMS.DELETE", claims, account.to_owned()).await
}

async fn ask(system: &Client, subject: &str, claims: &str, account: String) -> Result<(), AccountError> {
    let failed = |why: String| AccountError::Push { account: account.clone(), why };
    let asked = system.request(subject.to_owned(), claims.to_owned().into());
    let answer = tokio::time::timeout(WAIT, asked)
        .await
        .map_err(|_| failed(format!("it did not answer within {} s", WAIT.as_secs())))?
        .map_err(|error| failed(error.to_string()))?;
    let answer: Value = serde_json::from_slice(&answer.payload).map_err(|error| failed(error.to_string()))?;
    match answer.pointer("/data/code").and_then(Value::as_u64) {
        Some(200) => Ok(()),
        _ => Err(failed(answer.get("error").unwrap_or(&answer).to_string())),
    }
}
