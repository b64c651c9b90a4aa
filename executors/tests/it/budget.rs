//! One budget over several gateways, each with a connection of its own, against the vendor's own count.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use wanwright_executors::gateway::{Admission, Expected, Gateway, Priority, RunContext, Standing};
use wanwright_schemas::order::Intent;
use wanwright_schemas::{CustomerId, VendorId};

use crate::world::{Process, World};

const PLAIN: &str = "per_second = 50\nburst = 50\n";

fn vendor() -> VendorId {
    "simwan".parse().unwrap()
}

fn context(customer: &str, priority: Priority) -> RunContext {
    let customer: CustomerId = customer.parse().unwrap();
    RunContext { customer, priority, ..World::context("edge-01") }
}

/// Calls one after the other, as long as they are answered; how many were.
async fn call_on(http: reqwest::Client, gateway: Gateway, context: RunContext, calls: Arc<AtomicU64>) {
    let opened = gateway.open(context);
    loop {
        let answer = http.get(format!("{}/v1/sites", opened.base_url())).send().await;
        if !answer.is_ok_and(|answer| answer.status() == 200) {
            return;
        }
        calls.fetch_add(1, Ordering::Relaxed);
    }
}

async fn level(gateway: &Gateway, reached: impl Fn(&Standing) -> bool) -> Standing {
    let mut standing = gateway.watch(&vendor()).unwrap();
    let reached = standing.wait_for(|standing| reached(standing));
    tokio::time::timeout(Duration::from_secs(20), reached).await.expect("in time").unwrap().clone()
}

/// Calls through so many gateways for a while, half-way one of several dies: the share of the vendor's rate that was
/// used, and operations at the NATS server for 1,000 calls.
async fn used(world: &World, processes: &[Process], time: Duration) -> (f64, u64) {
    let calls = Arc::new(AtomicU64::new(0));
    let mut callers = JoinSet::new();
    for process in processes {
        for caller in 0..16 {
            let context = context(&format!("customer-{caller}"), Priority::Intent);
            callers.spawn(call_on(world.http.clone(), process.gateway.clone(), context, Arc::clone(&calls)));
        }
    }
    let at_least = async |wanted: u64| {
        while calls.load(Ordering::Relaxed) < wanted {
            tokio::task::yield_now().await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    at_least(50).await;
    let (began, before) = (Instant::now(), world.stats().await.totals.calls);
    tokio::time::sleep(time / 2).await;
    if let [_, .., last] = processes {
        last.stop.cancel();
    }
    tokio::time::sleep_until(began + time).await;
    let (took, after) = (began.elapsed(), world.stats().await.totals.calls);
    callers.shutdown().await;
    let standings = processes.iter().map(|process| process.gateway.standing(&vendor()).unwrap());
    let (operations, slots) = standings.fold((0, 0), |(operations, slots), standing| {
        (operations + standing.operations(), slots + standing.counts.calls)
    });
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let share = (after - before) as f64 / (50.0 * took.as_secs_f64());
    (share, operations * 1000 / slots.max(1))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_and_four_processes_use_the_budget_and_none_of_it_twice() {
    let world = World::with(PLAIN, 50, 50).await;
    for count in [1, 4] {
        let mut processes = Vec::new();
        for _ in 0..count {
            processes.push(world.process().await);
        }
        let (share, operations) = used(&world, &processes, Duration::from_secs(16)).await;
        for process in &processes {
            println!("  {:?}", process.gateway.standing(&vendor()).unwrap().counts);
        }
        println!(
            "{count} processes: {:.1} % of the rate, {operations} operations for 1,000 calls",
            share * 100.0
        );
        assert_eq!(world.stats().await.totals.above_limit, 0, "{count} processes");
        // How much of it is used is what `wanwright bench fleet` measures; here it must not be next to nothing.
        assert!(share >= 0.5, "{count} processes used {share}");
        processes.iter().for_each(|process| process.stop.cancel());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_started_again_has_no_second_burst() {
    let world = World::with(PLAIN, 50, 50).await;
    let mut sent = 0;
    let began = Instant::now();
    for _ in 0..4 {
        let process = world.process().await;
        let calls = Arc::new(AtomicU64::new(0));
        let mut callers = JoinSet::new();
        for caller in 0..30 {
            let context = context(&format!("customer-{caller}"), Priority::Intent);
            callers.spawn(call_on(world.http.clone(), process.gateway.clone(), context, Arc::clone(&calls)));
        }
        while calls.load(Ordering::Relaxed) < 20 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        process.stop.cancel();
        callers.shutdown().await;
        sent += calls.load(Ordering::Relaxed);
    }
    let stats = world.stats().await.totals;
    assert_eq!(stats.above_limit, 0, "{sent} calls in {:?}", began.elapsed());
    assert!(stats.calls >= 80);
}

/// How long one call of a customer takes while others have thousands waiting.
async fn single_call(world: &World, processes: &[Process], others: Priority, customer: &str) -> Duration {
    let calls = Arc::new(AtomicU64::new(0));
    let mut bulk = JoinSet::new();
    for process in processes {
        for _ in 0..1000 {
            let context = context("bulk", others);
            bulk.spawn(call_on(world.http.clone(), process.gateway.clone(), context, Arc::clone(&calls)));
        }
    }
    for process in processes {
        level(&process.gateway, |standing| standing.waiting > 900).await;
    }
    while calls.load(Ordering::Relaxed) < 50 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let last = processes.last().unwrap();
    let opened = last.gateway.open(context(customer, Priority::Intent));
    let asked = Instant::now();
    let answer = world.http.get(format!("{}/v1/sites", opened.base_url())).send().await.unwrap();
    let took = asked.elapsed();
    assert_eq!(answer.status(), 200);
    bulk.shutdown().await;
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_call_passes_thousands_of_anothers_in_one_and_in_two_processes() {
    let world = World::with(PLAIN, 50, 50).await;
    for (count, others, customer, most) in [
        (1, Priority::Intent, "single", 4),
        (2, Priority::Intent, "single", 4),
        (2, Priority::Drift, "single", 4),
        // The same customer's: what is wanted goes before what is looked at.
        (1, Priority::Drift, "bulk", 2),
    ] {
        let mut processes = Vec::new();
        for _ in 0..count {
            processes.push(world.process().await);
        }
        let took = single_call(&world, &processes, others, customer).await;
        println!("behind {count} x 1,000 calls ({others:?}) a single one takes {took:?}");
        // In line it would wait 20 s.
        assert!(took < Duration::from_secs(most), "{took:?}");
        processes.iter().for_each(|process| process.stop.cancel());
    }
    assert_eq!(world.stats().await.totals.above_limit, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_wait_for_a_full_limit_hold_up_no_others() {
    let removals = "[budget.limits.removals]\nper_minute = 3\nmethods = [\"DELETE\"]\n";
    let world = World::with(&format!("{PLAIN}{removals}"), 50, 50).await;
    let process = world.process().await;
    let opened = Arc::new(process.gateway.open(context("acme", Priority::Intent)));
    let mut removing = JoinSet::new();
    for id in 0..10 {
        let request = world.http.delete(format!("{}/v1/sites/st-9{id}", opened.base_url()));
        removing.spawn(request.send());
    }
    level(&process.gateway, |standing| standing.waiting == 9).await;
    let began = Instant::now();
    for _ in 0..60 {
        let answer = world.http.get(format!("{}/v1/sites", opened.base_url())).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    // 3 a minute is one at once, and the next after 20 s.
    let standing =
        level(&process.gateway, |standing| standing.waiting == 9 && standing.counts.calls == 61).await;
    assert_eq!(standing.admission, Admission::Open);
    println!("60 calls one after the other: {:?}", standing.counts);
    let limit = standing.limits.iter().find(|limit| limit.name == "removals").unwrap();
    assert!(
        !limit.counts_all && limit.free > standing.now.unwrap().0 + Duration::from_secs(10),
        "{standing:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_vendor_tells_one_process_all_obey() {
    let world = World::with(PLAIN, 50, 50).await;
    let (one, other) = (world.process().await, world.process().await);
    for process in [&one, &other] {
        level(&process.gateway, |standing| standing.admission == Admission::Open).await;
    }
    world.storm(3).await;
    let opened = one.gateway.open(context("acme", Priority::Intent));
    let (http, base) = (world.http.clone(), opened.base_url().to_owned());
    let first =
        tokio::spawn(async move { http.get(format!("{base}/v1/sites")).send().await.unwrap().status() });
    let blocked = |standing: &Standing| matches!(standing.admission, Admission::Blocked { .. });
    level(&other.gateway, blocked).await;
    let waiting = other.gateway.open(context("acme", Priority::Intent));
    let answer = world.http.get(format!("{}/v1/sites", waiting.base_url())).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), first.await.unwrap().as_u16()), (200, 200));
    let stats = world.stats().await.totals;
    // The storm may outlast what the vendor asked for by the part of a second that it rounds.
    assert!(stats.stormed <= 3, "{stats:?}");
    assert_eq!(waiting.calls(), 1, "the other process did not have to be told by the vendor: {stats:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_admitted_when_those_before_it_can_be_served() {
    let world = World::with("per_second = 2\nburst = 2\n", 2, 2).await;
    let process = world.process().await;
    let context = context("acme", Priority::Intent);
    let opened = process.gateway.open(context.clone());
    for _ in 0..3 {
        world.http.get(format!("{}/v1/sites", opened.base_url())).send().await.unwrap();
    }
    assert_eq!(process.gateway.expected(&context, &Intent::Apply).calls(), 1);
    process.gateway.learn(&opened, &Intent::Apply);
    let expected = process.gateway.expected(&context, &Intent::Apply);
    assert_eq!(expected.calls(), 3);
    level(&process.gateway, |standing| !standing.limits.is_empty()).await;
    // Half of the time that a call may wait is 15 s, which are less than 30 calls at 2 a second.
    let large = process.gateway.admit(&context, Expected::of("calls", 28)).await.unwrap();
    let gateway = process.gateway.clone();
    let next = {
        let (gateway, context, expected) = (gateway.clone(), context.clone(), expected.clone());
        tokio::spawn(async move { gateway.admit(&context, expected).await.unwrap() })
    };
    assert!(
        tokio::time::timeout(Duration::from_millis(700), async {
            while !next.is_finished() {
                tokio::time::sleep(Duration::from_millis(20)).await
            }
        })
        .await
        .is_err()
    );
    drop(large);
    let admitted = tokio::time::timeout(Duration::from_secs(5), next).await.expect("in time").unwrap();
    drop(admitted);
    let small = tokio::time::timeout(Duration::from_secs(5), gateway.admit(&context, expected)).await;
    assert!(small.expect("in time").is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_server_nothing_is_handed_out_and_afterwards_all_is_as_before() {
    let mut world = World::with(PLAIN, 50, 50).await;
    let (one, other) = (world.process().await, world.process().await);
    for process in [&one, &other] {
        level(&process.gateway, |standing| standing.admission == Admission::Open).await;
    }
    world.stop_nats().await;
    let opened = one.gateway.open(context("acme", Priority::Drift));
    let waiting = tokio::spawn(world.http.get(format!("{}/v1/sites", opened.base_url())).send());
    level(&one.gateway, |standing| standing.admission == Admission::Away && standing.waiting == 1).await;
    assert_eq!(world.stats().await.totals.calls, 0);
    world.start_nats().await;
    assert_eq!(waiting.await.unwrap().unwrap().status(), 200);
    assert_eq!(world.stats().await.totals.calls, 1);
    // What one hears, the other is told as before.
    world.storm(1).await;
    world.http.get(format!("{}/v1/sites", opened.base_url())).send().await.unwrap();
    let blocked = |standing: &Standing| standing.limits.iter().any(|limit| limit.blocked.is_some());
    let free = |standing: &Standing| standing.limits.iter().all(|limit| limit.blocked.is_none());
    level(&other.gateway, |standing| standing.counts.told > 1 && free(standing)).await;
    world.storm(5).await;
    let waiting = tokio::spawn(world.http.get(format!("{}/v1/sites", opened.base_url())).send());
    level(&other.gateway, blocked).await;
    waiting.abort();
    assert_eq!(world.stats().await.totals.above_limit, 0);
}
