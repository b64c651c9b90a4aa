//! The same attempts, and some on the gateway, made while a real Terraform plans, reads and applies: in its provider as the
//! engine runs it, and, to show that each would work, in one that Terraform starts itself.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use wanwright_provider::release::Release;
use wanwright_schemas::order::{Desired, Intent, Order};
use wanwright_schemas::plan::{BoundPlan, Plan};
use wanwright_schemas::report::Finding;
use wanwright_vendors::Vendors;

use super::escapes::{ATTEMPTS, OF_ROOT, listener, written};
use super::tests::{VERSION, VendorFolder, World, built, is_done, released};
use crate::engine::Outcome;
use crate::terraform::archive::States;
use crate::terraform::tests::{is_confined, servers};

/// Attempts on the gateway and on the executor as it runs.
const ON_THE_EXECUTOR: [&str; 5] = [
    "connect to whatever else the executor listens on",
    "guess the way of another run",
    "climb out of its own way",
    "lead the gateway to another host",
    ENDED,
];

/// What only the second run of a process can try.
const ENDED: &str = "use the way of a run that has ended";

/// What only a run that plans may not do.
const MAKE: &str = "make an object while only a plan is wanted";

/// What it is for.
const OWN_WAY: &str = "call the gateway by its own way";

/// Where attempts are made: attributes of the data source and of the resource.
const STEPS: [&str; 3] = ["read", "planned", "applied"];

/// What came of each attempt in each step.
type Answers = BTreeMap<(String, &'static str), String>;

/// A template that makes every attempt. The one about making is the business of the first customer's run, which only plans.
fn template(place: &Value, backend: &str) -> String {
    let mut names: Vec<&str> = [&ATTEMPTS[..], &ON_THE_EXECUTOR[..], &[OWN_WAY]].concat();
    names.sort_unstable();
    let place = place.to_string();
    let (names, place) = (json!(names), json!(place));
    format!(
        r#"terraform {{
  required_providers {{
    other = {{ source = "other/other", version = "{VERSION}" }}
  }}
  {backend}
}}
variable "site" {{ type = any }}
variable "tunnels" {{ type = any }}
variable "base_url" {{
  type    = string
  default = null
}}
provider "other" {{ base_url = var.base_url }}
locals {{
  attempts = toset({names})
  place    = {place}
  more     = var.site.name == "c0.oslo" ? toset(["{MAKE}"]) : toset([])
}}
data "other_attempt" "site" {{
  for_each = setunion(local.attempts, local.more)
  name     = each.key
  place    = local.place
}}
resource "other_attempt" "site" {{
  for_each = local.attempts
  name     = each.key
  place    = local.place
}}
output "site" {{ value = {{ id = "1", address = "192.0.2.1" }} }}
output "tunnels" {{ value = {{}} }}
"#
    )
}

const OUTPUTS: &str = "[site]\nresource = \"other_attempt.site\"\noutput = \"site\"\n\
                       [tunnel]\nresource = \"other_attempt.tunnel\"\noutput = \"tunnels\"\n";

/// The answers that a state holds.
fn answers(state: &[u8]) -> Answers {
    let state: Value = serde_json::from_slice(state).expect("a state");
    let mut found = Answers::new();
    let resources = state["resources"].as_array().into_iter().flatten();
    for instance in resources.flat_map(|resource| resource["instances"].as_array().into_iter().flatten()) {
        let attributes = &instance["attributes"];
        for step in STEPS {
            if let (Some(name), Some(said)) = (attributes["name"].as_str(), attributes[step].as_str()) {
                found.insert((name.to_owned(), step), said.to_owned());
            }
        }
    }
    found
}

/// Answers every call with 200, as the gateway would if it let anything through.
fn obliging(listener: TcpListener) {
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let (mut asked, mut more) = (Vec::new(), [0; 4096]);
                // To its end: who closes with something unread ends the connection before it was answered.
                while !asked.windows(4).any(|four| four == b"\r\n\r\n") {
                    match stream.read(&mut more) {
                        Ok(length) if length > 0 => asked.extend_from_slice(&more[..length]),
                        _ => return,
                    }
                }
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
            });
        }
    });
}

/// What the program tries when Terraform starts it, as anybody's Terraform would: nothing is taken away from either.
fn unconfined(dir: &Path, release: &Release, place: &Value) -> Answers {
    let dir = dir.join("plain");
    std::fs::create_dir(&dir).expect("a folder");
    let (gateway, port) = listener();
    obliging(gateway);
    let mirror = format!(
        "provider_installation {{\n  filesystem_mirror {{\n    path = \"{}\"\n  }}\n}}\n",
        release.packed.display()
    );
    let mut place = place.clone();
    // The gateway of the other runs is not its business.
    place["gateway"] = json!(port);
    for (name, text) in [
        ("main.tf", template(&place, "")),
        ("cli.tfrc", mirror),
        (
            "terraform.tfvars.json",
            json!({"site": {"name": "c0.oslo"}, "tunnels": {}, "base_url": format!("http://127.0.0.1:{port}/r/token")})
                .to_string(),
        ),
    ] {
        std::fs::write(dir.join(name), text).expect("a file");
    }
    for args in
        [&["init", "-input=false", "-no-color"][..], &["apply", "-auto-approve", "-input=false", "-no-color"]]
    {
        let output = Command::new("terraform")
            .args(args)
            .current_dir(&dir)
            .env("TF_CLI_CONFIG_FILE", dir.join("cli.tfrc"))
            .env("CHECKPOINT_DISABLE", "1")
            .env("WANWRIGHT_STATE_KEY_FILE", "/nowhere")
            .output()
            .expect("Terraform");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    answers(&std::fs::read(dir.join("terraform.tfstate")).expect("a state"))
}

/// The ports that this process listens on.
fn ports() -> BTreeSet<u16> {
    let fds = std::fs::read_dir("/proc/self/fd").expect("files").flatten();
    let own: BTreeSet<String> = fds
        .filter_map(|fd| {
            std::fs::read_link(fd.path())
                .ok()?
                .to_str()?
                .strip_prefix("socket:[")?
                .strip_suffix(']')
                .map(str::to_owned)
        })
        .collect();
    let table = std::fs::read_to_string("/proc/self/net/tcp").expect("a table");
    let listening = table.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_own = fields.get(3) == Some(&"0A") && own.contains(*fields.get(9)?);
        let port = u16::from_str_radix(fields.get(1)?.split(':').nth(1)?, 16).ok()?;
        is_own.then_some(port)
    });
    listening.collect()
}

fn port_of(url: &str) -> u16 {
    url::Url::parse(url).expect("a URL").port().expect("a port")
}

/// A world whose template's provider is hostile, and what that may know of it.
async fn world() -> (World, Release, Value, UnixListener) {
    let servers = servers().await;
    let dir = servers.dir.path().to_owned();
    let release = released(&dir.join("r"), &built("wanwright-provider", "--example", "hostile_provider"));
    let folder = VendorFolder::new(&dir);
    folder.uses(&release, true, true);
    folder.write("terraform/outputs.toml", OUTPUTS);
    folder.write("terraform/main.tf", &template(&json!({}), "backend \"http\" {}"));
    let vendor = World::vendor(&dir, 0).await;
    let vendors = Vendors::open(dir.join("vendors")).expect("the vendors' folders");
    let (nats, postgres) = (port_of(&servers.server.url()), port_of(&servers.postgres.url()));
    let world = World::of(servers, vendors, vendor, release.packed.clone()).await;
    let work = dir.join("work");
    std::fs::create_dir_all(work.join("sockets/other")).expect("a folder");
    std::fs::create_dir(dir.join("temporary")).expect("a folder");
    let name = format!("wanwright-hostile-{nats}");
    let service =
        UnixListener::bind_addr(&UnixAddr::from_abstract_name(&name).expect("a name")).expect("a socket");
    let gateway = port_of(
        world.gateway.open(crate::records::context_of(&World::order(9, Intent::Apply), None)).base_url(),
    );
    let vendor = port_of(&world.vendor.url().to_string());
    // Others of this process may be those of other tests, and end at any time.
    let states = world.engine.states.open("other", "other", None).port();
    let ports: BTreeSet<u16> = ports().into_iter().filter(|port| *port != gateway).collect();
    assert!(ports.contains(&vendor) && ports.contains(&states), "{ports:?}");
    let place = json!({
        "run": written(&work, "runs/other/variables.json").parent(),
        "state": written(&work, "spool/other.7.conflict"),
        "key": dir.join("state.key"),
        "credential": dir.join("credential"),
        "template": dir.join("vendors/simwan/terraform/main.tf"),
        "temporary": dir.join("temporary"),
        "sockets": work.join("sockets"),
        "abstract": name,
        "nats": nats, "postgres": postgres, "states": states, "vendor": vendor,
        "ports": ports,
    });
    folder.write("terraform/main.tf", &template(&place, "backend \"http\" {}"));
    let refreshed = world.vendors.refresh();
    assert!(world.vendors.problem().is_none(), "{refreshed:?}");
    (world, release, place, service)
}

/// What a run left in the state of its stack.
async fn answers_of(world: &World, order: &Order) -> Answers {
    let Desired::Site { site, .. } = &order.desired else { panic!("{order:?}") };
    let servers = &world.servers;
    let states = States::new(servers.store.pool.clone(), servers.nats.clone(), servers.store.keys.clone());
    let state = states.version(&site.uid.to_string(), None).await.expect("asked").expect("a state");
    answers(&state.body)
}

fn plan_of(outcome: Outcome) -> Plan {
    let Outcome::Done(findings) = &outcome else { panic!("{outcome:?}") };
    let plan = findings.iter().find_map(|found| match &found.finding {
        Finding::Planned { plan } => Some(plan.clone()),
        _ => None,
    });
    plan.unwrap_or_else(|| panic!("{outcome:?}"))
}

/// An order that applies what was planned.
fn applying(plan: &Plan) -> Order {
    let expires = jiff::Timestamp::now() + std::time::Duration::from_secs(3600);
    let Plan { hash, template, serial, lineage, .. } = plan.clone();
    Order {
        plan: Some(BoundPlan { hash, template, serial, lineage, expires }),
        ..World::order(0, Intent::Apply)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_hostile_provider_tries_under_a_real_terraform_it_does_not_get() {
    if !is_confined() {
        return;
    }
    let (world, release, place, _service) = world().await;
    // A run that plans, one that applies that very plan, and one of another customer in the same process.
    let planned = plan_of(world.run(&World::order(0, Intent::Plan { remove: false, number: 1 }), 1).await.0);
    let first = applying(&planned);
    let second = World::order(1, Intent::Apply);
    for order in [&first, &second] {
        let (outcome, _) = world.run(order, 1).await;
        assert!(is_done(&outcome), "{outcome:?}");
    }
    assert_eq!(world.engine.pool.started().len(), 1, "one process has served them all");
    let confined = [answers_of(&world, &first).await, answers_of(&world, &second).await];
    let sites = reqwest::Client::new().get(format!("{}/v1/sites", world.vendor.url())).bearer_auth("token");
    let sites = sites.send().await.expect("an answer").text().await.expect("sites");
    assert!(sites.contains("items") && !sites.contains("hostile"), "nothing was made: {sites}");
    let dir = world.servers.dir.path().to_owned();
    let plain = tokio::task::spawn_blocking(move || unconfined(&dir, &release, &place)).await.expect("done");
    judge(&confined, &plain);
}

/// Prints what came of each attempt, and fails if any got through, or would not have without us.
fn judge(confined: &[Answers; 2], plain: &Answers) {
    let root = rustix::process::geteuid().is_root();
    let mut failures = Vec::new();
    let mut tried = 0;
    println!("{:<52} {:<8} {:<9} {:<9}", "attempt of a provider", "in", "ours", "Terraform's own");
    for ((name, step), said) in plain {
        let outcomes: Vec<&str> = confined
            .iter()
            .filter_map(|answers| Some(answers.get(&(name.clone(), step))?.as_str()))
            .collect();
        let blocked = outcomes.iter().filter(|said| said.starts_with("blocked")).count();
        let wanted = if name == OWN_WAY { 0 } else { outcomes.len() };
        println!(
            "{name:<52} {step:<8} {blocked} of {:<4} {}",
            outcomes.len(),
            said.split(':').next().unwrap_or(said)
        );
        tried += outcomes.len();
        if blocked != wanted || outcomes.is_empty() {
            failures.push(format!("{name} ({step}): {outcomes:?}"));
        }
        let needs_root = OF_ROOT.contains(&name.as_str()) && !root;
        // Whoever Terraform starts serves one run only.
        if said != "escaped" && !needs_root && name != ENDED {
            failures.push(format!("{name} ({step}), not confined: {said}"));
        }
    }
    let had_way = |answers: &Answers| {
        let said = answers.iter().filter(|((name, step), _)| name == ENDED && *step == "applied");
        said.filter(|(_, said)| !said.ends_with("no run before")).count()
    };
    assert_eq!(confined.each_ref().map(had_way), [1, 1], "each knew the way of a run before");
    assert_eq!(failures, [""; 0]);
    println!("{} attempts in {tried} tries, none got through", plain.len());
    let names = ATTEMPTS.len() + ON_THE_EXECUTOR.len() + 1;
    assert_eq!(
        plain.len(),
        names * STEPS.len() + 1,
        "each while reading, planning and applying, and one while reading"
    );
}
