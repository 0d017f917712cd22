//! `TABLE_MAP` with its optional metadata to a [`TableSchema`].

use super::DecodeError;
use super::bytes::Bytes;
use super::declared;
use super::stream::Flavor;
use crate::schema::{Charset, Column, ColumnKind, Declared, DeclaredColumn, TableSchema};

/// Wire types, as the table map gives them.
mod wire {
    pub(super) const TINY: u8 = 1;
    pub(super) const SHORT: u8 = 2;
    pub(super) const LONG: u8 = 3;
    pub(super) const FLOAT: u8 = 4;
    pub(super) const DOUBLE: u8 = 5;
    pub(super) const TIMESTAMP: u8 = 7;
    pub(super) const LONGLONG: u8 = 8;
    pub(super) const INT24: u8 = 9;
    pub(super) const DATE: u8 = 10;
    pub(super) const TIME: u8 = 11;
    pub(super) const DATETIME: u8 = 12;
    pub(super) const YEAR: u8 = 13;
    pub(super) const NEWDATE: u8 = 14;
    pub(super) const VARCHAR: u8 = 15;
    pub(super) const BIT: u8 = 16;
    pub(super) const TIMESTAMP2: u8 = 17;
    pub(super) const DATETIME2: u8 = 18;
    pub(super) const TIME2: u8 = 19;
    pub(super) const BLOB_COMPRESSED: u8 = 140;
    pub(super) const VARCHAR_COMPRESSED: u8 = 141;
    pub(super) const VECTOR: u8 = 242;
    pub(super) const JSON: u8 = 245;
    pub(super) const NEWDECIMAL: u8 = 246;
    pub(super) const ENUM: u8 = 247;
    pub(super) const SET: u8 = 248;
    pub(super) const BLOB: u8 = 252;
    pub(super) const VAR_STRING: u8 = 253;
    pub(super) const STRING: u8 = 254;
    pub(super) const GEOMETRY: u8 = 255;
}

/// The names at the front of a table map: enough to know whether the table is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableName<'a> {
    /// Number that rows events of this transaction refer to.
    pub table_id: u64,
    /// Database.
    pub database: &'a str,
    /// Table.
    pub table: &'a str,
    /// What follows the names: the definition.
    pub definition: &'a [u8],
}

/// Reads the id and the names.
pub fn name(body: &[u8], wide_ids: bool) -> Result<TableName<'_>, DecodeError> {
    let mut input = Bytes::new(body, "table map");
    let table_id = if wide_ids { input.u48()? } else { u64::from(input.u32()?) };
    input.u16()?;
    let mut text = || -> Result<&str, DecodeError> {
        let len = usize::from(input.u8()?);
        let bytes = input.take(len)?;
        input.u8()?;
        std::str::from_utf8(bytes).map_err(|_| DecodeError::Invalid("table name in a table map"))
    };
    let (database, table) = (text()?, text()?);
    Ok(TableName { table_id, database, table, definition: input.rest() })
}

/// The optional metadata's fields, not yet applied.
#[derive(Default)]
struct Metadata<'a> {
    unsigned: Option<&'a [u8]>,
    default_charset: Option<&'a [u8]>,
    column_charset: Option<&'a [u8]>,
    enum_default_charset: Option<&'a [u8]>,
    enum_column_charset: Option<&'a [u8]>,
    names: Option<&'a [u8]>,
    sets: &'a [u8],
    enums: &'a [u8],
    simple_key: &'a [u8],
    prefix_key: &'a [u8],
    visibility: Option<&'a [u8]>,
}

impl<'a> Metadata<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut input = Bytes::new(bytes, "table map's metadata");
        let mut found = Self::default();
        while !input.is_empty() {
            let kind = input.u8()?;
            let value = input.lenenc_bytes()?;
            match kind {
                1 => found.unsigned = Some(value),
                2 => found.default_charset = Some(value),
                3 => found.column_charset = Some(value),
                4 => found.names = Some(value),
                5 => found.sets = value,
                6 => found.enums = value,
                8 => found.simple_key = value,
                9 => found.prefix_key = value,
                10 => found.enum_default_charset = Some(value),
                11 => found.enum_column_charset = Some(value),
                12 => found.visibility = Some(value),
                // Geometry types, vector dimensions, and what later servers add: not needed to read rows.
                _ => {}
            }
        }
        Ok(found)
    }
}

/// Collations of a class of columns, in order: a default with exceptions, or one each.
struct Collations<'a> {
    is_given: bool,
    default: u64,
    exceptions: Vec<(u64, u64)>,
    each: Option<Bytes<'a>>,
    next: u64,
}

impl<'a> Collations<'a> {
    fn new(default: Option<&'a [u8]>, each: Option<&'a [u8]>) -> Result<Self, DecodeError> {
        let mut found = Self {
            is_given: default.is_some() || each.is_some(),
            default: 0,
            exceptions: Vec::new(),
            each: each.map(|bytes| Bytes::new(bytes, "column charsets")),
            next: 0,
        };
        if let Some(bytes) = default {
            let mut input = Bytes::new(bytes, "default charset");
            found.default = input.lenenc()?;
            while !input.is_empty() {
                found.exceptions.push((input.lenenc()?, input.lenenc()?));
            }
        }
        Ok(found)
    }

    fn used_up(&self) -> bool {
        self.each.is_none_or(|list| list.is_empty()) && self.exceptions.iter().all(|(i, _)| *i < self.next)
    }

    fn next(&mut self) -> Result<Charset, DecodeError> {
        let index = self.next;
        self.next += 1;
        let id = match &mut self.each {
            Some(input) => input.lenenc()?,
            None => self.exceptions.iter().find(|(i, _)| *i == index).map_or(self.default, |(_, id)| *id),
        };
        Ok(Charset::of_collation(id))
    }
}

/// Bit `index` of a bitmap that begins at the highest bit of its first byte.
fn bit_from_top(bitmap: &[u8], index: usize) -> bool {
    bitmap.get(index / 8).is_some_and(|byte| byte & (0x80 >> (index % 8)) != 0)
}

/// Bit `index` of a bitmap that begins at the lowest bit of its first byte.
#[inline]
pub(crate) fn bit(bitmap: &[u8], index: usize) -> bool {
    bitmap.get(index / 8).is_some_and(|byte| byte >> (index % 8) & 1 != 0)
}

/// Most columns a table can have.
const MAX_COLUMNS: usize = 4096;

/// A table map taken apart: enough to know whether it says all.
pub struct Definition<'a> {
    types: &'a [u8],
    meta: &'a [u8],
    nullable: &'a [u8],
    optional: Metadata<'a>,
}

impl std::fmt::Debug for Definition<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Definition").field("columns", &self.types.len()).finish_non_exhaustive()
    }
}

/// Takes the definition apart.
pub fn definition<'a>(name: &TableName<'a>) -> Result<Definition<'a>, DecodeError> {
    let mut input = Bytes::new(name.definition, "table map");
    let count = input.lenenc_len()?;
    if count > MAX_COLUMNS {
        return Err(DecodeError::Invalid("column count in a table map"));
    }
    let types = input.take(count)?;
    let meta = input.lenenc_bytes()?;
    let nullable = input.take(count.div_ceil(8))?;
    Ok(Definition { types, meta, nullable, optional: Metadata::parse(input.rest())? })
}

impl Definition<'_> {
    /// Names are there.
    pub fn names_columns(&self) -> bool {
        self.optional.names.is_some()
    }

    /// A column may have a type that table maps do not name.
    pub fn is_ambiguous(&self, name: &TableName<'_>, flavor: Flavor) -> Result<bool, DecodeError> {
        let schema = self.schema(name, flavor, None)?;
        Ok(flavor == Flavor::MariaDb && schema.columns.iter().any(|c| declared::is_unnamed(&c.kind)))
    }

    /// The table, with what `information_schema` declares for all that the map does not say.
    pub fn schema(
        &self,
        name: &TableName<'_>,
        flavor: Flavor,
        declared: Option<&Declared>,
    ) -> Result<TableSchema, DecodeError> {
        let optional = &self.optional;
        let of_table = || format!("{}.{}", name.database, name.table);
        if optional.names.is_none() && declared.is_none() {
            return Err(DecodeError::NoMetadata(of_table()));
        }
        if let Some(declared) = declared {
            let nullable = (0..self.types.len()).map(|index| bit(self.nullable, index));
            declared::check_shape(&of_table(), declared, nullable)?;
        }
        let mut meta = Bytes::new(self.meta, "table map's type metadata");
        let mut builder = Builder {
            names: optional.names.map(|names| Bytes::new(names, "column names")),
            charsets: Collations::new(optional.default_charset, optional.column_charset)?,
            enum_charsets: Collations::new(optional.enum_default_charset, optional.enum_column_charset)?,
            enums: Bytes::new(optional.enums, "ENUM members"),
            sets: Bytes::new(optional.sets, "SET members"),
            unsigned: optional.unsigned,
            numeric: 0,
            flavor,
            declared: None,
        };
        let mut columns = Vec::with_capacity(self.types.len());
        for (index, wire_type) in self.types.iter().enumerate() {
            builder.declared = declared.and_then(|declared| declared.columns.get(index));
            let name = builder.name()?;
            let mut kind = builder.kind(*wire_type, &mut meta)?;
            if let Some(column) = builder.declared {
                kind = declared::refine(&of_table(), column, &name, kind)?;
            }
            let visible = match (optional.visibility, builder.declared) {
                (Some(bits), _) => bit_from_top(bits, index),
                (None, Some(column)) if optional.names.is_none() => column.visible,
                _ => true,
            };
            columns.push(Column { name, kind, nullable: bit(self.nullable, index), visible });
        }
        builder.finish(&meta)?;
        let key = match declared {
            Some(declared) if optional.names.is_none() => declared.key.clone(),
            _ => key(optional, self.types.len())?,
        };
        Ok(TableSchema::new(name.database.to_owned(), name.table.to_owned(), columns, key))
    }
}

fn key(optional: &Metadata<'_>, columns: usize) -> Result<Vec<usize>, DecodeError> {
    let mut key = Vec::new();
    let mut simple = Bytes::new(optional.simple_key, "primary key");
    while !simple.is_empty() {
        key.push(simple.lenenc_len()?);
    }
    let mut prefixed = Bytes::new(optional.prefix_key, "primary key");
    while !prefixed.is_empty() {
        key.push(prefixed.lenenc_len()?);
        prefixed.lenenc()?;
    }
    if key.iter().any(|index| *index >= columns) {
        return Err(DecodeError::Invalid("primary key in a table map"));
    }
    Ok(key)
}

struct Builder<'a> {
    names: Option<Bytes<'a>>,
    charsets: Collations<'a>,
    enum_charsets: Collations<'a>,
    enums: Bytes<'a>,
    sets: Bytes<'a>,
    unsigned: Option<&'a [u8]>,
    numeric: usize,
    flavor: Flavor,
    /// Of the column that is built, for what the map does not say.
    declared: Option<&'a DeclaredColumn>,
}

impl Builder<'_> {
    /// All lists must be used up: otherwise a column was counted that the server does not count, or the other way
    /// round, and names, signs or charsets would be another column's.
    fn finish(&self, meta: &Bytes<'_>) -> Result<(), DecodeError> {
        let lists = [&self.enums, &self.sets, meta];
        let signs = match self.unsigned {
            Some(bits) => bits.len() == self.numeric.div_ceil(8),
            // A map without names may lack them.
            None => self.numeric == 0 || self.names.is_none(),
        };
        let used_up = lists.iter().all(|list| list.is_empty())
            && self.names.as_ref().is_none_or(Bytes::is_empty)
            && signs
            && self.charsets.used_up()
            && self.enum_charsets.used_up();
        if used_up { Ok(()) } else { Err(DecodeError::Invalid("table map's metadata")) }
    }

    /// Numeric columns share a bitmap of signedness in which the others have no bit.
    fn unsigned(&mut self) -> bool {
        let index = self.numeric;
        self.numeric += 1;
        match self.unsigned {
            Some(bits) => bit_from_top(bits, index),
            None => self.declared.is_some_and(DeclaredColumn::unsigned),
        }
    }

    fn name(&mut self) -> Result<String, DecodeError> {
        match (&mut self.names, self.declared) {
            (Some(names), _) => Ok(String::from_utf8_lossy(names.lenenc_bytes()?).into_owned()),
            (None, Some(column)) => Ok(column.name.clone()),
            (None, None) => Err(DecodeError::Invalid("table map without names")),
        }
    }

    fn charset(&mut self) -> Result<Charset, DecodeError> {
        match self.declared {
            Some(column) if !self.charsets.is_given => Ok(column.text_charset()),
            _ => self.charsets.next(),
        }
    }

    /// The members of an ENUM or SET.
    fn members(&mut self, is_enum: bool) -> Result<Vec<String>, DecodeError> {
        if self.names.is_none() {
            let declared = self.declared.and_then(DeclaredColumn::members);
            return declared.ok_or(DecodeError::Invalid("list of members in information_schema"));
        }
        let charset = self.enum_charsets.next()?;
        members(if is_enum { &mut self.enums } else { &mut self.sets }, charset)
    }

    fn int(&mut self, bytes: u8) -> ColumnKind {
        ColumnKind::Int { bytes, unsigned: self.unsigned() }
    }

    fn fraction(meta: &mut Bytes<'_>) -> Result<u8, DecodeError> {
        let fraction = meta.u8()?;
        if fraction > 6 {
            Err(DecodeError::Invalid("fractional digits in a table map"))
        } else {
            Ok(fraction)
        }
    }

    fn length_bytes(meta: &mut Bytes<'_>) -> Result<u8, DecodeError> {
        let bytes = meta.u8()?;
        if (1..=4).contains(&bytes) {
            Ok(bytes)
        } else {
            Err(DecodeError::Invalid("length bytes of a BLOB in a table map"))
        }
    }

    fn kind(&mut self, wire_type: u8, meta: &mut Bytes<'_>) -> Result<ColumnKind, DecodeError> {
        Ok(match wire_type {
            wire::TINY => self.int(1),
            wire::SHORT => self.int(2),
            wire::INT24 => self.int(3),
            wire::LONG => self.int(4),
            wire::LONGLONG => self.int(8),
            wire::FLOAT => {
                meta.u8()?;
                self.unsigned();
                ColumnKind::Float
            }
            wire::DOUBLE => {
                meta.u8()?;
                self.unsigned();
                ColumnKind::Double
            }
            wire::NEWDECIMAL => {
                let (precision, scale) = (meta.u8()?, meta.u8()?);
                self.unsigned();
                if precision == 0 || precision > 65 || scale > precision {
                    return Err(DecodeError::Invalid("DECIMAL's precision in a table map"));
                }
                ColumnKind::Decimal { precision, scale }
            }
            wire::BIT => {
                let (bits, bytes) = (meta.u8()?, meta.u8()?);
                let bits = u16::from(bytes) * 8 + u16::from(bits);
                match u8::try_from(bits) {
                    Ok(bits @ 1..=64) => ColumnKind::Bit { bits },
                    _ => return Err(DecodeError::Invalid("BIT's width in a table map")),
                }
            }
            wire::YEAR => {
                self.unsigned();
                ColumnKind::Year
            }
            wire::DATE | wire::NEWDATE => ColumnKind::Date,
            wire::TIME => ColumnKind::OldTime,
            wire::DATETIME => ColumnKind::OldDateTime,
            wire::TIMESTAMP => ColumnKind::OldTimestamp,
            wire::TIME2 => ColumnKind::Time { fraction: Self::fraction(meta)? },
            wire::DATETIME2 => ColumnKind::DateTime { fraction: Self::fraction(meta)? },
            wire::TIMESTAMP2 => ColumnKind::Timestamp { fraction: Self::fraction(meta)? },
            wire::VARCHAR | wire::VAR_STRING => {
                ColumnKind::Varchar { width: meta.u16()?, charset: self.charset()? }
            }
            wire::BLOB => {
                ColumnKind::Blob { length_bytes: Self::length_bytes(meta)?, charset: self.charset()? }
            }
            wire::VARCHAR_COMPRESSED => {
                let length_bytes = if meta.u16()? > 255 { 2 } else { 1 };
                ColumnKind::Compressed { length_bytes, charset: self.charset()? }
            }
            wire::BLOB_COMPRESSED => {
                ColumnKind::Compressed { length_bytes: Self::length_bytes(meta)?, charset: self.charset()? }
            }
            wire::STRING => self.string(meta.u8()?, meta.u8()?)?,
            wire::JSON => ColumnKind::Json { length_bytes: Self::length_bytes(meta)? },
            wire::GEOMETRY => {
                if self.flavor == Flavor::MariaDb {
                    // MariaDB counts geometries among the columns with a charset.
                    self.charset()?;
                }
                ColumnKind::Geometry { length_bytes: Self::length_bytes(meta)? }
            }
            wire::VECTOR => {
                if self.flavor == Flavor::MySql {
                    // MySQL counts vectors among the columns with a charset.
                    self.charset()?;
                }
                ColumnKind::Vector { length_bytes: Self::length_bytes(meta)? }
            }
            other => return Err(DecodeError::Unsupported(format!("column type {other} is not known"))),
        })
    }

    /// CHAR, BINARY, ENUM and SET share a wire type; the real one, and two more bits of the width, are in its
    /// metadata.
    fn string(&mut self, first: u8, second: u8) -> Result<ColumnKind, DecodeError> {
        match first {
            wire::ENUM if matches!(second, 1 | 2) => {
                Ok(ColumnKind::Enum { bytes: second, members: self.members(true)? })
            }
            wire::SET if matches!(second, 1..=8) => {
                Ok(ColumnKind::Set { bytes: second, members: self.members(false)? })
            }
            wire::ENUM | wire::SET => Err(DecodeError::Invalid("width of an ENUM or SET in a table map")),
            _ => {
                let high = u16::from(first & 0x30 ^ 0x30) << 4;
                Ok(ColumnKind::Char { width: high | u16::from(second), charset: self.charset()? })
            }
        }
    }
}

/// One column's member names.
fn members(input: &mut Bytes<'_>, charset: Charset) -> Result<Vec<String>, DecodeError> {
    let count = input.lenenc_len()?;
    let mut members = Vec::with_capacity(count.min(64));
    for _ in 0..count {
        let bytes = input.lenenc_bytes()?;
        members.push(super::text::member(bytes, charset));
    }
    Ok(members)
}
