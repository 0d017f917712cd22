//! Follows a log.

use super::large::{LARGE_BYTES, Loading};
use super::segment::Segment;
use super::{Log, LogState, Mark, Place, ReadError};
use crate::position::Position;
use crate::wire::block::BlockHeader;
use crate::wire::frame::StartFrom;
use crate::wire::{BlockError, Malformed, Sealed};
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, watch};

/// What one read from disk brings; a block that is larger is read by itself.
const READ_AHEAD_BYTES: usize = LARGE_BYTES;

/// One follower of a log; independent of all others and of the writer.
#[derive(Debug)]
pub struct Reader {
    log: Log,
    state: watch::Receiver<LogState>,
    from: StartFrom,
    at: Option<At>,
    copying: bool,
    /// What is read next, where it is large.
    loading: Option<Loading>,
    /// For what is made of the last block.
    copy: Option<OwnedSemaphorePermit>,
}

/// Where a reader is, once the log has a beginning.
#[derive(Debug)]
struct At {
    segment: Arc<Segment>,
    offset: u64,
    /// Everything of the log before this was handed out.
    mark: Mark,
    inside: bool,
    /// The index led some way before the place asked for: what ends before it is passed over.
    passing: bool,
}

impl Reader {
    pub(super) fn new(log: Log, from: StartFrom) -> Self {
        let state = log.watch();
        Self { log, state, from, at: None, copying: false, loading: None, copy: None }
    }

    /// With room in memory for a copy of each large block, until [`Reader::done`].
    #[must_use]
    pub fn copying(mut self, copying: bool) -> Self {
        self.copying = copying;
        self
    }

    /// The last block is not used any more, nor what was made of it.
    pub fn done(&mut self) {
        self.copy = None;
    }

    /// The next block. Waits for one at the log's end. The first may begin before the place asked for. Dropping the
    /// future loses nothing.
    pub async fn next(&mut self) -> Result<Sealed, ReadError> {
        loop {
            let state = self.state.borrow_and_update().clone();
            if let Some(block) = self.try_next(&state).await? {
                return Ok(block);
            }
            // The log outlives its readers' wish to wait.
            if self.state.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// How far this reader has read: everything of the source before it was handed out.
    pub fn covered(&self) -> Option<Mark> {
        let at = self.at.as_ref()?;
        let state = self.state.borrow();
        let place = Place { segment: at.segment.seq(), offset: at.offset };
        if state.tail == Some(place) { state.covered.clone() } else { Some(at.mark.clone()) }
    }

    /// Inside a transaction: the block that was given out last does not end it.
    pub fn is_inside(&self) -> bool {
        self.at.as_ref().is_some_and(|at| at.inside)
    }

    /// The segment being read; none before the first block.
    pub fn segment(&self) -> Option<u64> {
        self.at.as_ref().map(|at| at.segment.seq())
    }

    /// Whether the next block can be had without reading from disk or waiting.
    pub fn is_ready(&self) -> bool {
        let Some(at) = &self.at else { return false };
        let place = Place { segment: at.segment.seq(), offset: at.offset };
        let tail = self.state.borrow().tail;
        let before_end = tail.is_some_and(|tail| place < tail) && at.offset < at.segment.len();
        before_end && self.log.cached(place).is_some()
    }

    /// The error of a block that this reader gave out.
    pub(super) fn damaged(&self, error: BlockError) -> ReadError {
        let place = self
            .at
            .as_ref()
            .map_or_else(Place::default, |at| Place { segment: at.segment.seq(), offset: at.offset });
        damaged(place, error)
    }

    pub(super) async fn try_next(&mut self, state: &LogState) -> Result<Option<Sealed>, ReadError> {
        let (Some(tail), Some(lowest), Some(covered)) = (state.tail, &state.lowest, &state.covered) else {
            return Ok(None);
        };
        if self.at.is_none() {
            self.at = Some(self.seek(tail, lowest, covered)?);
        }
        self.done();
        loop {
            let Some(at) = &mut self.at else { return Ok(None) };
            let segment_tail = if at.segment.seq() == tail.segment { tail.offset } else { at.segment.len() };
            if at.offset < segment_tail {
                let passing = at.passing;
                let block = self.read(segment_tail).await?;
                if passing && block.as_ref().is_some_and(|block| ends_before(block, &self.from)) {
                    continue;
                }
                if let Some(at) = &mut self.at {
                    at.passing = false;
                }
                return Ok(block);
            }
            if at.segment.seq() >= tail.segment {
                return Ok(None);
            }
            let next = self.log.segments().get(&(at.segment.seq() + 1)).cloned();
            let Some(segment) = next else {
                let (wanted, lowest) = (at.mark.position, lowest.clone());
                return Err(ReadError::BelowLowest { wanted, lowest });
            };
            *at = At {
                offset: segment.first_block(),
                mark: segment.begin().clone(),
                segment,
                inside: false,
                passing: at.passing,
            };
        }
    }

    /// Takes the block at the reader's place, which lies before `tail`.
    async fn read(&mut self, tail: u64) -> Result<Option<Sealed>, ReadError> {
        let Some(at) = &mut self.at else { return Ok(None) };
        let place = Place { segment: at.segment.seq(), offset: at.offset };
        if let Some(block) = self.log.cached(place) {
            return at.take(place, block).map(Some);
        }
        if self.loading.as_ref().is_none_or(|loading| loading.place != place) {
            self.loading = None;
            match load(&self.log, &at.segment, tail, place).await? {
                Ahead::Block(block) => return at.take(place, block).map(Some),
                Ahead::Large(length) => {
                    self.loading = Some(Loading::begin(&self.log, &at.segment, place, length, self.copying));
                }
            }
        }
        let Some(loading) = &mut self.loading else { return Ok(None) };
        let loaded = loading.done().await;
        self.loading = None;
        let loaded = loaded?;
        self.copy = loaded.copy;
        at.take(place, loaded.block).map(Some)
    }

    fn seek(&self, tail: Place, lowest: &Mark, covered: &Mark) -> Result<At, ReadError> {
        let segments = self.log.segments();
        let below = |wanted| ReadError::BelowLowest { wanted, lowest: lowest.clone() };
        let at = |segment: &Arc<Segment>, offset| At {
            segment: Arc::clone(segment),
            offset,
            mark: segment.begin().clone(),
            inside: false,
            passing: false,
        };
        let end = || {
            let segment = segments.get(&tail.segment).ok_or_else(|| below(covered.position))?;
            Ok(At { mark: covered.clone(), ..at(segment, tail.offset) })
        };
        match &self.from {
            StartFrom::Latest => end(),
            StartFrom::Earliest => {
                let (_, first) = segments.first_key_value().ok_or_else(|| below(lowest.position))?;
                Ok(at(first, first.first_block()))
            }
            StartFrom::Position { position, .. } if *position < lowest.position => Err(below(*position)),
            StartFrom::Position { position, .. } if *position >= covered.position => end(),
            StartFrom::Position { position, .. } => {
                let segment = segment_of(segments.values(), *position).ok_or_else(|| below(*position))?;
                Ok(At { passing: true, ..at(segment, segment.seek(*position)) })
            }
            StartFrom::Gtid(_) | StartFrom::Time(_) => Err(ReadError::Unsupported(
                "a log is searched for a time or a GTID set before it is read".to_owned(),
            )),
        }
    }
}

/// Whether a block has nothing of the place asked for or behind it.
fn ends_before(block: &Sealed, from: &StartFrom) -> bool {
    let StartFrom::Position { position, .. } = from else { return false };
    let header = block.header();
    !header.ends_inside && header.end <= *position
}

fn segment_of<'a>(
    segments: impl DoubleEndedIterator<Item = &'a Arc<Segment>>,
    position: Position,
) -> Option<&'a Arc<Segment>> {
    segments.rev().find(|segment| segment.begin().position <= position)
}

impl At {
    /// Moves on behind a block, and gives it out.
    fn take(&mut self, place: Place, block: Sealed) -> Result<Sealed, ReadError> {
        self.offset += u64::try_from(block.bytes().len()).unwrap_or(u64::MAX);
        let header = block.header();
        self.inside = header.ends_inside;
        self.mark = Mark {
            position: header.end,
            file_name: block.file_name().map_err(|error| damaged(place, error))?.into(),
            commit_time_us: header.commit_time_us,
        };
        Ok(block)
    }
}

/// What reading ahead comes to.
enum Ahead {
    Block(Sealed),
    /// It has so many bytes, and is read by itself.
    Large(usize),
}

/// Reads from disk, and gives the first block. One reader at a time: those that wait find what it has read in the cache;
/// and what a reader no longer waits for is in the cache for its next attempt.
async fn load(log: &Log, segment: &Arc<Segment>, tail: u64, place: Place) -> Result<Ahead, ReadError> {
    let turn = Arc::clone(&log.inner.reading).lock_owned().await;
    if let Some(block) = log.cached(place) {
        return Ok(Ahead::Block(block));
    }
    let (log, segment) = (log.clone(), Arc::clone(segment));
    let read = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        read_ahead(&log, &segment, tail, place)
    });
    let failed = |error| ReadError::Io { segment: place.segment, offset: place.offset, error };
    read.await.unwrap_or_else(|error| Err(failed(std::io::Error::other(error))))
}

/// Reads the block at `place`, and those behind it as far as one read brings them.
fn read_ahead(log: &Log, segment: &Segment, tail: u64, place: Place) -> Result<Ahead, ReadError> {
    let left = usize::try_from(tail.saturating_sub(place.offset)).unwrap_or(usize::MAX);
    let mut bytes = read_bytes(segment, READ_AHEAD_BYTES.min(left), place)?;
    let length = BlockHeader::parse(&bytes).map_err(|error| damaged(place, error))?.length;
    if length > left {
        return Err(damaged(place, Malformed { what: "block length" }.into()));
    }
    if length > bytes.len() {
        return Ok(Ahead::Large(length));
    }
    let first = Sealed::parse(bytes.split_to(length)).map_err(|error| damaged(place, error))?;
    log.cache_read(place, first.clone());
    let mut next =
        Place { offset: place.offset.saturating_add(u64::try_from(length).unwrap_or(u64::MAX)), ..place };
    // What is damaged further on is found by whoever gets there.
    while let Ok(header) = BlockHeader::parse(&bytes) {
        if header.length > bytes.len() {
            break;
        }
        let Ok(block) = Sealed::parse(bytes.split_to(header.length)) else { break };
        log.cache_read(next, block);
        next.offset = next.offset.saturating_add(u64::try_from(header.length).unwrap_or(u64::MAX));
    }
    Ok(Ahead::Block(first))
}

fn read_bytes(segment: &Segment, length: usize, place: Place) -> Result<Bytes, ReadError> {
    let mut buffer = vec![0; length];
    let read = segment.read(&mut buffer, place.offset);
    read.map_err(|error| ReadError::Io { segment: place.segment, offset: place.offset, error })?;
    Ok(Bytes::from(buffer))
}

pub(super) fn damaged(place: Place, error: BlockError) -> ReadError {
    ReadError::Damaged { segment: place.segment, offset: place.offset, error }
}
