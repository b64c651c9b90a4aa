//! What ten thousand accounts cost. Run by name, with `--ignored --nocapture`.

use std::time::Instant;

use wanwright_nats::accounts::{Authority, UserKind, push};
use wanwright_supervisor::{NatsOptions, SyncInterval};

use crate::world::{LIMIT, PARTITIONS, World, start};

const ACCOUNTS: usize = 10_000;

/// Resident memory of a process, in MiB.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

fn say(what: &str, began: Instant) {
    eprintln!("    {what}: {:.2} s", began.elapsed().as_secs_f64());
}

#[tokio::test]
#[ignore = "takes half a minute; prints figures"]
async fn ten_thousand_accounts() {
    let mut world = World::new().await;
    eprintln!("    empty server: {} MiB", resident(world.server.child().id()));
    let began = Instant::now();
    let claims: Vec<String> = (0..ACCOUNTS)
        .map(|number| world.authority.add_account(&format!("tenant-{number}").parse().unwrap()).unwrap())
        .collect();
    say("signed and written", began);
    let system = world.system().await;
    let began = Instant::now();
    for claims in &claims {
        push::update(&system, claims).await.unwrap();
    }
    say("pushed, one after the other", began);
    eprintln!("    server that was told: {} MiB", resident(world.server.child().id()));
    let creds = world.user("tenant-9999/anna", UserKind::Tenant, None);
    let began = Instant::now();
    let anna = world.connect(creds.clone()).await;
    say("a tenant connects", began);
    drop(anna);

    world.server.stop(LIMIT).await;
    let began = Instant::now();
    let accounts = world.dir.path().join("nats/accounts");
    assert_eq!(world.authority.fill(&accounts).unwrap(), ACCOUNTS + 3);
    say("compared before a start", began);
    let began = Instant::now();
    world.server = start(world.dir.path(), &world.authority).await;
    say("compared and started again", began);
    eprintln!("    server that started: {} MiB", resident(world.server.child().id()));

    // Every tenant connects once, so that the server has every account in use.
    let began = Instant::now();
    let mut clients = Vec::new();
    for number in (0..ACCOUNTS).step_by(10) {
        let creds = world.user(&format!("tenant-{number}/ann"), UserKind::Tenant, None);
        clients.push(world.connect(creds).await);
    }
    say("a tenth of them connected", began);
    eprintln!("    server with {} connections: {} MiB", clients.len(), resident(world.server.child().id()));
    drop(clients);
    world.server.stop(LIMIT).await;

    // A server that has never seen them.
    let fresh = tempfile::tempdir().unwrap();
    let began = Instant::now();
    let keys = Authority::open(world.authority.dir(), PARTITIONS).unwrap();
    let accounts = fresh.path().join("accounts");
    keys.fill(&accounts).unwrap();
    say("written for a fresh server", began);
    let mut options =
        NatsOptions::new(fresh.path(), std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("programs"));
    options.sync_interval = SyncInterval::Lazy;
    options.authority = Some(keys.configuration(&accounts).unwrap());
    let began = Instant::now();
    let server = wanwright_supervisor::Nats::start(&options).await.unwrap();
    say("a fresh server started", began);
    server.stop(LIMIT).await;
}
