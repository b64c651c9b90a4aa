//! A backup is brought back, again and again, while two executors lock the same stacks and write their states: what they were
//! told is kept stays and stands behind what it was made from, nothing goes back, and what is said of it is true.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use serde_json::json;
use sqlx::{Connection, PgPool};
use tokio_util::sync::CancellationToken;
use wanwright_nats::Fence;
use wanwright_schemas::envelope::Digest;
use wanwright_schemas::subjects;

use super::super::keeper::Keeper;
use super::super::neighbours::Neighbours;
use super::super::spool::Spool;
use super::super::store::{Mark, SEALED, Store, StoreError, Version, sealed};
use super::super::tests::{Servers, servers};
use super::super::waiting::Waiting;
use super::{Backup, RestoredStack, Verdict};

/// How often it is brought back.
const ROUNDS: usize = 4;

/// Stacks of each kind in a round.
const STACKS: usize = 6;

/// Versions of each stack in the backup.
const VERSIONS: i64 = 5;

/// The lease under which they were made. All others come later.
const FIRST: u64 = 7;

/// The whole test takes some seconds; who waits for another that waits for it takes for ever.
const LIMIT: Duration = Duration::from_secs(120);

/// What is lost of a stack before the backup is brought back, and what its executors do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Nothing is lost.
    Going,
    /// The backup does not have it.
    New,
    /// All of it is lost, and they wait for it.
    Waits,
    /// All of it is lost, and they begin anew at the same time.
    Begins,
    /// The newest versions are lost, and they go on from those before at the same time.
    Behind,
    /// The same, and they have gone on before.
    Ahead,
}

use Kind::{Ahead, Begins, Behind, Going, New, Waits};

impl Kind {
    /// How many versions are left.
    fn left(self) -> i64 {
        match self {
            Going => VERSIONS,
            Behind | Ahead => 3,
            New | Waits | Begins => 0,
        }
    }

    fn stacks(self, round: usize) -> Vec<String> {
        let round = if matches!(self, Going | New) { 0 } else { round };
        (0..STACKS).map(|number| format!("{self:?}-{round}-{number}").to_lowercase()).collect()
    }
}

/// The stacks that are written in a round, with their numbers.
fn present(round: usize) -> impl Iterator<Item = (Kind, String, usize)> {
    let of =
        move |kind: Kind| (0..).zip(kind.stacks(round)).map(move |(number, stack)| (kind, stack, number));
    [Going, New, Waits, Begins, Behind, Ahead].into_iter().flat_map(of)
}

/// A version that an executor made.
struct Made {
    stack: String,
    serial: i64,
    after: Option<Mark>,
    /// Whether the executor was told that it is kept.
    is_kept: bool,
}

struct World {
    executors: Vec<Keeper>,
    pool: PgPool,
    made: Mutex<BTreeMap<Digest, Made>>,
    leases: AtomicU64,
    backup: PathBuf,
    /// The rows of the backup, as text, each with its stack.
    backed: BTreeMap<String, String>,
}

fn lease(number: u64) -> Fence {
    Fence { incarnation: Timestamp::UNIX_EPOCH, number }
}

impl World {
    async fn new(servers: &Servers) -> Self {
        // As many connections as there are calls at once: nobody waits for another one's.
        let limits = sqlx::postgres::PgPoolOptions::new().max_connections(64);
        let pool = limits.connect(&servers.postgres.url()).await.expect("a connection");
        let (keys, copies) = (servers.store.keys.clone(), servers.store.copies.clone());
        let mut executors = Vec::new();
        for name in ["here/executor", "there/executor"] {
            let work = servers.dir.path().join(name);
            let spool = Spool::open(&work.join(Spool::FOLDER), keys.clone()).await.expect("a spool");
            let store = Store { pool: pool.clone(), keys: keys.clone(), copies: copies.clone() };
            executors.push(Keeper::new(store, spool, Neighbours::of(&work), Waiting::new(None, &work)));
        }
        let backup = servers.dir.path().join("backup");
        let (made, leases) = (Mutex::default(), AtomicU64::new(FIRST + 1));
        let mut world = Self { executors, pool, made, leases, backup, backed: BTreeMap::new() };
        let rounds = (0..ROUNDS).flat_map(|round| [Waits, Begins, Behind, Ahead].map(|kind| (kind, round)));
        let stacks: Vec<String> =
            rounds.chain([(Going, 0)]).flat_map(|(kind, round)| kind.stacks(round)).collect();
        join_all(stacks.iter().map(|stack| world.begin(stack))).await;
        Backup::write(&world.pool, &world.backup, &|_, _, _| {}).await.expect("a backup");
        world.backed = world.rows().await;
        assert_eq!(world.backed.len(), stacks.len() * VERSIONS as usize);
        world
    }

    /// Versions of a stack, for the backup.
    async fn begin(&self, stack: &str) {
        let executor = &self.executors[0];
        assert!(executor.fence(stack, lease(FIRST)).await.expect("an answer"));
        let mut after = None;
        for serial in 1..=VERSIONS {
            let version = self.version(stack, "first", serial, after).under(Some(lease(FIRST)));
            after = Some(version.mark());
            executor.keep(version).await.expect("kept");
        }
    }

    fn made(&self) -> MutexGuard<'_, BTreeMap<Digest, Made>> {
        self.made.lock().expect("what was made")
    }

    /// Every row, as text, with its stack.
    async fn rows(&self) -> BTreeMap<String, String> {
        let rows = sqlx::query_as("SELECT state::text, stack FROM terraform.states state");
        let rows: Vec<(String, String)> = rows.fetch_all(&self.pool).await.expect("rows");
        rows.into_iter().collect()
    }

    /// How many versions of the backup a stack has.
    async fn backed(&self) -> BTreeMap<String, i64> {
        let mut counts = BTreeMap::new();
        for (row, stack) in self.rows().await {
            *counts.entry(stack).or_default() += i64::from(self.backed.contains_key(&row));
        }
        counts
    }

    /// The newest serial of each stack, and the lease that it was locked under last.
    async fn highest(&self) -> BTreeMap<(String, String), i64> {
        let sql = "SELECT stack, 'serial', max(serial) FROM terraform.states GROUP BY stack \
                   UNION ALL SELECT stack, 'lease', number FROM terraform.fences";
        let rows: Vec<(String, String, i64)> =
            sqlx::query_as(sql).fetch_all(&self.pool).await.expect("numbers");
        rows.into_iter().map(|(stack, what, number)| ((stack, what), number)).collect()
    }

    fn version(&self, stack: &str, lineage: &str, serial: i64, after: Option<Mark>) -> Version {
        let number = self.leases.fetch_add(1, Ordering::SeqCst);
        let state = json!({"version": 4, "serial": serial, "lineage": lineage, "outputs": number});
        let version =
            Version::read(stack, "order", state.to_string().into_bytes(), vec![after]).expect("a state");
        let made = Made { stack: stack.to_owned(), serial, after, is_kept: false };
        self.made().insert(version.mark().digest, made);
        version
    }

    /// Loses versions, their second copies, and the leases of those that lose all.
    async fn lose(&self, servers: &Servers, round: usize) {
        let stream = servers.nats.js.get_stream("STATES").await.expect("a stream");
        for kind in [Waits, Begins, Behind, Ahead] {
            for stack in kind.stacks(round) {
                let sql = "DELETE FROM terraform.states WHERE stack = $1 AND serial > $2";
                let lost = sqlx::query(sql).bind(&stack).bind(kind.left());
                lost.execute(&self.pool).await.expect("lost");
                if kind == Waits {
                    let sql = "DELETE FROM terraform.fences WHERE stack = $1";
                    sqlx::query(sql).bind(&stack).execute(&self.pool).await.expect("lost");
                }
                let subject = subjects::state(&stack);
                stream.purge().filter(subject).await.expect("lost");
            }
        }
    }

    /// A run: locks the stack, reads its state, and writes behind it. Whether it was told that this is kept.
    async fn run(&self, executor: &Keeper, stack: &str, kind: Kind) -> bool {
        let number = self.leases.fetch_add(1, Ordering::SeqCst);
        match executor.fence(stack, lease(number)).await {
            // A machine that does much else.
            Ok(false) | Err(StoreError::Late) => return false,
            locked => locked.expect("an answer"),
        };
        let late = executor.fence(stack, lease(FIRST + 1)).await;
        assert!(!matches!(late, Ok(true)), "{stack}: locked under a lease from before {number}");
        let present = match executor.newest(stack).await {
            // The other executor has stored between two looks what its second copy is of.
            Err(StoreError::Postgres(sqlx::Error::Database(error))) if error.is_unique_violation() => {
                return false;
            }
            Err(StoreError::Late) => return false,
            present => present.expect("an answer"),
        };
        let version = match &present {
            // Serials may leave some out.
            Some(present) => {
                let serial = present.serial + 1 + (number % 3).cast_signed();
                self.version(stack, &present.lineage, serial, Some(present.mark()))
            }
            None if matches!(kind, Begins | New) => self.version(stack, "anew", 1, None),
            None => return false,
        };
        let mark = version.mark();
        match executor.keep(version.under(Some(lease(number)))).await {
            Ok(()) => {
                self.made().get_mut(&mark.digest).expect("a version").is_kept = true;
                true
            }
            Err(StoreError::Conflict { .. }) => false,
            Err(error) => panic!("{stack}: {error}"),
        }
    }

    /// Runs from a moment on until the end.
    async fn work(
        &self,
        executor: &Keeper,
        stack: String,
        kind: Kind,
        from: &CancellationToken,
        end: &CancellationToken,
    ) {
        from.cancelled().await;
        while !end.is_cancelled() {
            self.run(executor, &stack, kind).await;
        }
    }

    /// Looks until the end that no serial and no lease goes back.
    async fn watch(&self, end: &CancellationToken) {
        let mut before = self.highest().await;
        while !end.is_cancelled() {
            let now = self.highest().await;
            for (what, number) in before {
                let present = now.get(&what).copied();
                assert!(present.is_some_and(|present| present >= number), "{what:?}: {number}, {present:?}");
            }
            before = now;
        }
    }

    /// How many versions of a stack were told to be kept.
    fn kept(&self, stack: &str) -> usize {
        self.made().values().filter(|made| made.stack == stack && made.is_kept).count()
    }

    async fn round(&self, servers: &Servers, round: usize) {
        self.lose(servers, round).await;
        for stack in Ahead.stacks(round) {
            while !self.run(&self.executors[0], &stack, Ahead).await {}
        }
        // Before it begins, and when the versions and then the leases wait to be judged.
        let (moments, end) = ([(); 3].map(|()| CancellationToken::new()), CancellationToken::new());
        moments[0].cancel();
        let mut work = Vec::new();
        for (kind, stack, number) in present(round) {
            for executor in &self.executors {
                work.push(self.work(executor, stack.clone(), kind, &moments[number % moments.len()], &end));
            }
        }
        let restore = async {
            self.restore(round, &moments).await;
            // Then everybody goes on.
            let kept = || present(round).map(|(_, stack, _)| self.kept(&stack));
            let before: Vec<usize> = kept().collect();
            while kept().zip(&before).any(|(kept, before)| kept <= *before) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            end.cancel();
        };
        tokio::join!(restore, join_all(work), self.watch(&end));
    }

    /// Brings the backup back, tells others of moments on the way, and sees that what is said of it is true.
    async fn restore(&self, round: usize, moments: &[CancellationToken; 3]) {
        let (had, heads) = (self.backed().await, self.highest().await);
        let told = AtomicUsize::new(0);
        let tell = |_: &'static str, _: u64, _: u64| {
            let told = told.fetch_add(1, Ordering::SeqCst) + 1;
            moments.iter().take(told + 1).for_each(CancellationToken::cancel);
        };
        let backup = Backup::open(&self.backup, &|_, _, _| {}).await.expect("a backup");
        let pool = PgPool::connect_lazy_with((*self.pool.connect_options()).clone());
        let stacks = backup.restore(&pool, &tell).await.expect("restored");
        pool.close().await;
        let (has, now) = (self.backed().await, self.highest().await);

        let named: BTreeSet<_> = stacks.iter().map(|found| &found.stack).collect();
        assert_eq!(named, self.backed.values().collect(), "each stack of the backup, and no other");
        assert_eq!(named.len(), stacks.len(), "each once");
        for found in &stacks {
            let count = |of: &BTreeMap<String, i64>| of.get(&found.stack).copied().unwrap_or_default();
            let head = |of: &BTreeMap<(String, String), i64>| {
                of.get(&(found.stack.clone(), "serial".to_owned())).copied()
            };
            self.judge(found, count(&had), count(&has));
            assert!(head(&heads) <= found.before && found.before <= head(&now), "{found:?}");
        }
        for (kind, stack, _) in present(round) {
            let verdict = stacks.iter().find(|found| found.stack == stack).map(|found| found.verdict);
            match kind {
                Waits => assert_eq!(verdict, Some(Verdict::Restored), "{stack}"),
                // Its serials may be higher by now than those of the backup.
                Ahead => assert!(matches!(verdict, Some(Verdict::Differs | Verdict::Later)), "{stack}"),
                _ => {}
            }
        }
    }

    /// Whether it is true what is said of a stack that had so many versions of the backup, and has so many now.
    fn judge(&self, found: &RestoredStack, had: i64, has: i64) {
        assert_eq!((found.backup, found.added), (VERSIONS, has - had), "{found:?}");
        let is_true = match found.verdict {
            Verdict::Restored => found.added > 0 && has == VERSIONS && found.before.unwrap_or(0) == had,
            Verdict::Same => found.added == 0 && has == VERSIONS && found.before == Some(VERSIONS),
            Verdict::Later => found.added == 0 && found.before >= Some(VERSIONS),
            Verdict::Differs => found.added == 0 && has < VERSIONS && found.before.is_some(),
        };
        let made = self.made();
        let of_before = |made: &Made| made.stack == found.stack && Some(made.serial) == found.before;
        assert!(
            is_true && (found.before.is_none() || made.values().any(of_before)),
            "{found:?}, {had}, {has}"
        );
    }

    /// Everything that was told to be kept is there, and what is there stands behind what it was made from.
    async fn is_whole(&self) {
        let store = &self.executors[0].store;
        let sql = format!("SELECT {SEALED} FROM terraform.states ORDER BY stack, serial");
        let rows = sqlx::query(&sql).fetch_all(&self.pool).await.expect("rows");
        let versions =
            rows.iter().map(|row| store.open(&sealed(row).expect("sealed")).expect("what was sealed"));
        let (made, mut there) = (self.made(), BTreeSet::new());
        let mut last: Option<Version> = None;
        for version in versions {
            let (mark, stack) = (version.mark(), &version.stack);
            let known =
                made.get(&mark.digest).unwrap_or_else(|| panic!("{stack} {}: a stranger", mark.serial));
            assert_eq!((&known.stack, known.serial), (stack, version.serial));
            let present = last.filter(|last| last.stack == *stack).map(|last| last.mark());
            assert_eq!(known.after, present, "{stack} {}: not made from what is before it", mark.serial);
            there.insert(mark.digest);
            last = Some(version);
        }
        for (digest, made) in made.iter().filter(|(_, made)| made.is_kept) {
            assert!(there.contains(digest), "{} {}: kept, and not there", made.stack, made.serial);
        }
    }
}

#[tokio::test]
async fn what_is_written_while_a_backup_is_brought_back_stays_and_stands_in_line() {
    let servers = servers().await;
    let all = async {
        let world = World::new(&servers).await;
        for round in 0..ROUNDS {
            world.round(&servers, round).await;
            world.is_whole().await;
        }
        world.pool.close().await;
    };
    tokio::time::timeout(LIMIT, all).await.expect("nobody waits for ever");
    // Connections tell what they saw when they end.
    servers.store.pool.close().await;
    let mut last = sqlx::PgConnection::connect(&servers.postgres.url()).await.expect("a connection");
    let others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let ended = async {
        while sqlx::query_scalar::<_, i64>(others).fetch_one(&mut last).await.expect("a number") > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
        sqlx::query_scalar::<_, i64>(deadlocks).fetch_one(&mut last).await.expect("a number")
    };
    let deadlocks = tokio::time::timeout(LIMIT, ended).await.expect("connections end");
    assert_eq!(deadlocks, 0, "Postgres had to end those who waited for each other");
}

/// Who locks a stack waits for who stores a version of it, and holds the fences meanwhile.
#[tokio::test]
async fn a_backup_is_brought_back_while_somebody_waits_to_lock_a_stack() {
    let servers = servers().await;
    let store = &servers.store;
    let dir = servers.dir.path().join("backup");
    Backup::write(&store.pool, &dir, &|_, _, _| {}).await.expect("a backup");
    let backup = Backup::open(&dir, &|_, _, _| {}).await.expect("a backup");
    let mut storing = store.pool.begin().await.expect("a transaction");
    let alone = "SELECT pg_advisory_xact_lock(hashtextextended('stack', 0))";
    sqlx::query(alone).execute(&mut *storing).await.expect("alone");
    let restore = async {
        let waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
        while sqlx::query_scalar::<_, i64>(waits).fetch_one(&store.pool).await.expect("a number") == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let restored = backup.restore(&store.pool, &|_, _, _| {});
        let restored = tokio::time::timeout(LIMIT, restored).await.expect("in time");
        storing.rollback().await.expect("let go");
        restored.expect("restored");
    };
    let (locked, ()) = tokio::join!(store.fence("stack", lease(FIRST)), restore);
    assert!(locked.expect("an answer"));
}
