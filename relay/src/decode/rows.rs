//! Rows events and row images.
//!
//! An image as the rest of the program sees it is self-contained: the present-columns bitmap, the null bitmap
//! over the columns present, then the values. In the event the present-columns bitmap stands once for all rows. Behind
//! the values of a row that was left out for its size stand eight bytes: the size it had.

use super::bytes::Bytes;
use super::table_map::bit;
use super::{DecodeError, event::code, value};
use crate::schema::{Column, TableSchema};

/// What a rows event does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowsKind {
    /// One image a row, the new one.
    Write,
    /// Two images a row.
    Update,
    /// One image a row, the old one.
    Delete,
}

/// How the rows of an event are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As they are.
    Plain,
    /// All of them compressed together (MariaDB).
    Compressed,
    /// New JSON documents may be steps from the old ones (MySQL).
    Partial,
}

/// How a type code lays its rows event out; none for other events.
pub fn layout(kind: u8) -> Option<(RowsKind, Version, Encoding)> {
    use Encoding::{Compressed, Partial, Plain};
    use RowsKind::{Delete, Update, Write};
    Some(match kind {
        code::PARTIAL_UPDATE_ROWS => (Update, Version::V2, Partial),
        code::WRITE_ROWS_V1 => (Write, Version::V1, Plain),
        code::UPDATE_ROWS_V1 => (Update, Version::V1, Plain),
        code::DELETE_ROWS_V1 => (Delete, Version::V1, Plain),
        code::WRITE_ROWS => (Write, Version::V2, Plain),
        code::UPDATE_ROWS => (Update, Version::V2, Plain),
        code::DELETE_ROWS => (Delete, Version::V2, Plain),
        code::MARIA_WRITE_ROWS_COMPRESSED_V1 => (Write, Version::V1, Compressed),
        code::MARIA_UPDATE_ROWS_COMPRESSED_V1 => (Update, Version::V1, Compressed),
        code::MARIA_DELETE_ROWS_COMPRESSED_V1 => (Delete, Version::V1, Compressed),
        code::MARIA_WRITE_ROWS_COMPRESSED => (Write, Version::V2, Compressed),
        code::MARIA_UPDATE_ROWS_COMPRESSED => (Update, Version::V2, Compressed),
        code::MARIA_DELETE_ROWS_COMPRESSED => (Delete, Version::V2, Compressed),
        _ => return None,
    })
}

/// Version 2 has room for extra data in front of the column count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// MariaDB, and MySQL before 5.6.
    V1,
    /// MySQL.
    V2,
}

/// The front of a rows event.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// Refers to a table map of the same statement.
    pub table_id: u64,
    /// Columns of the table.
    pub columns: usize,
    /// Columns in the first image of each row.
    pub present: &'a [u8],
    /// Columns in the second image of each row; empty unless an update.
    pub present_after: &'a [u8],
    /// The rows, possibly compressed.
    pub data: &'a [u8],
    /// Bytes that were taken out of its one row, of which the key alone is here: the row has more than a row may; 0 for
    /// all events as servers send them.
    pub cut: usize,
}

/// Reads the front of a rows event.
pub fn parse(body: &[u8], kind: RowsKind, version: Version, wide_ids: bool) -> Result<Rows<'_>, DecodeError> {
    let mut input = Bytes::new(body, "rows event");
    let table_id = if wide_ids { input.u48()? } else { u64::from(input.u32()?) };
    input.u16()?;
    if version == Version::V2 {
        // The length counts its own two bytes.
        let extra = usize::from(input.u16()?);
        input.take(extra.checked_sub(2).ok_or(DecodeError::Invalid("extra data of a rows event"))?)?;
    }
    let columns = input.lenenc_len()?;
    let bitmap = columns.div_ceil(8);
    let present = input.take(bitmap)?;
    let present_after = if kind == RowsKind::Update { input.take(bitmap)? } else { &[] };
    Ok(Rows { table_id, columns, present, present_after, data: input.rest(), cut: 0 })
}

pub(super) fn count_ones(bitmap: &[u8], columns: usize) -> usize {
    let whole = columns / 8;
    let ones = |bytes: &[u8]| bytes.iter().map(|b| b.count_ones()).sum::<u32>();
    let mut count = ones(bitmap.get(..whole).unwrap_or_default());
    if let Some(last) = bitmap.get(whole) {
        count += (last & ((1u8 << (columns % 8)) - 1)).count_ones();
    }
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// One row's image as it stands in an event, apart from the columns that are present.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowImage<'a> {
    /// Of the event.
    pub(crate) present: &'a [u8],
    /// Null bitmap and values.
    pub(crate) row: &'a [u8],
}

/// Takes one row from the front of a rows event's data: its null bitmap and values.
pub(crate) fn take_row<'a>(
    schema: &TableSchema,
    present: &[u8],
    input: &mut Bytes<'a>,
) -> Result<&'a [u8], DecodeError> {
    let all = input.rest();
    let columns = schema.columns.len();
    let present_count = count_ones(present, columns);
    let nulls = input.take(present_count.div_ceil(8))?;
    if present_count == columns {
        for (index, column) in schema.columns.iter().enumerate() {
            if !bit(nulls, index) {
                value::take(&column.kind, input)?;
            }
        }
    } else {
        let mut at = 0;
        for (index, column) in schema.columns.iter().enumerate() {
            if bit(present, index) {
                if !bit(nulls, at) {
                    value::take(&column.kind, input)?;
                }
                at += 1;
            }
        }
    }
    Ok(all.get(..all.len() - input.rest().len()).unwrap_or_default())
}

/// The columns present in an image, in table order, each with its value's bytes (none: NULL).
#[derive(Clone, Debug)]
pub(crate) struct Values<'a> {
    columns: std::iter::Enumerate<std::slice::Iter<'a, Column>>,
    present: &'a [u8],
    nulls: &'a [u8],
    at: usize,
    input: Bytes<'a>,
}

/// A column's index, and its value as it stands in an image, length prefix included.
type Stored<'a> = (usize, Option<&'a [u8]>);
/// One column of an image.
pub(crate) type Cell<'a> = (usize, &'a Column, Option<&'a [u8]>);

impl<'a> Values<'a> {
    /// Over a self-contained image.
    pub(crate) fn new(schema: &'a TableSchema, image: &'a [u8]) -> Result<Self, DecodeError> {
        let count = schema.columns.len();
        let mut input = Bytes::new(image, "row image");
        let present = input.take(count.div_ceil(8))?;
        let nulls = input.take(count_ones(present, count).div_ceil(8))?;
        Ok(Self { columns: schema.columns.iter().enumerate(), present, nulls, at: 0, input })
    }

    /// Over a row as it stands in an event.
    pub(crate) fn of_row(
        schema: &'a TableSchema,
        RowImage { present, row }: RowImage<'a>,
    ) -> Result<Self, DecodeError> {
        let mut input = Bytes::new(row, "row");
        let nulls = input.take(count_ones(present, schema.columns.len()).div_ceil(8))?;
        Ok(Self { columns: schema.columns.iter().enumerate(), present, nulls, at: 0, input })
    }

    /// The next column.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<Cell<'a>>, DecodeError> {
        for (index, column) in self.columns.by_ref() {
            if !bit(self.present, index) {
                continue;
            }
            let null = bit(self.nulls, self.at);
            self.at += 1;
            let value = if null { None } else { Some(value::take(&column.kind, &mut self.input)?) };
            return Ok(Some((index, column, value)));
        }
        Ok(None)
    }

    /// The next column's index, and its value with its length prefix (none: NULL).
    pub(super) fn next_stored(&mut self) -> Result<Option<Stored<'a>>, DecodeError> {
        let rest = self.input.rest();
        let Some((index, _, value)) = self.next()? else { return Ok(None) };
        let taken = rest.len() - self.input.rest().len();
        Ok(Some((index, value.map(|_| rest.get(..taken).unwrap_or_default()))))
    }

    /// The value of one column; none when it is absent.
    pub(crate) fn find(mut self, wanted: usize) -> Result<Option<Cell<'a>>, DecodeError> {
        while let Some(cell) = self.next()? {
            if cell.0 == wanted {
                return Ok(Some(cell));
            }
            if cell.0 > wanted {
                break;
            }
        }
        Ok(None)
    }
}

/// Puts a self-contained image together, column by column in table order.
#[derive(Debug)]
pub(crate) struct ImageBuilder {
    present: Vec<u8>,
    nulls: Vec<u8>,
    values: Vec<u8>,
    kept: usize,
}

impl ImageBuilder {
    pub(crate) fn new(columns: usize) -> Self {
        Self { present: vec![0; columns.div_ceil(8)], nulls: Vec::new(), values: Vec::new(), kept: 0 }
    }

    /// Begins another image of the same table.
    pub(crate) fn clear(&mut self) {
        self.present.fill(0);
        self.nulls.clear();
        self.values.clear();
        self.kept = 0;
    }

    /// `stored` is the value as it stands in an image, length prefix included; none is NULL.
    pub(crate) fn push(&mut self, index: usize, stored: Option<&[u8]>) {
        if let Some(byte) = self.present.get_mut(index / 8) {
            *byte |= 1 << (index % 8);
        }
        if self.kept.is_multiple_of(8) {
            self.nulls.push(0);
        }
        match (stored, self.nulls.last_mut()) {
            (Some(stored), _) => self.values.extend_from_slice(stored),
            (None, Some(byte)) => *byte |= 1 << (self.kept % 8),
            (None, None) => {}
        }
        self.kept += 1;
    }

    pub(crate) fn finish(&self, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&self.present);
        out.extend_from_slice(&self.nulls);
        out.extend_from_slice(&self.values);
    }
}

/// Copies an image without some columns, as one of a table that does not have them.
pub(crate) fn strip(
    schema: &TableSchema,
    excluded: &[bool],
    image: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), DecodeError> {
    let cells = Values::new(schema, image)?;
    select(cells, excluded, |_| true, out)
}

/// The image of a row that is left out for its size: of the table without the excluded columns, the key's columns
/// present only, and behind the values the bytes that the row had.
pub(crate) fn leave_out(
    schema: &TableSchema,
    excluded: &[bool],
    row: RowImage<'_>,
    bytes: usize,
    out: &mut Vec<u8>,
) -> Result<(), DecodeError> {
    let cells = Values::of_row(schema, row)?;
    select(cells, excluded, |index| schema.key.contains(&index), out)?;
    out.extend_from_slice(&u64::try_from(bytes).unwrap_or(u64::MAX).to_le_bytes());
    Ok(())
}

/// The bytes that a row had which was left out for its size; none for others.
pub(crate) fn left_out(schema: &TableSchema, image: &[u8]) -> Result<Option<u64>, DecodeError> {
    let mut cells = Values::new(schema, image)?;
    while cells.next()?.is_some() {}
    Ok(cells.input.rest().first_chunk().map(|bytes| u64::from_le_bytes(*bytes)))
}

/// Whether a column of `after` is another than in `before`, or is not there.
pub(crate) fn differs(schema: &TableSchema, before: &[u8], after: &[u8]) -> Result<bool, DecodeError> {
    let (mut old, mut new) = (Values::new(schema, before)?, Values::new(schema, after)?);
    let mut known = old.next_stored()?;
    while let Some((index, value)) = new.next_stored()? {
        while known.is_some_and(|(at, _)| at < index) {
            known = old.next_stored()?;
        }
        if known != Some((index, value)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// An image of a table without the excluded columns, of these only those that `keep` wants.
fn select(
    mut cells: Values<'_>,
    excluded: &[bool],
    keep: impl Fn(usize) -> bool,
    out: &mut Vec<u8>,
) -> Result<(), DecodeError> {
    let is_excluded = |index: usize| excluded.get(index) == Some(&true);
    let columns = cells.columns.len();
    let left = columns - (0..columns).filter(|index| is_excluded(*index)).count();
    let mut builder = ImageBuilder::new(left);
    let (mut next, mut number) = (0, 0);
    while let Some((index, stored)) = cells.next_stored()? {
        // Columns are numbered as the reduced table has them.
        number += (next..index).filter(|index| !is_excluded(*index)).count();
        next = index;
        if !is_excluded(index) && keep(index) {
            builder.push(number, stored);
        }
    }
    builder.finish(out);
    Ok(())
}

/// The columns that an image lacks.
pub(crate) fn absent<'a>(schema: &'a TableSchema, image: &'a [u8]) -> impl Iterator<Item = &'a Column> {
    schema.columns.iter().enumerate().filter(|(index, _)| !bit(image, *index)).map(|(_, column)| column)
}

/// Whether an image has all columns.
pub(crate) fn is_whole(present: &[u8], columns: usize) -> bool {
    count_ones(present, columns) == columns
}

/// Whether some of these columns are present.
pub(crate) fn touches(columns: &[usize], present: &[u8]) -> bool {
    columns.iter().any(|index| bit(present, *index))
}

/// The row behind an update of which only changed columns came: those of `after`, and the others of `before`.
pub(crate) fn merge(
    schema: &TableSchema,
    before: &[u8],
    after: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), DecodeError> {
    let mut builder = ImageBuilder::new(schema.columns.len());
    let (mut old, mut new) = (Values::new(schema, before)?, Values::new(schema, after)?);
    let (mut from_old, mut from_new) = (old.next_stored()?, new.next_stored()?);
    for index in 0..schema.columns.len() {
        let (in_old, in_new) =
            (from_old.filter(|(at, _)| *at == index), from_new.filter(|(at, _)| *at == index));
        if let Some((_, stored)) = in_new.or(in_old) {
            builder.push(index, stored);
        }
        if in_old.is_some() {
            from_old = old.next_stored()?;
        }
        if in_new.is_some() {
            from_new = new.next_stored()?;
        }
    }
    builder.finish(out);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Charset, ColumnKind};
    use proptest::prelude::*;

    fn schema(count: usize) -> TableSchema {
        let kinds = [
            ColumnKind::Int { bytes: 4, unsigned: false },
            ColumnKind::Varchar { width: 300, charset: Charset::Utf8 },
            ColumnKind::Json { length_bytes: 4 },
            ColumnKind::Decimal { precision: 10, scale: 2 },
            ColumnKind::Time { fraction: 3 },
        ];
        let column = |i: usize| Column {
            name: format!("c{i}"),
            kind: kinds[i % kinds.len()].clone(),
            nullable: true,
            visible: true,
        };
        TableSchema::new("d".into(), "t".into(), (0..count).map(column).collect(), vec![0])
    }

    #[test]
    fn stripped_columns_are_absent() {
        let schema = schema(2);
        // Both present; c0 = 7, c1 = "ab".
        let image = [0b11, 0, 7, 0, 0, 0, 2, 0, b'a', b'b'];
        let mut out = Vec::new();
        strip(&schema, &[false, true], &image, &mut out).unwrap();
        assert_eq!(out, [0b1, 0, 7, 0, 0, 0]);
        let image = [0b11, 0b10, 7, 0, 0, 0];
        strip(&schema, &[true, false], &image, &mut out).unwrap();
        assert_eq!(out, [0b1, 0b1]);
    }

    #[test]
    fn a_row_that_is_left_out_keeps_its_key_and_says_its_size() {
        let schema = schema(3);
        // c0 = 7, c1 = "ab", c2 absent; without c1 the table has two columns.
        let row = RowImage { present: &[0b011], row: &[0, 7, 0, 0, 0, 2, 0, b'a', b'b'] };
        let mut out = Vec::new();
        leave_out(&schema, &[false, true, false], row, 1000, &mut out).unwrap();
        assert_eq!(out, [0b1, 0, 7, 0, 0, 0, 0xe8, 3, 0, 0, 0, 0, 0, 0]);
        let reduced = self::schema(2);
        assert_eq!(left_out(&reduced, &out).unwrap(), Some(1000));
        assert_eq!(left_out(&reduced, &out[..6]).unwrap(), None);
        assert_eq!(absent(&reduced, &out).map(|column| column.name.as_str()).collect::<Vec<_>>(), ["c1"]);
    }

    #[test]
    fn a_partial_image_is_completed_from_the_old_one() {
        let schema = schema(3);
        // c0 = 7, c1 = "ab"; then c1 = NULL.
        let (before, after) = ([0b011, 0, 7, 0, 0, 0, 2, 0, b'a', b'b'], [0b010, 1]);
        let mut out = Vec::new();
        merge(&schema, &before, &after, &mut out).unwrap();
        assert_eq!(out, [0b011, 0b10, 7, 0, 0, 0]);
        merge(&schema, &after, &before, &mut out).unwrap();
        assert_eq!(out, before);
    }

    proptest! {
        #[test]
        fn arbitrary_images_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), count in 0usize..12) {
            let schema = schema(count);
            if let Ok(mut values) = Values::new(&schema, &bytes) {
                while let Ok(Some((_, column, value))) = values.next() {
                    if let Some(value) = value {
                        drop(value::write(&column.kind, value, &mut Vec::new()));
                    }
                }
            }
            drop(strip(&schema, &vec![true; count / 2], &bytes, &mut Vec::new()));
            drop(left_out(&schema, &bytes));
            let (present, row) = bytes.split_at(bytes.len().min(count.div_ceil(8)));
            drop(leave_out(&schema, &vec![true; count / 2], RowImage { present, row }, 1, &mut Vec::new()));
            drop(merge(&schema, &bytes, &bytes, &mut Vec::new()));
        }
    }
}
