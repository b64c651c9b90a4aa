//! What to try next, as commands that work when pasted.

use std::path::Path;

use crate::output::line;
use crate::stack::Stack;

/// Prints where everything is and what to try.
pub fn print(stack: &Stack, found: Option<bool>) {
    let endpoints = &stack.endpoints;
    let program = program(stack.home());
    let customer = if found.is_some() { "acme" } else { "demo" };
    line(format!("\n  NATS       {}", endpoints.nats));
    line(format!("  Postgres   {}", endpoints.postgres));
    line(format!("  Logs       {}", stack.home().join("logs").display()));
    line("\nPublish a command:");
    line(format!(
        "  {program} send site create {customer}/bergen-01 '{{\"vendor\":\"simwan\",\"lan\":[\"10.99.0.0/24\"]}}'"
    ));
    line("the same as a plain NATS client (pip install nats-py):");
    line(python(&endpoints.nats, customer));
    line("Query a table:");
    line(format!(
        "  psql '{}' -c \"select customer, kind, id, health, sync from status where health <> 'Healthy'\"",
        endpoints.postgres
    ));
    line(format!("  {program} get sites -c {customer}"));
    line("Replay a customer's stream:");
    line(format!("  {program} replay {customer}"));
    line("Look for drift, and mend it:");
    line(format!("  {program} drift {customer}"));
    if found.is_some() {
        line(format!("  {program} send site retry acme/oslo-01"));
    }
    line("\nCtrl-C stops everything. The data stays and the next start goes on with it.");
}

/// How this program is called from here, so that a pasted line finds this system.
fn program(home: &Path) -> String {
    let program = std::env::current_exe().unwrap_or_else(|_| "wanwright".into());
    let Ok(here) = std::env::current_dir() else { return program.display().to_string() };
    let program = match program.strip_prefix(&here) {
        Ok(relative) => format!("./{}", relative.display()),
        Err(_) => program.display().to_string(),
    };
    // Where nothing is said, a call looks for the system below the folder it is made in.
    if home == here.join(".wanwright") {
        program
    } else {
        format!("WANWRIGHT_HOME={} {program}", home.display())
    }
}

fn python(nats: &str, customer: &str) -> String {
    format!(
        r#"  python3 - <<'PY'
import asyncio, nats
async def main():
    nc = await nats.connect("{nats}")
    answer = await nc.request("wan.do.{customer}.demo.site.tromso-01.create",
                              b'{{"vendor":"simwan","lan":["10.98.0.0/24"]}}', timeout=5)
    print(answer.data.decode())
    await nc.close()
asyncio.run(main())
PY"#
    )
}
