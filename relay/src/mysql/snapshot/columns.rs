//! How a table's columns are asked for, and what their answers become: the kinds that table maps have, told from
//! `information_schema`.

use super::stored;
use crate::decode::rows::ImageBuilder;
use crate::decode::{Bytes, DecodeError};
use crate::mysql::Flavor;
use crate::mysql::filter::ColumnFilter;
use crate::mysql::tables::{quoted, quoted_table};
use crate::schema::{Charset, Column, ColumnKind, Declared, DeclaredColumn, TableName, TableSchema};
use std::sync::Arc;

/// The protocol's NULL in a text row.
const NULL: u8 = 0xfb;

/// What the server's answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// What [`stored::put`] takes.
    Value,
    /// The text of a UUID, which is stored in another order.
    Uuid,
    /// The text of an address.
    Inet4,
    Inet6,
}

/// A table as a snapshot reads it.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) schema: Arc<TableSchema>,
    answers: Vec<Answer>,
    /// Columns in the order in which they are asked for: the key's first, so that it is known of rows of any size.
    order: Vec<usize>,
    /// The statement.
    pub(super) select: String,
    /// Of the row at hand, by column: where its value is in the row.
    values: Vec<Option<std::ops::Range<usize>>>,
    builder: ImageBuilder,
    scratch: Vec<u8>,
}

impl Table {
    /// `names_types`: types that table maps do not name are told as what they are.
    pub(super) fn new(
        name: &TableName,
        declared: &Declared,
        excluded: &ColumnFilter,
        flavor: Flavor,
        names_types: bool,
    ) -> Result<Self, DecodeError> {
        let (mut columns, mut answers, mut key) = (Vec::new(), Vec::new(), Vec::new());
        for (index, column) in declared.columns.iter().enumerate() {
            let in_key = declared.key.iter().position(|of_key| *of_key == index);
            if excluded.excludes(&name.database, &name.table, &column.name) {
                if in_key.is_some() {
                    return Err(DecodeError::ExcludedKey {
                        table: name.to_string(),
                        column: column.name.clone(),
                    });
                }
                continue;
            }
            let Some((kind, answer)) = kind(column, flavor, names_types) else {
                return Err(DecodeError::Unsupported(format!(
                    "column {} of {name} is {}, which a snapshot does not know: leave it out with \
                     --exclude-columns '{name}.{}'",
                    column.name, column.kind, column.name
                )));
            };
            key.extend(in_key.map(|place| (place, columns.len())));
            columns.push(Column {
                name: column.name.clone(),
                kind,
                nullable: column.nullable,
                visible: column.visible,
            });
            answers.push(answer);
        }
        key.sort_unstable();
        let key: Vec<usize> = key.into_iter().map(|(_, column)| column).collect();
        let mut order = key.clone();
        order.extend((0..columns.len()).filter(|column| !key.contains(column)));
        let expressions: Vec<String> =
            order.iter().filter_map(|at| columns.get(*at)).map(expression).collect();
        // A table whose columns are all left out still has rows.
        let expressions = if expressions.is_empty() { "NULL".to_owned() } else { expressions.join(", ") };
        let select = format!("SELECT {expressions} FROM {}", quoted_table(name));
        let schema = TableSchema::new(name.database.clone(), name.table.clone(), columns, key);
        Ok(Self {
            values: vec![None; schema.columns.len()],
            builder: ImageBuilder::new(schema.columns.len()),
            scratch: Vec::new(),
            schema: Arc::new(schema),
            answers,
            order,
            select,
        })
    }

    /// The image of a row in the server's text. Of a row that has more than `limit` bytes, or that was cut (`row` is not
    /// all of its `bytes`), that of its key, with its size behind it: true.
    pub(super) fn image(
        &mut self,
        row: &[u8],
        bytes: u64,
        limit: u64,
        out: &mut Vec<u8>,
    ) -> Result<bool, DecodeError> {
        let cut = u64::try_from(row.len()).is_ok_and(|len| len < bytes);
        self.find(row, cut)?;
        if !cut {
            self.build(row, |_| true, out)?;
            if out.len() <= usize::try_from(limit).unwrap_or(usize::MAX) {
                return Ok(false);
            }
        }
        let size = if cut { bytes } else { u64::try_from(out.len()).unwrap_or(u64::MAX) };
        let key = self.schema.key.clone();
        self.build(row, |column| key.contains(&column), out)?;
        out.extend_from_slice(&size.to_le_bytes());
        Ok(true)
    }

    /// Finds the values in a row; of one that was cut, those of the key.
    fn find(&mut self, row: &[u8], cut: bool) -> Result<(), DecodeError> {
        let mut input = Bytes::new(row, "row of a result");
        let columns = if cut { self.schema.key.len() } else { self.order.len() };
        for column in self.order.iter().take(columns) {
            let value = if input.rest().first() == Some(&NULL) {
                input.take(1)?;
                None
            } else {
                let value = input.lenenc_bytes()?;
                let end = row.len() - input.rest().len();
                Some(end - value.len()..end)
            };
            if let Some(place) = self.values.get_mut(*column) {
                *place = value;
            }
        }
        Ok(())
    }

    fn build(
        &mut self,
        row: &[u8],
        keep: impl Fn(usize) -> bool,
        out: &mut Vec<u8>,
    ) -> Result<(), DecodeError> {
        self.builder.clear();
        let parts = self.schema.columns.iter().zip(&self.answers).zip(&self.values);
        for (index, ((column, answer), value)) in parts.enumerate() {
            if !keep(index) {
                continue;
            }
            let Some(value) = value.clone().and_then(|place| row.get(place)) else {
                self.builder.push(index, None);
                continue;
            };
            self.scratch.clear();
            let stored = match answer {
                Answer::Value => stored::put(&column.kind, value, &mut self.scratch),
                Answer::Uuid => put_bytes(&column.kind, stored::uuid(value), &mut self.scratch),
                Answer::Inet4 => put_bytes(&column.kind, stored::inet4(value), &mut self.scratch),
                Answer::Inet6 => put_bytes(&column.kind, stored::inet6(value), &mut self.scratch),
            };
            if stored.is_none() {
                return Err(DecodeError::Unsupported(format!(
                    "a value of {}.{}.{} is not understood: leave the column out with --exclude-columns",
                    self.schema.database, self.schema.table, column.name
                )));
            }
            self.builder.push(index, Some(&self.scratch));
        }
        self.builder.finish(out);
        Ok(())
    }
}

fn put_bytes<const N: usize>(kind: &ColumnKind, bytes: Option<[u8; N]>, out: &mut Vec<u8>) -> Option<()> {
    stored::put(kind, &bytes?, out)
}

/// What the server is asked for, so that its answer is exact: text shows FLOAT with six digits, and ENUM and SET by
/// their names.
fn expression(column: &Column) -> String {
    let name = quoted(&column.name);
    if matches!(column.kind, ColumnKind::Float | ColumnKind::Double) {
        format!("{name} * 1e0")
    } else if matches!(column.kind, ColumnKind::Enum { .. } | ColumnKind::Set { .. }) {
        format!("CAST({name} AS UNSIGNED)")
    } else {
        name
    }
}

/// The kind of a column as a table map would tell it.
fn kind(column: &DeclaredColumn, flavor: Flavor, names_types: bool) -> Option<(ColumnKind, Answer)> {
    let numbers = column.numbers();
    let number = |index: usize| numbers.get(index).copied().unwrap_or(0);
    let small = |index: usize| u8::try_from(number(index)).ok();
    let int = |bytes: u8| ColumnKind::Int { bytes, unsigned: column.unsigned() };
    let charset = column.text_charset();
    let width = || u16::try_from(column.octets.unwrap_or_else(|| number(0))).ok();
    let blob = |length_bytes: u8| ColumnKind::Blob { length_bytes, charset };
    let unnamed = |kind: ColumnKind, width: u16| {
        if names_types { kind } else { ColumnKind::Char { width, charset: Charset::Binary } }
    };
    let kind = match column.word() {
        "tinyint" => int(1),
        "smallint" => int(2),
        "mediumint" => int(3),
        "int" => int(4),
        "bigint" => int(8),
        "float" => ColumnKind::Float,
        "double" => ColumnKind::Double,
        "decimal" => ColumnKind::Decimal { precision: small(0)?, scale: small(1)? },
        "bit" => ColumnKind::Bit { bits: small(0)? },
        "year" => ColumnKind::Year,
        "date" => ColumnKind::Date,
        "time" => ColumnKind::Time { fraction: small(0)? },
        "datetime" => ColumnKind::DateTime { fraction: small(0)? },
        "timestamp" => ColumnKind::Timestamp { fraction: small(0)? },
        "char" | "binary" => ColumnKind::Char { width: width()?, charset },
        "varchar" | "varbinary" => ColumnKind::Varchar { width: width()?, charset },
        "tinytext" | "tinyblob" => blob(1),
        "text" | "blob" => blob(2),
        "mediumtext" | "mediumblob" => blob(3),
        "longtext" | "longblob" => blob(4),
        "json" => ColumnKind::JsonText { length_bytes: 4 },
        "enum" => {
            let members = column.members()?;
            ColumnKind::Enum { bytes: if members.len() < 256 { 1 } else { 2 }, members }
        }
        "set" => {
            let members = column.members()?;
            ColumnKind::Set { bytes: DeclaredColumn::set_bytes(members.len()), members }
        }
        "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring"
        | "multipolygon" | "geometrycollection" | "geomcollection" => {
            ColumnKind::Geometry { length_bytes: 4 }
        }
        // MariaDB writes it as bytes.
        "vector" if flavor == Flavor::MariaDb => {
            ColumnKind::Varchar { width: u16::try_from(number(0) * 4).ok()?, charset: Charset::Binary }
        }
        "vector" => ColumnKind::Vector { length_bytes: 4 },
        "uuid" => return Some((unnamed(ColumnKind::Uuid, 16), Answer::Uuid)),
        "inet4" => return Some((unnamed(ColumnKind::Inet4, 4), Answer::Inet4)),
        "inet6" => return Some((unnamed(ColumnKind::Inet6, 16), Answer::Inet6)),
        _ => return None,
    };
    Some((kind, Answer::Value))
}
