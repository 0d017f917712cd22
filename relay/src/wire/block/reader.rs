//! Reads blocks as consumers and the log's dump see them.

use super::{BlockError, BlockHeader, Entry, MAX_SCHEMA_BYTES, RowEntry, Sealed, TxnEntry};
use crate::event::{RowChange, TxnHeader, TxnStart};
use crate::position::Position;
use crate::schema::{SchemaId, TableSchema};
use crate::wire::Malformed;
use bytes::Bytes;
use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

/// Distinct schemas a stream may define; a table's every change makes one more.
const MAX_SCHEMAS: usize = 65_536;

/// One thing in a block.
#[derive(Clone, Copy, Debug)]
pub enum BlockItem<'a> {
    /// A transaction begins; its rows follow. Repeated at the head of a block that goes on with it.
    Txn(&'a Arc<TxnHeader>),
    /// A row of it.
    Row {
        /// The row's transaction.
        txn: &'a Arc<TxnHeader>,
        /// Index of the row in its transaction, counted before any filter.
        row: u64,
        /// What happened.
        change: RowChange<'a>,
    },
    /// The source is read up to here; all that matters of what is before was in this block or an earlier one.
    Covered {
        /// End of the last event covered.
        position: Position,
        /// When that was committed, microseconds since 1970 UTC.
        commit_time_us: i64,
    },
}

#[derive(Clone, Debug)]
enum Item {
    Txn(Arc<TxnHeader>),
    Row(RowEntry),
    Covered(Position, i64),
}

/// A block whose every item was found to make sense; reading it cannot fail.
#[derive(Debug)]
pub struct Block {
    sealed: Sealed,
    schemas: Vec<Arc<TableSchema>>,
    items: Vec<Item>,
    /// Dropped with the block: gives its credit back to the relay.
    credit: Option<Box<dyn Any + Send + Sync>>,
}

impl Block {
    /// The items in commit order.
    pub fn items(&self) -> impl Iterator<Item = BlockItem<'_>> {
        let mut txn = None;
        self.items.iter().filter_map(move |item| match item {
            Item::Txn(header) => {
                txn = Some(header);
                Some(BlockItem::Txn(header))
            }
            Item::Row(row) => Some(BlockItem::Row { txn: txn?, row: row.row, change: self.change(row)? }),
            Item::Covered(position, commit_time_us) => {
                Some(BlockItem::Covered { position: *position, commit_time_us: *commit_time_us })
            }
        })
    }

    /// What the block's header says.
    pub fn header(&self) -> &BlockHeader {
        self.sealed.header()
    }

    /// Its bytes on the wire.
    pub fn bytes_len(&self) -> usize {
        self.sealed.header().length
    }

    /// Attaches something that is to be dropped with the block.
    #[must_use]
    pub fn with_credit(mut self, credit: Box<dyn Any + Send + Sync>) -> Self {
        self.credit = Some(credit);
        self
    }

    fn change(&self, row: &RowEntry) -> Option<RowChange<'_>> {
        Some(RowChange {
            op: row.op,
            schema: self.schemas.get(usize::from(row.slot))?,
            key_hash_before: row.key_hash_before,
            key_hash: row.key_hash,
            before: self.sealed.bytes().get(row.before.clone())?,
            after: self.sealed.bytes().get(row.after.clone())?,
        })
    }
}

/// Opens the blocks of one stream or segment in order: knows the schemas defined so far and the transaction that
/// goes on.
#[derive(Debug, Default)]
pub struct BlockReader {
    schemas: HashMap<SchemaId, Arc<TableSchema>>,
    file_name: Option<Arc<str>>,
    open: Option<Arc<TxnHeader>>,
}

impl BlockReader {
    /// Takes a schema definition.
    pub fn define(&mut self, id: SchemaId, definition: &[u8]) -> Result<(), BlockError> {
        if self.schemas.contains_key(&id) {
            return Ok(());
        }
        if self.schemas.len() >= MAX_SCHEMAS || definition.len() > MAX_SCHEMA_BYTES {
            return Err(Malformed { what: "schema definitions over the limit" }.into());
        }
        let schema = TableSchema::parse(definition)?;
        self.schemas.insert(id, Arc::new(schema));
        Ok(())
    }

    /// Verifies and opens the next block.
    pub fn read(&mut self, bytes: Bytes) -> Result<Block, BlockError> {
        self.open(Sealed::parse(bytes)?)
    }

    /// Opens the next block.
    pub fn open(&mut self, sealed: Sealed) -> Result<Block, BlockError> {
        let mut schemas = Vec::new();
        for (id, definition) in sealed.schemas()? {
            if let Some(definition) = definition {
                self.define(id, &definition)?;
            }
            schemas.push(self.schemas.get(&id).cloned().ok_or(BlockError::UnknownSchema(id.0))?);
        }
        let header = *sealed.header();
        let file_name = self.file_name(sealed.file_name()?);
        let mut items =
            Vec::with_capacity(usize::try_from(header.items).unwrap_or(0).min(header.length / 16));
        if header.begins_inside {
            let open = self.open.clone().filter(|open| open.start.position == header.first);
            items.push(Item::Txn(open.ok_or(BlockError::NoTransaction)?));
        } else {
            self.open = None;
        }
        let at = |offset| Position { offset, ..header.first };
        let mut entries = sealed.entries()?;
        while let Some(entry) = entries.next()? {
            items.push(match entry {
                Entry::Txn(txn) => {
                    let txn = Arc::new(txn_header(&txn, at(txn.offset), &file_name));
                    self.open = Some(Arc::clone(&txn));
                    Item::Txn(txn)
                }
                Entry::Row(row) if self.open.is_none() => {
                    return Err(Malformed {
                        what: if row.row == 0 { "row without transaction" } else { "row" },
                    }
                    .into());
                }
                Entry::Row(row) if usize::from(row.slot) >= schemas.len() => {
                    return Err(Malformed { what: "row schema slot" }.into());
                }
                Entry::Row(row) => Item::Row(row),
                Entry::Covered { offset, commit_time_us } => Item::Covered(at(offset), commit_time_us),
            });
        }
        if !header.ends_inside {
            self.open = None;
        }
        Ok(Block { sealed, schemas, items, credit: None })
    }

    fn file_name(&mut self, name: &str) -> Arc<str> {
        match &self.file_name {
            Some(known) if **known == *name => Arc::clone(known),
            _ => Arc::clone(self.file_name.insert(name.into())),
        }
    }
}

fn txn_header(txn: &TxnEntry<'_>, position: Position, file_name: &Arc<str>) -> TxnHeader {
    TxnHeader {
        start: TxnStart {
            position,
            file_name: Arc::clone(file_name),
            gtid: txn.gtid.map(str::to_owned),
            server_id: txn.server_id,
            commit_time_us: txn.commit_time_us,
        },
        end_offset: txn.end_offset,
        rows: txn.rows,
    }
}
