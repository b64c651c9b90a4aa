//! Objects in attributes: from an order to the vendor's JSON and back, and what differs in them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use wanwright_vendors::{ResourceApi, Vendor};

fn gadget() -> Arc<ResourceApi> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../provider/tests/vendors/shapes");
    Vendor::load(&folder).unwrap().api["gadget"].clone()
}

fn map(json: Value) -> Map<String, Value> {
    json.as_object().unwrap().clone()
}

#[test]
fn an_order_becomes_the_vendors_json_and_comes_back() {
    let api = gadget();
    let order = json!({"name": "a", "settings": {"bgp": {"asn": 7, "neighbors": [{"address": "x"}, {"address": "y", "weight": 2}]}},
        "routes": [{"prefix": "p", "state": "not ours"}], "secret": "s"});
    let attributes = api.desired_attributes(&order);
    let bgp = json!({"asn": 7, "hold_time": 180, "neighbors": [{"address": "x", "weight": 0}, {"address": "y", "weight": 2}]});
    assert_eq!(attributes["bgp"], bgp);
    assert_eq!(
        attributes["routes"],
        json!([{"prefix": "p", "metric": 10}]),
        "what the vendor sets is not sent"
    );
    assert_eq!((&attributes["secret"], attributes.get("secret_version")), (&json!("s"), None));
    let sent = api.sent(&attributes, false)["attributes"].clone();
    assert_eq!(sent["bgp"]["timers"], json!({"hold": 180}));
    assert_eq!(sent["amount"], "1");
    let mut answer = sent.clone();
    answer["bgp"]["state"] = json!("idle");
    let read = api.from_json(&answer, &Map::new()).unwrap();
    assert_eq!(read["bgp"]["hold_time"], 180);
    assert_eq!((&read["bgp"]["state"], &read["secret"]), (&json!("idle"), &Value::Null));
    assert_eq!(api.differences(&attributes, &read), []);
    // With nulls, what is not set is said as far as there are objects alone.
    let patch = api.sent(&attributes, true)["attributes"].clone();
    assert_eq!(patch["bgp"]["secret"], Value::Null);
    assert_eq!(patch["routes"][0].get("via"), None);
    for (wrong, place) in [
        (json!({"bgp": {"timers": {"hold": "long"}}}), "bgp.hold_time"),
        (json!({"routes": [{"metric": 1}, {"metric": "x"}]}), "routes[1].metric"),
        (json!({"peers": {"a.b": {"port": []}}}), "peers[\"a.b\"].port"),
        (json!({"routes": {}}), "routes"),
    ] {
        assert_eq!(api.from_json(&wrong, &Map::new()), Err(place.to_owned()));
    }
}

#[test]
fn a_difference_is_named_as_far_inside_as_both_have_places() {
    let api = gadget();
    let found = |desired: Value, observed: Value| {
        let found = api.differences(&map(desired), &map(observed)).into_iter();
        found.map(|one| format!("{} {} {}", one.attribute, one.desired, one.observed)).collect::<Vec<_>>()
    };
    let bgp = |hold: u32, weight: u32| json!({"bgp": {"asn": 1, "hold_time": hold, "neighbors": [{"address": "::", "weight": weight}]}});
    assert_eq!(found(bgp(1, 2), bgp(3, 4)), ["bgp.hold_time 1 3", "bgp.neighbors[0].weight 2 4"]);
    let routes = |metrics: &[u32]| json!({"routes": metrics.iter().map(|metric| json!({"prefix": "p", "metric": metric})).collect::<Value>()});
    assert_eq!(found(routes(&[1, 2, 3]), routes(&[1, 5, 3])), ["routes[1].metric 2 5"]);
    assert_eq!(found(routes(&[1]), routes(&[1, 2])).len(), 1, "as a whole");
    assert!(found(routes(&[1]), routes(&[1, 2]))[0].starts_with("routes ["));
    let peers = |json: Value| json!({"peers": json});
    assert_eq!(
        found(
            peers(json!({"a": {"host": "h", "port": 1}})),
            peers(json!({"a": {"host": "h", "port": 2}, "b": {"host": "i"}}))
        ),
        ["peers[\"a\"].port 1 2", "peers[\"b\"] null {\"host\":\"i\"}"]
    );
    // Writing is no difference: prefixes, addresses, empty lists, defaults left out, whole numbers.
    let same =
        json!({"routes": [{"prefix": "10.0.0.1/8", "metric": 1.0}], "bgp": {"asn": 1, "neighbors": []}});
    let other =
        json!({"routes": [{"prefix": "10.0.0.0/8", "metric": 1, "state": "seen"}], "bgp": {"asn": 1}});
    assert_eq!(found(same, other), [""; 0]);
    assert!(api.replaces("bgp.asn") && !api.replaces("bgp.hold_time") && !api.replaces("nothing[0].at.all"));
}

#[test]
fn a_folder_that_contradicts_itself_is_refused_with_the_place() {
    let shapes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../provider/tests/vendors/shapes");
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("shapes");
    fs::create_dir_all(folder.join("api")).unwrap();
    fs::copy(shapes.join("vendor.toml"), folder.join("vendor.toml")).unwrap();
    let head = "collection = \"/v1/g\"\nitem = \"/v1/g/{id}\"\nid = \"/id\"\n";
    let deep = |depth: usize| {
        let fields: Vec<String> = (1..depth)
            .map(|at| format!("[attributes.a{}]\ntype = \"object\"\n", ".fields.a".repeat(at)))
            .collect();
        format!(
            "[attributes.a]\ntype = \"object\"\n{}[attributes.a{}]\ntype = \"string\"\n",
            fields.concat(),
            ".fields.a".repeat(depth)
        )
    };
    let load = |attributes: &str| {
        fs::write(folder.join("api/gadget.toml"), format!("{head}{attributes}")).unwrap();
        Vendor::load(&folder).map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(load(&deep(4)), Ok(()));
    for (attributes, says) in [
        (deep(5).as_str(), "stand in more than 4 objects"),
        ("[attributes.a]\ntype = \"object\"\n", "fields`: are missing"),
        ("[attributes.a]\ntype = \"set(string)\"\n", "is no type"),
        (
            "[attributes.a]\ntype = \"list(list(object))\"\n[attributes.a.fields.b]\ntype = \"string\"\n",
            "is no type",
        ),
        (
            "[attributes.a]\ntype = \"string\"\n[attributes.a.fields.b]\ntype = \"string\"\n",
            "mean nothing for a string",
        ),
        ("[attributes.a]\ntype = \"string\"\nwrite_only = true\ndefault = \"x\"\n", "never read again"),
        (
            "[attributes.a]\ntype = \"string\"\nwrite_only = true\n[attributes.a_version]\ntype = \"number\"\n",
            "rename it",
        ),
        ("[attributes.a]\ntype = \"string\"\nblock = true\n", "is for an `object` or `list(object)`"),
        ("[attributes.a]\ntype = \"string\"\npattern = \"a)|(b\"\n", "is no pattern"),
        ("[attributes.a]\ntype = \"string\"\nminimum = 1\n", "minimum`: means nothing for a string"),
        ("[attributes.a]\ntype = \"number\"\nenum = [\"x\"]\n", "enum`: means nothing for a number"),
        ("[attributes.a]\ntype = \"number\"\nmaximum = 3\ndefault = 4\n", "is 4, more than 3"),
        ("[attributes.timeouts]\ntype = \"string\"\n", "cannot be an attribute's name"),
        (
            "[attributes.a]\ntype = \"list(object)\"\nnormalise = [\"unordered\"]\n[attributes.a.fields.b]\ntype = \"string\"\n",
            "means nothing for a list(object)",
        ),
        (
            "[attributes.a]\ntype = \"object\"\n[attributes.a.fields.b]\ntype = \"object\"\nblock = true\n[attributes.a.fields.b.fields.c]\ntype = \"string\"\n",
            "in something that is none",
        ),
    ] {
        let error = load(attributes).unwrap_err();
        assert!(error.contains(says), "{says}: {error}");
    }
}
