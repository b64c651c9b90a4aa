//! `wanwright schema`: the JSON Schemas of everything on the wire.

use anyhow::Result;
use wanwright_schemas::published;

use crate::cli::SchemaArgs;
use crate::exit::{Exit, Usage};
use crate::output;

/// Prints one schema, or the names of all.
pub fn run(args: SchemaArgs) -> Result<Exit> {
    let Some(name) = args.name else {
        published::ALL.iter().for_each(|(name, _)| output::line(name));
        return Ok(Exit::Done);
    };
    let found = published::ALL.iter().find(|(known, _)| *known == name);
    let (_, text) = found
        .ok_or_else(|| Usage(format!("there is no schema `{name}`; `wanwright schema` prints all names")))?;
    output::line(text.trim_end());
    Ok(Exit::Done)
}
