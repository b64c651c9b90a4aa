//! Version numbers as programs print them.

use std::fmt;

/// Up to three numbers; what follows them (`-RC.1`, ` (Debian …)`) is not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64, pub u64, pub u64);

impl Version {
    /// The first word that begins with a number, with or without a `v` before it.
    pub fn find_in(text: &str) -> Option<Self> {
        text.split_whitespace().find_map(Self::parse)
    }

    fn parse(word: &str) -> Option<Self> {
        let word = word.strip_prefix('v').unwrap_or(word);
        let end = word.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(word.len());
        let mut numbers = word[..end].split('.').map(|part| part.parse().ok());
        let first = numbers.next()??;
        let mut rest = || numbers.next().flatten().unwrap_or(0);
        Some(Self(first, rest(), rest()))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

#[cfg(test)]
mod tests {
    use super::Version;

    #[test]
    fn reads_what_programs_print() {
        for (text, version) in [
            ("nats-server: v2.15.1\n", Version(2, 15, 1)),
            ("postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)", Version(15, 13, 0)),
            ("postgres (PostgreSQL) 19beta1", Version(19, 0, 0)),
            ("pip 23.2.1 from /usr/lib/python3.11 (python 3.11)", Version(23, 2, 1)),
            ("1.11.4-dev", Version(1, 11, 4)),
        ] {
            assert_eq!(Version::find_in(text), Some(version), "{text}");
        }
        assert_eq!(Version::find_in("command not found"), None);
    }
}
