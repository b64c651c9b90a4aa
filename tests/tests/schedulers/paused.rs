//! What is paused waits, what runs ends, and nothing is lost.

use futures::StreamExt;
use serde_json::{Value, json};
use wanwright_executors::scheduler::Patience;
use wanwright_schemas::control::{Control, ControlRequest, Scope};
use wanwright_schemas::rollout::{self, Estimated};
use wanwright_schemas::{Outcome, Reason, services, subjects};
use wanwright_tests::level;

use crate::world::{LIMIT, World};

async fn control(world: &World, scope: &Scope, paused: bool, request: &ControlRequest) -> Value {
    let subject = services::control(&"anna".parse().unwrap(), scope, paused);
    let body = serde_json::to_vec(request).unwrap().into();
    let reply = world.nats.client.request(subject, body).await.unwrap();
    serde_json::from_slice(&reply.payload).unwrap()
}

/// Pauses, or lets go on.
pub async fn pause(world: &World, scope: &Scope, paused: bool) -> Control {
    let request = ControlRequest { reason: "maintenance".to_owned(), until: None };
    serde_json::from_value(control(world, scope, paused, &request).await).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_customer_waits_over_a_restart_and_goes_on() {
    let world = World::new(5).await;
    let (acme, globex) = (world.customer("acme").await, world.customer("globex").await);
    let scope = Scope::Customer(acme.clone());
    let said = pause(&world, &scope, true).await;
    assert_eq!((said.actor.as_str(), said.paused), ("anna", true));
    let first = world.scheduler("one", Patience::default()).await;
    world.device(&acme, "edge").await;
    world.device(&globex, "edge").await;
    world.until_event(&globex, "edge", "DeviceApplied").await;
    first.stop().await;
    let second = world.scheduler("two", Patience::default()).await;
    world.device(&globex, "core").await;
    world.until_event(&globex, "core", "DeviceApplied").await;
    assert!(!world.is_done("acme").await.unwrap(), "it was paused");
    assert_eq!(world.devices().await.objects, 2);
    let resumed = pause(&world, &scope, false).await;
    assert!(!resumed.paused);
    world.until_event(&acme, "edge", "DeviceApplied").await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_vendor_goes_on_by_itself_when_the_pause_ends() {
    let world = World::new(5).await;
    let acme = world.customer("acme").await;
    let scheduler = world.scheduler("one", Patience::default()).await;
    let until = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(4);
    let request = ControlRequest { reason: "maintenance".to_owned(), until: Some(until) };
    let scope = Scope::parse("vendor", "simwan").unwrap();
    let said = control(&world, &scope, true, &request).await;
    assert_eq!(said["paused"], true, "{said}");
    world.device(&acme, "edge").await;
    let made = async || Ok(world.devices().await.objects == 1);
    level::until("the pause is over", LIMIT, made).await.unwrap();
    assert!(jiff::Timestamp::now() >= until, "nothing begins before its end");
    scheduler.stop().await;
}

/// What executors are asked beside the table calls the vendor as well.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_paused_is_neither_previewed_nor_estimated() {
    let world = World::new(0).await;
    let acme = world.customer("acme").await;
    let scheduler = world.scheduler("one", Patience::default()).await;
    let body = json!({ "lan": ["10.9.0.0/24"] });
    let preview = async || {
        let would = world.preview("acme.demo.site.hq.change", &body).await;
        would.trouble.expect("there is no Terraform here")
    };
    // The order that an executor is asked about, as it is asked.
    let mut asked = world.nats.client.subscribe(subjects::PREVIEW).await.unwrap();
    let known = preview().await;
    assert_ne!(known.code, Reason::Paused, "{known}");
    let order = asked.next().await.unwrap().payload;
    let estimate = async || {
        let to = subjects::previewed("a-test");
        let mut answers = world.nats.client.subscribe(to.clone()).await.unwrap();
        let vendor = "simwan".parse().unwrap();
        world.nats.client.publish_with_reply(rollout::estimate(&vendor), to, order.clone()).await.unwrap();
        let answer = tokio::time::timeout(LIMIT, answers.next()).await.unwrap().unwrap();
        match serde_json::from_slice(&answer.payload).unwrap() {
            Estimated::Failed { message } => message,
            planned @ Estimated::Planned(_) => panic!("{planned:?}"),
        }
    };
    assert!(!estimate().await.contains("paused"));
    let before = world.calls().await;
    for scope in [Scope::parse("vendor", "simwan").unwrap(), Scope::Customer(acme)] {
        pause(&world, &scope, true).await;
        let refused = preview().await;
        let what_to_do = format!("{scope} is paused; `wanwright resume {scope}` ends that");
        assert_eq!((refused.code, refused.message), (Reason::Paused, what_to_do.clone()));
        assert_eq!(estimate().await, what_to_do);
        pause(&world, &scope, false).await;
        assert_eq!(preview().await.code, known.code, "it is not paused any more");
    }
    assert_eq!(world.calls().await, before);
    scheduler.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_that_says_nothing_is_refused_by_its_field() {
    let world = World::new(0).await;
    let refused = async |scope: &Scope, request: &ControlRequest| {
        let answer = control(&world, scope, true, request).await;
        let outcome: Outcome = serde_json::from_value(answer).unwrap();
        outcome.refusal().unwrap().clone()
    };
    let simwan = Scope::parse("vendor", "simwan").unwrap();
    let silent = refused(&simwan, &ControlRequest::default()).await;
    assert_eq!((silent.code.code(), silent.field.as_deref()), ("MissingField", Some("reason")));
    let request = ControlRequest { reason: "why".to_owned(), until: None };
    let nobody = refused(&Scope::parse("vendor", "ghost").unwrap(), &request).await;
    assert_eq!(nobody.code.code(), "UnknownVendor");
    let odd = world.nats.client.request("wan.control.anna.pause.device.edge", json!({}).to_string().into());
    let odd: Outcome = serde_json::from_slice(&odd.await.unwrap().payload).unwrap();
    assert_eq!(odd.refusal().unwrap().code.code(), "BadSubject");
}
