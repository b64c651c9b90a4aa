//! What a process and everything below it takes.

use std::collections::BTreeMap;

/// Ticks of processor time in a second, as Linux gives them to programs on every common architecture.
const TICKS: f64 = 100.0;

/// A process as `/proc` shows it.
#[derive(Debug, Clone, PartialEq)]
struct Process {
    parent: u32,
    name: String,
    /// Processor time, its own and that of children it has waited for, in seconds.
    cpu: f64,
}

/// Processor time by the name of the process below this one that took it, in seconds: the whole tree, with those that
/// ended and were waited for, counted where they were waited for.
pub fn cpu_by_name() -> BTreeMap<String, f64> {
    let all = processes();
    let own = std::process::id();
    let mut by_name: BTreeMap<String, f64> = BTreeMap::new();
    for (pid, process) in &all {
        if is_below(&all, *pid, own) {
            *by_name.entry(name(*pid, process)).or_default() += process.cpu;
        }
    }
    by_name
}

/// What a process is called: a role by its role.
fn name(pid: u32, process: &Process) -> String {
    if process.name != "wanwright" {
        return process.name.clone();
    }
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut words = line.split(|byte| *byte == 0).skip(1).map(String::from_utf8_lossy);
    match (words.next().as_deref(), words.next()) {
        (Some("serve"), Some(role)) => role.into_owned(),
        (Some(mode), _) => mode.to_owned(),
        (None, _) => process.name.clone(),
    }
}

fn processes() -> BTreeMap<u32, Process> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let read = |entry: std::fs::DirEntry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        Some((pid, parse(&stat)?))
    };
    entries.filter_map(read).collect()
}

/// The parent is the second word behind the name, which may hold anything but ends with the last bracket; processor times
/// are the 12th to 15th.
fn parse(stat: &str) -> Option<Process> {
    let (head, rest) = stat.rsplit_once(')')?;
    let name = head.split_once('(')?.1.to_owned();
    let words: Vec<&str> = rest.split_whitespace().collect();
    let ticks: f64 = words.get(11..15)?.iter().filter_map(|word| word.parse::<f64>().ok()).sum();
    Some(Process { parent: words.get(1)?.parse().ok()?, name, cpu: ticks / TICKS })
}

fn is_below(all: &BTreeMap<u32, Process>, pid: u32, top: u32) -> bool {
    std::iter::successors(Some(pid), |pid| all.get(pid).map(|process| process.parent))
        .take(64)
        .any(|pid| pid == top)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_process_does_not_shift_its_figures() {
        let stat = "42 (a b) c) S 7 2 3 4 5 6 7 8 9 10 150 50 25 25 20 0 1 0 5 6 7";
        assert_eq!(parse(stat), Some(Process { parent: 7, name: "a b) c".to_owned(), cpu: 2.5 }));
        assert_eq!(parse(""), None);
    }
}
