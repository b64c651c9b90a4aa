//! Finding the processes of an installation, and killing one of them.

use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

/// The vendor.
pub const SIMULATOR: &str = "simulator";

/// What may be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Victim {
    /// The process that holds all others.
    Everything,
    /// One role.
    Role(&'static str),
}

impl Victim {
    /// What may be killed, the most telling ones more than once.
    pub const ALL: [Victim; 12] = [
        Victim::Everything,
        Victim::Everything,
        Victim::Role("executors"),
        Victim::Role("executors"),
        Victim::Role("executors"),
        Victim::Role("executors"),
        Victim::Role("commands"),
        Victim::Role("dispatcher"),
        Victim::Role("projections"),
        Victim::Role(SIMULATOR),
        Victim::Role("nats-server"),
        Victim::Role("postgres"),
    ];

    /// Those of [`Victim::ALL`] that have this name, or all.
    pub fn called(name: Option<&str>) -> Vec<Self> {
        Self::ALL.into_iter().filter(|victim| name.is_none_or(|name| victim.name() == name)).collect()
    }

    /// The victim's name.
    pub fn name(self) -> &'static str {
        match self {
            Victim::Everything => "everything",
            Victim::Role(name) => name,
        }
    }
}

/// A process of an installation.
struct Process {
    pid: i32,
    args: Vec<String>,
}

/// The processes whose arguments name something in the home folder.
fn processes(home: &Path) -> Vec<Process> {
    let (home, starters) = (home.display().to_string(), starters());
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let read = |entry: std::fs::DirEntry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        let args: Vec<String> =
            line.split(|byte| *byte == 0).map(|arg| String::from_utf8_lossy(arg).into_owned()).collect();
        let ours = args.iter().any(|arg| arg.contains(&home)) && !starters.contains(&pid);
        ours.then_some(Process { pid, args })
    };
    entries.filter_map(read).collect()
}

/// This process, and whoever started it: a shell or a test that names the folder as well.
fn starters() -> Vec<i32> {
    let parent = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    std::iter::successors(i32::try_from(std::process::id()).ok(), parent).collect()
}

/// How many processes of an installation there are.
pub fn alive(home: &Path) -> usize {
    processes(home).len()
}

/// What happens to a victim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    /// SIGKILL.
    Kill,
    /// SIGSTOP: it is there and does not answer.
    Stop,
    /// SIGCONT.
    GoOn,
}

/// Deals a blow to one process of a role, the nth of those that run; to all of the server's for Postgres, whose children
/// would go on answering. `false`: it is not running just now.
pub fn strike(home: &Path, role: &str, nth: usize, blow: Blow) -> bool {
    let running: Vec<i32> =
        roles(home).into_iter().filter_map(|(pid, name)| (name == role).then_some(pid)).collect();
    let Some(one) = running.get(nth % running.len().max(1)) else { return false };
    let signal = match blow {
        Blow::Kill => Signal::KILL,
        Blow::Stop => Signal::STOP,
        Blow::GoOn => Signal::CONT,
    };
    let whom = if blow == Blow::Kill { std::slice::from_ref(one) } else { &running[..] };
    whom.iter().filter_map(|pid| Pid::from_raw(*pid)).filter(|pid| kill_process(*pid, signal).is_ok()).count()
        > 0
}

/// The port that the Postgres of an installation listens on, while it runs.
pub fn postgres_port(home: &Path) -> Option<u16> {
    let port = |process: &Process| {
        let is_server = Path::new(process.args.first()?).file_name()?.to_str()? == "postgres";
        let at = process.args.iter().position(|arg| arg == "-p").filter(|_| is_server)?;
        process.args.get(at + 1)?.parse().ok()
    };
    processes(home).iter().find_map(port)
}

/// The port that the nats-server of an installation listens on, as it wrote it down when it began to.
pub fn nats_port(home: &Path) -> Option<u16> {
    let files = std::fs::read_dir(home.join("nats/ports")).ok()?.flatten();
    let port = |file: std::fs::DirEntry| {
        let ports: serde_json::Value = serde_json::from_slice(&std::fs::read(file.path()).ok()?).ok()?;
        let url = ports.pointer("/nats/0")?.as_str()?.trim_end_matches('/').to_owned();
        url.rsplit(':').next()?.parse().ok()
    };
    files.filter_map(port).next()
}

/// The roles of an installation that run, and its servers: each process with the name of what it is.
pub fn roles(home: &Path) -> Vec<(i32, String)> {
    let named = |process: Process| {
        let program = Path::new(process.args.first()?).file_name()?.to_str()?;
        let name = match process.args.get(1).map(String::as_str) {
            Some("serve") => process.args.get(2)?,
            Some(SIMULATOR) => SIMULATOR,
            _ if program.starts_with("nats-server") => "nats-server",
            _ if program.starts_with("postgres") => "postgres",
            _ => return None,
        };
        Some((process.pid, name.to_owned()))
    };
    processes(home).into_iter().filter_map(named).collect()
}
