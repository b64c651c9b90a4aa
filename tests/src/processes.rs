//! Who is alive, as `/proc` tells.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::level;

/// A process, told apart from a later one with the same number by when it began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its command line.
    pub command: String,
    parent: u32,
    began: u64,
}

/// Looks at processes.
#[derive(Debug)]
pub struct Processes;

impl Processes {
    /// Everybody who is alive; who is dead and waits to be reaped is not.
    pub fn all() -> Vec<Process> {
        let listed = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        listed.filter_map(|entry| read(entry.file_name().to_str()?.parse().ok()?)).collect()
    }

    /// Those that name a folder in their command line or environment.
    pub fn naming(folder: &Path) -> Vec<Process> {
        let folder = folder.display().to_string();
        let names = |process: &Process| {
            let environment = std::fs::read(format!("/proc/{}/environ", process.pid)).unwrap_or_default();
            process.command.contains(&folder) || String::from_utf8_lossy(&environment).contains(&folder)
        };
        Self::all()
            .into_iter()
            .filter(|process| process.pid != std::process::id() && names(process))
            .collect()
    }

    /// The children of a process, their children, and so on.
    pub fn below(pid: u32) -> Vec<Process> {
        let all = Self::all();
        let mut found: Vec<Process> = Vec::new();
        let mut parents = vec![pid];
        while let Some(parent) = parents.pop() {
            for child in all.iter().filter(|process| process.parent == parent) {
                parents.push(child.pid);
                found.push(child.clone());
            }
        }
        found
    }

    /// Waits until all of these are gone and nobody names the folder.
    pub async fn gone(these: &[Process], folder: &Path, limit: Duration) -> Result<Duration> {
        let left = || {
            let mut left: Vec<Process> = these.iter().filter(|process| process.is_alive()).cloned().collect();
            left.extend(Self::naming(folder));
            left
        };
        let gone = level::until("every process is gone", limit, async || Ok(left().is_empty())).await;
        gone.with_context(|| format!("left: {:?}", left()))
    }
}

impl Process {
    /// Whether it still is.
    pub fn is_alive(&self) -> bool {
        read(self.pid).is_some_and(|now| now.began == self.began)
    }

    /// Whether this one started it.
    pub fn is_child_of(&self, pid: u32) -> bool {
        self.parent == pid
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid.filter(|_| self.is_alive()) {
            // It may end right now.
            let _ = kill_process(pid, signal);
        }
    }
}

fn read(pid: u32) -> Option<Process> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit(')').next()?.split_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    let parent = fields.next()?.parse().ok()?;
    // Field 22 of the whole line; three are consumed with state and parent.
    let began = fields.nth(17)?.parse().ok()?;
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).replace('\0', " ").trim().to_owned();
    Some(Process { pid, command, parent, began })
}
