//! The native shape.

use super::RowContext;
use crate::decode::rows::Values;
use crate::decode::{DecodeError, key as row_key, text, write_micros, write_uint, write_value};
use crate::event::{Op, Statement};
use crate::schema::TableSchema;

pub(super) fn value(row: &RowContext<'_>, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let change = &row.change;
    let schema = change.schema.as_ref();
    out.reserve(512 + (change.before.len() + change.after.len()) * 2);
    out.extend_from_slice(b"{\"op\":\"");
    out.extend_from_slice(op_name(change.op).as_bytes());
    out.extend_from_slice(b"\",\"source\":");
    text::write_str(row.source, out);
    out.extend_from_slice(b",\"database\":");
    text::write_str(&schema.database, out);
    out.extend_from_slice(b",\"table\":");
    if matches!(change.op, Op::Ddl | Op::Truncate) {
        if schema.table.is_empty() {
            out.extend_from_slice(b"null");
        } else {
            text::write_str(&schema.table, out);
        }
        let statement: Statement =
            serde_json::from_slice(change.after).map_err(|_| DecodeError::Invalid("statement"))?;
        out.extend_from_slice(b",\"sql\":");
        text::write_str(&statement.sql, out);
    } else {
        text::write_str(&schema.table, out);
        out.extend_from_slice(b",\"key\":");
        if !key(row, out)? {
            out.extend_from_slice(b"null");
        }
        out.extend_from_slice(b",\"before\":");
        image(schema, change.before, out)?;
        out.extend_from_slice(b",\"after\":");
        image(schema, change.after, out)?;
    }
    tail(row, out);
    Ok(())
}

/// What all messages end with: where and when.
fn tail(row: &RowContext<'_>, out: &mut Vec<u8>) {
    let start = &row.txn.start;
    out.extend_from_slice(b",\"scn\":");
    write_uint(start.position.scn().0, out);
    out.extend_from_slice(b",\"row\":");
    write_uint(row.row, out);
    out.extend_from_slice(b",\"txn\":{\"id\":");
    if let Some(gtid) = &start.gtid {
        text::write_str(gtid, out);
    } else {
        // Nothing but the position names it.
        out.push(b'"');
        out.extend_from_slice(start.file_name.as_bytes());
        out.push(b':');
        write_uint(start.position.offset, out);
        out.push(b'"');
    }
    out.extend_from_slice(b",\"rows\":");
    write_uint(row.txn.rows, out);
    out.extend_from_slice(b",\"last\":");
    boolean(row.row.saturating_add(1) >= row.txn.rows, out);
    out.extend_from_slice(b"},\"position\":{\"file\":");
    text::write_str(&start.file_name, out);
    out.extend_from_slice(b",\"offset\":");
    write_uint(start.position.offset, out);
    out.extend_from_slice(b"},\"server_id\":");
    write_uint(u64::from(start.server_id), out);
    out.extend_from_slice(b",\"commit_time\":\"");
    write_micros(start.commit_time_us, out);
    out.extend_from_slice(b"\",\"snapshot\":");
    boolean(row.snapshot, out);
    out.push(b'}');
}

fn boolean(value: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

fn op_name(op: Op) -> &'static str {
    match op {
        Op::Insert => "insert",
        Op::Update => "update",
        Op::Delete => "delete",
        Op::Read => "read",
        Op::Truncate => "truncate",
        Op::Ddl => "ddl",
    }
}

fn image(schema: &TableSchema, image: &[u8], out: &mut Vec<u8>) -> Result<(), DecodeError> {
    if image.is_empty() {
        out.extend_from_slice(b"null");
        return Ok(());
    }
    out.push(b'{');
    let mut first = true;
    let mut values = Values::new(schema, image)?;
    while let Some((_, column, value)) = values.next()? {
        if !first {
            out.push(b',');
        }
        first = false;
        text::write_str(&column.name, out);
        out.push(b':');
        match value {
            Some(bytes) => write_value(&column.kind, bytes, out)?,
            None => out.extend_from_slice(b"null"),
        }
    }
    out.push(b'}');
    Ok(())
}

pub(super) fn key(row: &RowContext<'_>, out: &mut Vec<u8>) -> Result<bool, DecodeError> {
    let change = &row.change;
    let schema = change.schema.as_ref();
    if schema.key.is_empty() || matches!(change.op, Op::Ddl | Op::Truncate) {
        return Ok(false);
    }
    // An image that lacks a key column (MINIMAL) leaves it to the other one.
    let (image, other) =
        if change.after.is_empty() { (change.before, change.after) } else { (change.after, change.before) };
    out.push(b'{');
    for (i, index) in schema.key.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        let name = schema.columns.get(*index).map_or("", |column| column.name.as_str());
        text::write_str(name, out);
        out.push(b':');
        row_key::write_column(schema, *index, image, other, out)?;
    }
    out.push(b'}');
    Ok(true)
}
