//! Standard output is data; everything else goes to standard error.

use std::io::Write;

/// Writes a line of data. A closed pipe (`| head`) ends the program quietly.
pub fn line(text: impl std::fmt::Display) {
    if writeln!(std::io::stdout().lock(), "{text}").is_err() {
        std::process::exit(0);
    }
}

/// Writes a line for people.
pub fn note(text: impl std::fmt::Display) {
    // Nobody is left to be told when standard error is closed.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Writes an error with its causes.
pub fn error(error: &anyhow::Error) {
    note(format!("error: {error}"));
    let mut last = error.to_string();
    for cause in error.chain().skip(1) {
        let text = cause.to_string();
        // Some errors repeat their cause in their own sentence.
        if !last.contains(&text) {
            note(format!("  because: {text}"));
        }
        last = text;
    }
}

/// A time as programs write it, to the second; none when the text is no time.
pub fn time(text: &str) -> Option<String> {
    let is_like_one = text.len() > 18 && text.as_bytes().get(10) == Some(&b'T');
    let time: jiff::Timestamp = is_like_one.then(|| text.parse().ok()).flatten()?;
    Some(format!("{time:.0}"))
}

/// A table without borders, as long as there is something in it.
pub fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(head.iter().map(|text| text.to_uppercase()));
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::time;

    #[test]
    fn a_time_is_shown_to_the_second_and_nothing_else_is_taken_for_one() {
        for text in
            ["2026-12-24T12:00:07.123456789Z", "2026-12-24T12:00:07.9+00:00", "2026-12-24T13:00:07+01:00"]
        {
            assert_eq!(time(text).as_deref(), Some("2026-12-24T12:00:07Z"), "{text}");
        }
        for text in [
            "2026-12-24",
            "",
            "oslo-01-site-Tunnel-and-more",
            "2026-13-24T12:00:07Z",
            "größer als T oder so viel",
        ] {
            assert_eq!(time(text), None, "{text}");
        }
    }
}
