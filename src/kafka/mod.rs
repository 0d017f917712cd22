//! Kafka administration and reading: the only place in the control plane that speaks to Kafka.
//!
//! [`Admin`] asks and tells brokers over Kafka's own protocol, on the host of a broker; [`gate`] and
//! [`moves`] decide from a [`view::View`] and do nothing themselves.

mod admin;
mod change;
pub mod gate;
pub mod moves;
pub mod quorum;
pub mod raise;
pub mod read;
mod reassign;
pub mod settings;
mod tls;
mod users;
pub mod view;
mod voters;
mod wire;

pub use admin::Admin;
pub use users::UserError;

/// Why Kafka could not be asked or told something.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Nobody to ask.
    #[error("no broker's address was given")]
    NoBootstrap,
    /// Nothing there.
    #[error("Kafka at {address} cannot be reached: {detail}")]
    Connect {
        /// `host:port`.
        address: String,
        /// Why.
        detail: String,
    },
    /// An answer that is none.
    #[error("Kafka at {address}: {detail}")]
    Protocol {
        /// `host:port`.
        address: String,
        /// What is wrong with it.
        detail: String,
    },
    /// A broker that is too old for what is asked of it, or too new.
    #[error(
        "Kafka at {address} does not understand {request} as this aesop speaks it; is its version one that aesop installs?"
    )]
    Unsupported {
        /// `host:port`.
        address: String,
        /// The request.
        request: String,
    },
    /// Kafka says no.
    #[error("Kafka refuses to {what}: {detail}")]
    Refused {
        /// What was asked.
        what: String,
        /// Kafka's error.
        code: kafka_protocol::ResponseError,
        /// In Kafka's words.
        detail: String,
    },
}
