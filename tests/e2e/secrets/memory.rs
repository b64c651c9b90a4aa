//! Looking for secrets in the memory of running processes: what a core file of them would hold.

use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};

use super::search::Canary;

/// How much is read at once. Most of what is mapped was never written to: nothing is looked for in zeros.
const CHUNK: usize = 1 << 16;

/// What was found in a process, and how many bytes were looked through.
#[derive(Default)]
pub struct Held {
    pub hits: Vec<&'static str>,
    pub bytes: usize,
}

/// The writings of all canaries, to be found in one pass.
pub struct Finder<'a> {
    /// By the first two bytes: the writings that begin so.
    begin: Vec<Vec<(&'static str, &'a [u8])>>,
    longest: usize,
}

impl<'a> Finder<'a> {
    pub fn of(canaries: &'a [Canary]) -> Self {
        let mut finder = Self { begin: vec![Vec::new(); 1 << 16], longest: 2 };
        for canary in canaries {
            for writing in canary.writings().iter().map(|writing| writing.as_bytes()) {
                finder.longest = finder.longest.max(writing.len());
                finder.begin[at(writing[0], writing[1])].push((canary.name(), writing));
            }
        }
        finder
    }

    pub fn look(&self, memory: &[u8], held: &mut Held) {
        let mut before = 0_u8;
        for (end, byte) in memory.iter().enumerate() {
            let begun = &self.begin[at(before, *byte)];
            before = *byte;
            if begun.is_empty() || end == 0 {
                continue;
            }
            for (name, writing) in begun {
                if memory[end - 1..].starts_with(writing) && !held.hits.contains(name) {
                    held.hits.push(name);
                }
            }
        }
    }
}

fn at(first: u8, second: u8) -> usize {
    usize::from(first) << 8 | usize::from(second)
}

/// Looks through everything that a process may write and read: its heap, its stacks, its data. What else is mapped are files.
///
/// # Errors
/// When this process may not, or the other one has ended.
pub fn search(pid: u32, canaries: &[Canary]) -> Result<Held> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let memory = File::open(format!("/proc/{pid}/mem")).context("opening the memory")?;
    let (finder, zeros) = (Finder::of(canaries), vec![0; CHUNK]);
    let mut held = Held::default();
    for range in maps.lines().filter_map(writable) {
        let mut from = range.0;
        while from < range.1 {
            let length = usize::try_from(range.1 - from)?.min(CHUNK);
            let mut chunk = vec![0; length];
            // Guard pages, and what was given back since the maps were read, cannot be read.
            let Ok(read) = memory.read_at(&mut chunk, from) else { break };
            if read == 0 {
                break;
            }
            if chunk[..read] != zeros[..read] {
                finder.look(&chunk[..read], &mut held);
            }
            held.bytes += read;
            let over = read == length && from + (length as u64) < range.1;
            // What lies across two chunks is in the second one whole.
            from += (if over { read - finder.longest } else { read }) as u64;
        }
    }
    anyhow::ensure!(held.bytes > 0, "none of the memory could be read");
    Ok(held)
}

/// The addresses of a part that can be read and written.
fn writable(line: &str) -> Option<(u64, u64)> {
    let mut words = line.split_whitespace();
    let (from, to) = words.next()?.split_once('-')?;
    words.next()?.starts_with("rw").then_some(())?;
    Some((u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?))
}

#[test]
fn what_a_process_holds_is_found_and_nothing_else() -> Result<()> {
    let canary = || [Canary::new("the key", "Zq8-Held/In+Memory")];
    let sleep = |held: &str| std::process::Command::new("/bin/sleep").arg("60").env("HELD", held).spawn();
    // The environment lies on the stack, in every writing.
    let held = ["Zq8-Held/In+Memory", "Zq8%2DHeld%2FIn%2BMemory", "WnE4LUhlbGQvSW4rTWVtb3J5"];
    for (given, expected) in held.into_iter().map(|held| (held, 1)).chain([("Zq8-Meld/In+Nemory", 0)]) {
        let mut child = sleep(given)?;
        let found = search(child.id(), &canary());
        child.kill()?;
        child.wait()?;
        match found {
            Ok(found) => anyhow::ensure!(found.hits.len() == expected, "{given}: {:?}", found.hits),
            Err(error) => eprintln!("NOT LOOKED THROUGH: {error:#}"),
        }
    }
    Ok(())
}
