//! MySQL and MariaDB: connections, preflight, the binlog dump, and the loop that feeds a
//! [`crate::event::TransactionSink`] from it.

pub mod admin;
mod branches;
mod cascades;
mod connection;
mod definitions;
mod error;
mod packet;
mod preflight;
mod rsa;
pub(crate) mod snapshot;
pub mod source;
mod start;
mod status;
mod tables;
mod tls;

pub use crate::decode::filter;
pub use crate::decode::stream::{Flavor, LastTransaction};
pub use connection::Password;
pub use definitions::Remembered;
pub use error::{Definite, Error, Finding};
pub use preflight::Examined;
pub use start::{Start, StartError};
pub use status::{ServerIdentity, State, Status, StatusCell};
