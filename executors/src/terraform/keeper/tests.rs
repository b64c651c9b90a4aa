use std::path::PathBuf;

use jiff::Timestamp;
use wanwright_supervisor::{DirLock, Postgres, PostgresOptions};

use super::*;
use crate::terraform::tests::{Servers, names, servers, version};

/// The folders of executors beside each other, and a Postgres that can be taken away. Only one of it: a server is not
/// started for each test.
struct World {
    options: PostgresOptions,
    postgres: Option<Postgres>,
    store: Store,
    _server: wanwright_supervisor::Nats,
    dir: tempfile::TempDir,
}

/// An executor, as far as it keeps states.
struct Executor {
    keeper: Keeper,
    spool: PathBuf,
    _lock: DirLock,
}

impl Executor {
    /// Ends it, and waits until nobody has its lock: a child that another test has forked has it until it executes.
    async fn die(self) {
        let folder = self.spool.parent().expect("a folder").to_owned();
        drop(self);
        DirLock::wait(&folder, Duration::from_secs(10)).await.expect("its lock is free");
    }
}

impl World {
    async fn new() -> Self {
        let Servers { options, postgres, server, store, dir, .. } = servers().await;
        Self { options, postgres: Some(postgres), store, _server: server, dir }
    }

    async fn executor(&self, name: &str) -> Executor {
        let work = self.dir.path().join(name);
        let lock = DirLock::acquire(&work).expect("a folder of its own");
        let spool = work.join(Spool::FOLDER);
        let opened = Spool::open(&spool, self.store.keys.clone()).await.expect("a spool");
        let (neighbours, waiting) = (Neighbours::of(&work), Waiting::new(None, &work));
        let keeper = Keeper::new(self.store.clone(), opened, neighbours, waiting);
        Executor { keeper, spool, _lock: lock }
    }

    /// Takes Postgres away.
    async fn stop(&mut self) {
        if let Some(postgres) = self.postgres.take() {
            postgres.stop(Duration::from_secs(10)).await;
        }
    }
}

/// What Terraform leaves of a run in its executor's folder when it cannot hand its state over.
fn left_over(folder: &Path, version: &Version, seen: Seen) -> PathBuf {
    let run = folder.join(left::RUNS).join("order-1");
    std::fs::create_dir_all(&run).expect("a folder");
    std::fs::write(run.join(left::ERRORED), &version.body).expect("written");
    std::fs::write(run.join(left::VARIABLES), r#"{"site":{"uid":"stack"}}"#).expect("written");
    left::note_seen(&run, seen);
    run
}

fn fence(number: u64) -> Fence {
    Fence { incarnation: Timestamp::UNIX_EPOCH, number }
}

#[tokio::test]
async fn what_a_dead_executor_had_is_taken_over_and_what_a_living_one_has_is_waited_for() {
    let mut world = World::new().await;
    let (one, two) = (world.executor("executor").await, world.executor("executor-2").await);
    let first = version(1, "one", None);
    one.keeper.keep(first.clone()).await.expect("the first");

    // Without Postgres the next one is on the disk of the first executor only.
    world.stop().await;
    let second = version(2, "two", Some(first.mark()));
    one.keeper.keep(second.clone()).await.expect("spooled");

    // While that one lives, nobody else goes on from the first.
    let elsewhere = two.keeper.newest("stack").await;
    assert!(matches!(elsewhere, Err(StoreError::Elsewhere { .. })), "{elsewhere:?}");
    two.keeper.flush_once().await;
    assert_eq!((names(&one.spool), names(&two.spool)), (vec!["stack.json".to_owned()], Vec::new()));

    // When it is dead, whoever asks first has it, and goes on from there.
    let left = one.spool.clone();
    one.die().await;
    let newest = two.keeper.newest("stack").await.expect("taken over").map(|found| found.mark());
    assert_eq!(newest, Some(second.mark()));
    assert_eq!((names(&left), names(&two.spool)), (Vec::new(), vec!["stack.json".to_owned()]));
    let third = version(3, "three", Some(second.mark()));
    two.keeper.keep(third.clone()).await.expect("spooled");

    // An older copy that comes to light again, and what Terraform could not hand over to the dead one.
    let folder = left.parent().expect("a folder");
    let dead = two.keeper.spool.beside(&left).await.expect("a spool");
    dead.put(&second).await.expect("put back");
    let fourth = version(4, "four", None);
    let run = left_over(folder, &fourth, Seen { version: Some(third.mark()), fence: None });
    two.keeper.flush_once().await;
    assert_eq!(names(&left), [""; 0], "known already");
    assert!(!run.exists(), "its state is taken in");

    // With Postgres everything is there, in line, and nothing was set aside.
    world.postgres = Some(Postgres::start(&world.options).await.expect("a Postgres"));
    two.keeper.flush_once().await;
    let newest = two.keeper.newest("stack").await.expect("stored").map(|found| found.mark());
    assert_eq!(newest, Some(fourth.mark()));
    assert_eq!(names(&two.spool), [""; 0]);

    // Whoever died between storing and forgetting left a copy of what others have gone on from: no conflict.
    two.keeper.spool.put(&first).await.expect("put back");
    let newest = two.keeper.newest("stack").await.expect("stored").map(|found| found.mark());
    assert_eq!((newest, names(&two.spool)), (Some(fourth.mark()), Vec::new()));

    // What another executor has made from the same version meanwhile is not written over.
    two.die().await;
    let three = world.executor("executor-3").await;
    dead.put(&version(5, "stranger", Some(third.mark()))).await.expect("left behind");
    three.keeper.flush_once().await;
    assert_eq!((names(&left), names(&three.spool)), (Vec::new(), vec!["stack.5.conflict".to_owned()]));
    let newest = three.keeper.newest("stack").await.expect("stored").map(|found| found.mark());
    assert_eq!(newest, Some(fourth.mark()));
}

/// Files as an executor leaves them that is killed while it writes versions.
fn unfinished(spool: &Path) {
    for name in ["stack.tmp", "other.tmp"] {
        std::fs::write(spool.join(name), "{\"serial\":").expect("a file");
    }
}

#[tokio::test]
async fn what_was_not_written_to_its_end_goes_with_the_next_start_or_with_whoever_takes_over() {
    let mut world = World::new().await;
    let (one, two) = (world.executor("executor").await, world.executor("executor-2").await);
    let spool = one.spool.clone();
    world.stop().await;
    let first = version(1, "one", None);
    one.keeper.keep(first.clone()).await.expect("spooled");

    // Of one that lives nobody takes anything away.
    unfinished(&spool);
    two.keeper.flush_once().await;
    assert_eq!(names(&spool), ["other.tmp", "stack.json", "stack.tmp"]);

    // When it starts again it removes its own, and nothing else.
    one.die().await;
    let one = world.executor("executor").await;
    assert_eq!(names(&spool), ["stack.json"]);
    assert_eq!(one.keeper.newest("stack").await.expect("kept").map(|found| found.mark()), Some(first.mark()));

    // When it never starts again another one does, also where no version waits.
    unfinished(&spool);
    one.die().await;
    two.keeper.flush_once().await;
    assert_eq!((names(&spool), names(&two.spool)), (Vec::new(), vec!["stack.json".to_owned()]));
    unfinished(&spool);
    two.keeper.flush_once().await;
    assert_eq!(names(&spool), [""; 0]);
}

#[tokio::test]
async fn what_has_waited_on_a_disk_is_not_stored_behind_a_later_lock() {
    let mut world = World::new().await;
    let (here, there) = (world.executor("here/executor").await, world.executor("there/executor").await);
    let first = version(1, "one", None);
    assert!(here.keeper.fence("stack", fence(1)).await.expect("an answer"));
    here.keeper.keep(first.clone().under(Some(fence(1)))).await.expect("the first");
    world.stop().await;
    let second = version(2, "two", Some(first.mark()));
    here.keeper.keep(second.under(Some(fence(1)))).await.expect("spooled");

    // On another machine, where nobody can know of it, somebody has the stack by now and begins with the first.
    world.postgres = Some(Postgres::start(&world.options).await.expect("a Postgres"));
    assert!(there.keeper.fence("stack", fence(2)).await.expect("an answer"));
    here.keeper.flush_once().await;
    assert_eq!(names(&here.spool), ["stack.2.conflict"]);

    // The same for what Terraform could not hand over.
    let folder = here.spool.parent().expect("a folder");
    let seen = Seen { version: Some(first.mark()), fence: Some(fence(1)) };
    let run = left_over(folder, &version(3, "three", None), seen);
    left::clear(&here.keeper, &folder.join(left::RUNS)).await.expect("cleared");
    assert!(!run.exists());
    assert_eq!(names(&here.spool), ["stack.2.conflict", "stack.3.conflict"]);
    let newest = there.keeper.newest("stack").await.expect("stored").map(|found| found.mark());
    assert_eq!(newest, Some(first.mark()));
    let third = version(4, "four", Some(first.mark()));
    there.keeper.keep(third.under(Some(fence(2)))).await.expect("what came later is kept");
}

#[tokio::test]
async fn whoever_locks_a_stack_goes_on_from_what_waits_beside_it() {
    let mut world = World::new().await;
    let (one, two) = (world.executor("executor").await, world.executor("executor-2").await);
    assert!(one.keeper.fence("stack", fence(1)).await.expect("an answer"));
    world.stop().await;
    let first = version(1, "one", None);
    one.keeper.keep(first.clone().under(Some(fence(1)))).await.expect("spooled");
    let folder = one.spool.parent().expect("a folder").to_owned();
    let second = version(2, "two", None);
    left_over(&folder, &second, Seen { version: Some(first.mark()), fence: Some(fence(1)) });
    one.die().await;
    let away = two.keeper.fence("stack", fence(2)).await;
    assert!(matches!(away, Err(StoreError::Postgres(_) | StoreError::Late)), "{away:?}");

    world.postgres = Some(Postgres::start(&world.options).await.expect("a Postgres"));
    assert!(two.keeper.fence("stack", fence(3)).await.expect("an answer"));
    let newest = two.keeper.newest("stack").await.expect("stored").map(|found| found.mark());
    assert_eq!((newest, names(&two.spool)), (Some(second.mark()), Vec::new()));
}

#[test]
fn what_older_executors_noted_of_a_run_is_read() {
    let mark = version(1, "one", None).mark();
    for version in [None, Some(mark)] {
        let noted = serde_json::to_vec(&version).expect("JSON");
        assert_eq!(Seen::read(&noted), Some(Seen { version, fence: None }));
        let seen = Seen { version, fence: Some(fence(7)) };
        assert_eq!(Seen::read(&serde_json::to_vec(&seen).expect("JSON")), Some(seen));
    }
    assert_eq!(Seen::read(b"{"), None);
}
