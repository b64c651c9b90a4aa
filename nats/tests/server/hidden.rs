//! Claims of a server with a damaged file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use wanwright_nats::Nats;
use wanwright_nats::claim::{Claimed, Claims, Doubts, Whole};
use wanwright_nats::topology::{self, CLAIMS};

use crate::server;

/// The name whose last message is damaged.
const NAME: &str = "serial/B";

#[tokio::test]
async fn a_name_whose_claim_the_server_cannot_read_is_never_found_free() {
    let held = async |claims: &Claims| {
        claims.claim(NAME, "acme/d1").await.unwrap();
    };
    let mut doubtful = 0;
    for (at, is_last) in places() {
        let world = World::damaged(at, is_last, held).await;
        // So that there is a count which the next question shares.
        let _ = world.claims.claim("serial/D", "other/d0").await;
        doubtful += u32::from(world.is_doubtful(at).await);
    }
    assert!(doubtful > 0, "the server hid none");
}

#[tokio::test]
async fn nor_is_one_that_was_somebodys_before_that() {
    let held = async |claims: &Claims| {
        let Claimed::New(first) = claims.claim(NAME, "gone/d7").await.unwrap() else { panic!("not free") };
        assert!(claims.release_seen(NAME, first).await.unwrap());
        assert!(matches!(claims.claim(NAME, "acme/d1").await.unwrap(), Claimed::New(_)));
    };
    let mut doubtful = 0;
    for (at, is_last) in places() {
        let world = World::damaged(at, is_last, held).await;
        doubtful += u32::from(world.is_doubtful(at).await);
    }
    assert!(doubtful > 0, "the server hid none");
}

#[tokio::test]
async fn nor_is_it_its_owners_who_claimed_it_and_died_before_he_asked() {
    let held = async |claims: &Claims| {
        claims.claim(NAME, "acme/d1").await.unwrap();
    };
    let mut doubtful = 0;
    for (at, is_last) in places() {
        let world = World::damaged(at, is_last, held).await;
        // A claim without a question.
        let _ = world.claims.claim_back(NAME, OTHER).await;
        doubtful += u32::from(world.is_doubtful(at).await);
    }
    assert!(doubtful > 0, "the server hid none");
}

#[tokio::test]
async fn a_loss_that_is_known_does_not_make_up_for_a_claim_that_is_hidden() {
    let held = async |claims: &Claims| {
        claims.claim("serial/E", "acme/d5").await.unwrap();
        claims.claim("serial/E", "acme/d5").await.unwrap();
        claims.claim(NAME, "acme/d1").await.unwrap();
    };
    let mut doubtful = 0;
    for (at, is_last) in places() {
        let world = World::damaged(at, is_last, held).await;
        let _ = world.claims.claim("serial/D", "other/d0").await;
        lose_the_first(&world.nats, "serial/E").await;
        world.claims.note_known(whole(&world.nats).await, &world.claims.doubts(), &[]);
        doubtful += u32::from(world.is_doubtful(at).await);
    }
    assert!(doubtful > 0, "the server hid none");
}

#[tokio::test]
async fn after_a_loss_a_name_is_in_doubt_until_it_was_looked_after() {
    let dir = tempfile::tempdir().unwrap();
    let (_server, nats) = server(dir.path()).await;
    topology::apply(&nats, 1).await.unwrap();
    let claims = Claims::open(&nats).await.unwrap();
    let before = whole(&nats).await;
    claims.note_known(before, &claims.doubts(), &[]);
    for _ in 0..2 {
        claims.claim(NAME, "acme/d1").await.unwrap();
    }
    lose_the_first(&nats, NAME).await;
    for (name, owner) in [("serial/C", "acme/d3"), (NAME, "acme/d1")] {
        let claimed = async || claims.claim(name, owner).await.unwrap();
        claims.note_known(before, &claims.doubts(), &[]);
        assert!(matches!(claimed().await, Claimed::Doubtful { .. }), "{name}");
        // The loss is known, and somebody else had the name when the others were given theirs back.
        claims.note_known(whole(&nats).await, &claims.doubts(), &[name.to_owned()]);
        assert!(matches!(claimed().await, Claimed::Doubtful { .. }), "{name}");
        claims.note_known(whole(&nats).await, &claims.doubts(), &[]);
        assert!(matches!(claimed().await, Claimed::Again { .. }), "{name}");
    }
    // Whoever knows nothing of it finds that the name has one message less than it had: one of others may be hidden beside it.
    let claims = Claims::open(&nats).await.unwrap();
    claims.note_known(whole(&nats).await, &claims.doubts(), &[]);
    assert!(matches!(claims.claim(NAME, "acme/d1").await.unwrap(), Claimed::Doubtful { .. }));
}

#[tokio::test]
async fn a_bucket_that_was_made_anew_holds_no_doubt_against_a_name() {
    let dir = tempfile::tempdir().unwrap();
    let (_server, nats) = server(dir.path()).await;
    topology::apply(&nats, 1).await.unwrap();
    let claims = Claims::open(&nats).await.unwrap();
    claims.note_known(whole(&nats).await, &claims.doubts(), &[]);
    for name in ["serial/A", NAME] {
        claims.claim(name, "acme/d1").await.unwrap();
    }
    nats.js.delete_stream(format!("KV_{CLAIMS}")).await.unwrap();
    topology::apply(&nats, 1).await.unwrap();
    // It may be the end of the old one that is gone.
    assert!(matches!(claims.claim(NAME, "other/d1").await.unwrap(), Claimed::Doubtful { .. }));
    claims.note_known(whole(&nats).await, &claims.doubts(), &[]);
    assert!(matches!(claims.claim(NAME, "other/d1").await.unwrap(), Claimed::Again { .. }));
    assert!(matches!(claims.claim("serial/C", "other/d1").await.unwrap(), Claimed::New(_)));
}

/// What the bucket has.
async fn whole(nats: &Nats) -> Whole {
    let state = nats.js.get_stream(format!("KV_{CLAIMS}")).await.unwrap().get_info().await.unwrap().state;
    Whole { missing: state.last_sequence - state.messages, last: state.last_sequence }
}

/// Has the bucket lose the first of two messages of a name.
async fn lose_the_first(nats: &Nats, name: &str) {
    let bucket = nats.js.get_stream(format!("KV_{CLAIMS}")).await.unwrap();
    let lost = bucket.purge().filter(format!("$KV.{CLAIMS}.{name}")).keep(1).await.unwrap();
    assert_eq!(lost.purged, 1);
}

/// A server whose file was damaged while it was stopped.
struct World {
    _server: wanwright_supervisor::Nats,
    nats: wanwright_nats::Nats,
    claims: Claims,
    _dir: TempDir,
}

/// Who wants the name.
const OTHER: &str = "other/d1";

impl World {
    /// Flips a bit of the last message of the name, as `held` left it; nothing is known to be lost.
    async fn damaged(at: usize, is_last: bool, held: impl AsyncFn(&Claims)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (running, nats) = server(dir.path()).await;
        topology::apply(&nats, 1).await.unwrap();
        let claims = Claims::open(&nats).await.unwrap();
        held(&claims).await;
        if !is_last {
            claims.claim("serial/C", "acme/d3").await.unwrap();
        }
        let before = whole(&nats).await;
        running.stop(STOP).await;
        flip(dir.path(), at);
        let (server, nats) = server(dir.path()).await;
        let claims = Claims::open(&nats).await.unwrap();
        claims.note_known(before, &claims.doubts(), &[]);
        Self { _server: server, nats, claims, _dir: dir }
    }

    /// Whether the name is in doubt when it is claimed. If not, it is not had; if so, it is had once that was looked after.
    async fn is_doubtful(&self, at: usize) -> bool {
        let claimed = self.claims.claim(NAME, OTHER).await;
        let Ok(Claimed::Doubtful { now: revision, .. }) = claimed else {
            assert!(!matches!(claimed, Ok(Claimed::New(_) | Claimed::Again { .. })), "{at}: {claimed:?}");
            return false;
        };
        // It is not free by being given back.
        assert!(self.claims.release_seen(NAME, revision).await.unwrap());
        let claimed = self.claims.claim(NAME, OTHER).await.unwrap();
        assert!(matches!(claimed, Claimed::Doubtful { .. }), "{at}: {claimed:?}");
        // Somebody else had it when the others were given theirs back.
        self.claims.note_known(whole(&self.nats).await, &self.claims.doubts(), &[NAME.to_owned()]);
        let claimed = self.claims.claim(NAME, OTHER).await.unwrap();
        assert!(matches!(claimed, Claimed::Doubtful { .. }), "{at}: {claimed:?}");
        self.claims.note_known(whole(&self.nats).await, &self.claims.doubts(), &[]);
        assert_eq!(self.claims.doubts(), Doubts::default());
        let claimed = self.claims.claim(NAME, OTHER).await.unwrap();
        assert!(matches!(claimed, Claimed::Again { .. }), "{at}: {claimed:?}");
        true
    }
}

/// How long a server has to stop.
const STOP: Duration = Duration::from_secs(20);

/// Bytes of a message, as the server stores it: lengths, sequence, time, subject, headers, owner, checksum. And whether it is
/// the last one of the file.
fn places() -> impl Iterator<Item = (usize, bool)> {
    let bytes = (0..22 + NAME.len() + 100).step_by(13);
    bytes.flat_map(|at| [(at, false), (at, true)])
}

/// Flips a bit of the last message of the name.
fn flip(dir: &Path, at: usize) {
    let block = messages(dir).unwrap().join("1.blk");
    let mut bytes = std::fs::read(&block).unwrap();
    let subject = format!("$KV.{CLAIMS}.{NAME}");
    let found = bytes.windows(subject.len()).rposition(|window| window == subject.as_bytes()).unwrap();
    bytes[found - 22 + at] ^= 1;
    std::fs::write(block, bytes).unwrap();
}

/// The folder with the blocks of the bucket.
fn messages(below: &Path) -> Option<PathBuf> {
    let mut folders = std::fs::read_dir(below).ok()?.flatten().map(|entry| entry.path());
    folders.find_map(|path| {
        let is_it = path.ends_with(format!("KV_{CLAIMS}/msgs"));
        if is_it { Some(path) } else { messages(&path) }
    })
}
