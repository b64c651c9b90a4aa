//! Runs that were reported end together.

use std::time::Duration;

use wanwright_executors::scheduler::Patience;

use crate::world::World;

/// A run that did not wait would have ended by then.
const AFTER: Duration = Duration::from_millis(300);

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_were_reported_end_together_and_when_the_process_stops() {
    let world = World::new(0).await;
    let acme = world.customer("acme").await;
    // Not in our time.
    let ends = Duration::from_secs(u32::MAX.into());
    let scheduler = world.scheduler("one", Patience { ends, ..Patience::default() }).await;
    let (few, last) = (["e1", "e2", "e3", "e4", "e5", "e6", "e7"], "e8");
    for device in few {
        world.device(&acme, device).await;
    }
    for device in few {
        world.until_event(&acme, device, "DeviceApplied").await;
    }
    tokio::time::sleep(AFTER).await;
    let left = world.open_rows("acme").await;
    assert_eq!(left, few.len(), "each was reported, and none has ended");
    world.device(&acme, last).await;
    world.until_done("acme").await;

    world.device(&acme, "e9").await;
    world.until_event(&acme, "e9", "DeviceApplied").await;
    tokio::time::sleep(AFTER).await;
    assert_eq!(world.open_rows("acme").await, 1);
    scheduler.stop().await;
    assert_eq!(world.open_rows("acme").await, 0, "it ends its runs before it stops");
}
