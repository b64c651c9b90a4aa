//! Personal data: nobody finds it in what is kept, wherever it was sent to.

use std::path::Path;

use async_nats::HeaderMap;
use serde_json::{Value, json};
use wanwright_nats::keys::Place;
use wanwright_nats::topology::{self, COMMANDS, DEAD};
use wanwright_nats::{DataKey, Keys};
use wanwright_schemas::contact::ContactField;
use wanwright_schemas::{
    CommandId, CustomerId, Envelope, Event, ObjectRef, Outcome, Reason, SealedText, headers,
};

use crate::world::{LIMIT, PARTITIONS, World, code, customer, stream_of};

/// What every text of a person has in it, and nothing else.
const MARK: &str = "Zq7Canary";

/// A contact that nobody else has.
pub fn canary(number: usize) -> Value {
    json!({
        "name": format!("{MARK} Doe {number}"),
        "email": format!("{number}.{MARK}@example.org"),
        "phone": format!("+47 {MARK} {number}"),
        "note": format!("only after {MARK} {number}"),
    })
}

pub fn site(number: usize, contact: Value) -> String {
    json!({ "vendor": "simwan", "lan": [format!("10.{number}.0.0/24")], "contact": contact }).to_string()
}

/// The ways in which bytes may be written.
pub fn writings(bytes: &[u8]) -> Vec<Vec<u8>> {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut all = vec![bytes.to_vec(), hex.to_uppercase().into_bytes(), hex.into_bytes()];
    for shift in 0..3 {
        let shifted = [&vec![0; shift][..], bytes].concat();
        let text = base64(&shifted);
        // What comes before and behind is in the first and the last characters.
        let (from, to) = ((shift * 8).div_ceil(6), (shift + bytes.len()) * 8 / 6);
        let inner = text[from..to].to_owned();
        all.push(inner.replace('+', "-").replace('/', "_").into_bytes());
        all.push(inner.into_bytes());
    }
    all
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let number =
            (0..3).fold(0, |number, at| number << 8 | u32::from(three.get(at).copied().unwrap_or(0)));
        (0..4).for_each(|at| text.push(char::from(LETTERS[(number >> (18 - 6 * at) & 63) as usize])));
    }
    text
}

/// The files of a folder in which any of these is.
pub fn files_with(dir: &Path, wanted: &[Vec<u8>]) -> Vec<String> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(dir) else { return found };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            found.extend(files_with(&path, wanted));
            continue;
        }
        // A file may be gone by now.
        let bytes = std::fs::read(&path).unwrap_or_default();
        if wanted.iter().any(|wanted| holds(&bytes, wanted)) {
            found.push(path.display().to_string());
        }
    }
    found
}

fn holds(bytes: &[u8], wanted: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| *byte == wanted[0]) {
        if rest[at..].starts_with(wanted) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

/// Waits until something is in some file, which shows that looking for it can find it.
pub async fn appears(dir: &Path, wanted: &[Vec<u8>]) {
    let found = async {
        while files_with(dir, wanted).is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, found).await.expect("it is in no file");
}

impl World {
    /// What the server keeps.
    pub fn kept(&self) -> std::path::PathBuf {
        self.dir().to_path_buf()
    }

    pub fn keys(&self) -> Keys {
        Keys::new(self.nats.clone(), self.master_key())
    }

    /// The key of a customer.
    pub async fn key_of(&self, name: &str) -> DataKey {
        let customer = customer(name);
        let current = self.keys().current(&customer).await.unwrap().key.unwrap();
        self.keys().get(&customer, current).await.unwrap().unwrap()
    }

    pub async fn events(&self, name: &str) -> Vec<Event> {
        let history = self.history(name).await;
        history.iter().flat_map(|message| Envelope::decode(&message.payload).unwrap().events).collect()
    }

    /// The sealed name in the last event that tells of one, opened.
    async fn opened(&self, name: &str, site: &str) -> String {
        let history = self.history(name).await;
        let mut texts = history.iter().flat_map(|message| texts(&message.payload));
        let last = texts.rfind(|(field, _)| field == "name").unwrap().1;
        let (customer, object) = (customer(name), ObjectRef::Site(site.parse().unwrap()));
        let place = Place { customer: &customer, object: &object, field: ContactField::Name };
        let key = self.keys().get(&customer, last.key()).await.unwrap().unwrap();
        key.open(&place, &last).unwrap()
    }
}

/// Every sealed text of a message, with its field.
pub fn texts(payload: &[u8]) -> Vec<(String, SealedText)> {
    fn collect(value: &Value, found: &mut Vec<(String, SealedText)>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    match value.as_str().map(|text| SealedText::try_from(text.to_owned())) {
                        Some(Ok(text)) => found.push((name.clone(), text)),
                        _ => collect(value, found),
                    }
                }
            }
            Value::Array(values) => values.iter().for_each(|value| collect(value, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    collect(&serde_json::from_slice(payload).unwrap(), &mut found);
    found
}

fn silent(outcome: &Outcome) {
    let text = serde_json::to_string(outcome).unwrap();
    assert!(!text.contains(MARK), "{text}");
}

#[tokio::test]
async fn what_is_personal_is_in_no_file_of_the_server() {
    let world = World::empty("").await;
    // Before anybody handles it, a durable command is in the inbox as it was sent: so looking for it finds it.
    world.put("acme.demo.site.s0.create", CommandId::mint(), site(0, canary(0)).into()).await;
    let mut bad = HeaderMap::new();
    bad.insert(headers::DRY_RUN, "maybe");
    let sent = world.nats.js.publish_with_headers(
        "wan.cmd.acme.demo.site.s1.create",
        bad,
        site(1, canary(1)).into(),
    );
    sent.await.unwrap().await.unwrap();
    world.nats.js.publish("wan.cmd.acme.demo.bad", site(2, canary(2)).into()).await.unwrap().await.unwrap();
    let torn = &site(3, canary(3))[..90];
    assert!(torn.contains(MARK));
    world.put("acme.demo.site.s3.create", CommandId::mint(), torn.to_owned().into()).await;
    let marks = writings(MARK.as_bytes());
    appears(&world.kept(), &marks).await;

    let service = world.serve_sealing().await;
    world.inbox_is_empty().await;
    let dead = world.stored(DEAD, "wan.dead.>").await;
    assert_eq!(dead.len(), 2);
    assert!(dead.iter().all(|letter| letter.headers.get(headers::DEAD_LEFT_OUT).is_some()));

    let create = |number| format!("acme.demo.site.s{number}.create");
    let id = CommandId::mint();
    let first = world.ask(&create(4), id, &site(4, canary(4))).await;
    assert!(first.position().is_some(), "{first:?}");
    let again = world.ask(&create(4), id, &site(4, canary(4))).await;
    assert!(again.repeated && again.position() == first.position(), "{again:?}");
    world.forget_outcome("acme", id).await;
    assert!(world.ask(&create(4), id, &site(4, canary(4))).await.repeated);
    let other = world.ask(&create(4), id, &site(4, canary(5))).await;
    assert_eq!(code(&other), Some(Reason::CommandIdReused));
    // A refusal, by a rule and by what was typed; each said again.
    for body in [
        site(4, canary(5)),
        site(5, json!(format!("{MARK} 5"))),
        site(5, json!({ "mobile": MARK })),
        site(5, json!({ "name": { "first": MARK } })),
        site(5, json!({ "note": format!("{MARK}\n") })),
        format!(r#"{{"contact":{{"name":"{MARK}"}},"#),
        json!({ "contact": canary(5), "vendor": 7 }).to_string(),
    ] {
        let id = CommandId::mint();
        let refused = world.ask(&create(5), id, &body).await;
        assert!(refused.refusal().is_some(), "{body}");
        let again = world.ask(&create(5), id, &body).await;
        assert_eq!(again, Outcome { repeated: true, ..refused.clone() });
        silent(&refused);
    }
    let tunnel = world.ask("acme.demo.tunnel.t.create", CommandId::mint(), &site(5, canary(5))).await;
    assert_eq!(code(&tunnel), Some(Reason::UnknownField));
    silent(&tunnel);
    // A dry run.
    let mut head = crate::world::with(CommandId::mint());
    head.insert(headers::DRY_RUN, "true");
    for name in ["acme", "nobody"] {
        let subject = format!("wan.do.{name}.demo.site.s6.create");
        let asked = world.nats.client.request_with_headers(subject, head.clone(), site(6, canary(6)).into());
        let outcome: Outcome = serde_json::from_slice(&asked.await.unwrap().payload).unwrap();
        assert!(outcome.refusal().is_none(), "{outcome:?}");
        silent(&outcome);
    }
    assert_eq!(world.keys().current(&customer("nobody")).await.unwrap().key, None);
    // Through the inbox, a change.
    let id = CommandId::mint();
    world.put("acme.demo.site.s4.change", id, json!({ "contact": canary(7) }).to_string().into()).await;
    let changed = world.outcome("acme", id).await;
    assert!(changed.position().is_some(), "{changed:?}");
    world.inbox_is_empty().await;
    assert_eq!(world.opened("acme", "s4").await, format!("{MARK} Doe 7"));
    // The same again is nothing to change.
    let body = json!({ "contact": canary(7) }).to_string();
    let same = world.ask("acme.demo.site.s4.change", CommandId::mint(), &body).await;
    assert!(same.refusal().is_none() && same.position().is_none(), "{same:?}");

    damage(&world).await;
    let id = CommandId::mint();
    world.put(&create(7), id, site(7, canary(7)).into()).await;
    world.inbox_is_empty().await;
    let dead = world.stored(DEAD, "wan.dead.command.HistoryDamaged").await;
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].payload, r#"{"lan":["10.7.0.0/24"],"vendor":"simwan"}"#);

    service.stop().await;
    assert_eq!(files_with(&world.kept(), &marks), Vec::<String>::new());
    world.stop().await;
}

/// Takes the last message of acme's history away.
async fn damage(world: &World) {
    let history = world.history("acme").await;
    let name = stream_of(&customer("acme"));
    world.nats.js.delete_stream(&name).await.unwrap();
    let config = topology::streams(PARTITIONS, 1).into_iter().find(|config| config.name == name).unwrap();
    world.nats.js.create_stream(config).await.unwrap();
    let kept = history.into_iter().next().unwrap();
    world.nats.js.publish(kept.subject, kept.payload).await.unwrap().await.unwrap();
}

#[tokio::test]
async fn a_sealed_text_of_somebody_elses_is_refused_and_opens_nowhere_else() {
    let world = World::empty("").await;
    let service = world.serve_sealing().await;
    for name in ["acme", "beta"] {
        let made =
            world.ask(&format!("{name}.demo.site.oslo.create"), CommandId::mint(), &site(1, canary(1))).await;
        assert!(made.position().is_some(), "{made:?}");
    }
    let oslo = ObjectRef::Site("oslo".parse().unwrap());
    let text = |events: Vec<wanwright_nats::StoredMessage>| {
        texts(&events[0].payload).into_iter().find(|(field, _)| field == "name").unwrap().1
    };
    let (of_acme, of_beta) = (text(world.history("acme").await), text(world.history("beta").await));
    let (acme, beta): (CustomerId, CustomerId) = (customer("acme"), customer("beta"));
    let place = |customer| Place { customer, object: &oslo, field: ContactField::Name };
    let (key_of_acme, key_of_beta) = (world.key_of("acme").await, world.key_of("beta").await);
    assert!(key_of_acme.open(&place(&acme), &of_acme).is_ok());
    assert!(key_of_beta.open(&place(&beta), &of_beta).is_ok());
    for (key, place, text) in [
        (&key_of_acme, place(&acme), &of_beta),
        (&key_of_beta, place(&beta), &of_acme),
        (&key_of_acme, place(&beta), &of_acme),
    ] {
        assert!(key.open(&place, text).is_err());
    }
    // Nor is another customer's key to be had under one's own name.
    assert!(world.keys().get(&beta, key_of_acme.id()).await.unwrap().is_none());
    let typed = json!({ "contact": { "name": of_acme.to_string() } }).to_string();
    let refused = world.ask("beta.demo.site.oslo.change", CommandId::mint(), &typed).await;
    assert_eq!(code(&refused), Some(Reason::InvalidValue));
    assert_eq!(refused.refusal().unwrap().field.as_deref(), Some("contact.name"));
    service.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn without_a_master_key_nothing_personal_is_taken_and_what_there_is_is_not_ignored() {
    let world = World::new().await;
    let create = "acme.demo.site.oslo.create";
    let refused = world.ask(create, CommandId::mint(), &site(1, canary(1))).await;
    assert_eq!(code(&refused), Some(Reason::ContactNotKept));
    world.restart().await;

    let world_of_keys = World::empty("").await;
    let service = world_of_keys.serve_sealing().await;
    world_of_keys.ask(create, CommandId::mint(), &site(1, canary(1))).await;
    service.stop().await;
    let key = world_of_keys.key_of("acme").await.id().to_string();
    let with = |master_key| wanwright_commands::service::Options { master_key, ..Default::default() };
    let gone = world_of_keys.dir().join("gone/master.key");
    for options in [with(None), with(Some(gone.clone()))] {
        let error = world_of_keys.start_fails(options).await;
        assert!(error.contains(&key) && error.contains("WANWRIGHT_MASTER_KEY_FILE"), "{error}");
    }
    assert!(!gone.exists());
    // Another master key, and one that has the right name only.
    let right = std::fs::read_to_string(world_of_keys.master_key()).unwrap();
    let id = right.split(' ').nth(1).unwrap();
    let zeros = "0".repeat(64);
    for (wrong, said) in [
        (format!("wanwright-master-key 0011223344556677 {zeros}\n"), "does not have"),
        (format!("wanwright-master-key {id} {zeros}\n"), "does not open key"),
    ] {
        std::fs::write(world_of_keys.master_key(), wrong).unwrap();
        let error = world_of_keys.start_fails(with(Some(world_of_keys.master_key()))).await;
        assert!(error.contains(&key) && error.contains(said) && error.contains(id), "{error}");
    }
    let inbox = world.nats.js.get_stream(COMMANDS).await.unwrap();
    assert_eq!(inbox.cached_info().state.messages, 0);
    world_of_keys.stop().await;
    world.stop().await;
}
