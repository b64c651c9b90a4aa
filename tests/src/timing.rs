//! How long a test took, said where the test runner does not swallow it.

use std::io::Write;
use std::time::Instant;

/// Says at its end how long it was there.
#[derive(Debug)]
pub struct Timing {
    what: &'static str,
    began: Instant,
}

impl Timing {
    /// Begins.
    pub fn of(what: &'static str) -> Self {
        Self { what, began: Instant::now() }
    }

    /// Says a figure.
    pub fn say(&self, text: impl std::fmt::Display) {
        // Not `eprintln!`: what passes is not shown otherwise.
        let _ = writeln!(std::io::stderr(), "    {}: {text}", self.what);
    }
}

impl Drop for Timing {
    fn drop(&mut self) {
        self.say(format_args!("{:.1} s", self.began.elapsed().as_secs_f64()));
    }
}
