//! What a hostile provider tries while it plans and while it applies, and does not get. Each attempt is shown to work for
//! the same program when nothing is taken away from it.
//!
//! Here the program is spoken to as Terraform does. The same attempts made under a real Terraform are in `hostile`, those of
//! templates and modules in `terraform/hostile_templates.rs`.

use std::net::{Ipv4Addr, TcpListener};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};
use std::path::Path;

use hyper::Request;
use prost::Message as _;
use serde_json::json;
use wanwright_provider::proto::tfplugin6::{apply_resource_change, plan_resource_change};

use super::plugin::Plugin;
use super::tests::{built, private, released, unpacked};
use super::wire;
use crate::terraform::tests::is_confined;

pub(super) const ATTEMPTS: [&str; 36] = [
    "read the values of another run",
    "list the runs",
    "read another stack's state",
    "change another stack's state",
    "read the key of all states",
    "read the vendor's credential",
    "list the sockets of other runs",
    "pose as the provider of another run",
    "change the template of the next run",
    "put a file beside its own program",
    "keep something for the next run",
    "fill the disk",
    "fill the memory through files",
    "take memory without a path",
    "open a file to everybody",
    "read through a link of its own",
    "connect to NATS",
    "connect to Postgres",
    "connect to the states of all stacks",
    "connect to the vendor past the gateway",
    "connect to the metadata of the machine",
    "connect over the other family",
    "ask a name server",
    "listen for others",
    "talk to a service of the machine",
    "send a local datagram",
    "ask the kernel about the network",
    "leave a daemon behind",
    "start a shell",
    "start as many processes as there can be",
    "read the executor's environment",
    "read the executor's memory",
    "take over the executor's files",
    "find secrets in its own environment",
    "stop the executor",
    "take more of a limit",
];

/// Attempts that only root can do when nobody forbids it.
pub(super) const OF_ROOT: [&str; 2] = ["read the executor's memory", "take more of a limit"];

#[derive(Clone, Copy, Debug)]
enum While {
    Planning,
    Applying,
}

/// Has the provider try something, and answers what it says came of it.
async fn tried(plugin: &Plugin, during: While, attempt: &str, place: &str) -> String {
    let (type_name, private) = (attempt.to_owned(), place.as_bytes().to_vec());
    let (call, request) = match during {
        While::Planning => {
            let request =
                plan_resource_change::Request { type_name, prior_private: private, ..Default::default() };
            ("PlanResourceChange", request.encode_to_vec())
        }
        While::Applying => {
            let request =
                apply_resource_change::Request { type_name, planned_private: private, ..Default::default() };
            ("ApplyResourceChange", request.encode_to_vec())
        }
    };
    let head = Request::post(format!("http://localhost/tfplugin6.Provider/{call}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .expect("a call")
        .into_parts()
        .0;
    let answer = plugin.call(head, wire::framed(&request)).await.expect("an answer");
    let message = answer.message().expect("a message");
    let diagnostics = match during {
        While::Planning => plan_resource_change::Response::decode(message).expect("an answer").diagnostics,
        While::Applying => apply_resource_change::Response::decode(message).expect("an answer").diagnostics,
    };
    diagnostics.into_iter().next().expect("what came of it").summary
}

pub(super) fn written(dir: &Path, name: &str) -> std::path::PathBuf {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    std::fs::write(&path, "secret").expect("a file");
    path
}

pub(super) fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    (listener, port)
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_hostile_provider_tries_it_reaches_the_gateway_and_nothing_else() {
    if !is_confined() {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let release = released(&dir.join("r"), &built("wanwright-provider", "--example", "hostile_provider"));
    let package = unpacked(&release, 1, false);
    let sockets = private(dir);
    std::fs::create_dir(sockets.join("other")).expect("a folder");
    let listeners: Vec<(TcpListener, u16)> = (0..5).map(|_| listener()).collect();
    let [gateway, nats, postgres, states, vendor] = [0, 1, 2, 3, 4].map(|number: usize| listeners[number].1);
    let name = format!("wanwright-hostile-{gateway}");
    let _service = UnixListener::bind_addr(&UnixAddr::from_abstract_name(&name).expect("a name"));
    std::fs::create_dir(dir.join("temporary")).expect("a folder");
    let place = json!({
        "run": written(dir, "runs/other/variables.json").parent(),
        "state": written(dir, "spool/other.json"),
        "key": written(dir, "keys/state.key"),
        "credential": written(dir, "credential"),
        "template": written(dir, "templates/t/files/main.tf"),
        "temporary": dir.join("temporary"),
        "sockets": sockets,
        "package": package.folder,
        "abstract": name,
        "gateway": gateway, "nats": nats, "postgres": postgres, "states": states, "vendor": vendor,
    })
    .to_string();

    let confined = Plugin::start(&package, gateway, &sockets).await.expect("a process");
    let free = Plugin::unconfined(&package, &sockets).await.expect("a process");
    let root = rustix::process::geteuid().is_root();
    let mut failures = Vec::new();
    for during in [While::Planning, While::Applying] {
        assert_eq!(tried(&confined, during, "call the gateway", &place).await, "escaped", "what it is for");
        for attempt in ATTEMPTS {
            let held = tried(&confined, during, attempt, &place).await;
            if !held.starts_with("blocked") {
                failures.push(format!("{attempt} while {during:?}: {held}"));
            }
            if root || !OF_ROOT.contains(&attempt) {
                let control = tried(&free, during, attempt, &place).await;
                if control != "escaped" {
                    failures.push(format!("{attempt} while {during:?}, not confined: {control}"));
                }
            }
        }
    }
    assert!(confined.is_alive(), "it was asked to the end");
    assert_eq!(failures, [""; 0]);
}
