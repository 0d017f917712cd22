//! What of a block a stream gets: by partition, and from where the stream began.

use super::split::Extent;
use super::{BlockBuilder, BlockError, Entry, NewSchema, RowEntry, Sealed, TxnEntry};
use crate::position::Position;
use crate::schema::SchemaId;
use crate::wire::{Malformed, PartitionSet};
use bytes::Bytes;

/// Groups with more partitions have each block's index read by each stream: the lists would be larger than the block.
const MAX_SPLIT: u32 = 256;

/// A transaction's entry, kept while its rows are in later blocks.
#[derive(Clone, Debug)]
pub(super) struct OpenTxn {
    offset: u64,
    end_offset: u64,
    rows: u64,
    server_id: u32,
    commit_time_us: i64,
    gtid: Option<String>,
    pub(super) sent: bool,
}

/// The result of filtering one block.
#[derive(Clone, Debug)]
pub enum Filtered {
    /// The stream gets the block as it is.
    Whole,
    /// The stream gets this instead.
    Repacked(Sealed),
    /// Nothing in it is for the stream.
    Nothing,
}

/// The filter of one stream; sees each block of the log once, in order.
#[derive(Debug)]
pub struct Filter {
    partitions: PartitionSet,
    /// Transactions before this are not wanted, nor the first rows of the one at it. `None` once passed.
    from: Option<(Position, u64)>,
    open: Option<OpenTxn>,
}

impl Filter {
    /// A filter that begins at a position, some rows of its transaction already done.
    pub fn new(partitions: PartitionSet, from: Option<(Position, u64)>) -> Self {
        Self { partitions, from, open: None }
    }

    /// Transactions before this are not wanted in the blocks to come; said between transactions.
    pub fn begin_at(&mut self, position: Position) {
        if self.from.is_none_or(|(from, _)| from < position) {
            self.from = Some((position, 0));
        }
    }

    /// Whether a place lies before where the stream begins, which it has not passed yet.
    pub fn is_before(&self, position: Position) -> bool {
        self.from.is_some_and(|(from, _)| position < from)
    }

    /// Takes the stream's part out of the next block.
    pub fn apply(&mut self, block: &Sealed) -> Result<Filtered, BlockError> {
        if self.from.is_none() && self.partitions.is_all() {
            return Ok(Filtered::Whole);
        }
        if self.from.is_none() && self.partitions.count() <= MAX_SPLIT {
            return self.pick(block);
        }
        let header = *block.header();
        let at = |offset| Position { offset, ..header.first };
        let mut out = Repack::new(block, 0)?;
        if !header.begins_inside {
            self.open = None;
        }
        let mut entries = block.entries()?;
        while let Some((extent, entry)) = entries.next_at()? {
            match entry {
                Entry::Txn(txn) => {
                    if self.from.is_some_and(|(from, _)| at(txn.offset) > from) {
                        self.from = None;
                    }
                    self.open = Some(OpenTxn::of(&txn));
                }
                Entry::Row(row) => {
                    let open = self.open.as_mut().ok_or(BlockError::NoTransaction)?;
                    if wanted(&self.partitions, self.from, at(open.offset), &row) {
                        out.row(open, extent, row.slot)?;
                    }
                }
                Entry::Covered { .. } => {}
            }
        }
        if self.from.is_some_and(|(from, _)| header.last > from) {
            self.from = None;
        }
        Ok(out.seal())
    }
}

impl Filter {
    /// As `apply` once the start is passed: touches the stream's own rows only.
    fn pick(&mut self, block: &Sealed) -> Result<Filtered, BlockError> {
        let split = block.split(self.partitions.count())?;
        if !block.header().begins_inside {
            self.open = None;
        }
        let rows = split.rows_of(&self.partitions);
        let mut out = Repack::new(block, rows.len())?;
        // The transaction that `open` is, as the split counts them.
        let mut current = 0;
        for place in &*rows {
            if place.txn != current {
                current = place.txn;
                self.open = nth(block, &split.txns, current)?;
            }
            let open = self.open.as_mut().ok_or(BlockError::NoTransaction)?;
            out.row(open, place.extent, place.slot)?;
        }
        let last = u32::try_from(split.txns.len()).unwrap_or(u32::MAX);
        if last > current {
            // It may go on in the next block.
            self.open = nth(block, &split.txns, last)?;
        }
        Ok(out.seal())
    }
}

/// A block of some rows of another one.
struct Repack<'a> {
    block: &'a Sealed,
    slots: Vec<(SchemaId, Option<Bytes>)>,
    /// The last row's slot there and here.
    slot: Option<(u16, u16)>,
    out: BlockBuilder,
    images: Vec<&'a [u8]>,
}

impl<'a> Repack<'a> {
    /// With room for so many rows.
    fn new(block: &'a Sealed, rows: usize) -> Result<Self, BlockError> {
        let header = block.header();
        let mut out = BlockBuilder::new(header.last, block.file_name()?.into());
        out.reserve_share(header, rows);
        Ok(Self { block, slots: block.schemas()?, slot: None, out, images: Vec::with_capacity(rows) })
    }

    /// Takes the next row, of this transaction.
    fn row(&mut self, open: &mut OpenTxn, extent: Extent, slot: u16) -> Result<(), BlockError> {
        if !open.sent {
            open.sent = true;
            self.out.begin_entry(&open.entry());
        } else if self.images.is_empty() {
            self.out.set_begins_inside();
        }
        let slot = self.slot_of(slot)?;
        self.out.copy_entry(self.block.entry_bytes(extent)?, slot);
        self.images.push(self.block.images(extent)?);
        Ok(())
    }

    fn slot_of(&mut self, there: u16) -> Result<u16, BlockError> {
        if let Some((_, here)) = self.slot.filter(|(known, _)| *known == there) {
            return Ok(here);
        }
        let slot = self.slots.get(usize::from(there)).ok_or_else(|| malformed("row schema slot"));
        let (id, _) = slot?;
        let here =
            self.out.slot(*id).or_else(|| self.out.add_schema(NewSchema { id: *id, definition: None }));
        let here = here.ok_or_else(|| malformed("block schema count"))?;
        self.slot = Some((there, here));
        Ok(here)
    }

    /// What the stream gets; it stands for all of the other block.
    fn seal(mut self) -> Filtered {
        if self.images.is_empty() {
            return Filtered::Nothing;
        }
        let header = self.block.header();
        self.out.set_end(header);
        Filtered::Repacked(self.out.seal_with(header.ends_inside, self.images.iter().copied()))
    }
}

/// The transaction that begins in the block as the `number`th, counted from 1.
fn nth(block: &Sealed, txns: &[u32], number: u32) -> Result<Option<OpenTxn>, BlockError> {
    let at = usize::try_from(number).ok().and_then(|number| txns.get(number.checked_sub(1)?));
    at.map(|at| Ok(OpenTxn::of(&block.txn_at(*at)?))).transpose()
}

fn wanted(set: &PartitionSet, from: Option<(Position, u64)>, txn: Position, row: &RowEntry) -> bool {
    if from.is_some_and(|(from, rows)| txn < from || (txn == from && row.row < rows)) {
        return false;
    }
    set.wants(row.op, row.key_hash_before, row.key_hash)
}

pub(super) fn malformed(what: &'static str) -> BlockError {
    BlockError::Malformed(Malformed { what })
}

impl OpenTxn {
    pub(super) fn of(txn: &TxnEntry<'_>) -> Self {
        Self {
            offset: txn.offset,
            end_offset: txn.end_offset,
            rows: txn.rows,
            server_id: txn.server_id,
            commit_time_us: txn.commit_time_us,
            gtid: txn.gtid.map(str::to_owned),
            sent: false,
        }
    }

    pub(super) fn entry(&self) -> TxnEntry<'_> {
        TxnEntry {
            offset: self.offset,
            end_offset: self.end_offset,
            rows: self.rows,
            server_id: self.server_id,
            commit_time_us: self.commit_time_us,
            gtid: self.gtid.as_deref(),
        }
    }
}
