//! The serialized form of a schema: what its id is the hash of, and what logs and streams carry.
//!
//! Little endian. Version byte; database and table; column count u16; each column: name, flags
//! (1 nullable, 2 visible), kind tag, the kind's parameters; key length u16, key indices u16. A string is
//! a u16 length and UTF-8 bytes.

use super::charset::TableCharset;
use super::{Charset, Column, ColumnKind, SchemaId, TableSchema};

/// Raised by one when the form changes; older ones stay readable.
const VERSION: u8 = 2;
/// Of all schemas without the kinds that came with version 2: so their ids stay, and older consumers read them.
const FIRST_VERSION: u8 = 1;
/// MySQL's own limit is 4096 columns.
const MAX_COLUMNS: usize = 4096;

const NULLABLE: u8 = 1;
const VISIBLE: u8 = 2;

/// A serialized schema that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// Ends too early, or a count, length or index is out of bounds.
    #[error("schema definition is damaged at byte {0}")]
    Damaged(usize),
    /// Written by a newer program.
    #[error("schema definition has version {0}, this program reads up to {VERSION}: upgrade it")]
    Version(u8),
}

impl TableSchema {
    /// Writes the compact, versioned form.
    pub fn serialize(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.columns.len() * 24);
        let is_later =
            |kind: &ColumnKind| matches!(kind, ColumnKind::Uuid | ColumnKind::Inet4 | ColumnKind::Inet6);
        let later = self.columns.iter().any(|column| is_later(&column.kind));
        out.push(if later { VERSION } else { FIRST_VERSION });
        put_str(&mut out, &self.database);
        put_str(&mut out, &self.table);
        put_len(&mut out, self.columns.len());
        for column in &self.columns {
            put_str(&mut out, &column.name);
            let nullable = if column.nullable { NULLABLE } else { 0 };
            let visible = if column.visible { VISIBLE } else { 0 };
            out.push(nullable | visible);
            put_kind(&mut out, &column.kind);
        }
        put_len(&mut out, self.key.len());
        for index in &self.key {
            put_len(&mut out, *index);
        }
        out
    }

    /// Reads what [`TableSchema::serialize`] wrote; the whole of `bytes` must be one definition.
    pub fn parse(bytes: &[u8]) -> Result<Self, SchemaError> {
        let mut input = Input { bytes, at: 0 };
        let version = input.u8()?;
        if !(FIRST_VERSION..=VERSION).contains(&version) {
            return Err(SchemaError::Version(version));
        }
        let database = input.string()?;
        let table = input.string()?;
        let count = input.count()?;
        let mut columns = Vec::with_capacity(count.min(bytes.len()));
        for _ in 0..count {
            let name = input.string()?;
            let flags = input.u8()?;
            let kind = input.kind()?;
            columns.push(Column {
                name,
                kind,
                nullable: flags & NULLABLE != 0,
                visible: flags & VISIBLE != 0,
            });
        }
        let mut key = Vec::new();
        for _ in 0..input.count()? {
            let index = usize::from(input.u16()?);
            if index >= columns.len() {
                return Err(input.damaged());
            }
            key.push(index);
        }
        if input.at != bytes.len() {
            return Err(input.damaged());
        }
        let id = SchemaId(xxhash_rust::xxh3::xxh3_64(bytes));
        Ok(Self::with(id, database, table, columns, key))
    }
}

fn put_len(out: &mut Vec<u8>, len: usize) {
    // Names are at most 64 characters, columns 4096, members 65535 of 255 characters: all fit.
    out.extend_from_slice(&u16::try_from(len).unwrap_or(u16::MAX).to_le_bytes());
}

fn put_str(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let bytes = bytes.get(..usize::from(u16::MAX)).unwrap_or(bytes);
    put_len(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn put_strings(out: &mut Vec<u8>, members: &[String]) {
    put_len(out, members.len());
    for member in members {
        put_str(out, member);
    }
}

fn put_charset(out: &mut Vec<u8>, charset: Charset) {
    match charset {
        Charset::Binary => out.push(0),
        Charset::Utf8 => out.push(1),
        Charset::Latin1 => out.push(2),
        Charset::Ascii => out.push(3),
        Charset::Utf16 => out.push(4),
        Charset::Utf16Le => out.push(5),
        Charset::Utf32 => out.push(6),
        Charset::Ucs2 => out.push(7),
        Charset::Table(table) => out.extend_from_slice(&[8, table.index()]),
        Charset::Other(id) => {
            out.push(255);
            out.extend_from_slice(&id.to_le_bytes());
        }
    }
}

fn put_kind(out: &mut Vec<u8>, kind: &ColumnKind) {
    match kind {
        ColumnKind::Int { bytes, unsigned } => out.extend_from_slice(&[1, *bytes, u8::from(*unsigned)]),
        ColumnKind::Float => out.push(2),
        ColumnKind::Double => out.push(3),
        ColumnKind::Decimal { precision, scale } => out.extend_from_slice(&[4, *precision, *scale]),
        ColumnKind::Bit { bits } => out.extend_from_slice(&[5, *bits]),
        ColumnKind::Year => out.push(6),
        ColumnKind::Date => out.push(7),
        ColumnKind::Time { fraction } => out.extend_from_slice(&[8, *fraction]),
        ColumnKind::DateTime { fraction } => out.extend_from_slice(&[9, *fraction]),
        ColumnKind::Timestamp { fraction } => out.extend_from_slice(&[10, *fraction]),
        ColumnKind::OldTime => out.push(11),
        ColumnKind::OldDateTime => out.push(12),
        ColumnKind::OldTimestamp => out.push(13),
        ColumnKind::Char { width, charset } => {
            out.push(14);
            out.extend_from_slice(&width.to_le_bytes());
            put_charset(out, *charset);
        }
        ColumnKind::Varchar { width, charset } => {
            out.push(15);
            out.extend_from_slice(&width.to_le_bytes());
            put_charset(out, *charset);
        }
        ColumnKind::Blob { length_bytes, charset } => {
            out.extend_from_slice(&[16, *length_bytes]);
            put_charset(out, *charset);
        }
        ColumnKind::Enum { bytes, members } => {
            out.extend_from_slice(&[17, *bytes]);
            put_strings(out, members);
        }
        ColumnKind::Set { bytes, members } => {
            out.extend_from_slice(&[18, *bytes]);
            put_strings(out, members);
        }
        ColumnKind::Json { length_bytes } => out.extend_from_slice(&[19, *length_bytes]),
        ColumnKind::Geometry { length_bytes } => out.extend_from_slice(&[20, *length_bytes]),
        ColumnKind::Vector { length_bytes } => out.extend_from_slice(&[21, *length_bytes]),
        ColumnKind::Compressed { length_bytes, charset } => {
            out.extend_from_slice(&[22, *length_bytes]);
            put_charset(out, *charset);
        }
        ColumnKind::Uuid => out.push(23),
        ColumnKind::Inet4 => out.push(24),
        ColumnKind::Inet6 => out.push(25),
        ColumnKind::JsonText { length_bytes } => out.extend_from_slice(&[26, *length_bytes]),
    }
}

struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Input<'_> {
    fn damaged(&self) -> SchemaError {
        SchemaError::Damaged(self.at)
    }

    fn take(&mut self, len: usize) -> Result<&[u8], SchemaError> {
        let end = self.at.checked_add(len).ok_or(SchemaError::Damaged(self.at))?;
        let slice = self.bytes.get(self.at..end).ok_or(SchemaError::Damaged(self.at))?;
        self.at = end;
        Ok(slice)
    }

    fn u8(&mut self) -> Result<u8, SchemaError> {
        let damaged = self.damaged();
        self.take(1)?.first().copied().ok_or(damaged)
    }

    fn u16(&mut self) -> Result<u16, SchemaError> {
        Ok(u16::from_le_bytes([self.u8()?, self.u8()?]))
    }

    fn count(&mut self) -> Result<usize, SchemaError> {
        let count = usize::from(self.u16()?);
        if count > MAX_COLUMNS { Err(self.damaged()) } else { Ok(count) }
    }

    fn string(&mut self) -> Result<String, SchemaError> {
        let damaged = self.damaged();
        let len = usize::from(self.u16()?);
        let bytes = self.take(len)?.to_vec();
        String::from_utf8(bytes).map_err(|_| damaged)
    }

    fn strings(&mut self) -> Result<Vec<String>, SchemaError> {
        let count = self.u16()?;
        (0..count).map(|_| self.string()).collect()
    }

    /// A byte within `low..=high`.
    fn bounded(&mut self, low: u8, high: u8) -> Result<u8, SchemaError> {
        let value = self.u8()?;
        if (low..=high).contains(&value) { Ok(value) } else { Err(self.damaged()) }
    }

    fn charset(&mut self) -> Result<Charset, SchemaError> {
        match self.u8()? {
            0 => Ok(Charset::Binary),
            1 => Ok(Charset::Utf8),
            2 => Ok(Charset::Latin1),
            3 => Ok(Charset::Ascii),
            4 => Ok(Charset::Utf16),
            5 => Ok(Charset::Utf16Le),
            6 => Ok(Charset::Utf32),
            7 => Ok(Charset::Ucs2),
            8 => {
                let damaged = self.damaged();
                TableCharset::from_index(self.u8()?).map(Charset::Table).ok_or(damaged)
            }
            255 => Ok(Charset::Other(self.u16()?)),
            _ => Err(self.damaged()),
        }
    }

    fn kind(&mut self) -> Result<ColumnKind, SchemaError> {
        Ok(match self.u8()? {
            1 => ColumnKind::Int { bytes: self.bounded(1, 8)?, unsigned: self.u8()? != 0 },
            2 => ColumnKind::Float,
            3 => ColumnKind::Double,
            4 => {
                let precision = self.bounded(1, 65)?;
                ColumnKind::Decimal { precision, scale: self.bounded(0, precision.min(38))? }
            }
            5 => ColumnKind::Bit { bits: self.bounded(1, 64)? },
            6 => ColumnKind::Year,
            7 => ColumnKind::Date,
            8 => ColumnKind::Time { fraction: self.bounded(0, 6)? },
            9 => ColumnKind::DateTime { fraction: self.bounded(0, 6)? },
            10 => ColumnKind::Timestamp { fraction: self.bounded(0, 6)? },
            11 => ColumnKind::OldTime,
            12 => ColumnKind::OldDateTime,
            13 => ColumnKind::OldTimestamp,
            14 => ColumnKind::Char { width: self.u16()?, charset: self.charset()? },
            15 => ColumnKind::Varchar { width: self.u16()?, charset: self.charset()? },
            16 => ColumnKind::Blob { length_bytes: self.bounded(1, 4)?, charset: self.charset()? },
            17 => ColumnKind::Enum { bytes: self.bounded(1, 2)?, members: self.strings()? },
            18 => ColumnKind::Set { bytes: self.bounded(1, 8)?, members: self.strings()? },
            19 => ColumnKind::Json { length_bytes: self.bounded(1, 4)? },
            20 => ColumnKind::Geometry { length_bytes: self.bounded(1, 4)? },
            21 => ColumnKind::Vector { length_bytes: self.bounded(1, 4)? },
            22 => ColumnKind::Compressed { length_bytes: self.bounded(1, 4)?, charset: self.charset()? },
            23 => ColumnKind::Uuid,
            24 => ColumnKind::Inet4,
            25 => ColumnKind::Inet6,
            26 => ColumnKind::JsonText { length_bytes: self.bounded(1, 4)? },
            _ => return Err(self.damaged()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn charset() -> impl Strategy<Value = Charset> {
        prop_oneof![
            Just(Charset::Binary),
            Just(Charset::Utf8),
            Just(Charset::Latin1),
            Just(Charset::Ascii),
            Just(Charset::Utf16Le),
            Just(Charset::of_collation(28)),
            any::<u16>().prop_map(Charset::Other),
        ]
    }

    fn kind() -> impl Strategy<Value = ColumnKind> {
        prop_oneof![
            (1u8..=8, any::<bool>()).prop_map(|(bytes, unsigned)| ColumnKind::Int { bytes, unsigned }),
            Just(ColumnKind::Double),
            (1u8..=65).prop_map(|p| ColumnKind::Decimal { precision: p, scale: p.min(30) }),
            (1u8..=64).prop_map(|bits| ColumnKind::Bit { bits }),
            (0u8..=6).prop_map(|fraction| ColumnKind::Timestamp { fraction }),
            (any::<u16>(), charset()).prop_map(|(width, charset)| ColumnKind::Char { width, charset }),
            (any::<u16>(), charset()).prop_map(|(width, charset)| ColumnKind::Varchar { width, charset }),
            (1u8..=4, charset())
                .prop_map(|(length_bytes, charset)| ColumnKind::Blob { length_bytes, charset }),
            proptest::collection::vec(".{0,8}", 0..4)
                .prop_map(|members| ColumnKind::Enum { bytes: 2, members }),
            proptest::collection::vec(".{0,8}", 0..4)
                .prop_map(|members| ColumnKind::Set { bytes: 8, members }),
            (1u8..=4).prop_map(|length_bytes| ColumnKind::Json { length_bytes }),
            (1u8..=4).prop_map(|length_bytes| ColumnKind::JsonText { length_bytes }),
            Just(ColumnKind::Uuid),
            Just(ColumnKind::Inet6),
        ]
    }

    fn schema() -> impl Strategy<Value = TableSchema> {
        let column = (".{0,12}", kind(), any::<bool>(), any::<bool>())
            .prop_map(|(name, kind, nullable, visible)| Column { name, kind, nullable, visible });
        (".{0,12}", ".{0,12}", proptest::collection::vec(column, 0..8)).prop_map(|(d, t, columns)| {
            let key = (0..columns.len().min(2)).rev().collect();
            TableSchema::new(d, t, columns, key)
        })
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_back(schema in schema()) {
            prop_assert_eq!(TableSchema::parse(&schema.serialize()), Ok(schema));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            drop(TableSchema::parse(&bytes));
        }

        #[test]
        fn a_cut_definition_is_an_error(schema in schema(), cut in 1usize..4) {
            let bytes = schema.serialize();
            prop_assert!(TableSchema::parse(&bytes[..bytes.len() - cut]).is_err());
        }
    }
}
