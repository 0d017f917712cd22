//! What the shapes share: images and keys as objects, and names of transactions.

use super::RowContext;
use crate::decode::rows::{self, Values};
use crate::decode::{DecodeError, text, write_uint};
use crate::event::Statement;
use crate::schema::{Column, TableSchema};

/// Appends an image as an object, each value as `write` has it; absent columns are left out. `null` for no image.
#[inline]
pub(super) fn image(
    schema: &TableSchema,
    image: &[u8],
    out: &mut Vec<u8>,
    write: impl Fn(&Column, &[u8], &mut Vec<u8>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    if image.is_empty() {
        out.extend_from_slice(b"null");
        return Ok(());
    }
    out.push(b'{');
    let mut first = true;
    let mut values = Values::new(schema, image)?;
    while let Some((index, column, value)) = values.next()? {
        if !first {
            out.push(b',');
        }
        first = false;
        out.extend_from_slice(schema.member(index));
        match value {
            Some(bytes) => write(column, bytes, out)?,
            None => out.extend_from_slice(b"null"),
        }
    }
    out.push(b'}');
    Ok(())
}

/// Calls `each` with every key column's number in the key, name and value (none: NULL); false when the row has no
/// key.
pub(super) fn key(
    row: &RowContext<'_>,
    mut each: impl FnMut(usize, &Column, Option<&[u8]>) -> Result<(), DecodeError>,
) -> Result<bool, DecodeError> {
    let change = &row.change;
    let schema = change.schema.as_ref();
    if schema.key.is_empty() || change.op.is_statement() {
        return Ok(false);
    }
    // An image that lacks a key column (MINIMAL) leaves it to the other one.
    let (image, other) =
        if change.after.is_empty() { (change.before, change.after) } else { (change.after, change.before) };
    for (i, index) in schema.key.iter().enumerate() {
        let mut cell = Values::new(schema, image)?.find(*index)?;
        if cell.is_none() && !other.is_empty() {
            cell = Values::new(schema, other)?.find(*index)?;
        }
        let (_, column, value) = cell.ok_or(DecodeError::Invalid("row image without its key columns"))?;
        each(i, column, value)?;
    }
    Ok(true)
}

/// Appends the key's columns as the members of an object, without its braces, each name behind `prefix`.
pub(super) fn key_members(
    row: &RowContext<'_>,
    prefix: &str,
    out: &mut Vec<u8>,
    write: impl Fn(&Column, &[u8], &mut Vec<u8>) -> Result<(), DecodeError>,
) -> Result<bool, DecodeError> {
    key(row, |i, column, value| {
        if i > 0 {
            out.push(b',');
        }
        if prefix.is_empty() {
            text::write_str(&column.name, out);
        } else {
            text::write_str(&format!("{prefix}{}", column.name), out);
        }
        out.push(b':');
        if let Some(bytes) = value {
            return write(column, bytes, out);
        }
        out.extend_from_slice(b"null");
        Ok(())
    })
}

/// Appends `,"absent":{"before":[…],"after":[…]}` where an image lacks columns, and `,"oversize_bytes":…` where it does
/// for its size; nothing for whole rows.
#[inline]
pub(super) fn flags(row: &RowContext<'_>, names: &Flags, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let (change, columns) = (&row.change, row.change.schema.columns.len());
    let whole = |image: &[u8]| image.is_empty() || rows::is_whole(image, columns);
    if change.op.is_statement() || whole(change.before) && whole(change.after) {
        return Ok(());
    }
    partial_flags(row, names, out)
}

/// The names of what `flags` writes.
pub(super) struct Flags {
    pub(super) absent: &'static str,
    pub(super) oversize: &'static str,
}

/// Those of all formats but `aesop-v1`.
pub(super) const FLAGS: Flags = Flags { absent: "absent", oversize: "oversize_bytes" };

#[cold]
fn partial_flags(row: &RowContext<'_>, names: &Flags, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let (change, schema) = (&row.change, row.change.schema.as_ref());
    member(names.absent, out);
    out.push(b'{');
    let mut written = false;
    for (name, image) in [("before", change.before), ("after", change.after)] {
        if image.is_empty() || rows::is_whole(image, schema.columns.len()) {
            continue;
        }
        if written {
            out.push(b',');
        }
        written = true;
        text::write_str(name, out);
        out.extend_from_slice(b":[");
        for (i, column) in rows::absent(schema, image).enumerate() {
            if i > 0 {
                out.push(b',');
            }
            text::write_str(&column.name, out);
        }
        out.push(b']');
    }
    out.push(b'}');
    let image = if change.after.is_empty() { change.before } else { change.after };
    if let Some(bytes) = rows::left_out(schema, image)? {
        member(names.oversize, out);
        write_uint(bytes, out);
    }
    Ok(())
}

/// The statement of a DDL or TRUNCATE.
pub(super) fn statement(row: &RowContext<'_>) -> Result<Statement, DecodeError> {
    serde_json::from_slice(row.change.after).map_err(|_| DecodeError::Invalid("statement"))
}

/// Appends `,"name":`.
pub(super) fn member(name: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// Appends a string, or null.
pub(super) fn optional(value: Option<&str>, out: &mut Vec<u8>) {
    match value {
        Some(value) => text::write_str(value, out),
        None => out.extend_from_slice(b"null"),
    }
}

/// Appends true or false.
pub(super) fn boolean(value: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

/// Appends `"file:offset"`: where the transaction starts.
pub(super) fn place(row: &RowContext<'_>, out: &mut Vec<u8>) {
    let start = &row.txn.start;
    text::write_str(&start.file_name, out);
    // Inside the closing quote.
    out.pop();
    out.push(b':');
    write_uint(start.position.offset, out);
    out.push(b'"');
}

/// The table's name; none for a statement that names none.
pub(super) fn table(schema: &TableSchema) -> Option<&str> {
    (!schema.table.is_empty()).then_some(schema.table.as_str())
}
