//! Terraform's demands on a provider, made of some hundred random objects of every shape, by the protocol itself: each
//! message is encoded and read again. `judge` is Terraform's part.

mod judge;
mod trouble;

#[path = "../../tests/support/gadgets.rs"]
mod gadgets;
#[path = "../../tests/support/world.rs"]
#[expect(dead_code, reason = "the tests with Terraform use the rest")]
mod world;

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tonic::Request;
use wanwright_vendors::Catalogue;

use crate::proto::tfplugin6 as tf;
use crate::proto::tfplugin6::provider_server::Provider as _;
use crate::proto::tfplugin6::schema::Block;
use crate::service::{Calls, Service};
use gadgets::{Random, gadget};
use judge::{as_read, inconsistent, invalid_plan, is_open, read, unknown, write};

const GADGET: &str = "wanwright_shapes_gadget";

/// A message as it arrives.
fn sent<M: prost::Message + Default>(message: M) -> Request<M> {
    Request::new(M::decode(message.encode_to_vec().as_slice()).unwrap())
}

/// The provider as Terraform drives it.
struct Driver {
    service: Service,
    world: world::Shared,
    block: Block,
}

/// What went wrong, if anything.
fn errors(diagnostics: &[tf::Diagnostic]) -> Vec<String> {
    let error = i32::from(tf::diagnostic::Severity::Error);
    let errors = diagnostics.iter().filter(|diagnostic| diagnostic.severity == error);
    errors.map(|diagnostic| format!("{} {:?}", diagnostic.summary, diagnostic.attribute)).collect()
}

fn fine(diagnostics: &[tf::Diagnostic]) {
    assert_eq!(errors(diagnostics), [""; 0]);
}

impl Driver {
    async fn new() -> Self {
        let vendors = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vendors");
        let world = world::Shared::default();
        let url = world::serve(world.clone()).await;
        let second = Duration::from_secs(1);
        let calls = Calls {
            gateway_url: Some(url),
            through: None,
            doubt: crate::serve::Doubt::None,
            creates: None,
            connect_timeout: second,
            call_timeout: 10 * second,
        };
        let service = Service::new(&Catalogue::load(vendors).unwrap(), calls);
        let schema = service.get_provider_schema(sent(Default::default())).await.unwrap().into_inner();
        fine(&schema.diagnostics);
        let block = schema.resource_schemas[GADGET].block.clone().unwrap();
        let configured = service.configure_provider(sent(Default::default())).await.unwrap().into_inner();
        fine(&configured.diagnostics);
        Self { service, world, block }
    }

    async fn validate(&self, config: &Value) -> Vec<tf::Diagnostic> {
        let request = tf::validate_resource_config::Request {
            type_name: GADGET.to_owned(),
            config: Some(write(&self.block, config)),
            client_capabilities: Some(tf::ClientCapabilities {
                write_only_attributes_allowed: true,
                ..Default::default()
            }),
        };
        self.service.validate_resource_config(sent(request)).await.unwrap().into_inner().diagnostics
    }

    /// The plan, and the attributes that replace; Terraform's rules hold for every one.
    async fn plan(&self, prior: &Value, config: &Value) -> (Value, Vec<String>) {
        let request = tf::plan_resource_change::Request {
            type_name: GADGET.to_owned(),
            prior_state: Some(write(&self.block, prior)),
            proposed_new_state: Some(write(&self.block, config)),
            config: Some(write(&self.block, config)),
            ..Default::default()
        };
        let response = self.service.plan_resource_change(sent(request)).await.unwrap().into_inner();
        fine(&response.diagnostics);
        let planned = read(&self.block, &response.planned_state.unwrap());
        let config = as_read(&self.block, config);
        assert_eq!(invalid_plan(&self.block, [prior, &config, &planned]), [""; 0], "of {config:#}");
        (planned, response.requires_replace.iter().map(|path| format!("{:?}", path.steps)).collect())
    }

    /// What an apply answers: the state and the diagnostics.
    async fn applied(&self, [prior, planned, config]: [&Value; 3]) -> tf::apply_resource_change::Response {
        let request = tf::apply_resource_change::Request {
            type_name: GADGET.to_owned(),
            prior_state: Some(write(&self.block, prior)),
            planned_state: Some(write(&self.block, planned)),
            config: Some(write(&self.block, config)),
            ..Default::default()
        };
        self.service.apply_resource_change(sent(request)).await.unwrap().into_inner()
    }

    async fn apply(&self, prior: &Value, planned: &Value, config: &Value) -> Value {
        let response = self.applied([prior, planned, config]).await;
        fine(&response.diagnostics);
        let state = read(&self.block, &response.new_state.unwrap());
        if !planned.is_null() {
            assert_eq!(inconsistent(planned, &state), [""; 0], "of {config:#}");
        }
        assert!(!is_open(&state), "{state:#}");
        state
    }

    async fn refresh(&self, state: &Value) -> Value {
        let request = tf::read_resource::Request {
            type_name: GADGET.to_owned(),
            current_state: Some(write(&self.block, state)),
            ..Default::default()
        };
        let response = self.service.read_resource(sent(request)).await.unwrap().into_inner();
        fine(&response.diagnostics);
        read(&self.block, &response.new_state.unwrap())
    }

    async fn import(&self, id: &str) -> Value {
        let request = tf::import_resource_state::Request {
            type_name: GADGET.to_owned(),
            id: id.to_owned(),
            ..Default::default()
        };
        let response = self.service.import_resource_state(sent(request)).await.unwrap().into_inner();
        fine(&response.diagnostics);
        let state = response.imported_resources[0].state.clone().unwrap();
        self.refresh(&read(&self.block, &state)).await
    }

    /// The state after a change from one state to a configuration, the way Terraform brings it about: a plan in which
    /// some is not known yet, a plan with everything, an apply, a refresh, and a plan that has nothing to do.
    async fn change(&self, prior: &Value, config: &Value, random: &mut Random) -> Value {
        fine(&self.validate(config).await);
        let open = blurred(config, random);
        fine(&self.validate(&open).await);
        let (early, _) = self.plan(prior, &open).await;
        let (planned, replaces) = self.plan(prior, config).await;
        assert_eq!(inconsistent(&early, &planned), [""; 0], "what was planned early holds, of {open:#}");
        let state = if replaces.is_empty() || prior.is_null() {
            self.apply(prior, &planned, config).await
        } else {
            assert!(self.apply(prior, &Value::Null, &Value::Null).await.is_null());
            let (planned, _) = self.plan(&Value::Null, config).await;
            self.apply(&Value::Null, &planned, config).await
        };
        assert_eq!(self.refresh(&state).await, state, "a refresh after an apply shows nothing");
        let (planned, replaces) = self.plan(&state, config).await;
        assert_eq!((planned, replaces.len()), (state.clone(), 0), "a plan after an apply is empty");
        state
    }
}

/// The same configuration with some of it not known yet.
fn blurred(config: &Value, random: &mut Random) -> Value {
    let mut open = config.clone();
    let names: Vec<String> = config.as_object().unwrap().keys().cloned().collect();
    for name in names.iter().filter(|name| !["rule", "limits"].contains(&name.as_str())) {
        if random.below(8) == 0 {
            open[name] = unknown();
        }
    }
    for place in [
        "/bgp/asn",
        "/bgp/neighbors/0/weight",
        "/routes/0/prefix",
        "/routes/1",
        "/peers/a/port",
        "/rule/0/ports",
    ] {
        if let Some(value) = open.pointer_mut(place).filter(|_| random.below(4) == 0) {
            *value = unknown();
        }
    }
    open
}

/// Both without what an import cannot know: what Terraform alone has, and how something was written.
fn comparable(state: &Value) -> Value {
    let mut state = state.clone();
    for name in ["idempotency_key", "timeouts", "secret_version", "token"] {
        state[name] = Value::Null;
    }
    if let Some(version) = state.pointer_mut("/bgp/secret_version") {
        *version = Value::Null;
    }
    let upper = state["mac"].as_str().map(str::to_uppercase);
    state["mac"] = upper.into();
    if let Some(tags) = state["tags"].as_array_mut() {
        tags.sort_by_key(ToString::to_string);
    }
    for name in ["note", "tags", "ports", "labels", "routes"] {
        let value = &state[name];
        let empty = *value == json!("") || *value == json!([]) || *value == json!({});
        if empty {
            state[name] = Value::Null;
        }
    }
    state
}

#[tokio::test]
async fn the_judge_finds_what_terraform_would() {
    let driver = Driver::new().await;
    let config =
        json!({"name": "a", "bgp": {"asn": 1}, "routes": [{"prefix": "p"}], "rule": [{"action": "deny"}]});
    let (planned, _) = driver.plan(&Value::Null, &config).await;
    let config = as_read(&driver.block, &config);
    for (place, value, says) in [
        ("/name", json!("b"), ".name: neither what is wanted nor what was"),
        ("/note", json!(""), ".note: nobody asked for it"),
        ("/note", unknown(), ".note: nobody asked for it"),
        ("/bgp", Value::Null, ".bgp: it is configured"),
        ("/bgp/asn", json!(2.0), ".bgp.asn: neither what is wanted nor what was"),
        ("/bgp/secret", json!("s"), ".bgp.secret: a write-only value is planned"),
        ("/routes", json!([]), ".routes: 0 planned, 1 configured"),
        ("/routes/0/via", json!("x"), ".routes[0].via: nobody asked for it"),
        ("/rule", json!([]), ".rule: 0 blocks planned, 1 configured"),
        ("/rule/0/action", json!("allow"), ".rule[0].action: neither what is wanted nor what was"),
        ("/peers", json!({}), ".peers: nobody asked for it"),
    ] {
        let mut wrong = planned.clone();
        *wrong.pointer_mut(place).unwrap() = value;
        let found = invalid_plan(&driver.block, [&Value::Null, &config, &wrong]);
        assert!(found.len() == 1 && found[0].starts_with(says), "{place}: {found:?}");
        assert!(!inconsistent(&planned, &wrong).is_empty(), "{place}");
    }
    let mut wrong = planned.clone();
    wrong["status"] = json!("up");
    assert_eq!(inconsistent(&planned, &wrong), [""; 0], "what was not known may be anything");
    assert_eq!(inconsistent(&wrong, &planned).len(), 1);
}

#[tokio::test]
async fn random_objects_of_every_shape_never_surprise_terraform() {
    let driver = Driver::new().await;
    for seed in 0..300 {
        let mut random = Random::new(seed + 1);
        let config = gadget(&mut random, &format!("g-{seed}"));
        let state = driver.change(&Value::Null, &config, &mut random).await;
        let id =
            if seed % 2 == 0 { state["id"].as_str().unwrap().to_owned() } else { format!("name=g-{seed}") };
        let imported = driver.import(&id).await;
        assert_eq!(inconsistent(&comparable(&state), &comparable(&imported)), [""; 0], "seed {seed}");
        let adopted = driver.change(&imported, &config, &mut random).await;
        let other = gadget(&mut random, &format!("g-{seed}"));
        let other = driver.change(&adopted, &other, &mut random).await;
        assert!(driver.apply(&other, &Value::Null, &Value::Null).await.is_null());
        assert!(driver.world.lock().unwrap().objects.is_empty(), "a destroy leaves nothing, seed {seed}");
    }
}

#[tokio::test]
async fn a_refresh_shows_exactly_what_changed_at_the_vendor() {
    let driver = Driver::new().await;
    let mut random = Random::new(7);
    let config = json!({
        "name": "drifts", "amount": 7, "tags": ["x"], "labels": {"a.b": "v"}, "matrix": [[1], [2]],
        "bgp": {"asn": 65_001, "neighbors": [{"address": "192.0.2.7"}, {"address": "192.0.2.8", "weight": 3}]},
        "routes": [{"prefix": "10.0.0.0/16"}], "peers": {"a": {"host": "h"}}, "limits": {"soft": 1},
        "rule": [{"action": "deny", "match": [{"source": "lan"}]}], "secret": "s", "secret_version": 1,
    });
    let state = driver.change(&Value::Null, &config, &mut random).await;
    let path = format!("/v1/gadgets/{}", state["id"].as_str().unwrap());
    for (place, value, shown, now) in [
        ("/note", json!("moved"), "/note", json!("moved")),
        ("/amount", json!("8"), "/amount", json!(8.0)),
        ("/matrix/1/0", json!(5), "/matrix/1/0", json!(5.0)),
        ("/bgp/timers/hold", json!(30), "/bgp/hold_time", json!(30.0)),
        ("/bgp/neighbors/1/weight", json!(4), "/bgp/neighbors/1/weight", json!(4.0)),
        ("/bgp/state", json!("up"), "/bgp/state", json!("up")),
        ("/routes/0/metric", json!(11), "/routes/0/metric", json!(11.0)),
        ("/peers/a/port", json!(80), "/peers/a/port", json!(80.0)),
        ("/limits/hard", json!(11), "/limits/hard", json!(11.0)),
        ("/rules/0/match/0/log", json!(true), "/rule/0/match/0/log", json!(true)),
        ("/labels/a.b", json!("w"), "/labels/a.b", json!("w")),
    ] {
        let before = driver.world.lock().unwrap().objects[&path].clone();
        {
            let mut world = driver.world.lock().unwrap();
            let object = world.objects.get_mut(&path).unwrap();
            match object.pointer_mut(place) {
                Some(at) => *at = value,
                None => object[place.trim_start_matches('/')] = value,
            }
        }
        let seen = driver.refresh(&state).await;
        let mut expected = state.clone();
        *expected.pointer_mut(shown).unwrap() = now;
        assert_eq!(seen, expected, "{place}");
        driver.world.lock().unwrap().objects.insert(path.clone(), before);
    }
    // What means the same is no change, and what cannot be seen stays.
    let hidden = json!({"mac": "x", "token": "other"});
    assert!(driver.world.lock().unwrap().objects[&path].get("secret").is_some(), "it was sent");
    driver.world.lock().unwrap().objects.get_mut(&path).unwrap()["token"] = hidden["token"].clone();
    let seen = driver.refresh(&state).await;
    assert_eq!(seen["secret"], Value::Null);
    driver.world.lock().unwrap().objects.remove(&path);
    assert!(driver.refresh(&state).await.is_null(), "what is gone is gone");
}

#[tokio::test]
async fn what_cannot_be_is_said_at_its_place_before_anybody_is_called() {
    let driver = Driver::new().await;
    let wrong = async |config: Value| errors(&driver.validate(&config).await);
    let path = |found: &[String]| found.first().cloned().unwrap_or_default();
    for (config, says, steps) in [
        (json!({"name": "A"}), "does not match [a-z]", r#"AttributeName("name")"#),
        (json!({"name": "a", "amount": 0}), "is 0, less than 1", r#"AttributeName("amount")"#),
        (json!({"name": "a", "mode": "fast"}), "is \"fast\"", r#"AttributeName("mode")"#),
        (json!({"name": "a", "color": "blue"}), "use one of", r#"AttributeName("color")"#),
        (json!({"name": "a", "low": 9, "high": 3}), "low may not be above high", r#"AttributeName("low")"#),
        (json!({"name": "a", "low": 1.5}), "not a whole number", r#"AttributeName("low")"#),
        (json!({"name": "a", "tags": [null]}), "is null", "ElementKeyInt(0)"),
        (json!({"name": "a", "ports": [1, 0]}), "is 0, less than 1", "ElementKeyInt(1)"),
        (
            json!({"name": "a", "ports": [1, 2, 3, 4, 5]}),
            "has 5 items, more than 4",
            r#"AttributeName("ports")"#,
        ),
        (json!({"name": "a", "bgp": {"asn": 0}}), "is 0, less than 1", r#"AttributeName("asn")"#),
        (
            json!({"name": "a", "bgp": {"asn": 5, "hold_time": 5}}),
            "an AS number is no time",
            r#"AttributeName("hold_time")"#,
        ),
        (
            json!({"name": "a", "bgp": {"asn": 5, "neighbors": [{"address": "x"}, {"address": "y", "weight": 11}]}}),
            "is 11, more than 10",
            r#"ElementKeyInt(1)"#,
        ),
        (
            json!({"name": "a", "routes": [{"prefix": "p", "metric": 256}]}),
            "more than 255",
            r#"AttributeName("metric")"#,
        ),
        (json!({"name": "a", "rule": [{"action": "log"}]}), "use one of", r#"AttributeName("action")"#),
        (
            json!({"name": "a", "timeouts": {"create": "soon"}}),
            "`soon` is no duration",
            r#"AttributeName("create")"#,
        ),
    ] {
        let found = wrong(config.clone()).await;
        assert_eq!(found.len(), 1, "{config}: {found:?}");
        assert!(found[0].starts_with("Invalid: ") && found[0].contains(says), "{config}: {found:?}");
        assert!(path(&found).contains(steps), "{config}: {found:?}");
    }
    // What is not known yet is let through, with the rules that need it.
    for config in [
        json!({"name": unknown(), "low": unknown(), "high": 3, "bgp": {"asn": unknown(), "hold_time": 5}}),
        json!({"name": "a", "low": 50, "high": unknown(), "routes": unknown(), "peers": {"a": unknown()}}),
        json!({"name": "a", "bgp": {"asn": 7, "neighbors": [unknown()]}, "mode": unknown()}),
    ] {
        assert_eq!(wrong(config.clone()).await, [""; 0], "{config}");
    }
    let warned = driver.validate(&json!({"name": "a", "old_way": "x"})).await;
    assert_eq!((errors(&warned).len(), warned.len()), (0, 1));
    assert_eq!(warned[0].detail, "Use `note`.");
    let request = tf::validate_resource_config::Request {
        type_name: GADGET.to_owned(),
        config: Some(write(&driver.block, &json!({"name": "a", "bgp": {"asn": 1, "secret": "x"}}))),
        client_capabilities: None,
    };
    let old = driver.service.validate_resource_config(sent(request)).await.unwrap().into_inner();
    assert!(errors(&old.diagnostics)[0].contains("`bgp.secret` is write-only"), "{:?}", old.diagnostics);
    assert!(driver.world.lock().unwrap().changes.is_empty());
}
