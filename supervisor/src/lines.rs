//! A child's standard output, line by line.

use std::io;
use std::process::ChildStdout;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

/// A longer line is handed out in pieces of this size, so that a runaway child cannot fill our memory.
const LONGEST: u64 = 4 * 1024 * 1024;

/// The lines of a child's standard output.
#[derive(Debug)]
pub struct Lines {
    reader: BufReader<tokio::process::ChildStdout>,
    /// Kept between calls: a call that is cancelled half-way loses nothing.
    line: Vec<u8>,
}

impl Lines {
    pub(crate) fn new(stdout: ChildStdout) -> io::Result<Self> {
        let stdout = tokio::process::ChildStdout::from_std(stdout)?;
        Ok(Self { reader: BufReader::new(stdout), line: Vec::new() })
    }

    /// The next line without its end, or `None` when the output has ended. Bytes that are not UTF-8 are replaced.
    pub async fn next(&mut self) -> io::Result<Option<String>> {
        let room = LONGEST.saturating_sub(self.line.len() as u64).max(1);
        (&mut self.reader).take(room).read_until(b'\n', &mut self.line).await?;
        if self.line.is_empty() {
            return Ok(None);
        }
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        Ok(Some(line.trim_end_matches(['\n', '\r']).to_owned()))
    }

    /// Everything up to the end.
    pub(crate) async fn rest(mut self) -> io::Result<String> {
        let mut all = String::new();
        while let Some(line) = self.next().await? {
            all.push_str(&line);
            all.push('\n');
        }
        Ok(all)
    }
}
