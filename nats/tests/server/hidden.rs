//! Claims of a server with a damaged file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use wanwright_nats::claim::{Claimed, Claims};
use wanwright_nats::{Nats, topology};

use crate::server;

#[tokio::test]
async fn a_name_whose_claim_the_server_cannot_read_is_never_found_free() {
    // Bytes of the record of the claim: lengths, sequence, time, subject, owner, checksum.
    let mut doubtful = 0;
    for at in (0..RECORD).step_by(7) {
        let dir = tempfile::tempdir().unwrap();
        let (running, nats) = server(dir.path()).await;
        topology::apply(&nats, 1).await.unwrap();
        claim_all(&nats, &["serial/A", "serial/B", "serial/C"]).await;
        running.stop(STOP).await;
        flip(dir.path(), at);
        let (_server, nats) = server(dir.path()).await;
        let claims = Claims::open(&nats).await.unwrap();
        // Nothing was lost that was known of.
        claims.note_missing(0);
        // So that there is a count which the next question shares.
        let _ = claims.claim("serial/D", "other/d0").await;
        let claimed = claims.claim("serial/B", "other/d1").await;
        println!("{at}: {claimed:?}");
        assert!(!matches!(claimed, Ok(Claimed::New(_) | Claimed::Again { .. })), "{at}: {claimed:?}");
        doubtful += u32::from(matches!(claimed, Ok(Claimed::Doubtful(_))));
    }
    assert!(doubtful > 0, "the server hid none");
}

async fn claim_all(nats: &Nats, names: &[&str]) {
    let claims = Claims::open(nats).await.unwrap();
    for name in names {
        assert!(matches!(claims.claim(name, "acme/d1").await.unwrap(), Claimed::New(_)));
    }
}

/// How long a server has to stop.
const STOP: Duration = Duration::from_secs(20);

/// How many bytes the server stores of a claim.
const RECORD: usize = 22 + "$KV.claims.serial/B".len() + "acme/d1".len() + 8;

/// Flips a bit in the record of the claim to `serial/B`.
fn flip(dir: &Path, at: usize) {
    let block = messages(dir).unwrap().join("1.blk");
    let mut bytes = std::fs::read(&block).unwrap();
    let subject = b"$KV.claims.serial/B";
    let found = bytes.windows(subject.len()).position(|window| window == subject).unwrap();
    bytes[found - 22 + at] ^= 1;
    std::fs::write(block, bytes).unwrap();
}

/// The folder with the blocks of the bucket.
fn messages(below: &Path) -> Option<PathBuf> {
    let mut folders = std::fs::read_dir(below).ok()?.flatten().map(|entry| entry.path());
    folders.find_map(|path| {
        let is_it = path.ends_with("KV_claims/msgs");
        if is_it { Some(path) } else { messages(&path) }
    })
}
