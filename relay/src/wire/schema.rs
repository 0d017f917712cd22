//! A schema's definition as blocks and frames carry it.

use super::block::BlockError;
use super::codec::{Input, Malformed, Output};
use crate::schema::{Column, SchemaId, TableSchema};

/// The serialized form.
pub fn bytes(schema: &TableSchema) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_text(&schema.database);
    out.put_text(&schema.table);
    out.put_len(schema.columns.len());
    for column in &schema.columns {
        out.put_text(&column.name);
    }
    out.put_len(schema.key.len());
    for at in &schema.key {
        out.put_len(*at);
    }
    out
}

/// Reads it back.
pub fn parse(id: SchemaId, definition: &[u8]) -> Result<TableSchema, BlockError> {
    let what = "schema definition";
    let mut input = Input::new(definition);
    let (database, table) = (input.text(what)?.to_owned(), input.text(what)?.to_owned());
    let mut schema = TableSchema { id, database, table, columns: Vec::new(), key: Vec::new() };
    for _ in 0..input.u32(what)? {
        schema.columns.push(Column { name: input.text(what)?.to_owned() });
    }
    for _ in 0..input.u32(what)? {
        schema.key.push(input.len32(what)?);
    }
    if input.is_empty() { Ok(schema) } else { Err(Malformed { what }.into()) }
}
