//! Tricks and what came of them.
//!
//! Doors that are not in it because there are none: a dashboard, server-sent events, HTTP of any kind, and views or roles of
//! Postgres for one customer. The tables and their role `wanwright_reader` are the fleet's; `doors` shows what the command
//! line makes of a tenant who has no login there, and what such a login would be told.

use std::collections::BTreeMap;
use std::io::Write;

/// Tricks and what came of them.
#[derive(Default)]
pub struct Table {
    rows: BTreeMap<&'static str, [u64; 4]>,
    conceded: Vec<String>,
}

impl Table {
    /// A try.
    pub fn note(&mut self, name: &'static str, effects: u64, told: u64) {
        let row = self.rows.entry(name).or_default();
        row[0] += 1;
        row[2] += effects;
        row[3] += told;
    }

    /// Answers about one's own.
    pub fn answered(&mut self, name: &'static str, answers: u64) {
        self.rows.entry(name).or_default()[1] += answers;
    }

    /// What a tenant is told of others because it cannot be otherwise, as documented.
    pub fn concede(&mut self, what: String) {
        self.conceded.push(what);
    }

    fn sum(&self, column: usize) -> u64 {
        self.rows.values().map(|row| row[column]).sum()
    }

    /// How many tries.
    pub fn tries(&self) -> u64 {
        self.sum(0)
    }

    /// How many had an effect, or let something be heard.
    pub fn effects(&self) -> u64 {
        self.sum(2)
    }

    /// How many were answered differently about another than about nobody.
    pub fn told(&self) -> u64 {
        self.sum(3)
    }

    /// Prints it.
    pub fn print(&self) {
        let mut text =
            format!("    {:<48} {:>8} {:>8} {:>8} {:>8}\n", "trick", "tries", "answers", "effects", "told");
        for (name, [tries, answers, effects, told]) in &self.rows {
            text.push_str(&format!("    {name:<48} {tries:>8} {answers:>8} {effects:>8} {told:>8}\n"));
        }
        for what in &self.conceded {
            text.push_str(&format!("    conceded: {what}\n"));
        }
        // Not `eprint!`: what passes is not shown otherwise.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}
