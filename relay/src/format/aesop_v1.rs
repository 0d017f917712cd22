//! The shape of the first Aesop's events on Kafka.

use super::RowContext;
use super::aesop::plain;
use super::common::{self, member, optional};
use crate::decode::rows::Values;
use crate::decode::{DecodeError, text};
use crate::event::Op;

pub(super) fn message(row: &RowContext<'_>, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let change = &row.change;
    let schema = change.schema.as_ref();
    out.reserve(256 + (change.before.len() + change.after.len()) * 2);
    out.extend_from_slice(b"{\"KEY\":");
    let start = out.len();
    out.push(b'"');
    if key(row, out)? {
        let key = out.split_off(start + 1);
        out.truncate(start);
        text::write_str(std::str::from_utf8(&key).map_err(|_| DecodeError::Invalid("key"))?, out);
    } else {
        out.truncate(start);
        out.extend_from_slice(b"null");
    }
    member("ENTITY", out);
    optional(common::table(schema), out);
    member("NAMESPACE", out);
    text::write_str(&schema.database, out);
    member("OPCODE", out);
    out.extend_from_slice(match change.op {
        Op::Insert | Op::Update | Op::Read => b"\"UPSERT\"",
        Op::Delete => b"\"DELETE\"",
        Op::Truncate => b"\"TRUNCATE\"",
        Op::Ddl => b"\"DDL\"",
    });
    member("FIELD_MAP", out);
    out.push(b'{');
    if change.op.is_statement() {
        out.push(b'}');
        member("SQL", out);
        text::write_str(&common::statement(row)?.sql, out);
    } else {
        let written = fields(row, "new_", change.after, false, out)?;
        fields(row, "old_", change.before, written, out)?;
        out.push(b'}');
        let names = common::Flags { absent: "ABSENT", oversize: "OVERSIZE_BYTES" };
        common::flags(row, &names, out)?;
    }
    out.push(b'}');
    Ok(())
}

/// The values of the primary key as text, several joined by `_`.
pub(super) fn key(row: &RowContext<'_>, out: &mut Vec<u8>) -> Result<bool, DecodeError> {
    common::key(row, |i, column, value| {
        if i > 0 {
            out.push(b'_');
        }
        let start = out.len();
        match value {
            Some(bytes) => plain(column, bytes, out)?,
            None => out.extend_from_slice(b"null"),
        }
        let json = out.get(start..).unwrap_or_default();
        if json.first() == Some(&b'"') {
            let plain: String = serde_json::from_slice(json).map_err(|_| DecodeError::Invalid("key"))?;
            out.truncate(start);
            out.extend_from_slice(plain.as_bytes());
        }
        Ok(())
    })
}

/// An image's columns behind a prefix; whether anything was written, here or before.
fn fields(
    row: &RowContext<'_>,
    prefix: &str,
    image: &[u8],
    mut written: bool,
    out: &mut Vec<u8>,
) -> Result<bool, DecodeError> {
    if image.is_empty() {
        return Ok(written);
    }
    let mut values = Values::new(row.change.schema, image)?;
    while let Some((_, column, value)) = values.next()? {
        if written {
            out.push(b',');
        }
        written = true;
        text::write_str(prefix, out);
        // The prefix and the name are one string.
        out.pop();
        let at = out.len();
        text::write_str(&column.name, out);
        out.remove(at);
        out.push(b':');
        match value {
            Some(bytes) => plain(column, bytes, out)?,
            None => out.extend_from_slice(b"null"),
        }
    }
    Ok(written)
}
