//! Runs that are stopped in the middle, because the executor is told to stop or they take too long: what they made is in the
//! state, and nothing of them goes on.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use wanwright_schemas::order::Intent;
use wanwright_schemas::reason::Reason;
use wanwright_vendors::Vendors;

use super::lost::{Provider, order, world};
use super::tests::{VendorFolder, World, is_done, until};
use crate::engine::Outcome;
use crate::terraform::tests::servers;

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_told_to_stop_in_the_middle_keeps_what_it_made() {
    let world = world(Provider::Foreign, &["site", "tunnel"]).await;
    let (order, stop) = (order(Intent::Apply, 0), CancellationToken::new());
    let vendors = world.vendors.snapshot();
    let vendor = vendors.get("simwan").expect("the vendor");
    let stopping = async {
        let asked = async || {
            let effects = world.effects(&order).await;
            effects.iter().any(|effect| effect.method == "POST" && effect.path == "/v1/tunnels")
        };
        until("the tunnel is asked for", asked).await;
        stop.cancel();
    };
    let ((outcome, _), ()) = tokio::join!(world.run_until(vendor, &order, 1, &stop), stopping);
    let Outcome::Passing { code: Reason::Internal, message, ours: true } = &outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(message, "the executor stopped");
    // Terraform was asked, and not killed: it waited for the vendor's answer and wrote its state.
    world.is_whole().await;
    assert!(is_done(&world.run(&order, 2).await.0));
    world.is_whole().await;
}

/// The processes that work below a folder.
fn processes_below(dir: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").expect("processes").flatten();
    let below = entries
        .filter(|entry| std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(dir)));
    below.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_takes_too_long_is_stopped_and_leaves_no_process() {
    const LIMIT: Duration = Duration::from_secs(2);
    let servers = servers().await;
    let dir = servers.dir.path().to_owned();
    VendorFolder::new(&dir);
    let vendors = Vendors::open(dir.join("vendors")).expect("the vendors' folders");
    let vendor = World::vendor(&dir, 60_000).await;
    let world = World::within(servers, vendors, vendor, dir.join("mirror"), LIMIT).await;
    let (order, began) = (order(Intent::Apply, 0), Instant::now());
    let runs = dir.join("work/runs");
    let seen = async {
        until("Terraform runs", async || !processes_below(&runs).is_empty()).await;
    };
    let ((outcome, _), ()) = tokio::join!(world.run(&order, 1), seen);
    let Outcome::Passing { code: Reason::Internal, message, ours: false } = &outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(message, "the run took longer than 2 s");
    // Two seconds, six to end in peace, and what it takes to begin.
    assert!((LIMIT..Duration::from_secs(40)).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert_eq!(processes_below(&runs), [""; 0]);
    assert_eq!(std::fs::read_dir(&runs).expect("the runs").count(), 0, "its folder is gone");
}
