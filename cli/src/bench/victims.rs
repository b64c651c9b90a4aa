//! Finding the processes of an installation, and killing one of them.

use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

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
    pub const ALL: [Victim; 9] = [
        Victim::Everything,
        Victim::Everything,
        Victim::Role("executors"),
        Victim::Role("executors"),
        Victim::Role("commands"),
        Victim::Role("dispatcher"),
        Victim::Role("projections"),
        Victim::Role("simulator"),
        Victim::Everything,
    ];

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
    let home = home.display().to_string();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let read = |entry: std::fs::DirEntry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        let args: Vec<String> =
            line.split(|byte| *byte == 0).map(|arg| String::from_utf8_lossy(arg).into_owned()).collect();
        let ours = args.iter().any(|arg| arg.contains(&home)) && u32::try_from(pid) != Ok(std::process::id());
        ours.then_some(Process { pid, args })
    };
    entries.filter_map(read).collect()
}

/// How many processes of an installation there are.
pub fn alive(home: &Path) -> usize {
    processes(home).len()
}

/// Kills a role with SIGKILL. `false`: it is not running just now.
pub fn kill_role(home: &Path, role: &str) -> bool {
    let is_role = |process: &&Process| process.args.iter().take(3).any(|arg| arg == role);
    let Some(process) = processes(home).into_iter().find(|process| is_role(&process)) else { return false };
    Pid::from_raw(process.pid).is_some_and(|pid| kill_process(pid, Signal::KILL).is_ok())
}

/// The roles of an installation that run, and its servers: each process with the name of what it is.
pub fn roles(home: &Path) -> Vec<(i32, String)> {
    let named = |process: Process| {
        let program = Path::new(process.args.first()?).file_name()?.to_str()?;
        let name = match process.args.get(1).map(String::as_str) {
            Some("serve") => process.args.get(2)?,
            Some("simulator") => "simulator",
            _ if program.starts_with("nats-server") => "nats-server",
            _ if program.starts_with("postgres") => "postgres",
            _ => return None,
        };
        Some((process.pid, name.to_owned()))
    };
    processes(home).into_iter().filter_map(named).collect()
}
