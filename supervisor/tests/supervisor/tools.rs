use wanwright_supervisor::{find_postgres, find_python, find_terraform};

use crate::support::TempDir;

#[tokio::test]
async fn python_is_found_with_its_pip() {
    let python = find_python().await.unwrap();
    assert!(python.version.contains("with pip"), "{python}");
}

/// Whatever a machine has, the answer is one a person can act on.
#[tokio::test]
async fn what_is_found_or_missing_is_described() {
    let cache = TempDir::new();
    for answer in [find_terraform().await, find_postgres(&cache.join("cache")).await] {
        match answer {
            Ok(found) => assert!(found.to_string().contains(&found.version), "{found}"),
            Err(error) => assert!(error.to_string().contains("set WANWRIGHT_"), "{error}"),
        }
    }
}
