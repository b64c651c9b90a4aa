//! What to try next, as commands that work when pasted.

use std::path::Path;

use wanwright_nats::accounts::OPERATORS;

use super::tenants;
use crate::endpoints::PERSON;
use crate::output::line;
use crate::stack::Stack;

/// Prints where everything is and what to try.
pub fn print(stack: &Stack, found: Option<bool>) {
    let endpoints = &stack.endpoints;
    let program = program(stack.home());
    let customer = if found.is_some() { "acme" } else { "demo" };
    // Whoever is a customer speaks for that customer only; the person who started this, for all.
    let (account, user) = if found.is_some() { (customer, tenants::USER) } else { (OPERATORS, PERSON) };
    let creds = endpoints.keys.join("creds").join(account).join(format!("{user}.creds"));
    line(format!(
        "\n  NATS       {}  credentials in {}",
        endpoints.nats,
        endpoints.keys.join("creds").display()
    ));
    line(format!("  Postgres   {}", endpoints.postgres));
    line(format!("  Logs       {}", stack.home().join("logs").display()));
    line("\nPublish a command:");
    line(format!(
        "  {program} send site create {customer}/bergen-01 '{{\"vendor\":\"simwan\",\"lan\":[\"10.99.0.0/24\"]}}'"
    ));
    line("the same as a plain NATS client (pip install 'nats-py[nkeys]'):");
    line(python(&endpoints.nats, customer, user, &creds));
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

fn python(nats: &str, customer: &str, user: &str, creds: &Path) -> String {
    let creds = creds.display();
    format!(
        r#"  python3 - <<'PY'
import asyncio, nats
async def main():
    nc = await nats.connect("{nats}", inbox_prefix="_INBOX.{user}",
                            user_credentials="{creds}")
    answer = await nc.request("wan.do.{customer}.{user}.site.tromso-01.create",
                              b'{{"vendor":"simwan","lan":["10.98.0.0/24"]}}', timeout=5)
    print(answer.data.decode())
    await nc.close()
asyncio.run(main())
PY"#
    )
}
