//! The claims sweeper frees what nobody has, and nothing else.

use std::time::Duration;

use async_nats::HeaderMap;
use bytes::Bytes;
use jiff::SignedDuration;
use tokio_util::sync::CancellationToken;
use wanwright_commands::service::sweeper::{self, Pace, Swept};
use wanwright_nats::claim::{Claimed, Claims};
use wanwright_nats::{AppendError, History};
use wanwright_schemas::{CommandId, Envelope, Reason};

use crate::world::{LIMIT, SITE, World, code, customer};

const DEVICE: &str = r#"{"site":"oslo","serial":"SN-0001","model":"edge-100"}"#;
/// A pace without a pause.
pub const NOW: Pace = Pace {
    first: Duration::ZERO,
    between: Duration::from_millis(20),
    page: Duration::ZERO,
    grace: SignedDuration::ZERO,
};

async fn types(world: &World) -> Vec<String> {
    let history = world.history("acme").await;
    let events = history.iter().flat_map(|message| Envelope::decode(&message.payload).unwrap().events);
    events.map(|event| event.type_name()).collect()
}

/// Acme with a site and a device, and the claims.
async fn one_device() -> (World, Claims) {
    let world = World::new().await;
    let claims = Claims::open(&world.nats).await.unwrap();
    world.ask("acme.demo.site.oslo.create", CommandId::mint(), SITE).await;
    let created = world.ask("acme.demo.device.d1.create", CommandId::mint(), DEVICE).await;
    assert!(created.position().is_some(), "{created:?}");
    (world, claims)
}

#[tokio::test]
async fn what_nobody_has_is_freed_and_what_a_device_has_stays() {
    let (world, claims) = one_device().await;
    // Somebody died between the claim and the append; another one never came as far as to have a history.
    claims.claim("serial/SN-0002", "acme/d2").await.unwrap();
    claims.claim("serial/SN-0003", "nobody/d3").await.unwrap();
    // The serial number is another one than the device of that name has.
    claims.claim("serial/SN-0004", "acme/d1").await.unwrap();
    // Nobody can be asked about this.
    claims.claim("serial/SN-0005", "?").await.unwrap();

    let young = Pace { grace: SignedDuration::from_hours(1), ..NOW };
    let swept = sweeper::sweep(&world.nats, &claims, young).await.unwrap();
    assert_eq!(swept, Swept { seen: 5, asked: 0, freed: 0, ..Swept::default() });
    let swept = sweeper::sweep(&world.nats, &claims, NOW).await.unwrap();
    assert_eq!(swept, Swept { seen: 5, asked: 4, freed: 3, ..Swept::default() });

    for (serial, free) in [("1", false), ("2", true), ("3", true), ("4", true), ("5", false)] {
        let taken = claims.is_taken(&format!("serial/SN-000{serial}"), "other/d9").await.unwrap();
        assert_eq!(taken, !free, "SN-000{serial}");
    }
    let abandoned = ["CustomerClaimAbandoned", "CustomerClaimAbandoned"];
    assert_eq!(types(&world).await[2..], abandoned);
    // What is wanted is asked about again and again, and leaves no trace.
    let swept = sweeper::sweep(&world.nats, &claims, NOW).await.unwrap();
    assert_eq!(swept, Swept { seen: 2, asked: 1, freed: 0, ..Swept::default() });
    assert_eq!(types(&world).await.len(), 4);
    world.stop().await;
}

#[tokio::test]
async fn a_create_in_the_middle_cannot_append_without_its_claim() {
    let (world, claims) = one_device().await;
    let (acme, history) = (customer("acme"), History::new(world.nats.clone()));
    // A create in another process: it has loaded, decided and claimed; its append is still to come.
    let decided_on = history.head(&acme).await.unwrap();
    assert!(matches!(claims.claim("serial/SN-0002", "acme/d2").await.unwrap(), Claimed::New(_)));
    let swept = sweeper::sweep(&world.nats, &claims, NOW).await.unwrap();
    assert_eq!(swept.freed, 1);

    let late = history
        .append(&acme, decided_on, CommandId::mint(), HeaderMap::new(), Bytes::from_static(b"{}"))
        .await;
    assert!(matches!(late, Err(AppendError::Conflict)), "{late:?}");
    // It decides again, and claims again.
    let body = DEVICE.replace("0001", "0002");
    let created = world.ask("acme.demo.device.d2.create", CommandId::mint(), &body).await;
    assert!(created.position().is_some(), "{created:?}");
    assert_eq!(claims.claim("serial/SN-0002", "other/d9").await.unwrap(), Claimed::Taken);
    assert_eq!(sweeper::sweep(&world.nats, &claims, NOW).await.unwrap().freed, 0);
    world.stop().await;
}

#[tokio::test]
async fn a_create_that_claims_again_while_its_claim_is_swept_keeps_it() {
    let (world, claims) = one_device().await;
    claims.claim("serial/SN-0002", "acme/d2").await.unwrap();
    let seen = claims.page(0).await.unwrap().0.pop().unwrap();
    assert_eq!(seen.name, "serial/SN-0002");
    // The customer abandons it; before it is freed, a create finds it, and has its device.
    let confirm = r#"{"claims":[{"device":"d2","serial":"SN-0002"}]}"#;
    let tail = "acme.sweeper.customer.acme.confirm-claims";
    assert!(world.ask(tail, CommandId::mint(), confirm).await.position().is_some());
    let body = DEVICE.replace("0001", "0002");
    assert!(world.ask("acme.demo.device.d2.create", CommandId::mint(), &body).await.position().is_some());
    assert!(!claims.release_seen(&seen.name, seen.revision).await.unwrap());
    assert_eq!(claims.claim("serial/SN-0002", "other/d9").await.unwrap(), Claimed::Taken);
    // Now it is confirmed, and nobody but the sweeper may ask.
    assert!(world.ask(tail, CommandId::mint(), confirm).await.position().is_none());
    let refused = world.ask(&tail.replace("sweeper", "demo"), CommandId::mint(), confirm).await;
    assert_eq!(code(&refused), Some(Reason::NotAllowed));
    world.stop().await;
}

#[tokio::test]
async fn several_sweepers_take_turns_and_free_a_claim_once() {
    let (world, claims) = one_device().await;
    let stop = CancellationToken::new();
    let sweepers: Vec<_> = (0..3)
        .map(|_| tokio::spawn(sweeper::run(world.nats.clone(), claims.clone(), NOW, stop.clone())))
        .collect();
    for number in 2..10 {
        let name = format!("serial/SN-000{number}");
        claims.claim(&name, &format!("acme/d{number}")).await.unwrap();
        let free = async {
            while claims.is_taken(&name, "other/d9").await.unwrap() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(LIMIT, free).await.unwrap();
    }
    stop.cancel();
    for sweeper in sweepers {
        tokio::time::timeout(LIMIT, sweeper).await.unwrap().unwrap();
    }
    let abandoned = types(&world).await.iter().filter(|name| *name == "CustomerClaimAbandoned").count();
    assert_eq!(abandoned, 8);
    world.stop().await;
}

#[tokio::test]
async fn a_claim_that_was_lost_is_its_devices_again_unless_somebody_else_has_it() {
    let (world, claims) = one_device().await;
    let body = DEVICE.replace("0001", "0002");
    assert!(world.ask("acme.demo.device.d2.create", CommandId::mint(), &body).await.position().is_some());
    let lost = claims.page(0).await.unwrap().0.remove(0);
    assert_eq!(lost.name, "serial/SN-0001");
    assert!(claims.release_seen(&lost.name, lost.revision).await.unwrap());
    let swept = sweeper::sweep(&world.nats, &claims, NOW).await.unwrap();
    assert_eq!((swept.restored, swept.freed, swept.conflicts), (1, 0, 0));
    assert!(claims.is_taken(&lost.name, "other/d9").await.unwrap());
    let nothing = Swept { seen: 2, asked: 2, ..Swept::default() };
    assert_eq!(sweeper::sweep(&world.nats, &claims, NOW).await.unwrap(), nothing);

    // Lost again, and somebody else has a device of that number by now: it is his, and a person has to know.
    let lost = claims.page(0).await.unwrap().0.pop().unwrap();
    assert_eq!(lost.name, "serial/SN-0001");
    assert!(claims.release_seen(&lost.name, lost.revision).await.unwrap());
    world.ask("other.demo.site.oslo.create", CommandId::mint(), SITE).await;
    assert!(world.ask("other.demo.device.d9.create", CommandId::mint(), DEVICE).await.position().is_some());
    let conflict = Swept { seen: 2, asked: 2, conflicts: 1, ..Swept::default() };
    assert_eq!(sweeper::sweep(&world.nats, &claims, NOW).await.unwrap(), conflict);
    assert!(claims.is_taken(&lost.name, "acme/d1").await.unwrap());
    world.stop().await;
}
