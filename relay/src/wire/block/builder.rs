//! Packs transactions into blocks.

use super::{
    BlockError, BlockHeader, CRC_AT, Entries, Entry, HEADER_BYTES, RowEntry, Sealed, TAG_COVERED, TAG_ROW,
    TAG_ROW_KEY_CHANGED, TAG_TXN, TxnEntry, crc, op_byte,
};
use crate::event::{Op, RowChange, TxnStart};
use crate::position::Position;
use crate::schema::SchemaId;
use crate::wire::codec::Output;
use bytes::Bytes;
use std::sync::Arc;

/// Where a row's entry has its schema's slot: behind tag and operation.
const ROW_SLOT_AT: usize = 2;

/// A schema as a block brings it: the definition only where readers do not have it yet.
#[derive(Clone, Debug)]
pub struct NewSchema {
    /// Identity.
    pub id: SchemaId,
    /// Serialized form, for the first use in a segment.
    pub definition: Option<Bytes>,
}

/// The open transaction's first bytes in each section.
#[derive(Clone, Copy, Debug)]
struct Open {
    index_at: usize,
    images_at: usize,
    items_at: u32,
    rows_at: u32,
    before: Marks,
}

/// What the header says of the block's content.
#[derive(Clone, Copy, Debug)]
struct Marks {
    first: u64,
    last: u64,
    end: u64,
    commit_time_us: i64,
}

/// Builds one block; all of it lies in one binlog file.
#[derive(Debug)]
pub struct BlockBuilder {
    epoch: u32,
    file: u32,
    file_name: Arc<str>,
    begins_inside: bool,
    marks: Marks,
    schemas: Vec<NewSchema>,
    schemas_len: usize,
    index: Vec<u8>,
    images: Vec<u8>,
    items: u32,
    rows: u32,
    open: Option<Open>,
}

impl BlockBuilder {
    /// An empty block for what happens in this file, from this position on.
    pub fn new(at: Position, file_name: Arc<str>) -> Self {
        let marks = Marks { first: at.offset, last: at.offset, end: at.offset, commit_time_us: 0 };
        Self {
            epoch: at.epoch,
            file: at.file,
            file_name,
            begins_inside: false,
            marks,
            schemas: Vec::new(),
            schemas_len: 0,
            index: Vec::new(),
            images: Vec::new(),
            items: 0,
            rows: 0,
            open: None,
        }
    }

    /// An empty block for the next piece of a transaction.
    pub fn continuing(start: &TxnStart) -> Self {
        let mut builder = Self::new(start.position, Arc::clone(&start.file_name));
        builder.begins_inside = true;
        builder.marks.commit_time_us = start.commit_time_us;
        builder.open =
            Some(Open { index_at: 0, images_at: 0, items_at: 0, rows_at: 0, before: builder.marks });
        builder
    }

    /// Whether something that happens at `at` may go into this block.
    pub fn fits_file(&self, at: Position, file_name: &str) -> bool {
        (self.epoch, self.file) == (at.epoch, at.file) && *self.file_name == *file_name
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.items == 0
    }

    /// Whether something is in it besides the open transaction.
    pub fn has_whole(&self) -> bool {
        self.open.map_or(self.items, |open| open.items_at) > 0
    }

    /// Whether a row of the open transaction is in it.
    pub fn has_rows(&self) -> bool {
        let entry = u32::from(!self.begins_inside);
        self.open.is_some_and(|open| self.items - open.items_at > entry)
    }

    /// The definitions it brings.
    pub fn definitions(&self) -> impl Iterator<Item = (SchemaId, Bytes)> + '_ {
        self.schemas.iter().filter_map(|schema| Some((schema.id, schema.definition.clone()?)))
    }

    /// Bytes of the block if it were sealed now.
    pub fn len(&self) -> usize {
        self.front_len() + self.images.len()
    }

    /// Bytes of everything but the images.
    fn front_len(&self) -> usize {
        HEADER_BYTES + self.file_name.len() + self.schemas_len + self.index.len()
    }

    /// Bytes that a row would add, schema definitions aside.
    pub fn row_len(row: &RowChange<'_>) -> usize {
        36 + row.before.len() + row.after.len()
    }

    /// The slot of a schema in this block, if it was added.
    pub fn slot(&self, id: SchemaId) -> Option<u16> {
        let at = self.schemas.iter().rposition(|schema| schema.id == id)?;
        u16::try_from(at).ok()
    }

    /// Adds a schema; `None` when the slot table is full.
    pub fn add_schema(&mut self, schema: NewSchema) -> Option<u16> {
        let slot = u16::try_from(self.schemas.len()).ok().filter(|slot| *slot < u16::MAX)?;
        self.schemas_len += 12 + schema.definition.as_ref().map_or(0, Bytes::len);
        self.schemas.push(schema);
        Some(slot)
    }

    /// Opens a transaction.
    pub fn begin(&mut self, start: &TxnStart) {
        self.open = Some(Open {
            index_at: self.index.len(),
            images_at: self.images.len(),
            items_at: self.items,
            rows_at: self.rows,
            before: self.marks,
        });
        self.begin_entry(&TxnEntry {
            offset: start.position.offset,
            end_offset: 0,
            rows: 0,
            server_id: start.server_id,
            commit_time_us: start.commit_time_us,
            gtid: start.gtid.as_deref(),
        });
    }

    /// Appends a transaction's entry, totals included.
    pub(super) fn begin_entry(&mut self, txn: &TxnEntry<'_>) {
        self.index.put_u8(TAG_TXN);
        self.index.put_u64(txn.offset);
        self.index.put_u64(txn.end_offset);
        self.index.put_u64(txn.rows);
        self.index.put_u32(txn.server_id);
        self.index.put_i64(txn.commit_time_us);
        self.index.put_text(txn.gtid.unwrap_or_default());
        if self.items == 0 {
            self.marks.first = txn.offset;
        }
        self.items += 1;
        self.marks.last = txn.offset;
        self.marks.end = txn.end_offset.max(txn.offset);
        self.marks.commit_time_us = txn.commit_time_us;
    }

    /// Appends a row of the open transaction.
    pub fn row(&mut self, slot: u16, row: u64, change: &RowChange<'_>) {
        let hashes = (change.key_hash_before, change.key_hash);
        self.push_row(change.op, slot, row, hashes, change.before, change.after);
    }

    /// Appends another block's row, with images of its own.
    pub(super) fn copy_row(&mut self, slot: u16, entry: &RowEntry, before: &[u8], after: &[u8]) {
        let hashes = (entry.key_hash_before, entry.key_hash);
        self.push_row(entry.op, slot, entry.row, hashes, before, after);
    }

    fn push_row(&mut self, op: Op, slot: u16, row: u64, hashes: (u64, u64), before: &[u8], after: &[u8]) {
        let (key_hash_before, key_hash) = hashes;
        let key_changed = key_hash_before != key_hash;
        self.index.put_u8(if key_changed { TAG_ROW_KEY_CHANGED } else { TAG_ROW });
        self.index.put_u8(op_byte(op));
        self.index.put_u16(slot);
        self.index.put_u64(row);
        self.index.put_u64(key_hash);
        if key_changed {
            self.index.put_u64(key_hash_before);
        }
        self.index.put_len(before.len());
        self.index.put_len(after.len());
        self.images.put(before);
        self.images.put(after);
        self.rows += 1;
        self.items += 1;
    }

    /// Appends the entry of another block's row as it stands, with the schema's slot here; its images are given when the
    /// block is sealed.
    pub(super) fn copy_entry(&mut self, entry: &[u8], slot: u16) {
        let at = self.index.len();
        self.index.put(entry);
        patch(&mut self.index, at + ROW_SLOT_AT, &slot.to_le_bytes());
        self.rows += 1;
        self.items += 1;
    }

    /// Closes the open transaction, whose entry is in this block, with its totals.
    pub fn commit(&mut self, end_offset: u64, rows: u64) {
        if let Some(open) = self.open.take() {
            if !self.begins_inside {
                patch(&mut self.index, open.index_at + 9, &end_offset.to_le_bytes());
                patch(&mut self.index, open.index_at + 17, &rows.to_le_bytes());
            }
            self.marks.end = end_offset;
        }
    }

    /// Forgets the open transaction.
    pub fn abort(&mut self) {
        if let Some(open) = self.open.take() {
            self.index.truncate(open.index_at);
            self.images.truncate(open.images_at);
            self.items = open.items_at;
            self.rows = open.rows_at;
            self.marks = open.before;
        }
    }

    /// Forgets the rows of the open transaction from this one on.
    pub fn cut(&mut self, row: u64) -> Result<(), BlockError> {
        let Some(open) = self.open else { return Ok(()) };
        let index = self.index.get(open.index_at..).unwrap_or_default();
        let left = self.items - open.items_at;
        let mut entries = Entries::new(index, open.images_at, self.images.len(), left);
        let (mut kept, mut rows) = (0, 0);
        loop {
            let (index_at, images_at) = entries.place();
            match entries.next()? {
                Some(Entry::Row(entry)) if entry.row < row => rows += 1,
                Some(Entry::Row(_)) | None => {
                    self.index.truncate(open.index_at + index_at);
                    self.images.truncate(images_at);
                    (self.items, self.rows) = (open.items_at + kept, open.rows_at + rows);
                    return Ok(());
                }
                Some(_) => {}
            }
            kept += 1;
        }
    }

    /// The piece of an open transaction that was sealed as this block, to go on with it.
    pub fn reopen(start: &TxnStart, sealed: &Sealed) -> Result<Self, BlockError> {
        let mut builder = Self::continuing(start);
        for (id, definition) in sealed.schemas()? {
            // Copied, so that a definition does not keep its whole block in memory.
            let definition = definition.map(|definition| Bytes::copy_from_slice(&definition));
            builder.add_schema(NewSchema { id, definition });
        }
        builder.index = sealed.index()?.to_vec();
        builder.images = sealed.all_images().to_vec();
        (builder.items, builder.rows) = (sealed.header().items, sealed.header().rows);
        Ok(builder)
    }

    /// Takes the open transaction out, into a block of its own; definitions stay here, before it.
    #[must_use]
    pub fn split_open(&mut self) -> Self {
        let at = Position::new(self.epoch, self.file, self.marks.last);
        let mut rest = Self::new(at, Arc::clone(&self.file_name));
        if let Some(open) = self.open.take() {
            let slots = self.schemas.iter().map(|schema| NewSchema { id: schema.id, definition: None });
            rest.schemas = slots.collect();
            rest.schemas_len = 12 * rest.schemas.len();
            rest.index = self.index.split_off(open.index_at);
            rest.images = self.images.split_off(open.images_at);
            rest.items = self.items - open.items_at;
            rest.rows = self.rows - open.rows_at;
            rest.marks = Marks { first: at.offset, ..self.marks };
            rest.open = Some(Open { index_at: 0, images_at: 0, items_at: 0, rows_at: 0, before: rest.marks });
            self.items = open.items_at;
            self.rows = open.rows_at;
            self.marks = open.before;
        }
        rest
    }

    /// Appends a covered mark.
    pub fn covered(&mut self, offset: u64, commit_time_us: i64) {
        self.index.put_u8(TAG_COVERED);
        self.index.put_u64(offset);
        self.index.put_i64(commit_time_us);
        if self.items == 0 {
            self.marks.first = offset;
        }
        self.items += 1;
        self.marks.last = offset;
        self.marks.end = offset;
        self.marks.commit_time_us = commit_time_us;
    }

    /// Makes room for the entries of some rows of another block, at their mean size and a little more.
    pub(super) fn reserve_share(&mut self, of: &BlockHeader, rows: usize) {
        let all = usize::try_from(of.rows).unwrap_or(usize::MAX).max(1);
        let share = of.index_len / all * rows;
        self.index.reserve(share + share / 8 + 128);
    }

    /// Says that the block stands for all of another one.
    pub(super) fn set_end(&mut self, of: &BlockHeader) {
        self.marks.last = of.last.offset;
        self.marks.end = of.end.offset;
        self.marks.commit_time_us = of.commit_time_us;
    }

    pub(super) fn set_begins_inside(&mut self) {
        self.begins_inside = true;
    }

    /// Seals the block as it stands; `ends_inside` when the open transaction goes on in the next.
    pub fn seal(&self, ends_inside: bool) -> Sealed {
        self.seal_with(ends_inside, std::iter::once(&self.images[..]))
    }

    /// Seals it with these images, in the order of its rows: they are copied once, to where they are sent from.
    pub(super) fn seal_with<'a>(
        &self,
        ends_inside: bool,
        images: impl Iterator<Item = &'a [u8]> + Clone,
    ) -> Sealed {
        let images_len = images.clone().map(<[u8]>::len).sum();
        let at = |offset| Position::new(self.epoch, self.file, offset);
        let header = BlockHeader {
            length: self.front_len() + images_len,
            begins_inside: self.begins_inside,
            ends_inside,
            first: at(self.marks.first),
            last: at(self.marks.last),
            end: at(if ends_inside { self.marks.last } else { self.marks.end }),
            commit_time_us: self.marks.commit_time_us,
            items: self.items,
            rows: self.rows,
            schemas: u16::try_from(self.schemas.len()).unwrap_or(u16::MAX),
            name_len: self.file_name.len(),
            schemas_len: self.schemas_len,
            index_len: self.index.len(),
            images_len,
        };
        let mut out = Vec::with_capacity(header.length);
        header.write(&mut out);
        out.put(self.file_name.as_bytes());
        for schema in &self.schemas {
            let definition = schema.definition.as_deref().unwrap_or_default();
            out.put_u64(schema.id.0);
            out.put_len(definition.len());
            out.put(definition);
        }
        out.put(&self.index);
        for image in images {
            out.put(image);
        }
        let crc = crc(&out);
        patch(&mut out, CRC_AT, &crc.to_le_bytes());
        Sealed::new(Bytes::from(out), header)
    }
}

fn patch(out: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = out.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}
