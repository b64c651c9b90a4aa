//! What is tried.

use std::fs::{self, OpenOptions};
use std::io::{Error, ErrorKind, Read as _, Result, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal};
use serde_json::Value;

/// What it may know of its surroundings.
pub(crate) struct Place(pub(crate) Value);

impl Place {
    fn path(&self, name: &str) -> PathBuf {
        self.0[name].as_str().unwrap_or("/nowhere").into()
    }

    fn connect(&self, name: &str) -> Result<()> {
        connect(&self.0[name])
    }

    fn connect_to_any(&self, name: &str) -> Result<()> {
        let ports = self.0[name].as_array().into_iter().flatten();
        let mut tries = ports.map(connect);
        tries.find(Result::is_ok).unwrap_or_else(|| Err(Error::other("none is reached")))
    }

    /// The folder of its own program.
    fn package(&self) -> Result<PathBuf> {
        match self.0["package"].as_str() {
            Some(path) => Ok(path.into()),
            None => Ok(std::env::current_exe()?.parent().map(PathBuf::from).unwrap_or_default()),
        }
    }

    fn of_parent(&self, what: &str) -> PathBuf {
        let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
        format!("/proc/{parent}/{what}").into()
    }
}

fn connect(port: &Value) -> Result<()> {
    let port = u16::try_from(port.as_u64().unwrap_or_default()).unwrap_or_default();
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map(drop)
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

/// A name that nobody else has who tries at the same time.
fn own(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{name}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Where the gateway is for this run, and where it was for the run before.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ways {
    pub(crate) now: String,
    pub(crate) before: Option<String>,
}

/// Where the vendor keeps its sites.
const SITES: &str = "/v1/sites";

impl Ways {
    /// Asks, and fails unless the answer is that it is done.
    fn ask(&self, method: &str, target: &str, host: Option<&str>, body: &str) -> Result<()> {
        let address = self.now.strip_prefix("http://").unwrap_or_default();
        let address = address.split('/').next().unwrap_or_default();
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let (host, length) = (host.unwrap_or(address), body.len());
        let request = format!(
            "{method} {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        );
        // In one piece: who has answered the first one may not wait for another.
        stream.write_all(request.as_bytes())?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        let status = String::from_utf8_lossy(&status).into_owned();
        let code = status.split(' ').nth(1).unwrap_or_default();
        if code.starts_with('2') { Ok(()) } else { Err(Error::other(format!("answered {code}"))) }
    }

    /// The path of a way.
    fn path(way: &str) -> String {
        let rest = way.strip_prefix("http://").unwrap_or_default();
        rest.split_once('/').map(|(_, path)| format!("/{path}")).unwrap_or_default()
    }

    fn attempt(&self, name: &str, place: &Place) -> Result<()> {
        let own = Self::path(&self.now);
        match name {
            "call the gateway by its own way" => self.ask("GET", &(own + SITES), None, ""),
            "use the way of a run that has ended" => {
                let before = self.before.as_deref().ok_or_else(|| Error::other("no run before"))?;
                self.ask("GET", &(Self::path(before) + SITES), None, "")
            }
            "guess the way of another run" => {
                let last = if own.ends_with('0') { '1' } else { '0' };
                let other = own[..own.len() - 1].to_owned() + &last.to_string() + SITES;
                self.ask("GET", &other, None, "")
            }
            "climb out of its own way" => {
                let climbing = ["/../../_sim/stats", "/%2e%2e/%2e%2e/_sim/stats", "/..%2f..%2f_sim/stats"];
                let tries = climbing.map(|path| self.ask("GET", &(own.clone() + path), None, ""));
                tries.into_iter().find(Result::is_ok).unwrap_or_else(|| Err(Error::other("none led there")))
            }
            "lead the gateway to another host" => {
                let host = format!("127.0.0.1:{}", place.0["vendor"]);
                self.ask("GET", &format!("http://{host}{SITES}"), Some(&host), "")
                    .or_else(|_| self.ask("GET", &(own + SITES), Some(&host), ""))
            }
            "make an object while only a plan is wanted" => {
                let body =
                    r#"{"name":"hostile","lan":["10.66.0.0/24"],"location":"","idempotency_key":"hostile"}"#;
                self.ask("POST", &(own + SITES), None, body)
            }
            other => Err(Error::other(format!("no such attempt: {other}"))),
        }
    }
}

/// Tries something.
pub(crate) fn attempt(name: &str, place: &Place, ways: &Ways) -> Result<()> {
    match name {
        "read the values of another run" => read(place.path("run").join("variables.json")),
        "list the runs" => fs::read_dir(place.path("run").join("..")).map(drop),
        "read another stack's state" => read(place.path("state")),
        "change another stack's state" => OpenOptions::new().append(true).open(place.path("state")).map(drop),
        "read the key of all states" => read(place.path("key")),
        "read the vendor's credential" => read(place.path("credential")),
        "list the sockets of other runs" => fs::read_dir(place.path("sockets")).map(drop),
        "pose as the provider of another run" => {
            let path = place.path("sockets").join(own("other/s"));
            UnixListener::bind(&path).and_then(|_| fs::remove_file(path))
        }
        "change the template of the next run" => {
            OpenOptions::new().append(true).open(place.path("template")).map(drop)
        }
        "put a file beside its own program" => make(place.package()?.join(own("more"))),
        "keep something for the next run" => make(own("kept").into()),
        "fill the disk" => make(place.path("temporary").join(own("large"))),
        "fill the memory through files" => make(own("/dev/shm/wanwright-hostile").into()),
        "take memory without a path" => {
            unchecked(rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::CLOEXEC))
        }
        "open a file to everybody" => {
            fs::set_permissions(place.path("state"), fs::Permissions::from_mode(0o777))
        }
        "read through a link of its own" => {
            let link = PathBuf::from(own("link"));
            symlink(place.path("key"), &link)?;
            let done = read(link.clone());
            fs::remove_file(link).and(done)
        }
        "connect to NATS" => place.connect("nats"),
        "connect to Postgres" => place.connect("postgres"),
        "connect to the states of all stacks" => place.connect("states"),
        "connect to the vendor past the gateway" => place.connect("vendor"),
        "connect to whatever else the executor listens on" => place.connect_to_any("ports"),
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
        other => ways.attempt(other, place),
    }
}
