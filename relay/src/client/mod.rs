//! A consumer's stream from one relay.

mod error;
mod stream;

pub use error::ClientError;
pub use stream::{Stream, StreamEvent, Subscription, subscribe, subscribe_to};
