//! Where rows go: a [`Sink`] takes records and acknowledges them later, in any order, through [`Acks`].
//!
//! [`kafka`] is the real one; [`memory`] is for tests. A sink belongs to one blocking thread. After a failed
//! delivery it is of no more use: whoever feeds it ends it, opens another and goes back to its checkpoints.

pub mod kafka;
pub mod memory;
mod topic;

pub use topic::{TopicError, Topics};

use crate::event::Op;
use std::fmt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A record to write.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Topic, as [`Topics`] named it.
    pub topic: &'a str,
    /// Key; none where the row has none.
    pub key: Option<&'a [u8]>,
    /// Value; none for a tombstone.
    pub value: Option<&'a [u8]>,
    /// Epoch of the partition's owner, for the header `epoch`.
    pub epoch: i32,
    /// Comes back with the acknowledgement.
    pub token: u64,
}

/// Key of statements on compacted topics, which take no record without one.
const STATEMENT_KEY: &[u8] = br#""ddl""#;

/// A row without a key cannot go to a compacted topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keyless;

/// The key of a record, of a row with this one.
pub fn record_key(key: Option<&[u8]>, op: Op, compact: bool) -> Result<Option<&[u8]>, Keyless> {
    match key {
        None if compact && op.is_statement() => Ok(Some(STATEMENT_KEY)),
        None if compact => Err(Keyless),
        key => Ok(key),
    }
}

/// Why a record, or a sink, failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Failure {
    /// What happened, and for a definite failure the remedy.
    pub reason: String,
    /// The same record will fail again.
    pub definite: bool,
}

impl Failure {
    /// Going back to the checkpoint and trying again may help.
    pub fn transient(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), definite: false }
    }

    /// Nothing helps but what the reason says.
    pub fn definite(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), definite: true }
    }
}

/// Why a record was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The sink holds as much as it may: wait for acknowledgements and offer the record again.
    Full,
    /// It will not be taken.
    Failed(Failure),
}

/// Takes records.
pub trait Sink: Send + fmt::Debug {
    /// Makes sure that a topic exists. Blocks for a while at most.
    fn prepare(&mut self, topic: &str) -> Result<(), Failure>;
    /// Takes a record without blocking.
    fn send(&mut self, record: &Record<'_>) -> Result<(), SendError>;
    /// Waits until everything taken is acknowledged or failed; false when that took longer than `timeout`.
    fn flush(&mut self, timeout: Duration) -> bool;
    /// Forgets everything taken and not yet acknowledged; what is on its way may still arrive.
    fn purge(&mut self);
    /// Records taken and not yet acknowledged.
    fn in_flight(&self) -> u64;
}

/// Opens sinks, one after the other.
pub trait Open: Send + Sync + fmt::Debug {
    /// A new sink that acknowledges through `acks`.
    fn open(&self, acks: std::sync::Arc<Acks>) -> Result<Box<dyn Sink>, Failure>;
}

/// What came back: token, and the failure if it was one.
pub type Ack = (u64, Option<Failure>);

/// Acknowledgements on their way from a sink's own threads. Bounded by what the sink takes.
#[derive(Debug, Default)]
pub struct Acks {
    inner: Mutex<Arrived>,
    enough: Condvar,
}

#[derive(Debug, Default)]
struct Arrived {
    acks: Vec<Ack>,
    /// The number at which somebody who waits goes on.
    wanted: usize,
}

impl Acks {
    fn lock(&self) -> MutexGuard<'_, Arrived> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sink reports.
    pub fn push(&self, token: u64, failure: Option<Failure>) {
        let mut inner = self.lock();
        // A failure is worth knowing at once.
        let wake = failure.is_some() || inner.acks.len() + 1 == inner.wanted;
        inner.acks.push((token, failure));
        drop(inner);
        if wake {
            self.enough.notify_all();
        }
    }

    /// Takes everything reported so far.
    pub fn take(&self) -> Vec<Ack> {
        std::mem::take(&mut self.lock().acks)
    }

    /// Waits until `wanted` are reported or one has failed, at most `timeout`. More than one, so that a full sink is
    /// filled by many records at a time: to wake up for each costs more than to send it.
    pub fn wait(&self, wanted: usize, timeout: Duration) {
        let mut inner = self.lock();
        inner.wanted = wanted;
        let few = |inner: &mut Arrived| {
            inner.acks.len() < wanted && inner.acks.last().is_none_or(|(_, failure)| failure.is_none())
        };
        let (mut inner, _) =
            self.enough.wait_timeout_while(inner, timeout, few).unwrap_or_else(PoisonError::into_inner);
        inner.wanted = 0;
    }
}
