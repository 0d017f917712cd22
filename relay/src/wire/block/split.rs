//! Which rows of a block belong to which partition: worked out once for all the streams that filter it.

use super::{BlockError, Entries, Entry, Sealed, TxnEntry};
use crate::wire::{Malformed, PartitionSet, partition_of};
use std::borrow::Cow;

/// Where an entry is in the block's index, and its images in the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Extent {
    index_at: u32,
    index_len: u32,
    image_at: u32,
    image_len: u32,
}

/// A row's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RowPlace {
    pub(super) extent: Extent,
    /// Its schema's.
    pub(super) slot: u16,
    /// The transaction it belongs to: 0 the one that goes on from the block before, else the one that begins here,
    /// counted from 1.
    pub(super) txn: u32,
}

/// The rows of a block by partition, among `count`.
#[derive(Debug)]
pub(super) struct Split {
    pub(super) count: u32,
    /// Where in the index the transactions are that begin in the block.
    pub(super) txns: Vec<u32>,
    rows: Vec<Vec<RowPlace>>,
}

const TOO_LONG: Malformed = Malformed { what: "block index length" };

fn narrow(number: usize) -> Result<u32, Malformed> {
    u32::try_from(number).map_err(|_| TOO_LONG)
}

impl Split {
    pub(super) fn of(block: &Sealed, count: u32) -> Result<Self, BlockError> {
        let partitions = usize::try_from(count.max(1)).unwrap_or(1);
        let rows = usize::try_from(block.header().rows).unwrap_or(0);
        // Rows spread evenly, or some more: most lists never grow.
        let room = (rows / partitions + rows / partitions / 4 + 4).min(block.header().length);
        let rows = (0..partitions).map(|_| Vec::with_capacity(room)).collect();
        let mut split = Self { count, txns: Vec::new(), rows };
        let mut entries = block.entries()?;
        while let Some((extent, entry)) = entries.next_at()? {
            match entry {
                Entry::Txn(_) => split.txns.push(extent.index_at),
                Entry::Row(row) => {
                    let place = RowPlace { extent, slot: row.slot, txn: narrow(split.txns.len())? };
                    let new = partition_of(row.op, row.key_hash, count);
                    split.push(new, place);
                    if row.key_hash_before != row.key_hash {
                        let old = partition_of(row.op, row.key_hash_before, count);
                        if old != new {
                            split.push(old, place);
                        }
                    }
                }
                Entry::Covered { .. } => {}
            }
        }
        Ok(split)
    }

    fn push(&mut self, partition: u32, place: RowPlace) {
        let rows = usize::try_from(partition).ok().and_then(|partition| self.rows.get_mut(partition));
        if let Some(rows) = rows {
            rows.push(place);
        }
    }

    /// The rows of these partitions, in the block's order, each once.
    pub(super) fn rows_of(&self, partitions: &PartitionSet) -> Cow<'_, [RowPlace]> {
        let rows = |partition| usize::try_from(partition).ok().and_then(|at| self.rows.get(at));
        let mut lists = partitions.iter().filter_map(rows);
        match (lists.next(), partitions.len()) {
            (None, _) => Cow::Borrowed(&[]),
            (Some(only), 1) => Cow::Borrowed(only),
            (Some(first), _) => {
                let mut found = first.clone();
                lists.for_each(|rows| found.extend_from_slice(rows));
                found.sort_unstable();
                found.dedup();
                Cow::Owned(found)
            }
        }
    }
}

impl<'a> Entries<'a> {
    /// The next entry, and where it is.
    pub(super) fn next_at(&mut self) -> Result<Option<(Extent, Entry<'a>)>, BlockError> {
        let (left, image_at) = (self.input.len(), self.image_at);
        let index_at = self.length - left;
        let Some(entry) = self.next()? else { return Ok(None) };
        let extent = Extent {
            index_at: narrow(index_at)?,
            index_len: narrow(left - self.input.len())?,
            image_at: narrow(image_at)?,
            image_len: narrow(self.image_at - image_at)?,
        };
        Ok(Some((extent, entry)))
    }
}

impl Sealed {
    /// An entry's bytes in the index.
    pub(super) fn entry_bytes(&self, extent: Extent) -> Result<&[u8], BlockError> {
        let index = self.index()?;
        Ok(piece(index, extent.index_at, extent.index_len)?)
    }

    /// Both images of a row: they lie side by side.
    pub(super) fn images(&self, extent: Extent) -> Result<&[u8], BlockError> {
        Ok(piece(self.bytes(), extent.image_at, extent.image_len)?)
    }

    /// The transaction's entry at a place of this block's split.
    pub(super) fn txn_at(&self, index_at: u32) -> Result<TxnEntry<'_>, BlockError> {
        match self.entry_at(index_at, 0)? {
            Some(Entry::Txn(txn)) => Ok(txn),
            _ => Err(TOO_LONG.into()),
        }
    }

    fn entry_at(&self, index_at: u32, image_at: u32) -> Result<Option<Entry<'_>>, BlockError> {
        let mut entries = self.entries()?;
        entries.input.bytes(usize::try_from(index_at).unwrap_or(usize::MAX), "block index")?;
        entries.image_at = usize::try_from(image_at).unwrap_or(usize::MAX);
        entries.next()
    }
}

fn piece(bytes: &[u8], at: u32, len: u32) -> Result<&[u8], Malformed> {
    let from = usize::try_from(at).ok().and_then(|at| bytes.get(at..));
    from.and_then(|from| from.get(..usize::try_from(len).ok()?)).ok_or(TOO_LONG)
}
