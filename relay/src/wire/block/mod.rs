//! The block: whole small transactions, or one piece of a large one, in at most 256 KiB.
//!
//! ```text
//! header   magic, version, flags, length, crc32 of everything else, epoch, file number, offsets of the
//!          first and last transaction and of the end, commit time, counts and lengths of the sections
//! file     name of the binlog file (all of a block lies in one)
//! schemas  slot table: id, and the definition where this block is the first of its segment to use it
//! index    entries in commit order: transaction, row (schema slot, op, row index, key hashes, lengths), covered
//! images   the row images of the index's rows, back to back, `before` then `after`
//! ```
//!
//! Filtering reads the index alone. A large transaction has blocks of its own: all but its last end inside
//! it, all but its first begin inside it. Its first is written last, with the totals: a transaction whose
//! first block is missing never happened.

mod builder;
mod filter;
mod reader;
mod select;
mod split;
#[cfg(test)]
mod tests;

pub use builder::{BlockBuilder, NewSchema};
pub use filter::{Filter, Filtered};
pub use reader::{Block, BlockItem, BlockReader};
pub use select::Selector;

use super::codec::{Input, Malformed, Output};
use crate::event::Op;
use crate::position::Position;
use crate::schema::{SchemaError, SchemaId};
use bytes::Bytes;
use split::Split;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// What every block begins with.
pub(crate) const MAGIC: [u8; 4] = *b"AEBK";
/// The layout above. A reader refuses any other: relay and consumers are upgraded readers first.
pub(crate) const VERSION: u8 = 1;
/// Bytes before the sections.
pub(crate) const HEADER_BYTES: usize = 80;
/// A block is closed before it grows beyond this; one row that is larger makes its own block.
pub const TARGET_BYTES: usize = 256 * 1024;
/// The most bytes of one row's two images: above it the row is refused, so that no reader must hold more.
pub const MAX_ROW_BYTES: usize = 256 * 1024 * 1024;
/// The most bytes of a block: the largest row, its transaction's entry, and room for schema definitions.
pub const MAX_BYTES: usize = MAX_ROW_BYTES + 16 * 1024 * 1024;
/// The most bytes of one schema definition: 4096 columns with long names and enum members.
pub const MAX_SCHEMA_BYTES: usize = 8 * 1024 * 1024;

const FLAG_BEGINS_INSIDE: u8 = 1;
const FLAG_ENDS_INSIDE: u8 = 2;

const TAG_TXN: u8 = 1;
const TAG_ROW: u8 = 2;
const TAG_ROW_KEY_CHANGED: u8 = 3;
const TAG_COVERED: u8 = 4;

/// Why bytes are not a block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// Something else, or nothing, lies here.
    #[error("no block begins here")]
    Magic,
    /// Written by a newer program.
    #[error("block version {0} is not known to this version of aesop; upgrade it")]
    Version(u8),
    /// More than any block may have.
    #[error("block of {0} bytes is over the limit")]
    TooLong(usize),
    /// Bits changed, or the end was never written.
    #[error("block checksum does not match")]
    Checksum,
    /// The checksum is right and the content makes no sense.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A schema definition makes no sense.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// A row refers to a schema that was not sent before it.
    #[error("schema {0:016x} is used before its definition")]
    UnknownSchema(u64),
    /// A piece of a transaction came without the piece before it.
    #[error("block continues a transaction that did not begin on this stream")]
    NoTransaction,
}

/// What the header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHeader {
    /// The block's bytes in all.
    pub length: usize,
    /// Its first rows belong to the transaction of the block before.
    pub begins_inside: bool,
    /// The transaction goes on in the next block.
    pub ends_inside: bool,
    /// Start of the first transaction (or the first covered mark).
    pub first: Position,
    /// Start of the last transaction (or the last covered mark).
    pub last: Position,
    /// Everything in the source before this is in this block or an earlier one. Inside a transaction: its start.
    pub end: Position,
    /// Commit time of the last transaction, or of what the last covered mark covers.
    pub commit_time_us: i64,
    /// Number of index entries.
    pub items: u32,
    /// Number of rows among them.
    pub rows: u32,
    schemas: u16,
    name_len: usize,
    schemas_len: usize,
    index_len: usize,
    images_len: usize,
}

impl BlockHeader {
    /// Reads a header; its checksum is not verified yet, its length is within the limits.
    pub fn parse(bytes: &[u8]) -> Result<Self, BlockError> {
        let mut input = Input::new(bytes);
        if input.bytes(4, "block magic").map_err(|_| BlockError::Magic)? != MAGIC {
            return Err(BlockError::Magic);
        }
        let version = input.u8("block version")?;
        if version != VERSION {
            return Err(BlockError::Version(version));
        }
        let flags = input.u8("block flags")?;
        let schemas = input.u16("block schema count")?;
        let length = input.len32("block length")?;
        let _crc = input.u32("block checksum")?;
        let (epoch, file) = (input.u32("block epoch")?, input.u32("block file")?);
        let at = |offset| Position::new(epoch, file, offset);
        let first = at(input.u64("block first offset")?);
        let last = at(input.u64("block last offset")?);
        let end = at(input.u64("block end offset")?);
        let header = Self {
            length,
            begins_inside: flags & FLAG_BEGINS_INSIDE != 0,
            ends_inside: flags & FLAG_ENDS_INSIDE != 0,
            first,
            last,
            end,
            commit_time_us: input.i64("block commit time")?,
            items: input.u32("block item count")?,
            rows: input.u32("block row count")?,
            schemas,
            name_len: input.len32("block name length")?,
            schemas_len: input.len32("block schemas length")?,
            index_len: input.len32("block index length")?,
            images_len: input.len32("block images length")?,
        };
        if length > MAX_BYTES {
            return Err(BlockError::TooLong(length));
        }
        let sections = [header.name_len, header.schemas_len, header.index_len, header.images_len];
        let sum = sections.iter().try_fold(HEADER_BYTES, |sum, len| sum.checked_add(*len));
        if sum != Some(length) {
            return Err(Malformed { what: "block section lengths" }.into());
        }
        Ok(header)
    }
}

impl BlockHeader {
    fn write(&self, out: &mut Vec<u8>) {
        let begins = if self.begins_inside { FLAG_BEGINS_INSIDE } else { 0 };
        let ends = if self.ends_inside { FLAG_ENDS_INSIDE } else { 0 };
        out.put(&MAGIC);
        out.put_u8(VERSION);
        out.put_u8(begins | ends);
        out.put_u16(self.schemas);
        out.put_len(self.length);
        out.put_u32(0);
        out.put_u32(self.first.epoch);
        out.put_u32(self.first.file);
        out.put_u64(self.first.offset);
        out.put_u64(self.last.offset);
        out.put_u64(self.end.offset);
        out.put_i64(self.commit_time_us);
        out.put_u32(self.items);
        out.put_u32(self.rows);
        out.put_len(self.name_len);
        out.put_len(self.schemas_len);
        out.put_len(self.index_len);
        out.put_len(self.images_len);
    }
}

/// A block whose checksum was verified, or that was built here.
#[derive(Clone, Debug)]
pub struct Sealed {
    bytes: Bytes,
    header: BlockHeader,
    /// Shared by all copies.
    split: Arc<OnceLock<Arc<Split>>>,
}

impl Sealed {
    /// Verifies a block; `bytes` is exactly one.
    pub fn parse(bytes: Bytes) -> Result<Self, BlockError> {
        let header = BlockHeader::parse(&bytes)?;
        if header.length != bytes.len() {
            return Err(Malformed { what: "block length" }.into());
        }
        if stored_crc(&bytes) != Some(crc(&bytes)) {
            return Err(BlockError::Checksum);
        }
        Ok(Self::new(bytes, header))
    }

    fn new(bytes: Bytes, header: BlockHeader) -> Self {
        Self { bytes, header, split: Arc::default() }
    }

    /// The same block, its bytes held by somebody else.
    pub(crate) fn held_as(&self, bytes: Bytes) -> Self {
        debug_assert_eq!(self.bytes.len(), bytes.len());
        Self { bytes, header: self.header, split: Arc::clone(&self.split) }
    }

    /// The rows by partition. The first number of partitions that is asked for is remembered: one relay has few groups.
    fn split(&self, count: u32) -> Result<Arc<Split>, BlockError> {
        match self.split.get() {
            Some(split) if split.count == count => Ok(Arc::clone(split)),
            Some(_) => Split::of(self, count).map(Arc::new),
            None => {
                let split = Arc::new(Split::of(self, count)?);
                Ok(Arc::clone(self.split.get_or_init(|| split)))
            }
        }
    }

    /// The block as it is stored and sent.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// What its header says.
    pub fn header(&self) -> &BlockHeader {
        &self.header
    }

    /// Name of the binlog file.
    pub fn file_name(&self) -> Result<&str, BlockError> {
        let mut input = self.section(HEADER_BYTES, self.header.name_len, "block file name")?;
        let name = input.bytes(self.header.name_len, "block file name")?;
        Ok(std::str::from_utf8(name).map_err(|_| Malformed { what: "block file name" })?)
    }

    /// The slot table: each schema the block uses, with its definition where this block brings it.
    pub fn schemas(&self) -> Result<Vec<(SchemaId, Option<Bytes>)>, BlockError> {
        let start = HEADER_BYTES + self.header.name_len;
        let mut input = self.section(start, self.header.schemas_len, "block schemas")?;
        let mut slots = Vec::with_capacity(usize::from(self.header.schemas));
        for _ in 0..self.header.schemas {
            let id = SchemaId(input.u64("block schema id")?);
            let len = input.len32("block schema length")?;
            let definition = input.bytes(len, "block schema definition")?;
            slots.push((id, (len > 0).then(|| self.bytes.slice_ref(definition))));
        }
        if !input.is_empty() {
            return Err(Malformed { what: "block schemas" }.into());
        }
        Ok(slots)
    }

    /// The last transaction that begins in the block: its start, GTID and commit time.
    pub fn last_transaction(&self) -> Result<Option<(Position, Option<String>, i64)>, BlockError> {
        let mut last = None;
        let mut entries = self.entries()?;
        while let Some(entry) = entries.next()? {
            if let Entry::Txn(txn) = entry {
                last = Some(txn);
            }
        }
        let at = |offset| Position { offset, ..self.header.first };
        Ok(last.map(|txn| (at(txn.offset), txn.gtid.map(str::to_owned), txn.commit_time_us)))
    }

    /// Start, GTID and commit time of each transaction that begins in the block.
    pub fn transactions(&self) -> Result<Vec<Begun<'_>>, BlockError> {
        let mut found = Vec::new();
        let mut entries = self.entries()?;
        while let Some(entry) = entries.next()? {
            if let Entry::Txn(txn) = entry {
                found.push((
                    Position { offset: txn.offset, ..self.header.first },
                    txn.gtid,
                    txn.commit_time_us,
                ));
            }
        }
        Ok(found)
    }

    pub(super) fn entries(&self) -> Result<Entries<'_>, BlockError> {
        let index = self.index()?;
        let images_at = self.header.length.saturating_sub(self.header.images_len);
        Ok(Entries::new(index, images_at, self.header.length, self.header.items))
    }

    /// The images of all its rows.
    fn all_images(&self) -> &[u8] {
        let at = self.header.length.saturating_sub(self.header.images_len);
        self.bytes.get(at..).unwrap_or_default()
    }

    fn index(&self) -> Result<&[u8], Malformed> {
        let start = HEADER_BYTES + self.header.name_len + self.header.schemas_len;
        let end = start + self.header.index_len;
        self.bytes.get(start..end).ok_or(Malformed { what: "block index" })
    }

    fn section(&self, start: usize, len: usize, what: &'static str) -> Result<Input<'_>, BlockError> {
        let bytes = self.bytes.get(start..start + len).ok_or(Malformed { what })?;
        Ok(Input::new(bytes))
    }
}

/// A transaction's start, GTID and commit time.
pub type Begun<'a> = (Position, Option<&'a str>, i64);

/// One transaction's entry in an index.
#[derive(Clone, Copy, Debug)]
pub(super) struct TxnEntry<'a> {
    pub(super) offset: u64,
    pub(super) end_offset: u64,
    pub(super) rows: u64,
    pub(super) server_id: u32,
    pub(super) commit_time_us: i64,
    pub(super) gtid: Option<&'a str>,
}

/// One row's entry; the ranges are within the whole block.
#[derive(Clone, Debug)]
pub(super) struct RowEntry {
    pub(super) op: Op,
    pub(super) slot: u16,
    pub(super) row: u64,
    pub(super) key_hash_before: u64,
    pub(super) key_hash: u64,
    pub(super) before: Range<usize>,
    pub(super) after: Range<usize>,
}

#[derive(Clone, Debug)]
pub(super) enum Entry<'a> {
    Txn(TxnEntry<'a>),
    Row(RowEntry),
    Covered { offset: u64, commit_time_us: i64 },
}

/// Walks an index. After an error the walk is over.
#[derive(Debug)]
pub(super) struct Entries<'a> {
    input: Input<'a>,
    /// Of the whole index.
    length: usize,
    image_at: usize,
    end: usize,
    left: u32,
}

impl<'a> Entries<'a> {
    /// Over `left` entries, whose images lie from `image_at` to `end`.
    fn new(index: &'a [u8], image_at: usize, end: usize, left: u32) -> Self {
        Self { input: Input::new(index), length: index.len(), image_at, end, left }
    }

    /// Where the next entry and its images begin.
    fn place(&self) -> (usize, usize) {
        (self.length - self.input.len(), self.image_at)
    }

    pub(super) fn next(&mut self) -> Result<Option<Entry<'a>>, BlockError> {
        if self.left == 0 {
            return if self.input.is_empty() {
                Ok(None)
            } else {
                Err(Malformed { what: "block index length" }.into())
            };
        }
        self.left -= 1;
        let entry = match self.input.u8("index tag")? {
            TAG_TXN => Entry::Txn(self.txn()?),
            TAG_ROW => Entry::Row(self.row(false)?),
            TAG_ROW_KEY_CHANGED => Entry::Row(self.row(true)?),
            TAG_COVERED => Entry::Covered {
                offset: self.input.u64("covered offset")?,
                commit_time_us: self.input.i64("covered commit time")?,
            },
            _ => return Err(Malformed { what: "index tag" }.into()),
        };
        Ok(Some(entry))
    }

    fn txn(&mut self) -> Result<TxnEntry<'a>, BlockError> {
        let offset = self.input.u64("transaction offset")?;
        let end_offset = self.input.u64("transaction end offset")?;
        let rows = self.input.u64("transaction rows")?;
        let server_id = self.input.u32("transaction server id")?;
        let commit_time_us = self.input.i64("transaction commit time")?;
        let gtid = self.input.text("transaction gtid")?;
        let gtid = (!gtid.is_empty()).then_some(gtid);
        Ok(TxnEntry { offset, end_offset, rows, server_id, commit_time_us, gtid })
    }

    fn row(&mut self, key_changed: bool) -> Result<RowEntry, BlockError> {
        let op = op_of(self.input.u8("row op")?)?;
        let slot = self.input.u16("row schema slot")?;
        let row = self.input.u64("row index")?;
        let key_hash = self.input.u64("row key hash")?;
        let key_hash_before = if key_changed { self.input.u64("row old key hash")? } else { key_hash };
        let before = self.image("row before image")?;
        let after = self.image("row after image")?;
        Ok(RowEntry { op, slot, row, key_hash_before, key_hash, before, after })
    }

    fn image(&mut self, what: &'static str) -> Result<Range<usize>, BlockError> {
        let start = self.image_at;
        let end = start.checked_add(self.input.len32(what)?).filter(|end| *end <= self.end);
        self.image_at = end.ok_or(Malformed { what })?;
        Ok(start..self.image_at)
    }
}

fn op_of(byte: u8) -> Result<Op, Malformed> {
    match byte {
        1 => Ok(Op::Insert),
        2 => Ok(Op::Update),
        3 => Ok(Op::Delete),
        4 => Ok(Op::Read),
        5 => Ok(Op::Truncate),
        6 => Ok(Op::Ddl),
        _ => Err(Malformed { what: "row op" }),
    }
}

const fn op_byte(op: Op) -> u8 {
    match op {
        Op::Insert => 1,
        Op::Update => 2,
        Op::Delete => 3,
        Op::Read => 4,
        Op::Truncate => 5,
        Op::Ddl => 6,
    }
}

const CRC_AT: usize = 12;
const BEHIND_CRC: usize = CRC_AT + 4;

/// The checksum of everything but the checksum.
fn crc(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(bytes.get(..CRC_AT).unwrap_or_default());
    hasher.update(bytes.get(BEHIND_CRC..).unwrap_or_default());
    hasher.finalize()
}

fn stored_crc(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(CRC_AT..)?.first_chunk()?))
}
