//! The services beside the doors: ingress, histories, outcomes.

use async_nats::HeaderMap;
use async_nats::jetstream::stream::Config;
use serde_json::{Value, json};
use wanwright_commands::service::Options;
use wanwright_nats::topology;
use wanwright_schemas::CommandId;
use wanwright_schemas::envelope::Digest;

use crate::world::{LIMIT, PARTITIONS, SITE, World, with};

/// Asks a service and reads the answer as JSON.
async fn ask(world: &World, subject: &str, head: HeaderMap, body: String) -> Value {
    let answer = world.nats.client.request_with_headers(subject.to_owned(), head, body.into()).await.unwrap();
    serde_json::from_slice(&answer.payload).unwrap()
}

async fn plain(world: &World, subject: &str, body: Value) -> Value {
    ask(world, subject, HeaderMap::new(), body.to_string()).await
}

#[tokio::test]
async fn a_submitted_command_is_stored_answered_and_decided() {
    let world = World::new().await;
    let id = CommandId::mint();
    let stored = ask(&world, "wan.submit.acme.anna.site.oslo.create", with(id), SITE.to_owned()).await;
    assert_eq!(stored, json!({ "status": "stored", "command": id }));
    assert!(world.outcome("acme", id).await.refusal().is_none());

    // Without an id the ingress names one.
    let named = ask(&world, "wan.submit.acme.anna.site.rome.create", HeaderMap::new(), "{}".into()).await;
    let id: CommandId = named["command"].as_str().unwrap().parse().unwrap();
    assert!(world.outcome("acme", id).await.refusal().is_some());

    let code = |answer: &Value| answer["code"].as_str().unwrap_or_default().to_owned();
    let refused = plain(&world, "wan.submit.acme.anna.router.oslo.create", json!({})).await;
    assert_eq!((code(&refused).as_str(), &refused["status"]), ("UnknownKind", &json!("refused")));
    assert_eq!(code(&plain(&world, "wan.submit.acme.anna", json!({})).await), "BadSubject");
    let mut odd = HeaderMap::new();
    odd.insert("Wan-Dryrun", "true");
    let refused = ask(&world, "wan.submit.acme.anna.site.oslo.create", odd, SITE.to_owned()).await;
    assert_eq!(code(&refused), "BadHeader");
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(1 << 20));
    let refused = ask(&world, "wan.submit.acme.anna.site.oslo.create", HeaderMap::new(), large).await;
    assert_eq!(code(&refused), "BodyTooLarge");
    world.stop().await;
}

#[tokio::test]
async fn headers_of_a_stream_do_nothing_at_the_ingress() {
    let world = World::new().await;
    let id = CommandId::mint();
    let mut told = Vec::new();
    for customer in ["acme", "globex"] {
        let mut head = HeaderMap::new();
        // The same message id from two customers, and expectations that cannot be met.
        head.insert("Nats-Msg-Id", id.to_string().as_str());
        head.insert("Nats-Expected-Last-Sequence", "999");
        head.insert("Nats-Expected-Last-Subject-Sequence", "999");
        head.insert("Nats-Expected-Stream", "EVENTS-0");
        head.insert("Nats-Rollup", "all");
        head.insert("Nats-TTL", "1s");
        let subject = format!("wan.submit.{customer}.anna.site.oslo.create");
        let answer = ask(&world, &subject, head, SITE.to_owned()).await;
        let command = answer["command"].as_str().unwrap().parse().unwrap();
        assert!(world.outcome(customer, command).await.refusal().is_none());
        told.push(answer);
    }
    // Whether it was used before is nobody's business.
    assert_eq!(told[0], told[1]);
    world.stop().await;
}

#[tokio::test]
async fn a_full_inbox_refuses_loudly() {
    let world = World::new().await;
    let stream = world.nats.js.get_stream(topology::COMMANDS).await.unwrap();
    let config = Config { max_bytes: 1, ..stream.cached_info().config.clone() };
    world.nats.js.update_stream(&config).await.unwrap();
    let id = CommandId::mint();
    let refused = ask(&world, "wan.submit.acme.anna.site.oslo.create", with(id), SITE.to_owned()).await;
    assert_eq!((&refused["code"], &refused["command"]), (&json!("Unavailable"), &json!(id)));
    assert_eq!(refused["message"], "the inbox is full; the command was not stored");
    world.stop().await;
}

#[tokio::test]
async fn a_history_comes_in_pages_that_prove_their_chain() {
    let world = World::new().await;
    for number in 1..=5 {
        let tail = format!("acme.anna.site.s{number}.create");
        let body = format!(r#"{{"vendor":"simwan","lan":["10.{number}.0.0/24"]}}"#);
        assert!(world.ask(&tail, CommandId::mint(), &body).await.refusal().is_none());
        // Another customer's are between them, and none is seen.
        let tail = format!("other-{number}.anna.site.s1.create");
        world.ask(&tail, CommandId::mint(), SITE).await;
    }
    let (mut after, mut read, mut before) = (json!(0), 0, Value::Null);
    while !after.is_null() {
        let asked = json!({ "after": after, "limit": 2 });
        let text =
            world.nats.client.request("wan.history.acme.anna", asked.to_string().into()).await.unwrap();
        let page: wanwright_schemas::services::HistoryPage = serde_json::from_slice(&text.payload).unwrap();
        assert!(page.messages.len() <= 2 && page.customer.as_str() == "acme");
        for message in &page.messages {
            let envelope: Value = serde_json::from_str(message.envelope.get()).unwrap();
            assert_eq!(envelope["prev"], before);
            before = json!(Digest::of(message.envelope.get().as_bytes()));
            read += 1;
        }
        after = json!(page.next);
    }
    assert_eq!(read, 5);
    // Who follows a history begins at its newest message, whatever else is said.
    let newest = plain(&world, "wan.history.acme.anna", json!({ "newest": true, "after": 1 })).await;
    assert_eq!((newest["messages"].as_array().unwrap().len(), &newest["next"]), (1, &Value::Null));
    let text = newest["messages"][0]["envelope"].to_string();
    assert!(text.contains("10.5.0.0/24"), "{text}");
    for asked in [json!({}), json!({ "newest": true })] {
        let empty = plain(&world, "wan.history.nobody.anna", asked).await;
        assert_eq!(empty["messages"], json!([]));
    }
    for (body, code, field) in [
        (json!({ "limit": 0 }), "InvalidValue", "limit"),
        (json!({ "limit": 100_000 }), "InvalidValue", "limit"),
        (json!({ "customer": "globex" }), "UnknownField", "customer"),
        (json!({ "after": -1 }), "InvalidValue", "after"),
    ] {
        let refused = plain(&world, "wan.history.acme.anna", body.clone()).await;
        assert_eq!((&refused["code"], &refused["field"]), (&json!(code), &json!(field)), "{body}: {refused}");
    }
    world.stop().await;
}

#[tokio::test]
async fn an_outcome_is_told_to_its_customer_only() {
    let world = World::new().await;
    let id = CommandId::mint();
    let outcome = world.ask("acme.anna.site.oslo.create", id, SITE).await;
    let told = plain(&world, "wan.outcome.acme.anna", json!({ "command": id })).await;
    assert_eq!(told, serde_json::to_value(&outcome).unwrap());
    // What is another's and what never was are told apart by nothing but the names in the question.
    let never = CommandId::mint();
    let others = plain(&world, "wan.outcome.globex.anna", json!({ "command": id })).await;
    let nobodys = plain(&world, "wan.outcome.globex.anna", json!({ "command": never })).await;
    assert_eq!(others["code"], "NotFound");
    let text = |answer: &Value, id: CommandId| answer.to_string().replace(&id.to_string(), "ID");
    assert_eq!(text(&others, id), text(&nobodys, never));
    world.stop().await;
}

#[tokio::test]
async fn no_service_answers_into_a_stream() {
    let world = World::new().await;
    let before = world.history("acme").await.len();
    for subject in ["wan.history.acme.anna", "wan.outcome.acme.anna", "wan.submit.acme.anna.site.oslo.create"]
    {
        for reply in ["wan.evt.7.acme", "wan.cmd.acme.anna.site.oslo.create", "$JS.API.STREAM.DELETE.DEAD"] {
            let sent = world.nats.client.publish_with_reply(subject, reply, "{}".into());
            sent.await.unwrap();
        }
    }
    // What was sent before this has been handled when this is answered.
    plain(&world, "wan.history.acme.anna", json!({})).await;
    plain(&world, "wan.submit.acme.anna.router.oslo.create", json!({})).await;
    assert_eq!(world.history("acme").await.len(), before);
    assert!(world.stored(topology::COMMANDS, "wan.cmd.>").await.is_empty());
    assert!(world.nats.js.get_stream(topology::DEAD).await.is_ok());
    world.stop().await;
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_it_is_kept_anywhere() {
    let world = World::new().await;
    let id = CommandId::mint();
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(1 << 20));
    for subject in ["wan.do.acme.anna.site.oslo.create", "wan.submit.acme.anna.site.oslo.create"] {
        let refused = ask(&world, subject, with(id), large.clone()).await;
        assert_eq!(refused["code"], "BodyTooLarge", "{refused}");
    }
    assert!(world.stored(topology::VERDICTS, "wan.verdict.>").await.is_empty());
    // A question names a command or a place; it has no reason to be larger than that.
    for (subject, asked) in [
        ("wan.history.acme.anna", json!({ "after": 0 })),
        ("wan.outcome.acme.anna", json!({ "command": id })),
    ] {
        let padded = |bytes: usize| format!("{}{}", " ".repeat(bytes), asked);
        assert_ne!(ask(&world, subject, HeaderMap::new(), padded(3 << 10)).await["code"], "BodyTooLarge");
        assert_eq!(ask(&world, subject, HeaderMap::new(), padded(4 << 10)).await["code"], "BodyTooLarge");
    }
    world.stop().await;
}

#[tokio::test]
async fn whoever_asks_in_a_flood_is_answered() {
    let world = World::new().await;
    let subjects =
        ["wan.outcome.acme.anna", "wan.history.acme.anna", "wan.submit.acme.anna.site.oslo.create"];
    let asked = |number: usize| {
        let subject = subjects[number % subjects.len()];
        let body = if number.is_multiple_of(3) { json!({ "command": CommandId::mint() }) } else { json!({}) };
        let world = &world;
        async move { plain(world, subject, body).await }
    };
    // More than may be worked on at once; what has no room to wait is told so.
    let answers = futures::future::join_all((0..3000).map(asked)).await;
    for (number, answer) in answers.iter().enumerate() {
        let expected = match number % 3 {
            0 => answer["code"] == "NotFound",
            1 => answer["messages"].is_array(),
            _ => answer["status"] == "stored",
        };
        assert!(expected || answer["code"] == "Unavailable", "{answer}");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_customer_with_too_much_in_the_inbox_is_refused_and_nobody_else() {
    let world = World::empty("").await;
    let options = Options { most_waiting: 3, master_key: Some(world.master_key()), ..Options::default() };
    let service = world.serve_with(options).await;
    // Without the stream of keys acme's contact cannot be sealed, so what it sends stays in the inbox.
    world.nats.js.delete_stream(topology::KEYS).await.unwrap();
    let submit = |customer: &str, body: &str, id: CommandId| {
        let subject = format!("wan.submit.{customer}.anna.site.oslo.create");
        let (world, body) = (&world, body.to_owned());
        async move { ask(world, &subject, with(id), body).await }
    };
    let contact = r#"{"vendor":"simwan","lan":["10.1.0.0/24"],"contact":{"name":"Jane"}}"#;
    for _ in 0..3 {
        assert_eq!(submit("acme", contact, CommandId::mint()).await["status"], "stored");
    }
    let late = CommandId::mint();
    let refused = submit("acme", contact, late).await;
    assert_eq!(
        (&refused["code"], &refused["command"]),
        (&json!("TooManyWaiting"), &json!(late)),
        "{refused}"
    );
    assert!(refused["next"].as_str().unwrap().contains("same id"), "{refused}");
    assert_eq!(world.stored(topology::COMMANDS, "wan.inbox.*.acme.>").await.len(), 3);
    assert_eq!(submit("globex", SITE, CommandId::mint()).await["status"], "stored");

    // Once they are decided, there is room again.
    let keys = topology::streams(PARTITIONS, 1).into_iter().find(|config| config.name == topology::KEYS);
    world.nats.js.create_stream(keys.unwrap()).await.unwrap();
    world.inbox_is_empty().await;
    let stored = async { while submit("acme", contact, late).await["status"] != "stored" {} };
    tokio::time::timeout(LIMIT, stored).await.unwrap();
    assert!(world.outcome("acme", late).await.refusal().is_some());
    service.stop().await;
    world.stop().await;
}
