//! Table maps and rows.

use super::{Assembler, Cached, Scratch, StreamError, Table};
use crate::config::Oversize;
use crate::decode::rows::{self, Encoding, RowImage, RowsKind};
use crate::decode::{Bytes, DecodeError, event, key, partial, table_map};
use crate::event::{Op, RowChange, TransactionSink};
use crate::schema::TableName;
use std::sync::Arc;

/// Table definitions kept for reuse; beyond it the memory is emptied and fills again.
const MAX_CACHED_TABLES: usize = 4096;

impl Assembler {
    pub(super) fn table_map<S: TransactionSink>(&mut self, body: &[u8]) -> Result<(), StreamError<S::Error>> {
        if !self.reading() {
            return Ok(());
        }
        let name = table_map::name(body, self.wide_ids)?;
        let definition = body.get(if self.wide_ids { 8 } else { 6 }..).unwrap_or_default();
        let hash = xxhash_rust::xxh3::xxh3_64(definition);
        let known = self.cache.get(&hash).filter(|cached| cached.definition == definition);
        let table = if let Some(cached) = known {
            cached.table.clone()
        } else {
            let table = self.table::<S>(&name)?;
            if self.cache.len() >= MAX_CACHED_TABLES {
                self.cache.clear();
            }
            self.cache.insert(hash, Cached { definition: definition.to_vec(), table: table.clone() });
            table
        };
        self.maps.retain(|(id, _)| *id != name.table_id);
        self.maps.push((name.table_id, table));
        Ok(())
    }

    fn table<S: TransactionSink>(
        &mut self,
        name: &table_map::TableName<'_>,
    ) -> Result<Option<Arc<Table>>, StreamError<S::Error>> {
        if !self.tables.table(name.database, name.table) {
            return Ok(None);
        }
        let definition = table_map::definition(name)?;
        let mut declared = None;
        if let Some(definitions) = &mut self.definitions
            && (!definition.names_columns() || definition.is_ambiguous(name, self.flavor)?)
        {
            let position = self.txn.as_ref().map_or(self.boundary, |txn| txn.start.position);
            let table = TableName::new(name.database, name.table);
            declared = definitions.table(position, &table);
            if declared.is_none() {
                return Err(StreamError::Unknown { table, position });
            }
        }
        let schema = definition.schema(name, self.flavor, declared.as_deref())?;
        let excluded: Vec<bool> = schema
            .columns
            .iter()
            .map(|column| self.columns.excludes(name.database, name.table, &column.name))
            .collect();
        if let Some(column) = schema.key.iter().find(|index| excluded.get(**index) == Some(&true)) {
            let column = schema.columns.get(*column).map_or("", |c| c.name.as_str());
            let table = format!("{}.{}", name.database, name.table);
            return Err(DecodeError::ExcludedKey { table, column: column.to_owned() }.into());
        }
        let schema = Arc::new(schema);
        let excluded = excluded.contains(&true).then_some(excluded);
        let seen = match &excluded {
            Some(excluded) => Arc::new(schema.without(excluded)),
            None => Arc::clone(&schema),
        };
        Ok(Some(Arc::new(Table { schema, seen, excluded })))
    }

    pub(super) fn rows<S: TransactionSink>(
        &mut self,
        parsed: &rows::Rows<'_>,
        kind: RowsKind,
        encoding: Encoding,
        sink: &mut S,
    ) -> Result<(), StreamError<S::Error>> {
        let Some(table) = self.wanted(parsed)? else { return Ok(()) };
        if self.txn.as_ref().is_some_and(|txn| txn.branch.is_some()) {
            return self.branch_rows(parsed, kind, encoding, &table);
        }
        self.begin(sink)?;
        let mut scratch = std::mem::take(&mut self.scratch);
        let done = self.each_row(parsed, kind, encoding, &table, &mut scratch, sink);
        self.scratch = scratch;
        done
    }

    /// The table of a rows event; none when its rows are passed over.
    pub(super) fn wanted(&self, parsed: &rows::Rows<'_>) -> Result<Option<Arc<Table>>, DecodeError> {
        /// Ends a statement without rows.
        const DUMMY_TABLE_ID: u64 = 0x00ff_ffff;
        if !self.reading() {
            return Ok(None);
        }
        let Some((_, table)) = self.maps.iter().find(|(id, _)| *id == parsed.table_id) else {
            if parsed.table_id == DUMMY_TABLE_ID {
                return Ok(None);
            }
            return Err(DecodeError::Invalid("rows event without its table map"));
        };
        if table.as_ref().is_some_and(|table| parsed.columns != table.schema.columns.len()) {
            return Err(DecodeError::Invalid("column count of a rows event"));
        }
        Ok(table.clone())
    }

    pub(super) fn each_row<S: TransactionSink>(
        &mut self,
        parsed: &rows::Rows<'_>,
        kind: RowsKind,
        encoding: Encoding,
        table: &Table,
        scratch: &mut Scratch,
        sink: &mut S,
    ) -> Result<(), StreamError<S::Error>> {
        let schema = &table.schema;
        let data = if encoding == Encoding::Compressed {
            event::maria_inflate(parsed.data, &mut scratch.inflated)?;
            scratch.inflated.as_slice()
        } else {
            parsed.data
        };
        let mut input = Bytes::new(data, "row");
        let put = |image: RowImage<'_>, out: &mut Vec<u8>| {
            out.clear();
            out.extend_from_slice(image.present);
            out.extend_from_slice(image.row);
        };
        let (op, has_before, has_after) = match kind {
            RowsKind::Write => (Op::Insert, false, true),
            RowsKind::Update => (Op::Update, true, true),
            RowsKind::Delete => (Op::Delete, true, false),
        };
        let present_after = if has_before { parsed.present_after } else { parsed.present };
        let merged = kind == RowsKind::Update
            && !rows::is_whole(parsed.present_after, schema.columns.len())
            && rows::touches(&schema.key, parsed.present_after);
        while !input.is_empty() {
            let remaining = input.rest().len();
            let (mut before, mut after) = (NONE, NONE);
            let mut steps = None;
            if has_before {
                before = RowImage {
                    present: parsed.present,
                    row: rows::take_row(schema, parsed.present, &mut input)?,
                };
            }
            if has_after {
                if encoding == Encoding::Partial {
                    steps = partial::take_steps(schema, &mut input)?;
                }
                after = RowImage {
                    present: present_after,
                    row: rows::take_row(schema, present_after, &mut input)?,
                };
            }
            if input.rest().len() == remaining {
                return Err(DecodeError::Invalid("row without bytes").into());
            }
            scratch.before.clear();
            scratch.after.clear();
            let mut bytes = before.row.len() + after.row.len() + parsed.cut;
            if let Some(steps) = steps.filter(|_| bytes <= self.limit.bytes) {
                partial::restore(schema, steps, before, after, &mut scratch.after)?;
                bytes = before.row.len() + scratch.after.len();
            }
            if bytes > self.limit.bytes {
                let (old, new) = (&mut scratch.before, &mut scratch.after);
                self.oversize(table, bytes, [(before, old), (after, new)])?;
            } else {
                if has_before {
                    put(before, &mut scratch.before);
                }
                if has_after && steps.is_none() {
                    put(after, &mut scratch.after);
                }
                if merged {
                    // A changed key makes two changes of this one, and the new row must stand by itself.
                    rows::merge(schema, &scratch.before, &scratch.after, &mut scratch.merged)?;
                    std::mem::swap(&mut scratch.after, &mut scratch.merged);
                }
                if let Some(excluded) = &table.excluded {
                    for image in [&mut scratch.before, &mut scratch.after] {
                        if !image.is_empty() {
                            rows::strip(schema, excluded, image, &mut scratch.merged)?;
                            std::mem::swap(image, &mut scratch.merged);
                        }
                    }
                }
            }
            let schema = &table.seen;
            let (before, after) = (scratch.before.as_slice(), scratch.after.as_slice());
            let key_hash_before =
                if has_before { key::hash(schema, before, &[], &mut scratch.key)? } else { 0 };
            let key_hash = if after.is_empty() {
                key_hash_before
            } else {
                key::hash(schema, after, before, &mut scratch.key)?
            };
            let key_hash_before = if has_before { key_hash_before } else { key_hash };
            sink.row(RowChange { op, schema, key_hash_before, key_hash, before, after })
                .map_err(StreamError::Sink)?;
            self.counts.rows += 1;
            match kind {
                RowsKind::Write => self.counts.inserts += 1,
                RowsKind::Update => self.counts.updates += 1,
                RowsKind::Delete => self.counts.deletes += 1,
            }
        }
        Ok(())
    }

    /// A row with more bytes than the source allows: an error, or the images of its key alone.
    #[cold]
    fn oversize(
        &mut self,
        table: &Table,
        bytes: usize,
        images: [(RowImage<'_>, &mut Vec<u8>); 2],
    ) -> Result<(), DecodeError> {
        let schema = table.schema.as_ref();
        let name = format!("{}.{}", schema.database, schema.table);
        if self.limit.oversize == Oversize::Stop {
            return Err(DecodeError::RowTooLarge { table: name, bytes, limit: self.limit.bytes });
        }
        let excluded = table.excluded.as_deref().unwrap_or_default();
        for (image, out) in images {
            if !image.row.is_empty() {
                rows::leave_out(schema, excluded, image, bytes, out)?;
            }
        }
        self.counts.oversize += 1;
        self.oversize_table = Some(name);
        Ok(())
    }
}

/// No image.
const NONE: RowImage<'static> = RowImage { present: &[], row: &[] };
