//! What processes take, of a whole installation by role: processor time and memory.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::bench::victims;

/// Ticks of processor time in a second, as Linux gives them to programs on every common architecture.
const TICKS: f64 = 100.0;

/// What one role took, all its processes together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Usage {
    /// How many processes.
    pub processes: u32,
    /// Processor time since each began, in seconds; of Postgres with all that it started.
    pub cpu_seconds: f64,
    /// Resident memory, in MiB.
    pub resident_mb: u64,
}

/// The roles of an installation, and its servers, by name.
pub fn by_role(home: &Path) -> BTreeMap<String, Usage> {
    let mut roles: BTreeMap<String, Usage> = BTreeMap::new();
    for (pid, name) in victims::roles(home) {
        let Some(taken) = of_process(pid) else { continue };
        // The work of Postgres is done by processes that its first one starts for each connection.
        let sessions = if name == "postgres" { children_seconds(pid) } else { 0.0 };
        let role = roles.entry(name).or_default();
        role.processes += 1;
        role.cpu_seconds += taken.cpu_seconds + sessions;
        role.resident_mb += taken.resident_mb;
    }
    roles
}

/// Processor time of the processes that this one started, those that have ended included.
fn children_seconds(parent: i32) -> f64 {
    let stat_of = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    let ended = stat_of(parent).and_then(|stat| seconds_at(&stat, 13)).unwrap_or(0.0);
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let stats = processes.filter_map(|entry| stat_of(entry.file_name().to_str()?.parse().ok()?));
    let running = stats.filter(|stat| parent_of(stat) == Some(parent));
    ended + running.filter_map(|stat| cpu_seconds(&stat)).sum::<f64>()
}

fn parent_of(stat: &str) -> Option<i32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// What a process took; none where it is not there.
pub fn of_process(pid: i32) -> Option<Usage> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some(Usage { processes: 1, cpu_seconds: cpu_seconds(&stat)?, resident_mb: resident_mb(&status)? })
}

/// User and system time are the 12th and 13th words behind the name, which may hold anything but ends with the last
/// bracket.
fn cpu_seconds(stat: &str) -> Option<f64> {
    seconds_at(stat, 11)
}

/// The user and system time that stand together at this place behind the name.
fn seconds_at(stat: &str, place: usize) -> Option<f64> {
    let mut words = stat.rsplit_once(')')?.1.split_whitespace().skip(place);
    let (user, system): (f64, f64) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some((user + system) / TICKS)
}

fn resident_mb(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_process_does_not_shift_its_figures() {
        let stat = "42 (a b) c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 1 0 5 6 7";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!((seconds_at(stat, 13), parent_of(stat)), (Some(0.0), Some(1)));
        assert_eq!(resident_mb("Name: x\nVmRSS:\t   2048 kB\n"), Some(2));
        assert_eq!(cpu_seconds(""), None);
    }

    #[test]
    fn this_process_takes_something() {
        let pid = i32::try_from(std::process::id()).expect("a process id");
        assert!(of_process(pid).expect("this process").resident_mb > 0);
    }
}
