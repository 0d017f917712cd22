//! What can go wrong with a log.

use super::Mark;
use crate::position::Position;
use crate::wire::BlockError;
use std::path::PathBuf;

/// The log cannot be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The disk refuses, or is full. Trying again later may help; nothing that was read is lost.
    #[error("{action} {}: {error}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's words.
        error: std::io::Error,
    },
    /// Another process has the log open.
    #[error("{} is in use by another process; two relays must not share a data_dir", .0.display())]
    Locked(PathBuf),
    /// The log was written by a newer version.
    #[error("{} has version {version}, which this version of aesop does not know; upgrade it", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// What it says.
        version: u32,
    },
    /// One row is larger than any reader must be able to hold.
    #[error("a row of {bytes} bytes in {file_name} at {position} is over the limit of {limit} bytes")]
    RowTooLarge {
        /// Its two images.
        bytes: usize,
        /// The binlog file.
        file_name: String,
        /// Its transaction.
        position: Position,
        /// The limit.
        limit: usize,
    },
    /// Calls came in an order that makes no sense.
    #[error("event log: {0}")]
    OutOfTurn(&'static str),
}

impl LogError {
    /// Whether trying again may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Io { .. })
    }

    pub(super) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |error| Self::Io { action, path, error }
    }
}

/// The log cannot be read from there.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Retention has dropped it.
    #[error(
        "position {wanted} is older than this relay's log, which begins at {}; raise retention, take a snapshot, or start elsewhere and \
         accept the gap",
        lowest.position
    )]
    BelowLowest {
        /// What was asked for.
        wanted: Position,
        /// What there is.
        lowest: Mark,
    },
    /// Not served by the log.
    #[error("{0}")]
    Unsupported(String),
    /// The disk refuses.
    #[error("reading segment {segment} at {offset}: {error}")]
    Io {
        /// Segment number.
        segment: u64,
        /// Offset in it.
        offset: u64,
        /// The system's words.
        error: std::io::Error,
    },
    /// The disk gives back something else than was written.
    #[error(
        "segment {segment} is damaged at {offset}: {error}; stop the relay and remove the log's directory: it is read again from MySQL"
    )]
    Damaged {
        /// Segment number.
        segment: u64,
        /// Offset in it.
        offset: u64,
        /// How.
        error: BlockError,
    },
}
