//! The event log of one source: whole transactions in blocks, in segment files, indexed by position.
//!
//! One [`Writer`] appends, any number of [`Reader`]s follow; neither waits for the other. Nothing waits for
//! fsync before it is served: what a power loss takes is read from MySQL again, and a consumer that is ahead
//! of the log waits for it. Retention drops whole segments from the old end.
//!
//! On disk: `DIR/<number>.seg`, a header and blocks back to back ([`crate::wire::block`]); `DIR/<number>.idx` once a
//! segment is full and on disk; `DIR/lock`.

mod error;
mod find;
mod index;
mod large;
mod reader;
mod recover;
mod scan;
mod segment;
mod state;
mod writer;

#[cfg(test)]
mod tests;

pub use error::{LogError, ReadError};
pub use find::Found;
pub use reader::Reader;
pub use scan::{Scan, Scanned};
pub use state::{LogState, Mark, Place};
pub use writer::Writer;

use crate::mysql::{LastTransaction, Start};
use crate::position::Position;
use crate::schema::SchemaId;
use crate::wire::frame::StartFrom;
use crate::wire::{Sealed, block};
use bytes::Bytes;
use segment::Segment;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use tokio::sync::watch;

/// A segment is closed when it has grown beyond this; a transaction that is larger stays in one segment.
pub const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
/// Blocks kept in memory for readers at the log's end, so that many of them share one copy.
const TAIL_CACHE_BYTES: usize = 16 * 1024 * 1024;
/// Blocks kept in memory that were read from disk, likewise.
const READ_CACHE_BYTES: usize = 16 * 1024 * 1024;

/// Where a log is, and its bounds.
#[derive(Clone, Debug)]
pub struct Options {
    /// Directory of this source's log; made if missing.
    pub dir: PathBuf,
    /// Bytes on disk that retention leaves.
    pub retention_bytes: u64,
    /// Age of a segment's newest transaction that retention leaves, microseconds.
    pub retention_age_us: i64,
    /// See [`SEGMENT_BYTES`].
    pub segment_bytes: u64,
    /// See [`block::TARGET_BYTES`].
    pub block_bytes: usize,
}

impl Options {
    /// The usual sizes.
    pub fn new(dir: PathBuf, retention_bytes: u64, retention_age_secs: u64) -> Self {
        let age = i64::try_from(retention_age_secs).unwrap_or(i64::MAX);
        Self {
            dir,
            retention_bytes,
            retention_age_us: age.saturating_mul(1_000_000),
            segment_bytes: SEGMENT_BYTES,
            block_bytes: block::TARGET_BYTES,
        }
    }
}

/// The log as readers and reporters share it; clones are cheap.
#[derive(Clone, Debug)]
pub struct Log {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: Options,
    segments: RwLock<BTreeMap<u64, Arc<Segment>>>,
    /// Every definition in the log. An id is its definition's hash, so one map serves all segments; what eviction
    /// leaves behind is bounded by the number of times that tables are altered.
    schemas: RwLock<HashMap<SchemaId, Bytes>>,
    state: watch::Sender<LogState>,
    /// Full segments that are not yet known to be on disk.
    unsynced: Mutex<Vec<Arc<Segment>>>,
    cache: Mutex<Cache>,
    /// Held by the one reader that reads from disk.
    reading: Arc<tokio::sync::Mutex<()>>,
    /// Held for as long as the log is open.
    _lock: File,
}

/// Blocks kept for readers: those at the log's end, and those that a reader has just read from disk, for the others
/// that catch up beside it.
#[derive(Debug, Default)]
struct Cache {
    /// In order of their places.
    tail: VecDeque<(Place, Sealed)>,
    tail_bytes: usize,
    read: HashMap<Place, Sealed>,
    /// In order of their reading.
    read_order: VecDeque<Place>,
    read_bytes: usize,
    large: large::LargeBlocks,
}

impl Cache {
    fn get(&self, place: Place) -> Option<&Sealed> {
        match self.tail.binary_search_by_key(&place, |(place, _)| *place) {
            Ok(at) => self.tail.get(at).map(|(_, block)| block),
            Err(_) => self.read.get(&place),
        }
    }

    fn written(&mut self, place: Place, block: Sealed) {
        // It would push out all others, or itself.
        if block.bytes().len() > large::LARGE_BYTES {
            return;
        }
        self.tail_bytes += block.bytes().len();
        self.tail.push_back((place, block));
        while self.tail_bytes > TAIL_CACHE_BYTES {
            let Some((_, old)) = self.tail.pop_front() else { break };
            self.tail_bytes -= old.bytes().len();
        }
    }

    fn read(&mut self, place: Place, block: Sealed) {
        let length = block.bytes().len();
        if self.read.insert(place, block).is_some() {
            return;
        }
        self.read_bytes += length;
        self.read_order.push_back(place);
        while self.read_bytes > READ_CACHE_BYTES {
            let Some(oldest) = self.read_order.pop_front() else { break };
            self.read_bytes -= self.read.remove(&oldest).map_or(0, |old| old.bytes().len());
        }
    }
}

impl Log {
    /// Opens the log: checks the last segment, cuts a torn tail.
    pub fn open(options: Options) -> Result<(Self, Writer), LogError> {
        let (inner, active) = recover::open(options)?;
        let log = Self { inner: Arc::new(inner) };
        let writer = Writer::new(log.clone(), active);
        Ok((log, writer))
    }

    /// What the log holds now.
    pub fn state(&self) -> LogState {
        self.inner.state.borrow().clone()
    }

    /// The log's states as they change.
    pub fn watch(&self) -> watch::Receiver<LogState> {
        self.inner.state.subscribe()
    }

    /// Where to go on reading the source: behind what is in the log. `None` while it is empty.
    pub fn resume(&self) -> Option<Start> {
        let state = self.state();
        let covered = state.covered?;
        match state.last {
            // Checked against the server: that very transaction must still be there.
            Some(last) if same_file(&last, &covered) => Some(Start::After(last)),
            // The file of the last transaction may be purged while we have long read beyond it.
            _ => Some(Start::At(covered.position)),
        }
    }

    /// A new follower. Where it begins is settled when it first reads: until the log has a beginning, it waits.
    pub fn reader(&self, from: StartFrom) -> Reader {
        Reader::new(self.clone(), from)
    }

    /// The GTIDs of the transactions that start at `position` or later.
    pub async fn gtids_since(&self, position: Position) -> Result<Vec<String>, ReadError> {
        let state = self.state();
        let mut gtids = Vec::new();
        if state.last.as_ref().is_none_or(|last| last.position < position) {
            return Ok(gtids);
        }
        let mut reader = self.reader(StartFrom::Position { position, rows: 0 });
        while let Some(block) = reader.try_next(&state).await? {
            let found = block.transactions().map_err(|error| reader.damaged(error))?;
            let found = found.into_iter().filter(|(at, ..)| *at >= position);
            gtids.extend(found.filter_map(|(_, gtid, _)| gtid.map(str::to_owned)));
        }
        Ok(gtids)
    }

    /// Whether this is where the log once began: nothing has been dropped since.
    pub fn is_first(&self, lowest: &Mark) -> bool {
        let segments = self.segments();
        segments.first_key_value().is_some_and(|(seq, first)| *seq == 1 && first.begin() == lowest)
    }

    /// A schema's definition, if the log has it.
    pub fn schema(&self, id: SchemaId) -> Option<Bytes> {
        self.inner.schemas.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// Forces to disk what was written; call it each second or so.
    pub fn sync(&self) -> Result<(), LogError> {
        let full = std::mem::take(&mut *lock(&self.inner.unsynced));
        for (at, segment) in full.iter().enumerate() {
            if let Err(error) = self.sync_full(segment) {
                lock(&self.inner.unsynced).extend(full.into_iter().skip(at));
                return Err(error);
            }
        }
        let active = self.segments().last_key_value().map(|(_, segment)| Arc::clone(segment));
        active.map_or(Ok(()), |active| active.sync())
    }

    fn sync_full(&self, segment: &Segment) -> Result<(), LogError> {
        segment.sync()?;
        index::write(&self.inner.options.dir, segment)
    }

    /// Drops the oldest segments that retention does not cover. `now_us` is microseconds since 1970 UTC.
    pub fn evict(&self, now_us: i64) -> Result<(), LogError> {
        let options = &self.inner.options;
        loop {
            let (first, lowest) = {
                let segments = self.segments();
                let mut two = segments.values();
                let (Some(first), Some(second)) = (two.next(), two.next()) else { return Ok(()) };
                let total: u64 = segments.values().map(|segment| segment.len()).sum();
                let old = first.newest_us() < now_us.saturating_sub(options.retention_age_us);
                if total <= options.retention_bytes && !old {
                    return Ok(());
                }
                (Arc::clone(first), second.begin().clone())
            };
            // Readers inside it keep their handle and finish it.
            self.inner.segments.write().unwrap_or_else(PoisonError::into_inner).remove(&first.seq());
            self.inner.state.send_modify(|state| {
                state.lowest = Some(lowest);
                state.bytes = state.bytes.saturating_sub(first.len());
            });
            first.remove(&options.dir)?;
            tracing::info!(segment = first.seq(), "dropped by retention");
        }
    }

    fn segments(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<u64, Arc<Segment>>> {
        self.inner.segments.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn cached(&self, place: Place) -> Option<Sealed> {
        lock(&self.inner.cache).get(place).cloned()
    }

    fn cache_written(&self, place: Place, block: Sealed) {
        lock(&self.inner.cache).written(place, block);
    }

    fn cache_read(&self, place: Place, block: Sealed) {
        lock(&self.inner.cache).read(place, block);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn same_file(last: &LastTransaction, covered: &Mark) -> bool {
    (last.position.epoch, last.position.file) == (covered.position.epoch, covered.position.file)
}
