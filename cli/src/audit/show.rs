//! A report, for people and for programs.

use anyhow::Result;
use wanwright_nats::evidence::Report;

use super::Format;
use crate::exit::Exit;
use crate::output;

/// Prints a report.
pub fn report(report: &Report, format: Format) -> Result<Exit> {
    match format {
        Format::Json => output::line(serde_json::to_string_pretty(report)?),
        Format::Text => text(report),
    }
    Ok(if report.sound { Exit::Done } else { Exit::Different })
}

fn text(report: &Report) {
    let rows = report.streams.iter().map(|stream| {
        let numbers = [stream.last, stream.messages, stream.sealed, stream.heads, stream.vouched];
        let state = if stream.findings.is_empty() {
            "sound".to_owned()
        } else {
            format!("{} findings", stream.findings.len())
        };
        let mut row = vec![stream.stream.clone()];
        row.extend(numbers.map(|number| number.to_string()));
        row.extend([stream.customers.to_string(), state]);
        row
    });
    let head = ["stream", "last", "messages", "sealed", "heads", "signed up to", "customers", "state"];
    output::line(output::table(&head, rows.collect()));
    for stream in &report.streams {
        for finding in &stream.findings {
            output::line(format!("{}: {finding}", stream.stream));
        }
    }
    for finding in &report.findings {
        output::line(finding);
    }
    output::line(format!("key {}: {}", report.key, if report.sound { "sound" } else { "NOT SOUND" }));
}
