//! The shape of Maxwell's daemon.

use super::RowContext;
use super::common::{self, member, optional};
use super::wkt;
use crate::decode::query::Words;
use crate::decode::rows::Values;
use crate::decode::{DecodeError, text, write_int, write_uint, write_value};
use crate::event::Op;
use crate::schema::{Column, ColumnKind};

pub(super) fn message(row: &RowContext<'_>, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let change = &row.change;
    let schema = change.schema.as_ref();
    let start = &row.txn.start;
    out.reserve(384 + (change.before.len() + change.after.len()) * 2);
    out.extend_from_slice(b"{\"database\":");
    text::write_str(&schema.database, out);
    member("table", out);
    optional(common::table(schema), out);
    if change.op.is_statement() {
        let statement = common::statement(row)?;
        member("type", out);
        text::write_str(statement_type(change.op, &statement.sql), out);
        member("ts", out);
        write_int(start.commit_time_us / 1000, out);
        member("sql", out);
        text::write_str(&statement.sql, out);
    } else {
        member("type", out);
        out.extend_from_slice(match change.op {
            Op::Update => b"\"update\"",
            Op::Delete => b"\"delete\"",
            Op::Read => b"\"bootstrap-insert\"",
            Op::Insert | Op::Truncate | Op::Ddl => b"\"insert\"",
        });
        member("ts", out);
        write_int(start.commit_time_us / 1_000_000, out);
        // As there: a row of a snapshot is of no transaction.
        if change.op != Op::Read {
            transaction(row, out);
        }
    }
    member("position", out);
    common::place(row, out);
    member("gtid", out);
    optional(start.gtid.as_deref(), out);
    if !change.op.is_statement() {
        member("data", out);
        let data = if change.after.is_empty() { change.before } else { change.after };
        common::image(schema, data, out, value)?;
        if change.op == Op::Update {
            member("old", out);
            old(row, out)?;
        }
        common::flags(row, &common::FLAGS, out)?;
    }
    out.push(b'}');
    Ok(())
}

/// Which transaction, and where in it.
fn transaction(row: &RowContext<'_>, out: &mut Vec<u8>) {
    member("xid", out);
    write_uint(row.txn.start.position.scn().0, out);
    if row.row.saturating_add(1) >= row.txn.rows {
        out.extend_from_slice(b",\"commit\":true");
    } else {
        member("xoffset", out);
        write_uint(row.row, out);
    }
}

pub(super) fn key(row: &RowContext<'_>, out: &mut Vec<u8>) -> Result<bool, DecodeError> {
    let start = out.len();
    let schema = row.change.schema.as_ref();
    out.extend_from_slice(b"{\"database\":");
    text::write_str(&schema.database, out);
    member("table", out);
    text::write_str(&schema.table, out);
    out.push(b',');
    let keyed = common::key_members(row, "pk.", out, value)?;
    if keyed {
        out.push(b'}');
    } else {
        out.truncate(start);
    }
    Ok(keyed)
}

/// Maxwell's word for a statement, from its first words.
fn statement_type(op: Op, sql: &str) -> &'static str {
    if op == Op::Truncate {
        return "table-truncate";
    }
    let mut words = Words::of_meant(sql.as_bytes());
    let (verb, mut object) = (words.keyword(), words.keyword());
    while matches!(
        object.as_str(),
        "OR" | "REPLACE" | "ONLINE" | "OFFLINE" | "IGNORE" | "UNIQUE" | "FULLTEXT" | "SPATIAL"
    ) {
        object = words.keyword();
    }
    match (verb.as_str(), object.as_str()) {
        ("CREATE", "DATABASE" | "SCHEMA") => "database-create",
        ("DROP", "DATABASE" | "SCHEMA") => "database-drop",
        (_, "DATABASE" | "SCHEMA") => "database-alter",
        ("CREATE", object) if object != "INDEX" => "table-create",
        ("DROP", object) if object != "INDEX" => "table-drop",
        _ => "table-alter",
    }
}

/// The former values of the columns that changed.
fn old(row: &RowContext<'_>, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let schema = row.change.schema.as_ref();
    let mut after = Values::new(schema, row.change.after)?;
    let mut next = after.next()?;
    let mut before = Values::new(schema, row.change.before)?;
    out.push(b'{');
    let mut first = true;
    while let Some((index, column, former)) = before.next()? {
        while next.is_some_and(|(at, ..)| at < index) {
            next = after.next()?;
        }
        // A column that the new image lacks (MINIMAL) did not change.
        let Some((_, _, now)) = next.filter(|(at, ..)| *at == index) else { continue };
        if now == former {
            continue;
        }
        if !first {
            out.push(b',');
        }
        first = false;
        text::write_str(&column.name, out);
        out.push(b':');
        match former {
            Some(bytes) => value(column, bytes, out)?,
            None => out.extend_from_slice(b"null"),
        }
    }
    out.push(b'}');
    Ok(())
}

fn value(column: &Column, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let start = out.len();
    if let ColumnKind::Geometry { .. } = &column.kind {
        wkt::write(bytes, out);
        return Ok(());
    }
    write_value(&column.kind, bytes, out)?;
    if matches!(column.kind, ColumnKind::Decimal { .. }) {
        unquote(start, out);
    } else if matches!(column.kind, ColumnKind::DateTime { .. } | ColumnKind::OldDateTime) {
        space_for_t(start, out);
    } else if matches!(column.kind, ColumnKind::Timestamp { .. } | ColumnKind::OldTimestamp) {
        space_for_t(start, out);
        // The Z before the closing quote.
        if out.len() >= start + 2 {
            out.remove(out.len() - 2);
        }
    }
    Ok(())
}

fn unquote(start: usize, out: &mut Vec<u8>) {
    if out.get(start) == Some(&b'"') {
        out.pop();
        out.remove(start);
    }
}

/// `2026-11-22T15:02:53` becomes `2026-11-22 15:02:53`.
fn space_for_t(start: usize, out: &mut [u8]) {
    if let Some(byte) = out.get_mut(start + 11).filter(|byte| **byte == b'T') {
        *byte = b' ';
    }
}
