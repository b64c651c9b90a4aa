//! `outcomes`: what decided something is told by the history, the rest by the verdicts.

use async_nats::HeaderMap;
use serde_json::json;
use wanwright_projections::models::OutcomeRow;
use wanwright_projections::read::{self, Filter, Page};
use wanwright_projections::{EventMessage, ReadModel, rebuild, restart, verify, wait_for};
use wanwright_schemas::outcome::Verdict;
use wanwright_schemas::{CommandId, Outcome, Position, Reason, Refusal, headers, subjects};

use crate::given::*;
use crate::rows::stream_of;
use crate::servers::{LIMIT, World, until};

const ACME: &str = "acme";

fn about(object: &str, generation: Option<u64>) -> HeaderMap {
    let mut map = HeaderMap::new();
    map.insert(headers::OBJECT, object);
    if let Some(generation) = generation {
        map.insert(headers::GENERATION, generation.to_string().as_str());
    }
    map
}

fn refused(number: u64) -> Outcome {
    let refusal = Refusal::new(Reason::SiteMissing, "there is no site x");
    Outcome::refused(Some(command(number)), Some(wanwright_schemas::ObjectRef::Site(id("x"))), refusal)
}

/// A command that had nothing to change.
fn nothing_to_change(number: u64) -> Outcome {
    let verdict = Verdict::Accepted {
        position: None,
        events: Vec::new(),
        generation: Some(3),
        would_follow: None,
        would_order: None,
        more_orders: 0,
        would_plan: None,
        more_plans: 0,
    };
    Outcome { verdict, ..refused(number) }
}

async fn note(world: &World, number: u64, outcome: &Outcome) -> u64 {
    let subject = subjects::verdict(&id(ACME), command(number), PARTITIONS);
    world.publish((subject, serde_json::to_vec(outcome).unwrap())).await
}

async fn row(world: &World, command: CommandId) -> OutcomeRow {
    read::outcome(&world.pool, &id(ACME), command).await.unwrap().expect("an outcome")
}

#[test]
fn a_message_says_what_its_command_was_about() {
    let mut writer = Writer::default();
    let (subject, payload) = writer.next(ACME, &[site_created("oslo-01"), tunnel_created("t1", "oslo-01")]);
    let read = |map: HeaderMap| {
        let mut message = stored(7, (subject.clone(), payload.clone()));
        message.headers = map;
        OutcomeRow::of_events(&EventMessage::read(&message).unwrap())
    };
    let row = read(about("tunnel/t1", Some(4)));
    assert_eq!((row.kind, row.id.as_deref(), row.generation), (Some(id_kind("tunnel")), Some("t1"), Some(4)));
    assert_eq!(row.events, ["SiteCreated", "TunnelCreated"]);
    assert_eq!((row.position_stream.as_deref(), row.position_sequence), (Some("EVENTS-0"), Some(7)));
    let row = read(about("customer/acme", None));
    assert_eq!((row.kind, row.id.as_deref()), (Some(id_kind("customer")), Some(ACME)));
    // Older messages, and headers that say nothing.
    for map in [HeaderMap::new(), about("", None), about("tunnel", None), about("planet/t1", None)] {
        let row = read(map);
        assert_eq!(
            (row.kind, row.id.as_deref(), row.generation),
            (Some(id_kind("site")), Some("oslo-01"), None)
        );
    }
}

fn id_kind(word: &str) -> wanwright_schemas::Kind {
    wanwright_schemas::Kind::parse(word).unwrap()
}

#[tokio::test]
async fn every_command_has_its_outcome_once_its_rows_are_there() {
    let world = World::new().await;
    let mut writer = Writer::default();
    let mut running = world.project();
    running.ready().await;
    let sequence = world
        .publish_with(about("site/oslo-01", Some(1)), writer.next(ACME, &[site_created("oslo-01")]))
        .await;
    let position = Position { stream: stream_of(ACME), sequence };
    wait_for(&world.pool, &position, LIMIT).await.unwrap();
    // In the transaction that wrote the site: nothing has to be waited for.
    let accepted = row(&world, command(1)).await;
    assert_eq!((accepted.status.as_str(), accepted.generation), ("accepted", Some(1)));
    assert_eq!(
        (accepted.id.as_deref(), accepted.stream.as_str()),
        (Some("oslo-01"), position.stream.as_str())
    );
    assert_eq!(accepted.position_sequence, Some(sequence));

    note(&world, 2, &refused(2)).await;
    let last = note(&world, 3, &nothing_to_change(3)).await;
    until("the verdicts", || async { world.checkpoint("outcomes", "VERDICTS").await == last }).await;
    assert_eq!(row(&world, command(2)).await.code.as_deref(), Some("SiteMissing"));
    let nothing = row(&world, command(3)).await;
    assert_eq!((nothing.status.as_str(), nothing.generation), ("accepted", Some(3)));
    assert_eq!((nothing.position_stream, nothing.stream.as_str()), (None, "VERDICTS"));
    running.stop().await;
}

#[tokio::test]
async fn what_a_history_says_stands_in_whichever_order_it_is_read() {
    let world = World::new().await;
    let mut writer = Writer::default();
    // A service that had lost its partition noted a verdict, and its successor decided the same command.
    for number in [1, 2] {
        note(&world, number, &nothing_to_change(number)).await;
    }
    let config = |models: [ReadModel; 1]| {
        let mut running = world.project_with(move |config| config.models = models.to_vec());
        async move {
            running.ready().await;
            running.stop().await;
        }
    };
    world.publish(writer.next(ACME, &[site_created("a")])).await;
    config([ReadModel::Outcomes]).await;
    assert_eq!(row(&world, command(1)).await.stream, "VERDICTS");
    config([ReadModel::Events]).await;
    assert_eq!(row(&world, command(1)).await.stream, stream_of(ACME));
    world.publish(writer.next(ACME, &[site_created("b")])).await;
    config([ReadModel::Events]).await;
    assert_eq!(restart(&world.pool, ReadModel::Outcomes, "VERDICTS").await.unwrap(), 0);
    config([ReadModel::Outcomes]).await;
    for number in [1, 2] {
        let row = row(&world, command(number)).await;
        assert_eq!((row.stream.clone(), row.events.len()), (stream_of(ACME), 1), "{row:?}");
    }
}

#[tokio::test]
async fn verdicts_that_have_left_the_stream_are_passed_over() {
    let world = World::new().await;
    for number in 1..=3 {
        note(&world, number, &refused(number)).await;
    }
    let verdicts = world.nats.js.get_stream("VERDICTS").await.unwrap();
    verdicts.delete_message(2).await.unwrap();
    let mut running = world.project();
    running.ready().await;
    assert_eq!(world.checkpoint("outcomes", "VERDICTS").await, 3);
    assert_eq!(restart(&world.pool, ReadModel::Outcomes, "VERDICTS").await.unwrap(), 2);
    until("the verdicts again", || async {
        read::outcomes(&world.pool, &Filter::default(), &Page::default()).await.unwrap().rows.len() == 2
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn accepted_outcomes_are_verified_and_rebuilt_with_the_tables() {
    let world = World::new().await;
    let acme = stream_of(ACME);
    let mut writer = Writer::default();
    for number in 0..6 {
        let site = format!("s-{number}");
        world
            .publish_with(about(&format!("site/{site}"), Some(1)), writer.next(ACME, &[site_created(&site)]))
            .await;
    }
    note(&world, 90, &refused(90)).await;
    let mut running = world.project();
    running.ready().await;
    let all = async || {
        let sql = "SELECT t::text FROM outcomes t ORDER BY 1";
        sqlx::query_scalar::<_, String>(sql).fetch_all(&world.pool).await.unwrap()
    };
    let good = all().await;
    assert_eq!(good.len(), 7);
    for sql in [
        "DELETE FROM outcomes WHERE position_sequence = 1",
        "UPDATE outcomes SET id = 'other' WHERE position_sequence = 2",
        // As the version before wrote it.
        "UPDATE outcomes SET stream = 'OUTCOMES' WHERE position_sequence = 3",
        "INSERT INTO outcomes SELECT (jsonb_populate_record(t, jsonb_build_object('command', gen_random_uuid()))).*
         FROM outcomes t WHERE position_sequence = 4",
    ] {
        sqlx::query(sql).execute(&world.pool).await.unwrap();
    }
    let verified = verify(&world.pool, &world.nats, &acme).await.unwrap();
    assert_eq!(json!(verified.different), json!({ "acme": ["outcomes"] }));
    let rebuilt = rebuild(&world.pool, &world.nats, &acme).await.unwrap();
    assert_eq!((rebuilt.written, rebuilt.deleted), (3, 1));
    assert_eq!(all().await, good);
    assert!(verify(&world.pool, &world.nats, &acme).await.unwrap().different.is_empty());

    // What is older than the table reaches back may be there or not.
    sqlx::query("INSERT INTO outcomes SELECT (jsonb_populate_record(t, jsonb_build_object('command', gen_random_uuid(),
                 'time', now() - interval '31 days'))).* FROM outcomes t WHERE position_sequence = 4")
        .execute(&world.pool)
        .await
        .unwrap();
    assert!(verify(&world.pool, &world.nats, &acme).await.unwrap().different.is_empty());
    let rebuilt = rebuild(&world.pool, &world.nats, &acme).await.unwrap();
    assert_eq!((rebuilt.written, rebuilt.deleted), (0, 0));
    running.stop().await;
}

#[tokio::test]
async fn old_events_get_no_outcomes_that_would_be_pruned_at_once() {
    let world = World::new().await;
    let mut writer = Writer::default();
    world.publish(writer.next(ACME, &[site_created("a")])).await;
    let mut running = world.project_with(|config| config.keep.outcomes = std::time::Duration::ZERO);
    running.ready().await;
    assert_eq!(read::outcome(&world.pool, &id(ACME), command(1)).await.unwrap(), None);
    let sites = read::sites(&world.pool, &Filter::default(), &Page::default()).await.unwrap();
    assert_eq!(sites.rows.len(), 1);
    running.stop().await;
}

#[tokio::test]
async fn outcomes_are_listed_by_time_over_both_streams() {
    let world = World::new().await;
    let mut writer = Writer::default();
    // Events of two streams, all before the refusals, whose sequences are smaller.
    for number in 0..10 {
        world
            .publish(
                writer.next(
                    if number % 2 == 0 { ACME } else { "globex" },
                    &[site_created(&format!("s-{number}"))],
                ),
            )
            .await;
    }
    for number in 21..=25 {
        note(&world, number, &refused(number)).await;
    }
    let mut running = world.project();
    running.ready().await;
    let (mut seen, mut page) = (Vec::new(), Page { after: None, limit: 4 });
    loop {
        let listed = read::outcomes(&world.pool, &Filter::default(), &page).await.unwrap();
        seen.extend(listed.rows.iter().map(|row| row.command));
        match listed.next {
            Some(next) => page.after = Some(next),
            None => break,
        }
    }
    let expected: Vec<CommandId> = (21..=25).rev().chain((1..=10).rev()).map(command).collect();
    assert_eq!(seen, expected);
    let of_acme = Filter { customer: Some(id(ACME)), attention: true, ..Filter::default() };
    let listed = read::outcomes(&world.pool, &of_acme, &Page::default()).await.unwrap();
    assert_eq!(listed.rows.len(), 5);
    running.stop().await;
}
