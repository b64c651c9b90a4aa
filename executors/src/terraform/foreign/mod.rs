//! Providers that are not ours: processes, started before they are needed, each leased to one run at a time.
//!
//! Terraform never talks to such a process. It is told of a socket of the run's own, behind which a proxy ([`Proxy`])
//! passes on each call, puts the run's way to the vendor into the provider's configuration, and writes each change into
//! the journal before it is asked for and after it was answered.

#[cfg(test)]
mod escapes;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod lost;
pub(super) mod package;
mod plugin;
mod pool;
mod proxy;
#[cfg(test)]
mod put_back;
mod record;
#[cfg(test)]
mod stopped;
#[cfg(test)]
pub(super) mod tests;
mod wire;

pub(super) use package::Package;
pub(super) use pool::Pool;
pub(super) use proxy::{Proxy, Purpose};

use super::error::TerraformError;

/// What is wrong with a provider, in the words of who has to mend it.
fn refused(message: String) -> TerraformError {
    TerraformError::Foreign(message)
}
