//! Table maps and rows.

use super::{Assembler, Cached, Scratch, StreamError, Table};
use crate::decode::rows::{self, RowsKind};
use crate::decode::{Bytes, DecodeError, event, key, table_map};
use crate::event::{Op, RowChange, TransactionSink};
use std::sync::Arc;

/// Table definitions kept for reuse; beyond it the memory is emptied and fills again.
const MAX_CACHED_TABLES: usize = 4096;

impl Assembler {
    pub(super) fn table_map(&mut self, body: &[u8]) -> Result<(), DecodeError> {
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
            let table = self.table(&name)?;
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

    fn table(&self, name: &table_map::TableName<'_>) -> Result<Option<Arc<Table>>, DecodeError> {
        if !self.tables.table(name.database, name.table) {
            return Ok(None);
        }
        let schema = table_map::schema(name, self.flavor)?;
        let excluded: Vec<bool> = schema
            .columns
            .iter()
            .map(|column| self.columns.excludes(name.database, name.table, &column.name))
            .collect();
        if let Some(column) = schema.key.iter().find(|index| excluded.get(**index) == Some(&true)) {
            let column = schema.columns.get(*column).map_or("", |c| c.name.as_str());
            return Err(DecodeError::Unsupported(format!(
                "{}.{}.{column} is in columns.exclude and in the primary key: take it out of columns.exclude, or \
                 leave the table out",
                name.database, name.table
            )));
        }
        let excluded = excluded.contains(&true).then_some(excluded);
        Ok(Some(Arc::new(Table { schema: Arc::new(schema), excluded })))
    }

    pub(super) fn rows<S: TransactionSink>(
        &mut self,
        parsed: &rows::Rows<'_>,
        kind: RowsKind,
        compressed: bool,
        sink: &mut S,
    ) -> Result<(), StreamError<S::Error>> {
        /// Ends a statement without rows.
        const DUMMY_TABLE_ID: u64 = 0x00ff_ffff;
        if !self.reading() {
            return Ok(());
        }
        let Some((_, table)) = self.maps.iter().find(|(id, _)| *id == parsed.table_id) else {
            if parsed.table_id == DUMMY_TABLE_ID {
                return Ok(());
            }
            return Err(DecodeError::Invalid("rows event without its table map").into());
        };
        let Some(table) = table.clone() else { return Ok(()) };
        if parsed.columns != table.schema.columns.len() {
            return Err(DecodeError::Invalid("column count of a rows event").into());
        }
        if self.txn.as_ref().is_some_and(|txn| txn.branch.is_some()) {
            return self.branch_rows(parsed, kind, compressed, &table);
        }
        self.begin(sink)?;
        let mut scratch = std::mem::take(&mut self.scratch);
        let done = self.each_row(parsed, kind, compressed, &table, &mut scratch, sink);
        self.scratch = scratch;
        done
    }

    pub(super) fn each_row<S: TransactionSink>(
        &mut self,
        parsed: &rows::Rows<'_>,
        kind: RowsKind,
        compressed: bool,
        table: &Table,
        scratch: &mut Scratch,
        sink: &mut S,
    ) -> Result<(), StreamError<S::Error>> {
        let schema = &table.schema;
        let data = if compressed {
            event::maria_inflate(parsed.data, &mut scratch.inflated)?;
            scratch.inflated.as_slice()
        } else {
            parsed.data
        };
        let mut input = Bytes::new(data, "row");
        let image = |present: &[u8], input: &mut Bytes<'_>, out: &mut Vec<u8>, stripped: &mut Vec<u8>| {
            let row = rows::take_row(schema, present, input)?;
            out.clear();
            out.extend_from_slice(present);
            out.extend_from_slice(row);
            match &table.excluded {
                Some(excluded) => rows::strip(schema, excluded, out, stripped),
                None => Ok(()),
            }
        };
        while !input.is_empty() {
            let remaining = input.rest().len();
            let (op, has_before) = match kind {
                RowsKind::Write => (Op::Insert, false),
                RowsKind::Update => (Op::Update, true),
                RowsKind::Delete => (Op::Delete, true),
            };
            scratch.before.clear();
            scratch.after.clear();
            scratch.stripped.clear();
            scratch.stripped_after.clear();
            if has_before {
                image(parsed.present, &mut input, &mut scratch.before, &mut scratch.stripped)?;
            }
            if kind != RowsKind::Delete {
                let present = if has_before { parsed.present_after } else { parsed.present };
                image(present, &mut input, &mut scratch.after, &mut scratch.stripped_after)?;
            }
            if input.rest().len() == remaining {
                return Err(DecodeError::Invalid("row without bytes").into());
            }
            if has_before
                && kind == RowsKind::Update
                && !rows::is_whole(parsed.present_after, schema.columns.len())
                && rows::touches(&schema.key, parsed.present_after)
            {
                // A changed key makes two changes of this one, and the new row must stand by itself.
                rows::merge(schema, &scratch.before, &scratch.after, &mut scratch.merged)?;
                std::mem::swap(&mut scratch.after, &mut scratch.merged);
                if let Some(excluded) = &table.excluded {
                    rows::strip(schema, excluded, &scratch.after, &mut scratch.stripped_after)?;
                }
            }
            let (before, after) = (scratch.before.as_slice(), scratch.after.as_slice());
            let key_hash_before =
                if has_before { key::hash(schema, before, &[], &mut scratch.key)? } else { 0 };
            let key_hash = if after.is_empty() {
                key_hash_before
            } else {
                key::hash(schema, after, before, &mut scratch.key)?
            };
            let (before, after) = if table.excluded.is_some() {
                (scratch.stripped.as_slice(), scratch.stripped_after.as_slice())
            } else {
                (before, after)
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
}
