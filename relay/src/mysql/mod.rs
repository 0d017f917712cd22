//! MySQL and MariaDB: connections, preflight, the binlog dump, and the loop that feeds a
//! [`crate::event::TransactionSink`] from it.

pub mod admin;
mod error;
pub mod filter;
pub mod source;
mod start;
mod status;

pub use error::{Definite, Error, Finding};
pub use start::{LastTransaction, Start, StartError};
pub use status::{Flavor, ServerIdentity, State, Status, StatusCell};
