//! Backups are whole, and what is brought back takes nothing away, on a real Postgres.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use sqlx::{Executor, PgPool};
use wanwright_schemas::reason::Reason;

use super::super::tests::{Servers, servers};
use super::{Backup, BackupError, MIGRATIONS, RestoredStack, Verdict};

fn nobody(_: &'static str, _: u64, _: u64) {}

async fn put(pool: &PgPool, stack: &str, serials: std::ops::RangeInclusive<i64>, lineage: &str, order: &str) {
    let sql = "INSERT INTO terraform.states (stack, serial, lineage, wan_order, sealed_with, body) \
               SELECT $1, serial, $4, $5, 'k1', decode(md5($1 || serial || $4 || $5), 'hex') || '\\x000a0d5c09'::bytea \
               FROM generate_series($2, $3) AS serial";
    let put = sqlx::query(sql).bind(stack).bind(serials.start()).bind(serials.end()).bind(lineage);
    put.bind(order).execute(pool).await.expect("rows");
}

async fn fence(pool: &PgPool, stack: &str, incarnation: i64, number: i64) {
    let sql = "INSERT INTO terraform.fences VALUES ($1, to_timestamp($2), $3) \
               ON CONFLICT (stack) DO UPDATE SET incarnation = EXCLUDED.incarnation, number = EXCLUDED.number";
    let put = sqlx::query(sql).bind(stack).bind(incarnation as f64).bind(number);
    put.execute(pool).await.expect("a fence");
}

/// Both tables, as text.
async fn all(pool: &PgPool) -> Vec<String> {
    let sql =
        "SELECT s::text FROM terraform.states s UNION ALL SELECT f::text FROM terraform.fences f ORDER BY 1";
    sqlx::query_scalar(sql).fetch_all(pool).await.expect("rows")
}

async fn restore(pool: &PgPool, dir: &Path) -> Vec<RestoredStack> {
    let backup = Backup::open(dir, &nobody).await.expect("a backup");
    backup.restore(pool, &nobody).await.expect("restored")
}

fn of<'a>(stacks: &'a [RestoredStack], stack: &str) -> &'a RestoredStack {
    stacks.iter().find(|found| found.stack == stack).expect("the stack")
}

#[tokio::test]
async fn what_was_lost_comes_back_as_it_was() {
    let Servers { store, dir, .. } = &servers().await;
    let (pool, backup) = (&store.pool, &dir.path().join("backup"));
    for stack in ["a", "b\ttab\\and\nline", "ü"] {
        put(pool, stack, 1..=5, "l", "order").await;
        fence(pool, stack, 1_000, 7).await;
    }
    let before = all(pool).await;
    let written = Backup::write(pool, backup, &nobody).await.expect("a backup");
    let manifest = written.manifest();
    assert_eq!((manifest.versions(), manifest.stacks, &manifest.keys[..]), (15, 3, &["k1".to_owned()][..]));
    let mut names: Vec<_> =
        std::fs::read_dir(backup).expect("files").flatten().map(|f| f.file_name()).collect();
    names.sort();
    assert_eq!(names, ["fences.copy", "manifest.json", "states.copy"]);

    let lost = [
        "DELETE FROM terraform.states",
        "DELETE FROM terraform.states WHERE serial > 2",
        "DELETE FROM terraform.states WHERE serial IN (1, 4)",
        "DELETE FROM terraform.fences",
        "DROP TABLE terraform.states",
        "DROP TABLE terraform.fences",
        "DROP SCHEMA terraform CASCADE",
    ];
    for lost in lost {
        pool.execute(lost).await.expect("lost");
        let stacks = restore(pool, backup).await;
        assert_eq!(all(pool).await, before, "{lost}");
        let wanted = if lost.contains("fences") { Verdict::Same } else { Verdict::Restored };
        assert!(stacks.iter().all(|stack| stack.verdict == wanted), "{lost}: {stacks:?}");
    }
    let stacks = restore(pool, backup).await;
    assert!(stacks.iter().all(|stack| stack.verdict == Verdict::Same && stack.added == 0), "{stacks:?}");
    // The tables that were made again are those of the migrations, keys included.
    let twice = "INSERT INTO terraform.states SELECT * FROM terraform.states";
    assert!(pool.execute(twice).await.is_err());
}

#[tokio::test]
async fn what_is_there_is_never_changed_and_never_stood_behind() {
    let Servers { store, dir, .. } = &servers().await;
    let (pool, backup) = (&store.pool, &dir.path().join("backup"));
    for stack in ["later", "forked", "other", "gone", "untouched"] {
        put(pool, stack, 1..=5, "l", "order").await;
    }
    for stack in ["ahead", "behind", "bucket", "lost"] {
        fence(pool, stack, 1_000, 7).await;
    }
    Backup::write(pool, backup, &nobody).await.expect("a backup");

    put(pool, "later", 6..=7, "l", "order").await;
    // It went back to 3 and on from there by another order: 4 is not the 4 of the backup.
    pool.execute("DELETE FROM terraform.states WHERE stack = 'forked' AND serial > 3").await.expect("lost");
    put(pool, "forked", 4..=4, "l", "another").await;
    // It was lost and begun again.
    pool.execute("DELETE FROM terraform.states WHERE stack IN ('other', 'gone')").await.expect("lost");
    put(pool, "other", 1..=2, "m", "by hand").await;
    put(pool, "new", 1..=1, "n", "order").await;
    fence(pool, "ahead", 1_000, 9).await;
    fence(pool, "behind", 1_000, 5).await;
    fence(pool, "bucket", 2_000, 1).await;
    pool.execute("DELETE FROM terraform.fences WHERE stack = 'lost'").await.expect("lost");
    let before = all(pool).await;

    let stacks = restore(pool, backup).await;
    let became = |stack: &str| {
        let found = of(&stacks, stack);
        (found.verdict, found.before, found.backup, found.added)
    };
    assert_eq!(became("later"), (Verdict::Later, Some(7), 5, 0));
    assert_eq!(became("forked"), (Verdict::Differs, Some(4), 5, 0));
    assert_eq!(became("other"), (Verdict::Differs, Some(2), 5, 0));
    assert_eq!(became("gone"), (Verdict::Restored, None, 5, 5));
    assert_eq!(became("untouched"), (Verdict::Same, Some(5), 5, 0));
    assert_eq!(stacks.len(), 5, "{stacks:?}");
    let after = all(pool).await;
    let missing: Vec<_> =
        before.iter().filter(|row| !after.contains(row) && !row.contains("behind")).collect();
    assert!(missing.is_empty(), "{missing:?}");

    let sql =
        "SELECT stack, extract(epoch FROM incarnation)::bigint, number FROM terraform.fences ORDER BY stack";
    let fences: Vec<(String, i64, i64)> = sqlx::query_as(sql).fetch_all(pool).await.expect("fences");
    let wanted = [("ahead", 1_000, 9), ("behind", 1_000, 7), ("bucket", 2_000, 1), ("lost", 1_000, 7)];
    assert_eq!(fences, wanted.map(|(stack, incarnation, number)| (stack.to_owned(), incarnation, number)));
}

#[tokio::test]
async fn a_damaged_backup_is_refused_before_anything_is_written() {
    let Servers { store, dir, .. } = &servers().await;
    let (pool, good, bad) = (&store.pool, dir.path().join("good"), dir.path().join("bad"));
    put(pool, "a", 1..=3, "l", "order").await;
    fence(pool, "a", 1_000, 7).await;
    Backup::write(pool, &good, &nobody).await.expect("a backup");
    pool.execute("DELETE FROM terraform.states").await.expect("lost");
    let copy = || {
        let _ = std::fs::remove_dir_all(&bad);
        std::fs::create_dir(&bad).expect("a folder");
        for file in std::fs::read_dir(&good).expect("files").flatten() {
            std::fs::copy(file.path(), bad.join(file.file_name())).expect("a copy");
        }
    };
    let refused = async |what: &str| {
        let error = Backup::open(&bad, &nobody).await.expect_err(what);
        error.code().unwrap_or_else(|| panic!("{what}: {error}"))
    };
    for name in ["manifest.json", "states.copy", "fences.copy"] {
        let whole = std::fs::read(good.join(name)).expect("a file");
        for at in 0..whole.len() {
            copy();
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            std::fs::write(bad.join(name), &flipped).expect("written");
            let opened = Backup::open(&bad, &nobody).await;
            let code = opened.err().and_then(|error| error.code());
            // The number of a format that is not known yet looks like a later wanwright's.
            assert!(
                matches!(code, Some(Reason::BackupDamaged | Reason::BackupLater)),
                "{name}, byte {at}: {code:?}"
            );
        }
        for (what, text) in
            [("cut", &whole[..whole.len() - 1]), ("empty", &[][..]), ("long", &[&whole[..], b"\n"].concat())]
        {
            copy();
            std::fs::write(bad.join(name), text).expect("written");
            assert_eq!(refused(what).await, Reason::BackupDamaged, "{name} {what}");
        }
        copy();
        std::fs::remove_file(bad.join(name)).expect("removed");
        let wanted = if name == "manifest.json" { Reason::BackupMissing } else { Reason::BackupDamaged };
        assert_eq!(refused("missing").await, wanted, "{name}");
    }

    // It was whole when it was opened, and is not when it is read again.
    copy();
    let opened = Backup::open(&bad, &nobody).await.expect("whole");
    let text = std::fs::read_to_string(bad.join("states.copy")).expect("a file");
    std::fs::write(bad.join("states.copy"), text.replace("\torder\t", "\tother\t")).expect("written");
    let error = opened.restore(pool, &nobody).await.expect_err("damaged");
    assert!(matches!(error, BackupError::Damaged { .. }), "{error}");
    assert_eq!(all(pool).await.len(), 1, "only the fence");
    std::fs::write(bad.join("states.copy"), text).expect("written");
    assert_eq!(of(&opened.restore(pool, &nobody).await.expect("restored"), "a").added, 3);
}

#[tokio::test]
async fn a_backup_is_not_written_over_another_nor_with_what_everybody_could_read() {
    let Servers { store, dir, .. } = &servers().await;
    let (pool, backup) = (&store.pool, &dir.path().join("below/backup"));
    put(pool, "a", 1..=3, "l", "order").await;
    Backup::write(pool, backup, &nobody).await.expect("a backup");
    let again = Backup::write(pool, backup, &nobody).await.expect_err("there is one");
    assert_eq!(again.code(), Some(Reason::BackupFolderNotEmpty), "{again}");
    Backup::open(backup, &nobody).await.expect("it is as it was");

    pool.execute("UPDATE terraform.states SET sealed_with = NULL WHERE serial = 2").await.expect("unsealed");
    let other = &dir.path().join("other");
    let error = Backup::write(pool, other, &nobody).await.expect_err("unsealed");
    assert_eq!(error.code(), Some(Reason::StateUnsealed), "{error}");
    let refusal = error.refusal().expect("a refusal");
    assert!(
        refusal.message.contains("stack a") && refusal.next.contains("wanwright state seal"),
        "{refusal:?}"
    );

    // Half of it, and then no Postgres: nothing is left that looks like a backup, and the folder can be used again.
    pool.execute("UPDATE terraform.states SET sealed_with = 'k1'; DROP TABLE terraform.fences")
        .await
        .expect("dropped");
    let error = Backup::write(pool, other, &nobody).await.expect_err("no fences");
    assert!(matches!(error, BackupError::Postgres(_)), "{error}");
    assert_eq!(std::fs::read_dir(other).expect("a folder").count(), 0);
}

/// Writes a backup that stops at the row of this number, and cleans nothing up: as if it were killed there. `false`: it has
/// not so many.
async fn stopped_at(pool: &PgPool, dir: &Path, row: u64) -> bool {
    // Connections of its own, which end with it.
    let pool = &PgPool::connect_lazy_with((*pool.connect_options()).clone());
    let seen = AtomicU64::new(0);
    let tell = |_: &'static str, _: u64, _: u64| {
        assert!(seen.fetch_add(1, Ordering::SeqCst) + 1 < row, "killed here");
    };
    match AssertUnwindSafe(Backup::write(pool, dir, &tell)).catch_unwind().await {
        Ok(written) => {
            written.expect("a backup");
            false
        }
        Err(_) => {
            released(dir).await;
            true
        }
    }
}

/// Waits until nobody has the lock of a backup that ended: a process that another test starts meanwhile has it too, until it
/// becomes its program.
async fn released(dir: &Path) {
    let manifest = std::fs::File::open(dir.join("manifest.json.tmp")).expect("a manifest that was begun");
    let is_free = async {
        while manifest.try_lock().is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), is_free).await.expect("the lock ends with who has it");
}

/// The names in a folder.
fn names(dir: &Path) -> Vec<String> {
    super::super::tests::names(dir)
}

#[tokio::test]
async fn what_a_killed_backup_left_is_made_anew() {
    let Servers { store, dir, .. } = &servers().await;
    let (pool, dir) = (&store.pool, dir.path());
    put(pool, "a", 1..=3, "l", "order").await;
    fence(pool, "a", 1_000, 7).await;
    fence(pool, "b", 1_000, 7).await;
    let before = all(pool).await;
    let comes_back = async |backup: &Path, what: &str| {
        Backup::write(pool, backup, &nobody).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(names(backup), ["fences.copy", "manifest.json", "states.copy"], "{what}");
        pool.execute("DELETE FROM terraform.states; DELETE FROM terraform.fences").await.expect("lost");
        restore(pool, backup).await;
        assert_eq!(all(pool).await, before, "{what}");
    };

    // At each row.
    let mut seen = BTreeSet::new();
    for row in 1.. {
        let backup = dir.join(format!("row-{row}"));
        if !stopped_at(pool, &backup, row).await {
            assert_eq!(row, 6, "three versions and two fences");
            break;
        }
        seen.insert(names(&backup));
        let error = Backup::open(&backup, &nobody).await.expect_err("not finished");
        assert_eq!(error.code(), Some(Reason::BackupMissing), "{error}");
        // Twice in one folder, too.
        assert!(stopped_at(pool, &backup, 1).await);
        comes_back(&backup, &format!("row {row}")).await;
    }
    let wanted = [
        vec!["fences.copy.tmp", "manifest.json.tmp", "states.copy"],
        vec!["manifest.json.tmp", "states.copy.tmp"],
    ];
    assert_eq!(seen, wanted.map(|names| names.into_iter().map(str::to_owned).collect()).into());

    // Between the files.
    let whole = dir.join("row-1");
    let left = [
        &["manifest.json.tmp"][..],
        &["manifest.json.tmp", "states.copy"],
        &["manifest.json.tmp", "states.copy", "fences.copy"],
    ];
    for (number, left) in left.into_iter().enumerate() {
        for cut in [false, true] {
            let backup = dir.join(format!("left-{number}-{cut}"));
            std::fs::create_dir(&backup).expect("a folder");
            for name in left {
                let text = std::fs::read(whole.join(name.trim_end_matches(".tmp"))).expect("a file");
                let length = if cut { text.len() / 2 } else { text.len() };
                std::fs::write(backup.join(name), &text[..length]).expect("written");
            }
            comes_back(&backup, &format!("{left:?}, cut: {cut}")).await;
        }
    }
}

#[tokio::test]
async fn a_backup_is_not_written_where_there_is_anything_but_an_unfinished_one() {
    let Servers { store, dir, .. } = &servers().await;
    let (pool, dir) = (&store.pool, dir.path());
    put(pool, "a", 1..=3, "l", "order").await;
    let others = [
        // Somebody else's.
        (&["notes.txt"][..], "notes.txt"),
        (&["manifest.json.tmp", "states.copy", "notes.txt"], "notes.txt"),
        (&["manifest.json.tmp", "states.copy.old"], "states.copy.old"),
        // A backup, and what may be all that is left of one.
        (&["manifest.json"], "a backup"),
        (&["manifest.json", "manifest.json.tmp"], "a backup"),
        (&["states.copy"], "states.copy"),
        (&["fences.copy.tmp"], "fences.copy.tmp"),
    ];
    for (number, (files, named)) in others.into_iter().enumerate() {
        let backup = dir.join(format!("other-{number}"));
        std::fs::create_dir(&backup).expect("a folder");
        for name in files {
            std::fs::write(backup.join(name), name).expect("written");
        }
        let error = Backup::write(pool, &backup, &nobody).await.expect_err("refused");
        assert_eq!(error.code(), Some(Reason::BackupFolderNotEmpty), "{files:?}: {error}");
        assert!(error.to_string().contains(&format!("has {named} in it")), "{files:?}: {error}");
        assert_eq!(names(&backup).len(), files.len(), "nothing comes and nothing goes");
        for name in files {
            assert_eq!(std::fs::read_to_string(backup.join(name)).expect("a file"), *name);
        }
    }
    // Files only: a folder or a link of that name is no backup's.
    let linked = dir.join("linked");
    std::fs::create_dir(&linked).expect("a folder");
    std::fs::write(dir.join("precious"), "precious").expect("written");
    std::os::unix::fs::symlink(dir.join("precious"), linked.join("manifest.json.tmp")).expect("a link");
    let error = Backup::write(pool, &linked, &nobody).await.expect_err("refused");
    assert_eq!(error.code(), Some(Reason::BackupFolderNotEmpty), "{error}");
    assert_eq!(std::fs::read_to_string(dir.join("precious")).expect("a file"), "precious");
}

#[tokio::test]
async fn two_backups_are_not_written_into_one_folder_at_once() {
    let Servers { store, dir, .. } = &servers().await;
    let (pool, backup) = (&store.pool, &dir.path().join("backup"));
    put(pool, "a", 1..=3, "l", "order").await;
    let mut holder = pool.begin().await.expect("a transaction");
    holder.execute("LOCK TABLE terraform.fences IN ACCESS EXCLUSIVE MODE").await.expect("locked");
    let first = Backup::write(pool, backup, &nobody);
    let second = async {
        while !backup.join("fences.copy.tmp").exists() {
            tokio::task::yield_now().await;
        }
        let error = Backup::write(pool, backup, &nobody).await.expect_err("the first one is at it");
        assert_eq!(error.code(), Some(Reason::BackupUnderWay), "{error}");
        holder.rollback().await.expect("let go");
    };
    let both = async { tokio::join!(first, second) };
    let (first, ()) = tokio::time::timeout(Duration::from_secs(60), both).await.expect("both end");
    first.expect("a backup");
    Backup::open(backup, &nobody).await.expect("it is whole");
}

/// A later migration that touches the tables has to be in the list, or a lost table would be made without it.
#[test]
fn every_migration_of_the_schema_is_known() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("the migrations").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(entry.path()).expect("a file");
        if name.ends_with(".sql") && text.contains(" terraform.") {
            found.push(name[..4].parse::<u32>().expect("a number"));
        }
    }
    found.sort_unstable();
    assert_eq!(found, MIGRATIONS.map(|(number, _)| number));
}
