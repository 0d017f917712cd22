//! Appends transactions.

use super::segment::{Header, Segment};
use super::{Log, LogError, LogState, Mark, Place};
use crate::event::{RowChange, Savepoint, TransactionSink, TxnEnd, TxnStart};
use crate::mysql::LastTransaction;
use crate::position::Position;
use crate::schema::SchemaId;
use crate::wire::block::{MAX_ROW_BYTES, NewSchema};
use crate::wire::{BlockBuilder, Sealed};
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

/// A source of which nothing is of interest: how many bytes it is read between two covered marks on disk. After a
/// restart at most these are read again.
const COVERED_EVERY_BYTES: u64 = 4 * 1024 * 1024;

/// The one writer of a log; implements [`TransactionSink`].
///
/// After an error everything that is not yet in a file is forgotten: go on from [`Log::resume`].
#[derive(Debug)]
pub struct Writer {
    log: Log,
    active: Option<Active>,
    builder: Option<BlockBuilder>,
    open: Option<OpenTxn>,
    /// Of what is in `builder`.
    last: Option<TxnStart>,
    /// Read up to here, not yet said in a block.
    covered: Option<Mark>,
    /// Number of the first segment of an empty log.
    next: u64,
}

#[derive(Debug)]
struct Active {
    segment: Arc<Segment>,
    /// Where the next block goes.
    offset: u64,
    /// Where the last covered mark, or block, on disk ends.
    said: Position,
    defined: HashMap<SchemaId, Bytes>,
}

#[derive(Debug)]
struct OpenTxn {
    start: TxnStart,
    rows: u64,
    large: Option<Large>,
}

/// A transaction that outgrew its first block.
#[derive(Debug)]
struct Large {
    /// Written last, into the place kept for it, when the totals are known.
    first: BlockBuilder,
    at: u64,
    /// Between it and the builder, in order.
    pieces: Vec<Piece>,
    /// The first row of the builder.
    from: u64,
    /// Defined in its pieces; counts once it is whole.
    defined: HashMap<SchemaId, Bytes>,
}

/// A piece of a large transaction that is on disk.
#[derive(Debug)]
struct Piece {
    at: u64,
    len: usize,
    /// Its first row.
    from: u64,
    /// What it defines.
    defines: Vec<SchemaId>,
}

impl Writer {
    pub(super) fn new(log: Log, active: Option<Arc<Segment>>) -> Self {
        let covered = log.state().covered;
        let active = active.map(|segment| Active {
            offset: segment.len(),
            said: covered.map_or(segment.begin().position, |covered| covered.position),
            segment,
            // Defining a schema once more is harmless.
            defined: HashMap::new(),
        });
        Self { log, active, builder: None, open: None, last: None, covered: None, next: 1 }
    }

    /// Forgets everything, on disk too: the log begins anew.
    pub fn clear(&mut self) -> Result<(), LogError> {
        self.active = None;
        self.forget();
        let inner = &self.log.inner;
        let old = std::mem::take(&mut *inner.segments.write().unwrap_or_else(PoisonError::into_inner));
        super::lock(&inner.unsynced).clear();
        *super::lock(&inner.cache) = super::Cache::default();
        inner.state.send_replace(LogState::default());
        for segment in old.values() {
            segment.remove(&inner.options.dir)?;
        }
        // Not the one after the last: whoever still reads there must notice.
        self.next = old.keys().next_back().map_or(1, |last| last + 2);
        Ok(())
    }

    /// The log being written.
    pub fn log(&self) -> &Log {
        &self.log
    }

    fn fallible<T>(&mut self, step: impl FnOnce(&mut Self) -> Result<T, LogError>) -> Result<T, LogError> {
        let result = step(self);
        if result.is_err() {
            self.forget();
        }
        result
    }

    /// Goes back to what readers see.
    fn forget(&mut self) {
        (self.builder, self.open, self.last, self.covered) = (None, None, None, None);
        if let Some(active) = &mut self.active {
            active.offset = active.segment.len();
            if let Err(error) = active.segment.truncate(active.offset) {
                // What is left behind the end has no first block, or is written over: recovery cuts it.
                tracing::warn!(%error, "unfinished tail left in place");
            }
        }
    }

    fn do_begin(&mut self, start: TxnStart) -> Result<(), LogError> {
        if self.open.is_some() {
            return Err(LogError::OutOfTurn("begin inside a transaction"));
        }
        self.make_room(&start)?;
        let new = || BlockBuilder::new(start.position, Arc::clone(&start.file_name));
        self.builder.get_or_insert_with(new).begin(&start);
        self.open = Some(OpenTxn { start, rows: 0, large: None });
        Ok(())
    }

    /// A segment to write to that is not full, and no builder for another file.
    fn make_room(&mut self, at: &TxnStart) -> Result<(), LogError> {
        let fits = |builder: &BlockBuilder| builder.fits_file(at.position, &at.file_name);
        if self.builder.as_ref().is_some_and(|builder| !fits(builder)) {
            self.seal()?;
        }
        let full = |active: &Active| active.offset >= self.log.inner.options.segment_bytes;
        if self.active.as_ref().is_some_and(full) {
            self.say_covered();
            self.seal()?;
            self.roll()?;
        }
        if self.active.is_none() {
            let begin = Mark {
                position: at.position,
                file_name: at.file_name.to_string(),
                commit_time_us: at.commit_time_us,
            };
            self.create(self.next, begin, None)?;
        }
        Ok(())
    }

    fn roll(&mut self) -> Result<(), LogError> {
        let Some(active) = self.active.take() else { return Ok(()) };
        let state = self.log.state();
        let begin = state.covered.clone().unwrap_or_else(|| active.segment.begin().clone());
        let last = state.last.map(|last| (last, state.last_commit_time_us));
        let seq = active.segment.seq() + 1;
        let full = Arc::clone(&active.segment);
        self.active = Some(active);
        self.create(seq, begin, last)?;
        super::lock(&self.log.inner.unsynced).push(full);
        Ok(())
    }

    fn create(
        &mut self,
        seq: u64,
        begin: Mark,
        last: Option<(LastTransaction, i64)>,
    ) -> Result<(), LogError> {
        let inner = &self.log.inner;
        let (last, last_commit_time_us) = last.map_or((None, 0), |(last, us)| (Some(last), us));
        let header = Header { seq, begin: begin.clone(), last, last_commit_time_us };
        let segment = Arc::new(Segment::create(&inner.options.dir, header)?);
        let offset = segment.first_block();
        inner.segments.write().unwrap_or_else(PoisonError::into_inner).insert(seq, Arc::clone(&segment));
        self.active = Some(Active { segment, offset, said: begin.position, defined: HashMap::new() });
        inner.state.send_modify(|state| {
            state.lowest.get_or_insert_with(|| begin.clone());
            state.covered.get_or_insert(begin);
            state.tail = Some(Place { segment: seq, offset });
            state.bytes += offset;
        });
        Ok(())
    }

    fn do_row(&mut self, change: &RowChange<'_>) -> Result<(), LogError> {
        let (Some(builder), Some(open)) = (&mut self.builder, &mut self.open) else {
            return Err(LogError::OutOfTurn("row outside a transaction"));
        };
        let bytes = change.before.len().saturating_add(change.after.len());
        if bytes > MAX_ROW_BYTES {
            return Err(LogError::RowTooLarge {
                bytes,
                file_name: open.start.file_name.to_string(),
                position: open.start.position,
                limit: MAX_ROW_BYTES,
            });
        }
        let limit = self.log.inner.options.block_bytes;
        let row_len = BlockBuilder::row_len(change);
        let fits = |builder: &BlockBuilder| builder.len() + row_len <= limit;
        let mut slot = builder.slot(change.schema.id);
        if slot.is_none() || !fits(builder) {
            let definition = slot.is_none().then(|| Bytes::from(change.schema.serialize()));
            let more = definition.as_ref().map_or(0, |definition| definition.len() + 12);
            if builder.len() + row_len + more > limit {
                self.overflow(row_len + more)?;
            }
            slot = self.slot(change, definition)?;
        }
        let (Some(builder), Some(open), Some(slot)) = (&mut self.builder, &mut self.open, slot) else {
            return Err(LogError::OutOfTurn("row outside a transaction"));
        };
        builder.row(slot, open.rows, change);
        open.rows += 1;
        Ok(())
    }

    /// The schema's slot in the builder, added if it is not there, with its definition if readers lack it.
    fn slot(&mut self, change: &RowChange<'_>, definition: Option<Bytes>) -> Result<Option<u16>, LogError> {
        let id = change.schema.id;
        let Some(builder) = &mut self.builder else { return Ok(None) };
        if let Some(slot) = builder.slot(id) {
            return Ok(Some(slot));
        }
        let in_segment = self.active.as_ref().is_some_and(|active| active.defined.contains_key(&id));
        let large = self.open.as_ref().and_then(|open| open.large.as_ref());
        let known = in_segment || large.is_some_and(|large| large.defined.contains_key(&id));
        let definition = definition.unwrap_or_else(|| Bytes::from(change.schema.serialize()));
        let schema = NewSchema { id, definition: (!known).then_some(definition) };
        builder.add_schema(schema).map(Some).ok_or(LogError::OutOfTurn("too many schemas in one block"))
    }

    /// Makes room for a row in the open transaction: what is whole goes first; then pieces of the transaction.
    fn overflow(&mut self, more: usize) -> Result<(), LogError> {
        let limit = self.log.inner.options.block_bytes;
        if let Some(builder) = &mut self.builder
            && builder.has_whole()
        {
            let rest = builder.split_open();
            let whole = builder.seal(false);
            self.write(&whole)?;
            self.builder = Some(rest);
        }
        let (Some(builder), Some(open), Some(active)) = (&mut self.builder, &mut self.open, &mut self.active)
        else {
            return Ok(());
        };
        if builder.len() + more <= limit || !builder.has_rows() {
            return Ok(());
        }
        let piece = std::mem::replace(builder, BlockBuilder::continuing(&open.start));
        if let Some(large) = &mut open.large {
            let sealed = piece.seal(true);
            active.segment.write(sealed.bytes(), active.offset)?;
            let defines = piece.definitions().map(|(id, _)| id).collect();
            let (at, len) = (active.offset, sealed.bytes().len());
            large.pieces.push(Piece { at, len, from: large.from, defines });
            large.from = open.rows;
            active.offset += length(&sealed);
            large.defined.extend(piece.definitions());
        } else {
            let at = active.offset;
            active.offset += u64::try_from(piece.len()).unwrap_or(u64::MAX);
            let defined = piece.definitions().collect();
            open.large = Some(Large { at, pieces: Vec::new(), from: open.rows, defined, first: piece });
        }
        Ok(())
    }

    /// Cuts the open transaction back to its first `rows` rows.
    fn do_roll_back(&mut self, rows: u64) -> Result<(), LogError> {
        let (Some(builder), Some(open), Some(active)) = (&mut self.builder, &mut self.open, &mut self.active)
        else {
            return Err(LogError::OutOfTurn("roll back outside a transaction"));
        };
        open.rows = open.rows.min(rows);
        // Not just before the builder's first row either: each block has a row.
        let Some(mut large) = open.large.take_if(|large| rows <= large.from) else {
            return cut(builder, rows, active);
        };
        let kept = large.pieces.partition_point(|piece| piece.from < rows);
        for piece in large.pieces.get(kept.saturating_sub(1)..).unwrap_or_default() {
            for id in &piece.defines {
                large.defined.remove(id);
            }
        }
        // What is on disk behind the new end is cut off, or written over.
        large.pieces.truncate(kept);
        if let Some(piece) = large.pieces.pop() {
            *builder = piece.read(&open.start, &active.segment)?;
            (large.from, active.offset) = (piece.from, piece.at);
            open.large = Some(large);
        } else {
            // In the first, which is not on disk yet.
            active.offset = large.at;
            *builder = large.first;
        }
        active.segment.truncate(active.offset)?;
        cut(builder, rows, active)
    }

    fn do_commit(&mut self, end: TxnEnd) -> Result<(), LogError> {
        let (Some(builder), Some(open)) = (&mut self.builder, self.open.take()) else {
            return Err(LogError::OutOfTurn("commit outside a transaction"));
        };
        builder.commit(end.end_offset, open.rows);
        self.last = Some(open.start);
        self.covered = None;
        if let Some(large) = open.large {
            return self.commit_large(large, end, open.rows);
        }
        if builder.len() >= self.log.inner.options.block_bytes {
            self.seal()?;
        }
        Ok(())
    }

    fn commit_large(&mut self, mut large: Large, end: TxnEnd, rows: u64) -> Result<(), LogError> {
        let (Some(builder), Some(active)) = (self.builder.take(), &mut self.active) else { return Ok(()) };
        let last = builder.seal(false);
        active.segment.write(last.bytes(), active.offset)?;
        active.offset += length(&last);
        large.first.commit(end.end_offset, rows);
        let first = large.first.seal(true);
        active.segment.write(first.bytes(), large.at)?;
        active.segment.note(first.header().first, large.at);
        large.defined.extend(builder.definitions());
        self.publish(&last, large.defined.into_iter().collect());
        Ok(())
    }

    fn do_abort(&mut self) -> Result<(), LogError> {
        let Some(open) = self.open.take() else { return Ok(()) };
        if let Some(large) = open.large {
            self.builder = None;
            if let Some(active) = &mut self.active {
                active.offset = large.at;
                active.segment.truncate(large.at)?;
            }
        } else if let Some(builder) = &mut self.builder {
            builder.abort();
        }
        Ok(())
    }

    fn do_covered(&mut self, mark: Mark) -> Result<(), LogError> {
        if self.open.is_some() {
            return Err(LogError::OutOfTurn("covered inside a transaction"));
        }
        if self.active.is_none() {
            self.create(self.next, mark.clone(), None)?;
        }
        if self.builder.as_ref().is_some_and(|builder| !builder.fits_file(mark.position, &mark.file_name)) {
            self.seal()?;
        }
        self.covered = Some(mark);
        Ok(())
    }

    fn do_flush(&mut self) -> Result<(), LogError> {
        if self.open.is_some() {
            return self.flush_whole();
        }
        let far = |active: &Active, mark: &Mark| {
            (active.said.epoch, active.said.file) != (mark.position.epoch, mark.position.file)
                || mark.position.offset >= active.said.offset.saturating_add(COVERED_EVERY_BYTES)
        };
        let say = match (&self.active, &self.covered) {
            (Some(active), Some(mark)) => self.has_content() || far(active, mark),
            _ => false,
        };
        if say {
            self.say_covered();
        }
        self.seal()?;
        if let Some(mark) = self.covered.take() {
            self.log.inner.state.send_if_modified(|state| {
                let ahead = state.covered.as_ref().is_none_or(|covered| covered.position < mark.position);
                if ahead {
                    state.covered = Some(mark);
                }
                ahead
            });
        }
        Ok(())
    }

    /// Publishes what is whole while a transaction is open.
    fn flush_whole(&mut self) -> Result<(), LogError> {
        if let Some(builder) = &mut self.builder
            && builder.has_whole()
        {
            let rest = builder.split_open();
            let whole = builder.seal(false);
            self.write(&whole)?;
            self.builder = Some(rest);
        }
        Ok(())
    }

    fn has_content(&self) -> bool {
        self.builder.as_ref().is_some_and(|builder| !builder.is_empty())
    }

    /// Puts the covered mark into the block.
    fn say_covered(&mut self) {
        let Some(mark) = self.covered.take() else { return };
        let fits = |builder: &BlockBuilder| builder.fits_file(mark.position, &mark.file_name);
        // Left empty in a later file by an aborted transaction.
        self.builder.take_if(|builder| builder.is_empty() && !fits(builder));
        let new = || BlockBuilder::new(mark.position, mark.file_name.as_str().into());
        self.builder.get_or_insert_with(new).covered(mark.position.offset, mark.commit_time_us);
    }

    /// Writes and publishes the block; it must hold whole transactions only.
    fn seal(&mut self) -> Result<(), LogError> {
        let Some(builder) = self.builder.take() else { return Ok(()) };
        if builder.is_empty() {
            return Ok(());
        }
        self.write(&builder.seal(false))
    }

    fn write(&mut self, block: &Sealed) -> Result<(), LogError> {
        let Some(active) = &mut self.active else { return Ok(()) };
        let at = active.offset;
        active.segment.write(block.bytes(), at)?;
        active.offset += length(block);
        active.segment.note(block.header().first, at);
        self.log.cache_written(Place { segment: active.segment.seq(), offset: at }, block.clone());
        let schemas = block.schemas().unwrap_or_default();
        let defined = schemas.into_iter().filter_map(|(id, definition)| Some((id, definition?)));
        self.publish(block, defined.collect());
        Ok(())
    }

    /// Lets readers see everything that is written, `newest` being the last block.
    fn publish(&mut self, newest: &Sealed, defined: Vec<(SchemaId, Bytes)>) {
        let Some(active) = &mut self.active else { return };
        let inner = &self.log.inner;
        if !defined.is_empty() {
            // Copied, so that a definition does not keep its whole block in memory.
            let defined = defined.into_iter().map(|(id, bytes)| (id, Bytes::copy_from_slice(&bytes)));
            let defined: Vec<_> = defined.collect();
            inner.schemas.write().unwrap_or_else(PoisonError::into_inner).extend(defined.iter().cloned());
            active.defined.extend(defined);
        }
        let header = newest.header();
        active.said = header.end;
        let grown = active.offset - active.segment.len();
        active.segment.set_len(active.offset, header.commit_time_us);
        let covered = Mark {
            position: header.end,
            file_name: newest.file_name().unwrap_or_default().into(),
            commit_time_us: header.commit_time_us,
        };
        let last = self.last.take_if(|last| last.position <= header.last);
        let tail = Place { segment: active.segment.seq(), offset: active.offset };
        inner.state.send_modify(|state| {
            if let Some(last) = last {
                state.last_commit_time_us = last.commit_time_us;
                state.last = Some(last.into());
            }
            state.covered = Some(covered);
            state.tail = Some(tail);
            state.bytes += grown;
        });
    }
}

impl Piece {
    /// Reads it back, to go on with it.
    fn read(&self, start: &TxnStart, segment: &Segment) -> Result<BlockBuilder, LogError> {
        let failed = |error| LogError::Io { action: "read", path: segment.path().to_owned(), error };
        let mut bytes = vec![0; self.len];
        segment.read(&mut bytes, self.at).map_err(failed)?;
        let reopened = Sealed::parse(bytes.into()).and_then(|sealed| BlockBuilder::reopen(start, &sealed));
        reopened.map_err(|error| failed(std::io::Error::other(error)))
    }
}

fn cut(builder: &mut BlockBuilder, rows: u64, active: &Active) -> Result<(), LogError> {
    let path = || active.segment.path().to_owned();
    let failed = |error| LogError::Io { action: "cut", path: path(), error: std::io::Error::other(error) };
    builder.cut(rows).map_err(failed)
}

fn length(block: &Sealed) -> u64 {
    u64::try_from(block.bytes().len()).unwrap_or(u64::MAX)
}

impl TransactionSink for Writer {
    type Error = LogError;

    fn begin(&mut self, start: TxnStart) -> Result<(), LogError> {
        self.fallible(|writer| writer.do_begin(start))
    }

    fn row(&mut self, row: RowChange<'_>) -> Result<(), LogError> {
        self.fallible(|writer| writer.do_row(&row))
    }

    fn savepoint(&self) -> Savepoint {
        Savepoint { rows: self.open.as_ref().map_or(0, |open| open.rows), bytes: 0 }
    }

    fn roll_back(&mut self, to: Savepoint) -> Result<(), LogError> {
        self.fallible(|writer| writer.do_roll_back(to.rows))
    }

    fn commit(&mut self, end: TxnEnd) -> Result<(), LogError> {
        self.fallible(|writer| writer.do_commit(end))
    }

    fn abort(&mut self) -> Result<(), LogError> {
        self.fallible(Self::do_abort)
    }

    fn covered(
        &mut self,
        position: Position,
        file_name: &Arc<str>,
        commit_time_us: i64,
    ) -> Result<(), LogError> {
        let mark = Mark { position, file_name: file_name.to_string(), commit_time_us };
        self.fallible(|writer| writer.do_covered(mark))
    }

    fn flush(&mut self) -> Result<(), LogError> {
        self.fallible(Self::do_flush)
    }
}
