//! What of a block a stream gets by table and column, behind the filter by partition.
//!
//! Images are those of a table that has only the wanted columns and its key. An update that changes none of them is left
//! out: for the stream the row is what it was.

use super::filter::{OpenTxn, malformed};
use super::{BlockBuilder, BlockError, Entry, Filtered, NewSchema, RowEntry, Sealed};
use crate::decode::DecodeError;
use crate::decode::filter::TableFilter;
use crate::decode::rows;
use crate::decode::touch::touch;
use crate::event::{Op, Statement};
use crate::schema::{SchemaId, TableSchema, Touch};
use crate::wire::Selection;
use bytes::Bytes;
use std::collections::HashMap;

/// Schemas whose choice is kept; beyond it they are chosen anew.
const MAX_CHOICES: usize = 4096;

/// What becomes of the rows of a schema.
enum Choice {
    /// Of a table that is not wanted.
    Leave,
    /// As they are.
    Whole,
    /// DDL and TRUNCATE: looked at one by one.
    Statements(TableSchema),
    /// Some columns of them.
    Columns(Box<Columns>),
}

struct Columns {
    schema: TableSchema,
    excluded: Vec<bool>,
    /// Without the excluded ones.
    seen: TableSchema,
}

/// The selection of one stream; sees each of its blocks once, in order.
pub struct Selector {
    selection: Selection,
    tables: TableFilter,
    choices: HashMap<SchemaId, Choice>,
    /// Of the tables as the stream sees them.
    definitions: HashMap<SchemaId, Bytes>,
    open: Option<OpenTxn>,
    before: Vec<u8>,
    after: Vec<u8>,
}

impl std::fmt::Debug for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Selector").field("selection", &self.selection).finish_non_exhaustive()
    }
}

impl Selector {
    /// None where everything is wanted.
    pub fn new(selection: Selection) -> Option<Self> {
        if selection.is_all() {
            return None;
        }
        let tables = selection.table_filter();
        Some(Self {
            selection,
            tables,
            choices: HashMap::new(),
            definitions: HashMap::new(),
            open: None,
            before: Vec::new(),
            after: Vec::new(),
        })
    }

    /// The definition of a table as the stream sees it.
    pub fn definition(&self, id: SchemaId) -> Option<Bytes> {
        self.definitions.get(&id).cloned()
    }

    /// Takes the stream's part out of its next block. `known` are definitions that came before.
    pub fn apply(
        &mut self,
        block: &Sealed,
        known: impl Fn(SchemaId) -> Option<Bytes>,
    ) -> Result<Filtered, BlockError> {
        let header = *block.header();
        let slots = block.schemas()?;
        if self.choices.len() >= MAX_CHOICES {
            self.choices.clear();
            self.definitions.clear();
        }
        for (id, definition) in &slots {
            if !self.choices.contains_key(id) {
                let definition =
                    definition.clone().or_else(|| known(*id)).ok_or(BlockError::UnknownSchema(id.0))?;
                let choice = self.choose(TableSchema::parse(&definition)?);
                self.choices.insert(*id, choice);
            }
        }
        if !header.begins_inside {
            self.open = None;
        }
        let whole = slots.iter().all(|(id, _)| matches!(self.choices.get(id), Some(Choice::Whole)));
        let mut out = BlockBuilder::new(header.last, block.file_name()?.into());
        let (mut kept_any, mut left_any) = (false, false);
        let mut entries = block.entries()?;
        while let Some(entry) = entries.next()? {
            match entry {
                Entry::Txn(txn) => self.open = Some(OpenTxn::of(&txn)),
                Entry::Row(row) => {
                    if whole {
                        self.open.as_mut().ok_or(BlockError::NoTransaction)?.sent = true;
                        continue;
                    }
                    let (id, _) =
                        slots.get(usize::from(row.slot)).ok_or_else(|| malformed("row schema slot"))?;
                    let Some(seen) = self.row(block.bytes(), *id, &row)? else {
                        left_any = true;
                        continue;
                    };
                    let open = self.open.as_mut().ok_or(BlockError::NoTransaction)?;
                    if !open.sent {
                        open.sent = true;
                        out.begin_entry(&open.entry());
                    } else if !kept_any {
                        out.set_begins_inside();
                    }
                    kept_any = true;
                    let slot =
                        out.slot(seen).or_else(|| out.add_schema(NewSchema { id: seen, definition: None }));
                    let slot = slot.ok_or_else(|| malformed("block schema count"))?;
                    out.copy_row(slot, &row, &self.before, &self.after);
                }
                Entry::Covered { .. } => {}
            }
        }
        out.set_end(&header);
        if whole {
            return Ok(Filtered::Whole);
        }
        debug_assert!(kept_any || left_any || header.rows == 0, "a row is kept or left");
        Ok(if kept_any { Filtered::Repacked(out.seal(header.ends_inside)) } else { Filtered::Nothing })
    }

    fn choose(&mut self, schema: TableSchema) -> Choice {
        if schema.columns.is_empty() {
            return Choice::Statements(schema);
        }
        if !self.tables.table(&schema.database, &schema.table) {
            return Choice::Leave;
        }
        let excluded: Vec<bool> = schema
            .columns
            .iter()
            .enumerate()
            .map(|(index, column)| {
                !schema.key.contains(&index)
                    && !self.selection.wants_column(&schema.database, &schema.table, &column.name)
            })
            .collect();
        if !excluded.contains(&true) {
            return Choice::Whole;
        }
        let seen = schema.without(&excluded);
        self.definitions.insert(seen.id, seen.serialize().into());
        Choice::Columns(Box::new(Columns { schema, excluded, seen }))
    }

    /// Puts a row's images as the stream sees them into `before` and `after`, and tells their schema; none where the row
    /// is not wanted.
    fn row(&mut self, bytes: &[u8], id: SchemaId, row: &RowEntry) -> Result<Option<SchemaId>, BlockError> {
        let before = bytes.get(row.before.clone()).ok_or_else(|| malformed("row before image"))?;
        let after = bytes.get(row.after.clone()).ok_or_else(|| malformed("row after image"))?;
        let wanted = match self.choices.get(&id) {
            None => return Err(BlockError::UnknownSchema(id.0)),
            Some(Choice::Leave) => None,
            Some(Choice::Statements(schema)) => {
                wants_statement(&self.tables, row.op, schema, after).then_some(id)
            }
            Some(Choice::Whole) => Some(id),
            Some(Choice::Columns(columns)) => {
                let changed = columns.take([(before, &mut self.before), (after, &mut self.after)]);
                let changed = changed.map_err(|_: DecodeError| malformed("row image"))?;
                let is_wanted = changed || row.op != Op::Update || row.key_hash_before != row.key_hash;
                return Ok(is_wanted.then_some(columns.seen.id));
            }
        };
        self.before.clear();
        self.before.extend_from_slice(before);
        self.after.clear();
        self.after.extend_from_slice(after);
        Ok(wanted)
    }
}

impl Columns {
    /// Copies images without the excluded columns. Whether a column that is left differs between them.
    fn take(&self, images: [(&[u8], &mut Vec<u8>); 2]) -> Result<bool, DecodeError> {
        let mut changed = false;
        let [(old, before), (new, after)] = images;
        for (image, out) in [(old, &mut *before), (new, &mut *after)] {
            out.clear();
            if image.is_empty() {
                continue;
            }
            rows::strip(&self.schema, &self.excluded, image, out)?;
            // A row that was left out for its size says so behind its values, and nobody knows what changed.
            if let Some(bytes) = rows::left_out(&self.schema, image)? {
                out.extend_from_slice(&bytes.to_le_bytes());
                changed = true;
            }
        }
        Ok(changed || old.is_empty() || new.is_empty() || rows::differs(&self.seen, before, after)?)
    }
}

/// Whether a statement may concern a wanted table.
fn wants_statement(tables: &TableFilter, op: Op, schema: &TableSchema, after: &[u8]) -> bool {
    if op == Op::Truncate {
        return tables.table(&schema.database, &schema.table);
    }
    let Ok(statement) = serde_json::from_slice::<Statement>(after) else { return true };
    let names = match touch(&statement.sql, &statement.database) {
        Some(Touch::Changed(names)) => names,
        Some(Touch::Renamed(pairs)) => pairs.into_iter().flat_map(|(from, to)| [from, to]).collect(),
        Some(Touch::Database(_) | Touch::Everything) | None => return tables.database(&schema.database),
    };
    names.iter().any(|name| tables.table(&name.database, &name.table))
}
