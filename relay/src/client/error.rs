//! Why a stream could not be opened or ended.

use crate::wire::frame::ErrorCode;

/// A stream's failure, by what to do about it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    /// Try again, here or at another relay.
    #[error("relay {address}: {reason}")]
    Transient {
        /// `host:port`.
        address: String,
        /// What happened.
        reason: String,
    },
    /// Trying again will not help.
    #[error("relay {address}: {reason}")]
    Definite {
        /// `host:port`.
        address: String,
        /// The relay's code; `None` where the client itself found it.
        code: Option<ErrorCode>,
        /// What happened, and the remedy.
        reason: String,
    },
}

impl ClientError {
    /// Whether trying again may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Transient { .. })
    }
}
