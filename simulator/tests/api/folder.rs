//! What is wrong in a folder or a configuration is said at the start.

use std::fs;

use wanwright_simulator::{Error, Limit, Simulator};

use crate::support::{Folder, WIDE, config, vendor_folder};

/// A copy of the vendor folder with one text replaced in one file.
fn copy(file: &str, from: &str, to: &str) -> Folder {
    let copy = Folder::new();
    fs::create_dir_all(copy.path().join("api")).expect("making a folder");
    for name in ["vendor.toml", "simulator.toml", "api/site.toml", "api/tunnel.toml", "api/device.toml"] {
        let text = fs::read_to_string(vendor_folder().join(name)).expect("reading");
        let text = if name == file { text.replacen(from, to, 1) } else { text };
        fs::write(copy.path().join(name), text).expect("writing");
    }
    copy
}

async fn start_error(file: &str, from: &str, to: &str) -> String {
    let (vendor, data) = (copy(file, from, to), Folder::new());
    let mut config = config(data.path(), WIDE);
    config.vendor = vendor.path().to_owned();
    Simulator::start(config).await.expect_err("a refusal").to_string()
}

#[tokio::test]
async fn contradictions_are_refused() {
    let behaviours = "simulator.toml";
    for (file, from, to, expected) in [
        (behaviours, "page_size = 100", "page_size = 0", "page_size"),
        (behaviours, "site_id = \"site\"", "site_id = \"place\"", "place, which is not a kind"),
        (behaviours, "mtu = {", "colour = {", "colour, which is not an attribute"),
        (behaviours, "[\"name\", \"serial\"]", "[\"name\", \"vlan\"]", "vlan is looked up"),
        (behaviours, "203.0.113.0/24", "203.0.113.0/33", "not an IPv4 network"),
        (behaviours, "firmware = { value = \"2.4.1\" }", "", "firmware: computed in only one"),
        ("api/site.toml", "id = \"/id\"", "id = \"/data/id\"", "does not name a field at the top"),
        ("api/device.toml", "type = \"string\"", "type = \"text\"", "api/device.toml"),
    ] {
        let error = start_error(file, from, to).await;
        assert!(error.contains(expected), "{to}: {error}");
    }
}

#[tokio::test]
async fn the_resource_follows_the_folder() {
    let vendor = copy("api/site.toml", "collection = \"/v1/sites\"", "collection = \"/v2/places\"");
    let data = Folder::new();
    let mut config = config(data.path(), WIDE);
    config.vendor = vendor.path().to_owned();
    let running = Simulator::start(config).await.unwrap();
    let caller = crate::support::Caller::new(running.url());
    assert_eq!(caller.get("/v2/places").await.status, 200);
    assert_eq!(caller.get("/v1/sites").await.status, 404);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn impossible_configurations_are_refused() {
    let data = Folder::new();
    let mut no_token = config(data.path(), WIDE);
    no_token.token = String::new();
    let no_burst = config(data.path(), Limit { per_second: 1.0, burst: 0 });
    for config in [no_token, no_burst] {
        assert!(matches!(Simulator::start(config).await, Err(Error::Config(_))));
    }
    let shown = format!("{:?}", config(data.path(), WIDE));
    assert!(!shown.contains("secret"), "{shown}");
}
