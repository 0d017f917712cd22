//! Declared columns beside the types of a table map: they must agree, and each tells what the other does not.

use super::DecodeError;
use crate::schema::{Charset, ColumnKind, Declared, DeclaredColumn};

/// Whether a column's wire type may be one of MariaDB's types that table maps do not name.
pub(super) fn is_unnamed(kind: &ColumnKind) -> bool {
    matches!(kind, ColumnKind::Char { width: 4 | 16, charset: Charset::Binary })
}

/// The kind as both have it; an error where they disagree.
pub(super) fn refine(
    table: &str,
    column: &DeclaredColumn,
    name: &str,
    kind: ColumnKind,
) -> Result<ColumnKind, DecodeError> {
    if column.name != name {
        return Err(disagree(table, &format!("column {name} is {} there", column.name)));
    }
    let kind = match (column.word(), kind) {
        ("uuid", ColumnKind::Char { width: 16, .. }) => ColumnKind::Uuid,
        ("inet6", ColumnKind::Char { width: 16, .. }) => ColumnKind::Inet6,
        ("inet4", ColumnKind::Char { width: 4, .. }) => ColumnKind::Inet4,
        (_, kind) => kind,
    };
    if agrees(column, &kind) {
        Ok(kind)
    } else {
        Err(disagree(table, &format!("column {} is {} there", column.name, column.kind)))
    }
}

/// As many columns, each NULL or not in both.
pub(super) fn check_shape(
    table: &str,
    declared: &Declared,
    nullable: impl ExactSizeIterator<Item = bool>,
) -> Result<(), DecodeError> {
    if nullable.len() != declared.columns.len() {
        let (ours, theirs) = (nullable.len(), declared.columns.len());
        return Err(disagree(table, &format!("the table map has {ours} columns, it has {theirs}")));
    }
    match declared.columns.iter().zip(nullable).find(|(column, nullable)| column.nullable != *nullable) {
        None => Ok(()),
        Some((column, _)) => Err(disagree(table, &format!("column {} differs in NULL", column.name))),
    }
}

fn disagree(table: &str, what: &str) -> DecodeError {
    DecodeError::Disagrees { table: table.to_owned(), what: what.to_owned() }
}

fn agrees(column: &DeclaredColumn, kind: &ColumnKind) -> bool {
    let numbers = column.numbers();
    let number = |index: usize| numbers.get(index).copied().unwrap_or(0);
    let octets = |width: &u16| column.octets.unwrap_or_else(|| number(0)) == u64::from(*width);
    let text = |found: &Charset| *found == column.text_charset() || matches!(found, Charset::Other(_));
    let integer = |bytes: u8| *kind == ColumnKind::Int { bytes, unsigned: column.unsigned() };
    let compressed = matches!(kind, ColumnKind::Compressed { charset, .. } if text(charset));
    let blob = |bytes: u8| {
        let plain = matches!(kind, ColumnKind::Blob { length_bytes, charset } if *length_bytes == bytes && text(charset));
        plain || compressed
    };
    let digits = |fraction: &u8| u64::from(*fraction) == number(0);
    match column.word() {
        "tinyint" => integer(1),
        "smallint" => integer(2),
        "mediumint" => integer(3),
        "int" => integer(4),
        "bigint" => integer(8),
        "float" => *kind == ColumnKind::Float,
        "double" => *kind == ColumnKind::Double,
        "decimal" => matches!(kind, ColumnKind::Decimal { precision, scale }
            if (u64::from(*precision), u64::from(*scale)) == (number(0), number(1))),
        "bit" => matches!(kind, ColumnKind::Bit { bits } if u64::from(*bits) == number(0)),
        "year" => *kind == ColumnKind::Year,
        "date" => *kind == ColumnKind::Date,
        "time" => {
            *kind == ColumnKind::OldTime || matches!(kind, ColumnKind::Time { fraction } if digits(fraction))
        }
        "datetime" => {
            *kind == ColumnKind::OldDateTime
                || matches!(kind, ColumnKind::DateTime { fraction } if digits(fraction))
        }
        "timestamp" => {
            *kind == ColumnKind::OldTimestamp
                || matches!(kind, ColumnKind::Timestamp { fraction } if digits(fraction))
        }
        "char" | "binary" => {
            matches!(kind, ColumnKind::Char { width, charset } if octets(width) && text(charset))
        }
        "varchar" | "varbinary" => {
            let plain =
                matches!(kind, ColumnKind::Varchar { width, charset } if octets(width) && text(charset));
            plain || compressed
        }
        "tinytext" | "tinyblob" => blob(1),
        "text" | "blob" => blob(2),
        "mediumtext" | "mediumblob" => blob(3),
        "longtext" | "longblob" => blob(4),
        "json" => matches!(kind, ColumnKind::Json { .. }),
        "enum" => matches!(kind, ColumnKind::Enum { bytes, members }
            if *bytes == if members.len() < 256 { 1 } else { 2 }),
        "set" => {
            matches!(kind, ColumnKind::Set { bytes, members } if *bytes == DeclaredColumn::set_bytes(members.len()))
        }
        "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring"
        | "multipolygon" | "geometrycollection" | "geomcollection" => {
            matches!(kind, ColumnKind::Geometry { .. })
        }
        // MariaDB writes it as bytes.
        "vector" => {
            matches!(kind, ColumnKind::Vector { .. } | ColumnKind::Varchar { charset: Charset::Binary, .. })
        }
        "uuid" => *kind == ColumnKind::Uuid,
        "inet4" => *kind == ColumnKind::Inet4,
        "inet6" => *kind == ColumnKind::Inet6,
        _ => false,
    }
}
