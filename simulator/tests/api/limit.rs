use std::time::Instant;

use futures::future::join_all;
use wanwright_simulator::{Limit, Violations};

use crate::support::{Bench, site};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn accepted_calls_never_exceed_burst_plus_rate_times_time() {
    let bench = Bench::with_limit(Limit { per_second: 40.0, burst: 25 }).await;
    let start = Instant::now();
    let mut accepted = 0usize;
    let mut refused = 0usize;
    for _ in 0..6 {
        let answers = join_all((0..50).map(|_| bench.caller.get("/v1/sites"))).await;
        accepted += answers.iter().filter(|answer| answer.status == 200).count();
        for answer in answers.iter().filter(|answer| answer.status != 200) {
            refused += 1;
            assert_eq!((answer.status, answer.code()), (429, "rate_limited"));
            assert_eq!(answer.header("Retry-After"), Some("1"), "a token comes every 25 ms");
        }
    }
    let most = 25.0 + 40.0 * start.elapsed().as_secs_f64();
    assert!(accepted >= 25 && accepted as f64 <= most, "{accepted} accepted, at most {most}");
    assert_eq!(accepted + refused, 300);

    let log: Violations = bench.caller.look("/_sim/violations").await;
    let stats = bench.caller.stats().await;
    assert_eq!(log.violations.len(), refused);
    assert!(log.violations.iter().all(|one| one.method == "GET" && one.path == "/v1/sites" && one.at_ms > 0));
    assert_eq!((stats.totals.calls, stats.totals.above_limit), (300, refused as u64));
    assert_eq!(stats.kinds["site"].lists, accepted as u64);
}

#[tokio::test]
async fn nothing_is_done_above_the_limit_and_the_wait_is_told() {
    let bench = Bench::with_limit(Limit { per_second: 0.01, burst: 2 }).await;
    bench.caller.site("a").await;
    bench.caller.site("b").await;
    let above = bench.caller.post("/v1/sites", None, &site("c")).await;
    assert_eq!(above.status, 429);
    let wait: u64 = above.header("Retry-After").unwrap().parse().unwrap();
    assert!((90..=100).contains(&wait), "{wait}");
    let stats = bench.caller.stats().await;
    assert_eq!(stats.kinds["site"].objects, 2);
    assert!(!stats.kinds["site"].names.contains_key("c"));
    assert!(stats.bucket.tokens < 1.0);
    assert_eq!(stats.bucket.limit, Limit { per_second: 0.01, burst: 2 });
}

#[tokio::test]
async fn waiting_as_told_is_enough() {
    let bench = Bench::with_limit(Limit { per_second: 2.0, burst: 1 }).await;
    bench.caller.site("a").await;
    let above = bench.caller.get("/v1/sites").await;
    assert_eq!((above.status, above.header("Retry-After")), (429, Some("1")));
    // Wait for the level the answer promises, as the back door shows it.
    let promised = Instant::now();
    while bench.caller.stats().await.bucket.tokens < 1.0 {
        assert!(promised.elapsed().as_secs_f64() < 1.0, "no token within the time told");
    }
    assert_eq!(bench.caller.get("/v1/sites").await.status, 200);
}

#[tokio::test]
async fn without_a_limit_given_the_vendor_folder_gives_it() {
    use crate::support::{Folder, config};
    let folder = Folder::new();
    let mut config = config(folder.path(), Limit { per_second: 1.0, burst: 1 });
    config.limit = None;
    let running = wanwright_simulator::Simulator::start(config).await.unwrap();
    let stats = crate::support::Caller::new(running.url()).stats().await;
    assert_eq!(stats.bucket.limit, Limit { per_second: 50.0, burst: 50 });
    assert_eq!(stats.bucket.tokens, 50.0);
}
