//! Customers with accounts of their own: each call has its account's credential, and is counted against its budget.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use wanwright_executors::gateway::{AccountKey, Admission, Gateway, NoLane, RunContext};
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
    let accounts = accounts(dir, |customer| format!("{customer}s-token\n"));
    World::with(&format!("per_second = 50\nburst = 5\n{accounts}"), 50, 5).await
}

/// What a folder says about accounts for two customers.
fn accounts(dir: &std::path::Path, token: impl Fn(&str) -> String) -> String {
    let account = |customer: &str| {
        let file = dir.join(customer);
        std::fs::write(&file, token(customer)).unwrap();
        let file = file.display();
        format!(
            "[accounts.{customer}-own]\nfile = \"{file}\"\nbudget = \"{customer}\"\ncustomers = [\"{customer}\"]\n"
        )
    };
    account("acme") + &account("globex")
}

fn own(customer: &str) -> RunContext {
    context(customer, account(&format!("{customer}-own"), customer))
}

/// A limit of 10 calls a second for everybody behind one address.
const FROM_HERE: &str = "per_second = 50\nburst = 50\n\
                         [budget.limits.from-here]\nper_second = 10\nburst = 10\nscope = \"address\"\n";

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
    let mut statuses = Vec::new();
    while statuses.last() != Some(&503) {
        statuses.push(called(&world, &gateway, own("acme")).await);
    }
    // A call that has its slot already when the tenth fails still leaves.
    assert!((11..=14).contains(&statuses.len()), "ten failures open it: {statuses:?}");
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_behind_one_address_spend_one_limit() {
    let dir = tempfile::tempdir().unwrap();
    let accounts = accounts(dir.path(), |_| "the-vendors-token".to_owned());
    // The vendor counts by the address: 10 a second, whoever calls.
    let world = World::with(&format!("{FROM_HERE}{accounts}"), 10, 10).await;
    let processes = [world.process().await, world.process().await];
    let mut calling = JoinSet::new();
    for number in 0..90 {
        let run = match number % 3 {
            0 => own("acme"),
            1 => own("globex"),
            _ => context("initech", None),
        };
        let opened = processes[number % 2].gateway.open(run);
        let http = world.http.clone();
        calling.spawn(async move {
            let url = format!("{}/v1/sites", opened.base_url());
            http.get(url).send().await.unwrap().status().as_u16()
        });
    }
    let statuses = calling.join_all().await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    let stats = world.stats().await.totals;
    assert_eq!((stats.calls, stats.above_limit), (90, 0), "{stats:?}");
    processes.iter().for_each(|process| process.stop.cancel());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_one_address_each_account_has_its_own_limits_and_breaker() {
    let dir = tempfile::tempdir().unwrap();
    let accounts = accounts(dir.path(), |customer| format!("{customer}s-token"));
    let world = World::with(&format!("{FROM_HERE}{accounts}"), 50, 5).await;
    let vendor = StandIn::start(|heard: &Heard| match heard.header("authorization") {
        "Bearer acmes-token" => answer(500, "{}"),
        _ => answer(200, "{}"),
    })
    .await;
    let Process { gateway, stop } = world.process_to(&vendor.url).await;
    // So many wait together that some are behind the address's limit when the account's breaker opens.
    let (run, mut calling) = (own("acme"), JoinSet::new());
    for _ in 0..40 {
        let (opened, http) = (gateway.open(run.clone()), world.http.clone());
        calling.spawn(async move {
            let url = format!("{}/v1/sites", opened.base_url());
            http.get(url).send().await.unwrap().status().as_u16()
        });
    }
    let statuses = calling.join_all().await;
    let failed = statuses.iter().filter(|status| **status == 500).count();
    assert!((10..25).contains(&failed), "ten failures open it, and who waits is sent away: {statuses:?}");
    assert_eq!(tokens(&vendor).len(), failed, "the others were not made");
    assert_eq!(called(&world, &gateway, own("globex")).await, 200);
    assert_eq!(called(&world, &gateway, context("initech", None)).await, 200);
    let key = |customer: &str| AccountKey { vendor: "simwan".parse().unwrap(), budget: customer.to_owned() };
    let standings = gateway.standings().0;
    let standing = |customer: &str| {
        let found = standings.iter().find(|(account, _)| *account == key(customer)).unwrap();
        found.1.borrow().clone()
    };
    assert!(matches!(standing("acme").admission, Admission::HeldBack { .. }), "{:?}", standing("acme"));
    assert_eq!(standing("globex").admission, Admission::Open);
    // One record has the limits of all.
    let limits =
        |customer: &str| standing(customer).limits.into_iter().map(|limit| limit.name).collect::<Vec<_>>();
    assert_eq!(limits("acme"), ["calls@acme", "from-here@shared"]);
    assert_eq!(limits("globex"), ["calls@globex", "from-here@shared"]);
    let budgets = Budgets::open(&world.nats).await.unwrap();
    let stored = budgets.get("simwan._address").await.unwrap().unwrap();
    let record: serde_json::Value = serde_json::from_slice(&stored.value).unwrap();
    let names: Vec<&String> = record["limits"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["calls@acme", "calls@default", "calls@globex", "from-here@shared"]);
    stop.cancel();
}
