//! What a dead run left at the vendor and not in the state. Terraform removes what its state holds; before an object
//! is said to be gone, the vendor is asked for its name.

use serde_json::Value;
use wanwright_schemas::TunnelId;
use wanwright_schemas::order::Intent;
use wanwright_vendors::ClientError;

use super::findings::Stack;
use crate::engine::{self, Run};

/// Whether Terraform alone cannot be trusted to remove this object.
fn unsure(run: &Run<'_>, stack: &Stack<'_>, state: &Value, tunnel: Option<&TunnelId>) -> bool {
    run.observe_first || !stack.holds(state, tunnel)
}

/// Deletes tunnels that are to go and that Terraform may not know. Before Terraform runs, because a vendor keeps a site
/// as long as it has tunnels.
pub(super) async fn clear_tunnels(
    run: &Run<'_>,
    stack: &Stack<'_>,
    state: &Value,
) -> Result<(), ClientError> {
    let leaving = stack.leaving.keys().map(|id| (id, format!("{}.{id}", run.order.customer)));
    let all = stack.tunnels.iter().map(|(id, tunnel)| (id, tunnel.name.clone()));
    let all = all.filter(|_| matches!(run.order.intent, Intent::Remove));
    let going = leaving.chain(all).filter(|(id, _)| unsure(run, stack, state, Some(id)));
    let names: Vec<String> = going.map(|(_, name)| name).collect();
    clear(run, "tunnel", &names).await
}

/// Deletes a site that is to go and that Terraform may not have known. After Terraform has removed what it knew.
pub(super) async fn clear_site(run: &Run<'_>, stack: &Stack<'_>, state: &Value) -> Result<(), ClientError> {
    if !unsure(run, stack, state, None) {
        return Ok(());
    }
    clear(run, "site", std::slice::from_ref(&stack.site.name)).await
}

async fn clear(run: &Run<'_>, kind: &str, names: &[String]) -> Result<(), ClientError> {
    if names.is_empty() {
        return Ok(());
    }
    let Some(client) = engine::client(run, kind)? else {
        let what = format!("nothing can be looked for by name: the vendor's folder has no api/{kind}.toml");
        run.log.line("warn", what).await;
        return Ok(());
    };
    for name in names {
        engine::delete_by_name(run, &client, name).await?;
    }
    Ok(())
}
