//! Why an upstream gave no answer. `Display` is for the caller: fixed words, numbers and, for a child
//! that cannot start, the directory that is closed. Upstream text, credentials and a child's environment
//! are never in it.

use std::time::Duration;

use awooop_core::ErrorCode;

use super::address::AddressError;

/// Why an upstream gave no answer. Cloned to everyone who waited for the same connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// No connection, or it ended while the call was in flight (the call may have been carried out).
    #[error("the tool server cannot be reached: {0}")]
    Unreachable(String),
    /// It refuses the credential, with this HTTP status (401 or 403).
    #[error("the tool server cannot be reached: it refuses the credential (HTTP {0})")]
    CredentialRefused(u16),
    /// No answer in time (the call may have been carried out).
    #[error("the tool server did not finish {doing} within {} ms", .after.as_millis())]
    Timeout {
        /// What was waited for: `connecting`, `listing its tools`, `the call`.
        doing: &'static str,
        /// The limit that passed.
        after: Duration,
    },
    /// The answer is not MCP, or larger than the limit.
    #[error("the tool server broke the protocol: {0}")]
    Protocol(String),
    /// A rule of this host forbids the connection; nothing was sent.
    #[error("this host does not allow the connection to the tool server: {0}")]
    Refused(String),
}

impl UpstreamError {
    /// The code callers see.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Unreachable(_) | Self::CredentialRefused(_) | Self::Refused(_) => ErrorCode::Upstream001,
            Self::Timeout { .. } => ErrorCode::Upstream002,
            Self::Protocol(_) => ErrorCode::Upstream003,
        }
    }

    pub(super) fn unreachable(reason: impl Into<String>) -> Self {
        Self::Unreachable(reason.into())
    }

    pub(super) fn protocol(reason: impl Into<String>) -> Self {
        Self::Protocol(reason.into())
    }

    pub(super) fn too_large(max_bytes: usize) -> Self {
        Self::Protocol(format!("its answer is larger than {max_bytes} bytes"))
    }
}

/// Why a call has no result, and whether the tool may have done something all the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct CallFailure {
    /// Why.
    pub error: UpstreamError,
    /// False when the request surely was not carried out: nothing of it was sent.
    pub may_have_run: bool,
}

impl CallFailure {
    pub(super) fn unsent(error: UpstreamError) -> Self {
        Self { error, may_have_run: false }
    }

    /// The code callers see.
    pub fn code(&self) -> ErrorCode {
        self.error.code()
    }
}

impl From<AddressError> for UpstreamError {
    fn from(error: AddressError) -> Self {
        Self::Refused(error.to_string())
    }
}
