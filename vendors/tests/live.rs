//! Vendor folders that change while they are in use.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod copy;

use std::fs;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use serde_json::json;
use wanwright_vendors::{Catalogue, Refreshed, Vendors};

use copy::copied;

fn replace(dir: &Path, file: &str, from: &str, to: &str) {
    let path = dir.join("simwan").join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{file} has no {from:?}");
    fs::write(path, text.replace(from, to)).unwrap();
}

fn refused(vendors: &Vendors) -> String {
    match vendors.refresh() {
        Refreshed::Refused(error) => error.to_string(),
        other => panic!("it was taken: {other:?}"),
    }
}

fn same(vendors: &Vendors) {
    assert!(matches!(vendors.refresh(), Refreshed::Same));
}

#[test]
fn a_changed_folder_is_taken_over_as_a_whole() {
    let dir = copied();
    let vendors = Vendors::open(dir.path()).unwrap();
    let before = vendors.snapshot();
    same(&vendors);
    replace(dir.path(), "schemas/device.v2.json", "\"self.vlan < 1002", "\"self.vlan < 100");
    match vendors.clone().refresh() {
        Refreshed::Swapped(changed) => assert_eq!(changed, ["simwan"]),
        other => panic!("{other:?}"),
    }
    same(&vendors);
    let vlan = json!({"vlan": 200});
    let judged = |vendors: &wanwright_vendors::Catalogue| {
        let device = &vendors.get("simwan").unwrap().schemas["device"];
        device.read(device.stored(), &vlan, None).is_ok()
    };
    assert!(judged(&before), "who has begun goes on with what there was");
    assert!(!judged(&vendors.snapshot()));
    // Written again as it is: nothing to take over.
    let path = dir.path().join("simwan/vendor.toml");
    fs::write(&path, fs::read(&path).unwrap()).unwrap();
    same(&vendors);
    // What is no part of the folder does not count.
    fs::write(dir.path().join("simwan/README.md"), "about").unwrap();
    same(&vendors);
}

#[test]
fn a_broken_folder_changes_nothing_and_is_named_once() {
    let dir = copied();
    let vendors = Vendors::open(dir.path()).unwrap();
    replace(dir.path(), "schemas/device.v2.json", "self.vlan < 1002", "self.vlna < 1002");
    let error = refused(&vendors);
    assert!(error.contains("device.v2.json: `x-validations[0].rule`"), "{error}");
    assert_eq!(vendors.problem(), Some(error));
    same(&vendors);
    assert!(vendors.snapshot().get("simwan").is_some());
    fs::write(dir.path().join("simwan/schemas/device.v2.json"), "{").unwrap();
    assert!(refused(&vendors).contains("device.v2.json"), "another content is another error");
    fs::copy(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("simwan/schemas/device.v2.json"),
        dir.path().join("simwan/schemas/device.v2.json"),
    )
    .unwrap();
    same(&vendors);
    assert_eq!(vendors.problem(), None, "it is again what is in force");
}

#[test]
fn what_stored_objects_may_need_does_not_go() {
    let dir = copied();
    let vendors = Vendors::open(dir.path()).unwrap();
    let folder = dir.path().join("simwan/schemas");
    fs::remove_file(folder.join("device.v1.json")).unwrap();
    assert!(refused(&vendors).contains("device.v1.json: is missing: settings of v1 may be stored"));
    for name in ["device.v1-v2.json", "device.v2.json"] {
        fs::remove_file(folder.join(name)).unwrap();
    }
    assert!(refused(&vendors).contains("version v1 of the settings of a device of simwan is gone"));
    fs::write(folder.join("device.v1.json"), r#"{"type":"object"}"#).unwrap();
    assert!(refused(&vendors).contains("version v2 of the settings of a device of simwan is gone"));
    fs::rename(dir.path().join("simwan"), dir.path().join("other")).unwrap();
    assert!(refused(&vendors).contains("other"));
    fs::remove_dir_all(dir.path()).unwrap();
    same(&vendors);
    assert_eq!(vendors.snapshot().get("simwan").unwrap().schemas["device"].versions().count(), 2);
}

#[test]
fn a_template_is_edited_in_place_only_while_it_is_the_only_version() {
    let dir = copied();
    let vendors = Vendors::open(dir.path()).unwrap();
    let (first, second) = (dir.path().join("simwan/terraform"), dir.path().join("simwan/terraform@2"));
    replace(dir.path(), "terraform/main.tf", "# The stack", "# A stack");
    assert!(matches!(vendors.refresh(), Refreshed::Swapped(_)));
    copy::into(&first, &second);
    assert!(matches!(vendors.refresh(), Refreshed::Swapped(_)));
    let simwan = |vendors: &Vendors| vendors.snapshot().get("simwan").unwrap().clone();
    let versions: Vec<u32> = simwan(&vendors).templates().map(|template| template.version).collect();
    assert_eq!((versions, simwan(&vendors).default_template), (vec![1, 2], 1));
    for file in ["terraform/main.tf", "terraform@2/main.tf"] {
        let was = fs::read(dir.path().join("simwan").join(file)).unwrap();
        replace(dir.path(), file, "# A stack", "# Another stack");
        assert!(refused(&vendors).contains("is not what it was, and stacks may have it"), "{file}");
        let kept = simwan(&vendors).template(1).unwrap().contents["main.tf"].clone();
        assert!(String::from_utf8(kept).unwrap().starts_with("# A stack"), "runs get what is in force");
        fs::write(dir.path().join("simwan").join(file), was).unwrap();
        same(&vendors);
    }
    fs::rename(&second, dir.path().join("simwan/terraform@3")).unwrap();
    assert!(refused(&vendors).contains("version 2 of the template of simwan is gone"));
    for (name, why) in [("terraform@03", "is no version"), ("terraform@1", "is no version")] {
        let odd = dir.path().join("simwan").join(name);
        copy::into(&first, &odd);
        assert!(refused(&vendors).contains(why), "{name}");
        fs::remove_dir_all(odd).unwrap();
    }
}

#[test]
fn what_a_template_does_at_the_vendor_is_more_than_its_files() {
    let dir = copied();
    copy::into(&dir.path().join("simwan/terraform"), &dir.path().join("simwan/terraform@2"));
    let effects = || {
        let vendors = Catalogue::load(dir.path()).unwrap();
        let simwan = vendors.get("simwan").unwrap();
        [1, 2].map(|version| simwan.template(version).unwrap().effects.clone())
    };
    let first = effects();
    assert_ne!(first[0], first[1], "another version is another one whatever it says");
    for (file, from, to) in [
        ("vendor.toml", "per_second = 50", "per_second = 5 # slowly"),
        ("vendor.toml", "Simulated SD-WAN vendor", "Another title"),
        ("vendor.toml", "tunnels_per_site = 4", "tunnels_per_site = 3"),
        ("schemas/device.v2.json", "self.vlan < 1002", "self.vlan < 100"),
    ] {
        replace(dir.path(), file, from, to);
        assert_eq!(effects(), first, "{from}");
    }
    let mut seen = vec![first];
    for (file, from, to) in [
        ("api/site.toml", "update_method = \"PUT\"", "update_method = \"PATCH\""),
        ("vendor.toml", "http://127.0.0.1:9000", "http://127.0.0.1:9001"),
        ("vendor.toml", "Authorization", "X-Token"),
        ("vendor.toml", "[limits]", "[answers]\naddresses = [\"/next\"]\n[limits]"),
    ] {
        replace(dir.path(), file, from, to);
        let now = effects();
        assert!(seen.iter().all(|then| then[0] != now[0] && then[1] != now[1]), "{to}");
        seen.push(now);
    }
    replace(dir.path(), "terraform@2/main.tf", "# The stack", "# A stack");
    let (before, now) = (seen.pop().unwrap(), effects());
    assert!(before[0] == now[0] && before[1] != now[1], "each version has its own files");
}

#[test]
fn the_default_version_and_the_kinds_of_a_template_are_checked() {
    let dir = copied();
    let vendors = Vendors::open(dir.path()).unwrap();
    replace(dir.path(), "vendor.toml", "[limits]", "[terraform]\ndefault = 2\n[limits]");
    assert!(refused(&vendors).contains("there is no version 2 of the template; there are 1"));
    copy::into(&dir.path().join("simwan/terraform"), &dir.path().join("simwan/terraform@2"));
    assert!(matches!(vendors.refresh(), Refreshed::Swapped(_)));
    assert_eq!(vendors.snapshot().get("simwan").unwrap().default_template, 2);
    replace(dir.path(), "terraform@2/outputs.toml", "[tunnel]", "[link]");
    assert!(refused(&vendors).contains("names other kinds than terraform/outputs.toml"));
}

#[test]
fn a_new_version_is_served_without_a_restart_and_watched_by_itself() {
    let dir = copied();
    let vendors = Vendors::open(dir.path()).unwrap();
    let (tell, told) = mpsc::channel();
    let watching = vendors.watch(move |found| tell.send(found).unwrap());
    replace(dir.path(), "vendor.toml", "[limits]", "[schemas.device]\nretired = [\"v1\"]\n[limits]");
    let found = told.recv_timeout(Duration::from_secs(20)).unwrap();
    assert!(matches!(found, Refreshed::Swapped(_)), "{found:?}");
    assert_eq!(vendors.snapshot().get("simwan").unwrap().schemas["device"].served().count(), 1);
    drop(watching);
    assert!(told.recv().is_err(), "nobody looks any more");
}

#[test]
fn readers_never_see_half_a_change() {
    let dir = copied();
    let vendors = Vendors::open(dir.path()).unwrap();
    let reading = vendors.clone();
    let (stop, stopped) = mpsc::channel::<()>();
    let reader = std::thread::spawn(move || {
        let mut seen = 0_u64;
        while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
            let vendors = reading.snapshot();
            let vendor = vendors.get("simwan").unwrap();
            // Title and hub are changed together.
            let title = vendor.title.strip_prefix("Title ").unwrap_or("1").to_owned();
            assert!(vendor.hubs["hub-eu"].to_string().ends_with(&format!(".{title}")), "{title}");
            seen += 1;
        }
        seen
    });
    let path = dir.path().join("simwan/vendor.toml");
    let text = fs::read_to_string(&path).unwrap();
    for n in 2..30 {
        let text = text.replace("Simulated SD-WAN vendor", &format!("Title {n}"));
        fs::write(&path, text.replace("198.51.100.1\"", &format!("198.51.100.{n}\""))).unwrap();
        assert!(matches!(vendors.refresh(), Refreshed::Swapped(_)));
    }
    stop.send(()).unwrap();
    assert!(reader.join().unwrap() > 0);
}
