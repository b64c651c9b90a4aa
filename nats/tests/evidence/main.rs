//! What an audit finds in an export, without any server.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use async_nats::HeaderMap;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use wanwright_nats::StoredMessage;
use wanwright_nats::evidence::export::{
    EXPORT_VERSION, ExportedStream, Line, Manifest, StreamFile, write_heads, write_key,
};
use wanwright_nats::evidence::verify::verify;
use wanwright_nats::evidence::{
    Ages, Auditor, Finding, Folder, Report, Rolling, SignedHead, SigningKey, leaf,
};
use wanwright_schemas::subjects::{events, events_stream, partition};
use wanwright_schemas::{CommandId, CustomerId, Digest, Envelope};

const PARTITIONS: u16 = 1;

fn key() -> SigningKey {
    SigningKey::from_seed([7; 32]).unwrap()
}

fn created() -> Timestamp {
    "2026-11-21T08:00:00.000001Z".parse().unwrap()
}

/// Two customers in one stream, a chain each.
fn messages(count: u64) -> Vec<StoredMessage> {
    let mut last: BTreeMap<&str, Digest> = BTreeMap::new();
    let message = |sequence: u64| {
        let name = ["acme", "globex"][usize::try_from(sequence % 2).unwrap()];
        let customer: CustomerId = name.parse().unwrap();
        assert_eq!(partition(&customer, PARTITIONS), 0);
        let time = created() + SignedDuration::from_nanos(i64::try_from(sequence).unwrap() * 1_000_003);
        let envelope = Envelope {
            v: 1,
            command: CommandId::of_message(1_795_000_000_000 + sequence, sequence),
            body_sha256: Digest::of(b"{}"),
            actor: "demo".parse().unwrap(),
            cause: Some("Grüße".to_owned()),
            correlation: None,
            time,
            prev: last.get(name).copied(),
            key: None,
            events: Vec::new(),
        };
        let payload = envelope.encode().unwrap();
        last.insert(name, Digest::of(&payload));
        let mut headers = HeaderMap::new();
        headers.insert("Wan-Verb", "create");
        let subject = events(&customer, PARTITIONS);
        StoredMessage { stream: events_stream(0), sequence, subject, time, headers, payload: payload.into() }
    };
    (1..=count).map(message).collect()
}

fn heads(messages: &[StoredMessage], every: u64) -> Vec<SignedHead> {
    let mut rolling = Rolling::default();
    let mut heads = Vec::new();
    for message in messages {
        rolling = rolling.with(message.sequence, leaf(message));
        if message.sequence % every == 0 {
            let of = ("EVENTS-0", created());
            heads.push(SignedHead::sign(&key(), of, rolling, leaf(message), message.time));
        }
    }
    heads
}

/// Writes an export of these messages with these heads; whoever can write the folder can write a manifest that fits.
fn export(dir: &Path, messages: &[StoredMessage], heads: &[SignedHead], customer: Option<&str>) {
    let mut file = StreamFile::open(dir, "EVENTS-0", 0).unwrap();
    for message in messages {
        file.add(message, customer.is_none_or(|name| message.subject.ends_with(name))).unwrap();
    }
    let (last, messages, sealed) = (file.last, file.messages, file.sealed);
    let lines = file.finish().unwrap();
    let (heads, head_lines) = write_heads(dir, "EVENTS-0", heads).unwrap();
    write_key(dir, &key().public()).unwrap();
    let stream = ExportedStream {
        stream: "EVENTS-0".to_owned(),
        incarnation: created(),
        after: 0,
        last,
        messages,
        sealed,
        lines,
        heads,
        head_lines,
    };
    let manifest = Manifest {
        v: EXPORT_VERSION,
        partitions: PARTITIONS,
        customer: customer.map(|name| name.parse().unwrap()),
        from: 1,
        time: created() + SignedDuration::from_hours(1),
        key: key().public().to_string(),
        streams: vec![stream],
        digest: None,
    };
    manifest.write(dir).unwrap();
}

fn findings(dir: &Path) -> Vec<Finding> {
    let report = verify(dir, Some(key().public()), None).unwrap();
    all(&report)
}

fn all(report: &Report) -> Vec<Finding> {
    let found: Vec<Finding> =
        report.streams.iter().flat_map(|stream| &stream.findings).chain(&report.findings).cloned().collect();
    assert_eq!(report.sound, found.is_empty());
    found
}

/// The findings in an export whose messages and heads somebody changed, manifest and all.
fn tampered(change: impl FnOnce(&mut Vec<StoredMessage>, &mut Vec<SignedHead>)) -> Vec<Finding> {
    let dir = tempfile::tempdir().unwrap();
    let mut messages = messages(20);
    let mut heads = heads(&messages, 5);
    change(&mut messages, &mut heads);
    export(dir.path(), &messages, &heads, None);
    findings(dir.path())
}

fn renumber(messages: &mut [StoredMessage]) {
    (1..).zip(messages).for_each(|(sequence, message)| message.sequence = sequence);
}

#[test]
fn an_export_is_sound_and_so_is_one_of_a_single_customer() {
    assert_eq!(tampered(|_, _| ()), []);
    let dir = tempfile::tempdir().unwrap();
    let messages = messages(20);
    export(dir.path(), &messages, &heads(&messages, 5), Some("acme"));
    assert_eq!(findings(dir.path()), []);
    let text = std::fs::read_to_string(dir.path().join("EVENTS-0.jsonl")).unwrap();
    assert!(!text.contains("globex"), "what others said is left out");
}

#[test]
fn a_changed_message_is_named() {
    let found = tampered(|messages, _| {
        let text = String::from_utf8(messages[6].payload.to_vec()).unwrap();
        messages[6].payload = text.replace("\"demo\"", "\"evil\"").into();
    });
    assert!(found.contains(&Finding::Changed { sequence: 7, by: 9 }), "{found:?}");
    assert!(
        found.iter().any(|found| matches!(found, Finding::Rewritten { from: 6, to: 10, .. })),
        "{found:?}"
    );
    // The last message of its customer is followed by none: the heads alone know.
    let found = tampered(|messages, _| messages[19].payload = messages[17].payload.clone());
    assert!(
        found.iter().any(|found| matches!(found, Finding::Rewritten { from: 16, to: 20, .. })),
        "{found:?}"
    );
}

#[test]
fn headers_times_and_subjects_are_vouched_for() {
    let header = tampered(|messages, _| messages[3].headers.insert("Wan-Verb", "change"));
    let time = tampered(|messages, _| messages[3].time += SignedDuration::from_nanos(1));
    for found in [header, time] {
        assert!(matches!(found[..], [Finding::Rewritten { from: 1, to: 5, .. }]), "{found:?}");
    }
    let subject = tampered(|messages, _| messages[3].subject = messages[2].subject.clone());
    assert!(
        subject.iter().any(|found| matches!(found, Finding::Rewritten { from: 1, to: 5, .. })),
        "{subject:?}"
    );
}

#[test]
fn a_missing_a_doubled_and_a_displaced_message_are_named() {
    let missing = tampered(|messages, _| drop(messages.remove(6)));
    assert_eq!(missing, [Finding::Missing { from: 7, to: 7 }]);
    let doubled = tampered(|messages, _| {
        let again = messages[6].clone();
        messages.insert(7, again);
    });
    assert_eq!(doubled, [Finding::Inserted { sequence: 7 }]);
    let displaced = tampered(|messages, _| messages.swap(6, 7));
    assert!(displaced.contains(&Finding::Reordered { sequence: 7, behind: 8 }), "{displaced:?}");
}

#[test]
fn a_message_that_was_taken_out_or_put_in_is_found_though_all_are_numbered_anew() {
    let found = tampered(|messages, _| {
        messages.remove(6);
        renumber(messages);
    });
    assert!(
        found.iter().any(|found| matches!(found, Finding::Rewritten { from: 6, to: 10, .. })),
        "{found:?}"
    );
    assert!(
        found.iter().any(|found| matches!(found, Finding::Truncated { last: 19, sequence: 20, .. })),
        "{found:?}"
    );
    let found = tampered(|messages, _| {
        let mut forged = Envelope::decode(&messages[8].payload).unwrap();
        forged.actor = "evil".parse().unwrap();
        let mut inserted = messages[8].clone();
        inserted.payload = forged.encode().unwrap().into();
        messages.insert(8, inserted);
        renumber(messages);
    });
    assert!(found.contains(&Finding::Inserted { sequence: 9 }), "{found:?}");
}

#[test]
fn an_end_that_is_gone_is_found_and_so_is_a_forged_head() {
    let found = tampered(|messages, _| messages.truncate(17));
    assert!(matches!(found[..], [Finding::Truncated { last: 17, sequence: 20, .. }]), "{found:?}");
    let found = tampered(|messages, heads| {
        messages.truncate(17);
        heads.truncate(3);
    });
    assert_eq!(found, [], "nothing that is left tells of it");
    let found = tampered(|_, heads| heads[1].rolling = Digest::of(b"forged"));
    assert_eq!(found, [Finding::Forged { sequence: 10, key: key().public().id() }]);
    let other = SigningKey::from_seed([8; 32]).unwrap();
    let found = tampered(|messages, heads| {
        heads[1] = SignedHead::sign(
            &other,
            ("EVENTS-0", created()),
            heads[1].rolling(),
            leaf(&messages[9]),
            created(),
        );
    });
    assert_eq!(found, [Finding::Forged { sequence: 10, key: key().public().id() }]);
}

#[test]
fn a_file_that_is_missing_is_named() {
    for file in ["EVENTS-0.jsonl", "heads/EVENTS-0.jsonl", "manifest.json"] {
        let dir = tempfile::tempdir().unwrap();
        let messages = messages(20);
        export(dir.path(), &messages, &heads(&messages, 5), None);
        std::fs::remove_file(dir.path().join(file)).unwrap();
        let found = findings(dir.path());
        let is_named = |finding: &Finding| matches!(finding, Finding::File { file: named, why } if named == file && why.contains("missing"));
        assert!(found.iter().any(is_named), "{file}: {found:?}");
    }
}

#[test]
fn what_customers_left_behind_when_they_moved_is_compared_and_belongs_here() {
    // Under two partitions one of them is at home in the other stream; the messages stay where they are.
    let moved = |name: &str| partition(&name.parse().unwrap(), 2) == 1;
    let count = ["acme", "globex"].into_iter().filter(|name| moved(name)).count();
    let audited = |messages: &[StoredMessage]| {
        let heads = heads(&self::messages(20), 5);
        let mut auditor = Auditor::new("EVENTS-0", 2, heads, &key().public(), 0);
        messages.iter().for_each(|message| auditor.message(message));
        auditor.end(20)
    };
    let audit = audited(&messages(20));
    assert_eq!((audit.findings, audit.left_behind), (Vec::new(), count as u64 * 10));
    let mut foreign = messages(20);
    foreign[4].subject = events(&"globex".parse().unwrap(), 1).replace(".0.", ".1.");
    let found = audited(&foreign).findings;
    assert!(found.iter().any(|found| matches!(found, Finding::Foreign { sequence: 5, .. })), "{found:?}");
}

#[test]
fn heads_that_were_kept_elsewhere_tell_of_an_end_that_is_gone() {
    let (dir, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut messages = messages(20);
    let mut heads = heads(&messages, 5);
    let folder = Folder::new(kept.path());
    heads.iter().for_each(|head| folder.append(head).unwrap());
    messages.truncate(17);
    heads.truncate(3);
    export(dir.path(), &messages, &heads, None);
    let report = verify(dir.path(), Some(key().public()), Some(&folder)).unwrap();
    assert!(matches!(all(&report)[..], [Finding::Truncated { last: 17, sequence: 20, .. }]), "{report:?}");
    assert_eq!(folder.newest("EVENTS-0").unwrap().map(|head| head.sequence), Some(20));
}

#[test]
fn an_export_that_was_interrupted_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let messages = messages(20);
    let mut file = StreamFile::open(dir.path(), "EVENTS-0", 0).unwrap();
    messages[..12].iter().for_each(|message| file.add(message, true).unwrap());
    file.finish().unwrap();
    let path = dir.path().join("EVENTS-0.jsonl");
    let torn = serde_json::to_vec(&Line::of(&messages[12], true)).unwrap();
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, [&whole[..], &torn[..40]].concat()).unwrap();
    let file = StreamFile::open(dir.path(), "EVENTS-0", 0).unwrap();
    assert_eq!((file.last, file.messages), (12, 12));
    drop(file);
    export(dir.path(), &messages[12..], &heads(&messages, 5), None);
    assert_eq!(findings(dir.path()), []);
}

#[test]
fn half_a_line_that_a_crash_left_is_no_head_and_the_next_one_counts() {
    let kept = tempfile::tempdir().unwrap();
    let folder = Folder::new(kept.path());
    let heads = heads(&messages(20), 5);
    folder.append(&heads[0]).unwrap();
    let path = folder.file("EVENTS-0");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, [&whole[..], &whole[..50]].concat()).unwrap();
    assert_eq!(folder.heads("EVENTS-0").unwrap(), heads[..1]);
    folder.append(&heads[1]).unwrap();
    assert_eq!(folder.heads("EVENTS-0").unwrap(), heads[..2]);
}

/// Heads of a stream of 20 messages that was signed after each of them: two a day, and the last six within two hours.
fn aged(messages: &[StoredMessage], now: Timestamp) -> Vec<SignedHead> {
    let before = |sequence: u64| i64::try_from(20 - sequence).unwrap();
    let ago = |sequence: u64| match sequence {
        ..=14 => SignedDuration::from_hours(48 + 12 * before(sequence)),
        near => SignedDuration::from_mins(20 * before(near)),
    };
    let resign = |head: SignedHead| {
        let time = now - ago(head.sequence);
        SignedHead::sign(&key(), ("EVENTS-0", created()), head.rolling(), head.leaf, time)
    };
    heads(messages, 1).into_iter().map(resign).collect()
}

#[test]
fn thinned_heads_still_vouch_for_everything_and_tell_of_an_end_that_is_gone() {
    let now: Timestamp = "2026-11-21T08:30:00Z".parse().unwrap();
    let messages = messages(20);
    let kept = tempfile::tempdir().unwrap();
    let folder = Folder::new(kept.path());
    aged(&messages, now).iter().for_each(|head| folder.append(head).unwrap());
    // A crash in the middle of a line, and then one more.
    let path = folder.file("EVENTS-0");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, [&whole[..], &whole[..50], b"\n"].concat()).unwrap();
    let sequences = |folder: &Folder| -> Vec<u64> {
        folder.heads("EVENTS-0").unwrap().iter().map(|head| head.sequence).collect()
    };
    for days in [0, 1, 2, 100] {
        let ages = Ages::at(now + SignedDuration::from_hours(24 * days));
        folder.thin("EVENTS-0", &key().public(), &ages).unwrap();
        let left = sequences(&folder);
        assert_eq!((left.first(), left.last()), (Some(&1), Some(&20)), "{left:?}");
        assert!(left.is_sorted(), "{left:?}");
        let (dir, heads) = (tempfile::tempdir().unwrap(), folder.heads("EVENTS-0").unwrap());
        export(dir.path(), &messages, &heads, None);
        assert_eq!(findings(dir.path()), [], "after {days} days: {left:?}");
        let cut = tempfile::tempdir().unwrap();
        export(cut.path(), &messages[..19], &heads, None);
        let found = findings(cut.path());
        assert!(matches!(found[..], [Finding::Truncated { last: 19, sequence: 20, .. }]), "{found:?}");
        let mut changed = messages.clone();
        changed[2].headers.insert("Wan-Verb", "change");
        let dir = tempfile::tempdir().unwrap();
        export(dir.path(), &changed, &heads, None);
        let found = findings(dir.path());
        assert!(matches!(found[..], [Finding::Rewritten { from: ..=3, to: 3.., .. }]), "{found:?}");
    }
    // All of the last two hours are of one day by now.
    assert!(!sequences(&folder).iter().any(|sequence| (15..20).contains(sequence)));
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.lines().any(|line| line.len() == 50), "what is no head is not ours to remove");
}

#[test]
fn all_heads_of_a_day_are_kept_then_one_an_hour_then_one_a_day() {
    let now: Timestamp = "2026-11-21T08:30:00Z".parse().unwrap();
    let kept = tempfile::tempdir().unwrap();
    let folder = Folder::new(kept.path());
    // Every 20 minutes for 40 days.
    let count = 40 * 24 * 3;
    for sequence in 1_u64..=count {
        let leaf = Digest::of(&sequence.to_be_bytes());
        let rolling = Rolling { sequence, digest: leaf };
        let time = now - SignedDuration::from_mins(20 * i64::try_from(count - sequence).unwrap());
        let head = SignedHead::sign(&key(), ("EVENTS-0", created()), rolling, leaf, time);
        let mut line = serde_json::to_vec(&head).unwrap();
        line.push(b'\n');
        let mut file =
            std::fs::File::options().append(true).create(true).open(folder.file("EVENTS-0")).unwrap();
        std::io::Write::write_all(&mut file, &line).unwrap();
    }
    let other = SigningKey::from_seed([8; 32]).unwrap();
    assert_eq!(folder.thin("EVENTS-0", &other.public(), &Ages::at(now)).unwrap(), 0, "they are another's");
    let ages = Ages::at(now);
    assert_eq!(
        (ages.all.to_string(), ages.hourly.to_string()),
        ("2026-11-20T08:00:00Z".into(), "2026-10-22T00:00:00Z".into())
    );
    let gone = folder.thin("EVENTS-0", &key().public(), &ages).unwrap();
    let left = folder.heads("EVENTS-0").unwrap();
    assert_eq!(left.len() as u64 + gone, count);
    let within = |from: Timestamp, to: Timestamp| {
        left.iter().filter(|head| from <= head.time && head.time < to).count()
    };
    assert_eq!(within(ages.all, now + SignedDuration::from_secs(1)), 24 * 3 + 2);
    // The first hour of all is where it begins.
    assert_eq!(within(ages.hourly, ages.all), 29 * 24 + 8);
    assert_eq!(within(Timestamp::UNIX_EPOCH, ages.hourly), 10 + 1);
    assert_eq!(left[0].sequence, 1);
    assert_eq!(folder.thin("EVENTS-0", &key().public(), &ages).unwrap(), 0);
}

fn files(dir: &Path) -> Vec<PathBuf> {
    ["EVENTS-0.jsonl", "heads/EVENTS-0.jsonl", "audit.pub", "manifest.json"].map(|file| dir.join(file)).into()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_byte_that_is_another_one_is_found(place in any::<prop::sample::Index>(), other in 1_u8..) {
        let dir = tempfile::tempdir().unwrap();
        let messages = messages(9);
        export(dir.path(), &messages, &heads(&messages, 4), None);
        let lengths: Vec<usize> =
            files(dir.path()).iter().map(|file| std::fs::read(file).unwrap().len()).collect();
        let mut at = place.index(lengths.iter().sum());
        let file = lengths.iter().position(|length| { let here = at < *length; if !here { at -= length } here });
        let path = &files(dir.path())[file.unwrap()];
        let mut bytes = std::fs::read(path).unwrap();
        bytes[at] ^= other;
        std::fs::write(path, bytes).unwrap();
        // The key in the export counts as well: a key that is none is an error, which is no answer of `sound`.
        if let Ok(report) = verify(dir.path(), None, None) {
            prop_assert!(!report.sound, "{} at {at}: {report:?}", path.display());
        }
        let report = verify(dir.path(), Some(key().public()), None).unwrap();
        prop_assert!(!report.sound, "{} at {at}: {report:?}", path.display());
    }
}
