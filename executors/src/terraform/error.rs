//! What goes wrong around Terraform.

use std::path::Path;
use std::time::Duration;

use wanwright_nats::{KeyError, NatsError, PlanError};
use wanwright_schemas::reason::Reason;

use super::store::StoreError;

/// What went wrong around Terraform; what goes wrong inside is a finding.
#[derive(Debug, thiserror::Error)]
pub enum TerraformError {
    /// A file or folder.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The process.
    #[error("running Terraform")]
    Process(#[source] wanwright_supervisor::Error),
    /// The provider.
    #[error("serving the provider")]
    Provider(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A provider that is not ours cannot be used as it is.
    #[error("{0}")]
    Foreign(String),
    /// `terraform init` said no.
    #[error("terraform init failed: {0}")]
    Init(String),
    /// What Terraform printed is not what it should be.
    #[error("reading {0}")]
    Unreadable(&'static str, #[source] serde_json::Error),
    /// The state cannot be read or kept.
    #[error("reading or keeping the stack's state")]
    State(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The effect journal cannot be read or written.
    #[error("reading or writing the effect journal")]
    Journal(#[source] NatsError),
    /// A plan's file cannot be kept or had.
    #[error("keeping or opening the stack's plan")]
    Plan(#[source] PlanError),
    /// The vendor's folder is another one than the run began with.
    #[error("the folder of vendor {0} has changed meanwhile")]
    Vendor(String),
    /// A step before or after a run that takes no time took too much.
    #[error("Terraform did not end within {} s", .0.as_secs())]
    Slow(Duration),
}

impl TerraformError {
    /// What an order says that waits because of it.
    pub(super) fn code(&self) -> Reason {
        let Self::State(error) = self else { return Reason::Internal };
        match error.downcast_ref() {
            Some(
                StoreError::Key(KeyError::StateChanged { .. })
                | StoreError::Unsealed { .. }
                | StoreError::Apart { .. }
                | StoreError::Gone { .. },
            ) => Reason::StateDamaged,
            Some(StoreError::Older { .. }) => Reason::StateOlder,
            _ => Reason::Internal,
        }
    }
}

/// A failure of a file or folder.
pub(super) fn io(doing: &str, path: &Path) -> impl FnOnce(std::io::Error) -> TerraformError {
    let doing = format!("{doing} {}", path.display());
    move |source| TerraformError::Io { doing, source }
}
