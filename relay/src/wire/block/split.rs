//! Which rows of a block belong to which partition: worked out once for all the streams that filter it.

use super::{BlockError, Entry, RowEntry, Sealed, TxnEntry};
use crate::wire::{Malformed, PartitionSet, partition_of};

/// A row's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RowPlace {
    /// Where it is in the block's index.
    index_at: u32,
    /// Where its images are in the block.
    image_at: u32,
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
        let length = entries.input.len();
        loop {
            let (index_at, image_at) = (narrow(length - entries.input.len())?, narrow(entries.image_at)?);
            match entries.next()? {
                Some(Entry::Txn(_)) => split.txns.push(index_at),
                Some(Entry::Row(row)) => {
                    let place = RowPlace { index_at, image_at, txn: narrow(split.txns.len())? };
                    let new = partition_of(row.op, row.key_hash, count);
                    split.push(new, place);
                    if row.key_hash_before != row.key_hash {
                        let old = partition_of(row.op, row.key_hash_before, count);
                        if old != new {
                            split.push(old, place);
                        }
                    }
                }
                Some(Entry::Covered { .. }) => {}
                None => return Ok(split),
            }
        }
    }

    fn push(&mut self, partition: u32, place: RowPlace) {
        let rows = usize::try_from(partition).ok().and_then(|partition| self.rows.get_mut(partition));
        if let Some(rows) = rows {
            rows.push(place);
        }
    }

    /// The rows of these partitions, in the block's order, each once.
    pub(super) fn rows_of(&self, partitions: &PartitionSet) -> Vec<RowPlace> {
        let mut found = Vec::new();
        for partition in partitions.iter() {
            let rows = usize::try_from(partition).ok().and_then(|partition| self.rows.get(partition));
            found.extend_from_slice(rows.map_or(&[], Vec::as_slice));
        }
        if partitions.len() > 1 {
            found.sort_unstable();
            found.dedup();
        }
        found
    }
}

impl Sealed {
    /// The row's entry at a place of this block's split.
    pub(super) fn row_at(&self, place: RowPlace) -> Result<RowEntry, BlockError> {
        match self.entry_at(place.index_at, place.image_at)? {
            Some(Entry::Row(row)) => Ok(row),
            _ => Err(TOO_LONG.into()),
        }
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
