//! Customers with accounts of their own: each call has its account's credential, and is counted against its budget.

use std::time::{Duration, Instant};

use wanwright_executors::gateway::{Gateway, NoLane, RunContext};
use wanwright_nats::Budgets;
use wanwright_schemas::Reason;
use wanwright_schemas::policy::{Account, Name};

use crate::standin::{Heard, StandIn, answer};
use crate::world::{Process, World};

fn account(credential: &str, budget: &str) -> Option<Account> {
    let name = |text: &str| Name::try_from(text.to_owned()).unwrap();
    Some(Account { credential: name(credential), budget: name(budget) })
}

fn context(customer: &str, account: Option<Account>) -> RunContext {
    RunContext { customer: customer.parse().unwrap(), account, ..World::context("edge-01") }
}

/// A folder with an account for each of two customers, whose secrets are in files.
async fn world(dir: &std::path::Path) -> World {
    let account = |customer: &str| {
        let file = dir.join(customer);
        std::fs::write(&file, format!("{customer}s-token\n")).unwrap();
        let file = file.display();
        format!(
            "[accounts.{customer}-own]\nfile = \"{file}\"\nbudget = \"{customer}\"\ncustomers = [\"{customer}\"]\n"
        )
    };
    let accounts = account("acme") + &account("globex");
    World::with(&format!("per_second = 50\nburst = 5\n{accounts}"), 50, 5).await
}

async fn called(world: &World, gateway: &Gateway, context: RunContext) -> u16 {
    let opened = gateway.open(context);
    let url = format!("{}/v1/sites", opened.base_url());
    world.http.get(url).send().await.unwrap().status().as_u16()
}

fn tokens(vendor: &StandIn) -> Vec<String> {
    vendor.heard().iter().map(|heard| heard.header("authorization").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_call_has_its_own_accounts_token_and_a_penalty_stops_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(dir.path()).await;
    let vendor = StandIn::start(|heard: &Heard| match heard.header("authorization") {
        "Bearer acmes-token" => {
            let mut busy = answer(429, "{}");
            busy.headers_mut().insert("retry-after", 60.into());
            busy
        }
        _ => answer(200, r#"{"items":[],"next":null}"#),
    })
    .await;
    let Process { gateway, stop } = world.process_to(&vendor.url).await;
    let own = |customer: &str| context(customer, account(&format!("{customer}-own"), customer));
    assert_eq!(called(&world, &gateway, own("acme")).await, 429);
    let began = Instant::now();
    for _ in 0..3 {
        assert_eq!(called(&world, &gateway, own("globex")).await, 200);
        assert_eq!(called(&world, &gateway, context("initech", None)).await, 200);
    }
    assert!(began.elapsed() < Duration::from_secs(20), "nobody else was asked to wait");
    let tokens = tokens(&vendor);
    let count = |token: &str| tokens.iter().filter(|heard| *heard == token).count();
    let counts =
        ["acmes-token", "globexs-token", "the-vendors-token"].map(|token| count(&format!("Bearer {token}")));
    assert_eq!((counts, tokens.len()), ([1, 3, 3], 7));
    // Each has a record of its own; the first one's alone is blocked.
    let budgets = Budgets::open(&world.nats).await.unwrap();
    for (key, blocked) in [("acme", true), ("globex", false), ("default", false)] {
        let stored = budgets.get(&format!("simwan.{key}")).await.unwrap().unwrap();
        let record: serde_json::Value = serde_json::from_slice(&stored.value).unwrap();
        assert_eq!(record["limits"]["calls"]["blocked"].is_i64(), blocked, "{key}: {record}");
    }
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_accounts_breaker_is_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(dir.path()).await;
    let vendor = StandIn::start(|heard: &Heard| match heard.header("authorization") {
        "Bearer acmes-token" => answer(401, r#"{"error":{"message":"acmes-token is no token"}}"#),
        _ => answer(200, "{}"),
    })
    .await;
    let Process { gateway, stop } = world.process_to(&vendor.url).await;
    let own = |customer: &str| context(customer, account(&format!("{customer}-own"), customer));
    let mut statuses = Vec::new();
    while statuses.last() != Some(&503) {
        statuses.push(called(&world, &gateway, own("acme")).await);
    }
    assert_eq!(statuses.len(), 11, "ten failures open it: {statuses:?}");
    assert_eq!(called(&world, &gateway, own("globex")).await, 200);
    assert_eq!(called(&world, &gateway, context("initech", None)).await, 200);
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_is_used_by_its_customers_and_with_its_budget_only() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(dir.path()).await;
    let vendor = StandIn::start(|_: &Heard| answer(200, "{}")).await;
    let Process { gateway, stop } = world.process_to(&vendor.url).await;
    for (customer, credential, budget) in
        [("globex", "acme-own", "acme"), ("acme", "acme-own", "globex"), ("acme", "nobodys", "acme")]
    {
        let run = context(customer, account(credential, budget));
        let Err(NoLane::Refused(refusal)) = gateway.reaches(&run) else { panic!("{customer} {credential}") };
        assert_eq!(refusal.code, Reason::UnknownAccount);
        assert_eq!(called(&world, &gateway, run).await, 503, "a call comes to the same");
    }
    // A secret that is not there yet is waited for, without a restart.
    std::fs::remove_file(dir.path().join("acme")).unwrap();
    let run = context("acme", account("acme-own", "acme"));
    let Err(NoLane::Away(refusal)) = gateway.reaches(&run) else { panic!("it is there") };
    assert_eq!(refusal.code, Reason::CredentialMissing);
    std::fs::write(dir.path().join("acme"), "acmes-other-token").unwrap();
    assert_eq!(called(&world, &gateway, run.clone()).await, 200);
    std::fs::write(dir.path().join("acme"), "acmes-third-token!").unwrap();
    assert_eq!(called(&world, &gateway, run).await, 200);
    assert_eq!(tokens(&vendor), ["Bearer acmes-other-token", "Bearer acmes-third-token!"]);
    stop.cancel();
}
