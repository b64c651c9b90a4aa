//! Real Terraform, driving this provider against a small vendor with the committed template of `vendors/simwan`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod release;
mod support;

use serde_json::{Value, json};
use support::{Stack, errors, main_tf, oslo};

#[tokio::test(flavor = "multi_thread")]
async fn a_site_is_created_changed_replaced_and_destroyed() {
    let stack = Stack::new().await;
    let before = std::fs::read(stack.path("data/terraform.tfstate")).unwrap();
    let mut variables = oslo();
    let (code, messages) = stack.run(&["apply", "-json", "-auto-approve"], &variables).await;
    assert_eq!(code, 0);
    let outputs = messages.iter().rfind(|message| message["type"] == "outputs").unwrap();
    assert_eq!(outputs["outputs"]["site"]["value"], json!({"id": "o-1", "address": "192.0.2.1"}));
    assert_eq!(outputs["outputs"]["tunnels"]["value"], json!({"t1": {"id": "o-2"}}));
    {
        let mut world = stack.world.lock().unwrap();
        assert_eq!(world.only("/v1/tunnels")["site_id"], "o-1", "known only once the site is there");
        assert_eq!(world.only("/v1/tunnels")["mtu"], 1400);
        assert_eq!(world.keys["uid-site"], "/v1/sites/o-1");
        assert_eq!(world.take_changes(), ["POST /v1/sites", "POST /v1/tunnels"]);
    }
    assert_eq!(stack.apply(&variables).await, [0, 0, 0]);
    assert_eq!(stack.world.lock().unwrap().take_changes(), [""; 0]);

    variables["tunnels"]["t1"]["settings"]["mtu"] = json!(1300);
    variables["site"]["lan"] = json!(["10.7.0.0/24", "10.7.1.0/24"]);
    assert_eq!(stack.apply(&variables).await, [0, 2, 0]);
    {
        let mut world = stack.world.lock().unwrap();
        assert_eq!(world.only("/v1/tunnels")["mtu"], 1300);
        assert_eq!(world.take_changes(), ["PUT /v1/sites/o-1", "PUT /v1/tunnels/o-2"]);
    }
    // The site's new id is not known while planning, so its tunnel is replaced with it.
    variables["site"]["name"] = json!("oslo-2");
    assert_eq!(stack.apply(&variables).await, [2, 0, 2]);
    {
        let world = stack.world.lock().unwrap();
        assert_eq!(world.only("/v1/sites")["name"], "oslo-2");
        assert_eq!(world.only("/v1/tunnels")["site_id"], world.only("/v1/sites")["id"]);
        assert!(world.keys.contains_key("uid-site.2"), "the first key is used up");
    }
    // Another key means another object.
    variables["tunnels"]["t1"]["uid"] = json!("uid-t1-again");
    assert_eq!(stack.apply(&variables).await, [1, 0, 1]);
    let (code, _) = stack.run(&["destroy", "-json", "-auto-approve"], &variables).await;
    assert_eq!(code, 0);
    assert!(stack.world.lock().unwrap().objects.is_empty());
    assert_eq!(stack.state()["resources"], json!([]));
    assert_eq!(std::fs::read(stack.path("data/terraform.tfstate")).unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_is_seen_and_put_right() {
    let stack = Stack::new().await;
    stack.apply(&oslo()).await;
    stack.world.lock().unwrap().objects.get_mut("/v1/sites/o-1").unwrap()["location"] = json!("elsewhere");
    let plan = ["plan", "-json", "-refresh-only", "-detailed-exitcode"];
    let (code, messages) = stack.run(&plan, &oslo()).await;
    assert_eq!(code, 2);
    let drifted = |messages: &[Value]| -> Vec<Value> {
        let drift = messages.iter().filter(|message| message["type"] == "resource_drift");
        drift.map(|message| message["change"]["resource"]["addr"].clone()).collect()
    };
    assert_eq!(drifted(&messages), ["wanwright_simwan_site.site"]);
    let (code, _) = stack.run(&["plan", "-refresh-only", "-out=plan"], &oslo()).await;
    assert_eq!(code, 0);
    let shown = stack.terraform_in("run", &["show", "-json", "plan"]).await;
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    let change = &shown["resource_drift"][0]["change"];
    assert_eq!(change["before"]["location"], "");
    assert_eq!(change["after"]["location"], "elsewhere");
    assert_eq!(stack.apply(&oslo()).await, [0, 1, 0]);
    assert_eq!(stack.world.lock().unwrap().only("/v1/sites")["location"], "");
    let (code, messages) = stack.run(&plan, &oslo()).await;
    assert_eq!((code, drifted(&messages).len()), (0, 0));

    stack.world.lock().unwrap().objects.remove("/v1/tunnels/o-2");
    let (code, messages) = stack.run(&plan, &oslo()).await;
    assert_eq!(code, 2);
    assert_eq!(drifted(&messages), ["wanwright_simwan_tunnel.tunnel[\"t1\"]"]);
    assert_eq!(stack.apply(&oslo()).await, [1, 0, 0]);
    assert_eq!(stack.world.lock().unwrap().only("/v1/tunnels")["name"], "oslo-hub");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_imported_by_its_id() {
    let stack = Stack::new().await;
    let site = json!({"name": "oslo", "lan": ["10.7.0.0/24"], "location": "quay"});
    let _ = stack.world.lock().unwrap().create("/v1/sites", site, None);
    let import = ["import", "wanwright_simwan_site.site"];
    let (code, _) = stack.run(&[import[0], import[1], "o-99"], &oslo()).await;
    assert_eq!(code, 1);
    let (code, _) = stack.run(&[import[0], import[1], "o-1"], &oslo()).await;
    assert_eq!(code, 0);
    let mut variables = oslo();
    variables["tunnels"] = json!({});
    variables["site"]["settings"]["location"] = json!("quay");
    // The key is noted in the state; the object is as desired, so the vendor is not called.
    assert_eq!(stack.apply(&variables).await, [0, 1, 0]);
    assert_eq!(stack.world.lock().unwrap().take_changes(), [""; 0]);
    assert_eq!(stack.apply(&variables).await, [0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vendors_refusal_says_what_and_where() {
    let stack = Stack::new().await;
    let body = json!({"error": {"code": "prefix_taken", "message": "10.7.0.0/24 is taken", "field": "lan"}});
    stack.world.lock().unwrap().refusal = Some((422, body));
    let (code, messages) = stack.run(&["apply", "-json", "-auto-approve"], &oslo()).await;
    assert_eq!(code, 1);
    let found = errors(&messages);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["summary"], "VendorRefused: 10.7.0.0/24 is taken");
    let detail = found[0]["detail"].as_str().unwrap();
    assert!(detail.contains("HTTP 422, code prefix_taken"), "{detail}");
    assert_eq!(found[0]["address"], "wanwright_simwan_site.site");
    let code_of = found[0]["snippet"]["code"].as_str().unwrap();
    assert!(code_of.contains("lan "), "it points at the attribute: {code_of}");

    let summary = async |status: u16, body: Value| {
        stack.world.lock().unwrap().refusal = Some((status, body));
        let (code, messages) = stack.run(&["apply", "-json", "-auto-approve"], &oslo()).await;
        assert_eq!(code, 1);
        errors(&messages)[0]["summary"].as_str().unwrap().to_owned()
    };
    let busy = json!({"error": {"message": "slow down"}});
    assert_eq!(summary(429, busy).await, "VendorBusy: slow down");
    assert!(summary(500, Value::Null).await.starts_with("VendorBusy: "));
    // Nothing is half done: the next apply does it all.
    stack.world.lock().unwrap().refusal = None;
    assert_eq!(stack.apply(&oslo()).await, [2, 0, 0]);

    // A change and a deletion that are refused leave the object in the state.
    let refusal = json!({"error": {"message": "frozen"}});
    stack.world.lock().unwrap().refusal = Some((409, refusal));
    let mut variables = oslo();
    variables["site"]["settings"]["location"] = json!("quay");
    for command in ["apply", "destroy"] {
        let (code, messages) = stack.run(&[command, "-json", "-auto-approve"], &variables).await;
        assert_eq!(code, 1);
        assert_eq!(errors(&messages)[0]["summary"], "VendorRefused: frozen");
    }
    stack.world.lock().unwrap().refusal = None;
    assert_eq!(stack.apply(&variables).await, [0, 1, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vendor_that_is_not_there_is_a_network_error() {
    let there = Stack::new().await;
    let stack = Stack::with(there.world.clone(), there.url(), "http://127.0.0.1:1".to_owned()).await;
    let (code, messages) = stack.run(&["apply", "-json", "-auto-approve"], &oslo()).await;
    assert_eq!(code, 1);
    assert_eq!(errors(&messages)[0]["summary"], "Network: no answer from the vendor");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_run_created_is_taken_over() {
    let stack = Stack::new().await;
    // A run created the site and died before its state was kept; meanwhile the site was edited.
    let site = json!({"name": "oslo", "lan": ["10.7.0.0/24"], "location": ""});
    let _ = stack.world.lock().unwrap().create("/v1/sites", site, Some("uid-site".to_owned()));
    let mut variables = oslo();
    variables["site"]["settings"]["location"] = json!("quay");
    assert_eq!(stack.apply(&variables).await, [2, 0, 0]);
    let mut world = stack.world.lock().unwrap();
    assert_eq!(world.only("/v1/sites")["location"], "quay");
    assert_eq!(world.only("/v1/tunnels")["site_id"], "o-1");
    assert_eq!(world.take_changes(), ["POST /v1/sites", "PUT /v1/sites/o-1", "POST /v1/tunnels"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_over_in_two_steps_is_not_replaced() {
    let stack = Stack::new().await;
    let site = json!({"name": "oslo", "lan": ["10.7.0.0/24"], "location": ""});
    let mut variables = oslo();
    variables["site"]["settings"]["location"] = json!("quay");
    {
        let mut world = stack.world.lock().unwrap();
        let _ = world.create("/v1/sites", site, Some("uid-site".to_owned()));
        world.refusal = Some((503, json!({"error": {"message": "later"}})));
        world.refused_method = Some("PUT");
    }
    let (code, messages) = stack.run(&["apply", "-json", "-auto-approve"], &variables).await;
    assert_eq!(code, 1);
    let found = errors(&messages);
    assert_eq!(found[0]["summary"], "VendorBusy: later");
    assert!(found[0]["detail"].as_str().unwrap().contains("An earlier create had made o-1"));
    {
        let mut world = stack.world.lock().unwrap();
        (world.refusal, world.refused_method) = (None, None);
        world.take_changes();
    }
    // Nothing is deleted: the same object becomes what was asked for.
    assert_eq!(stack.apply(&variables).await, [2, 0, 0]);
    let mut world = stack.world.lock().unwrap();
    assert_eq!(world.only("/v1/sites")["location"], "quay");
    assert_eq!(world.take_changes(), ["POST /v1/sites", "PUT /v1/sites/o-1", "POST /v1/tunnels"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_taken_over_whole_is_in_the_state_all_the_same() {
    let stack = Stack::new().await;
    let site = json!({"name": "oslo", "lan": ["10.7.0.0/24"], "location": ""});
    let mut variables = oslo();
    variables["site"]["settings"]["location"] = json!("quay");
    {
        let mut world = stack.world.lock().unwrap();
        let _ = world.create("/v1/sites", site, Some("uid-site".to_owned()));
        world.refusal = Some((422, json!({"error": {"message": "no quay", "field": "location"}})));
        world.refused_method = Some("PUT");
    }
    let apply = ["apply", "-json", "-auto-approve"];
    let (code, messages) = stack.run(&apply, &variables).await;
    assert_eq!(code, 1);
    let found = errors(&messages);
    assert_eq!(found[0]["summary"], "VendorRefused: no quay");
    assert!(found[0]["detail"].as_str().unwrap().contains("An earlier create had made o-1"));
    let (code, _) = stack.run(&["destroy", "-json", "-auto-approve"], &variables).await;
    assert_eq!(code, 0);
    assert!(stack.world.lock().unwrap().objects.is_empty(), "the state knew it");

    // The key made an object that cannot become this one: it is left alone.
    variables["site"]["uid"] = json!("uid-bergen");
    let other = json!({"name": "bergen", "lan": ["10.7.0.0/24"], "location": ""});
    let _ = stack.world.lock().unwrap().create("/v1/sites", other, Some("uid-bergen".to_owned()));
    let (code, messages) = stack.run(&apply, &variables).await;
    assert_eq!(code, 1);
    let summary = errors(&messages)[0]["summary"].as_str().unwrap();
    assert!(summary.starts_with("VendorRefused: the create answered object o-2"), "{summary}");
    assert_eq!(stack.world.lock().unwrap().only("/v1/sites")["name"], "bergen");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_committed_template_is_valid() {
    let stack = Stack::new().await;
    assert!(main_tf().is_file());
    let output = stack.terraform_in("run", &["validate", "-json"]).await;
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["valid"], true, "{answer:#}");
    assert_eq!(answer["warning_count"], 0, "{answer:#}");
    // A template with a mistake is found without calling anybody.
    let wrong = std::fs::read_to_string(main_tf()).unwrap().replace("lan             =", "lam             =");
    std::fs::write(stack.path("run/main.tf"), wrong).unwrap();
    let output = stack.terraform_in("run", &["validate", "-json"]).await;
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["valid"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configured_base_url_comes_first_and_schemas_are_whole() {
    let there = Stack::new().await;
    let stack = Stack::with(there.world.clone(), there.url(), "http://127.0.0.1:1".to_owned()).await;
    let block = format!("provider \"wanwright\" {{\n  base_url = \"{}\"\n}}\n", there.url());
    std::fs::write(stack.path("run/provider.tf"), block).unwrap();
    assert_eq!(stack.apply(&oslo()).await, [2, 0, 0]);
    let output = stack.terraform_in("run", &["providers", "schema", "-json"]).await;
    let schemas: Value = serde_json::from_slice(&output.stdout).unwrap();
    let provider = &schemas["provider_schemas"]["registry.terraform.io/wanwright/wanwright"];
    let tunnel = &provider["resource_schemas"]["wanwright_simwan_tunnel"]["block"]["attributes"];
    assert_eq!(tunnel["name"]["required"], true);
    assert_eq!((&tunnel["mtu"]["optional"], &tunnel["mtu"]["computed"]), (&json!(true), &json!(true)));
    assert_eq!(tunnel["id"]["computed"], true);
    assert_eq!(tunnel["idempotency_key"]["optional"], true);
    let lan = &provider["resource_schemas"]["wanwright_simwan_site"]["block"]["attributes"]["lan"];
    assert_eq!(lan["type"], json!(["list", "string"]));
}
