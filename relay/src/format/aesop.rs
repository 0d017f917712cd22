//! The native shape.

use super::RowContext;
use super::common::{self, boolean, optional};
use crate::decode::{DecodeError, text, write_micros, write_uint, write_value};
use crate::event::{Op, TxnHeader};
use crate::schema::Column;

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
    if change.op.is_statement() {
        optional(common::table(schema), out);
        out.extend_from_slice(b",\"sql\":");
        text::write_str(&common::statement(row)?.sql, out);
    } else {
        text::write_str(&schema.table, out);
        out.extend_from_slice(b",\"key\":");
        if !key(row, out)? {
            out.extend_from_slice(b"null");
        }
        out.extend_from_slice(b",\"before\":");
        common::image(schema, change.before, out, plain)?;
        out.extend_from_slice(b",\"after\":");
        common::image(schema, change.after, out, plain)?;
        common::flags(row, &common::FLAGS, out)?;
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
        common::place(row, out);
    }
    out.extend_from_slice(b",\"rows\":");
    if row.txn.rows == TxnHeader::UNKNOWN_ROWS {
        out.extend_from_slice(b"null");
    } else {
        write_uint(row.txn.rows, out);
    }
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

/// A value, as docs/formats.md lists them.
pub(super) fn plain(column: &Column, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), DecodeError> {
    write_value(&column.kind, bytes, out)
}

pub(super) fn key(row: &RowContext<'_>, out: &mut Vec<u8>) -> Result<bool, DecodeError> {
    let start = out.len();
    out.push(b'{');
    let keyed = common::key_members(row, "", out, plain)?;
    if keyed {
        out.push(b'}');
    } else {
        out.truncate(start);
    }
    Ok(keyed)
}
