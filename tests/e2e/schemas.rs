//! The JSON Schemas are in the program.

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::support::{home, program};

#[tokio::test(flavor = "multi_thread")]
async fn schemas_are_listed_and_printed() -> Result<()> {
    let home = home()?;
    let names = program().call(&home, &["schema"]).await?.code(0)?;
    ensure!(names.out.lines().any(|name| name == "site.create"), "{}", names.out);
    for name in names.out.lines() {
        let schema: Value =
            serde_json::from_str(&program().call(&home, &["schema", name]).await?.code(0)?.out)?;
        ensure!(schema["$schema"] == "https://json-schema.org/draft/2020-12/schema", "{name}: {schema}");
    }
    let unknown = program().call(&home, &["schema", "site.paint"]).await?.code(2)?;
    ensure!(unknown.err.contains("site.paint"), "{}", unknown.err);
    Ok(())
}
