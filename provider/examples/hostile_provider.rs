//! A provider that tries to get out, for tests of what holds it. It is asked for a change of a resource whose type is the
//! attempt's name, with what it may know of its surroundings as JSON in the private data, while planning or while
//! applying, and answers with a warning: `escaped` or `blocked`.

use std::fs::{self, OpenOptions};
use std::io::{Error, ErrorKind, Result, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal};
use serde_json::Value;
use tonic::{Request, Response, Status};
use wanwright_provider::plugin::serve_provider;
use wanwright_provider::proto::tfplugin6 as tf;
use wanwright_provider::proto::tfplugin6::diagnostic::Severity;
use wanwright_provider::proto::tfplugin6::provider_server::Provider;

struct Place(Value);

impl Place {
    fn path(&self, name: &str) -> PathBuf {
        self.0[name].as_str().unwrap_or("/nowhere").into()
    }

    fn connect(&self, name: &str) -> Result<()> {
        let port = u16::try_from(self.0[name].as_u64().unwrap_or_default()).unwrap_or_default();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map(drop)
    }

    fn of_parent(&self, what: &str) -> PathBuf {
        let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
        format!("/proc/{parent}/{what}").into()
    }
}

fn read(path: PathBuf) -> Result<()> {
    fs::read(path).map(drop)
}

fn make(path: PathBuf) -> Result<()> {
    fs::write(&path, "x")?;
    fs::remove_file(path)
}

fn run(program: &str, args: &[&str]) -> Result<()> {
    let status = Command::new(program).args(args).status()?;
    if status.success() { Ok(()) } else { Err(Error::other(status.to_string())) }
}

fn unchecked(result: rustix::io::Result<impl Sized>) -> Result<()> {
    result.map(drop).map_err(Error::from)
}

/// Whether the kernel lets it try; whether somebody is there is another question.
fn lets_try(to: SocketAddr) -> Result<()> {
    match TcpStream::connect_timeout(&to, Duration::from_millis(200)) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(error),
        _ => Ok(()),
    }
}

fn attempt(name: &str, place: &Place) -> Result<()> {
    match name {
        "read the values of another run" => read(place.path("run").join("variables.json")),
        "list the runs" => fs::read_dir(place.path("run").join("..")).map(drop),
        "read another stack's state" => read(place.path("state")),
        "change another stack's state" => OpenOptions::new().append(true).open(place.path("state")).map(drop),
        "read the key of all states" => read(place.path("key")),
        "read the vendor's credential" => read(place.path("credential")),
        "list the sockets of other runs" => fs::read_dir(place.path("sockets")).map(drop),
        "pose as the provider of another run" => {
            let path = place.path("sockets").join("other/0");
            UnixListener::bind(&path).and_then(|_| fs::remove_file(path))
        }
        "change the template of the next run" => {
            OpenOptions::new().append(true).open(place.path("template")).map(drop)
        }
        "put a file beside its own program" => make(place.path("package").join("more")),
        "keep something for the next run" => make("kept".into()),
        "fill the disk" => make(place.path("temporary").join("large")),
        "fill the memory through files" => make("/dev/shm/wanwright-hostile".into()),
        "take memory without a path" => {
            unchecked(rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::CLOEXEC))
        }
        "open a file to everybody" => {
            fs::set_permissions(place.path("state"), fs::Permissions::from_mode(0o777))
        }
        "read through a link of its own" => {
            let link = PathBuf::from("link");
            symlink(place.path("key"), &link)?;
            let done = read(link.clone());
            fs::remove_file(link).and(done)
        }
        "connect to NATS" => place.connect("nats"),
        "connect to Postgres" => place.connect("postgres"),
        "connect to the states of all stacks" => place.connect("states"),
        "connect to the vendor past the gateway" => place.connect("vendor"),
        "connect to the metadata of the machine" => lets_try(([169, 254, 169, 254], 80).into()),
        "connect over the other family" => lets_try((Ipv6Addr::LOCALHOST, 1).into()),
        "ask a name server" => {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            socket.send_to(b"x", (Ipv4Addr::LOCALHOST, 53)).map(drop)
        }
        "listen for others" => TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map(drop),
        "talk to a service of the machine" => {
            let name = place.0["abstract"].as_str().unwrap_or_default();
            UnixStream::connect_addr(&UnixAddr::from_abstract_name(name)?).map(drop)
        }
        "send a local datagram" => UnixDatagram::unbound().map(drop),
        "ask the kernel about the network" => unchecked(rustix::net::socket(
            rustix::net::AddressFamily::NETLINK,
            rustix::net::SocketType::RAW,
            None,
        )),
        "leave a daemon behind" => run("/usr/bin/setsid", &["/bin/true"]),
        "start a shell" => run("/bin/sh", &["-c", "true"]),
        "start as many processes as there can be" => (0..8).try_for_each(|_| run("/bin/true", &[])),
        "read the executor's environment" => read(place.of_parent("environ")),
        "read the executor's memory" => fs::File::open(place.of_parent("mem")).map(drop),
        "take over the executor's files" => fs::read_dir(place.of_parent("fd")).map(drop),
        "find secrets in its own environment" => {
            std::env::var("WANWRIGHT_STATE_KEY_FILE").map(drop).map_err(Error::other)
        }
        "stop the executor" => {
            let parent = rustix::process::getppid().unwrap_or(Pid::INIT);
            unchecked(rustix::process::kill_process(parent, Signal::CONT))
        }
        "take more of a limit" => unchecked(rustix::process::setrlimit(
            Resource::Core,
            Rlimit { current: Some(4096), maximum: Some(4096) },
        )),
        // What it is for.
        "call the gateway" => place.connect("gateway"),
        other => Err(Error::other(format!("no such attempt: {other}"))),
    }
}

fn tried(name: &str, place: &[u8]) -> Vec<tf::Diagnostic> {
    let place = Place(serde_json::from_slice(place).unwrap_or_default());
    let summary = match attempt(name, &place) {
        Ok(()) => "escaped".to_owned(),
        Err(error) => format!("blocked: {error}"),
    };
    // Secrets on its output are another attempt: nobody may keep what it says there.
    let _ = writeln!(std::io::stdout(), "canary {summary}");
    let _ = writeln!(std::io::stderr(), "canary {summary}");
    vec![tf::Diagnostic {
        severity: Severity::Warning.into(),
        summary,
        detail: String::new(),
        attribute: None,
    }]
}

struct Hostile;

macro_rules! unimplemented_calls {
    ($($name:ident: $module:ident),*) => {
        #[tonic::async_trait]
        impl Provider for Hostile {
            $(async fn $name(
                &self,
                _: Request<tf::$module::Request>,
            ) -> std::result::Result<Response<tf::$module::Response>, Status> {
                Err(Status::unimplemented("it does nothing else"))
            })*

            async fn plan_resource_change(
                &self,
                request: Request<tf::plan_resource_change::Request>,
            ) -> std::result::Result<Response<tf::plan_resource_change::Response>, Status> {
                let request = request.into_inner();
                let diagnostics = tried(&request.type_name, &request.prior_private);
                Ok(Response::new(tf::plan_resource_change::Response { diagnostics, ..Default::default() }))
            }

            async fn apply_resource_change(
                &self,
                request: Request<tf::apply_resource_change::Request>,
            ) -> std::result::Result<Response<tf::apply_resource_change::Response>, Status> {
                let request = request.into_inner();
                let diagnostics = tried(&request.type_name, &request.planned_private);
                Ok(Response::new(tf::apply_resource_change::Response { diagnostics, ..Default::default() }))
            }
        }
    };
}

unimplemented_calls!(
    get_metadata: get_metadata,
    move_resource_state: move_resource_state,
    get_provider_schema: get_provider_schema,
    get_resource_identity_schemas: get_resource_identity_schemas,
    validate_provider_config: validate_provider_config,
    validate_resource_config: validate_resource_config,
    validate_data_resource_config: validate_data_resource_config,
    upgrade_resource_state: upgrade_resource_state,
    upgrade_resource_identity: upgrade_resource_identity,
    configure_provider: configure_provider,
    read_resource: read_resource,
    import_resource_state: import_resource_state,
    read_data_source: read_data_source,
    get_functions: get_functions,
    stop_provider: stop_provider
);

#[tokio::main]
async fn main() {
    if let Err(error) = serve_provider(Hostile).await {
        eprintln!("{error}");
        std::process::exit(1);
    }
}
