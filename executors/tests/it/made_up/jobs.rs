//! Jobs that take longer than a run follows them: each is begun once, whatever becomes of it.

use serde_json::json;
use wanwright_executors::engine::Outcome;
use wanwright_schemas::order::{DesiredDevice, Intent};
use wanwright_schemas::reason::Reason;
use wanwright_schemas::report::Finding;

use super::vendor::Mode;
use super::{World, done, id};

/// More runs than any of the jobs takes.
const MANY: u32 = 40;

impl World {
    /// What comes of an order in the end, and after how many runs that waited for the vendor.
    async fn tried(
        &self,
        vendor: &str,
        intent: Intent,
        retries: u64,
        device: &DesiredDevice,
    ) -> (u32, Finding) {
        for waited in 0..MANY {
            match self.run(vendor, intent.clone(), retries, device.clone()).await {
                Outcome::Passing { code: Reason::VendorBusy, message, ours: true } => {
                    assert!(message.contains("still works on job j-"), "{message}");
                }
                other => return (waited, done(other)),
            }
        }
        panic!("it has no end: {:?}", self.vendor.lock().unwrap().asked);
    }
}

#[tokio::test]
async fn a_job_slower_than_a_run_is_the_same_change_until_it_ends() {
    let world = World::new().await;
    world.set(Mode::JobsSlow);
    let (waited, made) = world.tried("slowwan", Intent::Apply, 0, &world.device(7, None)).await;
    assert!(waited >= 2, "{waited}");
    assert_eq!(id(&made), "e-1");
    assert_eq!((world.asked("POST /api/edges"), world.asked("PATCH")), (1, 0), "the job has made it");
    let (waited, gone) = world.tried("slowwan", Intent::Remove, 0, &world.device(7, Some("e-1"))).await;
    assert!(waited >= 2, "{waited}");
    assert_eq!((gone, world.asked("DELETE")), (Finding::Removed, 1));
}

#[tokio::test]
async fn what_is_made_anew_in_slow_jobs_is_made_once() {
    let world = World::new().await;
    world.set(Mode::JobsSlow);
    let old = world.vendor.lock().unwrap().make("old");
    let (waited, made) = world.tried("slowwan", Intent::Apply, 0, &world.device(7, Some(&old))).await;
    assert!(waited >= 4, "{waited}");
    assert_eq!(id(&made), "e-2");
    let asked = ["DELETE", "POST /api/edges", "PATCH"].map(|what| world.asked(what));
    assert_eq!(asked, [1, 1, 1], "it was changed first, which showed that it has to be another one");
    assert_eq!(world.vendor.lock().unwrap().edges.len(), 1);
}

#[tokio::test]
async fn a_create_whose_job_is_forgotten_or_tells_nothing_is_for_a_person() {
    let modes = [Mode::JobsForgotten, Mode::JobsMute].map(|mode| (Mode::JobsStand, mode));
    for (first, mode) in modes.into_iter().chain([(Mode::JobsForgotten, Mode::JobsForgotten)]) {
        let world = World::new().await;
        world.set(first);
        let waits = world.run("slowwan", Intent::Apply, 0, world.device(7, None)).await;
        assert!(matches!(&waits, Outcome::Passing { .. }), "{waits:?}");
        world.set(mode);
        for vlan in [7, 8] {
            let unknown = world.finding("slowwan", Intent::Apply, world.device(vlan, None)).await;
            let Finding::Failed { code: Reason::OutcomeUnknown, .. } = &unknown else {
                panic!("{unknown:?}")
            };
        }
        assert_eq!(world.asked("POST /api/edges"), 1, "{mode:?}");
        world.set(Mode::JobsEnd);
        let (_, made) = world.tried("slowwan", Intent::Apply, 1, &world.device(8, None)).await;
        assert_eq!((id(&made).as_str(), world.asked("POST /api/edges")), ("e-1", 2), "a person has looked");
    }
}

#[tokio::test]
async fn a_job_that_never_ends_is_given_up() {
    let world = World::new().await;
    world.set(Mode::JobsStand);
    let (_, given_up) = world.tried("stuckwan", Intent::Apply, 0, &world.device(7, None)).await;
    let Finding::Failed { code: Reason::OutcomeUnknown, message, .. } = &given_up else {
        panic!("{given_up:?}")
    };
    assert!(message.contains("job j-1 does not end, it is still `working`"), "{message}");
    let (_, again) = world.tried("stuckwan", Intent::Apply, 0, &world.device(8, None)).await;
    assert!(matches!(&again, Finding::Failed { code: Reason::OutcomeUnknown, .. }), "{again:?}");
    // It ends after all.
    world.set(Mode::JobsEnd);
    world.vendor.lock().unwrap().end_jobs();
    let (_, made) = world.tried("stuckwan", Intent::Apply, 0, &world.device(8, None)).await;
    assert_eq!((id(&made).as_str(), world.asked("POST /api/edges")), ("e-1", 1));

    // What does no harm twice is begun again as soon as somebody says so.
    world.set(Mode::JobsStand);
    let device = world.device(8, Some("e-1"));
    for _ in 0..2 {
        let (_, failed) = world.tried("stuckwan", Intent::Remove, 0, &device).await;
        let Finding::Failed { code: Reason::VendorBusy, message, .. } = &failed else { panic!("{failed:?}") };
        assert!(message.contains("job j-2 (working), and is not waited for any longer"), "{message}");
    }
    assert_eq!(world.asked("DELETE"), 1);
    world.run("stuckwan", Intent::Remove, 1, device.clone()).await;
    assert_eq!(world.asked("DELETE"), 2);
}

#[tokio::test]
async fn a_job_that_failed_for_lack_of_time_is_followed_by_another_one() {
    let world = World::new().await;
    world.set(Mode::JobsBusy);
    let busy = world.run("taskwan", Intent::Apply, 0, world.device(7, None)).await;
    let Outcome::Passing { code: Reason::VendorBusy, message, ours: false } = &busy else {
        panic!("{busy:?}")
    };
    assert!(message.contains("try later"), "{message}");
    world.set(Mode::JobsEnd);
    let made = world.finding("taskwan", Intent::Apply, world.device(7, None)).await;
    assert_eq!((id(&made).as_str(), world.asked("POST /api/edges")), ("e-1", 2));
    assert_eq!(world.vendor.lock().unwrap().edges["e-1"]["net"], json!({"vlan": "7"}));
}

#[tokio::test]
async fn what_could_not_be_published_is_made_once() {
    let asked = |world: &World| ["POST /link/edges", "POST /api/edges"].map(|what| world.asked(what));
    let failed = |finding: &Finding| matches!(finding, Finding::Failed { code: Reason::VendorRefused, .. });
    let world = World::new().await;
    world.set(Mode::JobsSlow);
    let (waited, made) = world.tried("postwan", Intent::Apply, 0, &world.device(7, None)).await;
    assert!(waited >= 2 && id(&made) == "e-1", "{waited} {made:?}");
    assert_eq!((asked(&world), world.asked("PATCH")), ([1, 1], 0), "the job has published it");
    let (waited, gone) = world.tried("postwan", Intent::Remove, 0, &world.device(7, Some("e-1"))).await;
    assert!(waited >= 4 && gone == Finding::Removed, "{waited} {gone:?}");
    assert_eq!((asked(&world), world.asked("DELETE")), ([1, 2], 1), "and another one that it is gone");
    // It fails in the run that made it, or in one after that, for good or for lack of time.
    for first in [Mode::JobsFail, Mode::JobsStand, Mode::JobsBusy] {
        let world = World::new().await;
        world.set(first);
        let outcome = world.run("postwan", Intent::Apply, 0, world.device(7, None)).await;
        match first {
            Mode::JobsFail => assert!(failed(&done(outcome))),
            _ => assert!(matches!(&outcome, Outcome::Passing { .. }), "{outcome:?}"),
        }
        if first == Mode::JobsStand {
            world.set(Mode::JobsBusy);
            let busy = world.run("postwan", Intent::Apply, 0, world.device(7, None)).await;
            assert!(matches!(&busy, Outcome::Passing { ours: false, .. }), "{busy:?}");
            world.set(Mode::JobsStand);
            let waits = world.run("postwan", Intent::Apply, 0, world.device(7, None)).await;
            assert!(matches!(&waits, Outcome::Passing { ours: true, .. }), "{waits:?}");
            world.set(Mode::JobsFail);
            assert!(failed(&world.finding("postwan", Intent::Apply, world.device(7, None)).await));
        }
        world.set(Mode::JobsEnd);
        let (_, made) = world.tried("postwan", Intent::Apply, 1, &world.device(7, None)).await;
        assert_eq!((id(&made).as_str(), asked(&world)[0]), ("e-1", 1), "{first:?}");
    }
}
