//! What a log holds, at a moment.

use crate::mysql::LastTransaction;
use crate::position::Position;
use serde::{Deserialize, Serialize};

/// A point in the source: everything before it is in the log, or was, or is of no interest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The point; it is where an event begins or will begin.
    pub position: Position,
    /// Name of the binlog file.
    pub file_name: String,
    /// Commit time of what is before, microseconds since 1970 UTC; 0 where unknown.
    pub commit_time_us: i64,
}

/// A place in the log's files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Number of the segment.
    pub segment: u64,
    /// Offset in it.
    pub offset: u64,
}

/// What a log holds. `None`s while it was never written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogState {
    /// From here on the log holds everything.
    pub lowest: Option<Mark>,
    /// The last whole transaction.
    pub last: Option<LastTransaction>,
    /// Commit time of that, microseconds since 1970 UTC.
    pub last_commit_time_us: i64,
    /// How far the source is read.
    pub covered: Option<Mark>,
    /// Behind the last block that readers may see.
    pub tail: Option<Place>,
    /// Bytes on disk.
    pub bytes: u64,
}
