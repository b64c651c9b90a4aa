//! Two parsers read what a customer says: ours at the door and Postgres' in the tables. What the door lets in means the
//! same to both.

use serde_json::{Value, json};
use wanwright_schemas::strict;

use crate::servers::World;

const HOSTILE: &str = include_str!("../../../schemas/tests/wire/hostile.json");

const NUMBERS: &[&str] = &[
    "0",
    "-0",
    "-0.0",
    "1.0",
    "1.10",
    "1e2",
    "1E+2",
    "0.1",
    "-273.15",
    "1e-7",
    "18446744073709551615",
    "-9223372036854775808",
    "9007199254740993",
    "1e22",
    "1e23",
    "123456789.123456",
    "1.7976931348623157e308",
    "5e-324",
    "2.2250738585072014e-308",
    "0.30000000000000004",
    "18446744073709551616",
    "12345678901234567890123",
    "1e400",
    "0.1234567890123456789",
];

fn bodies() -> Vec<String> {
    let texts: Vec<String> = serde_json::from_str(HOSTILE).unwrap();
    let mut bodies: Vec<String> =
        texts.iter().map(|text| json!({"settings": {text: [text, {"a": text}]}}).to_string()).collect();
    bodies.extend(NUMBERS.iter().map(|number| format!(r#"{{"settings":{{"a":[{number}]}}}}"#)));
    // Numbers of all sizes, the same ones each time.
    let mut seed: u64 = 7;
    for round in 0..500 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let number = if round % 2 == 0 { json!(f64::from_bits(seed)) } else { json!(seed >> (round % 60)) };
        bodies.push(format!(r#"{{"settings":{{"a":{number}}}}}"#));
        bodies.push(format!(r#"{{"settings":{{"a":{}.{}e{}}}}}"#, seed % 1000, seed >> 40, round % 40));
    }
    bodies
}

/// Whether two values say the same; a number is what it counts, however it is written.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            one == other || one.as_f64() == other.as_f64() && one.is_f64() != other.is_f64()
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(name, one)| other.get(name).is_some_and(|other| same(one, other)))
        }
        _ => one == other,
    }
}

#[tokio::test]
async fn postgres_understands_what_the_door_lets_in() {
    let world = World::new().await;
    let (mut let_in, mut refused) = (0, 0);
    for body in bodies() {
        let Ok(said) = strict::read(body.as_bytes()) else {
            refused += 1;
            continue;
        };
        // As it came, and as it is written into an event.
        for text in [&body, &said.to_string()] {
            let understood: String = sqlx::query_scalar("SELECT $1::text::jsonb::text")
                .bind(text)
                .fetch_one(&world.pool)
                .await
                .unwrap_or_else(|error| panic!("{error}: {text}"));
            let understood: Value = serde_json::from_str(&understood).unwrap();
            assert!(same(&understood, &said), "{text} is {understood} to Postgres and {said} to us");
        }
        let_in += 1;
    }
    assert!(let_in > 500 && refused > 5, "{let_in} {refused}");
}

/// Nothing stops the reader of dead letters, whatever the dead letter is.
#[test]
fn every_hostile_dead_letter_has_a_row() {
    use wanwright_projections::models::DeadLetterRow;
    use wanwright_schemas::headers;
    let texts: Vec<String> = serde_json::from_str(HOSTILE).unwrap();
    for (sequence, text) in (1..).zip(&texts) {
        let mut message = crate::given::stored(sequence, (text.clone(), text.clone().into_bytes()));
        if let Ok(value) = text.parse::<async_nats::HeaderValue>() {
            message.headers.insert(headers::DEAD_REASON, value.clone());
            message.headers.insert(headers::DEAD_SUBJECT, value);
        }
        let row = DeadLetterRow::of(&message);
        assert_eq!(
            (row.sequence, row.payload.as_str(), row.payload_bytes),
            (sequence, text.as_str(), text.len())
        );
    }
}
