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
