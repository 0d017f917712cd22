//! A table as a table map event describes it: column names, types, signedness, charsets, keys.
//!
//! The schema travels by reference: blocks carry its [`SchemaId`], and its definition
//! ([`TableSchema::serialize`]) precedes its first use in a log segment and on a stream.

mod charset;
mod codec;
mod declared;
mod history;

pub use charset::{Charset, TableCharset};
pub use codec::SchemaError;
pub use declared::{Declared, DeclaredColumn};
pub use history::{History, TableName, Touch};

/// Identity of a schema: xxh3 of its serialized form. Equal tables have equal ids on every relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SchemaId(pub u64);

/// A table at a moment in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSchema {
    /// Identity; see [`SchemaId`].
    pub id: SchemaId,
    /// Database name.
    pub database: String,
    /// Table name.
    pub table: String,
    /// The columns in table order. Empty for DDL and TRUNCATE pseudo-rows.
    pub columns: Vec<Column>,
    /// Indices into `columns` of the primary key, in key order. Empty where the table has none.
    pub key: Vec<usize>,
    /// By column: its name as a JSON string, and a colon. Written twice a row by every message.
    members: Vec<Box<[u8]>>,
}

impl TableSchema {
    /// Builds a schema and computes its id.
    pub fn new(database: String, table: String, columns: Vec<Column>, key: Vec<usize>) -> Self {
        let mut schema = Self::with(SchemaId(0), database, table, columns, key);
        schema.id = SchemaId(xxhash_rust::xxh3::xxh3_64(&schema.serialize()));
        schema
    }

    fn with(id: SchemaId, database: String, table: String, columns: Vec<Column>, key: Vec<usize>) -> Self {
        let member =
            |column: &Column| format!("{}:", serde_json::Value::from(&*column.name)).into_bytes().into();
        let members = columns.iter().map(member).collect();
        Self { id, database, table, columns, key, members }
    }

    /// The table without these columns, none of which is in its key.
    pub(crate) fn without(&self, excluded: &[bool]) -> Self {
        let is_kept = |index: &usize| excluded.get(*index) != Some(&true);
        let columns = self.columns.iter().enumerate().filter(|(index, _)| is_kept(index));
        let columns = columns.map(|(_, column)| column.clone()).collect();
        let key = self.key.iter().map(|column| (0..*column).filter(is_kept).count()).collect();
        Self::new(self.database.clone(), self.table.clone(), columns, key)
    }

    /// A column's name as a JSON string, and a colon.
    pub(crate) fn member(&self, column: usize) -> &[u8] {
        self.members.get(column).map_or(b"\"\":", |member| member)
    }
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Column name.
    pub name: String,
    /// Type, as far as the row image's bytes and their meaning go.
    pub kind: ColumnKind,
    /// May be NULL.
    pub nullable: bool,
    /// Shown by `SELECT *`.
    pub visible: bool,
}

/// How a column's bytes are laid out in a row image, and what they mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// TINYINT to BIGINT.
    Int {
        /// 1, 2, 3, 4 or 8.
        bytes: u8,
        /// Declared UNSIGNED.
        unsigned: bool,
    },
    /// FLOAT.
    Float,
    /// DOUBLE.
    Double,
    /// DECIMAL.
    Decimal {
        /// Digits in all, at most 65.
        precision: u8,
        /// Digits behind the point, at most 30.
        scale: u8,
    },
    /// BIT(n).
    Bit {
        /// n, 1 to 64.
        bits: u8,
    },
    /// YEAR.
    Year,
    /// DATE.
    Date,
    /// TIME(n).
    Time {
        /// Digits of the fraction of a second.
        fraction: u8,
    },
    /// DATETIME(n).
    DateTime {
        /// Digits of the fraction of a second.
        fraction: u8,
    },
    /// TIMESTAMP(n).
    Timestamp {
        /// Digits of the fraction of a second.
        fraction: u8,
    },
    /// TIME as before MySQL 5.6.
    OldTime,
    /// DATETIME as before MySQL 5.6.
    OldDateTime,
    /// TIMESTAMP as before MySQL 5.6.
    OldTimestamp,
    /// CHAR, BINARY and fixed types stored like them.
    Char {
        /// Width in bytes; BINARY is padded with zeros to it.
        width: u16,
        /// Of the text.
        charset: Charset,
    },
    /// VARCHAR, VARBINARY.
    Varchar {
        /// Greatest length in bytes: above 255 the length prefix takes two bytes.
        width: u16,
        /// Of the text.
        charset: Charset,
    },
    /// TEXT and BLOB of all sizes.
    Blob {
        /// Bytes of the length prefix, 1 to 4.
        length_bytes: u8,
        /// Of the text.
        charset: Charset,
    },
    /// ENUM.
    Enum {
        /// Bytes of the index, 1 or 2.
        bytes: u8,
        /// Names by index, from 1.
        members: Vec<String>,
    },
    /// SET.
    Set {
        /// Bytes of the bit mask, 1 to 8.
        bytes: u8,
        /// Names by bit, from 0.
        members: Vec<String>,
    },
    /// MySQL's binary JSON. MariaDB's JSON is a `Blob`.
    Json {
        /// Bytes of the length prefix.
        length_bytes: u8,
    },
    /// MySQL's JSON as the text that `SELECT` shows; in snapshots only, the binlog has it binary.
    JsonText {
        /// Bytes of the length prefix.
        length_bytes: u8,
    },
    /// Any geometry.
    Geometry {
        /// Bytes of the length prefix.
        length_bytes: u8,
    },
    /// VECTOR: 32-bit floats.
    Vector {
        /// Bytes of the length prefix.
        length_bytes: u8,
    },
    /// MariaDB's compressed columns (`VARCHAR(n) COMPRESSED`, `BLOB COMPRESSED`).
    Compressed {
        /// Bytes of the length prefix.
        length_bytes: u8,
        /// Of the text.
        charset: Charset,
    },
    /// MariaDB's UUID, as it is stored. Known from `information_schema` only; else it is a `Char`.
    Uuid,
    /// MariaDB's INET4. Likewise.
    Inet4,
    /// MariaDB's INET6. Likewise.
    Inet6,
}
