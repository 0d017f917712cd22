//! The shape of Debezium's MySQL connector: the envelope without its schema.

use super::RowContext;
use super::common::{self, member, optional};
use crate::decode::{DecodeError, text, write_int, write_uint, write_value};
use crate::event::Op;
use crate::schema::{Column, ColumnKind};

/// Stands where Debezium says its own version.
const VERSION: &str = concat!("aesop-", env!("CARGO_PKG_VERSION"));

pub(super) fn message(row: &RowContext<'_>, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let change = &row.change;
    let schema = change.schema.as_ref();
    out.reserve(640 + (change.before.len() + change.after.len()) * 2);
    if change.op == Op::Ddl {
        return schema_change(row, out);
    }
    let (before, after) =
        if change.op == Op::Truncate { (&[][..], &[][..]) } else { (change.before, change.after) };
    out.extend_from_slice(b"{\"before\":");
    common::image(schema, before, out, value)?;
    member("after", out);
    common::image(schema, after, out, value)?;
    source(row, out);
    out.extend_from_slice(b",\"transaction\":null,\"op\":\"");
    out.push(match change.op {
        Op::Insert => b'c',
        Op::Update => b'u',
        Op::Delete => b'd',
        Op::Read => b'r',
        Op::Truncate | Op::Ddl => b't',
    });
    out.push(b'"');
    times(row, out);
    common::flags(row, &common::FLAGS, out)?;
    out.push(b'}');
    Ok(())
}

pub(super) fn key(row: &RowContext<'_>, out: &mut Vec<u8>) -> Result<bool, DecodeError> {
    let start = out.len();
    out.push(b'{');
    let keyed = common::key_members(row, "", out, value)?;
    if keyed {
        out.push(b'}');
    } else {
        out.truncate(start);
    }
    Ok(keyed)
}

/// A record of the schema change topic.
fn schema_change(row: &RowContext<'_>, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let statement = common::statement(row)?;
    let start = out.len();
    source(row, out);
    if let Some(comma) = out.get_mut(start) {
        *comma = b'{';
    }
    member("ts_ms", out);
    write_int(row.txn.start.commit_time_us / 1000, out);
    member("databaseName", out);
    text::write_str(&row.change.schema.database, out);
    out.extend_from_slice(b",\"schemaName\":null,\"ddl\":");
    text::write_str(&statement.sql, out);
    out.extend_from_slice(b",\"tableChanges\":[]}");
    Ok(())
}

fn source(row: &RowContext<'_>, out: &mut Vec<u8>) {
    let start = &row.txn.start;
    member("source", out);
    out.extend_from_slice(b"{\"version\":\"");
    out.extend_from_slice(VERSION.as_bytes());
    out.extend_from_slice(b"\",\"connector\":\"mysql\",\"name\":");
    text::write_str(row.source, out);
    member("ts_ms", out);
    write_int(start.commit_time_us / 1000, out);
    let is_last = row.row.saturating_add(1) >= row.txn.rows;
    out.extend_from_slice(match (row.snapshot, is_last) {
        (true, true) => b",\"snapshot\":\"last\",\"db\":",
        (true, false) => b",\"snapshot\":\"true\",\"db\":",
        (false, _) => b",\"snapshot\":\"false\",\"db\":",
    });
    text::write_str(&row.change.schema.database, out);
    out.extend_from_slice(b",\"sequence\":null,\"ts_us\":");
    write_int(start.commit_time_us, out);
    member("ts_ns", out);
    write_int(start.commit_time_us.saturating_mul(1000), out);
    member("table", out);
    optional(common::table(row.change.schema), out);
    member("server_id", out);
    write_uint(u64::from(start.server_id), out);
    member("gtid", out);
    optional(start.gtid.as_deref(), out);
    member("file", out);
    text::write_str(&start.file_name, out);
    member("pos", out);
    write_uint(start.position.offset, out);
    member("row", out);
    write_uint(row.row, out);
    out.extend_from_slice(b",\"thread\":null,\"query\":null}");
}

/// The envelope's own times; the commit's here, so that a message is the same whoever writes it, and when.
fn times(row: &RowContext<'_>, out: &mut Vec<u8>) {
    let micros = row.txn.start.commit_time_us;
    member("ts_ms", out);
    write_int(micros / 1000, out);
    member("ts_us", out);
    write_int(micros, out);
    member("ts_ns", out);
    write_int(micros.saturating_mul(1000), out);
}

fn value(column: &Column, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let start = out.len();
    if let ColumnKind::Geometry { .. } = &column.kind {
        geometry(bytes, out);
        return Ok(());
    }
    // What is written here first is what the native shape has: checked, and where Debezium differs, replaced.
    write_value(&column.kind, bytes, out)?;
    if let ColumnKind::Bit { bits } = &column.kind {
        out.truncate(start);
        if *bits == 1 {
            common::boolean(bytes.first().is_some_and(|byte| byte & 1 == 1), out);
        } else {
            // Debezium's bits begin with the lowest byte, the server's with the highest.
            let lowest_first: Vec<u8> = bytes.iter().rev().copied().collect();
            text::write_base64(&lowest_first, out);
        }
    } else if let ColumnKind::Set { members, .. } = &column.kind {
        out.truncate(start);
        let bit = |i: usize| bytes.get(i / 8).is_some_and(|byte| byte >> (i % 8) & 1 == 1);
        let set: Vec<&str> =
            members.iter().enumerate().filter(|(i, _)| bit(*i)).map(|(_, name)| name.as_str()).collect();
        text::write_str(&set.join(","), out);
    } else if let ColumnKind::Json { .. } | ColumnKind::JsonText { .. } = &column.kind {
        let document = out.split_off(start);
        let document = std::str::from_utf8(&document).map_err(|_| DecodeError::Invalid("JSON document"))?;
        text::write_str(document, out);
    } else if let Some(unit) = unit(&column.kind) {
        temporal(column, unit, start, out);
    }
    Ok(())
}

fn unit(kind: &ColumnKind) -> Option<Unit> {
    if matches!(kind, ColumnKind::Date) {
        Some(Unit::Days)
    } else if matches!(kind, ColumnKind::DateTime { fraction: 0..=3 } | ColumnKind::OldDateTime) {
        Some(Unit::Millis)
    } else if matches!(kind, ColumnKind::DateTime { .. }) {
        Some(Unit::Micros)
    } else if matches!(kind, ColumnKind::Time { .. } | ColumnKind::OldTime) {
        Some(Unit::OfDay)
    } else if matches!(kind, ColumnKind::Timestamp { .. } | ColumnKind::OldTimestamp) {
        Some(Unit::Text)
    } else {
        None
    }
}

/// What Debezium counts a temporal type in.
enum Unit {
    /// Days since 1970.
    Days,
    /// Milliseconds since 1970.
    Millis,
    /// Microseconds since 1970.
    Micros,
    /// Microseconds of a time span.
    OfDay,
    /// Not at all.
    Text,
}

/// Replaces the text of a temporal value, from `start` on, with Debezium's number.
fn temporal(column: &Column, unit: Unit, start: usize, out: &mut Vec<u8>) {
    let written = out.split_off(start);
    let inner = written.get(1..written.len().saturating_sub(1)).unwrap_or_default();
    if matches!(unit, Unit::OfDay) {
        return write_int(span_us(inner), out);
    }
    let number = |from: usize, to: usize| number(inner.get(from..to).unwrap_or_default());
    let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
    let days = days(year, month, day);
    match (days, unit) {
        // No such day: what Debezium makes of it.
        (None, Unit::Text) if column.nullable => out.extend_from_slice(b"null"),
        (None, Unit::Text) => out.extend_from_slice(b"\"1970-01-01T00:00:00Z\""),
        (None, _) => out.extend_from_slice(if column.nullable { b"null" } else { b"0" }),
        (Some(_), Unit::Text) => out.extend_from_slice(&written),
        (Some(days), Unit::Days) => write_int(days, out),
        (Some(days), unit) => {
            let micros = days * 86_400_000_000 + span_us(inner.get(11..).unwrap_or_default());
            write_int(if matches!(unit, Unit::Millis) { micros.div_euclid(1000) } else { micros }, out);
        }
    }
}

fn number(digits: &[u8]) -> i64 {
    digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit.saturating_sub(b'0')))
}

/// Microseconds of `[-]h…h:mm:ss[.f…]`.
fn span_us(text: &[u8]) -> i64 {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = match text.iter().position(|byte| *byte == b'.') {
        Some(at) => (text.get(..at).unwrap_or_default(), text.get(at + 1..).unwrap_or_default()),
        None => (text, &[][..]),
    };
    let seconds = whole.split(|byte| *byte == b':').fold(0, |sum, part| sum * 60 + number(part));
    let micros =
        (0..6).fold(0, |micros, i| micros * 10 + fraction.get(i).map_or(0, |digit| number(&[*digit])));
    let span = seconds * 1_000_000 + micros;
    if negative { -span } else { span }
}

/// Days since 1970-01-01 of a day that there is, in the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let (month, day) = (i8::try_from(month).ok()?, i8::try_from(day).ok()?);
    let date = jiff::civil::Date::new(i16::try_from(year).ok()?, month, day).ok()?;
    // Year 0 is no year of MySQL's.
    if year == 0 {
        return None;
    }
    let since = date.since((jiff::Unit::Day, jiff::civil::date(1970, 1, 1))).ok()?;
    Some(i64::from(since.get_days()))
}

/// The reference system in front, then well-known binary.
fn geometry(bytes: &[u8], out: &mut Vec<u8>) {
    let (srid, wkb) =
        bytes.split_first_chunk::<4>().map_or((0, bytes), |(id, rest)| (u32::from_le_bytes(*id), rest));
    out.extend_from_slice(b"{\"wkb\":");
    text::write_base64(wkb, out);
    member("srid", out);
    write_uint(u64::from(srid), out);
    out.push(b'}');
}
