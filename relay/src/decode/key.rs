//! The hash by which rows are spread over partitions.
//!
//! `key_hash` is xxh3-64 of: the database name, a zero byte, the table name, then for each key column in key
//! order a zero byte and the column's value as canonical text. Canonical text is the value exactly as
//! the native JSON shape writes it (numbers in decimal, text quoted and escaped), so that a key keeps its
//! partition when INT becomes BIGINT or latin1 becomes utf8mb4. A table without a primary key hashes
//! its two names only: all of its rows share a partition. DDL and TRUNCATE belong to partition 0.

use super::rows::Values;
use super::{DecodeError, value};
use crate::schema::TableSchema;

/// The partition of a row among `partitions`.
pub fn partition(key_hash: u64, partitions: u32) -> u32 {
    u32::try_from(key_hash % u64::from(partitions.max(1))).unwrap_or(0)
}

/// The hash of one row's key. Where `image` lacks a key column (a partial image), `fallback` is asked.
pub(crate) fn hash(
    schema: &TableSchema,
    image: &[u8],
    fallback: &[u8],
    scratch: &mut Vec<u8>,
) -> Result<u64, DecodeError> {
    scratch.clear();
    scratch.extend_from_slice(schema.database.as_bytes());
    scratch.push(0);
    scratch.extend_from_slice(schema.table.as_bytes());
    for column in &schema.key {
        scratch.push(0);
        write_column(schema, *column, image, fallback, scratch)?;
    }
    Ok(xxhash_rust::xxh3::xxh3_64(scratch))
}

/// Writes one key column's value as JSON.
pub(crate) fn write_column(
    schema: &TableSchema,
    column: usize,
    image: &[u8],
    fallback: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), DecodeError> {
    let mut cell = Values::new(schema, image)?.find(column)?;
    if cell.is_none() && !fallback.is_empty() {
        cell = Values::new(schema, fallback)?.find(column)?;
    }
    match cell {
        Some((_, column, Some(bytes))) => value::write(&column.kind, bytes, out),
        Some((_, _, None)) => {
            out.extend_from_slice(b"null");
            Ok(())
        }
        None => Err(DecodeError::Invalid("row image without its key columns")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Charset, Column, ColumnKind};

    fn schema(kind: ColumnKind) -> TableSchema {
        let column = Column { name: "id".into(), kind, nullable: false, visible: true };
        TableSchema::new("shop".into(), "orders".into(), vec![column], vec![0])
    }

    #[test]
    fn a_wider_integer_keeps_its_partition() {
        let int = schema(ColumnKind::Int { bytes: 4, unsigned: false });
        let bigint = schema(ColumnKind::Int { bytes: 8, unsigned: true });
        let a = hash(&int, &[1, 0, 7, 0, 0, 0], &[], &mut Vec::new()).unwrap();
        let b = hash(&bigint, &[1, 0, 7, 0, 0, 0, 0, 0, 0, 0], &[], &mut Vec::new()).unwrap();
        assert_eq!(a, b);
        assert_eq!(a, xxhash_rust::xxh3::xxh3_64(b"shop\x00orders\x007"));
    }

    #[test]
    fn another_charset_keeps_its_partition() {
        let latin1 = schema(ColumnKind::Varchar { width: 10, charset: Charset::Latin1 });
        let utf8 = schema(ColumnKind::Varchar { width: 40, charset: Charset::Utf8 });
        let a = hash(&latin1, &[1, 0, 1, 0xe9], &[], &mut Vec::new()).unwrap();
        let b = hash(&utf8, &[1, 0, 2, 0xc3, 0xa9], &[], &mut Vec::new()).unwrap();
        assert_eq!(a, b);
    }

    #[test]
    fn an_image_without_its_key_asks_the_other_one() {
        let int = schema(ColumnKind::Int { bytes: 1, unsigned: true });
        let a = hash(&int, &[0], &[1, 0, 7], &mut Vec::new()).unwrap();
        assert_eq!(a, hash(&int, &[1, 0, 7], &[], &mut Vec::new()).unwrap());
        assert!(hash(&int, &[0], &[0], &mut Vec::new()).is_err());
    }
}
