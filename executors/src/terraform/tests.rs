//! States are kept, found again and never mistaken, on a real Postgres and a real NATS.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use sqlx::{Executor, PgPool};
use wanwright_nats::{KeyError, Nats, SealedState, StateCopies, StateKeys, topology};
use wanwright_supervisor::{NatsOptions, Postgres, PostgresOptions, SyncInterval};

use super::archive::{Accepted, Restored, States};
use super::keeper::Keeper;
use super::left::Seen;
use super::neighbours::Neighbours;
use super::spool::Spool;
use super::state::StateServer;
use super::store::{Mark, Store, StoreError, Version};
use super::waiting::Waiting;

const TABLE: &str = include_str!("../../../migrations/0007_terraform_states.sql");
const SEALED: &str = include_str!("../../../migrations/0021_sealed_states.sql");
const FENCES: &str = include_str!("../../../migrations/0030_state_fences.sql");

/// The variable that says that this machine cannot confine processes, and that it is known.
const UNCONFINED: &str = "WANWRIGHT_TEST_UNCONFINED";

/// Whether what confinement takes away can be tried here. A kernel that lacks some of it fails the test, unless somebody
/// said that this is known: what was not tried must not look as if it had held.
pub(super) fn is_confined() -> bool {
    let missing = wanwright_supervisor::missing_confinement();
    if missing.is_empty() {
        return true;
    }
    let missing = missing.join("; ");
    assert!(
        std::env::var_os(UNCONFINED).is_some(),
        "not tried: {missing}; set {UNCONFINED}=1 to leave it out"
    );
    eprintln!("not tried: {missing}");
    false
}

/// A keeper whose Postgres can be taken away. Only one of it: a server is not started for each test.
struct World {
    postgres: Postgres,
    pool: PgPool,
    nats: Nats,
    keys: StateKeys,
    keeper: Keeper,
    spool: PathBuf,
    _server: wanwright_supervisor::Nats,
    _dir: tempfile::TempDir,
}

/// A Postgres, how it was started, and a NATS, with a store in them, below a folder that every user can enter.
pub(super) struct Servers {
    pub(super) options: PostgresOptions,
    pub(super) postgres: Postgres,
    pub(super) server: wanwright_supervisor::Nats,
    pub(super) nats: Nats,
    pub(super) store: Store,
    pub(super) dir: tempfile::TempDir,
}

pub(super) async fn servers() -> Servers {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a folder");
    // Postgres does not run as root, so another user has to enter.
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("a mode");
    let cache = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tmp/programs");
    let mut settings = NatsOptions::new(dir.path().join("nats"), cache.clone());
    settings.sync_interval = SyncInterval::Lazy;
    let server = wanwright_supervisor::Nats::start(&settings).await.expect("a NATS");
    let nats = wanwright_nats::connect(&server.url_with_login(), "test", 1).await.expect("a connection");
    topology::apply(&nats, 1).await.expect("the streams");
    let mut options = PostgresOptions::new(dir.path().join("postgres"), cache);
    options.settings = vec![("fsync".into(), "off".into())];
    let postgres = Postgres::start(&options).await.expect("a Postgres");
    let limits = sqlx::postgres::PgPoolOptions::new().acquire_timeout(Duration::from_millis(500));
    let pool = limits.connect(&postgres.url()).await.expect("a connection");
    let create = TABLE.split("COMMENT ON").next().expect("the table");
    pool.execute(create).await.expect("a table");
    pool.execute(SEALED).await.expect("a column");
    pool.execute(FENCES).await.expect("a table");
    let keys = StateKeys::new(dir.path().join("state.key"));
    let store = Store { pool, keys, copies: StateCopies::new(nats.clone()) };
    store.check().await.expect("a key file");
    Servers { options, postgres, server, nats, store, dir }
}

async fn world() -> World {
    let Servers { postgres, server, nats, store, dir, .. } = servers().await;
    let (pool, keys) = (store.pool.clone(), store.keys.clone());
    let spool = dir.path().join("spool");
    let opened = Spool::open(&spool, keys.clone()).await.expect("a spool");
    let work = dir.path().join("executor");
    let keeper = Keeper::new(store, opened, Neighbours::of(&work), Waiting::new(None, &work));
    World { postgres, pool, nats, keys, keeper, spool, _server: server, _dir: dir }
}

impl World {
    fn states(&self) -> States {
        States::new(self.pool.clone(), self.nats.clone(), self.keys.clone())
    }

    async fn sql(&self, sql: &str) {
        let done = self.pool.execute(sql).await.expect("a change by hand");
        assert!(done.rows_affected() > 0, "{sql}");
    }

    /// What a run would begin with.
    async fn newest(&self, stack: &str) -> Result<Option<Mark>, StoreError> {
        Ok(self.keeper.newest(stack).await?.map(|found| found.mark()))
    }

    /// Versions 1 to 3 of a stack.
    async fn three(&self, stack: &str) -> Vec<Version> {
        let mut versions: Vec<Version> = Vec::new();
        for serial in 1..=3 {
            let next =
                of(stack, serial, &format!("what {stack} is {serial}"), versions.last().map(Version::mark));
            self.keeper.keep(next.clone()).await.expect("kept");
            versions.push(next);
        }
        versions
    }
}

fn of(stack: &str, serial: i64, what: &str, after: Option<Mark>) -> Version {
    let body = json!({"version": 4, "serial": serial, "lineage": "l", "outputs": what}).to_string();
    Version::read(stack, "order", body.into_bytes(), vec![after]).expect("a state")
}

pub(super) fn version(serial: i64, what: &str, after: Option<Mark>) -> Version {
    of("stack", serial, what, after)
}

pub(super) fn names(spool: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(spool).expect("the spool").flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_state_follows_the_one_it_was_made_from_and_is_never_lost() {
    let World { postgres, keeper, spool, _server, _dir, .. } = world().await;
    let first = version(1, "one", None);
    keeper.keep(first.clone()).await.expect("the first");
    keeper.keep(first.clone()).await.expect("the same again");
    assert_eq!(names(&spool), [""; 0], "Postgres has it");

    // Somebody who has not seen the first one does not write over it, whatever the serial.
    let blind = keeper.keep(version(5, "blind", None)).await;
    assert!(matches!(blind, Err(StoreError::Conflict { .. })), "{blind:?}");
    assert_eq!(names(&spool), ["stack.5.conflict"]);

    // What Terraform left on disk is taken in if it was made from what is there.
    let left = version(2, "left", None);
    let seen = Seen { version: Some(first.mark()), fence: None };
    keeper.adopt("stack", "order", left.body.clone(), Some(seen)).await.expect("adopted");
    assert_eq!(keeper.newest("stack").await.expect("a state").map(|found| found.mark()), Some(left.mark()));

    // Without Postgres the spool is enough, and the chain holds over several writes.
    postgres.stop(Duration::from_secs(10)).await;
    let third = version(3, "three", Some(left.mark()));
    let fourth = version(4, "four", Some(third.mark()));
    keeper.keep(third.clone()).await.expect("spooled");
    keeper.keep(fourth.clone()).await.expect("spooled");
    let stranger = keeper.keep(version(9, "stranger", Some(left.mark()))).await;
    assert!(matches!(stranger, Err(StoreError::Conflict { .. })), "{stranger:?}");
    assert_eq!(keeper.newest("stack").await.expect("spooled").map(|found| found.mark()), Some(fourth.mark()));
    assert_eq!(names(&spool), ["stack.5.conflict", "stack.9.conflict", "stack.json"]);
    let waiting = keeper.spool.get("stack").await.expect("readable").expect("there");
    assert_eq!(waiting.after, [Some(left.mark()), Some(third.mark())]);
    assert!(waiting.follows(Some(&left)) && waiting.follows(Some(&third)) && !waiting.follows(None));

    // A file that is no state does not block its stack.
    std::fs::write(spool.join("stack.json"), "{").expect("written");
    assert!(keeper.spool.get("stack").await.expect("set aside").is_none());
    assert_eq!(names(&spool), ["stack.5.conflict", "stack.9.conflict", "stack.bad"]);
}

#[tokio::test]
async fn a_row_that_somebody_changed_is_noticed_and_its_second_copy_put_back() {
    let world = world().await;
    let changes = [
        (
            "set bit",
            "UPDATE terraform.states SET body = set_byte(body, 20, get_byte(body, 20) # 1) WHERE serial = 3",
        ),
        ("cut", "UPDATE terraform.states SET body = substring(body FOR 30) WHERE serial = 3"),
        ("emptied", "UPDATE terraform.states SET body = '' WHERE serial = 3"),
        (
            "body of an older one",
            "UPDATE terraform.states t SET body = o.body FROM terraform.states o \
             WHERE t.stack = o.stack AND t.serial = 3 AND o.serial = 2",
        ),
        (
            "body of another stack",
            "UPDATE terraform.states t SET body = o.body FROM terraform.states o \
             WHERE o.stack = 'other' AND t.serial = 3 AND o.serial = 3",
        ),
        ("older one under a later serial", "UPDATE terraform.states SET serial = 9 WHERE serial = 2"),
        ("another lineage", "UPDATE terraform.states SET lineage = 'm' WHERE serial = 3"),
        ("another order", "UPDATE terraform.states SET wan_order = 'forged' WHERE serial = 3"),
        (
            "not sealed",
            "UPDATE terraform.states SET sealed_with = NULL, body = '{\"serial\":3,\"lineage\":\"l\"}' WHERE serial = 3",
        ),
    ];
    world.three("other").await;
    for (number, (what, sql)) in changes.iter().enumerate() {
        let stack = format!("stack-{number}");
        let versions = world.three(&stack).await;
        // The word WHERE is last in each of them.
        let (head, tail) = sql.rsplit_once("WHERE").expect("a condition");
        let column = if head.contains("states t") { "t.stack" } else { "stack" };
        world.sql(&format!("{head}WHERE {column} = '{stack}' AND {tail}")).await;
        let error = world.newest(&stack).await.expect_err(what);
        assert!(
            matches!(error, StoreError::Key(KeyError::StateChanged { .. }) | StoreError::Unsealed { .. }),
            "{what}: {error}"
        );
        let next = of(&stack, 4, "next", versions.last().map(Version::mark));
        assert!(world.keeper.keep(next).await.is_err(), "{what}: nothing is written behind it");
        world.keeper.spool.forget(&stack).await.expect("forgotten");

        assert_eq!(world.states().restore(&stack).await.expect("restored"), Restored::Done(3), "{what}");
        let mark = world.newest(&stack).await.expect("readable");
        assert_eq!(mark, versions.last().map(Version::mark), "{what}");
        assert_eq!(world.states().restore(&stack).await.expect("nothing to do"), Restored::Same(3), "{what}");
    }
}

#[tokio::test]
async fn copies_are_put_back_one_by_one_and_never_over_what_was_stored_meanwhile() {
    let world = world().await;
    world.three("many").await;
    world.sql("UPDATE terraform.states SET body = '' WHERE serial = 3").await;
    let states = world.states();
    let mut done = futures::future::join_all((0..4).map(|_| states.restore("many"))).await;
    done.sort_by_key(|done| matches!(done, Ok(Restored::Same(3))));
    assert!(matches!(done[0], Ok(Restored::Done(3))), "{done:?}");
    assert!(done[1..].iter().all(|done| matches!(done, Ok(Restored::Same(3)))), "{done:?}");

    // An executor goes on while it is judged what Postgres lacks.
    let versions = world.three("stack").await;
    world.sql("DELETE FROM terraform.states WHERE stack = 'stack' AND serial = 3").await;
    let mut writer = world.pool.begin().await.expect("a transaction");
    Store::alone(&mut writer, "stack").await.expect("alone");
    let store = &world.keeper.store;
    let next = of("stack", 4, "next", versions.last().map(Version::mark));
    for version in [&versions[2], &next] {
        store.insert(&mut *writer, &store.seal(version).expect("sealed")).await.expect("stored");
    }
    let goes_on = async {
        let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted";
        while sqlx::query_scalar::<_, i64>(waits).fetch_one(&world.pool).await.expect("locks") == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        writer.commit().await.expect("stored");
    };
    let (restored, ()) = tokio::join!(states.restore("stack"), goes_on);
    assert!(matches!(restored, Ok(Restored::Older(4))), "{restored:?}");
    assert_eq!(world.newest("stack").await.expect("a state"), Some(next.mark()));
}

#[tokio::test]
async fn what_one_store_lost_the_other_has() {
    let world = world().await;
    let versions = world.three("stack").await;
    let newest = versions.last().map(Version::mark);

    // Postgres went back to an older backup, or lost all.
    for lost in ["serial = 3", "serial > 1", "true"] {
        world.sql(&format!("DELETE FROM terraform.states WHERE {lost}")).await;
        assert_eq!(world.newest("stack").await.expect("from the copy"), newest, "{lost}");
        let rows = world.states().history("stack").await.expect("rows");
        assert_eq!(rows.first().map(|row| row.serial), Some(3), "{lost}: it has it again");
    }

    // NATS lost the copy; a look puts it back.
    let stream = world.nats.js.get_stream(topology::STATES).await.expect("the stream");
    stream.purge().await.expect("purged");
    assert_eq!(world.newest("stack").await.expect("from Postgres"), newest);
    let copy = world.states().copy("stack").await.expect("asked").expect("copied again");
    assert_eq!(copy.body, versions.last().expect("three").body);

    // A copy is never taken for what it is not: neither changed nor that of another stack.
    let copies = StateCopies::new(world.nats.clone());
    world.three("other").await;
    let mut forged = copies.get("other").await.expect("asked").expect("there");
    forged.stack = "stack".to_owned();
    forged.serial = 7;
    copies.replace(&forged).await.expect("put there by hand");
    let error = world.newest("stack").await.expect_err("forged");
    assert!(matches!(error, StoreError::Key(KeyError::StateChanged { .. })), "{error}");
}

#[tokio::test]
async fn a_second_copy_that_somebody_changed_is_noticed_or_made_again() {
    let world = world().await;
    let (versions, others) = (world.three("stack").await, world.three("other").await);
    let newest = versions.last().map(Version::mark);
    let copies = StateCopies::new(world.nats.clone());
    let get = async |stack: &str| copies.get(stack).await.expect("asked").expect("there");
    let (whole, other) = (get("stack").await, get("other").await);

    for at in [0, 20, whole.body.len() - 1] {
        let mut body = whole.body.to_vec();
        body[at] ^= 1;
        copies.replace(&SealedState { body: body.into(), ..whole.clone() }).await.expect("put there by hand");
        let error = world.newest("stack").await.expect_err("a set bit");
        assert!(matches!(error, StoreError::Key(KeyError::StateChanged { .. })), "{at}: {error}");
    }

    copies.replace(&SealedState { stack: "stack".to_owned(), ..other.clone() }).await.expect("swapped");
    copies.replace(&SealedState { stack: "other".to_owned(), ..whole.clone() }).await.expect("swapped");
    for stack in ["stack", "other"] {
        let error = world.newest(stack).await.expect_err("swapped");
        assert!(matches!(error, StoreError::Key(KeyError::StateChanged { .. })), "{stack}: {error}");
    }

    // An older one is left behind by the row, of which it is made again.
    let store = Store { pool: world.pool.clone(), keys: world.keys.clone(), copies: copies.clone() };
    let older = store.seal(&versions[1]).expect("sealed");
    world.nats.js.get_stream(topology::STATES).await.expect("the stream").purge().await.expect("purged");
    copies.put(&older).await.expect("put back");
    assert_eq!(world.newest("stack").await.expect("from Postgres"), newest);
    assert_eq!(get("stack").await.serial, 3);
    assert_eq!(world.newest("other").await.expect("from Postgres"), others.last().map(Version::mark));
}

#[tokio::test]
async fn states_larger_than_a_message_are_copied_and_keys_are_replaced_under_them() {
    let world = world().await;
    // Letters that do not compress, so that it takes several messages.
    let noise: String = (0..40_000).map(|_| uuid::Uuid::new_v4().simple().to_string()).collect();
    let large = of("large", 1, &noise, None);
    world.keeper.keep(large.clone()).await.expect("kept");
    world.keeper.keep(of("large", 2, &noise, Some(large.mark()))).await.expect("kept");
    let small = world.three("small").await;
    let before = world.keys.newest().expect("a key");

    let after = world.keys.add().expect("another key");
    assert_ne!(before, after);
    let done = world.states().reseal(false).await.expect("sealed anew");
    assert_eq!((done.versions, done.copies, done.key), (5, 2, after.clone()));
    assert_eq!(done.unopened, [""; 0]);
    let again = world.states().reseal(false).await.expect("nothing left");
    assert_eq!((again.versions, again.copies), (0, 0));
    for stack in ["large", "small"] {
        let copy = StateCopies::new(world.nats.clone()).get(stack).await.expect("asked").expect("there");
        assert_eq!(copy.key, after);
        world.sql(&format!("DELETE FROM terraform.states WHERE stack = '{stack}'")).await;
    }
    assert_eq!(world.newest("small").await.expect("from the copy"), small.last().map(Version::mark));
    let found = world.keeper.newest("large").await.expect("from the copy").expect("there");
    assert_eq!((found.serial, found.body.len()), (2, large.body.len()));
}

#[tokio::test]
async fn what_an_earlier_version_did_not_seal_is_sealed_when_it_is_asked_for() {
    let world = world().await;
    let body = String::from_utf8(version(1, "old", None).body).expect("text");
    let sql = format!(
        "INSERT INTO terraform.states (stack, serial, lineage, wan_order, body) \
         VALUES ('stack', 1, 'l', 'order', convert_to('{body}', 'UTF8'))"
    );
    world.sql(&sql).await;
    assert!(matches!(world.newest("stack").await, Err(StoreError::Unsealed { .. })));
    assert_eq!(world.states().reseal(false).await.expect("done").versions, 0);
    assert_eq!(world.states().reseal(true).await.expect("done").versions, 1);
    assert_eq!(world.newest("stack").await.expect("readable"), Some(version(1, "old", None).mark()));
}

#[tokio::test]
async fn old_versions_go_and_the_newest_twenty_stay() {
    let world = world().await;
    let mut last = None;
    for serial in 1..=25 {
        let next = of("many", serial, &serial.to_string(), last);
        last = Some(next.mark());
        world.keeper.keep(next).await.expect("kept");
    }
    let store = Store {
        pool: world.pool.clone(),
        keys: world.keys.clone(),
        copies: StateCopies::new(world.nats.clone()),
    };
    assert_eq!(store.thin().await.expect("thinned"), 0, "they are young");
    world.sql("UPDATE terraform.states SET written_at = now() - interval '91 days'").await;
    assert_eq!(store.thin().await.expect("thinned"), 5);
    assert_eq!(world.newest("many").await.expect("a state"), last);
    assert_eq!(world.states().history("many").await.expect("rows").len(), 20);
}

#[tokio::test]
async fn only_a_stack_without_a_state_is_begun_again() {
    let world = world().await;
    world.three("a").await;
    assert!(!world.states().begin("a", None).await.expect("an answer"), "it has one");
    assert!(world.states().begin("b", None).await.expect("an answer"));
    assert!(!world.states().begin("b", None).await.expect("an answer"), "it has one now");
    let begun = world.states().copy("b").await.expect("a copy").expect("a copy");
    assert_eq!(world.newest("b").await.expect("a state").map(|mark| mark.serial), Some(begun.serial));
}

impl World {
    /// Both stores are as they were when this version was the newest.
    async fn put_back(&self, version: &Version) {
        let Version { stack, serial, .. } = version;
        self.sql(&format!("DELETE FROM terraform.states WHERE stack = '{stack}' AND serial > {serial}"))
            .await;
        let stream = self.nats.js.get_stream(topology::STATES).await.expect("the stream");
        stream.purge().await.expect("put back");
        let store = &self.keeper.store;
        store.copies.put(&store.seal(version).expect("sealed")).await.expect("put back");
    }
}

#[tokio::test]
async fn an_older_state_than_is_known_is_neither_begun_with_nor_served() {
    let world = world().await;
    let versions = world.three("stack").await;
    let known = versions.last().map(Version::mark);
    let work = world.spool.with_file_name("work");
    let server = StateServer::start(world.keeper.store.clone(), world.nats.clone(), &work).await;
    let server = server.expect("a backend");
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let open = |known| server.open("stack", "order", None).knowing(known);
    let get = async |session: &super::state::StateSession| {
        let env = session.env();
        let of = |name: &str| &env.iter().find(|(known, _)| *known == name).expect("a variable").1;
        let asked = http.get(of("TF_HTTP_ADDRESS"));
        let asked = asked.basic_auth(of("TF_HTTP_USERNAME"), Some(of("TF_HTTP_PASSWORD")));
        asked.send().await.expect("an answer").status().as_u16()
    };

    let early = open(None);
    early.begin().await.expect("a state");
    for _ in 0..2 {
        assert_eq!(get(&early).await, 200);
    }
    assert_eq!(early.stored().await, known);
    world.put_back(&versions[1]).await;
    assert_eq!(get(&early).await, 503, "it has seen a newer one");
    let late = open(known).begin().await;
    assert!(matches!(late, Err(StoreError::Older { found: 2, known: 3, .. })), "{late:?}");
    assert_eq!(get(&open(known)).await, 503);
    // Nothing newer is known of than what is there.
    for known in [None, Some(versions[0].mark()), Some(versions[1].mark())] {
        open(known).begin().await.expect("a state");
    }
    // Under one serial it is the very version, or none.
    let another = of("stack", 2, "another", None).mark();
    let found = open(Some(another)).begin().await;
    assert!(matches!(found, Err(StoreError::Older { found: 2, known: 2, .. })), "{found:?}");
    let none = server.open("none", "order", None).knowing(known).begin().await;
    assert!(matches!(none, Err(StoreError::Gone { .. })), "{none:?}");
    server.stop();
}

#[tokio::test]
async fn what_only_waits_on_the_disk_is_not_told_as_stored() {
    let world = world().await;
    let versions = world.three("stack").await;
    let work = world.spool.with_file_name("work");
    let server = StateServer::start(world.keeper.store.clone(), world.nats.clone(), &work).await;
    let server = server.expect("a backend");
    let session = server.open("stack", "order", None);
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let env = session.env();
    let of = |name: &str| &env.iter().find(|(known, _)| *known == name).expect("a variable").1;
    let call = async |method: &[u8], query: &str, body: Vec<u8>| {
        let method = reqwest::Method::from_bytes(method).expect("a method");
        let asked = http.request(method, format!("{}{query}", of("TF_HTTP_ADDRESS")));
        let asked = asked.basic_auth(of("TF_HTTP_USERNAME"), Some(of("TF_HTTP_PASSWORD"))).body(body);
        asked.send().await.expect("an answer").status().as_u16()
    };
    session.begin().await.expect("a state");
    assert_eq!(session.stored().await, None, "it has seen nothing yet");
    assert_eq!(call(b"LOCK", "", br#"{"ID":"a"}"#.to_vec()).await, 200);
    assert_eq!(call(b"GET", "", Vec::new()).await, 200);
    let fourth = of_stack(4, versions.last().map(Version::mark));
    assert_eq!(call(b"POST", "?ID=a", fourth.body.clone()).await, 200);
    assert_eq!(session.stored().await, Some(fourth.mark()));
    world.postgres.stop(Duration::from_secs(10)).await;
    let fifth = of_stack(5, Some(fourth.mark()));
    assert_eq!(call(b"POST", "?ID=a", fifth.body).await, 200, "it is on the disk");
    assert_eq!(session.stored().await, None);
    server.stop();
}

fn of_stack(serial: i64, after: Option<Mark>) -> Version {
    version(serial, &serial.to_string(), after)
}

#[tokio::test]
async fn an_older_state_is_accepted_by_its_serial_and_stands_behind_what_is_known() {
    let world = world().await;
    let versions = world.three("stack").await;
    let known = versions.last().map(Version::mark);
    let accept =
        async |serial, known| world.states().accept("stack", serial, known).await.expect("an answer");
    assert_eq!(accept(3, known).await, Accepted::Needless(3));
    assert_eq!(accept(3, None).await, Accepted::Needless(3));
    world.put_back(&versions[0]).await;
    assert_eq!(accept(3, known).await, Accepted::Another(1));
    assert_eq!(world.newest("stack").await.expect("a state"), Some(versions[0].mark()), "nothing is stored");
    assert_eq!(accept(1, known).await, Accepted::Done(4));
    assert_eq!(accept(1, known).await, Accepted::Another(4));
    assert_eq!(accept(4, known).await, Accepted::Needless(4));
    assert_eq!(world.states().accept("none", 1, known).await.expect("an answer"), Accepted::NoState);

    let (newest, copy) = (world.keeper.newest("stack").await, world.states().copy("stack").await);
    let newest = newest.expect("a state").expect("a state");
    assert_eq!(copy.expect("a copy").map(|copy| copy.serial), Some(4));
    assert!(super::store::up_to_date("stack", known, Some(&newest)).is_ok());
    assert_eq!((newest.order.as_str(), newest.lineage.as_str()), ("by hand", "l"));
    let of = |version: &Version| {
        let mut fields: serde_json::Value = serde_json::from_slice(&version.body).expect("a state");
        fields["serial"] = json!(0);
        fields
    };
    assert_eq!(of(&newest), of(&versions[0]));

    // The next run goes on from there, and one that is begun anew stands behind what is known as well.
    world.keeper.keep(self::of("stack", 5, "next", Some(newest.mark()))).await.expect("kept");
    assert!(world.states().begin("lost", known).await.expect("an answer"));
    let begun = world.newest("lost").await.expect("a state").map(|mark| mark.serial);
    assert_eq!(begun, Some(4));
}

#[test]
fn an_accepted_state_says_what_it_said() {
    let body = br#"{"serial": 1, "lineage": "l", "outputs": {"n": 123456789012345678901234567890.10}}"#;
    let again = super::archive::with_serial(body, 7).expect("a state");
    let expected = r#"{"lineage":"l","outputs":{"n": 123456789012345678901234567890.10},"serial":7}"#;
    assert_eq!(String::from_utf8(again).expect("text"), expected);
}
