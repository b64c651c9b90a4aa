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
    /// Processor time since each began, in seconds.
    pub cpu_seconds: f64,
    /// Resident memory, in MiB.
    pub resident_mb: u64,
}

/// The roles of an installation, and its servers, by name.
pub fn by_role(home: &Path) -> BTreeMap<String, Usage> {
    let mut roles: BTreeMap<String, Usage> = BTreeMap::new();
    for (pid, name) in victims::roles(home) {
        let Some(taken) = of_process(pid) else { continue };
        let role = roles.entry(name).or_default();
        role.processes += 1;
        role.cpu_seconds += taken.cpu_seconds;
        role.resident_mb += taken.resident_mb;
    }
    roles
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
    let mut words = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
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
        assert_eq!(resident_mb("Name: x\nVmRSS:\t   2048 kB\n"), Some(2));
        assert_eq!(cpu_seconds(""), None);
    }

    #[test]
    fn this_process_takes_something() {
        let pid = i32::try_from(std::process::id()).expect("a process id");
        assert!(of_process(pid).expect("this process").resident_mb > 0);
    }
}
