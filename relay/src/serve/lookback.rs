//! What a stream asks for when its place is older than the log: the seam to whoever reads the binlog again.

use crate::log::Log;
use crate::wire::frame::{ErrorCode, StartFrom};
use futures_util::future::BoxFuture;
use std::fmt::Debug;

/// Reads again what the log no longer has.
pub trait LookBack: Send + Sync + Debug {
    /// A log that has the place asked for, or will; it grows up to the main log's beginning and beyond.
    fn open(&self, from: StartFrom) -> BoxFuture<'_, Result<Opened, Refused>>;
}

/// A log of what is read again, and a place among its readers.
#[derive(Debug)]
pub struct Opened {
    /// The log.
    pub log: Log,
    /// Where in it the stream begins.
    pub from: StartFrom,
    /// Dropping it leaves; a log that all have left goes away.
    pub seat: Box<dyn Seat>,
}

/// A reader of such a log.
pub trait Seat: Send + Sync + Debug {
    /// The reader is in this segment: reading again keeps a bounded distance before the furthest reader.
    fn at(&self, segment: u64);
    /// Waits until reading again has failed for good.
    fn failed(&self) -> BoxFuture<'_, Refused>;
}

/// Why something cannot be read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What kind.
    pub code: ErrorCode,
    /// Trying again will not help.
    pub definite: bool,
    /// For people.
    pub message: String,
}
