//! What a confined child tries, and does not get. Each attempt is shown to work for a child that is not confined.

use std::fs;
use std::io::{Error, Result, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, Resource, Rlimit, Signal};
use wanwright_supervisor::{ChildSpec, Confinement, missing_confinement, unconfined};

use crate::support::{LIMIT, TempDir, is_alive, is_root, make_open, until};

const ATTEMPT: &str = "WANWRIGHT_TEST_ATTEMPT";

/// What only new kernels refuse.
const REACH_A_SOCKET: &str = "reach a socket with a path";

/// Where everything is, for the child: its environment.
struct Place {
    own: PathBuf,
    outside: PathBuf,
    parent: Pid,
    tcp: u16,
    tcp6: u16,
    udp: u16,
    allowed: u16,
}

impl Place {
    fn read() -> Self {
        let text = |name: &str| std::env::var(name).unwrap();
        let number = |name: &str| text(name).parse().unwrap();
        Self {
            own: text("OWN").into(),
            outside: text("OUTSIDE").into(),
            parent: rustix::process::getppid().unwrap(),
            tcp: number("TCP"),
            tcp6: number("TCP6"),
            udp: number("UDP"),
            allowed: number("ALLOWED"),
        }
    }

    fn secret(&self) -> PathBuf {
        self.outside.join("secret")
    }

    fn of_parent(&self, what: &str) -> PathBuf {
        Path::new("/proc").join(self.parent.to_string()).join(what)
    }
}

/// Who can do it when nobody forbids it.
#[derive(Clone, Copy, PartialEq)]
enum Who {
    Anybody,
    Root,
}

type Attempt = (&'static str, Who, fn(&Place) -> Result<()>);

fn run(program: &str, args: &[&str]) -> Result<()> {
    let status = Command::new(program).args(args).status()?;
    if status.success() { Ok(()) } else { Err(Error::other(status.to_string())) }
}

fn unchecked(result: rustix::io::Result<impl Sized>) -> Result<()> {
    result.map(drop).map_err(Error::from)
}

fn socket(family: rustix::net::AddressFamily, kind: rustix::net::SocketType) -> Result<()> {
    unchecked(rustix::net::socket(family, kind, None))
}

const ATTEMPTS: &[Attempt] = {
    use Who::{Anybody, Root};
    &[
        ("read a file", Anybody, |p| fs::read(p.secret()).map(drop)),
        ("list a folder", Anybody, |p| fs::read_dir(&p.outside).map(drop)),
        ("list the root", Anybody, |_| fs::read_dir("/").map(drop)),
        ("write a file", Anybody, |p| fs::write(p.outside.join("new"), "x")),
        ("change a file", Anybody, |p| fs::write(p.secret(), "x")),
        ("append to a file", Anybody, |p| fs::OpenOptions::new().append(true).open(p.secret()).map(drop)),
        ("cut a file", Anybody, |p| {
            unchecked(rustix::fs::open(
                p.secret(),
                rustix::fs::OFlags::TRUNC | rustix::fs::OFlags::WRONLY,
                rustix::fs::Mode::empty(),
            ))
        }),
        ("delete a file", Anybody, |p| fs::remove_file(p.secret())),
        ("make a folder", Anybody, |p| fs::create_dir(p.outside.join("folder"))),
        ("delete a folder", Anybody, |p| fs::remove_dir(p.outside.join("empty"))),
        ("move a file in", Anybody, |p| fs::rename(p.secret(), p.own.join("moved"))),
        ("link a file in", Anybody, |p| fs::hard_link(p.secret(), p.own.join("linked"))),
        ("move a file out", Anybody, |p| {
            fs::write(p.own.join("x"), "x").and_then(|()| fs::rename(p.own.join("x"), p.outside.join("x")))
        }),
        ("read through a link", Anybody, |p| {
            symlink(p.secret(), p.own.join("link")).and_then(|()| fs::read(p.own.join("link")).map(drop))
        }),
        ("read through ..", Anybody, |p| fs::read(p.own.join("../outside/secret")).map(drop)),
        ("open a file to everybody", Anybody, |p| {
            fs::set_permissions(p.secret(), fs::Permissions::from_mode(0o777))
        }),
        ("give a file away", Root, |p| std::os::unix::fs::chown(p.secret(), Some(65534), None)),
        ("read the passwords", Root, |_| fs::read("/etc/shadow").map(drop)),
        ("read the parent's environment", Anybody, |p| fs::read(p.of_parent("environ")).map(drop)),
        ("read the parent's arguments", Anybody, |p| fs::read(p.of_parent("cmdline")).map(drop)),
        ("read the parent's memory", Root, |p| fs::File::open(p.of_parent("mem")).map(drop)),
        ("list the parent's files", Anybody, |p| fs::read_dir(p.of_parent("fd")).map(drop)),
        ("go through the parent's root", Anybody, |p| fs::read_dir(p.of_parent("root")).map(drop)),
        ("write a setting of the kernel", Root, |_| {
            fs::OpenOptions::new().write(true).open("/proc/sys/kernel/core_pattern").map(drop)
        }),
        ("write to the kernel's log", Root, |_| {
            fs::OpenOptions::new().write(true).open("/dev/kmsg").map(drop)
        }),
        ("make a device", Root, |p| {
            unchecked(rustix::fs::mknodat(
                rustix::fs::CWD,
                p.own.join("null"),
                rustix::fs::FileType::CharacterDevice,
                rustix::fs::Mode::RUSR,
                rustix::fs::makedev(1, 3),
            ))
        }),
        ("connect to a port", Anybody, |p| TcpStream::connect((Ipv4Addr::LOCALHOST, p.tcp)).map(drop)),
        ("connect to a port of the other family", Anybody, |p| {
            TcpStream::connect((Ipv6Addr::LOCALHOST, p.tcp6)).map(drop)
        }),
        ("listen on a port", Anybody, |_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map(drop)),
        ("send a datagram", Anybody, |p| {
            UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
                .and_then(|s| s.send_to(b"x", (Ipv4Addr::LOCALHOST, p.udp)).map(drop))
        }),
        ("send a datagram of the other family", Anybody, |_| {
            UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).map(drop)
        }),
        ("ask the kernel about the network", Anybody, |_| {
            socket(rustix::net::AddressFamily::NETLINK, rustix::net::SocketType::RAW)
        }),
        ("listen to the network", Root, |_| {
            socket(rustix::net::AddressFamily::PACKET, rustix::net::SocketType::RAW)
        }),
        ("make packets", Root, |_| {
            unchecked(rustix::net::socket(
                rustix::net::AddressFamily::INET,
                rustix::net::SocketType::RAW,
                Some(rustix::net::ipproto::ICMP),
            ))
        }),
        ("connect over several paths", Anybody, |_| {
            unchecked(rustix::net::socket(
                rustix::net::AddressFamily::INET,
                rustix::net::SocketType::STREAM,
                Some(rustix::net::ipproto::MPTCP),
            ))
        }),
        ("reach an abstract socket", Anybody, |p| {
            let name = format!("wanwright-test-{}", p.tcp);
            UnixStream::connect_addr(&UnixAddr::from_abstract_name(name)?).map(drop)
        }),
        ("send a local datagram", Anybody, |_| UnixDatagram::unbound().map(drop)),
        ("signal the parent", Anybody, |p| unchecked(rustix::process::kill_process(p.parent, Signal::CONT))),
        ("signal everybody", Root, |_| unchecked(rustix::process::kill_process(Pid::INIT, Signal::CONT))),
        ("connect by sending", Anybody, |p| {
            use rustix::net::{AddressFamily, SendFlags, SocketAddrV4, SocketType};
            let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
            let connects = SendFlags::from_bits_retain(0x2000_0000);
            let to = SocketAddrV4::new(Ipv4Addr::LOCALHOST, p.tcp);
            unchecked(rustix::net::sendto(&socket, b"x", connects, &to))
        }),
        ("listen on whatever port is free", Anybody, |_| {
            use rustix::net::{AddressFamily, SocketType};
            let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
            unchecked(rustix::net::listen(&socket, 1))
        }),
        ("pair datagrams", Anybody, |_| UnixDatagram::pair().map(drop)),
        ("keep memory", Anybody, |_| {
            let script =
                "my $id = shmget(0, 4096, 01600); exit 1 unless defined $id; exit !shmctl($id, 0, 0)";
            run("/usr/bin/perl", &["-e", script])
        }),
        ("change its priority", Anybody, |_| unchecked(rustix::process::setpriority_process(None, 19))),
        ("signal through a handle", Anybody, |p| {
            let handle = rustix::process::pidfd_open(p.parent, rustix::process::PidfdFlags::empty())?;
            unchecked(rustix::process::pidfd_send_signal(handle, Signal::CONT))
        }),
        ("have the kernel signal the parent", Anybody, |p| {
            let script = "socketpair(my $a, my $b, 1, 1, 0) or exit 2; exit !fcntl($a, 8, $ARGV[0] + 0)";
            run("/usr/bin/perl", &["-e", script, &p.parent.to_string()])
        }),
        ("leave the session", Anybody, |_| run("/usr/bin/setsid", &["/bin/true"])),
        ("leave the process group", Anybody, |_| {
            use std::os::unix::process::CommandExt;
            Command::new("/bin/true").process_group(0).status().map(drop)
        }),
        ("become root of a namespace", Root, |_| run("/usr/bin/unshare", &["-Ur", "/bin/true"])),
        ("leave the mounts", Root, |_| run("/usr/bin/unshare", &["-m", "/bin/true"])),
        ("mount", Root, |p| {
            run(
                "/usr/bin/unshare",
                &["-m", "/bin/mount", "-t", "tmpfs", "none", &p.own.display().to_string()],
            )
        }),
        ("change the root", Root, |_| unchecked(rustix::process::chroot("/"))),
        ("become somebody else", Root, |_| run("/usr/bin/setpriv", &["--reuid=65534", "/bin/true"])),
        ("run what it brought", Anybody, |p| {
            fs::copy("/bin/true", p.own.join("true"))?;
            run(&p.own.join("true").display().to_string(), &[])
        }),
        ("run from memory", Anybody, |_| {
            unchecked(rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::CLOEXEC))
        }),
        ("fill the disk", Anybody, |p| fs::write(p.own.join("large"), vec![1; 2 << 20])),
        ("take more of a limit", Root, |_| {
            unchecked(rustix::process::setrlimit(
                Resource::Core,
                Rlimit { current: Some(4096), maximum: Some(4096) },
            ))
        }),
    ]
};

/// What a confined child is for: all of it works.
fn allowed(place: &Place) -> Result<()> {
    fs::write(place.own.join("state"), "x")?;
    fs::create_dir(place.own.join("deeper"))?;
    fs::rename(place.own.join("state"), place.own.join("deeper/state"))?;
    fs::read(place.own.join("deeper/state"))?;
    fs::read(place.outside.join("readable/template"))?;
    fs::write("/dev/null", "x")?;
    run("/bin/true", &[])?;
    // A process that serves a provider is asked for every second.
    rustix::process::test_kill_process(place.parent)?;
    let handle = rustix::process::pidfd_open(place.parent, rustix::process::PidfdFlags::empty())?;
    drop(handle);
    TcpStream::connect((Ipv4Addr::LOCALHOST, place.allowed))?;
    UnixStream::connect(place.outside.join("socket"))?;
    std::thread::spawn(|| 1).join().map_err(|_| Error::other("no threads"))?;
    Ok(())
}

/// Does nothing in an ordinary run of the tests.
#[test]
fn hostile() {
    let Ok(name) = std::env::var(ATTEMPT) else { return };
    let place = Place::read();
    let done = match ATTEMPTS.iter().find(|(attempt, ..)| *attempt == name) {
        Some((.., attempt)) => attempt(&place),
        None if name == REACH_A_SOCKET => UnixStream::connect(place.outside.join("another")).map(drop),
        None => allowed(&place),
    };
    let text = match done {
        Ok(()) => "\nescaped\n".to_owned(),
        Err(error) => format!("\nblocked {error}\n"),
    };
    std::io::stdout().lock().write_all(text.as_bytes()).unwrap();
}

/// What is outside of the child, made anew for each attempt.
struct World {
    dir: TempDir,
    tcp: TcpListener,
    tcp6: TcpListener,
    udp: UdpSocket,
    allowed: TcpListener,
    _abstract: UnixListener,
    _sockets: [UnixListener; 2],
}

fn port(address: Result<SocketAddr>) -> String {
    address.unwrap().port().to_string()
}

impl World {
    fn new() -> Self {
        let dir = TempDir::new();
        let outside = dir.join("outside");
        for folder in ["own", "outside", "outside/empty", "outside/readable"] {
            make_open(&dir.join(folder));
        }
        fs::write(outside.join("secret"), "hush").unwrap();
        fs::write(outside.join("readable/template"), "hcl").unwrap();
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let name = format!("wanwright-test-{}", port(tcp.local_addr()));
        Self {
            _abstract: UnixListener::bind_addr(&UnixAddr::from_abstract_name(name).unwrap()).unwrap(),
            _sockets: ["socket", "another"].map(|name| UnixListener::bind(outside.join(name)).unwrap()),
            tcp,
            tcp6: TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap(),
            udp: UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(),
            allowed: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(),
            dir,
        }
    }

    fn spec(&self, attempt: &str) -> ChildSpec {
        ChildSpec::new(std::env::current_exe().unwrap())
            .args(["--exact", "confine::hostile", "--nocapture", "--test-threads=1"])
            .env(ATTEMPT, attempt)
            .env("OWN", self.dir.join("own"))
            .env("OUTSIDE", self.dir.join("outside"))
            .env("TCP", port(self.tcp.local_addr()))
            .env("TCP6", port(self.tcp6.local_addr()))
            .env("UDP", port(self.udp.local_addr()))
            .env("ALLOWED", port(self.allowed.local_addr()))
            .cwd(self.dir.join("own"))
            .process_group()
            .piped()
    }

    fn confinement(&self) -> Confinement {
        let libraries = ["/bin", "/lib", "/lib64", "/usr/bin", "/usr/lib", "/usr/lib64"];
        let confinement = libraries.into_iter().fold(Confinement::default(), Confinement::run);
        confinement
            .run(std::env::current_exe().unwrap())
            .read("/etc/ld.so.cache")
            .read(self.dir.join("outside/readable"))
            .write("/dev/null")
            .write(self.dir.join("own"))
            .talk(self.dir.join("outside/socket"))
            .connect(self.allowed.local_addr().unwrap().port())
            .file_bytes(1 << 20)
    }
}

/// What the child says; that it was killed if it says nothing.
async fn said(spec: ChildSpec) -> String {
    let mut child = spec.spawn().unwrap();
    let mut lines = child.lines().unwrap();
    let mut said = None;
    while let Some(line) = lines.next().await.unwrap() {
        if line.starts_with("escaped") || line.starts_with("blocked") {
            said = Some(line);
        }
    }
    let status = child.wait().await;
    said.unwrap_or_else(|| format!("blocked: it ended with {status}"))
}

#[tokio::test]
async fn whatever_a_confined_child_tries_it_gets_what_was_named_and_nothing_else() {
    let missing = missing_confinement();
    if !missing.is_empty() {
        // Older kernels confine less and say so; what they do not take away cannot be tried on them.
        eprintln!("not tried: {}", missing.join("; "));
        return;
    }
    let mut failures = Vec::new();
    for (name, who, _) in ATTEMPTS {
        let world = World::new();
        let confined = said(world.spec(name).confined(world.confinement())).await;
        if !confined.starts_with("blocked") {
            failures.push(format!("{name}: {confined}"));
        }
        if *who == Who::Anybody || is_root() {
            let world = World::new();
            let free = said(world.spec(name)).await;
            if free != "escaped" {
                failures.push(format!("{name}, not confined: {free}"));
            }
        }
    }
    let world = World::new();
    let use_of_it = said(world.spec("what is allowed").confined(world.confinement())).await;
    assert_eq!(use_of_it, "escaped");
    assert_eq!(failures, [""; 0]);
    assert!(ATTEMPTS.len() >= 50, "{}", ATTEMPTS.len());
}

#[tokio::test]
async fn what_is_said_of_sockets_with_a_path_is_so() {
    let world = World::new();
    assert_eq!(said(world.spec(REACH_A_SOCKET)).await, "escaped");
    let confined = said(world.spec(REACH_A_SOCKET).confined(world.confinement())).await;
    let said_so = unconfined().iter().any(|what| what.starts_with("sockets with a path"));
    assert_eq!(confined == "escaped", said_so, "{confined}");
}

#[tokio::test]
async fn nothing_that_a_confined_child_started_outlives_it() {
    let world = World::new();
    let script = "(trap '' HUP TERM INT; exec /bin/sleep 1000) & echo $!; exit 0";
    let spec = ChildSpec::new("/bin/sh").args(["-c", script]).process_group().piped();
    let mut child = spec.confined(world.confinement()).spawn().unwrap();
    let pid: u32 = child.lines().unwrap().next().await.unwrap().unwrap().parse().unwrap();
    tokio::time::timeout(LIMIT, child.wait()).await.unwrap();
    until("what it left is gone", || !is_alive(pid)).await;
}
