//! What can go wrong in a call, by who has to do something about it.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::RemoteObject;

/// Why a call did not do what was asked.
#[derive(Clone, Debug, Error)]
pub enum ClientError {
    /// The vendor refused (any other 4xx, or what its folder says). Repeating the same call gives the same answer.
    #[error("the vendor refused (HTTP {status}): {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The vendor's code, if it gave one.
        code: Option<String>,
        /// The vendor's sentence.
        message: String,
        /// The attribute the vendor complains about, or its own name for it if no attribute is there.
        field: Option<String>,
        /// Whether it says that it does not have the object.
        gone: bool,
    },
    /// The vendor does not accept the credential (401, 403, 407). It says nothing about the object: a credential that
    /// was rotated is accepted again.
    #[error("the vendor does not accept the credential (HTTP {status}): {message}")]
    Denied {
        /// HTTP status.
        status: u16,
        /// The vendor's sentence.
        message: String,
    },
    /// The vendor has no time now (408, 423, 425, 429 or 503).
    #[error("the vendor is busy (HTTP {status}): {message}")]
    Busy {
        /// HTTP status.
        status: u16,
        /// How long the vendor asks to be left alone.
        retry_after: Option<Duration>,
        /// The vendor's sentence.
        message: String,
    },
    /// Something is broken at the vendor, and its folder says that this passes.
    #[error("something is broken at the vendor (HTTP {status}): {message}")]
    Broken {
        /// HTTP status.
        status: u16,
        /// The vendor's sentence.
        message: String,
    },
    /// The vendor still works on a job; whoever looks again goes on with the same one.
    #[error("the vendor still works on job {job} ({state})")]
    Pending {
        /// The job's id.
        job: String,
        /// The vendor's word for how it stands.
        state: String,
    },
    /// No whole answer arrived: whether the call had an effect is not known, unless `connected` is false.
    #[error("no answer from the vendor")]
    Network {
        /// Whether a connection was made, so that the call may have had an effect.
        connected: bool,
        /// What failed.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The vendor answered something that makes no sense here: another 5xx, a redirect, JSON of another form.
    #[error("unexpected answer from the vendor: {message}")]
    Unexpected {
        /// HTTP status, if the status was the surprise.
        status: Option<u16>,
        /// What was unexpected.
        message: String,
    },
    /// The call could not be made at all: the base URL or a header is not valid.
    #[error("cannot call the vendor: {message}")]
    Configuration {
        /// What is not valid.
        message: String,
    },
}

/// Why a create failed, and what is known to exist in spite of it.
#[derive(Debug, Error)]
#[error("{}", match .known {
    Some(object) => format!("object {} exists but could not be made as desired", object.id),
    None => "the object could not be created".to_owned(),
})]
pub struct CreateError {
    /// The object that an earlier create made, if it is known.
    pub known: Option<Box<RemoteObject>>,
    /// What failed.
    pub source: ClientError,
}

impl ClientError {
    /// A stable word for the class: `VendorRefused`, `VendorBusy`, `Network`, `Unexpected`.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::Refused { .. } => "VendorRefused",
            // Whoever stands between us and the vendor says with these two that he could not reach it.
            Self::Network { .. } | Self::Unexpected { status: Some(502 | 504), .. } => "Network",
            Self::Busy { .. }
            | Self::Broken { .. }
            | Self::Pending { .. }
            | Self::Unexpected { status: Some(500..), .. } => "VendorBusy",
            Self::Denied { .. } | Self::Unexpected { .. } | Self::Configuration { .. } => "Unexpected",
        }
    }

    /// The HTTP status, if it is what the error is about.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. }
            | Self::Denied { status, .. }
            | Self::Broken { status, .. }
            | Self::Busy { status, .. } => Some(*status),
            Self::Unexpected { status, .. } => *status,
            Self::Network { .. } | Self::Pending { .. } | Self::Configuration { .. } => None,
        }
    }

    /// Whether the vendor says that it does not have the object.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { gone: true, .. })
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Denied { .. }
            | Self::Busy { .. }
            | Self::Broken { .. }
            | Self::Pending { .. }
            | Self::Network { .. } => true,
            // Without a status it is a body of another form: a proxy's page in a 200, say.
            Self::Unexpected { status, .. } => status.is_none_or(|status| status >= 500),
            Self::Refused { .. } | Self::Configuration { .. } => false,
        }
    }

    /// Whether the call may have had an effect that nobody was told of.
    #[must_use]
    pub fn may_have_happened(&self) -> bool {
        match self {
            Self::Network { connected, .. } => *connected,
            Self::Unexpected { .. } | Self::Broken { .. } | Self::Pending { .. } => true,
            Self::Refused { .. } | Self::Denied { .. } | Self::Busy { .. } | Self::Configuration { .. } => {
                false
            }
        }
    }

    /// A call that cannot be made at all.
    pub fn configuration(message: impl Into<String>) -> Self {
        Self::Configuration { message: message.into() }
    }

    pub(super) fn unexpected(message: impl Into<String>) -> Self {
        Self::Unexpected { status: None, message: message.into() }
    }
}

impl From<ClientError> for CreateError {
    fn from(source: ClientError) -> Self {
        Self { known: None, source }
    }
}
